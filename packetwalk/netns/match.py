"""What a match of iptables is, and the tests of a rule's header (ip_packet_match, net/ipv4/netfilter/ip_tables.c).

A test is compiled once, into a link: a function that, given what must hold next, returns a closure over plain values.
Links are chained into one closure per rule, so that a rule that does not match costs one call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from packetwalk.addr import MASKS
from packetwalk.netns.option import (
    PROTOCOLS,
    Extension,
    Finish,
    Option,
    OptionKind,
    anything,
    network,
    network_text,
    number,
)  # fmt: skip
from packetwalk.netns.seen import Seen, Undecided

if TYPE_CHECKING:
    from packetwalk.netns.rule import Rule

Check: TypeAlias = Callable[[Seen], bool]
Link: TypeAlias = Callable[[Check], Check]

CHEAP, MIDDLE, DEAR, FIXED, UNKNOWN = range(5)
"""Ranks: tests that only look may run in any order, cheap ones first; FIXED ones remember or draw, and stay where they
are; UNKNOWN ones cannot be made, and come last: a rule that the others rule out need not be understood."""


class Condition(NamedTuple):
    """A compiled test and how dear it is."""

    rank: int
    link: Link


class Match(Extension):
    """`-m name` and its options, in printing order. `words` are those of a match that is not modelled, as read."""

    __slots__ = ()

    def __str__(self) -> str:
        return " ".join([f"-m {self.name}", *map(str, self.options), *self.words])


class MatchKind(NamedTuple):
    """What a match takes, in printing order, and how it is compiled; the
    rule is for those whom a match tells about it."""

    options: dict[str, OptionKind]
    compile: Callable[[Match, Rule], Condition]
    finish: Finish = anything


def always(seen: Seen) -> bool:
    """The end of every chain of links."""
    return True


def test(check: Check) -> Link:
    """A link out of a plain test."""
    return lambda then: lambda s: check(s) and then(s)


def negated(check: Check, inverted: bool) -> Check:
    """The check, or its opposite."""
    return (lambda s: not check(s)) if inverted else check


def looks(*checks: Check, rank: int = DEAR) -> Condition:
    """A condition out of checks that must all hold."""

    def link(then: Check) -> Check:
        for check in reversed(checks):
            then = test(check)(then)
        return then

    return Condition(rank, link)


def undecided(kind: str, name: str) -> Condition:
    """A test that can be reached but not made: it raises Undecided."""

    def check(s: Seen) -> bool:
        raise Undecided(kind, name)

    return Condition(UNKNOWN, test(check))


# -- the header of a rule: -s -d -i -o -p -f ---------------------------------------------------------------------------


def _network(text: str) -> tuple[str]:
    return (network_text(*network(text)),)


def _protocol(text: str) -> tuple[str]:
    """By name where every iptables prints one; any other number stays as it is given."""
    word = text.lower()
    if word not in PROTOCOLS and word != "all":
        value = number(word, 0, 255)
        word = {0: "all", 1: "icmp", 6: "tcp", 17: "udp"}.get(value, str(value))
    return (word,)


HEADER = {
    "-s": OptionKind(1, _network, True),
    "-d": OptionKind(1, _network, True),
    "-i": OptionKind(1, lambda name: (name,), True),
    "-o": OptionKind(1, lambda name: (name,), True),
    "-p": OptionKind(1, _protocol, True),
    "-f": OptionKind(0, invertible=True),
}
"""The options of a rule's header, in printing order."""


def dull(option: Option) -> bool:
    """Whether a header option says nothing, so that iptables-save leaves it out."""
    return not option.inverted and option.text in ("0.0.0.0/0", "all", "+")


def compile_header(option: Option) -> Condition:
    """The test of one header option."""
    name, text, inverted = option.name, option.text, option.inverted
    if name == "-f":
        return looks(negated(lambda s: s.ip.offset > 0, inverted))
    if name == "-p":
        return Condition(MIDDLE, _proto(PROTOCOLS.get(text) or int(text), inverted))
    if name in ("-i", "-o"):
        return _device(name, text, inverted)
    addr, mask = network(text)
    rank = CHEAP if mask == MASKS[32] and not inverted else MIDDLE
    return Condition(rank, (_source if name == "-s" else _destination)(addr, mask, inverted))


def _source(addr: int, mask: int, inverted: bool) -> Link:
    if inverted:
        return lambda then: lambda s: s.src & mask != addr and then(s)
    if mask == MASKS[32]:
        return lambda then: lambda s: s.src == addr and then(s)
    return lambda then: lambda s: s.src & mask == addr and then(s)


def _destination(addr: int, mask: int, inverted: bool) -> Link:
    if inverted:
        return lambda then: lambda s: s.dst & mask != addr and then(s)
    if mask == MASKS[32]:
        return lambda then: lambda s: s.dst == addr and then(s)
    return lambda then: lambda s: s.dst & mask == addr and then(s)


def _proto(value: int, inverted: bool) -> Link:
    if inverted:
        return lambda then: lambda s: s.proto != value and then(s)
    return lambda then: lambda s: s.proto == value and then(s)


def device_is(pattern: str) -> Callable[[str], bool]:
    """ifname_compare: a trailing `+` stands for any ending."""
    if pattern.endswith("+"):
        return lambda name: name.startswith(pattern[:-1])
    return lambda name: name == pattern


def _device(option: str, text: str, inverted: bool) -> Condition:
    if text.endswith("+"):
        head = text[:-1]
        if option == "-i":
            return Condition(MIDDLE, lambda then: lambda s: s.iif.startswith(head) is not inverted and then(s))
        return Condition(MIDDLE, lambda then: lambda s: s.oif.startswith(head) is not inverted and then(s))
    if option == "-i":
        if inverted:
            return Condition(MIDDLE, lambda then: lambda s: s.iif != text and then(s))
        return Condition(CHEAP, lambda then: lambda s: s.iif == text and then(s))
    if inverted:
        return Condition(MIDDLE, lambda then: lambda s: s.oif != text and then(s))
    return Condition(CHEAP, lambda then: lambda s: s.oif == text and then(s))
