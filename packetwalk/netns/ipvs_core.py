"""IPVS at the hooks of netfilter: requests get a real server, answers their virtual address back
(net/netfilter/ipvs/ip_vs_core.c, ip_vs_xmit.c, ip_vs_nfct.c).

A request for a virtual service is met where it would be delivered (INPUT) or has just been sent (OUTPUT). What goes to
another host is taken from there and sent as if by this host: it passes OUTPUT and POSTROUTING, never FORWARD. Answers
pass FORWARD, or INPUT and OUTPUT where client or server are this host.
"""

from __future__ import annotations

from typing import NamedTuple

from packetwalk.addr import IPv4, is_loopback
from packetwalk.netns import nat
from packetwalk.netns.conntrack import CONFIRMED, DYING, ORIGINAL, UNTRACKED, ConnTuple
from packetwalk.netns.fragment import defrag
from packetwalk.netns.ipvs import SYSCTLS, Chosen, RealServer, VirtualService
from packetwalk.netns.ipvs_conn import SECOND, Client, VsConn
from packetwalk.netns.reject import route_me_harder
from packetwalk.netns.route import output_route
from packetwalk.netns.visit import Skb, Visit
from packetwalk.packet import (
    FRAG_NEEDED,
    HOST_UNREACH,
    PORT_UNREACH,
    TIME_EXCEEDED,
    TTL_EXCEEDED,
    UNREACHABLE,
    Icmp,
    Ip,
    Packet,
    Tcp,
    Udp,
    quoted,
    visible,
)  # fmt: skip
from packetwalk.trace import Reason

SOURCE_QUENCH = 4
FOLLOWED_ERRORS = (UNREACHABLE, SOURCE_QUENCH, TIME_EXCEEDED)
FTP_DATA = 20  # FTPDATA: an active FTP connection is opened by the server, and never balanced


class Balanced(NamedTuple):
    """Evidence of a rewrite by IPVS: the connection as it was then, the side that is rewritten (src or dst), the time,
    and for the first packet the service and the server."""

    conn: VsConn
    side: str
    now: int
    by: Chosen | None = None

    def __str__(self) -> str:
        return str(self.by) if self.by is not None else self.conn.text(self.now)


def setting(v: Visit, name: str) -> int:
    """A sysctl of net.ipv4.vs."""
    key = f"net.ipv4.vs.{name}"
    return v.t.sysctls.get(key, SYSCTLS[key])


def expire(v: Visit) -> None:
    """ip_vs_conn_expire: connections whose time is up are forgotten, and conntrack forgets them too
    (ip_vs_conn_drop_conntrack)."""
    for conn in v.t.ipvs.conns.expire(v.now):
        if conn.tracked and not conn.template and not conn.one_packet:
            known = v.t.conns.find(_original(conn), v.now)
            if known is not None:
                v.t.conns.remove(known)


def _original(conn: VsConn) -> ConnTuple:
    c = conn.client
    return ConnTuple(c.caddr, c.vaddr, c.proto, c.cport, c.vport)


# -- answers: ip_vs_out ------------------------------------------------------------------------------------------------


def answer(v: Visit, skb: Skb, hook: str) -> bool:
    """ip_vs_out_hook: what a real server sends to a client gets the virtual address as its source. False: it ends here.
    """
    if skb.ipvs:
        return True
    if not defrag(v, skb, "ipvs"):
        return False
    ip, l4 = skb.packet.headers[0], skb.packet.l4
    assert isinstance(ip, Ip)
    if isinstance(l4, Icmp):
        return _answer_error(v, skb, hook, l4)
    if not isinstance(l4, Tcp | Udp):
        return True
    conn = v.t.ipvs.conns.by_server.get((ip.proto, ip.src, l4.sport, ip.dst, l4.dport))
    if conn is None:
        return _known_or_refused(v, skb, ip, l4)
    to = conn.client
    changed = nat.rewrite(skb.packet, ConnTuple(to.vaddr, ip.dst, ip.proto, to.vport, l4.dport), source=True)
    if not _answered(v, skb, hook, conn, changed):
        return False
    conn.follow(l4 if isinstance(l4, Tcp) else None, "output")
    v.t.ipvs.conns.touch(conn, v.now)
    return True


def _answer_error(v: Visit, skb: Skb, hook: str, error: Icmp) -> bool:
    """ip_vs_out_icmp: an error about a request, on its way back to the client."""
    about = _quote(skb.packet, error)
    if about is None:
        return True
    ip, l4 = about
    conn = v.t.ipvs.conns.by_server.get((ip.proto, ip.dst, l4.dport, ip.src, l4.sport))
    if conn is None:
        return True
    to = conn.client
    inner = ConnTuple(ip.src, to.vaddr, ip.proto, l4.sport, to.vport)
    return _answered(v, skb, hook, conn, nat.rewrite_error(skb.packet, to.vaddr, inner, source=True))


def _answered(v: Visit, skb: Skb, hook: str, conn: VsConn, changed: Packet) -> bool:
    """handle_response: the packet goes on from the virtual address, by the way that address takes."""
    skb.packet = changed
    local = skb.rt is not None and skb.rt.kind == "local"
    if setting(v, "snat_reroute") and hook != "INPUT" and not local:  # ip_vs_route_me_harder
        if route_me_harder(v, skb):
            v.drop(skb, Reason.NOT_SPECIFIED, f"no way for {conn.client.vaddr} to its client", dev=hook.lower())
            return False
        if skb.forwarded and skb.rt is not None:
            skb.mtu = v.t.mtu(skb.rt, v.now, forwarding=True)
    _claim(v, skb, conn, to_server=False)
    v.step("ipvs", hook.lower(), Balanced(conn.copy(), "src", v.now), changed)
    return True


def _known_or_refused(v: Visit, skb: Skb, ip: Ip, l4: Tcp | Udp) -> bool:
    """The end of ip_vs_out: with nat_icmp_send a real server hears that its connection is unknown."""
    reset = isinstance(l4, Tcp) and "R" in l4.flags
    if reset or not setting(v, "nat_icmp_send") or not v.t.ipvs.is_real(ip.proto, ip.src, l4.sport):
        return True
    return _refuse(v, skb, f"{ip.src}:{l4.sport} has no such connection (nat_icmp_send)", UNREACHABLE, PORT_UNREACH)


# -- requests: ip_vs_in ------------------------------------------------------------------------------------------------


def request(v: Visit, skb: Skb, hook: str) -> bool:
    """ip_vs_in_hook: a packet to a virtual service goes to the server of its connection, a new one to whose turn it is.
    False: it ends here, or goes on at the stage `skb.stolen`."""
    if skb.ipvs or (skb.pkt_type != "host" and hook != "OUTPUT"):
        return True
    if not defrag(v, skb, "ipvs"):
        return False
    ip, l4 = skb.packet.headers[0], skb.packet.l4
    assert isinstance(ip, Ip)
    if isinstance(l4, Icmp):
        return request_error(v, skb, hook)
    if not isinstance(l4, Tcp | Udp):
        return _unfollowed(v, skb, ip)
    client = Client(ip.proto, ip.src, l4.sport, ip.dst, l4.dport)
    conn = v.t.ipvs.conns.by_client.get(client)
    if conn is not None and (renewed := _renewed(v, skb, conn, l4)) is not None:
        if renewed:
            v.drop(skb, Reason.NETFILTER_DROP, renewed, errno=_errno(v, skb), dev=hook.lower())
            return False
        conn = None
    by = None
    if conn is None:
        opened = _opened(v, skb, client, l4)
        if isinstance(opened, bool):
            return opened
        conn, by = opened
    conn.follow(l4 if isinstance(l4, Tcp) else None, "input")
    v.t.ipvs.conns.touch(conn, v.now)
    target = ConnTuple(ip.src, conn.daddr, ip.proto, l4.sport, conn.dport)
    return _sent(v, skb, hook, conn, nat.rewrite(skb.packet, target, source=False), by)


def _unfollowed(v: Visit, skb: Skb, ip: Ip) -> bool:
    """SCTP, which IPVS here does not balance, unless no service of that address is for it."""
    found = next((k for k in v.t.ipvs.services if (k.proto, k.addr) == (ip.proto, ip.dst)), None)
    if found is not None:
        v.unsupported(skb, "ipvs", f"protocol of {found.words}")
    return found is None


def request_error(v: Visit, skb: Skb, hook: str) -> bool:
    """ip_vs_in_icmp, ip_vs_forward_icmp: an error about an answer, on its way to the server that sent it."""
    error = skb.packet.l4
    about = _quote(skb.packet, error) if isinstance(error, Icmp) and not skb.ipvs else None
    if about is None:
        return True
    ip, l4 = about
    conn = v.t.ipvs.conns.by_client.get(Client(ip.proto, ip.dst, l4.dport, ip.src, l4.sport))
    if conn is None:
        return True
    inner = ConnTuple(conn.daddr, ip.dst, ip.proto, conn.dport, l4.dport)
    return _sent(v, skb, hook, conn, nat.rewrite_error(skb.packet, conn.daddr, inner, source=False), None)


def _renewed(v: Visit, skb: Skb, conn: VsConn, l4: Tcp | Udp) -> str | None:
    """Whether a known connection is not to be gone on with: None where it is, else why the packet must be dropped, ""
    where it opens a new connection instead (the middle of ip_vs_in)."""
    server, mode = v.t.ipvs.server_of(conn), setting(v, "conn_reuse_mode")
    forgets = bool(setting(v, "expire_nodest_conn"))
    if isinstance(l4, Tcp) and "S" in l4.flags:  # is_new_conn
        quiet = forgets and server is not None and not server.weight
        over = mode and conn.control is None and conn.state in ("TIME_WAIT", "CLOSE")  # is_new_conn_expected
        if quiet or over:
            return _forgotten(v, skb, conn)
    if server is not None:
        return None
    return _forgotten(v, skb, conn) if forgets else f"{conn.daddr}:{conn.dport} serves no more"


def _forgotten(v: Visit, skb: Skb, conn: VsConn) -> str:
    """ip_vs_conn_expire_now. While the old entry of conntrack is in use the packet is dropped, and the next one finds
    nothing of it (ip_vs_conn_uses_old_conntrack)."""
    known = skb.conn if conn.tracked else None
    if known is not None and not known.confirmed:
        known = None
    v.t.ipvs.conns.remove(conn)
    if known is None:
        return ""
    v.t.conns.remove(known)
    return f"connection {conn.text(v.now)} is over, and conntrack had an entry of it"


def _opened(v: Visit, skb: Skb, client: Client, l4: Tcp | Udp) -> bool | tuple[VsConn, Chosen]:
    """tcp_conn_schedule, udp_conn_schedule, ip_vs_schedule: a new connection. True: no business of IPVS; False: the
    packet is gone."""
    if isinstance(l4, Tcp) and ("R" in l4.flags or not ("S" in l4.flags or setting(v, "sloppy_tcp"))):
        return True
    ipvs = v.t.ipvs
    service = ipvs.find(client.proto, client.vaddr, client.vport, skb.mark)
    if service is None or client.cport == FTP_DATA:
        return True
    if not skb.dev or skb.dev == "lo":  # do not schedule replies from a local real server
        back = Client(client.proto, client.vaddr, client.vport, client.caddr, client.cport)
        if back in ipvs.conns.by_client:
            return True
    if service.oddity:
        v.unsupported(skb, "ipvs", f"{service.oddity} of {service.key.words}")
        return False
    found = _persistent(v, service, client) if service.persistent else _next(v, service, client)
    if found is None:  # ip_vs_leave
        by = f"{service} has no server for a new connection"
        return _refuse(v, skb, by, UNREACHABLE, PORT_UNREACH, reason=Reason.NETFILTER_DROP)
    server, template = found
    if server.forward != "Masq":
        v.unsupported(skb, "ipvs", f"forwarding method {server.forward} of {server.addr}:{server.port}")
        return False
    conn = VsConn(client, server.addr, server.port or client.vport, service.key)
    conn.server_port, conn.control = server.port, template
    conn.one_packet = service.one_packet and isinstance(l4, Udp)
    conn.tracked = bool(setting(v, "conntrack"))
    ipvs.conns.add(conn, v.now)
    return conn, Chosen(service, server)


def _next(v: Visit, service: VirtualService, client: Client) -> tuple[RealServer, None] | None:
    server = v.t.ipvs.schedule(service, client.caddr, client.cport)
    return (server, None) if server is not None else None


def _persistent(v: Visit, service: VirtualService, client: Client) -> tuple[RealServer, VsConn] | None:
    """ip_vs_sched_persist: the server in the client's template, or a new template with whose turn it is."""
    ipvs = v.t.ipvs
    proto, vaddr, vport = client.proto, client.vaddr, client.vport if client.vport == service.key.port else 0
    if service.key.mark and not vport:
        proto, vaddr = 0, IPv4(service.key.mark)
    who = Client(proto, IPv4(client.caddr & service.netmask), 0, vaddr, vport)
    template = ipvs.conns.by_client.get(who)
    server = ipvs.server_of(template) if template is not None else None
    if server is not None and not server.weight and setting(v, "expire_quiescent_template"):
        server = None
    if template is None or server is None:  # ip_vs_check_template
        if template is not None:
            ipvs.conns.remove(template)
        server = ipvs.schedule(service, client.caddr, client.cport)
        if server is None:
            return None
        template = VsConn(who, server.addr, server.port if vport else 0, service.key)
        template.server_port, template.template = server.port, True
        template.timeout = service.persistent * SECOND
        ipvs.conns.add(template, v.now)
    ipvs.conns.touch(template, v.now)
    return server, template


# -- on the way --------------------------------------------------------------------------------------------------------


def _sent(v: Visit, skb: Skb, hook: str, conn: VsConn, changed: Packet, by: Chosen | None) -> bool:
    """ip_vs_nat_xmit, ip_vs_icmp_xmit: towards the real server. True: that is this host, and the packet goes on here.
    """
    ip = skb.packet.headers[0]
    assert isinstance(ip, Ip)
    about_icmp = isinstance(skb.packet.headers[1], Icmp)
    rt = output_route(v.t, conn.daddr, v.now)
    if rt.error == "unsupported":
        v.unsupported(skb, "route", rt.told)
        return False
    if rt.error:  # ipv4_link_failure
        return _refuse(v, skb, f"no route to {conn.daddr}", UNREACHABLE, HOST_UNREACH)
    here = rt.kind == "local"
    came = skb.rt is not None and skb.rt.input
    if (not here and is_loopback(ip.src)) or (here and (hook == "FORWARD" or (came and is_loopback(conn.daddr)))):
        v.drop(skb, Reason.NOT_SPECIFIED, f"not from {ip.src} to {conn.daddr}", dev=hook.lower())
        return False
    if not here:
        if ip.ttl <= 1:
            return _refuse(v, skb, f"ttl {ip.ttl}", TIME_EXCEEDED, TTL_EXCEEDED)
        mtu = v.t.mtu(rt, v.now)
        if ip.df and ip.len > mtu and not about_icmp:
            return _refuse(v, skb, f"df and mtu {mtu}", UNREACHABLE, FRAG_NEEDED, mtu=mtu)
        outer = changed.headers[0]
        assert isinstance(outer, Ip)
        changed = changed.swap(outer.decrease_ttl())
        skb.rt, skb.stolen = rt, "output"
    skb.packet, skb.ignore_df = changed, True
    _claim(v, skb, conn, to_server=True)
    v.step("ipvs", hook.lower(), Balanced(conn.copy(), "dst", v.now, by), changed)
    return here


def _claim(v: Visit, skb: Skb, conn: VsConn, *, to_server: bool) -> None:
    """IPVS looks at a packet once. A new entry of conntrack learns whose answers to expect (ip_vs_update_conntrack);
    without net.ipv4.vs.conntrack the packet is not tracked on (ip_vs_notrack)."""
    skb.ipvs = True
    if not conn.tracked:
        if v.t.conntrack:
            skb.conn, skb.ctstate = None, UNTRACKED
        return
    entry = skb.conn
    if entry is None or entry.status & (CONFIRMED | DYING) or skb.ctdir != ORIGINAL:
        return
    reply, to = entry.reply, conn.client
    ported = reply.proto == to.proto
    if to_server:
        entry.reply = reply._replace(src=conn.daddr, sport=conn.dport if ported else reply.sport)
    else:
        entry.reply = reply._replace(dst=to.vaddr, dport=to.vport if ported else reply.dport)


def _quote(packet: Packet, error: Icmp) -> tuple[Ip, Tcp | Udp] | None:
    """The packet an ICMP error quotes, if it is of a kind that IPVS follows."""
    about = quoted(packet) if error.type in FOLLOWED_ERRORS else None
    headers = visible(about).headers if about is not None else ()
    if len(headers) < 2:
        return None
    ip, l4 = headers[0], headers[1]
    return (ip, l4) if isinstance(ip, Ip) and not ip.offset and isinstance(l4, Tcp | Udp) else None


def _refuse(
    v: Visit, skb: Skb, by: str, type_: int, code: int, *, mtu: int = 0, reason: Reason = Reason.NOT_SPECIFIED
) -> bool:
    """Dropped, and the sender hears of it."""
    v.drop(skb, reason, by, errno=_errno(v, skb) if reason == Reason.NETFILTER_DROP else "")
    skb.error, skb.stolen = Icmp(type_, code, mtu=mtu), "icmp_error"
    return False


def _errno(v: Visit, skb: Skb) -> str:
    """What NF_DROP tells a program that sends (nf_hook_slow)."""
    return "EPERM" if v.task and not skb.depth else ""
