"""packetwalk.apps.dns: round trips, what is refused, and tshark as a second reader."""

import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packetwalk.addr import IPv4, Mac
from packetwalk.apps import dns
from packetwalk.apps.dns import NXDOMAIN, Message, MessageError, Record, decode, encode
from packetwalk.apps.nameserver import NameServer
from packetwalk.apps.program import Peer, Receive
from packetwalk.codec import encode as packet_bytes
from packetwalk.kube.zone import PublicZone
from packetwalk.packet import PROTO_UDP, Ethernet, Ip, Packet, Udp, ip_packet
from tests.apps.play import play

NAME = "web.prod.svc.cluster.local"
SRV = f"_http._tcp.{NAME}"
SOA = Record("cluster.local", "SOA", 30, "ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 30")
MESSAGES = {
    "query": Message(7, NAME, "A"),
    "a": Message(7, NAME, "A", True, answers=(Record(NAME, "A", 30, "10.96.1.1"),), authoritative=True),
    "nxdomain": Message(8, f"x.{NAME}", "AAAA", True, NXDOMAIN, authority=(SOA,), authoritative=True),
    "no data": Message(9, NAME, "AAAA", True, authority=(SOA,)),
    "srv": Message(
        10, SRV, "SRV", True, answers=(Record(SRV, "SRV", 30, f"0 100 80 {NAME}."),),
        additional=(Record(NAME, "A", 30, "10.96.1.1"),),
    ),
    "ptr": Message(11, "1.1.96.10.in-addr.arpa", "PTR", True,
                   answers=(Record("1.1.96.10.in-addr.arpa", "PTR", 30, f"{NAME}."),)),
    "cname": Message(12, "db.svc", "A", True, answers=(Record("db.svc", "CNAME", 30, "db.example.com."),
                                                       Record("db.example.com", "A", 5, "203.0.113.9"))),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_written_is_read_again(name: str) -> None:
    assert decode(encode(MESSAGES[name])) == MESSAGES[name]


def test_names_are_compressed_and_read_compressed() -> None:
    data = encode(MESSAGES["srv"])
    assert data.count(b"\x07cluster\x05local") == 2, "the target of an SRV record is whole (RFC 2782), the rest points"
    assert len(data) < 12 + 3 * len(NAME) + 60


@pytest.mark.parametrize(("name", "words"), [
    ("query", f"A? {NAME}"), ("a", f"A {NAME}: 10.96.1.1"), ("nxdomain", f"AAAA x.{NAME}: NXDOMAIN"),
    ("no data", f"AAAA {NAME}: no data"), ("cname", "A db.svc: CNAME db.example.com. 203.0.113.9"),
])  # fmt: skip
def test_words(name: str, words: str) -> None:
    assert str(MESSAGES[name]) == words


def test_what_does_not_fit_is_left_out_and_said_so() -> None:
    many = tuple(Record(NAME, "A", 30, f"10.244.{n}.1") for n in range(40))
    message = MESSAGES["query"]._replace(response=True, answers=many)
    data = encode(message, limit=dns.UDP_MAX)
    short = decode(data)
    assert len(data) <= 512 and short.truncated and len(short.answers) < 40
    assert not decode(encode(message)).truncated


@pytest.mark.parametrize("data", [b"", b"hello", bytes(12), encode(MESSAGES["a"])[:-3], encode(MESSAGES["a"]) + b"x"])
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(MessageError, match="DNS message") as error:
        decode(data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a..b", "x" * 64, ".".join(["label"] * 50)])
def test_a_name_that_cannot_be(name: str) -> None:
    with pytest.raises(MessageError, match="no DNS message can say A"):
        encode(Message(1, name, "A"))


def test_a_stream_of_messages() -> None:
    one, two = encode(MESSAGES["query"]), encode(MESSAGES["a"])
    stream = dns.frame(one) + dns.frame(two)
    assert dns.unframe(stream) == (one, dns.frame(two))
    assert dns.unframe(stream[:1]) == (None, stream[:1]) and dns.unframe(dns.frame(two)[:-1])[0] is None


FIELDS = ("dns.id", "dns.qry.name", "dns.flags.response", "dns.flags.rcode", "dns.a", "dns.srv.target", "dns.srv.port",
          "dns.ptr.domain_name", "dns.cname", "dns.soa.mname", "dns.flags.authoritative", "_ws.malformed")  # fmt: skip


def tshark(payloads: list[bytes], tmp_path: Path) -> list[dict[str, str]]:
    """What tshark reads in datagrams with these payloads to port 53."""
    program = shutil.which("tshark")
    if program is None:
        pytest.skip("tshark is not installed")
    file = tmp_path / "dns.pcap"
    records = b""
    for data in payloads:
        inner = ip_packet(Ip(IPv4("10.0.0.1"), IPv4("10.0.0.2"), PROTO_UDP, 0, 64), Udp(53, 53, 8 + len(data)),
                          payload=data)  # fmt: skip
        frame = packet_bytes(Packet((Ethernet(Mac(1), Mac(2)), *inner.headers), inner.payload))
        records += struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame
    file.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0xFFFF, 1) + records)
    words = [word for name in FIELDS for word in ("-e", name)]
    done = subprocess.run([program, "-n", "-r", str(file), "-T", "fields", "-Eseparator=|", *words],
                          capture_output=True, text=True, timeout=120, check=True)  # fmt: skip
    return [dict(zip(FIELDS, line.split("|"), strict=True)) for line in done.stdout.splitlines()]


def test_tshark_reads_the_same(tmp_path: Path) -> None:
    rows = dict(zip(MESSAGES, tshark([encode(m) for m in MESSAGES.values()], tmp_path), strict=True))
    for name, message in MESSAGES.items():
        row = rows[name]
        assert (int(row["dns.id"], 16), row["dns.qry.name"]) == (message.id, message.name)
        assert row["dns.flags.response"] in (("True", "1") if message.response else ("False", "0"))
        assert row["_ws.malformed"] == ""
    assert rows["a"]["dns.a"] == "10.96.1.1" and rows["a"]["dns.flags.authoritative"] in ("True", "1")
    assert rows["nxdomain"]["dns.flags.rcode"] == "3" and rows["no data"]["dns.flags.rcode"] == "0"
    assert (rows["srv"]["dns.srv.target"], rows["srv"]["dns.srv.port"]) == (NAME, "80")
    assert rows["ptr"]["dns.ptr.domain_name"] == NAME
    assert (rows["cname"]["dns.cname"], rows["cname"]["dns.a"]) == ("db.example.com", "203.0.113.9")
    assert rows["no data"]["dns.soa.mname"] == "ns.dns.cluster.local"


WHOLE = [encode(message) for message in MESSAGES.values()]


@given(st.sampled_from([b"", *WHOLE]), st.integers(0, 300), st.integers(0, 20), st.binary(max_size=40))
def test_any_bytes_are_a_message_or_refused(data: bytes, at: int, cut: int, scrap: bytes) -> None:
    data = data[:at] + scrap + data[at + cut :]
    with suppress(MessageError):
        decode(data)
    play(NameServer("any", (PublicZone({}),)).serve(Peer("udp", IPv4("10.0.0.1"), 53), {}), lambda call: (
        data if isinstance(call, Receive) else None))  # fmt: skip
