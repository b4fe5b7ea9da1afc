"""A trace as text: minimal (one line a walk), summary (one line a room), full (every step with its evidence).

The core notes packets before and after; which header came, went or changed is worked out here from two neighbouring
packets.
This module knows packets and addresses only; steps, hops and traces are whatever has their attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from packetwalk.packet import (
    Arp,
    Ethernet,
    Geneve,
    Icmp,
    Ip,
    Packet,
    Vxlan,
    header_len,
    size,
    visible,
)
from packetwalk.words import change, header, icmp_words, packet_words

if TYPE_CHECKING:
    from packetwalk.trace import Hop, Step, Trace

VERSION = 1
WIDTH = 110
VIRTUAL = frozenset({"encap", "fdb", "bridge", "flood"})
TELLING = frozenset(
    {"encap", "decap", "fdb", "drop", "unsupported", "hold", "icmp_error", "fragment", "defrag", "flood"}
)
RED, GREEN, BOLD, DIM, PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[2m", "\x1b[0m"


class Totals(NamedTuple):
    """What a walk adds up to. tunnels: kind -> bytes it adds; ttl: what forwarding took off the request; path_mtu in
    bytes
    of the inner packet, 0 where no frame left a device."""

    rooms: int
    tunnels: dict[str, int]
    ttl: int
    path_mtu: int
    drops: int


class Section(NamedTuple):
    """Visits that belong together: a room's turn and what its own tunnels queued meanwhile."""

    room: str
    hops: list[Hop]
    nth: int


# -- steps
# ---------------------------------------------------------------------------------------------------------------


def evidence(step: Step) -> str:
    """Why: the table entry, the reason, the socket."""
    what: Any = step.what
    if what is None:
        return ""
    if step.stage == "drop":
        return f"{what.reason} by {what.by}" if what.by is not None else str(what.reason)
    if step.stage == "hold":
        who = getattr(what, "dst", None)
        return f"waits for {f'arp of {who}' if who is not None else f'the other fragments, {what}'}"
    if isinstance(what, Icmp):
        return icmp_words(what)
    if step.stage == "neigh":
        return f"{what.dst} lladdr {what.lladdr}"
    return str(what)


def lines(hop: Hop) -> Iterator[tuple[Step, str, int, bool]]:
    """(step, words, bytes to show or 0, does a branch end here) of a visit, the dull steps left out."""
    steps = hop.steps
    for i, step in enumerate(steps):
        after = steps[i + 1] if i + 1 < len(steps) else None
        before = steps[i - 1] if i else None
        if step.stage == "transmit" and after is not None and after.stage in VIRTUAL:
            continue
        words, shown = evidence(step), 0
        if step.stage == "receive":
            words = change(step.packet, after.packet) if after is not None and after.stage not in VIRTUAL else ""
            words = words if words.startswith("-") else ""
        elif step.stage in ("forward", "decap") and before is not None:
            words = change(before.packet, step.packet)
        elif step.stage == "encap" and before is not None:
            words, shown = change(before.packet, step.packet), size(step.packet)
        elif step.stage == "transmit":
            first = step.packet.headers[0]
            words = f"+ {header(first)}" if isinstance(first, Ethernet) else ""
            arp = step.packet.headers[-1]
            words += f" {header(arp)}" if isinstance(arp, Arp) else ""
            shown = size(step.packet)
        elif step.stage in ("fragment", "defrag"):
            words, shown = f"{words}; {packet_words(step.packet)}", size(step.packet)
        elif step.stage == "drop":
            words = f"{words}   {packet_words(step.packet)}"
        yield step, words, shown, _ends(step, after)


def _ends(step: Step, after: Step | None) -> bool:
    virtual = step.stage == "transmit" and after is not None and after.stage in VIRTUAL
    return step.stage in ("transmit", "deliver", "hold", "drop", "unsupported", "consume") and not virtual


# -- hops and traces
# -----------------------------------------------------------------------------------------------------


def sections(trace: Trace) -> list[Section]:
    """The visits in order, those of one room that follow from one another put together."""
    found: list[Section] = []
    count: dict[str, int] = {}
    for visit in trace.hops:
        last = found[-1] if found else None
        if last is not None and last.room == visit.room and visit.why in ("napi", "resume"):
            last.hops.append(visit)
            continue
        count[visit.room] = count.get(visit.room, 0) + 1
        found.append(Section(visit.room, [visit], count[visit.room]))
    return found


def hop(visit: Hop, *, color: bool = False) -> str:
    """The steps of one visit."""
    return "\n".join(_hop_lines(visit, color))


def _hop_lines(visit: Hop, color: bool) -> Iterator[str]:
    rows = list(lines(visit))
    for i, (step, words, shown, ends) in enumerate(rows):
        line = f"    {step.stage:<12} {step.dev:<16} {words}".rstrip()
        if shown:
            amount = f"{shown} bytes"
            line = f"{line:<{WIDTH - len(amount) - 1}} {amount}"
        if step.stage in ("drop", "unsupported"):
            line = _paint(line, RED, color)
        yield line
        if ends and i + 1 < len(rows):
            yield _paint(f"    {'.' * 12}", DIM, color)


def full(trace: Trace, *, color: bool = False) -> str:
    """Every room and step, numbered, with cumulative time, and what came of it."""
    out = [_title(trace, color), ""]
    replied = False
    for n, section in enumerate(sections(trace), 1):
        out.append(_heading(n, section, color))
        for visit in section.hops:
            out += _hop_lines(visit, color)
        if not replied and _delivers(section, trace):
            replied = True
            out.append(_paint(f"  {'- ' * 4}answer", DIM, color))
    return "\n".join([*out, "", *_endings(trace, color)])


def summary(trace: Trace, *, color: bool = False) -> str:
    """One line a room with the steps that changed the packet or chose its way, and what came of it."""
    out = [_title(trace, color), ""]
    all_sections = sections(trace)
    skip = _repetition(all_sections)
    for n, section in enumerate(all_sections, 1):
        if skip is not None and skip[0] <= n <= skip[1]:
            if n == skip[0]:
                out.append(_paint(f"    ... {skip[2]} ... {skip[1] - skip[0] + 1} visits", DIM, color))
            continue
        telling = [
            f"{step.stage} {words}" if step.stage != "decap" else f"decap {step.dev} {words}"
            for visit in section.hops
            for step, words, _, _ in lines(visit)
            if step.stage in TELLING or (step.stage in ("deliver", "arp") and words)
        ]
        routed = [f"{s.what}" for v in section.hops for s in v.steps if s.stage in ("route_in", "route_out")]
        text = "; ".join(telling) or (routed[0] if routed else _moved(section))
        time = f"{section.hops[0].at / 1000:.1f} us"
        head = f"{n:>3} {_paint(f'{_named(section):<18}', BOLD, color)}"
        out.append(f"{head} {_paint(f'{time:>12}', DIM, color)}   {text}")
    return "\n".join([*out, "", *_endings(trace, color)])


def minimal(trace: Trace) -> str:
    """The rooms on the way with what each put on or took off, and the outcome: what golden tests pin."""
    parts = []
    for section in sections(trace):
        steps = [s for visit in section.hops for s in visit.steps]
        if steps and all(isinstance(s.packet.headers[-1], Arp) for s in steps if s.packet.headers):
            continue
        marks = []
        for s in steps:
            kind = _tunnel(s.packet) if s.stage == "encap" else ""
            if s.stage == "encap":
                marks.append(f"+{kind}")
            elif s.stage == "decap":
                before = steps[steps.index(s) - 1].packet
                marks.append(f"-{_tunnel(before)}")
            elif s.stage == "drop":
                marks.append(f"drop {getattr(s.what, 'reason', '')}")
            elif s.stage in ("unsupported", "icmp_error"):
                marks.append(f"{s.stage} {evidence(s)}".replace("icmp_error icmp ", "icmp "))
        parts.append(section.room + (f" [{', '.join(dict.fromkeys(marks))}]" if marks else ""))
    return f"{' > '.join(parts)} : {outcome(trace)}"


def totals(trace: Trace) -> Totals:
    """Rooms, tunnels, TTL, path MTU and drops of a walk."""
    tunnels: dict[str, int] = {}
    ttl, mtus = 0, []
    answered = False
    for visit, step in trace.steps:
        if step.stage == "encap":
            tunnels[_tunnel(step.packet)] = overhead(step.packet)
        if step.stage == "forward" and not answered:
            ttl += 1
        kind = getattr(step.what, "kind", "arp") if step.stage == "deliver" else "arp"
        answered = answered or (kind != "arp" and visit.room != trace.flow.src)
        if step.stage == "transmit" and any(isinstance(h, Ip) for h in step.packet.headers):
            network: Any = trace.after
            if network is not None:
                mtus.append(network[visit.room].devices[step.dev].mtu - overhead(step.packet))
    rooms = len({visit.room for visit in trace.hops})
    return Totals(rooms, tunnels, ttl, min(mtus, default=0), len(trace.drops))


def overhead(packet: Packet) -> int:
    """Bytes between the outermost IP header and the innermost packet: what tunnels cost."""
    shown = list(packet.headers)
    ips = [i for i, h in enumerate(shown) if isinstance(h, Ip)]
    return sum(header_len(h) for h in shown[ips[0] : ips[-1]]) if len(ips) > 1 else 0


def outcome(trace: Trace) -> str:
    """What the sender saw, in words."""
    r = trace.result
    if r.outcome == "reply":
        return f"reply ttl {r.ttl}"
    if r.outcome == "connected":
        return f"connected, mss {r.mss}"
    if r.outcome == "icmp_error":
        return f"{icmp_words(Icmp(r.type, r.code, mtu=r.mtu))} from {r.src}"
    if r.outcome in ("error", "send_error"):
        return f"{r.errno}{f' ({icmp_words(Icmp(r.type, r.code))} from {r.offender})' if r.offender else ''}"
    return f"unsupported: {r.errno}" if r.outcome == "unsupported" else r.outcome


def to_dict(trace: Trace) -> dict[str, object]:
    """Plain data for JSON. `version` grows when this form changes."""
    flow, result = trace.flow, trace.result
    return {
        "version": VERSION,
        "network": trace.network,
        "flow": {k: _plain(getattr(flow, k)) for k in flow.__slots__},
        "result": {k: _plain(getattr(result, k)) for k in result.__slots__},
        "totals": totals(trace)._asdict(),
        "note": trace.note,
        "unevaluated": {room: list(names) for room, names in trace.unevaluated.items()},
        "hops": [
            {
                "room": visit.room,
                "dev": visit.dev,
                "at_ns": visit.at,
                "cause": list(visit.cause) if visit.cause else None,
                "steps": [_step_dict(s, at) for s, at in zip(visit.steps, visit.times, strict=True)],
            }
            for visit in trace.hops
        ],
    }


def _step_dict(step: Step, at: int) -> dict[str, object]:
    return {
        "stage": step.stage,
        "dev": step.dev,
        "what": evidence(step),
        "kind": type(step.what).__name__ if step.what is not None else "",
        "at_ns": at,
        "packet": {
            "size": size(step.packet) if step.packet.headers else 0,
            "headers": [
                {"name": type(h).__name__, **{k: _plain(v) for k, v in h._asdict().items()}}
                for h in visible(step.packet).headers
            ],
        },
    }


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value if type(value) in (int, str, bool, float, type(None)) else str(value)


# -- lines around a trace
# ------------------------------------------------------------------------------------------------


def _title(trace: Trace, color: bool) -> str:
    flow = trace.flow
    port = f":{flow.dport}" if flow.kind != "icmp" else ""
    to = f"{flow.to} " if flow.to else ""
    what = {"icmp": "echo request", "udp": "datagram", "tcp": "connect"}[flow.kind]
    left = f"{flow.kind} {flow.src} > {to}{flow.dst}{port} {what}, {flow.payload} bytes of payload"
    return f"{_paint(left, BOLD, color)}{trace.network:>{max(WIDTH - len(left), len(trace.network) + 2)}}"


def _heading(n: int, section: Section, color: bool) -> str:
    name = f"{n} {_named(section)}"
    time = f"{section.hops[0].at / 1000:.1f} us"
    return f"{_paint(name, BOLD, color)}{_paint(f'{time:>{WIDTH - len(name)}}', DIM, color)}"


def _named(section: Section) -> str:
    why = section.hops[0].why
    again = f" (visit {section.nth})" if section.nth > 2 else ""
    return f"{section.room}{again}{f' {why} timer' if why in ('arp', 'frag', 'tcp') else ''}"


def _moved(section: Section) -> str:
    steps = [s for v in section.hops for s in v.steps]
    sent = [s for s in steps if s.stage == "transmit"]
    return f"{steps[0].dev} to {sent[-1].dev}" if sent and steps else steps[0].stage if steps else ""


def _delivers(section: Section, trace: Trace) -> bool:
    kinds = ("echo-request", "datagram", "segment")
    steps: Iterable[Step] = (s for v in section.hops for s in v.steps if s.stage == "deliver")
    return section.room != trace.flow.src and any(getattr(s.what, "kind", "") in kinds for s in steps)


def _repetition(found: list[Section]) -> tuple[int, int, str] | None:
    """(first, last, words) of the visits that only repeat the same rooms, where a packet goes round and round."""
    rooms = [s.room for s in found]
    for period in (1, 2, 3, 4, 5, 6):
        for start in range(0, max(len(rooms) - 8 * period, 0)):
            end = start + period
            while end < len(rooms) and rooms[end] == rooms[end - period]:
                end += 1
            if end - start >= 8 * period and len(set(rooms[start : start + period])) == period:
                loop = " > ".join(rooms[start : start + period])
                return start + 2 * period + 1, end - 2 * period, f"round and round: {loop}"
    return None


def _endings(trace: Trace, color: bool) -> Iterator[str]:
    r, t = trace.result, totals(trace)
    time = f" in {r.at / 1000:.1f} us" if r.at else ""
    yield _paint(f"{outcome(trace)}{time}", GREEN if r.answered else RED, color) + _totals_words(t)
    for room, step in trace.drops:
        yield _paint(f"dropped at {room} {step.dev}: {evidence(step)}", RED, color)
    for room, what in trace.unsupported:
        yield _paint(f"unsupported at {room}: {what}", RED, color)
    if trace.note:
        yield trace.note
    if trace.unevaluated:
        yield "not evaluated: " + "; ".join(f"{room} {', '.join(names)}" for room, names in trace.unevaluated.items())


def _totals_words(t: Totals) -> str:
    tunnels = ", ".join(f"{kind} +{n} bytes" for kind, n in t.tunnels.items())
    count = f"{len(t.tunnels)} tunnel{'s' if len(t.tunnels) > 1 else ''} ({tunnels})" if t.tunnels else "no tunnel"
    return f"; {t.rooms} rooms, {count}, {t.ttl} ip hops{f', path mtu {t.path_mtu}' if t.path_mtu else ''}"


def _tunnel(packet: Packet) -> str:
    for h in packet.headers:
        if isinstance(h, Vxlan | Geneve):
            return type(h).__name__.lower()
    return "ipip"


def _paint(text: str, code: str, color: bool) -> str:
    return f"{code}{text}{PLAIN}" if color else text
