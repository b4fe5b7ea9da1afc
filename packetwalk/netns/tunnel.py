"""What tunnels put into the outer header, and which tunnel an arriving packet belongs to."""

from __future__ import annotations

from packetwalk.netns.device import Geneve, Ipip, Tunnel, Vxlan
from packetwalk.netns.tables import Tables
from packetwalk.packet import ECN_MASK, Ethernet, Ip, Packet, Sctp, Tcp, Udp
from packetwalk.packet import Geneve as GeneveHeader
from packetwalk.packet import Vxlan as VxlanHeader

CE = 3


def inner_ip(frame: Packet) -> Ip | None:
    """The inner IP header, if the frame carries IP."""
    for h in frame.headers[:2]:
        if isinstance(h, Ip):
            return h
    return None


def tos_of(device: Tunnel, inner: Ip | None) -> int:
    """The device's tos (or the inner one with `inherit`), and the inner ECN bits; CE becomes ECT(0) (RFC 6040)."""
    inner_tos = inner.tos if inner is not None else 0
    tos = inner_tos if device.tos_inherit else device.tos
    ecn = inner_tos & ECN_MASK
    return tos & ~ECN_MASK | (2 if ecn == CE else ecn)


def ttl_of(device: Tunnel, inner: Ip | None) -> int:
    """The device's ttl, or the inner one with `inherit`. Zero: the namespace's default."""
    return (inner.ttl if inner is not None else 0) if device.ttl_inherit else device.ttl


def df_of(device: Tunnel, frame: Packet, inner: Ip | None) -> bool:
    """DF of the outer header: `set`, `unset`, or `inherit` (inner DF; an inner IPv6 packet counts as DF)."""
    if device.df == "inherit":
        eth = frame.headers[0]
        return (inner is not None and inner.df) or (isinstance(eth, Ethernet) and eth.type == 0x86DD)
    return device.df == "set"


def source_port(frame: Packet, bounds: tuple[int, int], seed: int) -> int:
    """udp_flow_src_port: a port in the range from a hash of the inner flow, alike both ways (addresses are sorted).

    A TCP packet brings its socket's own hash along (sk_txhash), so that each end has another.
    """
    eth, ip = frame.headers[0], inner_ip(frame)
    l4 = frame.headers[2] if ip is not None and len(frame.headers) > 2 else None
    ends: list[tuple[int, int]]
    if ip is not None:
        ports = (l4.sport, l4.dport) if isinstance(l4, Udp | Tcp | Sctp) else (0, 0)
        ends = [(int(ip.src), ports[0]), (int(ip.dst), ports[1])]
    else:
        assert isinstance(eth, Ethernet)
        ends = [(int(eth.src), 0), (int(eth.dst), 0)]
    if not isinstance(l4, Tcp):
        ends.sort()
    h = hash((*ends, ip.proto if ip is not None else 0, seed)) & 0xFFFFFFFF
    h ^= h << 16 & 0xFFFFFFFF
    low, high = bounds
    return (h * (high - low) >> 32) + low


def ecn_decapsulate(outer_tos: int, packet: Packet) -> Packet | None:
    """RFC 6040: congestion marked outside is marked inside; None where the inner sender cannot understand it."""
    if outer_tos & ECN_MASK != CE:
        return packet
    ip = inner_ip(packet)
    if ip is None:
        return packet
    if not ip.tos & ECN_MASK:
        return None
    at = packet.headers.index(ip)
    headers = (*packet.headers[:at], ip._replace(tos=ip.tos | CE), *packet.headers[at + 1 :])
    return Packet(headers, packet.payload)


def ipip_lookup(t: Tables, outer: Ip) -> Ipip | None:
    """ip_tunnel_lookup: remote and local both known, then remote, then
    local, then the device without either (tunl0)."""
    devices = [d for d in t.devices.values() if isinstance(d, Ipip) and d.up]
    for remote, local in ((outer.src, outer.dst), (outer.src, 0), (0, outer.dst), (0, 0)):
        for d in devices:
            if d.remote == remote and d.local == local:
                return d
    return None


def udp_lookup(t: Tables, outer: Ip, udp: Udp, packet: Packet) -> Tunnel | None:
    """The device with that port and VNI; a point-to-point geneve wants its remote as sender, too."""
    header = packet.headers[2] if len(packet.headers) > 3 else None
    for d in t.tunnels_at(udp.dport):
        if isinstance(d, Vxlan) and isinstance(header, VxlanHeader) and d.vni == header.vni:
            return d
        if isinstance(d, Geneve) and isinstance(header, GeneveHeader) and (d.vni, d.remote) == (header.vni, outer.src):
            return d
    return None
