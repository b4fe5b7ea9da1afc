"""Routes, policy rules, sources, the reverse path filter, links that are down: small networks and what to send through
them."""

from __future__ import annotations

from packetwalk.addr import IPv4, Prefix
from tests.kernel.lab import Asked, Lab, line, probe

LONG = 3.4  # seconds: for what is asked or sent again


def route_types() -> Asked:
    lab = line()
    for n, kind in enumerate(("blackhole", "unreachable", "prohibit", "throw")):
        lab["r"].route_add(f"10.9.{n}.0/24", type=kind)
    lab["r"].route_add("10.9.9.9/32", type="local", dev="lo", table="local", scope="host")
    targets = [f"10.9.{n}.1" for n in range(5)] + ["10.9.9.9"]
    return lab, [probe(f"icmp a {t}") for t in targets] + [
        probe("udp a 10.9.1.1:80"),
        probe("tcp a 10.9.2.1:80", timeout=1.5),
    ]


def route_types_for_ones_own_packets() -> Asked:
    """real-kernel.md 31."""
    lab = line()
    for n, kind in enumerate(("blackhole", "unreachable", "prohibit", "throw")):
        lab["a"].route_add(f"10.9.{n}.0/24", type=kind)
    lab["a"].route_del("default")
    return lab, [
        probe(f"{kind} a 10.9.{n}.1{port}")
        for n in range(5)
        for kind, port in (("icmp", ""), ("udp", ":80"), ("tcp", ":80"))
    ]


def longest_prefix_then_metric() -> Asked:
    lab = Lab()
    for n in (1, 2, 3):
        lab.wire(f"r eth{n} 10.0.{n}.1/24", f"h{n} eth0 10.0.{n}.2/24")
        lab[f"h{n}"].route_add("default", via=f"10.0.{n}.1")
        lab[f"h{n}"].addr_add("lo", "10.9.1.1/32")
    lab.router("r")
    lab["r"].route_add("10.9.0.0/16", via="10.0.2.2", metric=10)
    lab["r"].route_add("10.9.0.0/16", via="10.0.3.2", metric=5)
    lab["r"].route_add("10.9.1.0/24", via="10.0.2.2", metric=50)
    return lab, [probe("icmp h1 10.9.1.1"), probe("icmp r 10.9.2.1"), probe("icmp r 10.9.1.1")]


def policy(priority: int, action: int | str, **selectors: object) -> Asked:
    """r2 is reached by a table of its own where a rule says so."""
    lab = Lab()
    lab.wire("a eth0 10.0.1.2/24", "r eth0 10.0.1.1/24")
    lab.wire("r eth1 10.0.2.1/24", "b eth0 10.0.2.2/24")
    lab.wire("r eth2 10.0.3.1/24", "c eth0 10.0.3.2/24")
    lab.router("r", "c")
    for room, via in (("a", "10.0.1.1"), ("b", "10.0.2.1"), ("c", "10.0.3.1")):
        lab[room].route_add("default", via=via)
    lab["r"].route_add("10.0.2.0/24", via="10.0.3.2", table=100)
    lab["b"].listen(80)
    lab["r"].rule_add(priority, action, **selectors)
    return lab, [
        probe("icmp a 10.0.2.2"),
        probe("udp a 10.0.2.2:80"),
        probe("tcp a 10.0.2.2:80"),
        probe("icmp r 10.0.2.2"),
    ]


def rule_from() -> Asked:
    return policy(100, 100, src=Prefix.parse("10.0.1.0/24"))


def rule_to() -> Asked:
    return policy(100, 100, dst=Prefix.parse("10.0.2.2/32"))


def rule_iif() -> Asked:
    return policy(100, 100, iif="eth0")


def rule_iif_lo() -> Asked:
    return policy(100, 100, iif="lo")


def rule_not() -> Asked:
    return policy(100, 100, src=Prefix.parse("10.0.2.0/24"), invert=True)


def rule_protocol_and_port() -> Asked:
    return policy(100, 100, proto=17, dport=(80, 80))


def rule_blackhole() -> Asked:
    return policy(100, "blackhole", dst=Prefix.parse("10.0.2.0/24"))


def rule_unreachable() -> Asked:
    return policy(100, "unreachable", dst=Prefix.parse("10.0.2.0/24"))


def rule_prohibit() -> Asked:
    return policy(100, "prohibit", dst=Prefix.parse("10.0.2.0/24"))


def rule_suppress_prefixlength() -> Asked:
    return policy(100, 254, suppress_prefixlen=24)


def source_hints() -> Asked:
    lab = line()
    lab["a"].addr_add("eth0", "10.0.1.3/24")
    lab["a"].addr_add("lo", "10.8.0.1/32")
    lab["a"].route_add("10.0.2.0/24", via="10.0.1.1", src="10.0.1.3")
    lab["r"].route_add("10.8.0.1/32", via="10.0.1.2")
    return lab, [
        probe("icmp a 10.0.2.2"),
        probe("icmp a 10.0.2.2", bind="10.8.0.1"),
        probe("icmp a 10.0.2.2", bind="10.8.0.9"),
        probe("tcp a 10.0.2.2:80", bind="10.0.1.2"),
    ]


def to_nobody_in_particular() -> Asked:
    """0.0.0.0 means this host (ip_route_output_key_hash_rcu)."""
    lab = line()
    return lab, [
        probe("icmp b 0.0.0.0"),
        probe("udp b 0.0.0.0:80"),
        probe("tcp b 0.0.0.0:80"),
        probe("tcp a 0.0.0.0:80"),
        probe("udp b 0.0.0.0:80", bind="10.0.2.2"),
    ]


def broadcasts() -> Asked:
    lab = line()
    return lab, [
        probe("icmp a 10.0.1.255"),
        probe("udp a 10.0.2.255:80"),
        probe("tcp a 10.0.1.255:80"),
        probe("icmp a 255.255.255.255"),
    ]


def broadcast_targets_answered() -> Asked:
    lab = line()
    lab["b"].sysctl("net.ipv4.icmp_echo_ignore_broadcasts", 0)
    lab["r"].sysctl("net.ipv4.conf.all.bc_forwarding", 1)
    lab["r"].sysctl("net.ipv4.conf.eth0.bc_forwarding", 1)
    lab["r"].sysctl("net.ipv4.conf.eth1.bc_forwarding", 1)
    return lab, [probe("icmp a 10.0.2.255"), probe("udp a 10.0.2.255:81")]


def rp_filter(everyone: int, own: int) -> Asked:
    """b's packets come in by a way that is not the way back (asymmetric), and from a source without any way back."""
    lab = Lab()
    lab.wire("a eth0 10.0.1.2/24", "r eth0 10.0.1.1/24")
    lab.wire("r eth1 10.0.2.1/24", "b eth0 10.0.2.2/24")
    lab["b"].addr_add("lo", "10.0.1.99/32")
    lab["b"].addr_add("lo", "10.77.0.1/32")
    lab["a"].route_add("default", via="10.0.1.1")
    lab["b"].route_add("default", via="10.0.2.1")
    lab.router("r")
    lab["r"].sysctl("net.ipv4.conf.all.rp_filter", everyone)
    lab["r"].sysctl("net.ipv4.conf.eth1.rp_filter", own)
    return lab, [
        probe("icmp b 10.0.1.2"),
        probe("icmp b 10.0.1.2", bind="10.0.1.99"),
        probe("icmp b 10.0.1.2", bind="10.77.0.1"),
    ]


def rp_filter_off() -> Asked:
    return rp_filter(0, 0)


def rp_filter_strict() -> Asked:
    return rp_filter(1, 0)


def rp_filter_loose_by_the_device() -> Asked:
    """real-kernel.md 18: the highest of the two."""
    return rp_filter(1, 2)


def own_address_as_source() -> Asked:
    """real-kernel.md 29, and what accept_local changes."""
    lab = line()
    lab["a"].addr_add("lo", "10.0.2.1/32")
    return lab, [probe("icmp a 10.0.2.2", bind="10.0.2.1")]


def accept_local() -> Asked:
    lab, probes = own_address_as_source()
    lab["r"].sysctl("net.ipv4.conf.eth0.accept_local", 1)
    return lab, probes


def martians() -> Asked:
    lab = line()
    for addr in ("127.0.0.5/32", "0.0.0.9/32"):
        lab["a"].addr_add("lo", addr)
    lab["r"].route_add("0.0.0.9/32", via="10.0.1.2")
    lab["a"].route_add("127.9.0.0/16", via="10.0.1.1", table=100)
    return lab, [
        probe("icmp a 10.0.2.2", bind="127.0.0.5"),
        probe("icmp a 0.1.2.3"),
        probe("icmp a 240.0.0.1"),
        probe("icmp a 10.0.2.2", bind="0.0.0.9"),
        probe("icmp a 10.0.2.1", bind="0.0.0.9"),
    ]


def a_local_route_of_ones_own() -> Asked:
    """A range that is local, with a subnet of it on a link: one trie until a rule is added (fib_unmerge)."""
    lab = line()
    lab["r"].route_add("10.0.0.0/16", type="local", dev="lo", table="local", scope="host")
    return lab, [probe("icmp a 10.0.2.2"), probe("icmp a 10.0.7.7"), probe("icmp a 10.0.1.7"), probe("icmp r 10.0.2.2")]


def a_local_route_and_a_rule() -> Asked:
    lab, probes = a_local_route_of_ones_own()
    lab["r"].rule_add(100, 254, src=Prefix.parse("10.99.0.0/16"))
    return lab, probes


def links_that_are_down() -> Asked:
    lab = line()
    lab["r"].link_set("eth1", up=False)
    return lab, [probe("icmp a 10.0.2.2"), probe("icmp a 10.0.2.1"), probe("icmp b 10.0.2.1", timeout=LONG)]


def carrier_lost() -> Asked:
    lab = line()
    lab["b"].link_set("eth0", up=False)
    return lab, [probe("icmp a 10.0.2.2"), probe("icmp r 10.0.2.2"), probe("icmp a 10.0.2.1")]


def a_broadcast_address_of_a_dark_link() -> Asked:
    """ignore_routes_with_linkdown takes it from the local table; a host of another link may have it then."""
    lab = Lab()
    lab.wire("n eth0 10.0.9.1/24", "m eth0 10.0.9.2/24")
    lab.wire("n eth1 10.0.5.1/24", "x eth0 10.0.9.255/16")
    lab["n"].route_add("10.0.9.255/32", dev="eth1")
    lab["m"].link_set("eth0", up=False)
    for dev in ("all", "eth0"):
        lab["n"].sysctl(f"net.ipv4.conf.{dev}.ignore_routes_with_linkdown", 1)
    return lab, [probe("icmp n 10.0.9.255"), probe("icmp n 10.0.9.255"), probe("icmp x 10.0.5.1")]


def carrier_lost_and_heeded() -> Asked:
    lab, probes = carrier_lost()
    lab["r"].sysctl("net.ipv4.conf.all.ignore_routes_with_linkdown", 1)
    return lab, probes


def one_address_in_two_places() -> Asked:
    lab = line()
    lab["r"].addr_add("eth0", "10.0.2.2/32")
    return lab, [probe("icmp a 10.0.2.2"), probe("icmp b 10.0.1.2"), probe("icmp r 10.0.2.2")]


def route_localnet() -> Asked:
    lab = line()
    lab["r"].sysctl("net.ipv4.conf.eth0.route_localnet", 1)
    lab["a"].sysctl("net.ipv4.conf.eth0.route_localnet", 1)
    lab["a"].route_add("127.0.9.0/24", via="10.0.1.1", table="local", type="unicast", src=str(IPv4("10.0.1.2")))
    return lab, [probe("icmp a 127.0.9.1")]


LABS = {
    lab.__name__: lab
    for lab in (
        route_types, route_types_for_ones_own_packets, longest_prefix_then_metric, rule_from, rule_to, rule_iif,
        rule_iif_lo, rule_not, rule_protocol_and_port, rule_blackhole, rule_unreachable, rule_prohibit,
        rule_suppress_prefixlength, source_hints, to_nobody_in_particular, broadcasts, broadcast_targets_answered,
        rp_filter_off, rp_filter_strict, rp_filter_loose_by_the_device, own_address_as_source, accept_local, martians,
        a_local_route_of_ones_own, a_local_route_and_a_rule, links_that_are_down, carrier_lost,
        carrier_lost_and_heeded, a_broadcast_address_of_a_dark_link, one_address_in_two_places, route_localnet,
    )
}  # fmt: skip
