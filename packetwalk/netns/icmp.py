"""ICMP: the errors this host sends, the echoes it answers, and what it learns from errors it gets (net/ipv4/icmp.c)."""

from __future__ import annotations

from packetwalk.addr import ANY, LIMITED_BROADCAST, IPv4, is_loopback, is_multicast, is_zeronet
from packetwalk.netns.device import SCOPE_LINK
from packetwalk.netns.neighbour import VALID
from packetwalk.netns.route import onlink, output_route, pmtudisc_of
from packetwalk.netns.socket import DONT, Delivery, Readable, Socket
from packetwalk.netns.tables import SECOND, Credit, Peer, Rt, Tables
from packetwalk.netns.tcp import Connection
from packetwalk.netns.tunnel import ipip_lookup
from packetwalk.netns.visit import Skb, Visit
from packetwalk.packet import (
    ECHO,
    ECHO_REPLY,
    FRAG_NEEDED,
    ICMP_ERRORS,
    ICMP_LEN,
    IP_LEN,
    PROTO_ICMP,
    PROTO_IPIP,
    PROTO_TCP,
    PROTO_UDP,
    REDIRECT,
    TIME_EXCEEDED,
    UNREACHABLE,
    Icmp,
    Ip,
    Packet,
    Sctp,
    Slice,
    Tcp,
    Udp,
    ip_packet,
    is_icmp_error,
    quoted,
    size,
    visible,
)  # fmt: skip
from packetwalk.trace import TASK, Reason, Timer

ICMP_SOCKET = Socket(PROTO_ICMP, 0, pmtudisc=DONT)  # icmp_sk: answers never carry DF
INTERNET_CONTROL = 0xC0
MAX_ERROR_LEN = 576  # RFC 1812 4.3.2.3
TOS_MASK = 0x1E
XRLIM_BURST_FACTOR = 6  # net/ipv4/inetpeer.c

MILLISECOND = 1_000_000
RATELIMIT, RATEMASK = "net.ipv4.icmp_ratelimit", "net.ipv4.icmp_ratemask"
MSGS_PER_SEC, MSGS_BURST = "net.ipv4.icmp_msgs_per_sec", "net.ipv4.icmp_msgs_burst"

# icmp_err_convert: the errno of each code of destination unreachable
ERRNO = {
    0: "ENETUNREACH", 1: "EHOSTUNREACH", 2: "ENOPROTOOPT", 3: "ECONNREFUSED", 4: "EMSGSIZE", 5: "EOPNOTSUPP",
    6: "ENETUNREACH", 7: "EHOSTDOWN", 8: "ENONET", 9: "ENETUNREACH", 10: "EHOSTUNREACH", 11: "ENETUNREACH",
    12: "EHOSTUNREACH", 13: "EHOSTUNREACH", 14: "EHOSTUNREACH", 15: "EHOSTUNREACH",
}  # fmt: skip
FATAL = frozenset({2, 3, *range(6, 11), 13, 14, 15})  # the codes that a connected UDP socket hears of unasked


def icmp_error(v: Visit, skb: Skb) -> str | None:
    """icmp_send: tell the sender of `skb` what `skb.error` says, unless RFC 1122 3.2.2 forbids it."""
    t, error, ip = v.t, skb.error, skb.packet.headers[0]
    assert error is not None and isinstance(ip, Ip)
    if skb.pkt_type != "host" or (skb.rt is not None and skb.rt.kind in ("broadcast", "multicast")):
        return None
    if ip.offset or is_icmp_error(skb.packet):
        return None
    if v.replying:
        v.step("consume", skb.dev or skb.out, "no icmp error: one is just being sent (icmp_xmit_lock)", skb.packet)
        return None
    if skb.dev != "lo" and not _global_allow(t, error, v.now):
        v.step("consume", skb.dev, f"no icmp error: icmp_msgs_per_sec {t.sysctls[MSGS_PER_SEC]}", skb.packet)
        return None
    src = ip.dst if skb.rt is not None and skb.rt.kind == "local" else ANY
    if (
        not src
        and skb.dev
        and not skb.bridged
        and t.sysctls["net.ipv4.icmp_errors_use_inbound_ifaddr"]
        and (skb.rt is None or skb.rt.input)
    ):
        src = t.select_addr(skb.dev, ip.src, SCOPE_LINK)
    tos = ip.tos & TOS_MASK | INTERNET_CONTROL
    rt = output_route(t, ip.src, v.now, src=src, tos=tos, proto=PROTO_ICMP)
    if rt.error == "unsupported":
        v.unsupported(skb, "route", rt.told)
        return None
    if rt.error:
        v.step("consume", skb.dev, f"no icmp error: no route to {ip.src}", skb.packet)
        return None
    if skb.dev != "lo" and not _peer_allow(t, error, rt.dev, ip.src, v.now):
        v.step("consume", skb.dev, f"no icmp error: icmp_ratelimit {t.sysctls[RATELIMIT]} ms for {ip.src}", skb.packet)
        return None
    room = min(t.mtu(rt, v.now), MAX_ERROR_LEN) - IP_LEN - ICMP_LEN
    if room <= IP_LEN:
        return None
    quote = Slice(skb.packet, 0, min(size(skb.packet), room))
    packet = ip_packet(Ip(rt.src, ip.src, PROTO_ICMP, 0, tos=tos), error, payload=quote)
    v.step("icmp_error", skb.dev or rt.dev, error, packet)
    return _send(v, packet, rt, about=skb)


def _limited(t: Tables, header: Icmp) -> bool:
    """icmpv4_mask_allow: whether icmp_ratemask names this type. Path MTU discovery is never limited."""
    discovery = header.type == UNREACHABLE and header.code == FRAG_NEEDED
    return not discovery and bool(t.sysctls[RATEMASK] >> header.type & 1)


def _global_allow(t: Tables, header: Icmp, now: int) -> bool:
    """icmp_global_allow: whether the namespace has credit left; it grows every 20 ms at the soonest."""
    if not _limited(t, header) or t.icmp_credit.left > 0:
        return True
    passed = min(now - t.icmp_credit.grown, SECOND)
    more = t.sysctls[MSGS_PER_SEC] * passed // SECOND
    if passed < SECOND // 50 or not more:
        return False
    t.icmp_credit = Credit(min(t.icmp_credit.left + more, t.sysctls[MSGS_BURST]), now)
    return True


def _peer_allow(t: Tables, header: Icmp, dev: str, dst: IPv4, now: int) -> bool:
    """icmpv4_xrlim_allow: at most one message per icmp_ratelimit to one address, six at once; none over loopback is
    limited. What is sent costs the namespace a credit (the kernel takes 0, 1 or 2 by chance; this is their mean)."""
    if not _limited(t, header):
        return True
    if dev != "lo":
        timeout = t.sysctls[RATELIMIT] * MILLISECOND
        t.peers[dst], allowed = t.peers.get(dst, Peer()).spend(timeout, XRLIM_BURST_FACTOR * timeout, now)
        if not allowed:
            return False
    t.icmp_credit = t.icmp_credit._replace(left=t.icmp_credit.left - 1)
    return True


def _send(v: Visit, packet: Packet, rt: Rt | None, *, about: Skb | None = None) -> str | None:
    """Send what the ICMP socket says (icmp_push_reply): one at a time, and softirqs do not interrupt it."""
    reply = Skb(packet)
    reply.rt, reply.socket = rt, ICMP_SOCKET
    if about is not None:
        reply.answers(about)  # icmp_glue_bits
    task, v.task, v.replying = v.task, False, True
    v.go("route_out", reply)
    v.task, v.replying = task, False
    return None


def icmp(v: Visit, skb: Skb) -> str | None:
    """icmp_rcv: answer an echo request, give replies and errors to those they concern."""
    ip, header = skb.packet.headers[0], skb.packet.headers[1]
    assert isinstance(ip, Ip) and isinstance(header, Icmp)
    t = v.t
    if header.type == ECHO:
        unicast = skb.rt is not None and skb.rt.kind == "local"
        if not unicast and t.sysctls["net.ipv4.icmp_echo_ignore_broadcasts"]:
            v.drop(skb, Reason.INVALID_PROTO, "icmp_echo_ignore_broadcasts")
            return None
        if t.sysctls["net.ipv4.icmp_echo_ignore_all"]:  # icmp_echo: taken, not dropped, and nothing comes of it
            v.step("consume", skb.dev, "no echo reply: icmp_echo_ignore_all", skb.packet)
            return None
        v.step("deliver", skb.dev, Delivery("echo-request"), skb.packet)
        reply = header._replace(type=ECHO_REPLY)
        if not (_global_allow(t, reply, v.now) and _peer_allow(t, reply, skb.dev, ip.src, v.now)):  # icmp_reply
            v.drop(skb, Reason.NOT_SPECIFIED, "no echo reply: icmp_ratemask limits those, too")
            return None
        answer = Ip(ip.dst if unicast else ANY, ip.src, PROTO_ICMP, ip.len, tos=ip.tos)
        return _send(v, Packet((answer, reply, *skb.packet.headers[2:]), skb.packet.payload), None)
    if header.type == ECHO_REPLY:
        socket = t.sockets.find(PROTO_ICMP, header.id, ip.dst)
        if socket is None:
            v.drop(skb, Reason.NO_SOCKET, f"no one waits for echo id {header.id}")
        else:
            v.step("deliver", skb.dev, Delivery("echo-reply", socket), skb.packet)
        return None
    if header.type in ICMP_ERRORS:
        return _on_error(v, skb, header)
    v.unsupported(skb, "icmp type", str(header.type))
    return None


def _on_error(v: Visit, skb: Skb, header: Icmp) -> str | None:
    """icmp_unreach, icmp_redirect: learn what the error teaches, then tell the socket that sent the quoted packet."""
    about = quoted(skb.packet)
    inner = about.headers[0] if about is not None else None
    if about is None or not isinstance(inner, Ip):
        v.drop(skb, Reason.NOT_SPECIFIED, "nothing quoted")
        return None
    too_big = header.type == UNREACHABLE and header.code == FRAG_NEEDED
    no_discovery = v.t.sysctls["net.ipv4.ip_no_pmtu_disc"]
    if too_big and (no_discovery == 2 or (no_discovery == 3 and inner.proto != PROTO_TCP)):
        v.step("consume", skb.dev, f"ip_no_pmtu_disc {no_discovery}", skb.packet)
        return None
    mtu = header.mtu if too_big and no_discovery != 1 else 0
    socket = _sender(v, about, inner)
    if (too_big or header.type == REDIRECT) and _teaches(v, inner, about):
        rt = output_route(v.t, inner.dst, v.now, src=inner.src if v.t.is_own(inner.src) else ANY, tos=inner.tos)
        if header.type == REDIRECT:
            return _on_redirect(v, skb, header, inner, rt)
        learned = v.t.learn_mtu(rt, inner.dst, mtu, v.now)
        if learned is not None:
            v.step(
                "learn",
                skb.dev,
                f"path mtu {learned.mtu}{' locked' if learned.mtu_locked else ''} to {inner.dst}",
                skb.packet,
            )
    if socket is None:
        v.step("consume", skb.dev, "no socket sent the quoted packet", skb.packet)
        return None
    errno = (
        ERRNO.get(header.code, "")
        if header.type == UNREACHABLE
        else "EHOSTUNREACH"
        if header.type == TIME_EXCEEDED
        else "EPROTO"
    )
    if too_big:
        if isinstance(socket, Connection):
            v.step("deliver", skb.dev, Delivery("error", socket, "", f"mtu {header.mtu}"), skb.packet)
            skb.socket, skb.mtu = socket, mtu
            return "tcp_shrink"
        if pmtudisc_of(v.t, socket) == DONT and inner.proto == PROTO_UDP:
            v.step("consume", skb.dev, "the socket does not do path mtu discovery", skb.packet)
            return None
    fatal = header.type == UNREACHABLE and header.code in FATAL
    if isinstance(socket, Socket) and inner.proto == PROTO_UDP and not (socket.recverr or (socket.peer and fatal)):
        v.step("consume", skb.dev, f"the {socket} did not ask for errors", skb.packet)
        return None
    if isinstance(socket, Connection):
        if socket.state in ("SYN_SENT", "SYN_RECV"):
            socket.error, socket.state, socket.unacked = errno, "CLOSED", []
        else:
            errno = ""  # soft: kept until the connection times out (tcp_v4_err)
    v.step("deliver", skb.dev, Delivery("error", socket, errno, info=mtu), skb.packet)
    if errno and socket.owner is not None:
        v.timer(Timer(v.now, "app", Readable(socket, skb.packet, errno), context=TASK), skb.packet)
    return None


def _teaches(v: Visit, inner: Ip, about: Packet) -> bool:
    """Whether a protocol here learns from this error (icmp_err, ipip_err, raw_err, __udp4_lib_err, tcp_v4_err): who
    sent the quoted packet must still be here. Echo replies are the kernel's own."""
    second = visible(about).l4
    if inner.proto == PROTO_IPIP:
        return ipip_lookup(v.t, inner._replace(src=inner.dst, dst=inner.src)) is not None
    if isinstance(second, Icmp) and second.type == ECHO_REPLY:
        return True
    tunnel = isinstance(second, Udp) and bool(v.t.tunnels_at(second.dport))
    return tunnel or _sender(v, about, inner) is not None


def _sender(v: Visit, about: Packet, inner: Ip) -> Socket | Connection | None:
    """The socket that sent the quoted packet (raw, __udp4_lib_err, tcp_v4_err)."""
    headers = visible(about).headers
    l4 = headers[1] if len(headers) > 1 else None
    if isinstance(l4, Icmp):
        return v.t.sockets.find(PROTO_ICMP, l4.id, inner.src)
    if isinstance(l4, Udp | Sctp):
        return v.t.sockets.find(inner.proto, l4.sport, inner.src)
    if isinstance(l4, Tcp):
        return v.t.sockets.connections.get((inner.src, l4.sport, inner.dst, l4.dport))
    return None


def _on_redirect(v: Visit, skb: Skb, header: Icmp, inner: Ip, rt: Rt) -> str | None:
    """__ip_do_redirect: use the nearer router for this destination, if the one we used says so and we know its MAC;
    otherwise ask for that first."""
    t, ip, gateway = v.t, skb.packet.headers[0], header.gateway
    assert isinstance(ip, Ip)
    conf = t.conf(skb.dev)
    bad = (
        not conf.accept_redirects or not gateway or gateway == rt.via or is_multicast(gateway) or is_zeronet(gateway)
        or is_loopback(gateway) or gateway == LIMITED_BROADCAST or rt.via != ip.src or rt.dev != skb.dev
    )  # fmt: skip
    if conf.shared_media:
        reachable = t.neighbour_type(gateway) == "unicast"
    else:
        known = not conf.secure_redirects or t.fib.is_gateway(gateway, skb.dev)
        reachable = onlink(t, skb.dev, gateway, rt.via) and known
    if bad or not reachable:
        v.step("consume", skb.dev, f"redirect to {gateway} not accepted", skb.packet)
        return None
    entry = t.neighbours.get(rt.dev, gateway)
    if entry is None or entry.seen_at(v.now).state not in VALID:
        v.step("consume", skb.dev, f"redirect to {gateway}, whose MAC is not known yet", skb.packet)
        skb.out, skb.nexthop = rt.dev, gateway
        return "arp_ask"
    t.learn_gateway(rt, inner.dst, gateway, v.now)
    v.step("learn", skb.dev, f"redirect: {inner.dst} via {gateway}", skb.packet)
    v.step("consume", skb.dev, "redirect", skb.packet)
    return None
