"""REJECT: the answer that goes back beside a drop, and the new route of a changed packet (net/ipv4/netfilter/
nf_reject_ipv4.c, net/ipv4/netfilter.c)."""

from __future__ import annotations

from packetwalk.addr import ANY
from packetwalk.netns.device import Geneve, Vxlan
from packetwalk.netns.route import output_route, ports_of
from packetwalk.netns.target import Target
from packetwalk.netns.visit import Skb, Visit
from packetwalk.packet import (
    ETH_IP,
    PROTO_TCP,
    UNREACHABLE,
    Ethernet,
    Icmp,
    Ip,
    Packet,
    Tcp,
    ip_packet,
    payload_len,
)  # fmt: skip

CODES = {
    "icmp-net-unreachable": 0, "icmp-host-unreachable": 1, "icmp-proto-unreachable": 2, "icmp-port-unreachable": 3,
    "icmp-net-prohibited": 9, "icmp-host-prohibited": 10, "icmp-admin-prohibited": 13,
}  # fmt: skip


def reject(v: Visit, skb: Skb, target: Target) -> None:
    """reject_tg: answer as the target says; the packet itself is dropped by the caller."""
    option = target.get("--reject-with")
    kind = option.text if option is not None else "icmp-port-unreachable"
    ip = skb.packet.headers[0]
    assert isinstance(ip, Ip)
    if kind == "tcp-reset":
        _reset(v, skb)
    elif not ip.offset and (not ip.mf or _verified(v, skb)):  # nf_send_unreach: a first fragment's checksum fails
        offender = skb.copy()
        if skb.physin and skb.bridged:  # br_nf_forward_ip makes a bridged packet look like one for this host
            offender.pkt_type = "host"
        offender.error = Icmp(UNREACHABLE, CODES[kind])
        v.go("icmp_error", offender)


def _verified(v: Visit, skb: Skb) -> bool:
    """skb_csum_unnecessary: nobody looks at the checksum of what came in a UDP tunnel whose own one was right."""
    device = v.t.devices.get(skb.physin or skb.dev)
    return isinstance(device, Vxlan | Geneve) and device.udp_csum


def _reset(v: Visit, skb: Skb) -> None:
    """nf_send_reset: a RST in the name of the destination. What came in over a bridge port leaves by it at once, also
    where the packet was routed since."""
    ip, tcp = skb.packet.headers[0], skb.packet.l4
    assert isinstance(ip, Ip)
    to_many = skb.rt is not None and skb.rt.kind in ("broadcast", "multicast")
    if not isinstance(tcp, Tcp) or "R" in tcp.flags or to_many:
        return
    length = payload_len(skb.packet.payload) + ("S" in tcp.flags) + ("F" in tcp.flags)
    rst = (
        Tcp(tcp.dport, tcp.sport, "R", seq=tcp.ack, window=0)
        if "A" in tcp.flags
        else Tcp(tcp.dport, tcp.sport, "RA", ack=tcp.seq + length, window=0)
    )
    ttl = v.t.sysctls["net.ipv4.ip_default_ttl"]
    reply = Skb(ip_packet(Ip(ip.dst, ip.src, PROTO_TCP, 0, ttl, df=True), rst))
    if route_me_harder(v, reply) or reply.rt is None:
        return
    reply.answers(skb)
    v.step("reject", skb.dev or reply.rt.dev, "tcp-reset", reply.packet)
    task, v.task = v.task, False
    if skb.physin and skb.eth is not None:
        eth = Ethernet(skb.eth.dst, skb.eth.src, ETH_IP)
        reply.packet = Packet((eth, *reply.packet.headers), reply.packet.payload)
        reply.out = skb.physin
        v.go("transmit", reply)
    else:
        v.go("output", reply)
    v.task = task


def route_me_harder(v: Visit, skb: Skb) -> str:
    """ip_route_me_harder: route a packet again that has changed, or is not from one of our addresses. Returns an
    errno."""
    t, ip = v.t, skb.packet.headers[0]
    assert isinstance(ip, Ip)
    src = ip.src if t.fib.addr_type(ip.src) in ("local", "unicast") else ANY
    sport, dport = ports_of(skb.packet)
    rt = output_route(
        t, ip.dst, v.now, src=src, mark=skb.mark, tos=ip.tos, proto=ip.proto, sport=sport, dport=dport, any_source=True
    )
    if not rt.error:
        skb.rt = rt
    return rt.error
