"""IP sets: named sets of addresses, networks and ports that a rule asks with `-m set` (net/netfilter/ipset).

A set is never changed, only replaced by one with another entry, so a walk can share the sets of its network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from packetwalk.addr import MASKS, IPv4
from packetwalk.netns.option import ICMP_TYPES, PROTOCOLS, number
from packetwalk.packet import PROTO_ICMP, PROTO_TCP, PROTO_UDP, Icmp

if TYPE_CHECKING:
    from packetwalk.netns.seen import Seen

SECOND = 1_000_000_000
PORTED = {PROTO_TCP, PROTO_UDP, PROTOCOLS["sctp"], PROTOCOLS["udplite"]}

Part: TypeAlias = "int | str | tuple[int, int]"
Key: TypeAlias = tuple[Part, ...]


class Entry(NamedTuple):
    """One element as `ipset save` prints it. expires: ns, 0 for never; nomatch: an exception from a wider network."""

    text: str
    options: tuple[str, ...] = ()
    expires: int = 0
    nomatch: bool = False

    def __str__(self) -> str:
        return " ".join([self.text, *self.options])


@dataclass(frozen=True)
class IpSet:
    """A set. type: `hash:ip,port` and the like; options: the rest of its `create` line; where: "FILE:LINE" or ""."""

    name: str
    type: str
    options: tuple[str, ...] = ()
    entries: Mapping[Key, Entry] = field(default_factory=dict)
    where: str = field(default="", compare=False)

    def __str__(self) -> str:
        head = " ".join(["create", self.name, self.type, *self.options])
        return "\n".join([head, *(f"add {self.name} {entry}" for entry in self.entries.values())])

    @cached_property
    def dims(self) -> tuple[str, ...]:
        """What its elements are made of: ip, net, port, iface, mark, mac or set."""
        return tuple(self.type.partition(":")[2].split(","))

    def option(self, name: str, default: str = "") -> str:
        """The value after a word of the `create` line."""
        return self.options[self.options.index(name) + 1] if name in self.options[:-1] else default

    @cached_property
    def lengths(self) -> tuple[tuple[int, ...], ...]:
        """For each dimension that is a network, the prefix lengths that occur, longest first."""
        found: list[set[int]] = [set() for _ in self.dims]
        for key in self.entries:
            for lengths, part in zip(found, key, strict=True):
                if isinstance(part, tuple):
                    lengths.add(part[1])
        return tuple(tuple(sorted(lengths, reverse=True)) for lengths in found)

    @cached_property
    def unknown(self) -> str:
        """What of it is not modelled, or ""."""
        method, _, _ = self.type.partition(":")
        if method not in ("hash", "bitmap", "list") or not KNOWN.issuperset(self.dims):
            return f"of type {self.type}"
        return "with physdev elements" if any("physdev:" in e.text for e in self.entries.values()) else ""

    def plus(self, words: list[str]) -> IpSet:
        """The set with one more element: the words after `add NAME`. ValueError for what it cannot hold."""
        entry = self.read(words)
        return replace(self, entries={**self.entries, self.key(entry.text): entry})

    def read(self, words: list[str]) -> Entry:
        """An element from the words after `add NAME`; its time counts from the start of the simulation."""
        text, options = words[0], words[1:]
        seconds = options[options.index("timeout") + 1] if "timeout" in options[:-1] else self.option("timeout", "0")
        options = [quote_comment(w) if options[:i][-1:] == ["comment"] else w for i, w in enumerate(options)]
        return Entry(text, tuple(options), number(seconds) * SECOND, "nomatch" in options)

    def plus_key(self, key: Key, timeout: str, now: int) -> IpSet:
        """The set with what a packet stands for, for `timeout` seconds from now on (0: for good)."""
        text = ",".join(TEXTS.get(dim, str)(part) for dim, part in zip(self.dims, key, strict=True))
        seconds = int(timeout)
        options = ("timeout", timeout) if "timeout" in self.options else ()
        entry = Entry(text, options, now + seconds * SECOND if seconds else 0)
        return replace(self, entries={**self.entries, key: entry})

    def holds(self, key: Key, now: int) -> Entry | None:
        """The entry itself, unless its time is up."""
        entry = self.entries.get(key)
        return entry if entry is not None and (not entry.expires or entry.expires > now) else None

    def minus(self, key: Key) -> IpSet:
        return replace(self, entries={k: v for k, v in self.entries.items() if k != key})

    def key(self, text: str) -> Key:
        """An element as a tuple of numbers, from its text. ValueError, in one line, if it does not fit the type."""
        if self.dims == ("set",) or self.unknown or self.option("family", "inet") != "inet":
            return (text,)
        parts = text.split(",")
        if len(parts) != len(self.dims):
            raise ValueError(f"an element like {self.type.partition(':')[2]} was expected, not {text!r}")
        if self.type == "bitmap:port":
            return (number(parts[0], 0, 0xFFFF),)
        return tuple(READERS[dim](part) for dim, part in zip(self.dims, parts, strict=True))


KNOWN = frozenset(("ip", "net", "port", "iface", "mark", "set"))


def parse_create(words: list[str], where: str = "") -> IpSet:
    """A set from the words after `create`: name, type, options."""
    if len(words) < 2 or ":" not in words[1]:
        raise ValueError("`create NAME TYPE ...` with a type like hash:ip was expected")
    return IpSet(words[0], words[1], tuple(words[2:]), {}, where)


def quote_comment(text: str) -> str:
    """A comment as `ipset save` prints it, always in quotes."""
    return f'"{text}"'


# -- elements ----------------------------------------------------------------------------------------------------------


def _net(text: str) -> tuple[int, int]:
    addr, slash, length = text.partition("/")
    bits = number(length, 0, 32) if slash else 32
    return int(IPv4(addr)) & MASKS[bits], bits


def _port(text: str) -> tuple[int, int]:
    """`tcp:80`, `icmp:echo-request`, `icmp:8/0`, `gre:0`; a bare port is TCP's."""
    name, _, port = text.rpartition(":")
    proto = PROTOCOLS.get(name) if name else PROTO_TCP
    if proto is None:
        proto = number(name, 0, 255)
    if proto == PROTO_ICMP:
        kind, _, code = ICMP_TYPES.get(port, port).partition("/")
        return proto, number(kind, 0, 255) << 8 | number(code or "0", 0, 255)
    return proto, number(port, 0, 0xFFFF)


READERS: dict[str, Callable[[str], Part]] = {
    "ip": lambda text: int(IPv4(text)),
    "net": _net,
    "port": _port,
    "iface": str,
    "mark": number,
}


def _port_text(part: Part) -> str:
    assert isinstance(part, tuple)
    name = next((name for name, value in PROTOCOLS.items() if value == part[0]), str(part[0]))
    if part[0] != PROTO_ICMP:
        return f"{name}:{part[1]}"
    code = f"{part[1] >> 8}/{part[1] & 0xFF}"
    named = (word for word, value in ICMP_TYPES.items() if value in (code, code.removesuffix("/0")))
    return f"{name}:{next(named, code)}"


def _net_text(part: Part) -> str:
    assert isinstance(part, tuple)
    return str(IPv4(part[0])) if part[1] == 32 else f"{IPv4(part[0])}/{part[1]}"


TEXTS: dict[str, Callable[[Part], str]] = {
    "ip": lambda part: str(IPv4(part)) if isinstance(part, int) else str(part),
    "net": _net_text,
    "port": lambda part: str(part) if isinstance(part, int) else _port_text(part),
    "mark": lambda part: f"{part:#x}" if isinstance(part, int) else str(part),
}


# -- asking ------------------------------------------------------------------------------------------------------------


def lookup(sets: Mapping[str, IpSet], name: str, sides: tuple[bool, ...], s: Seen, *, return_nomatch: bool) -> bool:
    """ip_set_test: whether the packet's addresses and ports are in a set.
    sides: for each dimension, whether the source is meant."""
    wanted = sets[name]
    if wanted.dims == ("set",):  # list_set_ktest: the first member set that has it
        return any(
            lookup(sets, entry.text, sides, s, return_nomatch=return_nomatch)
            for entry in wanted.entries.values()
            if not entry.expires or entry.expires > s.now
        )
    if len(sides) < len(wanted.dims) or wanted.option("family", "inet") != "inet":
        return False
    key = packet_key(wanted, sides, s)
    entry = None if key is None else _find(wanted, key, s.now)
    return entry is not None and entry.nomatch is return_nomatch


def packet_key(wanted: IpSet, sides: tuple[bool, ...], s: Seen) -> Key | None:
    """The element a packet stands for, networks as single addresses; None where it has no such part (kadt)."""
    parts: list[Part] = []
    for dim, source in zip(wanted.dims, sides, strict=False):
        part = _part(wanted, dim, source, s)
        if part is None:
            return None
        parts.append(part)
    return tuple(parts)


def _part(wanted: IpSet, dim: str, source: bool, s: Seen) -> Part | None:
    if dim in ("ip", "net"):
        addr = s.src if source else s.dst
        if dim == "net":
            return addr, 32
        addr &= MASKS[int(wanted.option("netmask", "32"))]
        return addr if addr or wanted.type != "hash:ip" else None
    if dim == "iface":
        return s.iif if source else s.oif
    if dim == "mark":
        return s.mark & number(wanted.option("markmask", "0xffffffff"))
    port = _packet_port(s, source)
    if wanted.type == "bitmap:port":
        return port[1] if port is not None and port[0] in (PROTO_TCP, PROTO_UDP) else None
    return port


def _packet_port(s: Seen, source: bool) -> tuple[int, int] | None:
    """ip_set_get_ip4_port: protocol and port, or type and code; a protocol without ports has port 0."""
    if s.proto in PORTED:
        port = s.sport if source else s.dport
        return (s.proto, port) if port >= 0 else None
    if s.proto == PROTO_ICMP:
        return (s.proto, s.l4.type << 8 | s.l4.code) if isinstance(s.l4, Icmp) else None
    return s.proto, 0


def _find(wanted: IpSet, key: Key, now: int) -> Entry | None:
    """mtype_test: the entry itself, or that of the longest prefix that holds it (mtype_test_cidrs)."""
    if "net" not in wanted.dims:
        return wanted.holds(key, now)
    return next((entry for candidate in _widening(wanted, key) if (entry := wanted.holds(candidate, now))), None)


def _widening(wanted: IpSet, key: Key) -> Iterator[Key]:
    """The key with its networks ever wider, over the prefix lengths that are in the set."""
    choices: list[list[Part]] = []
    for dim, part, lengths in zip(wanted.dims, key, wanted.lengths, strict=True):
        if dim == "net" and isinstance(part, tuple):
            choices.append([(part[0] & MASKS[n], n) for n in lengths])
        else:
            choices.append([part])
    return product(*choices)
