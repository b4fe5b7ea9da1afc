"""VXLAN and Geneve: where a frame is sent, what the outer header says, who may send in, and what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from packetwalk.addr import ZERO_MAC, IPv4, Mac
from packetwalk.netns.device import Bridge, Geneve, Nic
from packetwalk.netns.namespace import Netns
from packetwalk.netns.tunnel import source_port
from packetwalk.packet import (
    FRAG_NEEDED,
    PORT_UNREACH,
    PROTO_UDP,
    Ethernet,
    Header,
    Ip,
    Packet,
    Udp,
    Vxlan,
    size,
    visible,
)
from packetwalk.packet import Geneve as GeneveHeader
from packetwalk.trace import Reason, Step
from tests.netns.rooms import (
    M3,
    M4,
    SECOND,
    STRANGER,
    about,
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
    sent,
    stages,
    tcp,
    timers,
    udp,
    vxlan,
)

NODE, PEER, THIRD = "10.0.0.1", "10.0.0.2", "10.0.0.3"
IN, FAR_IN = "10.5.0.1", "10.5.0.2"
AGEING = 300 * SECOND
FAR_MAC = Mac("02:00:00:00:00:0f")


def node(*, remote: str = PEER, geneve: bool = False, **device: Any) -> Netns:
    """10.0.0.1 on eth0; 10.5.0.1 on vx0, where 10.5.0.2 has the MAC FAR_MAC; both tunnel ends are known."""
    room = host("n1", f"{NODE}/24")
    for far in (PEER, THIRD):
        room.neigh_add(far, M3, "eth0")
    if geneve:
        room.link_add("vx0", Geneve(**{"mac": M4, "vni": 42, "remote": IPv4(remote), "mtu": 1450, **device}))
    else:
        vxlan(room, remote=remote, **device)
    room.addr_add("vx0", f"{IN}/24")
    room.neigh_add(FAR_IN, FAR_MAC, "vx0")
    return room


def ping(room: Netns, dst: str = FAR_IN, **more: Any) -> list[Step]:
    steps = room.send(echo("0.0.0.0", dst, **{"ttl": 0, **more}), 0, pinger(room))
    for rest in timers(steps, "resume"):
        steps += room.wake(rest, 0)
    return steps


def outer(steps: list[Step]) -> Packet:
    """The one packet that left by eth0."""
    (packet,) = sent(steps, "eth0")
    return packet


def wrapped(inner: Packet, *, src: str = PEER, dport: int = 8472, header: Header | None = None, tos: int = 0) -> Packet:
    """A frame in UDP from the peer, as a frame for 10.0.0.1."""
    length = size(inner) + 16
    headers = (Udp(40000, dport, length), header or Vxlan(42), *inner.headers)
    return frame(Packet((Ip(IPv4(src), IPv4(NODE), PROTO_UDP, 20 + length, 64, tos), *headers), inner.payload))


def inside(*, src: Mac = FAR_MAC, dst: Mac = M4, size: int = 56) -> Packet:
    """The frame that the peer's pod sends."""
    return frame(echo(FAR_IN, IN, size=size), dst, src)


def arrive(room: Netns, packet: Packet) -> list[Step]:
    """A frame on eth0, and what the tunnel's NAPI then delivers."""
    steps = room.receive("eth0", packet, 0)
    for poll in timers(steps, "napi"):
        steps += room.wake(poll, 0)
    return steps


# -- where to ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["default destination", "fdb", "fdb over default"])
def test_the_far_end(by: str) -> None:
    """vxlan_find_mac: the entry of the inner MAC, else that of the all-zero MAC."""
    room = node(remote="" if by == "fdb" else PEER)
    if by != "default destination":
        room.fdb_append("vx0", FAR_MAC, dst=THIRD)
    packet = outer(ping(room))
    assert str(ip_of(packet).dst) == (PEER if by == "default destination" else THIRD)
    assert packet.headers[3] == Vxlan(42) and eth_of(Packet(packet.headers[4:])).dst == FAR_MAC


def test_a_frame_for_all_goes_to_every_default_destination() -> None:
    """vxlan_xmit: one copy for each entry of the all-zero MAC."""
    room = node()
    room.fdb_append("vx0", ZERO_MAC, dst=THIRD)
    question = ping(room, "10.5.0.9")
    assert [str(ip_of(p).dst) for p in sent(question, "eth0")] == [PEER, THIRD]
    assert all(a.tpa == IPv4("10.5.0.9") for a in arps(sent(question, "eth0")))


def test_an_entry_may_name_a_port_and_a_vni() -> None:
    """`bridge fdb append ... port P vni V`."""
    room = node()
    room.fdb_append("vx0", FAR_MAC, dst=THIRD, port=4789, vni=7)
    packet = outer(ping(room))
    assert isinstance(packet.headers[2], Udp) and packet.headers[2].dport == 4789 and packet.headers[3] == Vxlan(7)


def test_nowhere_to_send_to() -> None:
    """vxlan_xmit (real-kernel.md, fact 34): ARP is seen on the device, then dropped; after three tries EHOSTUNREACH."""
    room = node(remote="")
    steps = ping(room, "10.5.0.9")
    assert [s.dev for s in of(steps, "transmit")] == ["vx0"] and reasons(steps) == [Reason.NO_TX_TARGET]
    for _ in range(3):
        (again,) = timers(steps, "arp")
        steps = room.wake(again, again.at)
    assert errnos(steps) == ["EHOSTUNREACH"]


@pytest.mark.parametrize("learning", [True, False])
def test_learning(learning: bool) -> None:
    """vxlan_snoop: the inner source is behind the outer one; flannel and Calico say `nolearning`."""
    room = node(learning=learning)
    arrive(room, wrapped(inside(src=STRANGER), src=THIRD))
    assert [str(e.dst) for e in room.vxlan_fdb.find("vx0", STRANGER, 0, AGEING)] == [THIRD if learning else PEER]


def test_what_was_given_is_not_unlearned() -> None:
    """vxlan_snoop: "Don't migrate static entries, drop packets" (checked on 6.18)."""
    room = node()
    room.fdb_append("vx0", FAR_MAC, dst=PEER)
    steps = arrive(room, wrapped(inside(), src=THIRD))
    assert reasons(steps) == [Reason.VXLAN_ENTRY_EXISTS] and not of(steps, "decap")
    assert [str(e.dst) for e in room.vxlan_fdb.find("vx0", FAR_MAC, 0, AGEING)] == [PEER]


# -- the outer header --------------------------------------------------------------------------------------------------


def test_the_outer_header() -> None:
    """vxlan_xmit_one (real-kernel.md, fact 5): TTL 64, no DF, tos 0, an id, a checksum; 50 bytes more in all."""
    packet = outer(ping(node(), size=100, df=True, tos=0x28))
    ip, port = ip_of(packet), packet.headers[2]
    assert (str(ip.src), str(ip.dst), ip.ttl, ip.df, ip.tos, bool(ip.id)) == (NODE, PEER, 64, False, 0, True)
    assert isinstance(port, Udp) and (port.dport, port.checksum, port.len) == (8472, True, 8 + 8 + 14 + 128)
    assert ip.len == 128 + 50


@pytest.mark.parametrize(
    ("device", "inner_df", "df"),
    [
        ({"df": "unset"}, True, False),
        ({"df": "set"}, False, True),
        ({"df": "inherit"}, True, True),
        ({"df": "inherit"}, False, False),
    ],
)
def test_df(device: dict[str, Any], inner_df: bool, df: bool) -> None:
    """`ip link add ... type vxlan df`."""
    room = node(**device)
    socket = pinger(room)
    socket.pmtudisc = "do" if inner_df else "dont"
    assert ip_of(outer(room.send(echo("0.0.0.0", FAR_IN, ttl=0), 0, socket))).df is df


@pytest.mark.parametrize(("device", "ttl"), [({}, 77), ({"ttl": 9}, 9), ({"ttl_inherit": True}, 5)])
def test_ttl(device: dict[str, Any], ttl: int) -> None:
    """Zero is the namespace's default; with inherit the inner TTL limits the outer one (real-kernel.md, fact 23)."""
    room = node(**device)
    room.sysctl("net.ipv4.ip_default_ttl", 77)
    assert ip_of(outer(ping(room, ttl=5))).ttl == ttl


@pytest.mark.parametrize(("device", "tos"), [({}, 0x01), ({"tos": 0x10}, 0x11), ({"tos_inherit": True}, 0xB9)])
def test_tos(device: dict[str, Any], tos: int) -> None:
    """The inner ECN bits always, the inner DSCP with inherit."""
    assert ip_of(outer(ping(node(**device), tos=0xB9))).tos == tos


def test_the_source_port_is_alike_both_ways_but_for_tcp() -> None:
    """udp_flow_src_port (real-kernel.md, fact 5): 32768 to 60999; TCP brings a hash of its socket."""
    there = {k: frame(f(IN, FAR_IN)) for k, f in (("echo", echo), ("udp", lambda a, b: udp(a, b, sport=5, dport=6)))}
    back = {k: frame(f(FAR_IN, IN)) for k, f in (("echo", echo), ("udp", lambda a, b: udp(a, b, sport=6, dport=5)))}
    bounds = (32768, 60999)
    for k in there:
        assert source_port(there[k], bounds, 1) == source_port(back[k], bounds, 1)
    segments = [frame(tcp(IN, FAR_IN, sport=5, dport=6)), frame(tcp(FAR_IN, IN, sport=6, dport=5))]
    assert len({source_port(s, bounds, 1) for s in segments}) == 2
    ports = {source_port(frame(udp(IN, FAR_IN, sport=n)), bounds, seed) for n in range(200) for seed in (1, 2)}
    assert len(ports) > 300 and all(32768 <= p <= 60999 for p in ports)


def test_two_boots_choose_different_ports() -> None:
    """The hash is keyed once per boot; the same seed gives the same port."""
    ports = []
    for seed in (1, 2, 1):
        room = node()
        room.seed = seed
        port = outer(ping(room)).headers[2]
        assert isinstance(port, Udp)
        ports.append(port.sport)
    assert ports[0] == ports[2] != ports[1]


# -- size --------------------------------------------------------------------------------------------------------------


def test_an_outer_packet_that_is_too_big_is_cut() -> None:
    """df unset: the router or the node cuts it; its first fragment shows UDP, not vxlan (real-kernel.md, fact 24)."""
    room = node()
    room.link_set("vx0", mtu=1500)
    pieces = sent(ping(room, size=1472), "eth0")
    assert [(ip_of(p).len, ip_of(p).mf) for p in pieces] == [(1500, True), (70, False)]
    assert [type(h).__name__ for h in visible(pieces[0]).headers] == ["Ethernet", "Ip", "Udp"]


def test_with_df_set_the_error_goes_to_the_tunnel_end() -> None:
    """real-kernel.md, fact 24: over lo, to the tunnel's own address; the inner sender hears nothing of it."""
    room = node(df="set")
    room.link_set("vx0", mtu=1500)
    steps = ping(room, size=1472)
    error = one(steps, "icmp_error").packet
    assert (ip_of(error).dst, icmp_of(error).code, icmp_of(error).mtu) == (IPv4(NODE), FRAG_NEEDED, 1500)
    assert Reason.NOT_SPECIFIED in reasons(steps) and not sent(steps, "eth0") and sent(steps, "lo")
    assert str(about(error).dst) == PEER


def test_no_error_is_born_while_one_is_being_sent() -> None:
    """icmp_xmit_lock: an echo reply that is too big for its tunnel is lost without a word."""
    room = node(df="set")
    room.link_set("vx0", mtu=1500)
    steps = room.receive("vx0", frame(echo(FAR_IN, IN, size=1472), dst=M4, src=FAR_MAC), 0)
    assert Reason.NOT_SPECIFIED in reasons(steps) and not of(steps, "icmp_error")
    assert [s.what for s in of(steps, "consume")] == ["no icmp error: one is just being sent (icmp_xmit_lock)"]


@pytest.mark.parametrize("df", [True, False])
def test_a_tunnel_on_a_bridge_answers_for_what_does_not_fit(df: bool) -> None:
    """skb_tunnel_check_pmtu, iptunnel_pmtud_build_icmp: as a bridge port it is no hop; the answer seems to come from
    the destination, with DF, id 0 and tos 0 (seen on 6.18)."""
    room = node()
    room.link_set("eth0", mtu=1300)
    steps = bridged(room, echo(IN, FAR_IN, size=1300, df=df))
    errors = [p for p in sent(steps, "p1") if icmp_of(p).type == 3]
    assert [(icmp_of(p).mtu, str(ip_of(p).src), eth_of(p).dst) for p in errors] == ([(1250, FAR_IN, M3)] if df else [])
    assert [(ip_of(p).df, ip_of(p).id, ip_of(p).tos, ip_of(p).len) for p in errors] == [(True, 0, 0, 576)] * df
    assert bool(sent(steps, "eth0")) is not df


def bridged(room: Netns, packet: Packet) -> list[Step]:
    """vx0 and p1 become ports of a bridge, and the packet comes in by p1."""
    room.link_add("br0", Bridge(mac=Mac("02:00:00:00:00:b0")))
    room.link_add("p1", Nic(mac=Mac("02:00:00:00:00:b1")))
    for port in ("p1", "vx0"):
        room.link_set(port, master="br0")
    return room.receive("p1", frame(packet, FAR_MAC, M3), 0)


# -- out ---------------------------------------------------------------------------------------------------------------


def test_the_inner_frame_appears_on_the_device() -> None:
    """vxlan_rcv: 50 bytes off, and the frame is new to this host."""
    steps = arrive(node(), wrapped(inside()))
    (taken,) = [s for s in of(steps, "receive") if s.dev == "vx0"]
    assert taken.packet == inside() and "deliver" in stages(steps) and sent(steps, "eth0")


@pytest.mark.parametrize(
    ("header", "dport", "reason"),
    [
        (Vxlan(43), 8472, Reason.VXLAN_VNI_NOT_FOUND),
        (GeneveHeader(42), 8472, Reason.VXLAN_VNI_NOT_FOUND),
        (Vxlan(42), 4789, Reason.NO_SOCKET),
    ],
)
def test_the_wrong_vni_is_silent_and_the_wrong_port_is_not(header: Header, dport: int, reason: Reason) -> None:
    """real-kernel.md, fact 17: without the VNI here the sender only ever times out."""
    steps = arrive(node(), wrapped(inside(), header=header, dport=dport))
    assert reasons(steps) == [reason]
    assert [icmp_of(p).code for p in sent(steps)] == ([PORT_UNREACH] if reason is Reason.NO_SOCKET else [])


def test_a_device_that_is_down_takes_nothing() -> None:
    """vxlan_stop: its socket is closed."""
    room = node()
    room.link_set("vx0", up=False)
    assert reasons(arrive(room, wrapped(inside()))) == [Reason.NO_SOCKET]


def test_a_frame_for_another_mac_is_not_ours() -> None:
    """A wrong FDB or ARP entry at the sender: decapsulated, then otherhost."""
    steps = arrive(node(), wrapped(inside(dst=STRANGER)))
    assert "decap" in stages(steps) and reasons(steps) == [Reason.OTHERHOST]


def test_fragments_of_the_outer_packet_are_put_together_first() -> None:
    room, far = node(), node(mac=FAR_MAC)
    far.link_set("vx0", mtu=1500)
    pieces = [Packet(p.headers[1:], p.payload) for p in sent(ping(far, size=1472), "eth0")]
    turned = [Packet((ip_of(p)._replace(src=IPv4(PEER), dst=IPv4(NODE)),), p.payload) for p in pieces]
    steps = [s for p in turned for s in arrive(room, frame(p))]
    assert stages(steps).index("defrag") < stages(steps).index("decap")


def test_a_far_end_that_is_here() -> None:
    """encap_bypass_if_local: the frame jumps from one vxlan device to another of this host, never wrapped."""
    room = node(remote=NODE, vni=1)
    vxlan(room, "vx1", vni=2, mac=FAR_MAC)
    room.fdb_append("vx0", FAR_MAC, dst=NODE, vni=2)
    steps = ping(room)
    assert [s.dev for s in of(steps, "receive")] == ["vx1"] and not of(steps, "encap")


# -- geneve ------------------------------------------------------------------------------------------------------------


def test_geneve() -> None:
    """geneve_xmit_skb (real-kernel.md, fact 7): no DF, no checksum, any source port; 50 bytes more."""
    packet = outer(ping(node(geneve=True), df=True))
    ip, port = ip_of(packet), packet.headers[2]
    assert isinstance(port, Udp) and (port.dport, port.checksum, ip.ttl, ip.df) == (6081, False, 64, False)
    assert packet.headers[3] == GeneveHeader(42) and ip.len == 84 + 50


@pytest.mark.parametrize(("src", "vni", "taken"), [(PEER, 42, True), (PEER, 43, False), (THIRD, 42, False)])
def test_geneve_listens_to_its_remote_only(src: str, vni: int, taken: bool) -> None:
    """geneve_lookup: by VNI and remote address."""
    packet = wrapped(inside(), src=src, dport=6081, header=GeneveHeader(vni))
    assert bool(of(arrive(node(geneve=True), packet), "decap")) is taken


def test_a_chain_of_tunnels_ends() -> None:
    """A geneve in a vxlan: each puts its header around the other's."""
    room = node()
    room.link_add("g0", Geneve(mac=STRANGER, vni=7, remote=IPv4(FAR_IN), mtu=1400))
    room.addr_add("g0", "10.6.0.1/24")
    room.neigh_add("10.6.0.2", M3, "g0")
    assert [type(h) for h in outer(ping(room, "10.6.0.2")).headers if not isinstance(h, Ip | Udp)] == [
        Ethernet, Vxlan, Ethernet, GeneveHeader, Ethernet, type(icmp_of(echo(IN, FAR_IN))),
    ]  # fmt: skip
