"""Packet <-> bytes, lengths and checksums: the only place where bytes exist.

What `decode` accepts, `encode` writes again with the same lengths. What would change them and has no place in a Packet
(IP options, SACK blocks, Geneve options, VLAN tags) is refused by name; only padding behind the outermost packet is
forgotten. Lengths and offsets are in bytes.

A payload that is a number n stands for the n bytes 00 01 02 .. ff 00 01 ..; so a packet without data has bytes, too.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import NoReturn, TypeAlias

from packetwalk.addr import IPv4, Mac
from packetwalk.checksums import checksum, crc32c

# isort: off
from packetwalk.packet import (
    ETH_ARP, ETH_IP, FRAG_NEEDED, ICMP_ERRORS, IP_LEN, PROTO_ICMP, PROTO_IPIP, PROTO_SCTP, PROTO_TCP, PROTO_UDP,
    REDIRECT, SCTP_LEN, UNREACHABLE, Arp, Ethernet, Geneve, Header, Icmp, Ip, Packet, Sctp, Slice, Tcp, Udp, Vxlan,
)  # fmt: skip
# isort: on

Ports: TypeAlias = Collection[int]
VXLAN_PORTS = (4789, 8472)
"""IANA's port (RFC 7348) and the one Linux used before it, which is still the default of its vxlan device."""
GENEVE_PORTS = (6081,)

_ETHERNET = struct.Struct("!HIHIH")  # an Ethernet address is read as its upper 16 and lower 32 bits
_ARP = struct.Struct("!HHBBHHIIHII")
_IP = struct.Struct("!BBHHHBBHII")
_ICMP = struct.Struct("!BBHHH")
_UDP = struct.Struct("!HHHH")
_TCP = struct.Struct("!HHIIBBHHH")
_SCTP = struct.Struct("!HHI")  # and the checksum, which alone has its least significant byte first
_CRC = struct.Struct("<I")
_VXLAN = struct.Struct("!B3xI")
_GENEVE = struct.Struct("!BBHI")
_PSEUDO = struct.Struct("!IIBBH")
_MSS = struct.Struct("!BBH")
_TIMESTAMP = struct.Struct("!BBBBII")
_WSCALE = struct.Struct("!BBBB")
_U16 = struct.Struct("!H")
_TWO_U32 = struct.Struct("!II")

_VERSION_AND_WORDS = 0x45  # RFC 791: version 4, a header of five 32-bit words
_PATTERN = bytes(range(256)) * 257  # longer than any IP packet
_DF, _MF, _OFFSET = 0x4000, 0x2000, 0x1FFF  # RFC 791: flags and, in units of 8 bytes, the fragment offset
_ARP_KIND = (1, ETH_IP, 6, 4)  # RFC 826: Ethernet and IPv4, and the lengths of their addresses
_VXLAN_VALID = 0x08  # RFC 7348: the I flag, the VNI is valid
_BRIDGED = 0x6558  # RFC 8926: an Ethernet frame follows
_LETTERS = "FSRPAUEC"  # from bit 0 on: RFC 9293 3.1
_FLAGS = tuple("".join(c for i, c in enumerate(_LETTERS) if bits >> i & 1) for bits in range(256))
_END, _NOP, _OPT_MSS, _OPT_WSCALE, _OPT_SACK_OK, _OPT_TS = 0, 1, 2, 3, 4, 8
_OPTION_LEN = {_OPT_MSS: 4, _OPT_WSCALE: 3, _OPT_SACK_OK: 2, _OPT_TS: 10}  # RFC 9293, RFC 7323, RFC 2018
_CHECKSUM_AT = {Icmp: 2, Udp: 6, Tcp: 16}
_DEEPEST = 64  # headers in one frame, quotations included: hostile nesting ends here and not in a RecursionError


class CodecError(ValueError):
    """Bytes that are no packet, or a packet that has no bytes: one line naming the header and, in bytes, its offset."""


def encode(packet: Packet) -> bytes:
    """The bytes of a packet from its outermost header on: an Ethernet frame without FCS, or a bare IP packet.

    Checksums are computed: IP, ICMP, TCP and SCTP always, UDP unless `Udp.checksum` is False (RFC 791, 792, 9293, 9260,
    768). A slice is cut from the encoding of what it is a slice of. Raises CodecError where a length field contradicts
    what follows it, where a value does not fit its field, and where TCP or UDP has no IP header above it.
    """
    return _encode(packet, None)


def decode(
    data: bytes, link: str = "eth", vxlan_ports: Ports = VXLAN_PORTS, geneve_ports: Ports = GENEVE_PORTS
) -> Packet:
    """The packet in an Ethernet frame (`link` "eth") or in bare IP ("ip"). UDP to a tunnel's port is opened, too.

    Checksums are not judged (see `verify`). A payload in the pattern becomes its length. A fragment,
    also the first, is Ip and a payload. An ICMP error carries a `Slice` of the packet it quotes, as
    long as that packet's Ip.len: a payload quoted in part becomes a length (a fragment keeps what is
    quoted and goes on in the pattern), a quotation without the whole transport header stays bytes.
    Raises CodecError, in one line, for what is truncated, malformed or not modelled.
    """
    return _Walk(data, vxlan_ports, geneve_ports).packet(link)


def verify(
    data: bytes, link: str = "eth", vxlan_ports: Ports = VXLAN_PORTS, geneve_ports: Ports = GENEVE_PORTS
) -> list[str]:
    """The layers whose checksum is wrong, outermost first: "ip", "icmp", "udp", "tcp", "sctp"; in tunnels "inner ip".

    Not judged: UDP without a checksum, the transport header in a fragment, what an ICMP error quotes (its own checksum
    covers that). Raises CodecError as `decode` does.
    """
    walk = _Walk(data, vxlan_ports, geneve_ports)
    walk.packet(link)
    wrong: list[str] = []
    ip, depth = None, -1
    for h, (start, stop) in zip(walk.headers, walk.spans, strict=True):
        part = data[start:stop]
        if isinstance(h, Ip):
            ip, depth = h, depth + 1
            part = part[:IP_LEN]
        elif ip and (isinstance(h, Tcp) or (isinstance(h, Udp) and h.checksum)):
            part = _pseudo(ip, h, len(part)) + part
        elif isinstance(h, Sctp):
            if _CRC.pack(crc32c(part[:8] + bytes(4) + part[SCTP_LEN:])) != part[8:SCTP_LEN]:
                wrong.append("inner " * depth + "sctp")
            continue
        elif not isinstance(h, Icmp):
            continue
        if checksum(part):
            wrong.append("inner " * depth + _name(h))
    return wrong


def _name(h: Header) -> str:
    return type(h).__name__.lower()


# Packet -> bytes, from the innermost header outwards


def _encode(packet: Packet, above: Ip | None) -> bytes:
    """As `encode`; `above` is the IP header that a packet without one, a fragment's datagram, belongs to."""
    headers = packet.headers
    last = headers[-1] if headers else above
    body = _payload(packet.payload, last if isinstance(last, Ip) else None)
    for i in range(len(headers) - 1, -1, -1):
        body = _put(headers[i], headers[i - 1] if i else above, body)
    return body


def _payload(payload: int | bytes | Slice, above: Ip | None) -> bytes:
    if isinstance(payload, Slice):
        return _encode(payload.of, above)[payload.start : payload.stop]
    if isinstance(payload, bytes):
        return payload
    if 0 <= payload <= len(_PATTERN):
        return _PATTERN[:payload]
    raise CodecError(f"payload: {payload} bytes are no length that fits an IP packet")


def _put(h: Header, above: Header | None, body: bytes) -> bytes:
    """One header before its body; `above` is the header before this one."""
    try:
        if isinstance(h, Ip):
            return _put_ip(h, body) + body
        if isinstance(h, Ethernet):
            return _ETHERNET.pack(h.dst >> 32, h.dst & 0xFFFFFFFF, h.src >> 32, h.src & 0xFFFFFFFF, h.type) + body
        if isinstance(h, Arp):
            sender, target = (h.sha >> 32, h.sha & 0xFFFFFFFF, h.spa), (h.tha >> 32, h.tha & 0xFFFFFFFF, h.tpa)
            return _ARP.pack(*_ARP_KIND, h.op, *sender, *target) + body
        if isinstance(h, Vxlan):
            return _VXLAN.pack(_VXLAN_VALID, h.vni << 8) + body
        if isinstance(h, Geneve):
            return _GENEVE.pack(0, 0, _BRIDGED, h.vni << 8) + body
        if isinstance(h, Sctp):
            head = _SCTP.pack(*h)
            return head + _CRC.pack(crc32c(head + bytes(4) + body)) + body
        return _put_transport(h, above, body)
    except struct.error:
        raise CodecError(f"{_name(h)}: a value does not fit its field in {h}") from None


def _put_ip(h: Ip, body: bytes) -> bytes:
    if h.len != IP_LEN + len(body):
        raise CodecError(f"ip: the header says {h.len} bytes, the packet has {IP_LEN + len(body)}")
    if h.offset % 8 or not 0 <= h.offset <= 0xFFFF:
        raise CodecError(f"ip: {h.offset} is no fragment offset: a multiple of 8 below 65536 was expected")
    fragment = (_DF if h.df else 0) | (_MF if h.mf else 0) | h.offset >> 3
    head = _IP.pack(_VERSION_AND_WORDS, h.tos, h.len, h.id, fragment, h.ttl, h.proto, 0, h.src, h.dst)
    return head[:10] + _U16.pack(checksum(head)) + head[12:]


def _put_transport(h: Icmp | Udp | Tcp, above: Header | None, body: bytes) -> bytes:
    if isinstance(h, Icmp):
        raw, pseudo = _put_icmp(h) + body, b""
    else:
        raw = (_put_tcp(h) if isinstance(h, Tcp) else _put_udp(h, body)) + body
        if isinstance(h, Udp) and not h.checksum:
            return raw
        if not isinstance(above, Ip):
            raise CodecError(f"{_name(h)}: its checksum needs the addresses of an ip header right above it")
        pseudo = _pseudo(above, h, len(raw))
    value = checksum(pseudo + raw)
    if isinstance(h, Udp):
        value = value or 0xFFFF  # RFC 768: a zero would say that there is none
    at = _CHECKSUM_AT[type(h)]
    return raw[:at] + _U16.pack(value) + raw[at + 2 :]


def _pseudo(ip: Ip, h: Udp | Tcp, length: int) -> bytes:
    """The pseudo header of RFC 9293 3.1 and RFC 768; `length` is that of the whole datagram."""
    return _PSEUDO.pack(ip.src, ip.dst, 0, PROTO_TCP if isinstance(h, Tcp) else PROTO_UDP, length)


def _put_icmp(h: Icmp) -> bytes:
    """RFC 792; the next hop's MTU is where RFC 1191 section 4 puts it."""
    if h.type == REDIRECT:
        return _ICMP.pack(h.type, h.code, 0, h.gateway >> 16, h.gateway & 0xFFFF)
    if h.type in ICMP_ERRORS:
        return _ICMP.pack(h.type, h.code, 0, 0, h.mtu if (h.type, h.code) == (UNREACHABLE, FRAG_NEEDED) else 0)
    return _ICMP.pack(h.type, h.code, 0, h.id, h.seq)


def _put_udp(h: Udp, body: bytes) -> bytes:
    if h.len != _UDP.size + len(body):
        raise CodecError(f"udp: the header says {h.len} bytes, the datagram has {_UDP.size + len(body)}")
    return _UDP.pack(h.sport, h.dport, h.len, 0)


def _put_tcp(h: Tcp) -> bytes:
    """RFC 9293 3.1, the options in the order and padding of Linux (net/ipv4/tcp_output.c, tcp_options_write)."""
    options = _MSS.pack(_OPT_MSS, 4, h.mss) if h.mss else b""
    if h.ts is not None:
        lead = (_OPT_SACK_OK, 2) if h.sack_ok else (_NOP, _NOP)
        options += _TIMESTAMP.pack(*lead, _OPT_TS, 10, *h.ts)
    elif h.sack_ok:
        options += bytes((_NOP, _NOP, _OPT_SACK_OK, 2))
    if h.wscale >= 0:
        options += _WSCALE.pack(_NOP, _OPT_WSCALE, 3, h.wscale)
    flags = 0
    for letter in h.flags:
        bit = _LETTERS.find(letter)
        if bit < 0:
            raise CodecError(f"tcp: {letter!r} is no flag: letters of {_LETTERS} were expected")
        flags |= 1 << bit
    words = (_TCP.size + len(options)) // 4
    return _TCP.pack(h.sport, h.dport, h.seq, h.ack, words << 4, flags, h.window, 0, 0) + options


# bytes -> Packet, from the outermost header inwards


class _Walk:
    """One way through the bytes of one packet; each method reads the header at `pos` and returns the innermost payload.

    `headers` collects what was read, `spans` from where to where each header and its body reach. `stop` is the end that
    the enclosing header claims; only in a quotation may the data end before it. `depth` counts the headers around one.
    """

    def __init__(self, data: bytes, vxlan_ports: Ports, geneve_ports: Ports, depth: int = 0) -> None:
        self.data, self.vxlan_ports, self.geneve_ports, self.depth = data, vxlan_ports, geneve_ports, depth
        self.headers: list[Header] = []
        self.spans: list[tuple[int, int]] = []

    def packet(self, link: str) -> Packet:
        if link not in ("eth", "ip"):
            raise CodecError(f"link {link!r} is not known: 'eth' or 'ip' was expected")
        payload = (self.ethernet if link == "eth" else self.ip)(0, len(self.data))
        return Packet(tuple(self.headers), payload)

    def fail(self, name: str, pos: int, what: str) -> NoReturn:
        raise CodecError(f"{name} header at byte {pos}: {what}")

    def need(self, name: str, pos: int, length: int, stop: int) -> None:
        left = min(stop, len(self.data)) - pos
        if left < length:
            self.fail(name, pos, f"truncated: {length} bytes were expected, {max(left, 0)} are there")

    def read(self, name: str, layout: struct.Struct, pos: int, stop: int) -> tuple[int, ...]:
        self.need(name, pos, layout.size, stop)
        return layout.unpack_from(self.data, pos)

    def claim(self, name: str, pos: int, length: int, stop: int) -> int:
        """Where an ip or arp packet of that length ends: at `stop`, the outermost one also before it (padding)."""
        room, outermost = stop - pos, all(isinstance(h, Ethernet) for h in self.headers)
        if not IP_LEN <= length <= room or (length < room and not outermost):
            self.fail(name, pos, f"its length is {length} bytes, those from here on are {room}")
        return pos + length

    def add(self, h: Header, pos: int, stop: int) -> None:
        if self.depth + len(self.headers) >= _DEEPEST:
            self.fail(_name(h), pos, f"nested more than {_DEEPEST} headers deep")
        self.headers.append(h)
        self.spans.append((pos, stop))

    def rest(self, pos: int, stop: int) -> int | bytes:
        """What no header explains: its length alone where it is in the pattern, or where its end was not quoted."""
        there = self.data[pos:stop]
        return stop - pos if len(there) < stop - pos or there == _PATTERN[: stop - pos] else there

    def ethernet(self, pos: int, stop: int) -> int | bytes | Slice:
        dst_high, dst_low, src_high, src_low, kind = self.read("ethernet", _ETHERNET, pos, stop)
        if kind not in (ETH_IP, ETH_ARP):
            self.fail("ethernet", pos, f"ethertype 0x{kind:04x} is not modelled, only IPv4 (0x0800) and ARP (0x0806)")
        self.add(Ethernet(Mac(src_high << 32 | src_low), Mac(dst_high << 32 | dst_low), kind), pos, stop)
        return (self.ip if kind == ETH_IP else self.arp)(pos + _ETHERNET.size, stop)

    def arp(self, pos: int, stop: int) -> int:
        *kind, op, sha_high, sha_low, spa, tha_high, tha_low, tpa = self.read("arp", _ARP, pos, stop)
        if tuple(kind) != _ARP_KIND:
            self.fail("arp", pos, "it is not about Ethernet and IPv4 addresses")
        stop = self.claim("arp", pos, _ARP.size, stop)
        sha, tha = Mac(sha_high << 32 | sha_low), Mac(tha_high << 32 | tha_low)
        self.add(Arp(op, sha, IPv4(spa), tha, IPv4(tpa)), pos, stop)
        return 0

    def ip(self, pos: int, stop: int) -> int | bytes | Slice:
        first, tos, length, ident, fragment, ttl, proto, _, src, dst = self.read("ip", _IP, pos, stop)
        if first != _VERSION_AND_WORDS:
            self.fail("ip", pos, f"first byte 0x{first:02x} is not modelled, only 0x45 (version 4, no options)")
        stop = self.claim("ip", pos, length, stop)
        df, mf, offset = bool(fragment & _DF), bool(fragment & _MF), (fragment & _OFFSET) * 8
        self.add(Ip(IPv4(src), IPv4(dst), proto, length, ttl, tos, ident, df, mf, offset), pos, stop)
        pos += IP_LEN
        if not mf and not offset:
            if proto == PROTO_ICMP:
                return self.icmp(pos, stop)
            if proto == PROTO_UDP:
                return self.udp(pos, stop)
            if proto == PROTO_TCP:
                return self.tcp(pos, stop)
            if proto == PROTO_SCTP:
                return self.sctp(pos, stop)
            if proto == PROTO_IPIP:
                return self.ip(pos, stop)
        there = self.data[pos:stop]
        if there == _PATTERN[: len(there)]:
            return stop - pos
        return there + _PATTERN[len(there) : stop - pos]  # a quoted fragment keeps what it shows: it may be the ports

    def icmp(self, pos: int, stop: int) -> int | bytes | Slice:
        kind, code, _, high, low = self.read("icmp", _ICMP, pos, stop)
        body = pos + _ICMP.size
        if kind not in ICMP_ERRORS:
            self.add(Icmp(kind, code, high, low), pos, stop)
            return self.rest(body, stop)
        mtu = low if (kind, code) == (UNREACHABLE, FRAG_NEEDED) else 0
        gateway = IPv4(high << 16 | low if kind == REDIRECT else 0)
        self.add(Icmp(kind, code, mtu=mtu, gateway=gateway), pos, stop)
        return self.quotation(body, stop)

    def quotation(self, pos: int, stop: int) -> int | bytes | Slice:
        """The packet that an ICMP error quotes (RFC 792); bytes where it is unreadable or RFC 4884 adds to it."""
        piece, length = self.data[pos:stop], stop - pos
        whole = int.from_bytes(piece[2:4], "big")
        walk = _Walk(piece, self.vxlan_ports, self.geneve_ports, self.depth + len(self.headers))
        try:
            payload = walk.ip(0, whole)
        except CodecError:
            return self.rest(pos, stop)
        return Slice(Packet(tuple(walk.headers), payload), 0, length) if length <= whole else self.rest(pos, stop)

    def udp(self, pos: int, stop: int) -> int | bytes | Slice:
        sport, dport, length, check = self.read("udp", _UDP, pos, stop)
        if length != stop - pos:
            self.fail("udp", pos, f"its length is {length} bytes, those from here on are {stop - pos}")
        self.add(Udp(sport, dport, length, check != 0), pos, stop)
        body, outer = pos + _UDP.size, len(self.headers)
        try:
            if dport in self.vxlan_ports:
                return self.vxlan(body, stop)
            if dport in self.geneve_ports:
                return self.geneve(body, stop)
        except CodecError:
            if stop <= len(self.data):
                raise
            del self.headers[outer:], self.spans[outer:]  # the quotation ends within the headers of the tunnel
        return self.rest(body, stop)

    def sctp(self, pos: int, stop: int) -> int | bytes:
        self.need("sctp", pos, SCTP_LEN, stop)
        self.add(Sctp(*self.read("sctp", _SCTP, pos, stop)), pos, stop)
        return self.rest(pos + SCTP_LEN, stop)

    def vxlan(self, pos: int, stop: int) -> int | bytes | Slice:
        flags, vni = self.read("vxlan", _VXLAN, pos, stop)
        if not flags & _VXLAN_VALID:
            self.fail("vxlan", pos, f"flags 0x{flags:02x} lack 0x08 (the VNI is valid)")
        self.add(Vxlan(vni >> 8), pos, stop)
        return self.ethernet(pos + _VXLAN.size, stop)

    def geneve(self, pos: int, stop: int) -> int | bytes | Slice:
        first, _, protocol, vni = self.read("geneve", _GENEVE, pos, stop)
        if first or protocol != _BRIDGED:
            what = f"version {first >> 6} with {(first & 63) * 4} bytes of options and protocol 0x{protocol:04x}"
            self.fail("geneve", pos, f"{what} is not modelled, only version 0, no options, 0x6558")
        self.add(Geneve(vni >> 8), pos, stop)
        return self.ethernet(pos + _GENEVE.size, stop)

    def tcp(self, pos: int, stop: int) -> int | bytes:
        sport, dport, seq, ack, words, flags, window, _, _ = self.read("tcp", _TCP, pos, stop)
        length = (words >> 4) * 4
        self.need("tcp", pos, length, stop)
        h = self.options(Tcp(sport, dport, _FLAGS[flags], seq, ack, window), pos, pos + length)
        if h.header_len != length:
            self.fail("tcp", pos, f"its length is {length} bytes, Linux lays out the options it has in {h.header_len}")
        self.add(h, pos, stop)
        return self.rest(pos + length, stop)

    def options(self, h: Tcp, start: int, stop: int) -> Tcp:
        """`h`, whose bytes go from `start` to `stop`, with its options."""
        data, pos = self.data, start + _TCP.size
        while pos < stop and data[pos] != _END:
            kind = data[pos]
            if kind == _NOP:
                pos += 1
                continue
            length = _OPTION_LEN.get(kind, 0)
            if not length:
                self.fail("tcp", start, f"option {kind} at byte {pos} is not modelled")
            if stop - pos < length or data[pos + 1] != length:
                self.fail("tcp", start, f"option {kind} at byte {pos} is malformed: {length} bytes were expected")
            if kind == _OPT_MSS:
                h = h._replace(mss=int.from_bytes(data[pos + 2 : pos + 4], "big"))
            elif kind == _OPT_WSCALE:
                h = h._replace(wscale=data[pos + 2])
            elif kind == _OPT_SACK_OK:
                h = h._replace(sack_ok=True)
            else:
                h = h._replace(ts=_TWO_U32.unpack_from(data, pos + 2))
            pos += length
        return h
