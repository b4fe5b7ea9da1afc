"""Packets going out: the route of what this host sends, the size check, the neighbour, the device."""

from __future__ import annotations

from itertools import pairwise

from packetwalk.addr import BROADCAST_MAC, LIMITED_BROADCAST, LOCALHOST, IPv4, Mac
from packetwalk.netns.device import Bridge, Dummy, Loopback, Nic, Tunnel, UnknownDevice, Veth
from packetwalk.netns.fragment import defrag, fragment
from packetwalk.netns.hooks import nf_hook
from packetwalk.netns.neighbour import CONNECTED, DELAY_FIRST_PROBE, VALID, Neighbour
from packetwalk.netns.route import output_route, pmtudisc_of, ports_of
from packetwalk.netns.socket import DO, DONT, PROBE, WANT, Socket
from packetwalk.netns.tables import Rt, Tables
from packetwalk.netns.tcp import Connection
from packetwalk.netns.visit import MAX_DEPTH, Skb, Visit
from packetwalk.packet import (
    ETH_IP,
    FRAG_NEEDED,
    PROTO_TCP,
    UNREACHABLE,
    Ethernet,
    Icmp,
    Ip,
    size,
)  # fmt: skip
from packetwalk.trace import TASK, Reason, Timer


def route_out(v: Visit, skb: Skb) -> str | None:
    """Route a packet of our own and fill in what its sender left open: source, TTL, DF, IP id
    (ip_build_and_send_pkt)."""
    ip = skb.packet.headers[0]
    assert isinstance(ip, Ip)
    rt = skb.rt
    if rt is None:
        sport, dport = ports_of(skb.packet)
        rt = output_route(
            v.t, ip.dst, v.now, src=ip.src, mark=skb.mark, tos=ip.tos, proto=ip.proto, sport=sport, dport=dport
        )
        skb.rt = rt
    by = rt.found.by if rt.found is not None else None
    if rt.error == "unsupported":
        v.unsupported(skb, "route", f"{by} {by.oddity}" if by is not None else f"to multicast {ip.dst}")
        return None
    if rt.error:
        v.drop(skb, Reason.IP_OUTNOROUTES, by, errno=rt.error)
        return None
    if rt.kind in ("broadcast", "multicast") and skb.socket is not None:
        v.drop(skb, Reason.IP_OUTNOROUTES, by, errno="EACCES" if rt.kind == "broadcast" else "ENETUNREACH")
        return None
    finished = _finish_header(v, skb, ip, rt)
    if finished is None:
        return None
    skb.packet = skb.packet.swap(finished)
    v.step("route_out", rt.dev, by or "on link", skb.packet)
    return "output"


def _finish_header(v: Visit, skb: Skb, ip: Ip, rt: Rt) -> Ip | None:
    """Source, TTL and DF. None where the socket refuses to send at that size (EMSGSIZE from ip_append_data)."""
    t, socket = v.t, skb.socket
    ttl = ip.ttl or (socket.ttl if socket is not None else 0) or t.sysctls["net.ipv4.ip_default_ttl"]
    df = ip.df
    syn_ack = isinstance(socket, Connection) and socket.state == "SYN_RECV"
    if socket is not None:
        mode = pmtudisc_of(t, socket)
        mtu = t.devices[rt.dev].mtu if mode == PROBE else t.mtu(rt, v.now)
        tcp = ip.proto == PROTO_TCP
        if mode in (DO, PROBE) and ip.len > mtu and not tcp:
            v.drop(skb, Reason.PKT_TOO_BIG, f"mtu {mtu}", errno="EMSGSIZE")
            return None
        dont_fragment = mode == DO or (mode == WANT and not t.locked(rt, v.now))  # ip_dont_fragment
        if tcp:
            df = dont_fragment or syn_ack  # a SYN-ACK carries DF even if its listener does no discovery (seen on 6.18)
        else:
            df = mode in (DO, PROBE) or (dont_fragment and ip.len <= mtu)
        skb.ignore_df = not tcp and mode in (DONT, WANT)
    # __ip_select_ident: what may not be cut needs no id; a connected socket counts its own, a SYN-ACK has none yet
    connected = isinstance(socket, Connection) and not syn_ack
    quiet = socket is not None and df and not skb.ignore_df and not connected
    ident = ip.id or (0 if quiet else t.next_ident())
    dst = ip.dst or ip.src or LOCALHOST  # 0.0.0.0 is this host (ip_route_output_key_hash_rcu)
    return ip._replace(src=ip.src or rt.src, dst=dst, ttl=ttl, df=df, id=ident)


def output(v: Visit, skb: Skb) -> str | None:
    """ip_local_out: the OUTPUT hook. Connection tracking reassembles what a raw socket sent in pieces."""
    if v.t.conntrack and not defrag(v, skb, "conntrack"):
        return None
    if v.hooked:
        assert skb.rt is not None
        if not nf_hook(v, skb, "OUTPUT", oif=skb.rt.dev):
            return skb.taken()
    return "postrouting"


def postrouting(v: Visit, skb: Skb) -> str | None:
    """ip_output and ip_finish_output: after the POSTROUTING hook, cut what is too big for the way."""
    rt = skb.rt
    assert rt is not None
    if v.hooked and not nf_hook(v, skb, "POSTROUTING", iif=skb.dev if skb.forwarded else "", oif=rt.dev):
        return None
    ip = skb.packet.headers[0]
    assert isinstance(ip, Ip)
    skb.out, skb.nexthop = rt.dev, rt.via or ip.dst
    if rt.kind == "broadcast" and not rt.input:
        skb.nexthop = ip.dst
    if skb.forwarded:
        mtu = skb.mtu  # ip_forward has asked already
    elif skb.socket is not None and pmtudisc_of(v.t, skb.socket) == PROBE:
        mtu = v.t.devices[rt.dev].mtu
    else:
        mtu = v.t.mtu(rt, v.now)
    if ip.len <= mtu and not skb.frag_max:
        return "neigh"
    if ip.df and (not skb.ignore_df or skb.frag_max > mtu) and ip.len > mtu:
        v.drop(skb, Reason.NOT_SPECIFIED, f"df and mtu {mtu}", errno="EMSGSIZE" if skb.socket is not None else "")
        skb.error = Icmp(UNREACHABLE, FRAG_NEEDED, mtu=mtu)
        return "icmp_error"
    if skb.frag_max and skb.frag_max < mtu:
        mtu = skb.frag_max
    if ip.len <= mtu:
        return "neigh"
    pieces = [skb.copy(p) for p in fragment(skb.packet, mtu, skb.frag_list)]
    for piece in pieces:
        v.step("fragment", skb.out, f"mtu {mtu}", piece.packet)
    return send_each(v, "neigh", pieces)


def send_each(v: Visit, stage: str, pieces: list[Skb]) -> str | None:
    """Send packets one after another, until the device takes one no more (ip_do_fragment).

    While a program sends, softirqs run between them, so the rest waits its turn; not so inside a tunnel's transmit.
    """
    for i, piece in enumerate(pieces):
        if i and v.task and not piece.depth:
            v.timer(Timer(v.now, "resume", (stage, pieces[i:]), context=TASK), piece.packet)
            return None
        before = len(v.steps)
        v.go(stage, piece)
        if _refused(v, before, piece):
            return None
    return None


def _refused(v: Visit, since: int, skb: Skb) -> bool:
    """Whether the very device that the packet was given to dropped it at once (NET_XMIT_DROP)."""
    pairs = pairwise(v.steps[since:])
    return any(a.stage == "transmit" and b.stage == "drop" and a.dev == b.dev == skb.out for a, b in pairs)


def neigh(v: Visit, skb: Skb) -> str | None:
    """ip_finish_output2: give the packet a link header for its next hop, or let it wait for ARP."""
    device = v.t.devices[skb.out]
    if not device.ether:  # no header_ops: an ipip device needs no neighbour
        return "transmit"
    entry = v.t.neighbours.get(skb.out, skb.nexthop)
    if entry is None or (device.noarp and entry.state not in VALID):
        entry = implicit_neighbour(v.t, device.name, skb.nexthop)
    if entry is not None and entry.state == "REACHABLE":
        entry = entry.seen_at(v.now)
    if entry is None or entry.state not in VALID or entry.lladdr is None:
        return "arp_resolve"
    lladdr = entry.lladdr
    if entry.state == "STALE":  # neigh_event_send: use it, and check it soon
        entry = entry._replace(state="DELAY", updated=v.now)
        v.t.neighbours.put(entry)
        v.timer(Timer(v.now + DELAY_FIRST_PROBE, "arp", (entry.dev, int(entry.dst)), pending=False), skb.packet)
    skb.packet = skb.packet.push(Ethernet(device.mac, lladdr, ETH_IP))
    if device.kind != "loopback" or entry.state not in CONNECTED:
        v.step("neigh", skb.out, entry, skb.packet)
    return "transmit"


def implicit_neighbour(t: Tables, dev: str, dst: IPv4) -> Neighbour | None:
    """arp_constructor: next hops that need no question: broadcast, multicast, and everything on a NOARP device."""
    kind = t.neighbour_type(dst)
    device = t.devices[dev]
    if kind == "multicast":
        return Neighbour(dst, dev, Mac(0x01005E000000 | dst & 0x7FFFFF), "NOARP")
    if device.noarp:
        return Neighbour(dst, dev, device.mac, "NOARP")
    if kind == "broadcast" or dst == LIMITED_BROADCAST:
        return Neighbour(dst, dev, BROADCAST_MAC, "NOARP")
    return None


def transmit(v: Visit, skb: Skb) -> str | None:
    """dev_queue_xmit: the taps see the packet, then the device does what it is for."""
    device = v.t.devices[skb.out]
    if isinstance(device, UnknownDevice):
        v.unsupported(skb, "device", f"{device.name} of kind {device.what}")
        return None
    if not device.running:
        v.drop(skb, Reason.QDISC_DROP, f"{device.name} {'has no carrier' if device.up else 'is down'}")  # noop_enqueue
        return None
    v.step("transmit", skb.out, None, skb.packet)
    if isinstance(device, Nic):
        return None
    if isinstance(device, Veth):
        far = device.peer
        if far is not None and not far.fits(size(skb.packet)):  # ____dev_forward_skb
            told = isinstance(skb.socket, Socket) and skb.socket.recverr  # udp_send_skb, raw_sendmsg
            by = f"the other end of {device.name} takes {far.mtu}"
            v.drop(skb, Reason.NOT_SPECIFIED, by, errno="ENOBUFS" if told else "")
        return None
    if isinstance(device, Loopback):
        back = Skb(skb.packet, skb.out)
        back.mark, back.conn, back.ctstate, back.ctdir = skb.mark, skb.conn, skb.ctstate, skb.ctdir
        back.ipvs = skb.ipvs
        back.rt = skb.rt if skb.rt is not None and skb.rt.kind in ("local", "broadcast") else None
        v.backlog.append(back)
    elif isinstance(device, Bridge):
        return "bridge_xmit"
    elif isinstance(device, Tunnel):
        skb.depth += 1
        if skb.depth > MAX_DEPTH:
            v.drop(skb, Reason.RECURSION_LIMIT, device.name)
            return None
        return "encap"
    elif isinstance(device, Dummy):
        v.drop(skb, Reason.NOT_SPECIFIED, "a dummy device keeps nothing")
    return None
