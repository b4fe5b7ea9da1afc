"""Endpoints but TCP: the UDP echo server, closed ports, unknown protocols, and a host that talks to itself."""

from __future__ import annotations

import pytest

from packetwalk.addr import BROADCAST_MAC, IPv4
from packetwalk.netns.namespace import Netns
from packetwalk.netns.socket import Delivery, Socket
from packetwalk.packet import (
    PORT_UNREACH,
    PROTO_UDP,
    PROTO_UNREACH,
    UNREACHABLE,
    Icmp,
    Ip,
    Packet,
    Udp,
)
from packetwalk.trace import TASK, Reason, Step
from tests.netns.rooms import (
    M3,
    about,
    echo,
    frame,
    host,
    icmp_of,
    ip_of,
    of,
    one,
    pinger,
    reasons,
    sent,
    stages,
    timers,
    udp,
)

OWN, NEAR, FAR = "10.0.0.1", "10.0.0.2", "10.9.9.9"


def server(addr: str = "") -> Netns:
    """10.0.0.1 and 10.0.0.7 on eth0, an echo server on port 53, the default route by 10.0.0.2."""
    room = host("s", gateway=NEAR)
    room.addr_add("eth0", "10.0.0.7/24")
    room.neigh_add(NEAR, M3, "eth0")
    room.listen(53, addr=addr)
    return room


def ask(room: Netns, packet: Packet, **more: object) -> list[Step]:
    """The packet arrives, and the programs it concerns have their turn."""
    steps = room.receive("eth0", frame(packet, **more), 0)  # type: ignore[arg-type]
    for turn in timers(steps, "app"):
        assert turn.context == TASK
        steps += room.wake(turn, turn.at)
    return steps


# -- UDP ---------------------------------------------------------------------------------------------------------------


def test_the_echo_server_sends_the_same_bytes_back() -> None:
    """A program of its own turn: the datagram is delivered first, then read and answered."""
    steps = ask(server(), udp(FAR, OWN, sport=40000, size=100, ttl=9))
    (reply,) = sent(steps)
    assert [str(a) for a in (ip_of(reply).src, ip_of(reply).dst)] == [OWN, FAR]
    assert reply.headers[2] == Udp(53, 40000, 108) and reply.payload == 100
    assert (ip_of(reply).ttl, ip_of(reply).df) == (64, True)
    assert stages(steps).index("deliver") < stages(steps).index("route_out")


def test_an_unbound_server_answers_from_what_the_route_suggests() -> None:
    """A socket bound to any address does not know which one was asked (no IP_PKTINFO): the route's source it is."""
    assert str(ip_of(sent(ask(server(), udp(FAR, "10.0.0.7")))[0]).src) == OWN


def test_a_bound_server_answers_from_its_address_and_for_it_only() -> None:
    """udp4_lib_lookup2: a socket bound to another address does not match."""
    assert str(ip_of(sent(ask(server("10.0.0.7"), udp(FAR, "10.0.0.7")))[0]).src) == "10.0.0.7"
    assert reasons(ask(server("10.0.0.7"), udp(FAR, OWN))) == [Reason.NO_SOCKET]


def test_a_closed_port() -> None:
    """__udp4_lib_rcv: port unreachable, from the address that was asked, about the packet as it arrived."""
    steps = ask(server(), udp(FAR, "10.0.0.7", dport=54, ttl=7))
    (error,) = sent(steps)
    assert (icmp_of(error).type, icmp_of(error).code) == (UNREACHABLE, PORT_UNREACH)
    assert str(ip_of(error).src) == "10.0.0.7" and about(error).ttl == 7 and ip_of(error).tos == 0xC0


@pytest.mark.parametrize(("dport", "delivered"), [(53, True), (54, False)])
def test_a_datagram_to_all(dport: int, delivered: bool) -> None:
    """__udp4_lib_mcast_deliver: to whoever listens; nobody complains."""
    steps = ask(server(), udp(NEAR, "10.0.0.255", dport=dport), dst=BROADCAST_MAC)
    assert bool(of(steps, "deliver")) is delivered and not of(steps, "icmp_error")


def test_a_client_reads_its_answer() -> None:
    room = server()
    client = room.sockets.bind(Socket(PROTO_UDP, 40000))
    steps = ask(room, udp(FAR, OWN, sport=53, dport=40000))
    assert one(steps, "deliver").what == Delivery("datagram", client) and not sent(steps)


def test_a_long_answer_is_cut() -> None:
    """The server's reply obeys its own device, whatever the request came in."""
    room = server()
    room.link_set("eth0", mtu=1000)
    steps = ask(room, udp(FAR, OWN, size=1400))
    for rest in timers(steps, "resume"):
        steps += room.wake(rest, 0)
    assert [(ip_of(p).len, ip_of(p).df) for p in sent(steps)] == [(996, False), (452, False)]


# -- protocols ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proto", [2, 47, 132])
def test_a_protocol_that_nobody_takes(proto: int) -> None:
    """ip_protocol_deliver_rcu: protocol unreachable."""
    steps = ask(server(), Packet((Ip(IPv4(FAR), IPv4(OWN), proto, 40, 64),), 20))
    assert reasons(steps) == [Reason.IP_NOPROTO] and icmp_of(sent(steps)[0]) == Icmp(UNREACHABLE, PROTO_UNREACH)


# -- a host alone ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dst", "src"), [("127.0.0.1", "127.0.0.1"), (OWN, OWN), ("127.5.5.5", "127.0.0.1")])
def test_a_host_pings_itself(dst: str, src: str) -> None:
    """loopback_xmit: out by lo and in again, request and reply; 127.0.0.0/8 has a source of its own in its route."""
    room = server()
    steps = room.send(echo("0.0.0.0", dst, ttl=0), 0, pinger(room))
    assert [(s.stage, s.dev) for s in steps if s.stage in ("transmit", "receive")] == [
        ("transmit", "lo"),
        ("receive", "lo"),
    ] * 2
    assert [str(s.what).split(" to ")[0] for s in of(steps, "deliver")] == ["echo-request", "echo-reply"]
    assert str(ip_of(of(steps, "route_out")[0].packet).src) == src


def test_a_host_hears_of_its_own_closed_port() -> None:
    """The error comes by lo, too."""
    room = server()
    client = room.sockets.bind(Socket(PROTO_UDP, 40000, recverr=True))
    steps = room.send(udp("0.0.0.0", OWN, sport=40000, dport=99, ttl=0), 0, client)
    assert [s.what for s in of(steps, "deliver")] == [Delivery("error", client, "ECONNREFUSED")]


def test_the_route_of_the_sender_comes_along() -> None:
    """skb_dst_force over loopback: what arrives by lo is not routed again, so not even rp_filter looks at it."""
    room = server()
    room.sysctl("net.ipv4.conf.all.rp_filter", 1)
    steps = room.send(echo("0.0.0.0", OWN, ttl=0), 0, pinger(room))
    assert not reasons(steps) and of(steps, "deliver")
