"""Assertions about the paths of packets, for tests of one's own network.

    from packetwalk.testing import assert_path

    def test_web(packetwalk_network):
        assert_path(packetwalk_network, "a", "b:80", "a > node-1 [+vxlan] > node-2 [-vxlan] > b")

Each walks a flow as `packetwalk.walk` does (udp=, tcp=, sctp=, size=, ttl=, df=, cold=), returns the trace, and fails
with an AssertionError that shows what was expected beside what was found. pytest is not needed; docs/pytest.md
tells of the plugin with its fixtures and golden files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypedDict, Unpack

from packetwalk import text
from packetwalk.engine.walk import Named, walk
from packetwalk.way import Turn, way

if TYPE_CHECKING:
    from packetwalk.network import Network
    from packetwalk.trace import Step, Trace

SILENT = frozenset({"switch", "router"})
"""roles of rooms that a path may leave out: the fabric between the nodes"""
ANY = "..."


class Options(TypedDict, total=False):
    """What `packetwalk.walk` takes beside the two ends."""

    udp: int
    tcp: int
    sctp: int
    size: int
    ttl: int
    df: str
    cold: bool


class Place(NamedTuple):
    """A room of an expected path; None for its marks where `room` is "...", any rooms at all."""

    room: str
    marks: tuple[str, ...] | None

    def __str__(self) -> str:
        return str(Turn(self.room, self.marks or (), False))


# -- assertions --------------------------------------------------------------------------------------------------------


def assert_path(net: Network, src: str | Named, dst: str | Named, path: str, **options: Unpack[Options]) -> Trace:
    """The flow takes this path, written as the minimal form of a walk: rooms in order, and in brackets what each does
    ("+vxlan", "-vxlan", "nat dst", "drop NETFILTER_DROP"; all of it, in order).

    A path ends where somebody gets the packet or where it dies; it may also go on with the answer to the end of the
    walk. Behind " : " may stand the outcome. Switches and routers may be left out, each of them or all; no other room
    may. "..." stands for any rooms. ValueError for a path that cannot be read.
    """
    __tracebackhide__ = True
    places, outcome = parse_path(path)
    trace = walk(net, src, dst, **options)
    turns = way(trace)
    ends = dict.fromkeys([next((n for n, turn in enumerate(turns, 1) if turn.end), len(turns)), len(turns)])
    fabric = {room for room, role in net.roles.items() if role in SILENT}
    if not any(_fits(places, turns[:end], fabric) for end in ends):
        _fail("another path was taken", path, trace, _difference(places, turns, fabric))
    if outcome and outcome != text.outcome(trace):
        _fail("the path ends otherwise", path, trace, f"{outcome} was expected, {text.outcome(trace)} found")
    return trace


def assert_no_nat(net: Network, src: str | Named, dst: str | Named, **options: Unpack[Options]) -> Trace:
    """Nobody rewrites an address or a port of the flow or of its answer."""
    __tracebackhide__ = True
    trace = walk(net, src, dst, **options)
    if trace.nat:
        found = dict.fromkeys(f"{room}: {_rewrite(step)}" for room, step in trace.nat)
        _fail("addresses or ports are rewritten", "no nat", trace, *found)
    return trace


def assert_dropped_by(net: Network, src: str | Named, dst: str | Named, rule: str, **options: Unpack[Options]) -> Trace:
    """The flow is dropped or rejected, and what decided is `rule`: the rule as iptables-save prints it or a part of it
    (its chain, its comment), a route, a neighbour, or the kernel's name of the reason."""
    __tracebackhide__ = True
    trace = walk(net, src, dst, **options)
    if not any(rule in words for _, step in trace.drops for words in _deciding(step)):
        found = [f"dropped at {room} by {' | '.join(_deciding(step))}" for room, step in trace.drops]
        _fail("nothing was dropped" if not found else "something else dropped it", f"dropped by {rule}", trace, *found)
    return trace


def assert_delivered(net: Network, src: str | Named, dst: str | Named, **options: Unpack[Options]) -> Trace:
    """The sender gets its answer."""
    __tracebackhide__ = True
    trace = walk(net, src, dst, **options)
    if not trace.delivered:
        _fail("there was no answer", "an answer", trace)
    return trace


# -- paths -------------------------------------------------------------------------------------------------------------


def parse_path(path: str) -> tuple[list[Place], str]:
    """The rooms of a path and its outcome ("" where none is given). ValueError, in one line, for what is no path."""
    rooms, _, outcome = path.partition(" : ")
    places = []
    for part in re.split(r"\s*>\s*(?![^\[]*\])", rooms.strip()):
        found = re.fullmatch(r"([^\s\[\]]+)(?:\s*\[([^\[\]]*)\])?", part)
        if found is None:
            raise ValueError(f"{path!r}: {part!r} is no room with what it does in brackets, such as node-1 [+vxlan]")
        marks = tuple(mark.strip() for mark in found[2].split(",") if mark.strip()) if found[2] else ()
        places.append(Place(found[1], None if found[1] == ANY else marks))
    return places, outcome.strip()


def _fits(places: Sequence[Place], turns: Sequence[Turn], fabric: set[str]) -> bool:
    """Whether the turns are those places, but for rooms of the fabric that stand in none of them."""
    if not places:
        return all(_silent(turn, fabric) for turn in turns)
    first, rest = places[0], places[1:]
    if first.room == ANY:
        return any(_fits(rest, turns[n:], fabric) for n in range(len(turns) + 1))
    if not turns:
        return False
    if _is(first, turns[0]) and _fits(rest, turns[1:], fabric):
        return True
    return _silent(turns[0], fabric) and _fits(places, turns[1:], fabric)


def _is(place: Place, turn: Turn) -> bool:
    return place.room == turn.room and place.marks == turn.marks


def _silent(turn: Turn, fabric: set[str]) -> bool:
    """A room of the fabric that only passes on: what does something has to be named."""
    return turn.room in fabric and not turn.marks


# -- what a failure says -----------------------------------------------------------------------------------------------


def _difference(places: Sequence[Place], turns: Sequence[Turn], fabric: set[str]) -> str:
    """The first place that is not there, or the first turn that is too much."""
    n = 0
    for i, place in enumerate(places):
        if place.room == ANY:
            return f"behind ...: {' > '.join(map(str, places[i + 1 :]))} was expected"
        while n < len(turns) and not _is(place, turns[n]) and _silent(turns[n], fabric):
            n += 1
        if n == len(turns):
            return f"{place} was expected, the way ends before it"
        if not _is(place, turns[n]):
            return f"{place} was expected, {turns[n]} found"
        n += 1
    onward = next((turn for turn in turns[n:] if not _silent(turn, fabric)), None)
    return f"the path ends at {places[-1]}, the way goes on to {onward}"


def _deciding(step: Step) -> Iterator[str]:
    """What dropped a packet, in the words of the trace and, for a rule, of iptables-save."""
    yield text.evidence(step)
    rule = getattr(getattr(step.what, "by", None), "rule", None)
    if rule is not None:
        yield str(rule)


def _rewrite(step: Step) -> str:
    by = getattr(step.what, "by", None)
    how = by.rule if by is not None else "its connection"
    return f"{step.stage} {getattr(step.what, 'side', '')} by {how}"


def _fail(what: str, expected: str, trace: Trace, *found: str) -> None:
    __tracebackhide__ = True
    lines = [what, f"  expected  {expected}", f"  found     {trace.minimal()}", *(f"  {line}" for line in found)]
    raise AssertionError("\n".join([*lines, "", text.summary(trace)]))
