"""Packets as rules see them, for the tests of matches, targets and chains.

    from tests.netns.seen import matches, seen

    assert matches("-p tcp --dport 80", seen(dport=80))
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from packetwalk.addr import IPv4, Prefix
from packetwalk.netns.fib import Fib
from packetwalk.netns.fib_table import Nexthop, Route
from packetwalk.netns.netfilter import Ruleset, Verdict
from packetwalk.netns.rule import Rule, chained, cheapest_first, parse_rule
from packetwalk.netns.seen import Lot, Seen
from packetwalk.packet import PROTO_ICMP, PROTO_TCP, PROTO_UDP, Header, Icmp, Ip, Packet, Tcp, Udp, ip_packet


class Dice:
    """A chooser that says what it was told, over and over."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers) or [True]
        self.asked: list[float] = []

    def statistic(self, rule: Rule | Lot, probability: float, seen: Seen) -> bool:
        self.asked.append(probability)
        return self.answers[(len(self.asked) - 1) % len(self.answers)]

    def port(self, low: int, high: int) -> int:
        return low


class Around:
    """A namespace with one link, 10.0.0.1/24 on eth0, and a default route over eth1."""

    def __init__(self, mtu: int = 1500) -> None:
        self.fib = Fib()
        self.mtu = mtu
        local = self.fib.table(255)
        local.add(Route(Prefix.parse("10.0.0.1"), (Nexthop("eth0"),), "local", 254, table=255))
        local.add(Route(Prefix.parse("10.0.0.255"), (Nexthop("eth0"),), "broadcast", 253, table=255))
        local.add(Route(Prefix.parse("127.0.0.0/8"), (Nexthop("lo"),), "local", 254, table=255))
        main = self.fib.table(254)
        main.add(Route(Prefix.parse("10.0.0.0/24"), (Nexthop("eth0"),), scope=253))
        main.add(Route(Prefix.parse("default"), (Nexthop("eth1", IPv4("10.9.0.1")),)))

    def clamp_mtu(self, seen: Seen) -> int:
        return self.mtu

    def virtual(self, seen: Seen) -> None:
        return None


def packet(
    src: str = "10.0.0.2", dst: str = "10.96.0.1", *, l4: Header | None = None, proto: int = 0, sport: int = 4000,
    dport: int = 80, payload: int = 0, **ip: Any,
) -> Packet:  # fmt: skip
    """An L3 packet: TCP SYN unless `l4` or `proto` says otherwise; `ip` are fields of the IP header."""
    proto = proto or (PROTO_UDP if isinstance(l4, Udp) else PROTO_ICMP if isinstance(l4, Icmp) else PROTO_TCP)
    if l4 is None and proto == PROTO_UDP:
        l4 = Udp(sport, dport, 8 + payload)
    elif l4 is None and proto == PROTO_ICMP:
        l4 = Icmp(8)
    elif l4 is None and proto == PROTO_TCP and not ip.get("offset"):
        l4 = Tcp(sport, dport, "S", mss=1460)
    header = Ip(IPv4(src), IPv4(dst), proto, 0, **{"ttl": 64, **ip})
    return ip_packet(header, *([] if l4 is None or ip.get("offset") else [l4]), payload=payload)


def seen(
    iif: str = "eth0", oif: str = "", *, mark: int = 0, now: int = 0, state: dict[object, object] | None = None,
    choose: Dice | None = None, conn: Any = None, ctstate: str = "NEW", ctdir: str = "ORIGINAL", mtu: int = 1500,
    eth: Any = None, physin: str = "", physout: str = "", **about: Any,
) -> Seen:  # fmt: skip
    """What a rule sees of `packet(**about)`."""
    s = Seen(
        packet(**about), iif, oif, tables=Around(mtu), state={} if state is None else state, choose=choose or Dice(),
        mark=mark, now=now,
    )  # fmt: skip
    s.conn, s.ctstate, s.ctdir, s.eth, s.physin, s.physout = conn, ctstate, ctdir, eth, physin, physout
    return s


def matches(words: str, s: Seen) -> bool:
    """Whether a rule with those words matches; both orders of its tests must agree."""
    rule = parse_rule(f"-A X {words}")
    plain = chained(rule.conditions())(s)
    if not {"statistic", "recent", "limit"} & {m.name for m in rule.matches} and s.l4 is not None:
        assert chained(cheapest_first(rule.conditions()))(s) == plain
    return plain


def conn(status: int = 0, mark: int = 0, expires: int = 0, **ends: Any) -> Any:
    """A connection 10.0.0.2:4000 > 10.96.0.1:80 that was DNATed to 10.0.1.3:8080."""
    original = {"src": IPv4("10.0.0.2"), "dst": IPv4("10.96.0.1"), "proto": 6, "sport": 4000, "dport": 80, **ends}
    reply = {"src": IPv4("10.0.1.3"), "dst": IPv4("10.0.0.2"), "proto": 6, "sport": 8080, "dport": 4000}
    return SimpleNamespace(
        status=status, mark=mark, expires=expires, original=SimpleNamespace(**original), reply=SimpleNamespace(**reply)
    )


def ruleset(*lines: str, table: str = "filter", policy: str = "ACCEPT") -> Ruleset:
    """Rules of one table; chains are made as they are named, `policy` is that of the built-in ones."""
    made = Ruleset()
    t = made.table(table)
    for chain in t.chains.values():
        chain.policy = policy
    rules = [parse_rule(line) for line in lines]
    for rule in rules:
        t.chain(rule.chain)
    for rule in rules:
        t.append(rule)
    return made


def walk(rules: Ruleset, s: Seen, hook: str = "FORWARD", table: str = "filter") -> Verdict:
    return rules.traverse(table, hook, s)


def places(s: Seen) -> list[str]:
    """The rules that matched, as `CHAIN:NUMBER`."""
    return [f"{hit.chain}:{hit.number}" for hit in s.hits]
