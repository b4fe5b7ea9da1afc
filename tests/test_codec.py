"""packetwalk.codec: round trips, checksums, hostile input, vectors made by hand, and tshark as a second reader."""

import shutil
import struct
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from packetwalk.addr import IPv4, Mac
from packetwalk.checksums import checksum
from packetwalk.codec import CodecError, decode, encode, verify
from packetwalk.packet import (
    ARP_REPLY,
    ARP_REQUEST,
    ECHO,
    ETH_ARP,
    ETH_IPV6,
    ETH_LEN,
    FRAG_NEEDED,
    IP_LEN,
    PROTO_ICMP,
    PROTO_IPIP,
    PROTO_TCP,
    PROTO_UDP,
    REDIRECT,
    TIME_EXCEEDED,
    UDP_LEN,
    UNREACHABLE,
    Arp,
    Ethernet,
    Geneve,
    Header,
    Icmp,
    Ip,
    Packet,
    Slice,
    Tcp,
    Udp,
    Vxlan,
    header_len,
    ip_packet,
    payload_len,
    quoted,
    size,
)

A, B = IPv4("10.0.0.1"), IPv4("10.0.0.2")
MAC_A, MAC_B = Mac("02:00:00:00:00:0a"), Mac("02:00:00:00:00:0b")
FRAME = Ethernet(MAC_A, MAC_B)
UDP_IP, TCP_IP, ICMP_IP, IPIP_IP = (Ip(A, B, n, 0, 64) for n in (PROTO_UDP, PROTO_TCP, PROTO_ICMP, PROTO_IPIP))
SYN = Tcp(40000, 80, "S", 7, 0, 64240, mss=1460, sack_ok=True, wscale=7, ts=(1, 0))


def on_wire(packet: Packet) -> Packet:
    return Packet((FRAME, *packet.headers), packet.payload)


def udp_packet(payload: int | bytes = 0, ip: Ip = UDP_IP, sport: int = 40000, dport: int = 9) -> Packet:
    return ip_packet(ip, Udp(sport, dport, UDP_LEN + payload_len(payload)), payload=payload)


def tunnelled(inner: Packet, shim: Header, dport: int, check: bool = False) -> Packet:
    length = UDP_LEN + header_len(shim) + size(inner)
    return on_wire(ip_packet(UDP_IP, Udp(50000, dport, length, check), shim, *inner.headers, payload=inner.payload))


def with_lengths(headers: Sequence[Header], payload: int | bytes) -> Packet:
    """The stack with every Ip.len and Udp.len computed."""
    out: list[Header] = []
    length = payload_len(payload)
    for h in reversed(headers):
        length += header_len(h)
        out.insert(0, h._replace(len=length) if isinstance(h, Ip | Udp) else h)
    return Packet(tuple(out), payload)


def pieces(datagram: Packet, step: int) -> list[Packet]:
    """The fragments of an L3 packet, `step` bytes (a multiple of eight) in each."""
    ip = datagram.headers[0]
    assert isinstance(ip, Ip)
    whole, total = Packet(datagram.headers[1:], datagram.payload), ip.len - IP_LEN
    cuts = [(at, min(at + step, total)) for at in range(0, total, step)]
    return [
        Packet((ip._replace(len=IP_LEN + b - a, offset=a, mf=b < total),), Slice(whole, a, b))
        for a, b in cuts
    ]  # fmt: skip


def same(one: Packet, other: Packet) -> bool:
    """Equal, and of the same classes: named tuples of two classes are equal where their values are."""
    return one == other and list(map(type, one.headers)) == list(map(type, other.headers))


# --- random packets --------------------------------------------------------------------------------------------------
def up_to(n: int) -> st.SearchStrategy[int]:
    return st.integers(0, n)


U8, U16, U24, U32 = up_to(0xFF), up_to(0xFFFF), up_to(0xFFFFFF), up_to(0xFFFFFFFF)
ADDRESSES, MACS = U32.map(IPv4), up_to(0xFFFFFFFFFFFF).map(Mac)
PLAIN_PORTS = U16.filter(lambda port: port not in (4789, 8472, 6081))
FLAGS = st.sets(st.sampled_from("FSRPAUEC")).map(lambda chosen: "".join(c for c in "FSRPAUEC" if c in chosen))
DATA = st.binary(min_size=1, max_size=60).filter(lambda data: data != bytes(range(len(data))))
PAYLOADS = st.one_of(up_to(700), DATA)
ARPS = st.builds(Arp, op=st.sampled_from((ARP_REQUEST, ARP_REPLY)), sha=MACS, spa=ADDRESSES, tha=MACS, tpa=ADDRESSES)
ECHOES = st.tuples(st.sampled_from((0, 8)), U8, U16, U16).map(lambda values: Icmp(*values))
TCPS = st.builds(
    Tcp, sport=U16, dport=U16, flags=FLAGS, seq=U32, ack=U32, window=U16, mss=U16, sack_ok=st.booleans(),
    wscale=st.integers(-1, 14), ts=st.one_of(st.none(), st.tuples(U32, U32)),
)  # fmt: skip


def ips(proto: int) -> st.SearchStrategy[Ip]:
    """Headers whose length is yet to be computed."""
    fields = (ADDRESSES, ADDRESSES, st.just(proto), st.just(0), U8, U8, U16, st.booleans())
    return st.tuples(*fields).map(lambda values: Ip(*values))


@st.composite
def l3(draw: st.DrawFn, check: st.SearchStrategy[bool], depth: int) -> tuple[list[Header], int | bytes]:
    kinds = ["icmp", "udp", "tcp"] + (["ipip", "vxlan", "geneve"] if depth else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "icmp":
        return [draw(ips(PROTO_ICMP)), draw(ECHOES)], draw(PAYLOADS)
    if kind == "udp":
        return [draw(ips(PROTO_UDP)), Udp(draw(U16), draw(PLAIN_PORTS), 0, draw(check))], draw(PAYLOADS)
    if kind == "tcp":
        return [draw(ips(PROTO_TCP)), draw(TCPS)], draw(PAYLOADS)
    if kind == "ipip":
        inner, payload = draw(l3(check, depth - 1))
        return [draw(ips(PROTO_IPIP)), *inner], payload
    inner, payload = draw(l2(check, depth - 1))
    dport = 6081 if kind == "geneve" else draw(st.sampled_from((4789, 8472)))
    shim = Geneve(draw(U24)) if kind == "geneve" else Vxlan(draw(U24))
    sport = draw(st.integers(32768, 60999))  # a port below the tunnel's may be another protocol's to tshark
    return [draw(ips(PROTO_UDP)), Udp(sport, dport, 0, draw(check)), shim, *inner], payload


@st.composite
def l2(draw: st.DrawFn, check: st.SearchStrategy[bool], depth: int) -> tuple[list[Header], int | bytes]:
    if draw(st.integers(0, 5)) == 0:
        return [Ethernet(draw(MACS), draw(MACS), ETH_ARP), draw(ARPS)], 0
    headers, payload = draw(l3(check, depth))
    return [Ethernet(draw(MACS), draw(MACS)), *headers], payload


def frames(check: st.SearchStrategy[bool] = st.booleans()) -> st.SearchStrategy[Packet]:  # noqa: B008
    return l2(check, 2).map(lambda stack: with_lengths(*stack))


def bare(check: st.SearchStrategy[bool] = st.booleans()) -> st.SearchStrategy[Packet]:  # noqa: B008
    return l3(check, 2).map(lambda stack: with_lengths(*stack))


# --- round trips -----------------------------------------------------------------------------------------------------
@given(frames())
def test_frame_round_trip(packet: Packet) -> None:
    data = encode(packet)
    assert len(data) == size(packet)
    assert same(decode(data), packet)
    assert verify(data) == []


@given(bare())
def test_bare_ip_round_trip(packet: Packet) -> None:
    data = encode(packet)
    assert len(data) == size(packet)
    assert same(decode(data, "ip"), packet)
    assert verify(data, "ip") == []


def test_payload_in_the_pattern_is_a_length_again() -> None:
    assert decode(encode(on_wire(udp_packet(b"\0\1\2")))) == on_wire(udp_packet(3))
    assert decode(encode(on_wire(udp_packet(b"\0\1\3")))) == on_wire(udp_packet(b"\0\1\3"))
    assert decode(encode(on_wire(udp_packet(b"")))) == on_wire(udp_packet(0))
    assert encode(udp_packet(300))[28:] == bytes(range(256)) + bytes(range(44))


def test_largest_packet() -> None:
    packet = udp_packet(0xFFFF - IP_LEN - UDP_LEN)
    assert len(encode(packet)) == 0xFFFF
    assert decode(encode(packet), "ip") == packet


def test_padding_of_the_outermost_frame_is_forgotten() -> None:
    arp = Packet((FRAME._replace(type=ETH_ARP), Arp(ARP_REQUEST, MAC_A, A, Mac(0), B)))
    for packet in (arp, on_wire(udp_packet(5))):
        assert decode(encode(packet).ljust(60, b"\0")) == packet
        assert verify(encode(packet).ljust(60, b"\0")) == []


def test_padding_inside_a_tunnel_is_refused() -> None:
    inner = encode(on_wire(udp_packet(5))).ljust(60, b"\0")
    shim = bytes.fromhex("0800000000000500")
    with pytest.raises(CodecError, match=r"^ip header at byte 64: its length is 33 bytes, those from here on are 46$"):
        decode(encode(on_wire(udp_packet(shim + inner, dport=4789))))
    with pytest.raises(CodecError, match=r"^ip header at byte 20: its length is 33 bytes"):
        decode(encode(ip_packet(IPIP_IP, payload=encode(udp_packet(5)) + b"\0")), "ip")


def test_tunnel_ports_are_the_callers() -> None:
    packet = tunnelled(on_wire(udp_packet(5)), Vxlan(7), 9999)
    assert decode(encode(packet), vxlan_ports=(9999,)) == packet
    assert decode(encode(packet)).headers == packet.headers[:3]
    packet = tunnelled(on_wire(udp_packet(5)), Geneve(7), 9999)
    assert decode(encode(packet), geneve_ports={9999}) == packet


def test_unknown_protocol_is_opaque() -> None:
    packet = ip_packet(Ip(A, B, 47, 0, 64), payload=b"whatever GRE carries")
    assert decode(encode(packet), "ip") == packet


# --- checksums -------------------------------------------------------------------------------------------------------
def words_sum(data: bytes) -> int:
    """RFC 1071 word by word, as a second opinion."""
    total = 0
    for i in range(0, len(data), 2):
        total += data[i] << 8 | (data[i + 1] if i + 1 < len(data) else 0)
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@given(st.binary(max_size=80))
@example(b"")
@example(b"\0\0\0")
@example(b"\xff\xff")
@example(b"\xff\xfe\x00\x01")
def test_checksum_is_the_sum_of_words(data: bytes) -> None:
    assert checksum(data) == words_sum(data)


def test_checksum_of_rfc_1071_section_3() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


def test_udp_checksum_that_comes_out_as_zero_is_sent_as_ones() -> None:
    data = encode(udp_packet(bytes.fromhex("ebd4"), sport=1, dport=2))
    assert data[26:28] == b"\xff\xff"
    assert verify(data, "ip") == []
    assert decode(data, "ip") == udp_packet(bytes.fromhex("ebd4"), sport=1, dport=2)


def test_udp_without_checksum() -> None:
    packet = ip_packet(UDP_IP, Udp(1, 2, 12, checksum=False), payload=4)
    data = encode(packet)
    assert data[26:28] == b"\0\0"
    assert decode(data, "ip") == packet
    assert verify(data[:-1] + b"\x77", "ip") == []


@given(frames(st.just(True)), st.data())
def test_flipped_byte_is_noticed(packet: Packet, data: st.DataObject) -> None:
    assume(not isinstance(packet.headers[1], Arp))
    raw = bytearray(encode(packet))
    at = data.draw(st.integers(ETH_LEN, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    udp_check = ETH_LEN + IP_LEN + 6
    outer = packet.headers[2]
    assume(not (isinstance(outer, Udp) and raw[udp_check : udp_check + 2] == b"\0\0"))  # now it says: no checksum
    with suppress(CodecError):
        assert verify(bytes(raw)) != []


def test_wrong_layers_are_named_outermost_first() -> None:
    inner = on_wire(ip_packet(TCP_IP, SYN, payload=9))
    raw = bytearray(encode(tunnelled(inner, Vxlan(7), 4789, check=True)))
    raw[-1] ^= 1
    assert verify(bytes(raw)) == ["udp", "inner tcp"]
    raw[ETH_LEN + 8] ^= 1  # the outer ttl
    raw[ETH_LEN + IP_LEN + UDP_LEN + 8 + ETH_LEN + 8] ^= 1  # the inner ttl
    assert verify(bytes(raw)) == ["ip", "udp", "inner ip", "inner tcp"]
    raw = bytearray(encode(ip_packet(ICMP_IP, Icmp(ECHO, 0, 1, 1), payload=3)))
    raw[-2] ^= 1
    assert verify(bytes(raw), "ip") == ["icmp"]


# --- fragments -------------------------------------------------------------------------------------------------------
@given(bare(), st.integers(1, 40))
def test_fragments_make_the_datagram(packet: Packet, eighths: int) -> None:
    raw = [encode(p) for p in pieces(packet, eighths * 8)]
    assert b"".join(part[IP_LEN:] for part in raw) == encode(packet)[IP_LEN:]
    assert all(verify(part, "ip") == [] for part in raw)


def test_fragment_is_ip_and_payload() -> None:
    first, second = pieces(udp_packet(40), 24)
    back = decode(encode(on_wire(first)))
    assert back == Packet((FRAME, *first.headers), encode(udp_packet(40))[20:44])
    assert decode(encode(second), "ip") == Packet(second.headers, bytes(range(16, 40)))
    (_, second) = pieces(udp_packet(272), 264)
    assert decode(encode(second), "ip") == Packet(second.headers, 16)  # it starts at 256, so in the pattern


def test_fragment_of_a_decoded_fragment() -> None:
    first, _ = pieces(udp_packet(40), 24)
    opaque = decode(encode(first), "ip")
    again = pieces(opaque, 8)
    assert b"".join(encode(p)[IP_LEN:] for p in again) == opaque.payload


# --- ICMP errors -----------------------------------------------------------------------------------------------------
EXPIRED = Icmp(TIME_EXCEEDED)


def error(about: Packet, room: int, icmp: Icmp = EXPIRED) -> Packet:
    return ip_packet(ICMP_IP, icmp, payload=Slice(about, 0, min(room, size(about))))


@pytest.mark.parametrize("room", (28, 40, 60, 548, 2000))
@pytest.mark.parametrize(
    "icmp",
    (Icmp(TIME_EXCEEDED), Icmp(UNREACHABLE, FRAG_NEEDED, mtu=1400), Icmp(UNREACHABLE, 1), Icmp(REDIRECT, 1, gateway=B)),
)
def test_quotation(icmp: Icmp, room: int) -> None:
    about = udp_packet(900)
    packet = error(about, room, icmp)
    data = encode(packet)
    assert data[28:] == encode(about)[:room]
    assert same(decode(data, "ip"), packet)
    found = quoted(decode(data, "ip"))
    assert found is not None
    assert same(found, about)
    assert verify(data, "ip") == []


@given(bare(), st.integers(0, 900))
def test_any_quotation_has_the_same_bytes_and_length(about: Packet, room: int) -> None:
    packet = error(about, room)
    back = decode(encode(packet), "ip")
    assert size(back) == size(packet)
    assert back.headers == packet.headers
    if room >= size(about):
        assert same(back, packet)
    found = quoted(back)
    if found is not None:
        assert size(found) == size(about)
        assert found.headers == about.headers[: len(found.headers)]


def test_quotation_without_the_transport_header_stays_bytes() -> None:
    about = ip_packet(TCP_IP, SYN, payload=100)
    for room in (0, 1, 19, 20, 28, 59):
        data = encode(error(about, room))
        assert decode(data, "ip").payload == (encode(about)[:room] or 0)
    assert quoted(decode(encode(error(about, 60)), "ip")) == about


def test_quotation_of_data_cut_short_has_a_length() -> None:
    found = quoted(decode(encode(error(udp_packet(b"secret" * 9), 40)), "ip"))
    assert found == udp_packet(54)


def test_quotation_of_a_fragment_keeps_what_it_shows() -> None:
    first, second = pieces(udp_packet(2000), 1480)
    for about in (first, second):
        data = encode(error(about, 548))
        found = quoted(decode(data, "ip"))
        assert found is not None
        assert found.headers == about.headers
        assert size(found) == size(about)
        assert encode(found)[:548] == data[28:]


def test_quotation_that_ends_within_a_tunnel_header() -> None:
    about = tunnelled(on_wire(udp_packet(100)), Vxlan(7), 4789)
    bare_about = Packet(about.headers[1:], about.payload)
    for room in (28, 30, 36, 50, 69, 77):
        found = quoted(decode(encode(error(bare_about, room)), "ip"))
        assert found == Packet(bare_about.headers[:2], size(bare_about) - 28)
    assert quoted(decode(encode(error(bare_about, 78)), "ip")) == bare_about


def test_quotation_with_an_extension_stays_bytes() -> None:
    quote = encode(udp_packet(4)).ljust(128, b"\0") + bytes.fromhex("2000dfff")
    packet = ip_packet(ICMP_IP, Icmp(TIME_EXCEEDED), payload=quote)
    assert decode(encode(packet), "ip") == packet


def test_error_in_fragments() -> None:
    packet = error(udp_packet(900), 548)
    raw = [encode(p) for p in pieces(packet, 64)]
    assert b"".join(part[IP_LEN:] for part in raw) == encode(packet)[IP_LEN:]


# --- known answers ---------------------------------------------------------------------------------------------------
def test_udp_vector_made_by_hand() -> None:
    # header: 4500+001c+4011+0a00+0001+0a00+0002 = 9930, complement 66cf
    # UDP: 0a00+0001+0a00+0002+0011+0008 (pseudo) + 0001+0002+0008 = 1427, complement ebd8
    wire = bytes.fromhex("4500001c00000000401166cf0a0000010a000002" + "000100020008ebd8")
    assert encode(udp_packet(sport=1, dport=2)) == wire
    assert decode(wire, "ip") == udp_packet(sport=1, dport=2)


def test_icmp_vector_made_by_hand() -> None:
    # 0800+1234+0001+6162 = 7b97, complement 8468
    packet = ip_packet(ICMP_IP, Icmp(ECHO, 0, 0x1234, 1), payload=b"ab")
    assert encode(packet)[IP_LEN:] == bytes.fromhex("0800846812340001" + "6162")


def test_arp_vector() -> None:
    packet = Packet((FRAME._replace(type=ETH_ARP), Arp(ARP_REQUEST, MAC_A, A, Mac(0), B)))
    ether = "02000000000b" + "02000000000a" + "0806"
    arp = "0001" + "0800" + "06" + "04" + "0001" + "02000000000a" + "0a000001" + "000000000000" + "0a000002"
    assert encode(packet) == bytes.fromhex(ether + arp)


@pytest.mark.parametrize(
    ("tcp", "options"),
    (
        (SYN, "020405b4 0402080a 00000001 00000000 01030307"),
        (SYN._replace(sack_ok=False), "020405b4 0101080a 00000001 00000000 01030307"),
        (SYN._replace(ts=None), "020405b4 01010402 01030307"),
        (SYN._replace(ts=None, sack_ok=False, wscale=-1), "020405b4"),
        (Tcp(1, 2, "A", ts=(3, 4)), "0101080a 00000003 00000004"),
        (Tcp(1, 2, "A", wscale=0), "01030300"),
        (Tcp(1, 2, "A"), ""),
    ),
)
def test_tcp_options_lie_as_linux_puts_them(tcp: Tcp, options: str) -> None:
    raw = encode(ip_packet(TCP_IP, tcp))
    assert raw[IP_LEN + 20 :] == bytes.fromhex(options)
    assert raw[IP_LEN + 12] >> 4 == tcp.header_len // 4


def test_tcp_flags() -> None:
    for i, letter in enumerate("FSRPAUEC"):
        assert encode(ip_packet(TCP_IP, Tcp(1, 2, letter)))[IP_LEN + 13] == 1 << i
    assert decode(encode(ip_packet(TCP_IP, Tcp(1, 2, "AS"))), "ip") == ip_packet(TCP_IP, Tcp(1, 2, "SA"))


def test_tunnel_headers() -> None:
    inner = Packet((FRAME._replace(type=ETH_ARP), Arp(ARP_REQUEST, MAC_A, A, Mac(0), B)))
    assert encode(tunnelled(inner, Vxlan(0x123456), 4789))[42:50] == bytes.fromhex("0800000012345600")
    assert encode(tunnelled(inner, Geneve(0x123456), 6081))[42:50] == bytes.fromhex("0000655812345600")


# --- what is refused -------------------------------------------------------------------------------------------------
EXAMPLES = {
    "arp": Packet((FRAME._replace(type=ETH_ARP), Arp(ARP_REQUEST, MAC_A, A, Mac(0), B))),
    "echo": on_wire(ip_packet(ICMP_IP, Icmp(ECHO, 0, 1, 1), payload=56)),
    "udp": on_wire(udp_packet(b"a question")),
    "tcp": on_wire(ip_packet(TCP_IP, SYN, payload=10)),
    "vxlan": tunnelled(on_wire(ip_packet(TCP_IP, SYN, payload=10)), Vxlan(7), 8472),
    "geneve": tunnelled(on_wire(udp_packet(3)), Geneve(7), 6081, check=True),
    "ipip": on_wire(ip_packet(IPIP_IP, *udp_packet(20).headers, payload=20)),
    "fragment": on_wire(pieces(udp_packet(100), 64)[1]),
    "error": on_wire(error(udp_packet(900), 548)),
}


def one_line_error(data: bytes) -> str:
    with pytest.raises(CodecError) as caught:
        decode(data)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("name", EXAMPLES)
def test_truncation_at_every_length(name: str) -> None:
    data = encode(EXAMPLES[name])
    for n in range(len(data)):
        line = one_line_error(data[:n])
        assert " header at byte " in line
        with pytest.raises(CodecError):
            verify(data[:n])


@given(st.sampled_from(sorted(EXAMPLES)), st.lists(st.tuples(U16, U8), max_size=6), st.integers(0, 80))
def test_damaged_input_is_refused_or_read_and_written_again(name: str, hits: list[tuple[int, int]], at: int) -> None:
    raw = bytearray(encode(EXAMPLES[name]))
    for where, value in hits:
        raw[(at + where % 8 if where & 8 else where) % len(raw)] = value
    try:
        packet = decode(bytes(raw))
    except CodecError:
        return
    data = encode(packet)
    assert len(data) == size(packet)
    assert same(decode(data), packet)
    assert verify(data) == []


@given(st.binary(max_size=120))
def test_noise_raises_nothing_else(data: bytes) -> None:
    for link in ("eth", "ip"):
        try:
            decode(data, link)
        except CodecError as problem:
            assert "\n" not in str(problem)


def test_nesting_without_end() -> None:
    packet: list[Header] = [IPIP_IP] * 3000
    with pytest.raises(CodecError, match=r"^ip header at byte 1280: nested more than 64 headers deep$"):
        decode(encode(with_lengths(packet, 0)), "ip")
    about = udp_packet(1)
    for _ in range(100):
        about = error(about, size(about))
    back = decode(encode(about), "ip")
    assert encode(back) == encode(about)


def spoiled(name: str, at: int, value: str) -> bytes:
    raw = bytearray(encode(EXAMPLES[name]))
    new = bytes.fromhex(value)
    raw[at : at + len(new)] = new
    return bytes(raw)


@pytest.mark.parametrize(
    ("data", "line"),
    (
        (b"", "ethernet header at byte 0: truncated: 14 bytes were expected, 0 are there"),
        (
            spoiled("udp", 12, f"{ETH_IPV6:04x}"),
            "ethernet header at byte 0: ethertype 0x86dd is not modelled, only IPv4 (0x0800) and ARP (0x0806)",
        ),
        (spoiled("arp", 14, "0006"), "arp header at byte 14: it is not about Ethernet and IPv4 addresses"),
        (
            spoiled("udp", 14, "46"),
            "ip header at byte 14: first byte 0x46 is not modelled, only 0x45 (version 4, no options)",
        ),
        (spoiled("udp", 16, "0013"), "ip header at byte 14: its length is 19 bytes, those from here on are 38"),
        (spoiled("udp", 16, "0027"), "ip header at byte 14: its length is 39 bytes, those from here on are 38"),
        (spoiled("udp", 38, "0013"), "udp header at byte 34: its length is 19 bytes, those from here on are 18"),
        (
            spoiled("tcp", 46, "40"),
            "tcp header at byte 34: its length is 16 bytes, Linux lays out the options it has in 20",
        ),
        (spoiled("tcp", 46, "f0"), "tcp header at byte 34: truncated: 60 bytes were expected, 50 are there"),
        (spoiled("tcp", 54, "05"), "tcp header at byte 34: option 5 at byte 54 is not modelled"),
        (spoiled("tcp", 55, "05"), "tcp header at byte 34: option 2 at byte 54 is malformed: 4 bytes were expected"),
        (
            spoiled("tcp", 71, "02"),
            "tcp header at byte 34: option 2 at byte 71 is malformed: 4 bytes were expected",
        ),
        (
            spoiled("tcp", 54, "00"),
            "tcp header at byte 34: its length is 40 bytes, Linux lays out the options it has in 20",
        ),
        (spoiled("vxlan", 42, "00"), "vxlan header at byte 42: flags 0x00 lack 0x08 (the VNI is valid)"),
        (
            spoiled("geneve", 42, "02"),
            "geneve header at byte 42: version 0 with 8 bytes of options and protocol 0x6558 is not modelled, "
            "only version 0, no options, 0x6558",
        ),
    ),
)
def test_refusal_says_what_and_where(data: bytes, line: str) -> None:
    assert one_line_error(data) == line


def test_unknown_link() -> None:
    with pytest.raises(CodecError, match=r"^link 'ppp' is not known: 'eth' or 'ip' was expected$"):
        decode(b"", "ppp")


@pytest.mark.parametrize(
    ("packet", "line"),
    (
        (Packet((UDP_IP._replace(len=40), Udp(1, 2, 8))), "ip: the header says 40 bytes, the packet has 28"),
        (Packet((UDP_IP._replace(len=28), Udp(1, 2, 9))), "udp: the header says 9 bytes, the datagram has 8"),
        (
            ip_packet(UDP_IP._replace(offset=4), payload=4),
            "ip: 4 is no fragment offset: a multiple of 8 below 65536 was expected",
        ),
        (ip_packet(TCP_IP, Tcp(1, 2, "X")), "tcp: 'X' is no flag: letters of FSRPAUEC were expected"),
        (Packet((Udp(1, 2, 8),)), "udp: its checksum needs the addresses of an ip header right above it"),
        (Packet((FRAME, Tcp(1, 2, "S"))), "tcp: its checksum needs the addresses of an ip header right above it"),
        (Packet((Icmp(ECHO),), -1), "payload: -1 bytes are no length that fits an IP packet"),
        (Packet((Icmp(ECHO),), 1 << 40), "payload: 1099511627776 bytes are no length that fits an IP packet"),
        (Packet((Vxlan(1 << 24),)), "vxlan: a value does not fit its field in Vxlan(vni=16777216)"),
    ),
)
def test_packets_without_bytes(packet: Packet, line: str) -> None:
    with pytest.raises(CodecError) as caught:
        encode(packet)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    "packet",
    (
        ip_packet(UDP_IP._replace(ttl=256), payload=4),
        ip_packet(UDP_IP, payload=0xFFFF),
        Packet((FRAME._replace(src=Mac(1 << 48)),)),
        ip_packet(TCP_IP, Tcp(1, 2, "S", seq=1 << 32)),
        ip_packet(TCP_IP, Tcp(1, 2, "S", ts=(-1, 0))),
        ip_packet(ICMP_IP, Icmp(REDIRECT, gateway=IPv4(1 << 32))),
    ),
)
def test_values_that_do_not_fit(packet: Packet) -> None:
    with pytest.raises(CodecError, match="a value does not fit its field"):
        encode(packet)


# --- tshark ----------------------------------------------------------------------------------------------------------
FIELDS = (
    "frame.protocols", "eth.src", "eth.dst", "ip.src", "ip.dst", "ip.ttl", "ip.id", "ip.len", "ip.flags.df",
    "ip.flags.mf", "ip.frag_offset", "ip.checksum.status", "icmp.type", "icmp.code", "icmp.mtu", "icmp.checksum.status",
    "udp.srcport", "udp.length", "udp.checksum.status", "tcp.srcport", "tcp.flags", "tcp.seq_raw", "tcp.hdr_len",
    "tcp.options.mss_val", "tcp.options.wscale.shift", "tcp.options.timestamp.tsval", "tcp.options.sack_perm",
    "tcp.checksum.status", "vxlan.vni", "geneve.vni", "arp.opcode", "arp.src.proto_ipv4", "arp.dst.hw_mac",
    "_ws.malformed",
)  # fmt: skip
GOOD, ABSENT = "1", "3"  # values of the checksum.status fields


def tshark(frames: list[bytes], tmp_path: Path) -> list[dict[str, str]]:
    """What tshark reads in each frame: field -> its values with commas, without the fields that are absent."""
    program = shutil.which("tshark")
    if program is None:
        pytest.skip("tshark is not installed")
    file = tmp_path / "frames.pcap"
    records = [struct.pack("<IIII", n, 0, len(data), len(data)) + data for n, data in enumerate(frames)]
    file.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0xFFFF, 1) + b"".join(records))
    options = [f"-o{layer}.check_checksum:TRUE" for layer in ("ip", "udp", "tcp")]
    fields = [word for name in FIELDS for word in ("-e", name)]
    command = [program, "-n", "-r", str(file), *options, "-dudp.port==8472,vxlan", "-T", "fields", "-Eseparator=|"]
    done = subprocess.run([*command, *fields], capture_output=True, text=True, timeout=120, check=True)
    rows = [line.split("|") for line in done.stdout.splitlines()]
    return [{name: value for name, value in zip(FIELDS, row, strict=True) if value} for row in rows]


def test_tshark_reads_the_same(tmp_path: Path) -> None:
    ip = Ip(A, B, PROTO_UDP, 0, 63, 0, 0x1234, df=True)
    first, second = pieces(udp_packet(100, ip._replace(df=False)), 64)
    packets = {
        "arp": EXAMPLES["arp"],
        "udp": on_wire(udp_packet(5, ip)),
        "tcp": on_wire(ip_packet(TCP_IP, SYN, payload=3)),
        "first": on_wire(first),
        "second": on_wire(second),
        "vxlan": EXAMPLES["vxlan"],
        "geneve": EXAMPLES["geneve"],
        "ipip": EXAMPLES["ipip"],
        "error": on_wire(error(udp_packet(900, ip), 548, Icmp(UNREACHABLE, FRAG_NEEDED, mtu=1400))),
    }
    found = dict(zip(packets, tshark([encode(p) for p in packets.values()], tmp_path), strict=True))
    assert not [name for name, row in found.items() if "_ws.malformed" in row]

    def values(name: str, *fields: str) -> list[str]:
        return [found[name].get(field, "") for field in fields]

    assert values("arp", "arp.opcode", "arp.src.proto_ipv4", "arp.dst.hw_mac") == ["1", str(A), str(Mac(0))]
    assert values("udp", "eth.src", "eth.dst", "ip.src", "ip.dst") == [str(MAC_A), str(MAC_B), str(A), str(B)]
    assert values("udp", "ip.ttl", "ip.id", "ip.len", "ip.flags.df") == ["63", "0x1234", "33", "1"]
    assert values("udp", "udp.srcport", "udp.length", "udp.checksum.status") == ["40000", "13", GOOD]
    assert values("tcp", "tcp.flags", "tcp.seq_raw", "tcp.hdr_len", "tcp.checksum.status") == [
        "0x0002",
        "7",
        "40",
        GOOD,
    ]
    options = ("mss_val", "wscale.shift", "timestamp.tsval")
    assert values("tcp", *(f"tcp.options.{name}" for name in options)) == ["1460", "7", "1"]
    assert "tcp.options.sack_perm" in found["tcp"]
    assert values("first", "ip.flags.mf", "ip.frag_offset") == ["1", "0"]
    # Wireshark 4 counts the offset in bytes, as we do; older ones show the field as it is, in units of eight
    assert values("second", "ip.flags.mf", "ip.frag_offset", "udp.length") in (["0", "64", "108"], ["0", "8", "108"])
    assert values("second", "udp.checksum.status") == [GOOD]  # of the datagram that tshark put together
    assert values("vxlan", "vxlan.vni", "udp.checksum.status", "tcp.checksum.status") == ["7", ABSENT, GOOD]
    assert values("geneve", "geneve.vni", "udp.checksum.status") == ["0x000007", f"{GOOD},{GOOD}"]
    assert values("ipip", "ip.len", "udp.checksum.status") == ["68,48", GOOD]
    assert values("error", "icmp.type", "icmp.code", "icmp.mtu", "icmp.checksum.status") == ["3", "4", "1400", GOOD]
    assert values("error", "ip.len", "udp.length") == ["576,928", "908"]
    for row in found.values():
        assert set(row.get("ip.checksum.status", GOOD).split(",")) == {GOOD}


def test_tshark_finds_every_checksum_right(tmp_path: Path) -> None:
    packets: list[Packet] = []

    @given(frames())
    def collect(packet: Packet) -> None:
        packets.append(packet)

    collect()
    rows = tshark([encode(p) for p in packets], tmp_path)
    assert len(rows) == len(packets)
    for packet, row in zip(packets, rows, strict=True):
        lengths = ",".join(str(h.len) for h in packet.headers if isinstance(h, Ip))
        assert row.get("ip.len", "") == lengths
        for layer in ("ip", "icmp", "udp", "tcp"):
            states = row.get(f"{layer}.checksum.status", GOOD).split(",")
            assert set(states) <= ({GOOD, ABSENT} if layer == "udp" else {GOOD}), (packet, row)
