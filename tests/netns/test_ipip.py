"""IPIP (RFC 2003): the outer header, the path MTU behind it, and who may send into it."""

from __future__ import annotations

from typing import Any

import pytest

from packetwalk.addr import IPv4
from packetwalk.netns.device import Ipip
from packetwalk.netns.namespace import Netns
from packetwalk.packet import (
    FRAG_NEEDED,
    IP_LEN,
    PORT_UNREACH,
    PROTO_ICMP,
    PROTO_IPIP,
    PROTO_UNREACH,
    UNREACHABLE,
    Icmp,
    Ip,
    Packet,
    Slice,
    ip_packet,
    size,
)
from packetwalk.trace import NAPI, Reason, Step
from tests.netns.rooms import (
    about,
    echo,
    frame,
    icmp_of,
    ip_of,
    of,
    one,
    reasons,
    router,
    sent,
    stages,
    timers,
)

POD, FAR_POD = "10.244.1.5", "10.244.2.5"
NODE, PEER = "10.0.0.1", "10.0.0.2"


def node(**device: Any) -> Netns:
    """Calico's kind of node: pods of its own on eth1, those of 10.0.0.2 behind tunl0."""
    room = router("n1", f"{NODE}/24", "", known=True)
    room.route_add(f"{POD}/32", dev="eth1")
    room.neigh_add(POD, "02:00:00:00:00:05", "eth1")
    room.link_add("tunl0", Ipip(**{"mtu": 1480, **device}))
    room.addr_add("tunl0", "10.244.1.0/32")
    room.route_add("10.244.2.0/24", via=PEER, dev="tunl0", onlink=True)
    return room


def from_pod(room: Netns, packet: Packet, now: int = 0) -> list[Step]:
    return room.receive("eth1", frame(packet, room.devices["eth1"].mac), now)


def tunnelled(inner: Packet, *, src: str = PEER, dst: str = NODE, **ip: Any) -> Packet:
    """The packet in an outer IP header from the peer, as a frame."""
    outer = Ip(IPv4(src), IPv4(dst), PROTO_IPIP, IP_LEN + size(inner), 64, **ip)
    return frame(Packet((outer, *inner.headers), inner.payload))


def arrive(room: Netns, packet: Packet) -> list[Step]:
    """A frame on eth0, and what the tunnel's NAPI then delivers."""
    steps = room.receive("eth0", packet, 0)
    for poll in timers(steps, "napi"):
        assert poll.context == NAPI and poll.at == 0
        steps += room.wake(poll, 0)
    return steps


# -- in ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("df", [False, True])
def test_the_outer_header(df: bool) -> None:
    """ip_tunnel_xmit (real-kernel.md, fact 6): TTL of the inner one after its decrement, its DF, an id, tos 0."""
    (out,) = sent(from_pod(node(), echo(POD, FAR_POD, df=df, tos=0x28, ttl=64)), "eth0")
    outer, inner = (h for h in out.headers if isinstance(h, Ip))
    assert (str(outer.src), str(outer.dst), outer.proto, outer.len) == (NODE, PEER, PROTO_IPIP, inner.len + 20)
    assert (outer.ttl, outer.df, outer.tos, bool(outer.id)) == (63, df, 0, True)
    assert (inner.ttl, inner.tos, inner.df) == (63, 0x28, df)


def test_taps_on_the_tunnel_see_no_link_header() -> None:
    """An ipip device has no link layer and asks nobody for a MAC."""
    steps = from_pod(node(), echo(POD, FAR_POD))
    assert isinstance(sent(steps, "tunl0")[0].headers[0], Ip) and [s.dev for s in of(steps, "neigh")] == ["eth0"]


@pytest.mark.parametrize(
    ("device", "inner", "outer"),
    [
        ({}, 0xB8, 0x00),
        ({}, 0x01, 0x01),
        ({}, 0x02, 0x02),
        ({}, 0x03, 0x02),  # congestion inside is not congestion outside
        ({"tos": 0x10}, 0xBA, 0x12),
        ({"tos_inherit": True}, 0xBA, 0xBA),
    ],
)
def test_tos_and_ecn(device: dict[str, Any], inner: int, outer: int) -> None:
    """ip_tunnel_ecn_encap, RFC 6040 4.1."""
    (out,) = sent(from_pod(node(**device), echo(POD, FAR_POD, tos=inner)), "eth0")
    assert ip_of(out).tos == outer


@pytest.mark.parametrize(("device", "ttl"), [({}, 63), ({"ttl": 9}, 9), ({"ttl_inherit": True}, 63)])
def test_ttl(device: dict[str, Any], ttl: int) -> None:
    """Without a ttl of its own the tunnel takes the inner one: a traceroute sees the routers under it."""
    assert ip_of(sent(from_pod(node(**device), echo(POD, FAR_POD)), "eth0")[0]).ttl == ttl


def test_an_onlink_destination_is_its_own_far_end() -> None:
    """A device without remote is NBMA: the next hop of the inner route is the far end, or else the destination."""
    room = node(link="eth0")
    room.route_add("172.16.5.5/32", dev="tunl0")
    room.route_add("172.16.0.0/16", via=PEER)
    assert str(ip_of(sent(from_pod(room, echo(POD, "172.16.5.5")), "eth0")[0]).dst) == "172.16.5.5"


def test_a_remote_wins_over_the_next_hop() -> None:
    room = node(remote=IPv4("10.0.0.9"))
    room.neigh_add("10.0.0.9", "02:00:00:00:00:09", "eth0")
    assert str(ip_of(sent(from_pod(room, echo(POD, FAR_POD)), "eth0")[0]).dst) == "10.0.0.9"


def test_no_way_to_the_far_end() -> None:
    room = node()
    room.route_add("10.244.3.0/24", via="192.0.2.1", dev="tunl0", onlink=True)
    steps = from_pod(room, echo(POD, "10.244.3.5"))
    assert reasons(steps) == [Reason.IP_OUTNOROUTES] and not sent(steps, "eth0")


def test_a_tunnel_through_itself() -> None:
    """ip_tunnel_xmit: tdev == dev, a dead loop."""
    room = node()
    room.route_add("192.0.2.1/32", dev="tunl0")
    room.route_add("10.244.3.0/24", via="192.0.2.1", dev="tunl0", onlink=True)
    assert reasons(from_pod(room, echo(POD, "10.244.3.5"))) == [Reason.RECURSION_LIMIT]


# -- size --------------------------------------------------------------------------------------------------------------


def test_the_devices_own_mtu_is_the_routers_business() -> None:
    """ip_forward: the quoted TTL is 64 (real-kernel.md, fact 10)."""
    (error,) = sent(from_pod(node(), echo(POD, FAR_POD, size=1453, df=True)), "eth1")
    assert (icmp_of(error).mtu, about(error).ttl) == (1480, 64)


def test_what_the_path_under_the_tunnel_does_not_take() -> None:
    """tnl_update_pmtu: 20 bytes less than the path to the far end; the quoted TTL is 63 (real-kernel.md, fact 10)."""
    steps = from_pod(node(mtu=1500), echo(POD, FAR_POD, size=1453, df=True))
    (error,) = sent(steps, "eth1")
    assert (icmp_of(error).code, icmp_of(error).mtu, about(error).ttl) == (FRAG_NEEDED, 1480, 63)
    assert reasons(steps) == [Reason.PKT_TOO_BIG] and not sent(steps, "eth0")


def test_without_df_the_outer_packet_is_cut() -> None:
    """The inner packet stays whole; the far end puts the outer fragments together."""
    steps = from_pod(node(mtu=1500), echo(POD, FAR_POD, size=1472))
    assert ip_of(one(steps, "encap").packet).len == 1520
    assert [(ip_of(p).len, ip_of(p).offset) for p in sent(steps, "eth0")] == [(1500, 0), (40, 1480)]


def test_an_error_about_the_outer_packet_teaches_the_node() -> None:
    """ipip_err (real-kernel.md, fact 13): the first packet is lost, the next one's sender hears of it."""
    room = node()
    (lost,) = sent(from_pod(room, echo(POD, FAR_POD, size=1452, df=True)), "eth0")
    quote = Packet(lost.headers[1:], lost.payload)
    icmp = Icmp(UNREACHABLE, FRAG_NEEDED, mtu=1400)
    error = ip_packet(Ip(IPv4("10.0.0.9"), IPv4(NODE), PROTO_ICMP, 0, 64), icmp, payload=Slice(quote, 0, 548))
    steps = room.receive("eth0", frame(error), 0)
    assert str(one(steps, "learn").what) == f"path mtu 1400 to {PEER}" and not sent(steps)
    (told,) = sent(from_pod(room, echo(POD, FAR_POD, size=1452, df=True)), "eth1")
    assert icmp_of(told).mtu == 1380


def test_an_error_about_a_tunnel_that_is_not_ours_teaches_nothing() -> None:
    """ipip_err, ip_tunnel_lookup."""
    room = node(remote=IPv4("10.0.0.9"))
    inner = echo(POD, FAR_POD, size=1452, df=True)
    quote = Packet(tunnelled(inner, src=NODE, dst=PEER).headers[1:], inner.payload)
    icmp = Icmp(UNREACHABLE, FRAG_NEEDED, mtu=1400)
    error = ip_packet(Ip(IPv4("10.0.0.9"), IPv4(NODE), PROTO_ICMP, 0, 64), icmp, payload=Slice(quote, 0, 548))
    assert not of(room.receive("eth0", frame(error), 0), "learn")


# -- out ---------------------------------------------------------------------------------------------------------------


def test_what_was_inside_appears_on_the_tunnel_device() -> None:
    """tunnel4_rcv, gro_cells_receive: the inner packet is new to this host and goes through all of it again."""
    steps = arrive(node(), tunnelled(echo(FAR_POD, POD, ttl=63)))
    assert [(s.stage, s.dev) for s in steps if s.stage in ("receive", "decap", "transmit")] == [
        ("receive", "eth0"),
        ("decap", "tunl0"),
        ("receive", "tunl0"),
        ("transmit", "eth1"),
    ]
    assert ip_of(sent(steps, "eth1")[0]).ttl == 62


def test_two_packets_share_one_turn_of_the_tunnel() -> None:
    """gro_cells: NAPI is scheduled once; the taps see both before the first goes on."""
    room = node()
    first, second = (room.receive("eth0", tunnelled(echo(FAR_POD, POD, seq=n)), 0) for n in (1, 2))
    (poll,) = timers([*first, *second], "napi")
    seen = [s.stage for s in room.wake(poll, 0) if s.stage in ("receive", "transmit")]
    assert seen == ["receive", "receive", "transmit", "transmit"] and not room.cells


@pytest.mark.parametrize(
    ("devices", "taken_by"),
    [
        ([{}], "t0"),
        ([{"up": False}], ""),
        ([{"remote": "10.0.0.9"}], ""),
        ([{"local": "10.0.0.9"}], ""),
        ([{}, {"local": NODE}], "t1"),
        ([{"local": NODE}, {"remote": PEER}], "t1"),
        ([{"remote": PEER}, {"remote": PEER, "local": NODE}], "t1"),
    ],
)
def test_who_takes_a_packet(devices: list[dict[str, Any]], taken_by: str) -> None:
    """ip_tunnel_lookup: both ends known, then remote, then local, then neither; otherwise port unreachable."""
    room = router("n1", f"{NODE}/24", known=True)
    for n, device in enumerate(devices):
        ends: dict[str, Any] = {k: IPv4(v) if isinstance(v, str) else v for k, v in device.items()}
        room.link_add(f"t{n}", Ipip(**ends))
    steps = room.receive("eth0", tunnelled(echo(FAR_POD, POD)), 0)
    assert [s.dev for s in of(steps, "decap")] == ([taken_by] if taken_by else [])
    assert [icmp_of(p).code for p in sent(steps)] == ([] if taken_by else [PORT_UNREACH])


def test_without_any_ipip_device_the_protocol_is_unknown() -> None:
    """ip_protocol_deliver_rcu."""
    steps = router("n1", f"{NODE}/24", known=True).receive("eth0", tunnelled(echo(FAR_POD, POD)), 0)
    assert reasons(steps) == [Reason.IP_NOPROTO] and icmp_of(sent(steps)[0]).code == PROTO_UNREACH


@pytest.mark.parametrize(("outer", "inner", "result"), [(0, 1, 1), (3, 1, 3), (3, 2, 3), (3, 0, None), (2, 0, 0)])
def test_congestion_outside_is_told_inside(outer: int, inner: int, result: int | None) -> None:
    """INET_ECN_decapsulate, RFC 6040 4.2: a sender that knows no ECN loses the packet instead."""
    steps = arrive(node(), tunnelled(echo(FAR_POD, POD, tos=inner), tos=outer))
    assert [ip_of(p).tos for p in sent(steps, "eth1")] == ([] if result is None else [result])
    assert reasons(steps) == ([Reason.IP_TUNNEL_ECN] if result is None else [])


def test_an_inner_packet_for_the_tunnels_address_is_delivered() -> None:
    """From a host behind the far end to this node's tunnel address, and back into the tunnel."""
    steps = arrive(node(), tunnelled(echo(FAR_POD, "10.244.1.0")))
    assert "deliver" in stages(steps) and str(ip_of(sent(steps, "eth0")[0]).dst) == PEER
