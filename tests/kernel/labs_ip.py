"""Forwarding, ICMP, path MTUs, fragments, endpoints: small networks and what to send through them."""

from __future__ import annotations

from itertools import pairwise

from tests.kernel.lab import Asked, Lab, line, probe

LONG = 3.4  # seconds: for what is asked or sent again


def chain(routers: int = 3) -> Lab:
    """a - r1 - ... - rN - b."""
    lab = Lab()
    names = ["a", *(f"r{n}" for n in range(1, routers + 1)), "b"]
    for n, (left, right) in enumerate(pairwise(names)):
        lab.wire(f"{left} right 10.0.{n}.1/24", f"{right} left 10.0.{n}.2/24")
    for n, name in enumerate(names):
        for far in range(routers + 1):
            if far > n:
                lab[name].route_add(f"10.0.{far}.0/24", via=f"10.0.{n}.2")
            elif far < n - 1:
                lab[name].route_add(f"10.0.{far}.0/24", via=f"10.0.{n - 1}.1")
    lab.router(*names[1:-1])
    lab["b"].listen(80)
    return lab


def forwarding_and_ttl() -> Asked:
    lab = chain()
    return lab, [
        probe("icmp a 10.0.3.2"),
        probe("tcp a 10.0.3.2:80"),
        *(probe("icmp a 10.0.3.2", ttl=n) for n in (1, 2, 3, 4)),
        probe("udp a 10.0.3.2:80", ttl=2),
        probe("udp a 10.0.3.2:80", ttl=4),
    ]


def time_exceeded_while_connecting() -> Asked:
    return chain(), [probe("tcp a 10.0.3.2:80", ttl=2, timeout=1.6)]


def a_routing_loop_ends_by_ttl() -> Asked:
    lab = chain(2)
    lab["r2"].route_add("10.9.0.0/24", via="10.0.1.1")
    lab["r1"].route_add("10.9.0.0/24", via="10.0.1.2")
    lab["a"].route_add("10.9.0.0/24", via="10.0.0.2")
    return lab, [probe("icmp a 10.9.0.1", ttl=9), probe("icmp a 10.9.0.1", ttl=8, size=2000)]


def forwarding_off() -> Asked:
    """real-kernel.md 28."""
    lab = line()
    lab["r"].sysctl("net.ipv4.ip_forward", 0)
    return lab, [probe("icmp a 10.0.2.2"), probe("icmp a 10.0.2.1")]


def forwarding_off_on_one_device() -> Asked:
    lab = line()
    lab["r"].sysctl("net.ipv4.conf.eth0.forwarding", 0)
    return lab, [probe("icmp a 10.0.2.2"), probe("icmp b 10.0.1.2")]


def redirects(**sysctls: int) -> Asked:
    """r1 is told of r2 on the same link: it forwards back and says so, ever more seldom."""
    lab = Lab()
    lab.wire("a eth0 10.0.1.2/24", "sw p1")
    lab.wire("r1 eth0 10.0.1.1/24", "sw p2")
    lab.wire("r2 eth0 10.0.1.3/24", "sw p3")
    lab.wire("r2 eth1 10.0.2.1/24", "b eth0 10.0.2.2/24")
    lab.bridge("sw", "p1 p2 p3")
    lab["a"].route_add("default", via="10.0.1.1")
    lab["b"].route_add("default", via="10.0.2.1")
    lab["r1"].route_add("10.0.2.0/24", via="10.0.1.3")
    lab.router("r1", "r2")
    for key, value in sysctls.items():
        for room in ("a", "r1"):
            lab[room].sysctl(f"net.ipv4.conf.all.{key}", value)
            lab[room].sysctl(f"net.ipv4.conf.eth0.{key}", value)
    return lab, [probe("icmp a 10.0.2.2"), probe("icmp a 10.0.2.2"), probe("icmp a 10.0.2.2"), probe("icmp a 10.0.2.9")]


def redirects_are_sent_and_taken() -> Asked:
    return redirects()


def redirects_are_ignored() -> Asked:
    return redirects(accept_redirects=0)


def redirects_are_not_sent() -> Asked:
    return redirects(send_redirects=0)


def redirects_by_two_routers(**sysctls: int) -> Asked:
    """Two routers on one link send to each other what nobody is there for, and both tell the sender, each at its own
    pace."""
    lab = Lab()
    for n, (room, addr) in enumerate((("a", "10.0.1.2"), ("r1", "10.0.1.1"), ("r2", "10.0.1.3")), 1):
        lab.wire(f"{room} eth0 {addr}/24", f"sw p{n}")
        for key, value in sysctls.items():
            lab[room].sysctl(f"net.ipv4.conf.all.{key}", value)
            lab[room].sysctl(f"net.ipv4.conf.eth0.{key}", value)
    lab.bridge("sw", "p1 p2 p3")
    lab.router("r1", "r2")
    for room, via in (("a", "10.0.1.1"), ("r1", "10.0.1.3"), ("r2", "10.0.1.1")):
        lab[room].route_add("10.0.2.0/24", via=via)
    far = ["10.0.2.2", "10.0.2.2", "10.0.2.3", *["10.0.2.2"] * 5]
    return lab, [*(probe(f"icmp a {dst}", ttl=9) for dst in far), probe("udp a 10.0.2.4:80", ttl=64)]


def redirects_without_shared_media() -> Asked:
    """secure_redirects: only to a router that some route names already."""
    return redirects_by_two_routers(shared_media=0)


def redirects_to_any_router() -> Asked:
    return redirects_by_two_routers(shared_media=0, secure_redirects=0)


def narrow(mtu: int = 1400) -> Lab:
    """chain() with a narrow link in its middle."""
    lab = chain()
    lab["r1"].link_set("right", mtu=mtu)
    lab["r2"].link_set("left", mtu=mtu)
    return lab


def path_mtu_is_learned() -> Asked:
    """real-kernel.md 12."""
    return narrow(), [
        probe("icmp a 10.0.3.2", size=1472),
        probe("icmp a 10.0.3.2", size=1472),
        probe("icmp a 10.0.3.2", size=1472, df=True),
        probe("udp a 10.0.3.2:80", size=1472),
        probe("icmp a 10.0.3.2", size=1372, df=True),
    ]


def path_mtu_and_the_four_ways_to_ask() -> Asked:
    return narrow(), [
        probe("udp a 10.0.3.2:80", size=1472, df=mode) if mode is not None else probe("udp a 10.0.3.2:80", size=1472)
        for mode in (False, "probe", True, None, True, "probe", False)
    ]


def path_mtu_below_the_least() -> Asked:
    """min_pmtu: 552, and a lock instead of DF below it; also for what TCP says."""
    return narrow(500), [
        probe("icmp a 10.0.3.2", size=1000, df=True),
        probe("icmp a 10.0.3.2", size=1000),
        probe("icmp a 10.0.3.2", size=540),
        probe("icmp b 10.0.0.1", size=1000, df=True),
        probe("tcp a 10.0.3.2:80"),
    ]


def no_pmtu_disc() -> Asked:
    lab = narrow()
    lab["a"].sysctl("net.ipv4.ip_no_pmtu_disc", 1)
    lab["b"].sysctl("net.ipv4.ip_no_pmtu_disc", 1)
    return lab, [probe("tcp a 10.0.3.2:80"), probe("icmp a 10.0.3.2", size=1472), probe("udp a 10.0.3.2:80", size=1472)]


def forwarding_by_the_learned_mtu() -> Asked:
    lab = narrow()
    lab["r1"].sysctl("net.ipv4.ip_forward_use_pmtu", 1)
    return lab, [probe("icmp a 10.0.3.2", size=1472), probe("icmp a 10.0.3.2", size=1472, df=False)]


def route_mtu() -> Asked:
    lab = line()
    lab["a"].route_add("10.0.2.0/24", via="10.0.1.1", mtu=1200)
    return lab, [
        probe("icmp a 10.0.2.2", size=1300),
        probe("icmp a 10.0.2.2", size=1300, df=True),
        probe("tcp a 10.0.2.2:80"),
    ]


def fragments() -> Asked:
    """real-kernel.md 27: a router fragments each fragment by itself."""
    lab = narrow()
    return lab, [
        probe("icmp a 10.0.3.2", size=3000, df=False),
        probe("udp a 10.0.3.2:80", size=4000, df=False),
        probe("icmp a 10.0.3.2", size=3000, df=False, ttl=2),
        probe("udp a 10.0.3.2:81", size=4000, df=False),
        probe("icmp a 10.0.0.2", size=5000),
        probe("icmp a 10.0.0.1", size=9000),
    ]


def frames_larger_than_the_far_end_takes() -> Asked:
    """real-kernel.md 25."""
    lab = line()
    lab["r"].link_set("eth0", mtu=1000)
    return lab, [
        probe("icmp a 10.0.2.2", size=1200),
        probe("udp a 10.0.2.2:80", size=1200),
        probe("icmp a 10.0.2.2", size=4000),
        probe("udp a 10.0.2.2:80", size=4000),
        probe("icmp b 10.0.1.2", size=1200),
    ]


def icmp_errors_from_the_incoming_address() -> Asked:
    lab = chain()
    lab["r2"].sysctl("net.ipv4.icmp_errors_use_inbound_ifaddr", 1)
    return lab, [probe("icmp a 10.0.3.2", ttl=2), probe("udp a 10.0.3.2:80", ttl=2)]


def icmp_error_of_an_unnumbered_device() -> Asked:
    """real-kernel.md 9."""
    lab = Lab()
    lab.wire("n eth0 10.2.0.1/24", "x eth0 10.2.0.2/24")
    lab.wire("n cali0", "p eth0 10.1.0.5/32")
    lab["p"].route_add("169.254.1.1", dev="eth0", scope="link")
    lab["p"].route_add("default", via="169.254.1.1", dev="eth0")
    lab["p"].neigh_add("169.254.1.1", lab["n"].devices["cali0"].mac, "eth0")
    lab["n"].route_add("10.1.0.5", dev="cali0", scope="link")
    lab.router("n")
    return lab, [probe("icmp p 10.2.0.2", ttl=1), probe("icmp p 10.3.0.1"), probe("udp p 10.2.0.1:81")]


def echo_ignored() -> Asked:
    lab = line()
    lab["b"].sysctl("net.ipv4.icmp_echo_ignore_all", 1)
    return lab, [probe("icmp a 10.0.2.2")]


def icmp_rate_limit() -> Asked:
    """icmpv4_xrlim_allow: six at once to one host, then one a second."""
    lab = line()
    return lab, [probe("udp a 10.0.2.2:81") for _ in range(8)] + [probe("icmp a 10.0.2.2", ttl=1) for _ in range(8)]


def default_ttl() -> Asked:
    lab = line()
    lab["a"].sysctl("net.ipv4.ip_default_ttl", 3)
    lab["b"].sysctl("net.ipv4.ip_default_ttl", 200)
    return lab, [
        probe("icmp a 10.0.2.2"),
        probe("udp a 10.0.2.2:80"),
        probe("tcp a 10.0.2.2:80"),
        probe("udp a 10.0.2.2:81"),
    ]


def endpoints() -> Asked:
    lab = line()
    lab["a"].listen(7)
    return lab, [
        probe("tcp a 10.0.2.2:80"),
        probe("tcp a 10.0.2.2:81"),
        probe("udp a 10.0.2.2:80", size=0),
        probe("udp a 10.0.2.2:81"),
        probe("tcp b 10.0.1.2:7"),
        probe("icmp a 10.0.2.2", size=0),
        probe("tcp a 10.0.1.1:80"),
    ]


def tcp_takes_its_mss_from_the_path() -> Asked:
    lab = narrow()
    lab["b"].link_set("left", mtu=1450)
    lab["r3"].link_set("right", mtu=1450)
    return lab, [probe("tcp a 10.0.3.2:80"), probe("icmp a 10.0.3.2", size=1472), probe("tcp a 10.0.3.2:80")]


def tcp_retransmits_its_syn() -> Asked:
    lab = line()
    lab["r"].route_add("10.9.0.0/24", type="blackhole")
    return lab, [probe("tcp a 10.9.0.1:80", timeout=LONG)]


def tcp_hears_of_an_unreachable_host() -> Asked:
    lab = line()
    lab["r"].route_add("10.9.0.0/24", type="unreachable")
    lab["r"].route_add("10.9.1.0/24", type="prohibit")
    return lab, [probe("tcp a 10.9.0.1:80", timeout=LONG), probe("tcp a 10.9.1.1:80", timeout=LONG)]


LABS = {
    lab.__name__: lab
    for lab in (
        forwarding_and_ttl, time_exceeded_while_connecting, a_routing_loop_ends_by_ttl, forwarding_off,
        forwarding_off_on_one_device, redirects_are_sent_and_taken, redirects_are_ignored, redirects_are_not_sent,
        redirects_by_two_routers, redirects_without_shared_media, redirects_to_any_router,
        path_mtu_is_learned, path_mtu_and_the_four_ways_to_ask, path_mtu_below_the_least, no_pmtu_disc,
        forwarding_by_the_learned_mtu, route_mtu, fragments, frames_larger_than_the_far_end_takes,
        icmp_errors_from_the_incoming_address, icmp_error_of_an_unnumbered_device, echo_ignored, icmp_rate_limit,
        default_ttl, endpoints, tcp_takes_its_mss_from_the_path, tcp_retransmits_its_syn,
        tcp_hears_of_an_unreachable_host,
    )
}  # fmt: skip
