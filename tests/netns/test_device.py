"""Devices: what each kind does with a packet it is given, or that arrives on it."""

from __future__ import annotations

import pytest

from packetwalk.addr import ZERO_MAC, IPv4
from packetwalk.netns.device import Addr, Bridge, Device, Dummy, Ipip, Loopback, Nic, UnknownDevice, Veth
from packetwalk.netns.namespace import Netns
from packetwalk.netns.socket import Delivery, Socket
from packetwalk.packet import ECHO, ECHO_REPLY, PROTO_UDP
from packetwalk.trace import Reason
from tests.netns.rooms import (
    M1,
    M2,
    M3,
    M4,
    SECOND,
    arps,
    echo,
    errnos,
    eth_of,
    frame,
    host,
    icmp_of,
    ip_of,
    of,
    one,
    pinger,
    reasons,
    router,
    sent,
    stages,
    switch,
    terminals,
    timers,
    udp,
    unsupported,
    veth_pair,
    who_has,
)


def wired(mtu: int = 1500, far_mtu: int = 1500) -> Netns:
    """A room with a veth whose other end is b's; b's address is known."""
    a, b = Netns("a"), Netns("b")
    veth_pair(a, b)
    a.addr_add("eth0", "10.0.0.1/24")
    a.neigh_add("10.0.0.2", M2, "eth0")
    a.link_set("eth0", mtu=mtu)
    b.link_set("eth0", mtu=far_mtu)
    return a


# -- loopback ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("own", "src"), [("127.0.0.1",) * 2, ("127.8.8.8", "127.0.0.1"), ("10.0.0.1",) * 2])
def test_what_is_sent_to_an_own_address_comes_back_over_lo(own: str, src: str) -> None:
    """loopback_xmit: the frame is received again, and so is the answer; nothing leaves the host.

    The source is the prefsrc of the local route (ip_route_output_key_hash_rcu): 127.0.0.1 for all of 127/8.
    """
    room = host("a")
    steps = room.send(echo("0.0.0.0", own), 0, pinger(room))
    assert {s.dev for s in steps if s.stage in ("transmit", "receive")} == {"lo"}
    assert [icmp_of(s.packet).type for s in of(steps, "receive")] == [ECHO, ECHO_REPLY]
    assert [s.what.kind for s in of(steps, "deliver") if isinstance(s.what, Delivery)] == ["echo-request", "echo-reply"]
    assert ip_of(of(steps, "receive")[0].packet)[:2] == (IPv4(src), IPv4(own))


def test_loopback_frames_keep_their_order() -> None:
    """netif_rx and process_backlog: a queue, first in first out. Here: the errors about three packets that waited."""
    room = host("a")
    sockets = [pinger(room, n) for n in (1, 2, 3)]
    steps = [room.send(echo("0.0.0.0", "10.0.0.2", ident=s.port), 0, s) for s in sockets]
    (timer,) = timers(steps[0])
    for _ in range(3):
        last = room.wake(timer, timer.at)
        (timer,) = timers(last) or (timer,)
    heard = [s.what.socket for s in of(last, "deliver") if isinstance(s.what, Delivery)]
    assert heard == sockets


def test_a_packet_on_lo_from_an_own_address_is_no_martian() -> None:
    """loopback_xmit keeps the sender's dst (skb_dst_force), so ip_rcv_finish does not validate the source again."""
    room = host("a")
    room.sysctl("net.ipv4.conf.all.rp_filter", 1)
    assert not reasons(room.send(echo("0.0.0.0", "10.0.0.1"), 0, pinger(room)))


def test_loopback_addresses_from_outside_are_martians() -> None:
    """ip_route_input_slow: 127/8 does not come in by a real device, unless route_localnet."""
    room = host("a")
    assert reasons(room.receive("eth0", frame(echo("10.0.0.2", "127.0.0.1")), 0)) == [Reason.IP_LOCALNET]
    assert reasons(room.receive("eth0", frame(echo("127.0.0.9", "10.0.0.1")), 0)) == [Reason.IP_LOCALNET]
    room.sysctl("net.ipv4.conf.eth0.route_localnet", 1)
    assert "deliver" in stages(room.receive("eth0", frame(echo("10.0.0.2", "127.0.0.1")), 0))


def test_a_frame_for_someone_else_is_dropped() -> None:
    """eth_type_trans and ip_rcv_core: PACKET_OTHERHOST."""
    assert reasons(host("a").receive("eth0", frame(echo("10.0.0.2", "10.0.0.1"), dst=M4), 0)) == [Reason.OTHERHOST]


# -- veth -------------------------------------------------------------------------------------------------------------


def test_veth_hands_its_frame_over() -> None:
    """veth_xmit: with both ends up the transmit is the last step of the visit."""
    a = wired()
    steps = a.send(echo("0.0.0.0", "10.0.0.2"), 0, pinger(a))
    assert terminals(steps) == [("transmit", "eth0")]
    assert eth_of(sent(steps)[0]).dst == M2


def test_veth_whose_peer_is_down_has_no_carrier() -> None:
    """veth_close takes the carrier away: no tap sees the packet (noop_enqueue)."""
    a = wired()
    far = a.devices["eth0"]
    assert isinstance(far, Veth) and far.peer is not None
    far.peer.up = False
    assert not a.devices["eth0"].running
    steps = a.send(echo("0.0.0.0", "10.0.0.2"), 0, pinger(a))
    assert not sent(steps)
    assert terminals(steps) == [("drop", "eth0")]


def test_the_sender_on_a_veth_without_carrier_hears_nothing() -> None:
    """noop_enqueue returns NET_XMIT_CN, of which net_xmit_errno makes no error (checked on 6.18: sendto succeeds)."""
    a = wired()
    far = a.devices["eth0"]
    assert isinstance(far, Veth) and far.peer is not None
    far.peer.up = False
    socket = a.sockets.bind(Socket(PROTO_UDP, 40000, recverr=True))
    assert errnos(a.send(udp("0.0.0.0", "10.0.0.2"), 0, socket)) == []


@pytest.mark.parametrize(("size", "fits"), [(1376, True), (1377, False)])
def test_the_peers_mtu_is_a_limit_with_room_for_a_vlan_tag(size: int, fits: bool) -> None:
    """__is_skb_forwardable: mtu + header + 4. Our tap sees the frame, the peer does not (real-kernel.md, fact 25)."""
    a = wired(far_mtu=1400)
    socket = pinger(a)
    socket.recverr = True
    steps = a.send(echo("0.0.0.0", "10.0.0.2", size=size), 0, socket)  # 28 bytes of headers
    assert len(sent(steps, "eth0")) == 1
    assert reasons(steps) == ([] if fits else [Reason.NOT_SPECIFIED])
    assert errnos(steps) == ([] if fits else ["ENOBUFS"])


def test_udp_stops_after_the_first_fragment_that_the_peer_refuses() -> None:
    """ip_push_pending_frames with IP_RECVERR: ENOBUFS ends the sending (real-kernel.md, fact 25)."""
    a = wired(far_mtu=600)
    socket = a.sockets.bind(Socket(PROTO_UDP, 40000, recverr=True, pmtudisc="dont"))
    steps = a.send(udp("0.0.0.0", "10.0.0.2", size=2000), 0, socket)
    assert len(sent(steps)) == 1
    assert errnos(steps) == ["ENOBUFS"]
    assert not timers(steps, "resume")


def test_a_ping_stops_too_and_hears_nothing() -> None:
    """ip_do_fragment ends at the first piece the device drops; raw_sendmsg without IP_RECVERR keeps ENOBUFS to itself.
    A kernel was asked (tests/kernel, frames_larger_than_the_far_end_takes)."""
    a = wired(far_mtu=600)
    socket = pinger(a)
    socket.pmtudisc = "dont"
    steps = a.send(echo("0.0.0.0", "10.0.0.2", size=1500), 0, socket)
    assert reasons(steps) == [Reason.NOT_SPECIFIED]
    assert len(sent(steps)) == 1 and not timers(steps, "resume") and not errnos(steps)


# -- bridge -----------------------------------------------------------------------------------------------------------


def test_a_bridge_that_is_down_lets_nothing_through() -> None:
    """br_stp_disable_bridge disables every port; br_handle_frame drops what a disabled port brings."""
    room = switch(ports=2)
    room.link_set("br0", up=False)
    steps = room.receive("p1", frame(echo("10.0.0.2", "10.0.0.3"), dst=M4), 0)
    assert not sent(steps)
    assert reasons(steps) == [Reason.BRIDGE_INGRESS_STP_STATE]


def test_a_bridge_that_is_up_again_forwards_again() -> None:
    room = switch(ports=2)
    room.link_set("br0", up=False)
    room.link_set("br0", up=True)
    assert len(sent(room.receive("p1", frame(echo("10.0.0.2", "10.0.0.3"), dst=M4), 0), "p2")) == 1


def test_a_bridge_all_of_whose_ports_are_down_has_no_carrier() -> None:
    """br_port_state_selection: no carrier without a live port; then not even the bridge's tap sees a question."""
    room = switch(ports=1, addr="10.0.0.1/24")
    room.link_set("p1", up=False)
    assert not room.devices["br0"].running
    assert not sent(room.send(echo("0.0.0.0", "10.0.0.2"), 0, pinger(room)))


def test_a_bridge_loses_its_carrier_when_the_far_end_of_its_only_port_goes_down() -> None:
    """veth_close at the peer takes the port's carrier, br_port_carrier_check disables the port, and br0 follows."""
    node, pod = Netns("node"), Netns("pod")
    veth_pair(node, pod)
    node.link_add("br0", Bridge(mac=M3))
    node.link_set("eth0", master="br0")
    carrier = []
    for up in (True, False, True):
        pod.link_set("eth0", up=up)
        carrier.append(node.devices["br0"].running)
    assert carrier == [True, False, True]


def test_a_bridge_without_ports_keeps_its_carrier() -> None:
    """A bridge that never had a port is UP,LOWER_UP in state UNKNOWN (seen on 6.18): its tap sees the question."""
    room = switch(ports=0, addr="10.0.0.1/24")
    assert [a.tpa for a in arps(sent(room.send(echo("0.0.0.0", "10.0.0.2"), 0, pinger(room)), "br0"))] == [
        IPv4("10.0.0.2")
    ]


def test_what_the_host_sends_through_its_bridge_is_seen_on_bridge_and_port() -> None:
    """br_dev_xmit: the frame keeps the bridge's MAC as source on every port."""
    room = switch(ports=2, addr="10.0.0.1/24")
    steps = room.send(echo("0.0.0.0", "10.0.0.2"), 0, pinger(room))
    assert [dev for stage, dev in terminals(steps) if stage == "transmit"] == ["br0", "p2", "p1"]
    assert {eth_of(p).src for p in sent(steps)} == {M1}


# -- dummy and strangers ----------------------------------------------------------------------------------------------


def test_dummy_swallows_without_asking() -> None:
    """dummy_xmit frees the skb; IFF_NOARP means that no question comes before it."""
    room = Netns("a")
    room.link_add("d0", Dummy(mac=M1))
    room.addr_add("d0", "10.0.0.1/24")
    steps = room.send(echo("0.0.0.0", "10.0.0.2"), 0, pinger(room))
    assert stages(steps)[-2:] == ["transmit", "drop"]
    assert not arps(sent(steps))
    assert errnos(steps) == []  # the sender hears nothing of it


def test_an_address_on_a_dummy_is_an_address_of_the_host() -> None:
    room = host("a")
    room.link_add("d0", Dummy(mac=M2))
    room.addr_add("d0", "10.96.0.10/32")
    assert "deliver" in stages(room.receive("eth0", frame(echo("10.0.0.2", "10.96.0.10")), 0))


def test_an_unknown_kind_of_device_is_said_to_be_unknown_when_sending() -> None:
    room = router("r", "10.0.0.1/24")
    room.link_add("wg0", UnknownDevice(what="wireguard"))
    room.addr_add("wg0", "10.9.0.1/24")
    for steps in (
        room.send(echo("0.0.0.0", "10.9.0.2"), 0, pinger(room)),
        room.receive("eth0", frame(echo("10.0.0.2", "10.9.0.2")), 0),
    ):
        assert unsupported(steps) == ["device wg0 of kind wireguard"]
        assert not sent(steps)


def test_an_unknown_kind_of_device_is_said_to_be_unknown_when_receiving() -> None:
    """What comes in on a bond's or VRF's port goes to its rx_handler: anything but `unsupported` is a guess."""
    room = host("a")
    room.link_add("eth1", UnknownDevice(what="port of bond0"))
    steps = room.receive("eth1", frame(echo("10.0.0.2", "10.0.0.1"), dst=ZERO_MAC), 0)
    assert unsupported(steps) == ["device eth1 of kind port of bond0"]


def test_an_unknown_bridge_port_is_said_to_be_unknown() -> None:
    room = switch(ports=1)
    room.link_add("bond0", UnknownDevice(what="bond"))
    room.link_set("bond0", master="br0")
    steps = room.receive("p1", frame(echo("10.0.0.2", "10.0.0.3"), dst=M4), 0)
    assert unsupported(steps) == ["device bond0 of kind bond"]


def test_a_device_that_is_down_receives_nothing() -> None:
    """enqueue_to_backlog drops what arrives on a device that is not running (DEV_READY)."""
    room = host("a")
    room.devices["eth0"].up = False
    steps = room.receive("eth0", frame(echo("10.0.0.2", "10.0.0.1")), 0)
    assert reasons(steps) == [Reason.DEV_READY] and len(steps) == 1


def test_an_unknown_ethertype_is_said_to_be_unknown() -> None:
    packet = frame(echo("10.0.0.2", "10.0.0.1"))
    odd = packet._replace(headers=(eth_of(packet)._replace(type=0x88CC), *packet.headers[1:]))
    assert unsupported(host("a").receive("eth0", odd, 0)) == ["ethertype 0x88cc"]


# -- small answers ----------------------------------------------------------------------------------------------------


def test_header_lengths() -> None:
    assert [d().header_len for d in (Nic, Veth, Bridge, Dummy, Loopback)] == [14] * 5
    assert Ipip().header_len == 0


def test_covers_goes_by_the_peer_of_a_point_to_point_address() -> None:
    """inet_ifa_match compares with ifa_address, which is the peer."""
    addr = Addr(IPv4("10.0.0.1"), 24, peer=IPv4("10.7.0.1"))
    assert addr.covers(IPv4("10.7.0.9")) and not addr.covers(IPv4("10.0.0.9"))
    assert Addr(IPv4("10.0.0.1"), 24).covers(IPv4("10.0.0.9"))


@pytest.mark.parametrize("device", [Nic(mac=M1), Bridge(mac=M1)], ids=["nic", "bridge"])
def test_a_device_that_is_down_transmits_nothing(device: Device) -> None:
    """dev_deactivate puts noop_qdisc in front of a device that is down."""
    room = Netns("a")
    room.link_add("eth0", device)
    room.addr_add("eth0", "10.0.0.1/24")
    room.neigh_add("10.0.0.2", M3, "eth0")
    room.devices["eth0"].up = False
    assert not sent(room.send(echo("0.0.0.0", "10.0.0.2"), 0, pinger(room)))


def test_the_answer_on_lo_takes_no_time_but_its_own_visit() -> None:
    """Everything on lo is one visit: no timer, no wire."""
    room = host("a")
    steps = room.send(echo("0.0.0.0", "127.0.0.1"), 5 * SECOND, pinger(room))
    assert not timers(steps)
    assert one([s for s in steps if isinstance(s.what, Delivery) and s.what.kind == "echo-reply"], "deliver")


def test_a_question_on_a_bridge_port_is_for_the_bridge() -> None:
    """A port's frames belong to the bridge: the bridge's address answers, on the port the question came by."""
    room = switch(ports=2, addr="10.0.0.1/24")
    steps = room.receive("p1", who_has("10.0.0.1", "10.0.0.2"), 0)
    answers = [(s.dev, eth_of(s.packet).dst) for s in of(steps, "transmit") if arps([s.packet])[0].op == 2]
    assert answers == [("br0", M3), ("p1", M3)]
