"""Routes and rules as text: what `ip route` and `ip rule` of this machine print, line by line."""

from __future__ import annotations

import json
from pathlib import Path

from packetwalk.addr import IPv4, Prefix
from packetwalk.netns.fib_table import Nexthop, Route
from packetwalk.snapshot.iproute import read_route, read_rule
from packetwalk.snapshot.reader import Record
from tests.netns.rooms import real

# -- what ip prints ---------------------------------------------------------------------------------------------------

DEVICES = """
ip link add e0 address 02:00:00:00:00:01 type veth peer name e1
ip link add e2 type veth peer name e3
for d in lo e0 e1 e2; do ip link set $d up; done
ip addr add 10.4.0.1/24 dev e0
ip addr add 10.4.2.1/30 dev e1
ip addr add 10.4.3.1/24 dev e2
"""
ROUTE_LINES = """
default via 10.4.0.254 dev e0
default via 10.4.0.253 dev e0 proto static metric 100
10.5.0.0/16 via 10.4.0.9 dev e0 src 10.4.0.1 mtu 1400 advmss 900
10.6.0.0/16 via 10.4.0.9 dev e0 mtu 1300
10.7.0.0/16 via 1.2.3.4 dev e0 onlink
10.8.0.0/16 dev e1 scope link
10.8.0.0/16 dev e1 tos 0x10 scope link
10.8.0.7 dev e1 scope host
10.9.0.0/16 via 10.4.3.7 dev e2
10.10.0.0/16 nexthop via 10.4.0.9 dev e0 weight 1 nexthop via 10.4.2.2 dev e1 weight 3
10.11.0.0/16 nexthop via 10.4.0.9 dev e0 weight 1 nexthop via 1.2.3.4 dev e1 weight 2 onlink
10.12.0.0/16 nexthop via 10.4.0.9 dev e0 weight 1 nexthop via 10.4.3.9 dev e2 weight 1
blackhole 10.13.0.0/16
unreachable default metric 4278198272
prohibit 10.14.0.0/16 table 100
throw 10.15.0.0/16 table 100 proto static
10.16.0.0/16 via 10.4.0.9 dev e0 table 100 proto bird metric 32
10.17.0.0/16 via 10.4.0.9 dev e0 table default
local 10.18.0.0/16 dev lo table local
broadcast 10.19.0.255 dev e0 table local
"""
RULE_LINES = """
not from 10.0.0.0/8 to 1.2.3.4 fwmark 0x10/0xff iif e0 lookup 100
pref 40 fwmark 0/0xff lookup 100
pref 41 oif e0 ipproto tcp dport 80-90 sport 5 prohibit
pref 50 goto 32766
pref 51 nop
pref 52 tos 0x10 unreachable
pref 53 fwmark 1 lookup 9999 suppress_prefixlength 3
pref 55 from 10.0.0.1 blackhole
pref 57 ipproto udp lookup default
pref 58 ipproto icmp lookup local
"""


def words(text: str) -> list[str]:
    """Lines with single spaces; the next hops of one route joined to its line."""
    joined = text.replace("\n\t", " ").replace("\\", " ")
    return [" ".join(line.split()) for line in joined.splitlines() if line.strip()]


def records(text: str) -> list[Record]:
    return [Record(o, Path("-"), "-") for o in json.loads(text)]


def test_routes_are_printed_as_ip_prints_them() -> None:
    """print_route of iproute2, compared line by line on this machine."""
    adds = "\n".join(f"ip route add {line}" for line in ROUTE_LINES.strip().splitlines())
    show = "ip -4 route show table all"
    text, _, as_json = real(f"{DEVICES}{adds}\n{show}\necho ====\nip -4 -j route show table all").partition("====\n")
    mine = [" ".join(str(read_route(r)).split()) for r in records(as_json)]
    assert mine == words(text)


def test_rules_are_printed_as_ip_prints_them() -> None:
    """print_rule of iproute2, compared line by line on this machine."""
    adds = "\n".join(f"ip rule add {line}" for line in RULE_LINES.strip().splitlines())
    text, _, as_json = real(f"{DEVICES}{adds}\nip -4 rule\necho ====\nip -4 -j rule").partition("====\n")
    mine = [" ".join(str(read_rule(r)).split()) for r in records(as_json)]
    assert mine == words(text)


def test_a_rule_by_any_protocol_is_read() -> None:
    """`ip -j rule` names a protocol as /etc/protocols does, not only tcp, udp and icmp."""
    as_json = real("for n in 1 4 6 17 47 132; do ip rule add pref $n ipproto $n blackhole; done; ip -4 -j rule")
    read = [read_rule(r) for r in records(as_json)]
    assert [r.proto for r in read if r.action == "blackhole"] == [1, 4, 6, 17, 47, 132]


def test_a_locked_mtu_is_printed_as_locked() -> None:
    """print_rta_metrics; `ip -j` of iproute2 6.1 leaves the word out, so this is checked here alone."""
    locked = Route(Prefix.parse("10.6.0.0/16"), (Nexthop("e0", IPv4("10.4.0.9")),), mtu=1400, mtu_locked=True)
    assert str(locked) == "10.6.0.0/16 via 10.4.0.9 dev e0 mtu lock 1400"
