"""br_netfilter: bridged IPv4 frames in the hooks of iptables (net/bridge/br_netfilter_hooks.c).

With net.bridge.bridge-nf-call-iptables a frame that enters by a port runs PREROUTING before the bridge looks up its
way,
and FORWARD and POSTROUTING before it leaves by another port. A DNAT makes the bridge decide again.
"""

from __future__ import annotations

from packetwalk.netns.device import Bridge
from packetwalk.netns.fragment import defrag, fragment
from packetwalk.netns.hooks import nf_hook
from packetwalk.netns.neighbour import CONNECTED
from packetwalk.netns.route import input_route
from packetwalk.netns.visit import Skb, Visit
from packetwalk.packet import ETH_IP, Ethernet, Ip, Packet
from packetwalk.trace import Drop, Reason


def calls_iptables(v: Visit, bridge: Bridge) -> bool:
    """Whether frames of this bridge visit iptables at all."""
    return bool(v.t.sysctls["net.bridge.bridge-nf-call-iptables"]) or bridge.nf_call_iptables


def pre_routing(v: Visit, skb: Skb, bridge: Bridge) -> str | None:
    """br_nf_pre_routing and its okfn: the stage that comes next, None where the frame waits or is gone."""
    eth = skb.packet.headers[0]
    assert isinstance(eth, Ethernet)
    if eth.type != ETH_IP or not calls_iptables(v, bridge):
        return "bridge_finish"
    port, skb.physin = skb.dev, skb.dev
    skb.packet = Packet(skb.packet.headers[1:], skb.packet.payload)
    before = skb.packet.headers[0]
    assert isinstance(before, Ip)
    if v.t.conntrack and not defrag(v, skb, "conntrack"):
        return None
    if v.hooked:
        skb.dev = bridge.name
        passed = nf_hook(v, skb, "PREROUTING", iif=bridge.name)
        skb.dev = port
        if not passed:
            return None
    skb.packet = Packet((eth, *skb.packet.headers), skb.packet.payload)
    ip = skb.packet.headers[1]
    assert isinstance(ip, Ip)
    return "bridge_finish" if ip.dst == before.dst else _redirected(v, skb, bridge, eth, ip)


def _redirected(v: Visit, skb: Skb, bridge: Bridge, eth: Ethernet, ip: Ip) -> str | None:
    """br_nf_pre_routing_finish after a DNAT: bridge on to the new destination if it is behind this bridge, else hand
    the frame to the host to be routed."""
    inner = skb.copy(Packet(skb.packet.headers[1:], skb.packet.payload))
    inner.dev, inner.pkt_type = bridge.name, "host"
    rt = input_route(v.t, inner, ip, v.now)
    if isinstance(rt, Drop):
        v.step("drop", skb.dev, rt, skb.packet)
        return None
    if rt.dev != bridge.name or rt.kind != "unicast":  # an error, too, is a route, to ip_error (ip_route_input_slow)
        skb.packet = Packet((eth._replace(dst=bridge.mac), *skb.packet.headers[1:]), skb.packet.payload)
        skb.pkt_type = "host"
        return "bridge_finish"
    skb.rt, skb.nexthop = rt, rt.via or ip.dst
    entry = v.t.neighbours.get(bridge.name, skb.nexthop)
    if entry is not None and entry.seen_at(v.now).state in CONNECTED and entry.lladdr is not None:
        skb.packet = Packet((eth._replace(dst=entry.lladdr), *skb.packet.headers[1:]), skb.packet.payload)
        v.step("neigh", bridge.name, entry, skb.packet)
        return "bridge_finish"
    skb.bridged_dnat, skb.out = eth, bridge.name  # the neighbour code sends through the bridge device, see bridge_xmit
    skb.packet = inner.packet
    v.go("neigh", skb)
    return None


def dnat_resumed(skb: Skb, eth: Ethernet) -> None:
    """br_nf_pre_routing_finish_bridge_slow: the frame comes back from the neighbour code and goes on as bridged."""
    assert skb.bridged_dnat is not None
    skb.packet = Packet((skb.bridged_dnat._replace(dst=eth.dst), *skb.packet.headers[1:]), skb.packet.payload)
    skb.dev, skb.out, skb.bridged_dnat = skb.physin, "", None


def forward(v: Visit, skb: Skb, bridge: str, port: str) -> bool:
    """br_nf_forward_ip, then br_nf_post_routing: the frame is about to leave by another port."""
    if not v.hooked:
        return True
    eth, dev = skb.packet.headers[0], skb.dev
    skb.packet = Packet(skb.packet.headers[1:], skb.packet.payload)
    skb.dev = bridge
    passed = nf_hook(v, skb, "FORWARD", iif=bridge, oif=bridge, physout=port) and nf_hook(
        v, skb, "POSTROUTING", oif=bridge, physout=port
    )
    if not passed:
        v.go(skb.taken(), skb)  # IPVS may take it from the bridge and route it
    skb.packet, skb.dev = Packet((eth, *skb.packet.headers), skb.packet.payload), dev
    return passed


def pieces(v: Visit, skb: Skb, mtu: int) -> list[Skb] | None:
    """br_nf_dev_queue_xmit: cut what is too big for the port, or than it came; None: it may not be cut and is
    dropped. How long pieces may be the bridge's own MTU tells (br_nf_ip_fragment, fake_rtable), not the port's."""
    ip = skb.packet.headers[1]
    assert isinstance(ip, Ip)
    if ip.len <= min(mtu, skb.frag_max or mtu):
        return [skb]
    mtu = v.t.devices[skb.bridged].mtu
    limit = min(mtu, skb.frag_max or mtu)
    if (ip.df and not skb.ignore_df) or skb.frag_max > mtu:
        v.drop(skb, Reason.NOT_SPECIFIED, f"mtu {mtu} of {skb.bridged}, which it may not be cut for")
        return None
    eth = skb.packet.headers[0]
    cut = fragment(Packet(skb.packet.headers[1:], skb.packet.payload), limit, skb.frag_list)
    return [skb.copy(Packet((eth, *piece.headers), piece.payload)) for piece in cut]
