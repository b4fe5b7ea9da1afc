"""Network address translation: which tuple a connection gets, and how packets are rewritten to it (nf_nat_core.c,
nf_nat_proto.c).

NAT is set up once, on the entry of a connection, by its first packet. From then on every packet is rewritten to look
like the
inverse of what is expected from the other side; no rule is asked again.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from packetwalk.addr import IPv4
from packetwalk.netns.conntrack import (
    CONFIRMED,
    DST_NAT,
    DST_NAT_DONE,
    NAT,
    NAT_DONE,
    ORIGINAL,
    REPLY,
    SRC_NAT,
    SRC_NAT_DONE,
    Conn,
    Conns,
    ConnTuple,
    source_of,
)
from packetwalk.packet import (
    PROTO_ICMP,
    PROTO_SCTP,
    PROTO_TCP,
    PROTO_UDP,
    REDIRECT,
    Icmp,
    Ip,
    Packet,
    Sctp,
    Slice,
    Tcp,
    Udp,
    quoted,
)

MAX_ATTEMPTS, MIN_ATTEMPTS = 128, 16  # NF_NAT_MAX_ATTEMPTS
PORTS = (PROTO_TCP, PROTO_UDP, PROTO_SCTP)


class Ports(Protocol):
    """Who picks a port where the kernel would throw dice."""

    def port(self, low: int, high: int) -> int: ...


class Range(NamedTuple):
    """What a NAT target allows (struct nf_nat_range2): addresses `low` to `high`, ports if `ports` is given.

    random: take any port, even if the old one is free (--random, --random-fully). persistent: the same address whatever
    the destination. offset_from: the base port of a shifted range (DNAT --to 1.2.3.4:10-20/5), -1 without.
    """

    low: IPv4
    high: IPv4
    ports: tuple[int, int] | None = None
    random: bool = False
    persistent: bool = False
    offset_from: int = -1


def done(conn: Conn, *, source: bool) -> bool:
    """nf_nat_initialized: whether this side of the connection has been set up."""
    return bool(conn.status & (SRC_NAT_DONE if source else DST_NAT_DONE))


def setup(conns: Conns, conn: Conn, allowed: Range, choose: Ports, now: int, *, source: bool) -> bool:
    """nf_nat_setup_info: choose the tuple of a new connection and make its replies expected there. True if it
    changed."""
    if conn.status & CONFIRMED:
        return False
    current = conn.reply.inverse()
    assert current is not None
    chosen = Search(conns, conn, choose, now).unique(current, allowed, source=source)
    reply = chosen.inverse()
    assert reply is not None
    if chosen != current:
        conn.reply = reply
        conn.status |= SRC_NAT if source else DST_NAT
    if source:
        conns.by_source.setdefault(source_of(conn.original), []).append(conn)
    conn.status |= SRC_NAT_DONE if source else DST_NAT_DONE
    return chosen != current


def null_binding(conn: Conn, *, source: bool) -> Range:
    """nf_nat_alloc_null_binding: no rule asked for anything, so the address stays; the port only if no one has it."""
    addr = conn.reply.dst if source else conn.reply.src
    return Range(addr, addr)


class Search:
    """get_unique_tuple for one new connection: the tuple it gets, such that no other connection expects its replies."""

    def __init__(self, conns: Conns, conn: Conn, choose: Ports, now: int) -> None:
        self.conns, self.conn, self.choose, self.now = conns, conn, choose, now

    def unique(self, current: ConnTuple, allowed: Range, *, source: bool) -> ConnTuple:
        """The tuple nearest to `current` that the range allows and nobody uses."""
        if source and not allowed.random:
            if _in_range(current, allowed):
                if not self._used(current):
                    return current
            else:
                mapped = self._mapped(current, allowed)
                if mapped is not None and not self._used(mapped):
                    return mapped
        addr = _best_address(current, allowed)
        chosen = current._replace(src=addr) if source else current._replace(dst=addr)
        if not allowed.random:
            if allowed.ports is not None:
                low, high = allowed.ports
                fits = allowed.offset_from < 0 and low <= (chosen.sport if source else _port(chosen)) <= high
                if fits and (low == high or not self._used(chosen)):
                    return chosen
            elif not self._used(chosen):
                return chosen
        return self._port(chosen, allowed, source=source)

    def _used(self, candidate: ConnTuple) -> bool:
        """nf_nat_used_tuple: someone else expects these replies, and it is not the same flow once more."""
        reply = candidate.inverse()
        other = self.conns.find(reply, self.now) if reply is not None else None
        return other is not None and other is not self.conn and other.original != self.conn.original

    def _mapped(self, current: ConnTuple, allowed: Range) -> ConnTuple | None:
        """find_appropriate_src: what this source has been mapped to already."""
        for other in self.conns.by_source.get(source_of(current), ()):
            if other.expires <= self.now:
                continue
            seen = other.reply.inverse()
            assert seen is not None
            mapped = current._replace(src=seen.src, sport=seen.sport)
            if _in_range(mapped, allowed):
                return mapped
        return None

    def _port(self, chosen: ConnTuple, allowed: Range, *, source: bool) -> ConnTuple:
        """nf_nat_l4proto_unique_tuple: look for a free port (or echo id) in the range, from a random one on."""
        icmp = chosen.proto == PROTO_ICMP
        if chosen.proto not in PORTS and not icmp:
            return chosen
        at_source = source or icmp
        old = chosen.sport if at_source else chosen.dport
        if allowed.ports is not None:
            low, high = sorted(allowed.ports)
        elif icmp:
            low, high = 0, 65535
        elif not source:
            return chosen
        else:
            low, high = (1, 511) if old < 512 else (600, 1023) if old < 1024 else (1024, 65535)
        span = high - low + 1
        attempts = min(span, MAX_ATTEMPTS)
        while True:
            if allowed.offset_from >= 0:
                at = old - allowed.offset_from
            elif span > 1 and (allowed.random or source):
                at = self.choose.port(low, high) - low
            else:
                at = 0
            for i in range(attempts):
                port = low + (at + i) % span
                candidate = chosen._replace(sport=port) if at_source else chosen._replace(dport=port)
                if not self._used(candidate):
                    return candidate
            if attempts >= span or attempts < MIN_ATTEMPTS:
                return candidate
            attempts //= 2


def _in_range(candidate: ConnTuple, allowed: Range) -> bool:
    """nf_in_range."""
    if not allowed.low <= candidate.src <= allowed.high:
        return False
    return allowed.ports is None or allowed.ports[0] <= candidate.sport <= allowed.ports[1]


def _port(candidate: ConnTuple) -> int:
    """What counts as the destination's port (l4proto_in_range): the echo id of ICMP."""
    return candidate.sport if candidate.proto == PROTO_ICMP else candidate.dport


def _best_address(current: ConnTuple, allowed: Range) -> IPv4:
    """find_best_ips_proto: of several addresses one by a hash of the source, and of the destination unless
    persistent."""
    span = allowed.high - allowed.low + 1
    if span == 1:
        return allowed.low
    h = hash((int(current.src), 0 if allowed.persistent else int(current.dst))) & 0xFFFFFFFF
    return IPv4(allowed.low + (h * span >> 32))


# -- rewriting --------------------------------------------------------------------------------------------------------


def rewrite(packet: Packet, target: ConnTuple, *, source: bool) -> Packet:
    """nf_nat_ipv4_manip_pkt: give an L3 packet the source (or destination) of a tuple."""
    ip, rest = packet.headers[0], packet.headers[1:]
    assert isinstance(ip, Ip)
    l4 = rest[0] if rest else None
    if isinstance(l4, Udp | Tcp | Sctp):
        l4 = l4._replace(sport=target.sport) if source else l4._replace(dport=target.dport)
        rest = (l4, *rest[1:])
    elif isinstance(l4, Icmp) and l4.type in (0, 8, 13, 14, 15, 16, 17, 18):
        rest = (l4._replace(id=target.sport), *rest[1:])
    ip = ip._replace(src=target.src) if source else ip._replace(dst=target.dst)
    return Packet((ip, *rest), packet.payload)


def translate(packet: Packet, conn: Conn, direction: str, *, source: bool) -> Packet:
    """nf_nat_packet: make a packet look like the inverse of what the other side sends. The same packet if nothing is
    due."""
    if not _due(conn, direction, source=source):
        return packet
    target = conn.tuple(REPLY if direction == ORIGINAL else ORIGINAL).inverse()
    assert target is not None
    return rewrite(packet, target, source=source)


def translate_error(packet: Packet, conn: Conn, direction: str, *, source: bool) -> Packet | None:
    """nf_nat_icmp_reply_translation: an ICMP error, and the packet it quotes, in the eyes of the receiver.

    None: it dies. A redirect makes no sense across NAT, nor before it is known whether there will be any.
    """
    error = packet.headers[1]
    assert isinstance(error, Icmp)
    if error.type == REDIRECT and (conn.status & NAT_DONE != NAT_DONE or conn.status & NAT):
        return None
    about = quoted(packet)
    if about is None or not _due(conn, direction, source=source):
        return packet
    other = conn.tuple(REPLY if direction == ORIGINAL else ORIGINAL)
    target = other.inverse()
    assert target is not None
    return rewrite_error(packet, target.src if source else target.dst, other, source=source)


def rewrite_error(packet: Packet, addr: IPv4, inner: ConnTuple, *, source: bool) -> Packet:
    """Give an ICMP error another source (or destination), and the packet it quotes the opposite side of a tuple."""
    ip, about = packet.headers[0], quoted(packet)
    assert isinstance(ip, Ip) and about is not None and isinstance(packet.payload, Slice)
    ip = ip._replace(src=addr) if source else ip._replace(dst=addr)
    told = _rewrite_quoted(about, inner, source=not source)
    return Packet((ip, *packet.headers[1:]), packet.payload._replace(of=told))


def _rewrite_quoted(about: Packet, target: ConnTuple, *, source: bool) -> Packet:
    """Rewrite a quoted packet, which may be a first fragment: then the transport header is in what it was cut from."""
    part = about.payload
    if len(about.headers) > 1 or not isinstance(part, Slice) or part.start:
        return rewrite(about, target, source=source)
    ip = about.headers[0]
    whole = rewrite(Packet((ip, *part.of.headers), part.of.payload), target, source=source)
    return Packet(whole.headers[:1], part._replace(of=Packet(whole.headers[1:], whole.payload)))


def _due(conn: Conn, direction: str, *, source: bool) -> bool:
    """Whether packets of that direction are rewritten on that side: replies on the opposite one."""
    bit = SRC_NAT if source else DST_NAT
    if direction == REPLY:
        bit ^= NAT
    return bool(conn.status & bit)
