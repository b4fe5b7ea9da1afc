"""Devices, bridges, ARP, vxlan: small networks and what to send through them. Each is compared with the kernel."""

from __future__ import annotations

from typing import Any

from packetwalk.addr import Mac
from packetwalk.netns.device import Dummy
from tests.kernel.lab import Asked, Lab, line, probe

ARP_TIME = 3.4  # seconds: three questions one second apart, then host unreachable


def switched(hosts: int = 3, **port: Any) -> Lab:
    """Hosts h1, h2, ... on one switch, 10.0.0.1 and so on."""
    lab = Lab()
    for n in range(1, hosts + 1):
        lab.wire(f"h{n} eth0 10.0.0.{n}/24", f"sw p{n}")
        lab[f"h{n}"].listen(80)
    lab.bridge("sw", " ".join(f"p{n}" for n in range(1, hosts + 1)), **port)
    return lab


def loopback() -> Asked:
    lab = line()
    return lab, [
        probe(f"{kind} b 127.0.0.1{port}") for kind, port in (("icmp", ""), ("udp", ":80"), ("tcp", ":80"))
    ] + [
        probe("icmp b 10.0.2.2"),
        probe("udp b 10.0.2.2:9"),
        probe("icmp b 127.1.2.3"),
    ]


def bridge_learning_and_flooding() -> Asked:
    return switched(), [probe("icmp h1 10.0.0.2"), probe("icmp h2 10.0.0.1"), probe("tcp h3 10.0.0.1:80")]


def bridge_without_learning() -> Asked:
    return switched(learning=False), [probe("icmp h1 10.0.0.2"), probe("icmp h2 10.0.0.1")]


def bridge_without_flooding() -> Asked:
    return switched(flood=False), [probe("icmp h1 10.0.0.2"), probe("udp h2 10.0.0.1:80")]


def bridge_without_broadcast() -> Asked:
    return switched(bcast_flood=False), [probe("icmp h1 10.0.0.2")]


def bridge_hairpin_reflects_broadcasts() -> Asked:
    return switched(hairpin=True), [probe("icmp h1 10.0.0.2"), probe("icmp h1 10.0.0.9", timeout=ARP_TIME)]


def bridge_isolated_ports() -> Asked:
    return switched(isolated=True), [probe("icmp h1 10.0.0.2")]


def bridge_static_entry_points_elsewhere() -> Asked:
    lab = switched()
    lab["sw"].fdb_append("p3", lab["h2"].devices["eth0"].mac)
    return lab, [probe("icmp h1 10.0.0.2")]


def bridge_as_gateway() -> Asked:
    """A bridge with an address: what is for it goes up, what is between ports stays below."""
    lab = switched(2)
    lab["sw"].addr_add("br0", "10.0.0.254/24")
    lab["sw"].sysctl("net.ipv4.ip_forward", 1)
    lab.wire("sw eth9 10.9.0.1/24", "x eth0 10.9.0.2/24")
    for room, via in (("h1", "10.0.0.254"), ("x", "10.9.0.1")):
        lab[room].route_add("default", via=via)
    return lab, [
        probe("icmp h1 10.0.0.254"),
        probe("icmp h1 10.9.0.2"),
        probe("udp h1 10.0.0.2:80"),
        probe("icmp h1 10.9.0.2", size=3000),
    ]


def bridge_port_that_is_down() -> Asked:
    lab = switched()
    lab["sw"].link_set("p2", up=False)
    return lab, [probe("icmp h1 10.0.0.2"), probe("icmp h1 10.0.0.3")]


def bridge_whose_far_end_is_down(ports: int = 1, **sysctls: int) -> Asked:
    """A gateway's bridge without a carrier: who asks for whom, and what its own broadcasts get."""
    lab = Lab()
    lab.wire("a eth0 10.0.1.2/24", "n p1")
    if ports > 1:
        lab.wire("b eth0 10.0.1.3/24", "n p2")
    lab.wire("n eth0 10.0.9.1/24", "m eth0 10.0.9.2/24")
    lab.bridge("n", " ".join(f"p{n + 1}" for n in range(ports)), "10.0.1.1/24")
    lab["m"].route_add("default", via="10.0.9.1")
    lab.router("n")
    for key, value in sysctls.items():
        lab["n"].sysctl(f"net.ipv4.conf.br0.{key}", value)
    lab.network.link_set("a", "eth0", up=False)
    return lab, [
        probe("icmp m 10.0.1.2", timeout=ARP_TIME),
        probe("icmp m 10.0.1.2"),
        probe("icmp n 10.0.1.2", timeout=ARP_TIME),
        probe("icmp n 10.0.1.255"),
        probe("icmp m 10.0.1.255"),
        probe("icmp m 10.0.1.1"),
        probe("udp m 10.0.1.2:80", timeout=ARP_TIME),
    ]


def bridge_one_of_whose_far_ends_is_down() -> Asked:
    return bridge_whose_far_end_is_down(ports=2)


def bridge_whose_far_end_is_down_and_heeded() -> Asked:
    return bridge_whose_far_end_is_down(ignore_routes_with_linkdown=1)


def bridge_port_with_small_mtu() -> Asked:
    """is_skb_forwardable: what does not fit is dropped without a word."""
    lab = switched(2)
    for room, dev in (("sw", "p2"), ("h2", "eth0")):
        lab[room].link_set(dev, mtu=1000)
    lab["sw"].link_set("br0", mtu=1000)
    return lab, [probe("icmp h1 10.0.0.2"), probe("icmp h1 10.0.0.2", size=1200), probe("icmp h2 10.0.0.1", size=1200)]


def two_bridges_in_a_row() -> Asked:
    lab = switched(2)
    lab.wire("sw up", "sw2 down")
    lab["sw"].link_set("up", master="br0")
    lab.wire("h9 eth0 10.0.0.9/24", "sw2 p9")
    lab.bridge("sw2", "down p9")
    return lab, [probe("icmp h9 10.0.0.1"), probe("udp h1 10.0.0.9:80")]


def arp_fails_after_three_questions() -> Asked:
    return switched(2), [
        probe("icmp h1 10.0.0.9", timeout=ARP_TIME),
        probe("udp h1 10.0.0.9:80", timeout=ARP_TIME),
        probe("tcp h1 10.0.0.9:80", timeout=ARP_TIME),
    ]


def arp_fails_at_a_router() -> Asked:
    return line(), [probe("icmp a 10.0.2.9", timeout=ARP_TIME), probe("tcp a 10.0.2.9:80", timeout=ARP_TIME)]


def arp_queue_keeps_all_fragments() -> Asked:
    return line(), [probe("icmp a 10.0.2.2", size=6000), probe("udp b 10.0.1.2:80", size=6000)]


def arp_permanent_and_wrong() -> Asked:
    lab = switched(2)
    lab["h1"].neigh_add("10.0.0.2", "02:00:00:00:99:99", "eth0")
    return lab, [probe("icmp h1 10.0.0.2"), probe("icmp h2 10.0.0.1")]


def proxy_arp_answers_for_what_is_elsewhere() -> Asked:
    lab = line()
    lab["a"].route_del("default")
    lab["a"].route_add("default", dev="eth0")
    lab["r"].sysctl("net.ipv4.conf.eth0.proxy_arp", 1)
    return lab, [probe("icmp a 10.0.2.2"), probe("icmp a 10.0.1.9"), probe("icmp a 198.51.100.1")]


def proxy_arp_for_link_local_needs_a_route() -> Asked:
    """real-kernel.md 19 and 33."""
    lab = Lab()
    lab.wire("p eth0 10.1.0.5/32", "n cali0")
    lab.wire("n eth0 10.2.0.1/24", "x eth0 10.2.0.2/24")
    lab["p"].route_add("169.254.1.1", dev="eth0", scope="link")
    lab["p"].route_add("default", via="169.254.1.1", dev="eth0")
    lab["n"].route_add("10.1.0.5", dev="cali0", scope="link")
    lab["n"].sysctl("net.ipv4.conf.cali0.proxy_arp", 1)
    lab.router("n")
    lab["x"].route_add("default", via="10.2.0.1")
    return lab, [probe("icmp p 10.2.0.2"), probe("icmp x 10.1.0.5")]


def proxy_arp_for_link_local_with_default_route() -> Asked:
    lab, _ = proxy_arp_for_link_local_needs_a_route()
    lab["n"].route_add("default", via="10.2.0.2")
    return lab, [probe("icmp p 10.2.0.2"), probe("icmp x 10.1.0.5")]


def proxy_entries() -> Asked:
    lab = line()
    lab["r"].neighbours.proxies.add(("eth0", int(lab["b"].devices["eth0"].addrs[0].local)))
    lab["a"].route_add("10.0.2.0/24", dev="eth0")
    return lab, [probe("icmp a 10.0.2.2"), probe("icmp a 10.0.2.9")]


def two_legs(**sysctls: int) -> Lab:
    """h asks r, which has an address on another leg: who may answer, and with which address."""
    lab = Lab()
    lab.wire("h eth0 10.0.0.1/24", "r eth0 10.0.0.2/24")
    lab.wire("r eth1 10.0.5.2/24", "x eth0 10.0.5.1/24")
    lab["h"].route_add("10.0.5.0/24", dev="eth0")
    for key, value in sysctls.items():
        lab["r"].sysctl(f"net.ipv4.conf.all.{key}", value)
    return lab


def arp_ignore_off() -> Asked:
    return two_legs(), [probe("icmp h 10.0.5.2"), probe("icmp h 10.0.0.2")]


def arp_ignore_one() -> Asked:
    return two_legs(arp_ignore=1), [probe("icmp h 10.0.5.2"), probe("icmp h 10.0.0.2")]


def arp_ignore_two() -> Asked:
    lab = two_legs(arp_ignore=2)
    lab["h"].addr_add("eth0", "10.0.7.1/24")
    return lab, [probe("icmp h 10.0.0.2"), probe("icmp h 10.0.0.2", bind="10.0.7.1")]


def arp_ignore_eight() -> Asked:
    return two_legs(arp_ignore=8), [probe("icmp h 10.0.0.2")]


def arp_filter() -> Asked:
    return two_legs(arp_filter=1), [probe("icmp h 10.0.5.2"), probe("icmp h 10.0.0.2")]


def arp_announce(level: int) -> Asked:
    lab = two_legs()
    lab["h"].addr_add("eth0", "10.0.7.1/24")
    lab["h"].sysctl("net.ipv4.conf.all.arp_announce", level)
    return lab, [probe("icmp h 10.0.0.2", bind="10.0.7.1"), probe("icmp h 10.0.0.9", bind="10.0.7.1")]


def arp_announce_zero() -> Asked:
    return arp_announce(0)


def arp_announce_one() -> Asked:
    return arp_announce(1)


def arp_announce_two() -> Asked:
    return arp_announce(2)


def unnumbered_asks_with_another_devices_address() -> Asked:
    """real-kernel.md 9: the first suitable address in device order."""
    lab = Lab()
    lab.wire("n eth0 10.2.0.1/24", "x eth0 10.2.0.2/24")
    lab.wire("n cali0", "p eth0 10.1.0.5/24")
    lab["n"].route_add("10.1.0.5", dev="cali0", scope="link")
    lab["p"].route_add("default", dev="eth0")
    return lab, [probe("icmp n 10.1.0.5"), probe("icmp p 10.2.0.1")]


def dummy_takes_everything() -> Asked:
    lab = line()
    lab["r"].link_add("dummy0", Dummy(mac=Mac("02:00:00:00:77:77")))
    lab["r"].addr_add("dummy0", "10.7.0.1/24")
    return lab, [probe("icmp a 10.7.0.1"), probe("icmp a 10.7.0.2")]


def overlay(**about: Any) -> Lab:
    """n1 and n2 with an underlay router between them and a vxlan over it: 10.50.0.1 and 10.50.0.2."""
    lab = Lab()
    lab.wire("n1 eth0 10.0.1.2/24", "r eth0 10.0.1.1/24")
    lab.wire("n2 eth0 10.0.2.2/24", "r eth1 10.0.2.1/24")
    lab.router("r", "n1", "n2")
    usual: dict[str, Any] = {"vni": 7, "dport": 4789, "mtu": 1450}
    for n, far in ((1, 2), (2, 1)):
        lab[f"n{n}"].route_add("default", via=f"10.0.{n}.1")
        ends = {"local": f"10.0.{n}.2", "remote": f"10.0.{far}.2"}
        lab.vxlan(f"n{n}", f"10.50.0.{n}/24", **{**usual, **ends, **about})
        lab[f"n{n}"].listen(80)
    return lab


def vxlan_with_a_default_remote() -> Asked:
    return overlay(), [
        probe("icmp n1 10.50.0.2"),
        probe("icmp n2 10.50.0.1"),
        probe("tcp n1 10.50.0.2:80"),
        probe("udp n2 10.50.0.1:80"),
    ]


def static_overlay() -> Lab:
    """Flannel's manner: no learning, a neighbour and an FDB entry for the far node, a pod behind each."""
    lab = overlay(learning=False, remote="0.0.0.0")
    for n, far in ((1, 2), (2, 1)):
        mac = lab[f"n{far}"].devices["vx0"].mac
        lab[f"n{n}"].neigh_add(f"10.50.0.{far}", mac, "vx0")
        lab[f"n{n}"].fdb_append("vx0", mac, dst=f"10.0.{far}.2")
        lab.wire(f"p{n} eth0 10.60.{n}.2/24", f"n{n} veth0 10.60.{n}.1/24")
        lab[f"p{n}"].route_add("default", via=f"10.60.{n}.1")
        lab[f"n{n}"].route_add(f"10.60.{far}.0/24", via=f"10.50.0.{far}", dev="vx0", onlink=True)
        lab[f"p{n}"].listen(80)
    return lab


def vxlan_static() -> Asked:
    return static_overlay(), [
        probe("icmp p1 10.60.2.2"),
        probe("tcp p1 10.60.2.2:80"),
        probe("udp p2 10.60.1.2:80"),
        probe("icmp p1 10.60.2.2", size=1472),
        probe("icmp p1 10.60.2.2", size=1472, df=True),
        probe("icmp p1 10.60.2.2", ttl=2),
        probe("icmp p1 10.60.2.2", ttl=1),
    ]


def vxlan_without_an_entry() -> Asked:
    """real-kernel.md 17 and 34."""
    lab = overlay(learning=False, remote="0.0.0.0")
    return lab, [probe("icmp n1 10.50.0.2", timeout=ARP_TIME)]


def vxlan_wrong_vni() -> Asked:
    lab = static_overlay()
    lab["n2"].devices["vx0"].vni = 8  # type: ignore[attr-defined]
    lab["n2"].changed()
    return lab, [probe("icmp p1 10.60.2.2")]


def vxlan_wrong_port() -> Asked:
    lab = static_overlay()
    lab["n2"].devices["vx0"].dport = 8472  # type: ignore[attr-defined]
    lab["n2"].changed()
    return lab, [probe("icmp p1 10.60.2.2")]


def vxlan_small_underlay() -> Lab:
    lab = static_overlay()
    for room, dev in (("r", "eth1"), ("n2", "eth0")):
        lab[room].link_set(dev, mtu=1400)
    return lab


BIG = [
    probe("icmp p1 10.60.2.2", size=1400),
    probe("icmp p1 10.60.2.2", size=1400, df=True),
    probe("udp p2 10.60.1.2:80", size=1400),
]


def vxlan_outer_fragments() -> Asked:
    return vxlan_small_underlay(), BIG


def vxlan_df_set() -> Asked:
    """real-kernel.md 24."""
    lab = vxlan_small_underlay()
    for room in ("n1", "n2"):
        lab[room].devices["vx0"].df = "set"  # type: ignore[attr-defined]
    return lab, [*BIG, probe("icmp p1 10.60.2.2", size=1400)]


def vxlan_df_inherit() -> Asked:
    lab = vxlan_small_underlay()
    for room in ("n1", "n2"):
        lab[room].devices["vx0"].df = "inherit"  # type: ignore[attr-defined]
    return lab, [*BIG, probe("icmp p1 10.60.2.2", size=1400)]


def vxlan_ttl_and_tos() -> Asked:
    return overlay(ttl=9, tos=16), [probe("icmp n1 10.50.0.2"), probe("icmp n1 10.50.0.2", ttl=3)]


def vxlan_ttl_inherit() -> Asked:
    """real-kernel.md 23."""
    return overlay(ttl_inherit=True, tos_inherit=True), [
        probe("icmp n1 10.50.0.2"),
        probe("icmp n1 10.50.0.2", ttl=1),
        probe("icmp n1 10.50.0.2", ttl=2),
    ]


def vxlan_as_a_bridge_port() -> Asked:
    """Layer 2 over layer 3: two switches joined by a vxlan, a host behind each."""
    lab = overlay(mtu=1500)
    for n in (1, 2):
        lab.wire(f"h{n} eth0 10.70.0.{n}/24", f"n{n} p0")
        lab.bridge(f"n{n}", "p0 vx0")
    return lab, [probe("icmp h1 10.70.0.2"), probe("icmp h2 10.70.0.1"), probe("icmp h1 10.70.0.2", size=3000)]


LABS = {
    lab.__name__: lab
    for lab in (
        loopback, bridge_learning_and_flooding, bridge_without_learning, bridge_without_flooding,
        bridge_without_broadcast, bridge_hairpin_reflects_broadcasts, bridge_isolated_ports,
        bridge_static_entry_points_elsewhere, bridge_as_gateway, bridge_port_that_is_down, bridge_port_with_small_mtu,
        bridge_whose_far_end_is_down, bridge_one_of_whose_far_ends_is_down, bridge_whose_far_end_is_down_and_heeded,
        two_bridges_in_a_row, arp_fails_after_three_questions, arp_fails_at_a_router, arp_queue_keeps_all_fragments,
        arp_permanent_and_wrong, proxy_arp_answers_for_what_is_elsewhere, proxy_arp_for_link_local_needs_a_route,
        proxy_arp_for_link_local_with_default_route, proxy_entries, arp_ignore_off, arp_ignore_one, arp_ignore_two,
        arp_ignore_eight, arp_filter, arp_announce_zero, arp_announce_one, arp_announce_two,
        unnumbered_asks_with_another_devices_address, dummy_takes_everything, vxlan_with_a_default_remote, vxlan_static,
        vxlan_without_an_entry, vxlan_wrong_vni, vxlan_wrong_port, vxlan_outer_fragments, vxlan_df_set,
        vxlan_df_inherit, vxlan_ttl_and_tos, vxlan_ttl_inherit, vxlan_as_a_bridge_port,
    )
}  # fmt: skip
