"""Delivery to this host's protocols and sockets, and the programs behind
them (net/ipv4/ip_input.c, udp.c, tcp_ipv4.c)."""

from __future__ import annotations

from packetwalk.addr import LOCALHOST
from packetwalk.netns.route import output_route
from packetwalk.netns.socket import Delivery, Readable, Socket
from packetwalk.netns.tcp import IPV4_MAX_PMTU, Connection, Segment
from packetwalk.netns.tunnel import ipip_lookup
from packetwalk.netns.visit import Skb, Visit
from packetwalk.packet import (
    PORT_UNREACH,
    PROTO_ICMP,
    PROTO_IPIP,
    PROTO_SCTP,
    PROTO_TCP,
    PROTO_UDP,
    PROTO_UNREACH,
    UNREACHABLE,
    Icmp,
    Ip,
    Packet,
    Sctp,
    Slice,
    Tcp,
    Udp,
    ip_packet,
    payload_len,
)  # fmt: skip
from packetwalk.sctp import ABORT, INIT, SHUTDOWN_COMPLETE, TAG, abort, chunks, opening
from packetwalk.trace import TASK, Reason, Timer

NO_PACKET = Packet(())  # a timer is about no packet in particular
CONTROL_SOCKET = Socket(PROTO_SCTP, 0)  # net->sctp.ctl_sock: answers for whom nobody has opened
RST_SOCKET = Socket(PROTO_TCP, 0, pmtudisc="do")  # tcp_sk: RST and TIME-WAIT answers carry DF and id 0


def local(v: Visit, skb: Skb) -> str | None:
    """ip_protocol_deliver_rcu: hand the packet to its protocol, or say that there is none."""
    ip = skb.packet.headers[0]
    assert isinstance(ip, Ip)
    second = skb.packet.l4
    if ip.proto == PROTO_ICMP and isinstance(second, Icmp):
        return "icmp"
    if ip.proto == PROTO_UDP and isinstance(second, Udp):
        return "decap" if v.t.tunnels_at(second.dport) else udp(v, skb, ip, second)
    if ip.proto == PROTO_TCP and isinstance(second, Tcp):
        return tcp(v, skb, ip, second)
    if ip.proto == PROTO_SCTP and isinstance(second, Sctp) and v.t.sockets.speaks(PROTO_SCTP):
        return sctp(v, skb, ip, second)
    if ip.proto == PROTO_IPIP and any(d.kind == "ipip" for d in v.t.devices.values()):
        return "decap" if ipip_lookup(v.t, ip) is not None else _refuse(v, skb, Reason.NOT_SPECIFIED, PORT_UNREACH)
    return _refuse(v, skb, Reason.IP_NOPROTO, PROTO_UNREACH)


def _refuse(v: Visit, skb: Skb, reason: Reason, code: int) -> str:
    v.drop(skb, reason, f"nobody here takes {skb.packet}")
    skb.error = Icmp(UNREACHABLE, code)
    return "icmp_error"


def udp(v: Visit, skb: Skb, ip: Ip, header: Udp) -> str | None:
    """__udp4_lib_rcv: to the socket bound to the port, or port unreachable."""
    socket = v.t.sockets.find(PROTO_UDP, header.dport, ip.dst, (ip.src, header.sport))
    skb.forget_conn()  # nf_reset_ct: an error about it finds its connection by the quoted packet
    if socket is None or (skb.rt is not None and skb.rt.kind == "broadcast" and not socket.listening):
        return _refuse(v, skb, Reason.NO_SOCKET, PORT_UNREACH)
    v.step("deliver", skb.dev, Delivery("datagram", socket), skb.packet)
    if socket.app or socket.owner is not None:
        v.timer(Timer(v.now, "app", Readable(socket, skb.packet), context=TASK), skb.packet)
    return None


def udp_echo(v: Visit, turn: Readable) -> None:
    """The echo server's turn: the same bytes back, from whatever address the route suggests (it is bound to any)."""
    ip, header = turn.packet.headers[0], turn.packet.headers[1]
    assert isinstance(ip, Ip) and isinstance(header, Udp) and isinstance(turn.socket, Socket)
    reply = Packet(
        (Ip(turn.socket.addr, ip.src, PROTO_UDP, ip.len), Udp(header.dport, header.sport, header.len)),
        turn.packet.payload,
    )
    skb = Skb(reply)
    skb.socket = turn.socket
    v.go("route_out", skb)


def tcp(v: Visit, skb: Skb, ip: Ip, header: Tcp) -> str | None:
    """tcp_v4_rcv: to the connection, to a listener that opens one, or a reset."""
    sockets = v.t.sockets
    if skb.pkt_type != "host":
        v.drop(skb, Reason.NOT_SPECIFIED, skb.eth)
        return None
    conn = sockets.connections.get((ip.dst, header.dport, ip.src, header.sport))
    listener = sockets.find(PROTO_TCP, header.dport, ip.dst)
    if conn is not None and conn.state != "CLOSED":
        _segment(v, skb, conn, header)
        return None
    if listener is not None and listener.listening:
        _listener(v, skb, listener, ip, header)
        return None
    v.drop(skb, Reason.NO_SOCKET, f"nobody listens on {header.dport}")
    _reset(v, skb, ip, header)
    return None


def _listener(v: Visit, skb: Skb, listener: Socket, ip: Ip, header: Tcp) -> None:
    """tcp_rcv_state_process in LISTEN: a SYN opens a connection, an ACK is reset, the rest gets no answer."""
    flags = header.flags
    if "A" in flags:
        v.drop(skb, Reason.TCP_FLAGS, listener)
        _reset(v, skb, ip, header)
    elif "R" in flags or "S" not in flags or "F" in flags:
        v.drop(skb, Reason.TCP_RESET if "R" in flags else Reason.TCP_FLAGS, listener)
    else:
        conn = Connection(ip.dst, header.dport, ip.src, header.sport, pmtudisc=listener.pmtudisc, app=listener.app)
        v.t.sockets.connections[conn.key] = conn
        v.step("deliver", skb.dev, Delivery("segment", listener), skb.packet)
        prepare(v, conn)
        tcp_send(v, conn, conn.accept(header))


def _segment(v: Visit, skb: Skb, conn: Connection, header: Tcp) -> None:
    before, received = conn.state, conn.received
    fin_before = conn.fin_received
    payload = skb.packet.payload
    answers = conn.on_segment(header, payload_len(payload) if isinstance(payload, Slice) else payload, v.now)
    v.step("deliver", skb.dev, Delivery("segment", conn, conn.error, conn.state), skb.packet)
    tcp_send(v, conn, answers)
    if conn.owner is not None or not isinstance(conn.app, str):
        opened = before != conn.state == "ESTABLISHED"
        if opened or conn.received != received or conn.fin_received != fin_before or conn.error:
            news = conn.news if conn.received != received else 0
            turn = Readable(conn, Packet(skb.packet.headers, news), conn.error)
            v.timer(Timer(v.now, "app", turn, context=TASK), skb.packet)
        return
    client = not conn.app
    connected = before == "SYN_SENT" and conn.state == "ESTABLISHED"
    echoed = client and conn.send_size and conn.received >= conn.send_size > 0 and conn.state == "ESTABLISHED"
    if (client and (connected or echoed)) or (not client and conn.fin_received and not fin_before):
        v.timer(Timer(v.now, "app", conn, context=TASK), skb.packet)


def tcp_app(v: Visit, conn: Connection) -> None:
    """The program's turn: a client sends once and closes when everything came back; a server closes after its peer."""
    if not conn.app and conn.send_size and not conn.received:
        tcp_send(v, conn, conn.write(conn.send_size))
    else:
        tcp_send(v, conn, conn.close())


def tcp_timeout(v: Visit, conn: Connection) -> None:
    """The retransmission timer (tcp_retransmit_timer); a segment that still waits here for ARP is not sent again."""
    if not conn.unacked or conn.state == "CLOSED" or v.now < conn.deadline:
        return
    waiting = (skb for entry in v.t.neighbours.entries.values() for skb in entry.waiting)
    if any(isinstance(skb, Skb) and skb.socket is conn for skb in waiting):  # skb_still_in_host_queue
        _arm(v, conn)
    else:
        tcp_send(v, conn, conn.on_timeout())
        if conn.error and conn.owner is not None:
            v.timer(Timer(v.now, "app", Readable(conn, NO_PACKET, conn.error), context=TASK), NO_PACKET)


def tcp_shrink(v: Visit, skb: Skb) -> str | None:
    """tcp_v4_mtu_reduced: the path takes less than thought; send smaller segments."""
    assert isinstance(skb.socket, Connection)
    tcp_send(v, skb.socket, skb.socket.shrink(skb.mtu))
    return None


def tcp_connect(v: Visit, conn: Connection) -> None:
    """A program opens a connection; a zero local address is chosen by the route. `conn.error` tells what failed."""
    about = Packet((Ip(conn.laddr, conn.raddr, PROTO_TCP, 60),))
    v.t.sockets.connections[conn.key] = conn
    unbound = conn.laddr and not v.t.is_own(conn.laddr)
    errno = "EADDRNOTAVAIL" if unbound else prepare(v, conn)
    if errno == "unsupported":
        v.go("route_out", Skb(about))
    elif errno:
        conn.state, conn.error = "CLOSED", errno
        v.drop(Skb(about), Reason.IP_OUTNOROUTES, None, errno=errno)
    else:
        tcp_send(v, conn, conn.open())


def prepare(v: Visit, conn: Connection) -> str:
    """Route the connection and take its MSS from there (tcp_sync_mss,
    ipv4_default_advmss). Returns an errno or nothing."""
    rt = output_route(v.t, conn.raddr, v.now, src=conn.laddr, proto=PROTO_TCP, sport=conn.lport, dport=conn.rport)
    if rt.error or rt.kind in ("broadcast", "multicast"):
        return rt.error or "ENETUNREACH"
    if not conn.laddr or not conn.raddr:
        v.t.sockets.connections.pop(conn.key, None)
        conn.raddr = conn.raddr or conn.laddr or LOCALHOST  # 0.0.0.0 is this host (ip_route_output_key_hash_rcu)
        conn.laddr = conn.laddr or rt.src
        v.t.sockets.connections[conn.key] = conn
    mtu = v.t.mtu(rt, v.now)
    conn.advmss = (rt.route.advmss if rt.route is not None else 0) or max(min(mtu, IPV4_MAX_PMTU) - 40, 256)
    conn.pmtu = mtu
    return ""


def tcp_send(v: Visit, conn: Connection, segments: list[Segment]) -> None:
    """Send segments, and ask to be woken for the first one that is not acknowledged in time."""
    for s in segments:
        header = Ip(conn.laddr, conn.raddr, PROTO_TCP, 0, conn.ttl)
        skb = Skb(ip_packet(header, s.tcp, payload=s.payload))
        skb.socket = conn
        v.go("route_out", skb)
    if conn.unacked and segments:
        _arm(v, conn)


def _arm(v: Visit, conn: Connection) -> None:
    """tcp_reset_xmit_timer: a later deadline replaces an earlier one."""
    conn.deadline = v.now + conn.rto
    v.timer(Timer(conn.deadline, "tcp", conn), NO_PACKET)


def sctp(v: Visit, skb: Skb, ip: Ip, header: Sctp) -> str | None:
    """sctp_rcv: a listener answers INIT with INIT_ACK, and keeps nothing of it. What nobody expects is answered by an
    ABORT (RFC 9260 8.4), unless it is one itself.

    A host on which nobody listens has no such protocol; its clients are raw sockets, which take everything.
    """
    found = chunks(skb.packet.payload)
    socket = v.t.sockets.find(PROTO_SCTP, header.dport, ip.dst)
    skb.forget_conn()
    if not found:
        v.drop(skb, Reason.NOT_SPECIFIED, "no chunk")
        return None
    first, tag = found[0], header.tag
    if socket is None and not v.t.sockets.speaks(PROTO_SCTP, listening=True):
        v.step("consume", skb.dev, "a raw socket takes it, and nobody answers", skb.packet)
        return None
    if socket is not None:
        v.step("deliver", skb.dev, Delivery("chunks", socket, detail=" ".join(map(str, found))), skb.packet)
    else:
        v.drop(skb, Reason.NO_SOCKET, f"nobody listens on {header.dport}")
    if socket is not None and not (socket.listening and first.type == INIT):
        return None
    if any(chunk.type in (ABORT, SHUTDOWN_COMPLETE) for chunk in found):
        return None
    answer = opening(TAG + 1, answer=True) if socket is not None else abort(reflected=first.type != INIT)
    back = Sctp(header.dport, header.sport, first.tag if first.type == INIT else tag)
    reply = Skb(ip_packet(Ip(ip.dst, ip.src, PROTO_SCTP, 0), back, payload=answer))
    reply.socket = socket or CONTROL_SOCKET
    v.go("route_out", reply)
    return None


def _reset(v: Visit, skb: Skb, ip: Ip, header: Tcp) -> None:
    """tcp_v4_send_reset (RFC 9293 3.10.7.1): never in answer to a reset, nor for what was not sent to us alone."""
    if "R" in header.flags or (skb.rt is not None and skb.rt.kind != "local"):
        return
    length = payload_len(skb.packet.payload) + ("S" in header.flags) + ("F" in header.flags)
    rst = (
        Tcp(header.dport, header.sport, "R", seq=header.ack, window=0)
        if "A" in header.flags
        else Tcp(header.dport, header.sport, "RA", ack=header.seq + length, window=0)
    )
    reply = Skb(ip_packet(Ip(ip.dst, ip.src, PROTO_TCP, 0), rst))
    reply.socket = RST_SOCKET
    v.go("route_out", reply)
