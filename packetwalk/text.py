"""A trace as text: minimal (one line a walk), summary (one line a room), full (every step with its evidence).

The core notes packets before and after; which header came, went or changed is worked out here from two neighbours.
This module knows packets and addresses only; steps, hops and traces are whatever has their attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from packetwalk.apps.program import Exchange, Outcome
from packetwalk.packet import Arp, Ethernet, Geneve, Header, Icmp, Ip, Packet, Vxlan, innermost, size
from packetwalk.totals import Totals, totals, tunnel_of
from packetwalk.words import brief, change, counted, header, icmp_words, packet_words, time

if TYPE_CHECKING:
    from packetwalk.trace import Hop, Step, Trace

NARROW, WIDE = 100, 160  # columns of the full form: between these, as wide as the longest line wants
VIRTUAL = frozenset({"encap", "fdb", "bridge", "flood"})
ENDS = frozenset({"transmit", "deliver", "hold", "drop", "unsupported", "consume"})
TELLING = frozenset({"drop", "unsupported", "hold", "flood", "consume", "deliver"})
BAD = frozenset({"drop", "unsupported"})
RED, GREEN, BOLD, DIM, PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[2m", "\x1b[0m"


class Line(NamedTuple):
    """A step in words. shown: bytes to print, or 0; ends: whether a branch of the packet's way ends here; more: what
    the full form says below it."""

    step: Step
    words: str
    shown: int
    ends: bool
    more: str = ""


class Section(NamedTuple):
    """Visits that belong together: a room's turn and what its own tunnels queued meanwhile. nth counts its turns."""

    room: str
    hops: list[Hop]
    nth: int


# -- steps -------------------------------------------------------------------------------------------------------------


def evidence(step: Step) -> str:
    """Why: the table entry, the reason, the socket."""
    what: Any = step.what
    if what is None:
        return ""
    if step.stage == "drop":
        if what.by is None:
            missing = what.reason in ("IP_INNOROUTES", "IP_OUTNOROUTES")
            return f"{what.reason}{f': no route to {_target(step.packet)}' if missing else ''}"
        return f"{what.reason}{': ' if isinstance(what.by, str) else ' by '}{what.by}"
    if step.stage == "hold":
        who = getattr(what, "dst", None)
        return f"waits for {f'arp of {who}' if who is not None else f'more fragments, has {what}'}"
    if isinstance(what, Icmp):
        return icmp_words(what)
    if step.stage == "neigh":
        return f"{what.dst} lladdr {what.lladdr}"
    return str(what)


def _target(packet: Packet) -> str:
    return next((str(h.dst) for h in packet.headers if isinstance(h, Ip)), "")


def lines(hop: Hop) -> Iterator[Line]:
    """A visit's steps in words, the dull ones left out."""
    steps = hop.steps
    came: set[Header] = set()
    for i, step in enumerate(steps):
        after = steps[i + 1] if i + 1 < len(steps) else None
        before = steps[i - 1] if i else None
        first = step.packet.headers[0] if step.packet.headers else None
        if step.stage == "receive" and first is not None:
            came.add(first)
        if step.stage == "jump" or (step.stage == "transmit" and after is not None and after.stage in VIRTUAL):
            continue
        words, shown, more = evidence(step), 0, ""
        if hasattr(step.what, "rule"):
            words, _, more = words.partition("   ")
        elif step.stage in ("nat", "ipvs") and before is not None:
            words, more = change(before.packet, step.packet) or "the quoted packet", f"({words})"
        elif step.stage == "receive":
            words = change(step.packet, after.packet) if after is not None and after.stage not in VIRTUAL else ""
            words = words if words.startswith("-") else ""
        elif step.stage in ("forward", "decap") and before is not None:
            words = change(before.packet, step.packet)
        elif step.stage == "encap" and before is not None:
            words, shown = change(before.packet, step.packet), size(step.packet)
        elif step.stage == "transmit":
            words, shown = _sent(step.packet, first in came), size(step.packet)
        elif step.stage in ("fragment", "defrag"):
            words, shown = f"{words}; {packet_words(step.packet)}", size(step.packet)
        elif step.stage == "drop":
            words = f"{words}   {packet_words(step.packet)}"
        yield Line(step, words, shown, step.stage in ENDS, more)


def _sent(packet: Packet, forwarded: bool) -> str:
    first, last = packet.headers[0], packet.headers[-1]
    words = f"{'' if forwarded else '+ '}{header(first)}" if isinstance(first, Ethernet) else ""
    return f"{words} {header(last)}" if isinstance(last, Arp) else words


# -- hops and traces ---------------------------------------------------------------------------------------------------


def sections(trace: Trace) -> list[Section]:
    """The visits in order of time, those of one room that follow from one another put together."""
    found: list[Section] = []
    last: dict[str, Section] = {}
    for visit in sorted(trace.hops, key=lambda h: h.at):
        before = last.get(visit.room)
        if before is not None and visit.why in ("napi", "resume") and visit.at == before.hops[-1].end:
            before.hops.append(visit)
            continue
        last[visit.room] = Section(visit.room, [visit], before.nth + 1 if before is not None else 1)
        found.append(last[visit.room])
    return found


def hop(visit: Hop, *, color: bool = False) -> str:
    """The steps of one visit."""
    rows = list(_rows(visit))
    return "\n".join(_laid_out(rows, _width(rows), color))


Row = tuple[str, str, str]
"""(left, right, colour) of a line of the full form"""


def _rows(visit: Hop) -> Iterator[Row]:
    found = list(lines(visit))
    for i, line in enumerate(found):
        step = line.step
        left = f"    {step.stage:<12} {step.dev:<16} {line.words}".rstrip()
        yield left, f"{line.shown} bytes" if line.shown else "", RED if step.stage in BAD else ""
        if line.more:
            yield f"{'':33} {line.more}", "", DIM
        if line.ends and i + 1 < len(found):
            yield f"    {'.' * 12}", "", DIM


def _width(rows: Iterable[Row]) -> int:
    return min(max([NARROW, *(len(left) + 2 + len(right) for left, right, _ in rows if right)]), WIDE)


def _laid_out(rows: Iterable[Row], width: int, color: bool) -> Iterator[str]:
    for left, right, code in rows:
        line = f"{left:<{width - len(right) - 2}}  {right}" if right else left
        yield _paint(line, code, color) if code else line


def full(trace: Trace, *, color: bool = False) -> str:
    """Every room and step, numbered, with the time of arrival and of the stay there, and what came of it."""
    rows: list[Row] = []
    replied = False
    for n, section in enumerate(sections(trace), 1):
        at, end = section.hops[0].at, max(h.end for h in section.hops)
        rows.append((f"{n} {_named(section)}  {_about(section)}".rstrip(), f"{time(at)} + {time(end - at)}", BOLD))
        for visit in section.hops:
            rows += _rows(visit)
        if not replied and delivers(section, trace):
            replied = True
            rows.append((f"  {'- ' * 4}answer", "", DIM))
    width = _width(rows)
    return "\n".join([_title(trace, width, color), "", *_laid_out(rows, width, color), "", *endings(trace, color)])


def summary(trace: Trace, *, color: bool = False) -> str:
    """One line a room: when, with which packet, and what changed it or chose its way; and what came of it."""
    found = [s for s in sections(trace) if _first(s) is not None or gist(s)]  # not a program's mere thoughts
    skipped = list(_repetitions(found))
    names = [_named(s) for s in found]
    times = [time(s.hops[0].at) for s in found]
    briefs = [_brief(s) for s in found]
    wide, late, told = (max(map(len, column), default=0) for column in (names, times, briefs))
    out = [_title(trace, NARROW, color), ""]
    for n, section in enumerate(found, 1):
        skip = next((r for r in skipped if r.first <= n <= r.last), None)
        if skip is not None:
            if n == skip.first:
                out.append(_paint(f"    ... {skip.words} ... {skip.last - n + 1} visits more ...", DIM, color))
            continue
        bad = any(s.stage in BAD for v in section.hops for s in v.steps)
        head = f"{n:>3} {_paint(f'{names[n - 1]:<{wide}}', BOLD, color)}"
        when = _paint(f"{times[n - 1]:>{late}}", DIM, color)
        how = gist(section)
        out.append(f"{head}  {when}  {briefs[n - 1]:<{told}}  {_paint(how, RED, color) if bad else how}".rstrip())
    return "\n".join([*out, "", *endings(trace, color)])


def gist(section: Section) -> str:
    """What changed the packet or chose its way, each thing once."""
    count: dict[str, int] = {}
    for visit in section.hops:
        for line in lines(visit):
            phrase = _phrase(line)
            if phrase:
                count[phrase] = count.get(phrase, 0) + 1
    if not count:
        steps = [s for v in section.hops for s in v.steps]
        routes = (evidence(s) for s in steps if s.stage in ("route_in", "route_out"))
        return next(routes, "") or _moved(steps)
    return "; ".join(f"{phrase} ({n} times)" if n > 1 else phrase for phrase, n in count.items())


def _phrase(line: Line) -> str:
    step, words = line.step, line.words
    if step.stage == "encap":
        outer, *_ = (h for h in step.packet.headers if isinstance(h, Ip))
        inside = next((f" vni {h.vni}" for h in step.packet.headers if isinstance(h, Vxlan | Geneve)), "")
        return f"encap {step.dev} {tunnel_of(step.packet)}{inside} {outer.src} > {outer.dst}"
    if step.stage == "decap":
        return f"decap {step.dev}"
    if step.stage == "nat":
        by = getattr(step.what, "by", None)
        return f"{words}{f' by {by.chain} {by.number}' if by is not None else ''}"
    if step.stage == "ipvs":
        by = getattr(step.what, "by", None)
        return f"{words}{f' by {by.brief}' if by is not None else ''}"
    if step.stage == "fragment":
        return f"fragment by {evidence(step)}"
    if step.stage == "defrag":
        return f"defrag {evidence(step)}"
    if step.stage == "transmit":
        last = step.packet.headers[-1]
        return header(last) if isinstance(last, Arp) and line.words.startswith("+") else ""
    if step.stage == "icmp_error" or words.startswith("arp "):
        return words
    if step.stage == "program":
        return "" if isinstance(step.what, Exchange | Outcome) else f"{step.dev} {words}"
    return f"{step.stage} {words}" if step.stage in TELLING else ""


def outcome(trace: Trace) -> str:
    """What the sender saw, in words."""
    r = trace.result
    if r.said:
        return r.said
    if r.outcome == "reply":
        return f"reply ttl {r.ttl}"
    if r.outcome == "connected":
        return f"connected, mss {r.mss}"
    if r.outcome == "icmp_error":
        return f"{icmp_words(Icmp(r.type, r.code, mtu=r.mtu))} from {r.src}"
    if r.outcome in ("error", "send_error"):
        return f"{r.errno}{f' ({icmp_words(Icmp(r.type, r.code))} from {r.offender})' if r.offender else ''}"
    return f"unsupported: {r.errno}" if r.outcome == "unsupported" else r.outcome


# -- lines around a trace ----------------------------------------------------------------------------------------------


def sent(trace: Trace) -> str:
    """What was sent, from where to where."""
    flow = trace.flow
    sport, dport = (f":{flow.sport}", f":{flow.dport}") if flow.kind != "icmp" else ("", "")
    src = next((str(h.src) for _, s in trace.steps for h in s.packet.headers if isinstance(h, Ip) and h.src), "")
    to = f"{flow.to} " if flow.to else ""
    what = {"icmp": "echo request", "udp": "datagram", "tcp": "connect", "sctp": "INIT"}[flow.kind]
    way = f"{flow.kind} {flow.by or flow.src}{f' {src}{sport}' if src else ''} > {to}{flow.dst}{dport}"
    return f"{way} {flow.about or f'{what}, {flow.payload} bytes of payload'}"


def _title(trace: Trace, width: int, color: bool) -> str:
    left = sent(trace)
    return f"{_paint(left, BOLD, color)}  {trace.network:>{max(width - len(left) - 2, 0)}}".rstrip()


def _named(section: Section) -> str:
    why = section.hops[0].why
    again = f" (visit {section.nth})" if section.nth > 2 else ""
    return f"{section.room}{again}{f' {why} timer' if why in ('arp', 'frag', 'tcp') else ''}"


def _first(section: Section) -> Packet | None:
    return next((s.packet for v in section.hops for s in v.steps if s.packet.headers), None)


def _about(section: Section) -> str:
    packet = _first(section)
    return packet_words(packet) if packet is not None else ""


def _brief(section: Section) -> str:
    packet = _first(section)
    return brief(packet) if packet is not None else ""


def _moved(steps: list[Step]) -> str:
    sent = [s.dev for s in steps if s.stage == "transmit"]
    return f"{steps[0].dev} > {', '.join(sent)}" if sent else ""


def delivers(section: Section, trace: Trace) -> bool:
    """Whether somebody gets there what the sender sent."""
    kinds = ("echo-request", "datagram", "segment", "chunks")
    steps: Iterable[Step] = (s for v in section.hops for s in v.steps if s.stage == "deliver")
    return section.room != trace.flow.src and any(getattr(s.what, "kind", "") in kinds for s in steps)


class Repetition(NamedTuple):
    """Visits, counted from 1, that only repeat what those before them did."""

    first: int
    last: int
    words: str


def _repetitions(found: list[Section]) -> Iterator[Repetition]:
    """Where a packet goes round and round, or packets follow one another: all but the first two rounds and the last."""
    seen = [(s.room, [step.stage for visit in s.hops for step in visit.steps]) for s in found]
    start = 0
    while start < len(seen):
        for period in range(1, 16):
            end = start + period
            while end < len(seen) and seen[end] == seen[end - period]:
                end += 1
            rounds = (end - start) // period
            if rounds >= 4:
                loop = _is_same(_first(found[start]), _first(found[start + period]))
                way = " > ".join(s.room for s in found[start : start + period])
                words = f"{'round and round' if loop else 'again and again'}: {way}"
                yield Repetition(start + 2 * period + 1, start + (rounds - 1) * period, words)
                start += rounds * period
                break
        else:
            start += 1


def _is_same(a: Packet | None, b: Packet | None) -> bool:
    """Whether it is one packet, seen twice: the same datagram, the same part of it."""
    one, other = (innermost(p) if p is not None else None for p in (a, b))
    return one is not None and other is not None and one[:4] + one[5:] == other[:4] + other[5:]  # but for the TTL


def endings(trace: Trace, color: bool = False) -> Iterator[str]:
    """What came of it, a line each: the outcome with its totals, drops, what is not modelled."""
    r = trace.result
    when = f" in {time(r.at)}" if r.at else ""
    yield f"{_paint(f'{outcome(trace)}{when}', GREEN if r.answered else RED, color)}; {_totals_words(totals(trace))}"
    drops: dict[str, int] = {}
    for room, step in trace.drops:
        line = f"dropped at {room}{f' {step.dev}' if step.dev else ''}: {evidence(step)}"
        drops[line] = drops.get(line, 0) + 1
    for line, n in drops.items():
        yield _paint(f"{line} ({n} times)" if n > 1 else line, RED, color)
    for room, what in trace.unsupported:
        yield _paint(f"unsupported at {room}: {what}", RED, color)
    if trace.note:
        yield trace.note
    for room, names in trace.unevaluated.items():
        yield f"not evaluated: {room} {', '.join(names)}"


def _totals_words(t: Totals) -> str:
    tunnels = ", ".join(f"{kind} +{n} bytes" for kind, n in t.tunnels.items())
    tunnel = f"{counted(len(t.tunnels), 'tunnel')} ({tunnels})" if tunnels else "no tunnel"
    mtu = f", path mtu {t.path_mtu}" if t.path_mtu else ""
    return f"{counted(t.rooms, 'room')}, {tunnel}, {counted(t.ttl, 'ip hop')}{mtu}"


def _paint(text: str, code: str, color: bool) -> str:
    return f"{code}{text}{PLAIN}" if color else text
