"""Connection tracking: one entry for a connection, found by the tuple of either direction (net/netfilter/
nf_conntrack_core.c).

A packet that opens a connection makes an entry which belongs to the packet alone until it leaves the host or reaches a
socket (`confirm`): what is dropped on the way leaves nothing behind.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from packetwalk.addr import IPv4
from packetwalk.netns import sctp_track, tcp_track
from packetwalk.netns.sctp_track import SctpState
from packetwalk.netns.tcp_track import SECOND, Segment, TcpState
from packetwalk.packet import (
    ECHO,
    ECHO_REPLY,
    ICMP_ERRORS,
    PROTO_ICMP,
    PROTO_SCTP,
    PROTO_TCP,
    PROTO_UDP,
    Header,
    Icmp,
    Ip,
    Packet,
    Sctp,
    Slice,
    Tcp,
    Udp,
    quoted,
    visible,
)  # fmt: skip
from packetwalk.sctp import INIT, chunks

# enum ip_conntrack_status, include/uapi/linux/netfilter/nf_conntrack_common.h
SEEN_REPLY, ASSURED, CONFIRMED = 1 << 1, 1 << 2, 1 << 3
SRC_NAT, DST_NAT, SRC_NAT_DONE, DST_NAT_DONE, DYING = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 9
NAT, NAT_DONE = SRC_NAT | DST_NAT, SRC_NAT_DONE | DST_NAT_DONE

# How a packet relates to its connection (enum ip_conntrack_info), in the words of -m conntrack
NEW, ESTABLISHED, RELATED, INVALID, UNTRACKED = "NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"
ORIGINAL, REPLY = "ORIGINAL", "REPLY"

STREAM_AFTER = 2 * SECOND  # a UDP conversation that lasts longer is a stream
ICMP_ANSWERS = {ECHO: ECHO_REPLY, ECHO_REPLY: ECHO, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17}
ICMP_OPENERS = frozenset((ECHO, 13, 15, 17))
PROTO_NAMES = {PROTO_TCP: "tcp", PROTO_UDP: "udp", PROTO_ICMP: "icmp", PROTO_SCTP: "sctp"}


Followed: TypeAlias = "Segment | sctp_track.Segment"


class ConnTuple(NamedTuple):
    """One direction of a connection. Of ICMP `sport` is the echo id and `dport` type * 256 + code; others have no
    ports."""

    src: IPv4
    dst: IPv4
    proto: int
    sport: int = 0
    dport: int = 0

    def inverse(self) -> ConnTuple | None:
        """nf_ct_invert_tuple: the other direction; None for an ICMP message that nothing answers."""
        if self.proto != PROTO_ICMP:
            return ConnTuple(self.dst, self.src, self.proto, self.dport, self.sport)
        answer = ICMP_ANSWERS.get(self.dport >> 8)
        if answer is None:
            return None
        return ConnTuple(self.dst, self.src, self.proto, self.sport, answer << 8 | self.dport & 0xFF)

    @property
    def brief(self) -> str:
        """In few words: `tcp 10.0.0.1:40000 > 10.0.0.2:80`."""
        if self.proto in (PROTO_TCP, PROTO_UDP, PROTO_SCTP):
            return f"{PROTO_NAMES[self.proto]} {self.src}:{self.sport} > {self.dst}:{self.dport}"
        ident = f" id {self.sport}" if self.proto == PROTO_ICMP else ""
        return f"{PROTO_NAMES.get(self.proto, f'proto {self.proto}')} {self.src} > {self.dst}{ident}"

    def __str__(self) -> str:
        ends = f"src={self.src} dst={self.dst}"
        if self.proto == PROTO_ICMP:
            return f"{ends} type={self.dport >> 8} code={self.dport & 0xFF} id={self.sport}"
        return f"{ends} sport={self.sport} dport={self.dport}" if self.proto in PROTO_NAMES else ends


def tuple_of(packet: Packet) -> ConnTuple | None:
    """nf_ct_get_tuple: the tuple of an L3 packet; None for a later fragment or a cut-off header."""
    headers = packet.headers if len(packet.headers) > 1 else visible(packet).headers
    ip = headers[0]
    assert isinstance(ip, Ip)
    if ip.offset:
        return None
    l4 = headers[1] if len(headers) > 1 else None
    if isinstance(l4, Udp | Tcp | Sctp):
        return ConnTuple(ip.src, ip.dst, ip.proto, l4.sport, l4.dport)
    if isinstance(l4, Icmp):
        return ConnTuple(ip.src, ip.dst, ip.proto, l4.id, l4.type << 8 | l4.code)
    return None if ip.proto in PROTO_NAMES else ConnTuple(ip.src, ip.dst, ip.proto)


class Conn:
    """A connection (struct nf_conn). `reply` is what answers will look like: after NAT not the inverse of `original`.

    status: bits as in the kernel; masq_dev: the device whose address MASQUERADE took; expires in ns.
    """

    __slots__ = ("expires", "mark", "masq_dev", "original", "reply", "sctp", "status", "stream_at", "tcp", "zone")

    def __init__(self, original: ConnTuple, reply: ConnTuple, now: int = 0) -> None:
        self.original, self.reply = original, reply
        self.status, self.mark, self.zone = 0, 0, 0
        self.tcp: TcpState | None = None
        self.sctp: SctpState | None = None
        self.masq_dev = ""
        self.expires = now
        self.stream_at = now + STREAM_AFTER

    def copy(self) -> Conn:
        """As it is now: evidence for a trace, or an overlay's own."""
        twin = Conn.__new__(Conn)
        for slot in Conn.__slots__:
            setattr(twin, slot, getattr(self, slot))
        return twin

    def tuple(self, direction: str) -> ConnTuple:
        return self.original if direction == ORIGINAL else self.reply

    @property
    def confirmed(self) -> bool:
        return bool(self.status & CONFIRMED)

    def text(self, now: int) -> str:
        """The line `conntrack -L` prints, with the seconds left at `now`."""
        proto = self.original.proto
        words = [f"{PROTO_NAMES.get(proto, 'unknown'):<8} {proto} {max(self.expires - now, 0) // SECOND}"]
        words += [state.state for state in (self.tcp, self.sctp) if state is not None]
        words += [str(self.original)]
        words += [] if self.status & SEEN_REPLY else ["[UNREPLIED]"]
        words += [str(self.reply)]
        words += ["[ASSURED]"] if self.status & ASSURED else []
        return " ".join([*words, f"mark={self.mark}", "use=1"])

    def __str__(self) -> str:
        return self.original.brief


class Tracked(NamedTuple):
    """What conntrack says of a packet: the entry (None: invalid or untracked), the state and the direction."""

    conn: Conn | None
    state: str
    direction: str = ORIGINAL

    def __str__(self) -> str:
        if self.conn is None:
            return self.state
        return f"{self.state} {'answer to ' if self.direction == REPLY else ''}{self.conn}"


class Conns:
    """The connections of a namespace, found by either tuple, and by source for NAT (nf_nat_bysource)."""

    __slots__ = ("by_source", "entries")

    def __init__(self) -> None:
        self.entries: dict[ConnTuple, Conn] = {}
        self.by_source: dict[tuple[int, int, int], list[Conn]] = {}

    def overlay(self) -> Conns:
        """The same connections, each a copy: what a walk changes in them is its own."""
        copy = Conns()
        twins = {id(c): c.copy() for c in self.entries.values()}
        copy.entries = {t: twins[id(c)] for t, c in self.entries.items()}
        copy.by_source = {k: [twins[id(c)] for c in v if id(c) in twins] for k, v in self.by_source.items()}
        return copy

    def all(self) -> list[Conn]:
        """Every connection once, in the order they began."""
        return list({id(c): c for c in self.entries.values()}.values())

    def find(self, key: ConnTuple, now: int) -> Conn | None:
        """nf_conntrack_find_get: the confirmed entry of that tuple; an expired one is forgotten on the way."""
        conn = self.entries.get(key)
        if conn is not None and conn.expires <= now:
            self.remove(conn)
            return None
        return conn

    def confirm(self, conn: Conn, now: int) -> bool:
        """__nf_conntrack_confirm: put the entry into the table. False where one of its tuples is taken: the packet
        dies."""
        if conn.status & DYING or self.find(conn.original, now) is not None or self.find(conn.reply, now) is not None:
            return False
        conn.status |= CONFIRMED
        self.entries[conn.original] = self.entries[conn.reply] = conn
        return True

    def remove(self, conn: Conn) -> None:
        """nf_ct_delete."""
        conn.status |= DYING
        for key in (conn.original, conn.reply):
            if self.entries.get(key) is conn:
                del self.entries[key]
        source = self.by_source.get(source_of(conn.original), [])
        if conn in source:
            source.remove(conn)

    def device_gone(self, dev: str) -> None:
        """device_cmp (nf_nat_masquerade.c): what was masqueraded behind a device ends with it."""
        for conn in [c for c in self.all() if c.masq_dev == dev]:
            self.remove(conn)

    # -- packets ---------------------------------------------------------------------------------------------------

    def track(self, packet: Packet, now: int, sysctls: dict[str, int]) -> Tracked:
        """nf_conntrack_in: which connection a packet belongs to, or opens, and what it tells about it."""
        ip, l4 = packet.headers[0], packet.l4
        assert isinstance(ip, Ip)
        if isinstance(l4, Icmp) and l4.type in ICMP_ERRORS:
            return self._error(packet, ip, now)
        key = tuple_of(packet)
        if key is None:
            return Tracked(None, INVALID)
        segment = _segment(l4, packet.payload)
        conn = self.find(key, now)
        if conn is None:
            conn = _opened(key, segment, now, sysctls)
            if conn is None:
                return Tracked(None, INVALID)
        if key == conn.original:
            direction, state = ORIGINAL, ESTABLISHED if conn.status & SEEN_REPLY else NEW
        else:
            direction, state = REPLY, ESTABLISHED
        verdict = self._follow(conn, segment, direction, now, sysctls)
        if verdict == tcp_track.REOPEN:
            self.remove(conn)
            return self.track(packet, now, sysctls)
        if verdict == tcp_track.INVALID:
            return Tracked(None, INVALID)
        if direction == REPLY:
            conn.status |= SEEN_REPLY
        return Tracked(conn, state, direction)

    def _error(self, packet: Packet, ip: Ip, now: int) -> Tracked:
        """nf_conntrack_inet_error: an ICMP error belongs to the connection of the packet it quotes."""
        about = quoted(packet)
        key = tuple_of(about) if about is not None else None
        inverse = key.inverse() if key is not None else None
        conn = self.find(inverse, now) if inverse is not None else None
        if conn is None:
            return Tracked(None, INVALID)
        direction = ORIGINAL if inverse == conn.original else REPLY
        if conn.tuple(direction).dst != ip.dst:  # it talks about someone else's connection
            return Tracked(None, INVALID)
        return Tracked(conn, RELATED, direction)

    def _follow(self, conn: Conn, segment: Followed | None, direction: str, now: int, sysctls: dict[str, int]) -> str:
        """nf_conntrack_handle_packet: the part of each protocol."""
        proto = conn.original.proto
        if isinstance(segment, Segment):
            return self._follow_tcp(conn, segment, direction, now, sysctls)
        if segment is not None:
            return _follow_sctp(conn, segment, direction, now, sysctls)
        if proto == PROTO_UDP:
            extra = sysctls.get("net.netfilter.nf_conntrack_udp_timeout", 30)
            if conn.status & SEEN_REPLY and now > conn.stream_at:
                extra = sysctls.get("net.netfilter.nf_conntrack_udp_timeout_stream", 120)
                conn.status |= ASSURED
        elif proto == PROTO_ICMP:
            extra = sysctls.get("net.netfilter.nf_conntrack_icmp_timeout", 30)
        else:
            extra = sysctls.get("net.netfilter.nf_conntrack_generic_timeout", 600)
        conn.expires = now + extra * SECOND
        return tcp_track.ACCEPT

    def _follow_tcp(self, conn: Conn, segment: Segment, direction: str, now: int, sysctls: dict[str, int]) -> str:
        assert conn.tcp is not None
        old, answered = conn.tcp.state, bool(conn.status & SEEN_REPLY)
        after, verdict = tcp_track.followed(
            conn.tcp,
            segment,
            tcp_track.ORIGINAL if direction == ORIGINAL else tcp_track.REPLY,
            answered=answered,
            assured=bool(conn.status & ASSURED),
            liberal=bool(sysctls.get("net.netfilter.nf_conntrack_tcp_be_liberal", 0)),
        )
        conn.tcp = after
        if verdict != tcp_track.ACCEPT:
            return verdict
        new = after.state
        extra = tcp_track.timeout(after, segment.kind, sysctls)
        if not answered:
            if segment.kind == "rst":  # nothing but a reset came back: there is no connection
                self.remove(conn)
                return verdict
            if segment.kind == "syn" and old == "SYN_SENT":
                return verdict  # a repeated SYN does not prolong the wait
            if new == "ESTABLISHED":
                extra = min(extra, tcp_track.limit("UNACK", sysctls))
        elif new == "ESTABLISHED" and old in ("SYN_RECV", "ESTABLISHED"):
            conn.status |= ASSURED
        conn.expires = now + extra
        return verdict


def source_of(original: ConnTuple) -> tuple[int, int, int]:
    """hash_by_src: who sends."""
    return (original.src, original.sport, original.proto)


def _segment(l4: Header | None, payload: int | bytes | Slice) -> Followed | None:
    """What protocols with a state of their own look at."""
    if isinstance(l4, Tcp):
        return tcp_track.segment_of(l4, payload)
    return sctp_track.Segment(l4, chunks(payload)) if isinstance(l4, Sctp) else None


def _follow_sctp(conn: Conn, segment: sctp_track.Segment, direction: str, now: int, sysctls: dict[str, int]) -> str:
    """nf_conntrack_sctp_packet; an INIT that is only repeated does not prolong the wait."""
    assert conn.sctp is not None
    before = conn.sctp
    after = sctp_track.followed(before, segment, int(direction == REPLY))
    if after is None:
        return tcp_track.INVALID
    conn.sctp = after
    if after.state == sctp_track.ESTABLISHED != before.state:
        conn.status |= ASSURED
    again = before.state == after.state == sctp_track.CLOSED and segment.chunks[-1].type == INIT
    if not (again and conn.confirmed):
        key = f"net.netfilter.nf_conntrack_sctp_timeout_{after.state.lower()}"
        conn.expires = now + sysctls.get(key, sctp_track.TIMEOUTS[after.state]) * SECOND
    return tcp_track.ACCEPT


def _opened(key: ConnTuple, segment: Followed | None, now: int, sysctls: dict[str, int]) -> Conn | None:
    """init_conntrack: an entry for an unknown tuple, None where such a packet opens nothing."""
    reply = key.inverse()
    if reply is None or (key.proto == PROTO_ICMP and key.dport >> 8 not in ICMP_OPENERS):
        return None
    conn = Conn(key, reply, now)
    if isinstance(segment, sctp_track.Segment):
        conn.sctp = sctp_track.opened(segment)
        if conn.sctp is None:
            return None
    elif segment is not None:
        conn.tcp = tcp_track.opened(segment, loose=bool(sysctls.get("net.netfilter.nf_conntrack_tcp_loose", 1)))
        if conn.tcp is None:
            return None
    return conn
