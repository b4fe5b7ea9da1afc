"""What a walk adds up to; above all the path MTU, which is tried out to the byte."""

from pathlib import Path

import pytest

import packetwalk as pw
from packetwalk.netns.device import Bridge, Veth, Vxlan
from packetwalk.netns.namespace import Netns
from packetwalk.netns.netfilter import Ruleset
from packetwalk.totals import totals

RECORDINGS = sorted(p.parent for p in (Path(__file__).parent / "recordings").glob("*/snapshot.json"))
IP_AND_UDP = 28


def two_rooms(mtu: int = 1500, far_mtu: int = 1500) -> pw.Network:
    net = pw.Network("two")
    for n, (name, size) in enumerate((("a", mtu), ("b", far_mtu)), 1):
        room = net.add(Netns(name))
        room.link_add("eth0", Veth(mac=pw.Mac(0x0200_0000_0000 + n), mtu=size))
        room.addr_add("eth0", f"10.0.0.{n}/24")
    net.connect(("a", "eth0"), ("b", "eth0"))
    return net


def ping(net: pw.Network, src: str, dst: str, **more: object) -> pw.Trace:
    return pw.walk(net, pw.Flow("icmp", src, pw.IPv4(dst), **more))  # type: ignore[arg-type]


def arrives_whole(net: pw.Network, src: str, dst: pw.IPv4, size: int) -> bool:
    """Whether a packet of that size with DF reaches another room's sockets, and nobody cuts it or what is around it."""
    trace = pw.walk(net, pw.Flow("udp", src, dst, 9, size=size - IP_AND_UDP, df="do"))
    reached = any(
        getattr(step.what, "kind", "") == "datagram" or getattr(step.what, "reason", "") == pw.Reason.NO_SOCKET
        for hop, step in trace.steps
        if hop.room != src
    )
    return reached and not any(step.stage == "fragment" for _, step in trace.steps)


def wires_of(net: pw.Network) -> list[tuple[str, str]]:
    named = [name for name in net.rooms if any(d.addrs for d in net[name].devices.values() if d.name != "lo")]
    return [(a, b) for a in named for b in named if a != b]


@pytest.mark.parametrize("folder", [pw.SAMPLE, *RECORDINGS], ids=lambda f: f.name)
def test_the_path_mtu_is_the_largest_packet_that_gets_through_whole(folder: Path) -> None:
    net = pw.load_snapshot(folder)
    tried = 0
    for src, dst in wires_of(net):
        address = pw.address_of(net, dst)
        if not arrives_whole(net, src, address, IP_AND_UDP):
            continue
        mtu = pw.walk(net, pw.Flow("udp", src, address, 9, size=0)).totals.path_mtu
        assert arrives_whole(net, src, address, mtu), f"{src} > {dst}: {mtu} bytes get through"
        assert not arrives_whole(net, src, address, mtu + 1), f"{src} > {dst}: {mtu} bytes are the most"
        tried += 1
    assert tried >= 8


def test_a_route_may_say_less_than_its_device() -> None:
    net = two_rooms()
    net["a"].route_add("10.9.0.0/16", via="10.0.0.2", mtu=1300)
    assert ping(net, "a", "10.9.0.1").totals.path_mtu == 1300


def test_the_far_end_of_a_wire_counts() -> None:
    """is_skb_forwardable: a veth takes what exceeds its MTU by no more than a VLAN tag."""
    assert ping(two_rooms(9000, 1400), "a", "10.0.0.2").totals.path_mtu == 1404


def test_a_packet_too_big_for_a_router_tells_what_would_fit() -> None:
    net = two_rooms()
    net["b"].link_add("narrow", Veth(mac=pw.Mac(0x0200_0000_0003), mtu=1200))
    net["b"].addr_add("narrow", "10.1.0.1/24")
    net["b"].sysctl("net.ipv4.ip_forward", 1)
    net["a"].route_add("10.1.0.0/24", via="10.0.0.2")
    trace = ping(net, "a", "10.1.0.9", size=1300, df="do")
    assert trace.result.mtu == trace.totals.path_mtu == 1200


def test_the_way_back_does_not_count() -> None:
    net = two_rooms()
    net["b"].route_add("10.0.0.1/32", dev="eth0", mtu=600)
    assert ping(net, "a", "10.0.0.2").totals.path_mtu == 1500


def test_tunnels_and_what_they_put_in_front() -> None:
    sample = ping(pw.load_snapshot(pw.SAMPLE), "a", "10.244.2.2").totals
    assert (sample.tunnels, sample.path_mtu, sample.ttl, sample.rooms, sample.drops) == ({"ipip": 20}, 1480, 2, 5, 0)
    net = two_rooms()
    for n, name in enumerate("ab", 1):
        room = net[name]
        room.link_add("vx", Vxlan(mac=pw.Mac(0x0200_0000_0010 + n), mtu=1500, vni=7, remote=pw.IPv4(f"10.0.0.{3 - n}")))
        room.addr_add("vx", f"10.7.0.{n}/24")
    tunnelled = ping(net, "a", "10.7.0.2").totals
    assert (tunnelled.tunnels, tunnelled.path_mtu) == ({"vxlan": 50}, 1450)


def test_a_port_with_br_netfilter_takes_its_mtu_and_not_a_byte_more() -> None:
    for call, most in ((False, 1404), (True, 1400)):
        net = two_rooms(9000, 9000)
        net["b"].link_add("br0", Bridge(mac=pw.Mac(0x0200_0000_0020), mtu=1400, nf_call_iptables=call))
        net["b"].link_add("out", Veth(mac=pw.Mac(0x0200_0000_0021), mtu=1400))
        for port in ("eth0", "out"):
            net["b"].link_set(port, master="br0")
        net["b"].sysctl("net.bridge.bridge-nf-call-iptables", 1)
        far = net.add(Netns("c"))
        far.link_add("eth0", Veth(mac=pw.Mac(0x0200_0000_0022), mtu=9000))
        far.addr_add("eth0", "10.0.0.3/24")
        net.connect(("b", "out"), ("c", "eth0"))
        assert ping(net, "a", "10.0.0.3").totals.path_mtu == most


def test_ttl_is_what_the_request_lost_however_often_it_was_sent() -> None:
    net = pw.load_snapshot(pw.SAMPLE)
    net["node-1"].netfilter = Ruleset()  # its MASQUERADE would bring an answer
    trace = pw.walk(net, pw.Flow("tcp", "a", pw.address_of(net, "out"), 80))
    assert trace.result.outcome == "timeout" and trace.totals.ttl == 2


def test_the_trace_hands_its_totals_out() -> None:
    trace = ping(two_rooms(), "a", "10.0.0.2")
    assert trace.totals == totals(trace) and trace.to_dict()["totals"] == totals(trace)._asdict()
