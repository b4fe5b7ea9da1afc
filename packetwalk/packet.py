"""What travels: a stack of headers and a payload, all immutable.

A packet is never changed, only replaced, so that every step of a trace can keep the one it saw. Bytes
exist only in `packetwalk.codec`; here a payload is a length, real data, or a slice of another packet (a
fragment, a quotation). Lengths are in bytes.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from packetwalk.addr import ANY, IPv4, Mac

ETH_LEN, ARP_LEN, IP_LEN, UDP_LEN, ICMP_LEN, TCP_LEN, VXLAN_LEN, GENEVE_LEN, SCTP_LEN = 14, 28, 20, 8, 8, 20, 8, 8, 12
ETH_IP, ETH_ARP, ETH_IPV6 = 0x0800, 0x0806, 0x86DD
PROTO_ICMP, PROTO_IPIP, PROTO_TCP, PROTO_UDP, PROTO_SCTP = 1, 4, 6, 17, 132
ARP_REQUEST, ARP_REPLY = 1, 2
ECN_MASK = 0x03

new = tuple.__new__  # builds a NamedTuple of all its fields in half the time: for what every hop makes

# ICMP types and codes, RFC 792 and RFC 1812
ECHO_REPLY, UNREACHABLE, REDIRECT, ECHO, TIME_EXCEEDED, PARAMETER_PROBLEM = 0, 3, 5, 8, 11, 12
NET_UNREACH, HOST_UNREACH, PROTO_UNREACH, PORT_UNREACH, FRAG_NEEDED, PKT_FILTERED = 0, 1, 2, 3, 4, 13
REDIRECT_HOST, TTL_EXCEEDED, FRAG_TIME_EXCEEDED = 1, 0, 1
ICMP_ERRORS = frozenset((UNREACHABLE, 4, REDIRECT, TIME_EXCEEDED, PARAMETER_PROBLEM))


class Ethernet(NamedTuple):
    """The header of a frame: who it is from, who it is for, and the ethertype of what follows."""

    src: Mac
    dst: Mac
    type: int = ETH_IP

    def __str__(self) -> str:
        return f"{self.src} > {self.dst}"


class Arp(NamedTuple):
    """RFC 826 for IPv4 over Ethernet: operation, then hardware and protocol address of sender and target."""

    op: int
    sha: Mac
    spa: IPv4
    tha: Mac
    tpa: IPv4


class Ip(NamedTuple):
    """An IPv4 header without options. `len` is the total length, `offset` the fragment offset, both in bytes.

    A socket that leaves `src` or `ttl` at zero asks the sending namespace to choose.
    """

    src: IPv4
    dst: IPv4
    proto: int
    len: int
    ttl: int = 0
    tos: int = 0
    id: int = 0
    df: bool = False
    mf: bool = False
    offset: int = 0

    def decrease_ttl(self) -> Ip:
        """ip_decrease_ttl: the header one router further on."""
        src, dst, proto, length, ttl, tos, id_, df, mf, offset = self
        return new(Ip, (src, dst, proto, length, ttl - 1, tos, id_, df, mf, offset))


class Icmp(NamedTuple):
    """`id` and `seq` of an echo; `mtu` of fragmentation needed; `gateway` of a redirect."""

    type: int
    code: int = 0
    id: int = 0
    seq: int = 0
    mtu: int = 0
    gateway: IPv4 = ANY


class Udp(NamedTuple):
    """`len` is the UDP length field: header and payload of the whole datagram, also in a first fragment."""

    sport: int
    dport: int
    len: int
    checksum: bool = True


class Tcp(NamedTuple):
    """`flags` is a string of letters from "FSRPAUEC". `mss` is 0 and `wscale` -1 where the option is absent."""

    sport: int
    dport: int
    flags: str
    seq: int = 0
    ack: int = 0
    window: int = 64240
    mss: int = 0
    sack_ok: bool = False
    wscale: int = -1
    ts: tuple[int, int] | None = None

    @property
    def header_len(self) -> int:
        """20 and the options, each padded as Linux lays them out (tcp_options_write)."""
        n = TCP_LEN + (4 if self.mss else 0) + (4 if self.wscale >= 0 else 0)
        if self.ts is not None:
            return n + 12  # sack_ok shares the padding of the timestamp
        return n + (4 if self.sack_ok else 0)


class Sctp(NamedTuple):
    """The common header of RFC 9260 3.1; `tag` is the verification tag. Chunks are payload (packetwalk.sctp)."""

    sport: int
    dport: int
    tag: int = 0


class Vxlan(NamedTuple):
    """RFC 7348: the 24-bit network identifier."""

    vni: int


class Geneve(NamedTuple):
    """RFC 8926 without options: the 24-bit network identifier."""

    vni: int


Header: TypeAlias = Ethernet | Arp | Ip | Icmp | Udp | Tcp | Sctp | Vxlan | Geneve


class Slice(NamedTuple):
    """Bytes `start` to `stop` of another packet: a fragment's share of its
    datagram, or the packet an ICMP error quotes."""

    of: Packet
    start: int
    stop: int


class Packet(NamedTuple):
    """Headers from the outermost to the innermost, and what follows them: a length, data, or a slice of a packet."""

    headers: tuple[Header, ...]
    payload: int | bytes | Slice = 0

    @property
    def l4(self) -> Header | None:
        """The header behind the IP header; None where there is none to see, as in a later fragment."""
        return self.headers[1] if len(self.headers) > 1 else None

    def push(self, header: Header) -> Packet:
        """skb_push: with one more header in front."""
        return new(Packet, ((header, *self.headers), self.payload))

    def pull(self) -> Packet:
        """skb_pull: without its first header."""
        return new(Packet, (self.headers[1:], self.payload))

    def swap(self, header: Header) -> Packet:
        """With another first header in the place of the one it has."""
        return new(Packet, ((header, *self.headers[1:]), self.payload))

    def __str__(self) -> str:
        return f"{'/'.join(type(h).__name__ for h in visible(self).headers)} {size(self)} bytes"


def payload_len(payload: int | bytes | Slice) -> int:
    """Bytes of a payload, whichever form it has."""
    if isinstance(payload, int):
        return payload
    return payload.stop - payload.start if isinstance(payload, Slice) else len(payload)


def part(payload: int | bytes, start: int, stop: int) -> int | bytes:
    """Bytes `start` to `stop` of a payload."""
    return payload[start:stop] if isinstance(payload, bytes) else stop - start


def joined(a: int | bytes, b: int | bytes) -> int | bytes:
    """One payload after another: data if both are, or one is empty; else their length."""
    if isinstance(a, bytes) and isinstance(b, bytes):
        return a + b
    if not a or not b:
        return a or b
    return payload_len(a) + payload_len(b)


def header_len(h: Header) -> int:
    """Bytes of a header with its options."""
    return h.header_len if isinstance(h, Tcp) else _HEADER_LEN[type(h)]


_HEADER_LEN: dict[type, int] = {
    Ethernet: ETH_LEN, Arp: ARP_LEN, Ip: IP_LEN, Icmp: ICMP_LEN, Udp: UDP_LEN, Sctp: SCTP_LEN, Vxlan: VXLAN_LEN,
    Geneve: GENEVE_LEN,
}  # fmt: skip


def size(packet: Packet) -> int:
    """Bytes on the wire, from the outermost header on (no frame check sequence)."""
    first = packet.headers[0]
    if isinstance(first, Ip):
        return first.len
    if isinstance(first, Ethernet) and len(packet.headers) > 1:
        second = packet.headers[1]
        return ETH_LEN + (second.len if isinstance(second, Ip) else ARP_LEN)
    return sum(map(header_len, packet.headers)) + payload_len(packet.payload)


def visible(packet: Packet) -> Packet:
    """The packet with the headers that a first fragment carries unfolded, as a capture would decode it.

    Any other packet is returned as it is.
    """
    part = packet.payload
    if not isinstance(part, Slice) or part.start or isinstance(packet.headers[-1], Icmp):
        return packet
    taken: list[Header] = []
    room = part.stop
    for h in part.of.headers[:1]:  # a fragment of a tunnel packet shows its UDP header; what is inside is cut
        if header_len(h) <= room:
            taken.append(h)
            room -= header_len(h)
    return Packet(packet.headers + tuple(taken), room)


def quoted(packet: Packet) -> Packet | None:
    """The packet an ICMP error quotes, whole, or None."""
    part = packet.payload
    return part.of if isinstance(part, Slice) and isinstance(packet.headers[-1], Icmp) else None


def innermost(packet: Packet) -> Ip | None:
    """The IP header of the innermost packet, whatever tunnels are around it; None where there is none."""
    return next((h for h in reversed(packet.headers) if isinstance(h, Ip)), None)


def is_icmp_error(packet: Packet) -> bool:
    """Whether an L3 packet is an ICMP error (RFC 1122 3.2.2: never answered by another)."""
    h = visible(packet).headers
    return len(h) > 1 and isinstance(h[1], Icmp) and h[1].type in ICMP_ERRORS


def ip_packet(ip: Ip, *rest: Header, payload: int | bytes | Slice = 0) -> Packet:
    """An L3 packet whose total length is computed from what it carries."""
    total = IP_LEN + sum(map(header_len, rest)) + payload_len(payload)
    return Packet((ip._replace(len=total), *rest), payload)
