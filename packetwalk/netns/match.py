"""The matches of iptables: what each may be given, how it prints, and the test it makes (net/netfilter/xt_*.c).

A test is compiled once, into a link: a function that, given what must hold next, returns a closure over plain values.
Links are chained into one closure per rule, so that a rule that does not match costs one call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from packetwalk.addr import MASKS, IPv4
from packetwalk.netns.option import Option, OptionKind, bounds, listed, masked, number, quoted, span
from packetwalk.netns.seen import HotDrop, Seen, Undecided
from packetwalk.packet import PROTO_ICMP, PROTO_TCP, PROTO_UDP, Tcp

Check: TypeAlias = Callable[[Seen], bool]
Link: TypeAlias = Callable[[Check], Check]

CHEAP, MIDDLE, DEAR, FIXED = 0, 1, 2, 3
"""Ranks: tests that only look may run in any order, cheap ones first; FIXED ones remember, draw or end the branch."""

PROTOCOLS = {
    "icmp": PROTO_ICMP, "igmp": 2, "ipencap": 4, "tcp": PROTO_TCP, "egp": 8, "udp": PROTO_UDP, "dccp": 33, "ipv6": 41,
    "rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58, "ospf": 89, "ipip": 94, "etherip": 97, "pim": 103,
    "vrrp": 112, "sctp": 132, "udplite": 136,
}  # fmt: skip


class Condition(NamedTuple):
    """A compiled test and how dear it is."""

    rank: int
    link: Link


class Match(NamedTuple):
    """`-m name` and its options, in printing order. `words` are those of a match that is not modelled, as read."""

    name: str
    options: tuple[Option, ...] = ()
    words: tuple[str, ...] = ()

    def get(self, name: str) -> Option | None:
        return next((option for option in self.options if option.name == name), None)

    def __str__(self) -> str:
        return " ".join([f"-m {self.name}", *map(str, self.options), *self.words])


class MatchKind(NamedTuple):
    """What a match takes, in printing order, and how it is compiled. finish: adds what iptables fills in, and objects
    to what cannot go together."""

    options: dict[str, OptionKind]
    compile: Callable[[Match], Condition]
    finish: Callable[[dict[str, Option]], None] = lambda options: None


def always(seen: Seen) -> bool:
    """The end of every chain of links."""
    return True


def test(check: Check) -> Link:
    """A link out of a plain test."""
    return lambda then: lambda s: check(s) and then(s)


def negated(check: Check, inverted: bool) -> Check:
    """The check, or its opposite."""
    return (lambda s: not check(s)) if inverted else check


# -- the header of a rule: -s -d -i -o -p -f (ip_packet_match, net/ipv4/netfilter/ip_tables.c) -------------------------


def network(text: str) -> tuple[str]:
    """`10.0.0.1` is printed 10.0.0.1/32, `10.1.2.3/8` is 10.0.0.0/8, and a mask that is no prefix stays one."""
    addr, mask = address_and_mask(text)
    length = mask.bit_count()
    return (f"{IPv4(addr)}/{length if MASKS[length] == mask else IPv4(mask)}",)


def address_and_mask(text: str) -> tuple[int, int]:
    """`10.0.0.0/8`, `10.0.0.0/255.0.0.0` or a bare address, as numbers, host bits cut off."""
    addr, slash, mask = text.partition("/")
    bits = 0xFFFFFFFF if not slash else IPv4(mask) if "." in mask else MASKS[number(mask, 0, 32)]
    return IPv4(addr) & bits, int(bits)


def protocol(text: str) -> tuple[str]:
    """By name where every iptables prints one; any other number stays as it is given."""
    word = text.lower()
    if word not in PROTOCOLS and word != "all":
        value = number(word, 0, 255)
        word = {0: "all", 1: "icmp", 6: "tcp", 17: "udp"}.get(value, word)
    return (word,)


def protocol_number(text: str) -> int:
    """The number of a protocol as `protocol` prints it; 0 for all."""
    return PROTOCOLS[text] if text in PROTOCOLS else 0 if text == "all" else int(text)


HEADER = {
    "-s": OptionKind(1, network, True),
    "-d": OptionKind(1, network, True),
    "-i": OptionKind(1, lambda name: (name,), True),
    "-o": OptionKind(1, lambda name: (name,), True),
    "-p": OptionKind(1, protocol, True),
    "-f": OptionKind(0, invertible=True),
}


def compile_header(option: Option) -> Condition | None:
    """The test of one header option; None where it always holds (`-p all`, `-s 0.0.0.0/0`)."""
    name, text, inverted = option.name, option.text, option.inverted
    if name == "-f":
        return Condition(DEAR, test(negated(lambda s: s.ip.offset > 0, inverted)))
    if name == "-p":
        value = protocol_number(text)
        return Condition(MIDDLE, _proto(value, inverted)) if value else None
    if name in ("-i", "-o"):
        return _device(name, text, inverted)
    addr, mask = address_and_mask(text)
    if not mask and not inverted:
        return None
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


def _device(option: str, text: str, inverted: bool) -> Condition | None:
    """A trailing `+` stands for any ending (ifname_compare)."""
    if text == "+":
        return Condition(FIXED, test(lambda s: False)) if inverted else None
    if option == "-i":
        if text.endswith("+"):
            head = text[:-1]
            return Condition(MIDDLE, test(lambda s: s.iif.startswith(head) is not inverted))
        if inverted:
            return Condition(MIDDLE, lambda then: lambda s: s.iif != text and then(s))
        return Condition(CHEAP, lambda then: lambda s: s.iif == text and then(s))
    if text.endswith("+"):
        head = text[:-1]
        return Condition(MIDDLE, test(lambda s: s.oif.startswith(head) is not inverted))
    if inverted:
        return Condition(MIDDLE, lambda then: lambda s: s.oif != text and then(s))
    return Condition(CHEAP, lambda then: lambda s: s.oif == text and then(s))


# -- ports -------------------------------------------------------------------------------------------------------------


def _port(text: str) -> tuple[str]:
    return (span(text),)


PORTS = {
    "--sport": OptionKind(1, _port, True),
    "--dport": OptionKind(1, _port, True),
    "--source-port": OptionKind(1, _port, True, "--sport"),
    "--destination-port": OptionKind(1, _port, True, "--dport"),
}


TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG")


def _flag_list(text: str) -> str:
    return {"ALL": ",".join(TCP_FLAGS), "NONE": "NONE"}.get(text.upper()) or listed(TCP_FLAGS, text)


def _flag_lists(mask: str, wanted: str) -> tuple[str, str]:
    return _flag_list(mask), _flag_list(wanted)


SYN = ("FIN,SYN,RST,ACK", "SYN")
TCP = {
    **PORTS,
    "--tcp-flags": OptionKind(2, _flag_lists, True),
    "--syn": OptionKind(0, lambda: SYN, True, "--tcp-flags"),
}


def _flags_are(option: Option) -> Link:
    """Letters of packet.Tcp stand for the bits of the header's flags byte."""
    mask, wanted = ({name[0] for name in arg.split(",") if name != "NONE"} for arg in option.args)

    def check(s: Seen) -> bool:
        return isinstance(s.l4, Tcp) and (mask.intersection(s.l4.flags) == wanted) is not option.inverted

    return test(check)


def _tcp_or_udp(match: Match) -> Condition:
    """tcp_mt, udp_mt (net/netfilter/xt_tcpudp.c): later fragments never match."""
    checks: list[Link] = []
    for option in match.options:
        if option.name in ("--sport", "--dport"):
            checks.append(_port_is(option))
        else:
            checks.append(_flags_are(option))
    return Condition(CHEAP, _has_ports(checks))


def _has_ports(links: list[Link]) -> Link:
    def link(then: Check) -> Check:
        for inner in reversed(links):
            then = inner(then)
        rest = then
        return lambda s: rest(s) if s.dport >= 0 else no_ports(s)

    return link


def no_ports(s: Seen) -> bool:
    """No header to look at: a fragment at offset 1 is an attack, a packet cut short is broken; both are dropped."""
    if s.ip.offset == 0 or (s.ip.offset == 8 and s.proto == PROTO_TCP):
        raise HotDrop
    return False


def _port_is(option: Option) -> Link:
    low, high = bounds(option.text)
    inverted = option.inverted
    if option.name == "--dport":
        if low == high and not inverted:
            return lambda then: lambda s: s.dport == low and then(s)
        return lambda then: lambda s: (low <= s.dport <= high) is not inverted and then(s)
    return lambda then: lambda s: (low <= s.sport <= high) is not inverted and then(s)


# -- marks, states -----------------------------------------------------------------------------------------------------


def _mark_text(text: str) -> tuple[str]:
    value, mask = masked(text)
    return (f"{value:#x}" if mask == 0xFFFFFFFF else f"{value:#x}/{mask:#x}",)


def _mark(match: Match) -> Condition:
    """mark_mt (net/netfilter/xt_mark.c)."""
    option = match.options[0]
    value, mask = masked(option.text)
    if option.inverted:
        return Condition(MIDDLE, lambda then: lambda s: s.mark & mask != value and then(s))
    return Condition(MIDDLE, lambda then: lambda s: s.mark & mask == value and then(s))


STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")


def _conntrack(match: Match) -> Condition:
    """conntrack_mt (net/netfilter/xt_conntrack.c)."""
    option = match.options[0]
    states, wanted = frozenset(option.text.split(",")), not option.inverted
    return Condition(MIDDLE, lambda then: lambda s: (s.ctstate in states) is wanted and then(s))


def _comment(match: Match) -> Condition:
    return Condition(CHEAP, lambda then: then)


# -- all of them -------------------------------------------------------------------------------------------------------

MATCHES: dict[str, MatchKind] = {
    "comment": MatchKind({"--comment": OptionKind(1, quoted)}, _comment),
    "conntrack": MatchKind({"--ctstate": OptionKind(1, lambda t: (listed(STATES, t),), True)}, _conntrack),
    "mark": MatchKind({"--mark": OptionKind(1, _mark_text, True)}, _mark),
    "tcp": MatchKind(TCP, _tcp_or_udp),
    "udp": MatchKind(PORTS, _tcp_or_udp),
}


def compile_match(match: Match) -> Condition:
    """The test of a match; of one that is not modelled, a test that says so when it is reached."""
    kind = MATCHES.get(match.name)
    if kind is None or match.words:
        return Condition(FIXED, lambda then: lambda s: undecided("match", match.name))
    return kind.compile(match)


def undecided(kind: str, name: str) -> bool:
    """Raise Undecided: a test that can only be reached, not made."""
    raise Undecided(kind, name)
