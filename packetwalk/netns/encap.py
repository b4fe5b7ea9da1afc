"""Into tunnels and out of them: IPIP (RFC 2003), VXLAN (RFC 7348), Geneve (RFC 8926)."""

from __future__ import annotations

from packetwalk.addr import IPv4, is_loopback, is_multicast, is_zeronet
from packetwalk.netns.device import Geneve, Ipip, Tunnel, Vxlan
from packetwalk.netns.fdb import FdbEntry
from packetwalk.netns.route import output_route
from packetwalk.netns.tables import Rt
from packetwalk.netns.tunnel import (
    df_of,
    ecn_decapsulate,
    inner_ip,
    ipip_lookup,
    source_port,
    tos_of,
    ttl_of,
    udp_lookup,
)  # fmt: skip
from packetwalk.netns.visit import Skb, Visit
from packetwalk.packet import (
    ETH_LEN,
    FRAG_NEEDED,
    GENEVE_LEN,
    ICMP_LEN,
    IP_LEN,
    PROTO_ICMP,
    PROTO_IPIP,
    PROTO_UDP,
    UDP_LEN,
    UNREACHABLE,
    Ethernet,
    Header,
    Icmp,
    Ip,
    Packet,
    Slice,
    Udp,
    ip_packet,
    size,
)  # fmt: skip
from packetwalk.packet import Geneve as GeneveHeader
from packetwalk.packet import Vxlan as VxlanHeader
from packetwalk.trace import NAPI, Reason, Timer


def encap(v: Visit, skb: Skb) -> str | None:
    """What a tunnel device does with a packet it is given."""
    device = v.t.devices[skb.out]
    if isinstance(device, Ipip):
        return _ipip(v, skb, device)
    if isinstance(device, Geneve):
        return _udp_tunnel(v, skb, device, FdbEntry(device.mac, device.name, dst=device.remote))
    assert isinstance(device, Vxlan)
    eth = skb.packet.headers[0]
    assert isinstance(eth, Ethernet)
    far = v.t.vxlan_fdb.find(device.name, eth.dst, v.now, device.ageing)
    if not far:  # vxlan_xmit
        v.drop(skb, Reason.NO_TX_TARGET, f"no fdb entry for {eth.dst} and no default destination")
        return None
    for entry in far:
        _vxlan_to(v, skb.copy(), device, entry)
    return None


def _vxlan_to(v: Visit, skb: Skb, device: Vxlan, entry: FdbEntry) -> None:
    if entry.oddity:
        v.unsupported(skb, "fdb entry", f"{entry} {entry.oddity}")
        return
    if not entry.dst:
        v.drop(skb, Reason.NO_TX_TARGET, entry)
        return
    v.step("fdb", device.name, entry, skb.packet)
    v.go(_udp_tunnel(v, skb, device, entry), skb)


def _udp_tunnel(v: Visit, skb: Skb, device: Vxlan | Geneve, entry: FdbEntry) -> str | None:
    """vxlan_xmit_one and geneve_xmit_skb: route the outer packet, mind its MTU, put UDP around the frame."""
    t, frame = v.t, skb.packet
    inner = inner_ip(frame)
    tos = tos_of(device, inner)
    sport = source_port(frame, device.sport_range, t.seed)
    dport = entry.port or device.dport
    oif = entry.via or (device.link if isinstance(device, Geneve) else "")
    rt = output_route(t, entry.dst, v.now, src=device.local, oif=oif, mark=skb.mark, tos=tos, proto=PROTO_UDP,
                      sport=sport, dport=dport)  # fmt: skip
    if rt.error == "unsupported":
        v.unsupported(skb, "route", rt.told)
        return None
    if rt.error or rt.dev == device.name:
        v.drop(skb, Reason.IP_OUTNOROUTES if rt.error else Reason.RECURSION_LIMIT, rt.found and rt.found.by)
        return None
    if rt.kind == "local" and isinstance(device, Vxlan) and _bypass(v, skb, device, entry, dport):
        return None
    room = t.mtu(rt, v.now) - device.overhead
    if not _check_pmtu(v, skb, device, inner, room):
        return None
    ttl = ttl_of(device, inner) or t.sysctls["net.ipv4.ip_default_ttl"]
    header = (
        VxlanHeader(entry.vni if entry.vni >= 0 else device.vni)
        if isinstance(device, Vxlan)
        else GeneveHeader(device.vni)
    )
    udp = Udp(sport, dport, UDP_LEN + GENEVE_LEN + size(frame), device.udp_csum)
    outer = Ip(rt.src, entry.dst, PROTO_UDP, IP_LEN + udp.len, ttl, tos, 0, df_of(device, frame, inner))
    return _wrapped(v, skb, device.name, rt, outer, udp, header)


def _wrapped(v: Visit, skb: Skb, dev: str, rt: Rt, outer: Ip, *rest: Header) -> str:
    """iptunnel_xmit: what was known of the inner packet stays behind; the outer one is sent by this host."""
    skb.packet = Packet((outer, *rest, *skb.packet.headers), skb.packet.payload)
    skb.rt, skb.socket = rt, None
    skb.forget_conn()  # skb_scrub_packet; the mark stays
    skb.physin, skb.sabotaged = "", False
    skb.forwarded = skb.ignore_df = skb.redirect = False
    skb.frag_max, skb.frag_list, skb.bridged = 0, (), ""
    v.step("encap", dev, rt.found.by if rt.found is not None else None, skb.packet)
    return "route_out"


def _bypass(v: Visit, skb: Skb, device: Vxlan, entry: FdbEntry, dport: int) -> bool:
    """encap_bypass_if_local: a far end that is this host and another vxlan
    device here: the frame jumps over directly."""
    vni = entry.vni if entry.vni >= 0 else device.vni
    other = next((d for d in v.t.tunnels_at(dport) if isinstance(d, Vxlan) and d.vni == vni), None)
    if other is None:
        v.drop(skb, Reason.VXLAN_VNI_NOT_FOUND, entry)
        return True
    jumped = Skb(skb.packet, other.name)
    jumped.mark, jumped.conn, jumped.ctstate, jumped.ctdir = skb.mark, skb.conn, skb.ctstate, skb.ctdir
    v.backlog.append(jumped)
    return True


def _check_pmtu(v: Visit, skb: Skb, device: Tunnel, inner: Ip | None, room: int) -> bool:
    """skb_tunnel_check_pmtu: learn what the tunnel carries; a tunnel that
    is a bridge port answers the sender itself."""
    length = size(skb.packet) - ETH_LEN
    if length <= room:
        return True
    if skb.rt is not None and inner is not None and skb.bridged == "":
        v.t.learn_mtu(skb.rt, inner.dst, room, v.now)
    if not device.master or inner is None or room <= 576 or not _answerable(inner):
        return True
    v.drop(skb, Reason.PKT_TOO_BIG, f"df and {room} bytes left in {device.name}")
    eth = skb.packet.headers[0]
    assert isinstance(eth, Ethernet)
    quote = skb.packet.pull()  # iptunnel_pmtud_build_icmp
    n = min(length, 576 - IP_LEN - ICMP_LEN)
    error = ip_packet(
        Ip(inner.dst, inner.src, PROTO_ICMP, 0, 64, df=True),
        Icmp(UNREACHABLE, FRAG_NEEDED, mtu=room),
        payload=Slice(quote, 0, n),
    )
    back = Packet((Ethernet(eth.dst, eth.src), *error.headers), error.payload)
    v.backlog.append(Skb(back, device.name))
    return False


def _answerable(ip: Ip) -> bool:
    """iptunnel_pmtud_check_icmp: only an unfragmented packet with DF between two plain addresses."""
    odd = (is_multicast, is_zeronet, is_loopback, lambda a: a == 0xFFFFFFFF)
    return ip.df and not ip.mf and not ip.offset and not any(f(ip.src) for f in odd) and not (
        is_multicast(ip.dst) or ip.dst == 0xFFFFFFFF
    )  # fmt: skip


def _ipip(v: Visit, skb: Skb, device: Ipip) -> str | None:
    """ip_tunnel_xmit: the tunnel's far end is its remote, or the next hop of the inner route."""
    t, inner = v.t, skb.packet.headers[0]
    assert isinstance(inner, Ip)
    dst = device.remote or skb.nexthop
    tos = tos_of(device, inner)
    rt = output_route(t, IPv4(dst), v.now, src=device.local, oif=device.link, tos=tos, proto=PROTO_IPIP)
    if rt.error == "unsupported":
        v.unsupported(skb, "route", rt.told)
        return None
    if rt.error or rt.dev == device.name:
        v.drop(skb, Reason.IP_OUTNOROUTES if rt.error else Reason.RECURSION_LIMIT, rt.found and rt.found.by)
        return None
    df = device.df == "set" or inner.df
    if df:  # tnl_update_pmtu
        room = t.mtu(rt, v.now) - IP_LEN
        if skb.rt is not None:
            t.learn_mtu(skb.rt, inner.dst, room, v.now)
        if inner.df and inner.len > room:
            v.drop(skb, Reason.PKT_TOO_BIG, f"df and {room} bytes left in {device.name}")
            skb.error = Icmp(UNREACHABLE, FRAG_NEEDED, mtu=room)
            return "icmp_error"
    outer = Ip(rt.src, IPv4(dst), PROTO_IPIP, IP_LEN + inner.len, ttl_of(device, inner) or inner.ttl, tos, 0, df)
    return _wrapped(v, skb, device.name, rt, outer)


def _snoop(v: Visit, skb: Skb, device: Vxlan, eth: Ethernet, outer: Ip) -> bool:
    """vxlan_snoop: learn who is behind that far end; False for a frame that must not be believed."""
    if not eth.src or eth.src >> 40 & 1:
        v.drop(skb, Reason.MAC_INVALID_SOURCE, eth)
        return False
    elsewhere = v.t.vxlan_fdb.learn(device.name, eth.src, outer.src, v.now, device.ageing)
    if elsewhere is not None:
        v.drop(skb, Reason.VXLAN_ENTRY_EXISTS, elsewhere)
    return elsewhere is None


def decap(v: Visit, skb: Skb) -> str | None:
    """The outer headers come off; what was inside appears on the tunnel device, as new to this host."""
    outer, second = skb.packet.headers[0], skb.packet.headers[1]
    assert isinstance(outer, Ip)
    if outer.proto == PROTO_IPIP:
        device: Tunnel | None = ipip_lookup(v.t, outer)
        strip = 1
    else:
        assert isinstance(second, Udp)
        device, strip = udp_lookup(v.t, outer, second, skb.packet), 3
    if device is None:
        header = skb.packet.headers[2] if len(skb.packet.headers) > 2 else None
        v.drop(skb, Reason.VXLAN_VNI_NOT_FOUND, f"no tunnel here takes {header}")
        return None
    inner = Packet(skb.packet.headers[strip:], skb.packet.payload)
    eth = inner.headers[0]
    if isinstance(eth, Ethernet):
        if eth.src == device.mac:
            v.drop(skb, Reason.LOCAL_MAC, eth)
            return None
        if isinstance(device, Vxlan) and device.learning and not _snoop(v, skb, device, eth, outer):
            return None
    decapsulated = ecn_decapsulate(outer.tos, inner)
    if decapsulated is None:
        v.drop(skb, Reason.IP_TUNNEL_ECN, f"outer tos {outer.tos}")
        return None
    v.step("decap", device.name, None, decapsulated)
    cell = v.t.cells.get(device.name, ())
    v.t.cells[device.name] = (*cell, (decapsulated, skb.mark))
    if not cell:  # gro_cells_receive: the device's NAPI is scheduled, behind what arrived on real devices
        v.timer(Timer(v.now, "napi", device.name, context=NAPI), decapsulated)
    return None
