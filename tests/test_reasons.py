"""Every reason of a drop, and the packet that produces it: the table to read when a trace says why a packet died."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from packetwalk.addr import BROADCAST_MAC, ZERO_MAC, IPv4, Mac
from packetwalk.engine.sim import Simulation
from packetwalk.netns.fragment import fragment
from packetwalk.netns.namespace import Netns
from packetwalk.packet import UNREACHABLE, Ethernet, Icmp, Ip, Packet, Udp, Vxlan, ip_packet
from packetwalk.trace import Drop, Reason, Step
from tests.netns.rooms import (
    M1,
    M3,
    SECOND,
    echo,
    echo_reply,
    frame,
    host,
    iptables,
    pinger,
    reasons,
    router,
    switch,
    tcp,
    timers,
    udp,
    veth_pair,
    vxlan,
)

NEAR, OWN, FAR = "10.0.0.2", "10.0.0.1", "10.9.9.9"


def arriving(packet: Packet, room: Netns | None = None, *, to: Mac = M1) -> list[Step]:
    """The packet comes in by eth0 of a room, by default a host with the address 10.0.0.1/24."""
    return (room or host("a")).receive("eth0", frame(packet, to), 0)


def through(packet: Packet, *, sysctls: Iterable[tuple[str, int]] = (), to: Mac = M1) -> list[Step]:
    """The packet comes in by eth0 of a router between 10.0.0.0/24 and 10.0.1.0/24."""
    room = router("r", f"{OWN}/24", "10.0.1.1/24", known=True)
    for key, value in sysctls:
        room.sysctl(key, value)
    return arriving(packet, room, to=to)


def sending(room: Netns, dst: str = FAR, *, size: int = 56) -> list[Step]:
    """A ping of that many bytes leaves the room."""
    return room.send(echo("0.0.0.0", dst, size=size), 0, pinger(room))


# -- producers that take more than a line ------------------------------------------------------------------------------


def filtered() -> list[Step]:
    """A rule says so."""
    room = router("r", f"{OWN}/24", "10.0.1.1/24", known=True)
    iptables(room, "filter", "-A FORWARD -p icmp -j DROP")
    return arriving(echo(NEAR, "10.0.1.2"), room)


def strict_reverse_path() -> list[Step]:
    """The way back to the source is by another device."""
    return through(echo("10.0.1.9", "10.0.1.2"), sysctls=[("net.ipv4.conf.eth0.rp_filter", 1)])


def anything_but_unicast() -> list[Step]:
    """RFC 1122 3.3.6: unicast IP in a link-layer broadcast, where the host was told to mind."""
    room = host("a")
    room.sysctl("net.ipv4.conf.all.drop_unicast_in_l2_multicast", 1)
    return arriving(echo(NEAR, OWN), room, to=BROADCAST_MAC)


def the_same_fragment_twice() -> list[Step]:
    room, first = host("a"), fragment(echo(NEAR, OWN, size=2000, id=9), 1500)[0]
    return [step for _ in range(2) for step in arriving(first, room)]


def a_fragment_alone() -> list[Step]:
    room = host("a")
    waiting = arriving(fragment(echo(NEAR, OWN, size=2000, id=9), 1500)[1], room)
    return [step for t in timers(waiting, "frag") for step in room.wake(t, t.at)]


def nobody_answers_arp() -> list[Step]:
    room = host("a")
    steps = sending(room, NEAR)
    for _ in range(3):
        (ask_again,) = timers(steps, "arp")
        steps = room.wake(ask_again, ask_again.at)
    return steps


def too_many_wait_for_arp() -> list[Step]:
    room = host("a")
    return [step for _ in range(200) for step in sending(room, NEAR, size=1400)]


def device_down() -> list[Step]:
    room = host("a")
    room.devices["eth0"].up = False
    return arriving(echo(NEAR, OWN), room)


def no_tunnel_end() -> list[Step]:
    """A vxlan without FDB entry and default destination (real-kernel.md, fact 34): here its ARP request."""
    room = host("a")
    vxlan(room)
    room.addr_add("vx0", "10.5.0.1/24")
    return sending(room, "10.5.0.2")


def in_vxlan(*, vni: int = 42, tos: int = 0, src: Mac = M3, static: str = NEAR) -> list[Step]:
    """A vxlan packet arrives at 10.0.0.1, which has vx0 with VNI 42 and the MAC 02:00:00:00:00:04; M3 is behind
    `static`."""
    room = host("a")
    vxlan(room, remote=NEAR)
    room.fdb_append("vx0", M3, dst=static)
    inside = echo("10.5.0.2", "10.5.0.1").headers
    outer = Ip(IPv4(NEAR), IPv4(OWN), 17, 0, 64, tos)
    packet = ip_packet(outer, Udp(40000, 8472, 122), Vxlan(vni), Ethernet(src, Mac("02:00:00:00:00:04")), *inside)
    return arriving(packet._replace(payload=56), room)


def tunnel_in_itself() -> list[Step]:
    """The far end of the tunnel is routed through the tunnel."""
    room = host("a")
    vxlan(room, local="0.0.0.0", remote="10.5.0.2")
    room.addr_add("vx0", "10.5.0.1/24")
    return sending(room, "10.5.0.2")


def bridged(eth: Ethernet, **port: object) -> list[Step]:
    """A frame comes in on a port with those settings."""
    room = switch()
    room.link_set("p1", port=port)
    return room.receive("p1", Packet((eth, *echo(NEAR, OWN).headers), 56), 0)


def back_where_it_came_from() -> list[Step]:
    """The FDB says the destination is behind the port by which the frame came."""
    room = switch()
    room.fdb_append("p1", M3)
    return room.receive("p1", Packet((Ethernet(M1, M3), *echo(NEAR, OWN).headers), 56), 0)


def to_a_listener(flags: str) -> list[Step]:
    room = host("a")
    room.listen(80)
    return arriving(tcp(NEAR, OWN, flags=flags), room)


def a_full_queue() -> list[Step]:
    """A wire of 1 Mbit/s whose queue holds one packet gets three fragments at once."""
    a, b = Netns("a"), Netns("b")
    network = veth_pair(a, b)
    a.addr_add("eth0", "10.0.0.1/24")
    a.neigh_add(NEAR, M3, "eth0")
    wire = network.wires["a", "eth0"]
    network.wires[wire.a] = network.wires[wire.b] = wire._replace(rate=1_000_000, queue=1)
    sim = Simulation(network)
    sim.program("a", lambda room, now: room.send(echo("0.0.0.0", NEAR, size=4000), now, pinger(room)))
    sim.run()
    return [step for hop in sim.hops for step in hop.steps]


def too_much_for_a_processor() -> list[Step]:
    """netdev_max_backlog: a thousand frames may wait for a room that needs a second for each."""
    a, b = Netns("a"), Netns("b")
    network = veth_pair(a, b)
    a.addr_add("eth0", "10.0.0.1/24")
    a.neigh_add(NEAR, M3, "eth0")
    sim = Simulation(network, costs={"receive": SECOND})
    for _ in range(1004):
        sim.program("a", lambda room, now: room.send(echo("0.0.0.0", NEAR), now, pinger(room)))
    sim.run(SECOND)
    return [step for hop in sim.hops for step in hop.steps]


def a_forbidden_way() -> list[Step]:
    """A prohibit route; ip_error has a name for lacking routes only."""
    room = router("r", f"{OWN}/24", known=True)
    room.route_add("10.9.0.0/16", type="prohibit")
    return arriving(echo(NEAR, FAR), room)


PRODUCERS: dict[Reason, Callable[[], list[Step]]] = {
    # link layer
    Reason.OTHERHOST: lambda: arriving(echo(NEAR, OWN), to=Mac("02:00:00:00:00:99")),
    Reason.MAC_INVALID_SOURCE: lambda: bridged(Ethernet(ZERO_MAC, M3)),
    Reason.BRIDGE_INGRESS_STP_STATE: lambda: bridged(Ethernet(M1, M3), state="blocking"),
    Reason.BRIDGE_NON_FORWARDING: back_where_it_came_from,
    Reason.NEIGH_FAILED: nobody_answers_arp,
    Reason.NEIGH_QUEUEFULL: too_many_wait_for_arp,
    Reason.DEV_READY: device_down,
    Reason.QDISC_DROP: a_full_queue,
    Reason.CPU_BACKLOG: too_much_for_a_processor,
    # IP, coming in
    Reason.IP_INVALID_SOURCE: lambda: arriving(echo("224.0.0.9", OWN)),
    Reason.IP_INVALID_DEST: lambda: arriving(echo(NEAR, "0.0.0.0")),
    Reason.IP_LOCALNET: lambda: arriving(echo(NEAR, "127.0.0.1")),
    Reason.IP_LOCAL_SOURCE: lambda: arriving(echo(OWN, OWN)),
    Reason.IP_RPFILTER: strict_reverse_path,
    Reason.IP_INADDRERRORS: lambda: arriving(echo(NEAR, FAR)),
    Reason.IP_INNOROUTES: lambda: through(echo(NEAR, FAR)),
    Reason.NOT_SPECIFIED: a_forbidden_way,
    Reason.UNICAST_IN_L2_MULTICAST: anything_but_unicast,
    Reason.DUP_FRAG: the_same_fragment_twice,
    Reason.FRAG_REASM_TIMEOUT: a_fragment_alone,
    # IP, through and out
    Reason.IP_INHDR: lambda: through(echo(NEAR, "10.0.1.2", ttl=1)),
    Reason.PKT_TOO_BIG: lambda: through(echo(NEAR, "10.0.1.2", size=2000, df=True)),
    Reason.IP_OUTNOROUTES: lambda: sending(host("a")),
    # protocols and sockets
    Reason.IP_NOPROTO: lambda: arriving(Packet((Ip(IPv4(NEAR), IPv4(OWN), 132, 40, 64),), 20)),
    Reason.INVALID_PROTO: lambda: arriving(echo(NEAR, "10.0.0.255"), to=BROADCAST_MAC),
    Reason.NO_SOCKET: lambda: arriving(echo_reply(NEAR, OWN)),
    Reason.TCP_FLAGS: lambda: to_a_listener("SF"),
    Reason.TCP_RESET: lambda: to_a_listener("R"),
    # netfilter
    Reason.NETFILTER_DROP: filtered,
    # tunnels
    Reason.NO_TX_TARGET: no_tunnel_end,
    Reason.VXLAN_VNI_NOT_FOUND: lambda: in_vxlan(vni=43),
    Reason.VXLAN_ENTRY_EXISTS: lambda: in_vxlan(static="10.0.0.3"),
    Reason.LOCAL_MAC: lambda: in_vxlan(src=Mac("02:00:00:00:00:04")),
    Reason.IP_TUNNEL_ECN: lambda: in_vxlan(tos=3),
    Reason.RECURSION_LIMIT: tunnel_in_itself,
}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_packet_that_dies_of_it(reason: Reason) -> None:
    """A reason that nothing can produce does not belong into the list, one without a test is not known to work."""
    assert reason in PRODUCERS, f"no test produces {reason}"
    steps = PRODUCERS[reason]()
    assert reason in reasons(steps)
    assert all(step.stage == "drop" for step in steps if isinstance(step.what, Drop))


# -- the same reasons from other causes, as the kernel names them ------------------------------------------------------

OTHER_CAUSES: list[tuple[Reason, Callable[[], list[Step]]]] = [
    (Reason.IP_INVALID_SOURCE, lambda: arriving(echo("255.255.255.255", OWN))),
    (Reason.IP_INVALID_SOURCE, lambda: arriving(echo("0.0.0.0", OWN))),
    (Reason.IP_LOCALNET, lambda: arriving(echo("127.0.0.1", OWN))),
    (Reason.MAC_INVALID_SOURCE, lambda: bridged(Ethernet(BROADCAST_MAC, M3))),
    (Reason.BRIDGE_INGRESS_STP_STATE, lambda: bridged(Ethernet(M1, M3), state="learning")),
    (Reason.MAC_INVALID_SOURCE, lambda: in_vxlan(src=ZERO_MAC)),
    (Reason.TCP_FLAGS, lambda: to_a_listener("A")),
    (Reason.TCP_FLAGS, lambda: to_a_listener("F")),
    (Reason.NO_SOCKET, lambda: arriving(udp(NEAR, OWN))),
    (Reason.NO_SOCKET, lambda: arriving(tcp(NEAR, OWN))),
    (Reason.NOT_SPECIFIED, lambda: arriving(tcp(NEAR, OWN), to=BROADCAST_MAC)),
    (Reason.NOT_SPECIFIED, lambda: through(echo(NEAR, "10.0.1.2"), to=BROADCAST_MAC)),
    (Reason.NOT_SPECIFIED, lambda: arriving(ip_packet(Ip(IPv4(NEAR), IPv4(OWN), 1, 0, 64), Icmp(UNREACHABLE)))),
]


@pytest.mark.parametrize(("reason", "produce"), OTHER_CAUSES)
def test_other_causes_have_the_kernels_name_too(reason: Reason, produce: Callable[[], list[Step]]) -> None:
    """Read off the skb:kfree_skb tracepoint of Linux 6.18."""
    assert reasons(produce()) == [reason]


@pytest.mark.parametrize(("far_up", "reason"), [(True, Reason.NOT_SPECIFIED), (False, Reason.QDISC_DROP)])
def test_what_the_other_end_of_a_veth_pair_does_not_take(far_up: bool, reason: Reason) -> None:
    """____dev_forward_skb; a veth pair whose far end is down has no carrier (real-kernel.md, fact 25). Both reasons
    were read off the tracepoint."""
    a, b = Netns("a"), Netns("b")
    veth_pair(a, b)
    a.addr_add("eth0", f"{OWN}/24")
    a.neigh_add(NEAR, M3, "eth0")
    b.link_set("eth0", mtu=1000, up=far_up)
    assert reasons(sending(a, NEAR, size=1200)) == [reason]
