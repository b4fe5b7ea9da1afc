"""Addresses and prefixes: integers that print like addresses.

An address is an `int`, so a table lookup or a mask costs one machine operation; it prints the way `ip` prints it.
"""

from __future__ import annotations

from typing import NamedTuple

MASKS = tuple((0xFFFFFFFF << (32 - n)) & 0xFFFFFFFF for n in range(33))
"""MASKS[n] is the network mask of an n-bit IPv4 prefix."""


class IPv4(int):
    """An IPv4 address. `IPv4("10.0.0.1")` and `IPv4(167772161)` are equal, hash alike and print `10.0.0.1`.

    Raises ValueError, in one line, for text that is not four decimal octets.
    """

    __slots__ = ()

    def __new__(cls, value: int | str) -> IPv4:
        return int.__new__(cls, _parse_ipv4(value) if isinstance(value, str) else value)

    def __deepcopy__(self, memo: object) -> IPv4:
        return self

    def __str__(self) -> str:
        n = int(self)
        return f"{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"

    def __repr__(self) -> str:
        return f"IPv4('{self}')"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


class Mac(int):
    """An Ethernet address, printed as six lower-case hexadecimal octets."""

    __slots__ = ()

    def __new__(cls, value: int | str) -> Mac:
        return int.__new__(cls, _parse_mac(value) if isinstance(value, str) else value)

    def __deepcopy__(self, memo: object) -> Mac:
        return self

    def __str__(self) -> str:
        return ":".join(f"{int(self) >> shift & 255:02x}" for shift in (40, 32, 24, 16, 8, 0))

    def __repr__(self) -> str:
        return f"Mac('{self}')"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


class Prefix(NamedTuple):
    """A network: `Prefix.parse("10.244.0.0/16")`. The address keeps no host bits; `/0` prints `default`'s form
    0.0.0.0/0."""

    addr: IPv4
    length: int

    def __deepcopy__(self, memo: object) -> Prefix:
        return self

    @classmethod
    def parse(cls, text: str) -> Prefix:
        """Read `a.b.c.d/n`, a bare address (a /32) or `default`
        (0.0.0.0/0). Host bits are an error, as for `ip route`."""
        if text in ("default", "all"):
            return cls(ANY, 0)
        address, slash, bits = text.partition("/")
        length = _parse_length(bits, text) if slash else 32
        addr = IPv4(address)
        if int(addr) & ~MASKS[length] & 0xFFFFFFFF:
            raise ValueError(f"{text}: host bits are set; the network is {IPv4(addr & MASKS[length])}/{length}")
        return cls(addr, length)

    @classmethod
    def of(cls, addr: int, length: int) -> Prefix:
        """The network of that length which `addr` is in."""
        return cls(IPv4(addr & MASKS[length]), length)

    def __contains__(self, addr: object) -> bool:
        return isinstance(addr, int) and addr & MASKS[self.length] == int(self.addr)

    def overlaps(self, other: Prefix) -> bool:
        """Whether the two share an address, which is when one holds the other."""
        return not (self.addr ^ other.addr) & MASKS[min(self.length, other.length)]

    @property
    def broadcast(self) -> IPv4:
        return IPv4(self.addr | ~MASKS[self.length] & 0xFFFFFFFF)

    def __str__(self) -> str:
        return f"{self.addr}/{self.length}"


def is_multicast(addr: int) -> bool:
    """In 224.0.0.0/4."""
    return addr >> 28 == 0xE


def is_loopback(addr: int) -> bool:
    """In 127.0.0.0/8."""
    return addr >> 24 == 127


def is_zeronet(addr: int) -> bool:
    """0.0.0.0 alone: since Linux 5.3 the rest of 0.0.0.0/8 is as good as any (ipv4_is_zeronet)."""
    return addr == 0


def _parse_ipv4(text: str) -> int:
    octets = text.split(".")
    if len(octets) == 4 and all(o.isascii() and o.isdecimal() and len(o) <= 3 and int(o) <= 255 for o in octets):
        return int(octets[0]) << 24 | int(octets[1]) << 16 | int(octets[2]) << 8 | int(octets[3])
    raise ValueError(f"{text!r} is not an IPv4 address: four numbers of 0 to 255 with dots were expected")


def _parse_mac(text: str) -> int:
    octets = text.split(":")
    if len(octets) == 6 and all(len(o) == 2 and all(c in "0123456789abcdefABCDEF" for c in o) for o in octets):
        return int("".join(octets), 16)
    raise ValueError(f"{text!r} is not an Ethernet address: six pairs of hexadecimal digits with colons were expected")


def _parse_length(text: str, whole: str) -> int:
    if text.isascii() and text.isdecimal() and int(text) <= 32:
        return int(text)
    raise ValueError(f"{whole!r} is not a prefix: a length of 0 to 32 was expected after the slash")


ANY = IPv4(0)
LIMITED_BROADCAST = IPv4(0xFFFFFFFF)
LOCALHOST = IPv4("127.0.0.1")
BROADCAST_MAC = Mac(0xFFFFFFFFFFFF)
ZERO_MAC = Mac(0)
EVERYTHING = Prefix(ANY, 0)
