"""Policy rules (`ip rule`): which table is asked about which packet, and the key of that question.

They follow net/core/fib_rules.c and net/ipv4/fib_rules.c.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from packetwalk.addr import EVERYTHING, MASKS, Prefix
from packetwalk.netns.device import SCOPE_GLOBAL

TABLES = {"local": 255, "main": 254, "default": 253}
TABLE_NAMES = {number: name for name, number in TABLES.items()}
RULE_ERRNO = {"blackhole": "EINVAL", "unreachable": "ENETUNREACH", "prohibit": "EACCES"}
PROTOCOLS = {1: "icmp", 4: "ipencap", 6: "tcp", 17: "udp", 47: "gre", 132: "sctp"}


class PolicyRule(NamedTuple):
    """One line of `ip rule`. `action` is a table number, or blackhole, unreachable, prohibit, nop.

    detached: those of `iif` and `oif` that name no device here; unresolved: a `goto` no rule stands at.
    """

    priority: int
    action: int | str
    src: Prefix = EVERYTHING
    dst: Prefix = EVERYTHING
    iif: str = ""
    oif: str = ""
    fwmark: int = 0
    fwmask: int = 0
    tos: int = 0
    invert: bool = False
    proto: int = 0
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    suppress_prefixlen: int = -1
    goto: int = 0
    oddity: str = ""
    detached: frozenset[str] = frozenset()
    unresolved: bool = False

    def compiled(self) -> Test | None:
        """fib_rule_match and fib4_rule_match (net/core/fib_rules.c, net/ipv4/fib_rules.c) as one function of the flow
        that asks only for the selectors this rule has; None if every packet matches."""
        tests = tuple(self._tests())
        if not tests:
            return None if not self.invert else lambda flow: False
        if self.invert:
            return lambda flow: not all(test(flow) for test in tests)
        return tests[0] if len(tests) == 1 else lambda flow: all(test(flow) for test in tests)

    def _tests(self) -> Iterator[Test]:
        _, _, src, dst, iif, oif, mark, mask, tos, _, proto, sport, dport, *_ = self
        if iif:
            yield lambda flow: flow.iif == iif
        if oif:
            yield lambda flow: flow.oif == oif
        if mask:
            yield lambda flow: not (flow.mark ^ mark) & mask
        if src.length:
            yield lambda flow: not (flow.src ^ src.addr) & MASKS[src.length]
        if dst.length:
            yield lambda flow: not (flow.dst ^ dst.addr) & MASKS[dst.length]
        if tos:
            yield lambda flow: flow.tos == tos
        if proto:
            yield lambda flow: flow.proto == proto
        if sport is not None:
            yield lambda flow: sport[0] <= flow.sport <= sport[1]
        if dport is not None:
            yield lambda flow: dport[0] <= flow.dport <= dport[1]

    def may_match(self, iif: str, mark: int, src: int) -> bool:
        """Whether a packet of which only that much is known can match."""
        mine = self.iif in ("", iif) and not (self.fwmark ^ mark) & self.fwmask
        return self.invert or (mine and not (src ^ self.src.addr) & MASKS[self.src.length])

    def missing(self, devices: Collection[str]) -> frozenset[str]:
        """Those of `iif` and `oif` that name none of these devices."""
        return frozenset(key for key, name in (("iif", self.iif), ("oif", self.oif)) if name and name not in devices)

    def __str__(self) -> str:
        words = [f"{self.priority}:"]
        if self.invert:
            words.append("not")
        words.append(f"from {_selector(self.src)}")
        if self.dst.length:
            words.append(f"to {_selector(self.dst)}")
        if self.tos:
            words.append(f"tos 0x{self.tos:02x}")
        if self.fwmask:
            mask = "" if self.fwmask == 0xFFFFFFFF else f"/0x{self.fwmask:x}"
            words.append(f"fwmark {self.fwmark:#x}{mask}" if self.fwmark else f"fwmark 0{mask}")
        for key, name in (("iif", self.iif), ("oif", self.oif)):
            if name:
                words.append(f"{key} {name}{' [detached]' if key in self.detached else ''}")
        if self.proto:
            words.append(f"ipproto {PROTOCOLS.get(self.proto, self.proto)}")
        words += [f"{key} {_ports(value)}" for key, value in (("sport", self.sport), ("dport", self.dport)) if value]
        if isinstance(self.action, int):
            words.append(f"lookup {TABLE_NAMES.get(self.action, self.action)}")
            if self.suppress_prefixlen >= 0:
                words.append(f"suppress_prefixlength {self.suppress_prefixlen}")
        else:
            words.append(f"goto {self.goto}" if self.action == "goto" else self.action)
        if self.unresolved:
            words.append("[unresolved]")
        return " ".join(words)


class Flow(NamedTuple):
    """The key of a lookup (struct flowi4). `iif` is `lo` for a packet the host sends itself."""

    dst: int
    src: int = 0
    iif: str = "lo"
    oif: str = ""
    mark: int = 0
    tos: int = 0
    proto: int = 0
    sport: int = 0
    dport: int = 0
    scope: int = SCOPE_GLOBAL


def _selector(prefix: Prefix) -> str:
    if prefix.length == 0:
        return "all"
    return str(prefix.addr) if prefix.length == 32 else str(prefix)


def _ports(bounds: tuple[int, int]) -> str:
    return str(bounds[0]) if bounds[0] == bounds[1] else f"{bounds[0]}-{bounds[1]}"


Test = Callable[[Flow], bool]
