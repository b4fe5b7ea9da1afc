"""Packets coming in: receive, the ip_rcv checks, the routing decision, local delivery."""

from __future__ import annotations

from packetwalk.addr import ANY, BROADCAST_MAC
from packetwalk.netns.device import UnknownDevice
from packetwalk.netns.fragment import defrag
from packetwalk.netns.hooks import nf_hook
from packetwalk.netns.policy_rule import Flow
from packetwalk.netns.route import input_route
from packetwalk.netns.visit import Skb, Visit
from packetwalk.packet import ETH_ARP, ETH_IP, Ethernet, Ip
from packetwalk.trace import Drop, Reason


def receive(v: Visit, skb: Skb) -> str | None:
    """netif_receive_skb: a frame appears on a device, and the taps see it, unless it is down (enqueue_to_backlog)."""
    if not v.t.devices[skb.dev].up:
        v.drop(skb, Reason.DEV_READY, f"{skb.dev} is down")
        return None
    v.step("receive", skb.dev, None, skb.packet)
    return "link_in"


def link_in(v: Visit, skb: Skb) -> str | None:
    """__netif_receive_skb_core: a bridge port hands the frame to its bridge; else the link header comes off."""
    device = v.t.devices[skb.dev]
    if isinstance(device, UnknownDevice):
        v.unsupported(skb, "device", f"{device.name} of kind {device.what}")
        return None
    eth = skb.packet.headers[0]
    if not isinstance(eth, Ethernet):  # an ipip device has no link layer
        skb.eth, skb.pkt_type = None, "host"
        return "prerouting"
    skb.eth = eth
    if not skb.bridged:
        skb.pkt_type = packet_type(eth, device.mac)
    if device.master:
        return "bridge"
    if skb.bridged:
        skb.bridged, skb.frag_max = "", 0  # ip_rcv_core clears IPCB: a bridge's reassembly is forgotten
    skb.packet = skb.packet.pull()
    if eth.type == ETH_IP:
        return "prerouting"
    if eth.type == ETH_ARP:
        return "arp"
    v.unsupported(skb, "ethertype", f"0x{eth.type:04x}")
    return None


def packet_type(eth: Ethernet, mac: int) -> str:
    """eth_type_trans: whom the frame is for."""
    if eth.dst == mac:
        return "host"
    if eth.dst == BROADCAST_MAC:
        return "broadcast"
    return "multicast" if eth.dst >> 40 & 1 else "otherhost"


def prerouting(v: Visit, skb: Skb) -> str | None:
    """ip_rcv: not for us is dropped; connection tracking wants whole datagrams (nf_defrag_ipv4)."""
    if skb.pkt_type == "otherhost":
        v.drop(skb, Reason.OTHERHOST, skb.eth)
        return None
    if v.t.conntrack and not defrag(v, skb, "conntrack"):
        return None
    if v.hooked:
        if skb.physin and not skb.sabotaged:  # ip_sabotage_in: the bridge has run this hook already
            skb.sabotaged = True
        elif not nf_hook(v, skb, "PREROUTING", iif=skb.dev):
            return None
    return "route_in"


def route_in(v: Visit, skb: Skb) -> str | None:
    """ip_rcv_finish: decide between forwarding, delivery and an error."""
    ip = skb.packet.headers[0]
    assert isinstance(ip, Ip)
    result = skb.rt or input_route(v.t, skb, ip, v.now)  # over loopback the sender's route comes along
    if isinstance(result, Drop):
        v.step("drop", skb.dev, result, skb.packet)
        return None
    skb.rt = result
    odd = skb.pkt_type in ("broadcast", "multicast") and result.kind != "broadcast"  # RFC 1122 3.3.6
    if odd and v.t.conf(skb.dev).drop_unicast_in_l2_multicast:
        v.drop(skb, Reason.UNICAST_IN_L2_MULTICAST, skb.eth)
        return None
    by = result.found.by if result.found is not None else None
    if result.error == "unsupported":
        v.unsupported(skb, "route", f"{by} {by.oddity}" if by is not None else f"to multicast {ip.dst}")
        return None
    v.step("route_in", result.dev, by or result.error, skb.packet)
    if result.kind == "unicast":
        return "forward"
    return "ip_error" if result.kind == "error" else "input"


def input_(v: Visit, skb: Skb) -> str | None:
    """ip_local_deliver: put fragments together, then on to the protocol."""
    if not defrag(v, skb, "local"):
        return None
    if v.hooked and not nf_hook(v, skb, "INPUT", iif=skb.dev):
        return skb.taken()
    return "local"


def source_of_reply(v: Visit, skb: Skb) -> int:
    """fib_compute_spec_dst: the address to answer from: the one it was sent to, unless that was a broadcast."""
    ip = skb.packet.headers[0]
    assert isinstance(ip, Ip)
    if skb.rt is not None and skb.rt.kind == "local":
        return ip.dst
    found = v.t.fib.lookup(Flow(ip.src, iif="lo"))
    return ANY if found.error else v.t.source_for(found)
