"""What a rule of nftables may ask of a packet: its terms (`ip saddr`, `th dport`, `ct state`) and their data types.

A value is a number, or a text for devices and types of addresses. What a rule or set compares it with is a span: a
lowest and a highest value, the same for a single one (nft's datatype.c names the types).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from packetwalk.addr import MASKS, IPv4
from packetwalk.netns.option import PROTOCOLS, number
from packetwalk.netns.seen import Seen
from packetwalk.packet import PROTO_TCP, PROTO_UDP, Icmp

Value: TypeAlias = "int | str"
Span: TypeAlias = "tuple[Value, Value]"
Load: TypeAlias = Callable[[Seen], "Value | None"]
"""Fetches a value; None where the packet has no such thing, so that the rule does not match (NFT_BREAK)."""


class Strange(ValueError):
    """Words of nftables that are not modelled."""


class Kind(NamedTuple):
    """A data type: how its values are read. bits: its values are bits, of which a packet has one of those asked for."""

    read: Callable[[str], Span]
    bits: bool = False


class Term(NamedTuple):
    """What a rule may ask for, and the name of its data type."""

    kind: str
    load: Load


# -- data types --------------------------------------------------------------------------------------------------------


def _addr(text: str) -> Span:
    """An address, a network or a range of addresses."""
    low, dash, high = text.partition("-")
    if dash:
        return int(IPv4(low)), int(IPv4(high))
    addr, slash, length = text.partition("/")
    bits = number(length, 0, 32) if slash else 32
    first = int(IPv4(addr))
    return first & MASKS[bits], first | ~MASKS[bits] & 0xFFFFFFFF


def _numbers(most: int, names: dict[str, int] | None = None) -> Callable[[str], Span]:
    """A number or a range of numbers; some have names."""
    known = names or {}

    def read(text: str) -> Span:
        if text in known:
            return known[text], known[text]
        low, dash, high = text.partition("-")
        first = number(low, 0, most)
        return first, number(high, 0, most) if dash else first

    return read


def _bits(names: dict[str, int]) -> Callable[[str], Span]:
    def read(text: str) -> Span:
        value = 0
        for word in text.split(","):
            if word not in names:
                raise ValueError(f"one of {', '.join(names)} was expected, not {word!r}")
            value |= names[word]
        return value, value

    return read


def _device(text: str) -> Span:
    """A name in quotes; a trailing `*` stands for any ending."""
    name = text.strip('"')
    return (name[:-1], f"{name[:-1]}\uffff") if name.endswith("*") else (name, name)


def _word(text: str) -> Span:
    return text, text


STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}  # NF_CT_STATE_BIT
STATUS = {"expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 16, "dnat": 32, "dying": 512}
ICMP_TYPES = {
    "echo-reply": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5, "echo-request": 8,
    "router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11, "parameter-problem": 12,
    "timestamp-request": 13, "timestamp-reply": 14, "info-request": 15, "info-reply": 16, "address-mask-request": 17,
    "address-mask-reply": 18,
}  # fmt: skip

KINDS = {
    "ipv4_addr": Kind(_addr),
    "inet_proto": Kind(_numbers(0xFF, PROTOCOLS)),
    "inet_service": Kind(_numbers(0xFFFF)),
    "mark": Kind(_numbers(0xFFFFFFFF)),
    "integer": Kind(_numbers(0xFFFFFFFF)),
    "ifname": Kind(_device),
    "ct_state": Kind(_bits(STATES), bits=True),
    "ct_status": Kind(_bits(STATUS), bits=True),
    "ct_dir": Kind(_numbers(1, {"original": 0, "reply": 1})),
    "fib_addrtype": Kind(_word),
    "icmp_type": Kind(_numbers(0xFF, ICMP_TYPES)),
    "nf_proto": Kind(_numbers(0xFF, {"ipv4": 2, "ipv6": 10})),
}
"""By the names that `type` takes."""


# -- terms -------------------------------------------------------------------------------------------------------------


def _state(s: Seen) -> Value:
    """nft_ct_get_eval: a packet without a connection is invalid, or untracked."""
    return STATES[s.ctstate.lower()]


def _of(proto: int, load: Load) -> Load:
    """A field of one protocol's header: nft asks for the protocol first (payload_gen_dependency)."""
    return lambda s: load(s) if s.proto == proto else None


def _sport(s: Seen) -> Value | None:
    """nft_payload_eval: nothing in a later fragment. A protocol without ports has something else there."""
    return s.sport if s.l4 is not None else None


def _dport(s: Seen) -> Value | None:
    return s.dport if s.l4 is not None else None


TERMS = {
    "ip saddr": Term("ipv4_addr", lambda s: s.src),
    "ip daddr": Term("ipv4_addr", lambda s: s.dst),
    "ip protocol": Term("inet_proto", lambda s: s.proto),
    "ip ttl": Term("integer", lambda s: s.ip.ttl),
    "ip length": Term("integer", lambda s: s.ip.len),
    "meta l4proto": Term("inet_proto", lambda s: s.proto),
    "meta nfproto": Term("nf_proto", lambda s: 2),
    "meta mark": Term("mark", lambda s: s.mark),
    "meta length": Term("integer", lambda s: s.ip.len),
    "th sport": Term("inet_service", _sport),
    "th dport": Term("inet_service", _dport),
    "icmp type": Term("icmp_type", lambda s: s.l4.type if isinstance(s.l4, Icmp) else None),
    "icmp code": Term("integer", lambda s: s.l4.code if isinstance(s.l4, Icmp) else None),
    **{f"{name} {way}": Term("inet_service", _of(proto, load))
       for name, proto in (("tcp", PROTO_TCP), ("udp", PROTO_UDP), ("sctp", PROTOCOLS["sctp"]))
       for way, load in (("sport", _sport), ("dport", _dport))},
    **{f"{name}{what}": Term("ifname", load) for what in ("", "name")
       for name, load in (("iif", lambda s: s.iif), ("oif", lambda s: s.oif))},
    "ct state": Term("ct_state", _state),
    "ct status": Term("ct_status", lambda s: s.conn.status if s.conn is not None else None),
    "ct direction": Term("ct_dir", lambda s: int(s.ctdir == "REPLY") if s.conn is not None else None),
    "ct mark": Term("mark", lambda s: s.conn.mark if s.conn is not None else None),
    "fib saddr type": Term("fib_addrtype", lambda s: s.tables.fib.addr_type(s.src)),
    "fib daddr type": Term("fib_addrtype", lambda s: s.tables.fib.addr_type(s.dst)),
}  # fmt: skip
"""What a rule may ask for, as nft writes it."""


def span_of(kind: str, text: str) -> Span:
    """What a text means as a value of that type. ValueError for one that is none; Strange for a type not modelled."""
    if kind not in KINDS:
        raise Strange(f"the type {kind}")
    return KINDS[kind].read(text)
