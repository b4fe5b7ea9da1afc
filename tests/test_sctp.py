"""SCTP: chunks, the checksum, and the codec's part of it, with tshark as a second reader."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packetwalk.addr import IPv4
from packetwalk.checksums import crc32c
from packetwalk.codec import CodecError, decode, encode, verify
from packetwalk.packet import PROTO_SCTP, Ip, Packet, Sctp, ip_packet, size
from packetwalk.sctp import ABORT, INIT, INIT_ACK, REFLECTED, TAG, abort, chunks, opening
from packetwalk.words import brief, packet_words

ABOUT = Ip(IPv4("10.0.0.1"), IPv4("10.0.0.2"), PROTO_SCTP, 0, 64)


def packet(payload: bytes, tag: int = 0) -> Packet:
    return ip_packet(ABOUT, Sctp(40000, 80, tag), payload=payload)


def test_the_checksum_is_castagnolis() -> None:
    """RFC 3720 B.4 and the check value of the catalogue."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_chunks_are_cut_as_the_kernel_cuts_them() -> None:
    (init,) = chunks(opening(7))
    assert (init.type, init.tag, str(init)) == (INIT, 7, "INIT")
    (answer,) = chunks(opening(8, answer=True))
    assert (answer.type, answer.tag, len(answer.body)) == (INIT_ACK, 8, 24)
    assert [(c.type, c.flags) for c in chunks(abort(reflected=True))] == [(ABORT, REFLECTED)]
    padded = struct.pack("!BBH", 0, 3, 5) + b"x\0\0\0" + abort()
    assert [str(c) for c in chunks(padded)] == ["DATA", "ABORT"]
    assert [c.body for c in chunks(bytes(4) + abort())] == [b""]  # a chunk without a length ends the list
    assert chunks(20) == () and chunks(b"\1\0\0") == ()
    assert chunks(b"\x01\0\0\4")[0].tag == -1 and str(chunks(b"\xff\0\0\4")[0]) == "chunk 255"


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.binary(max_size=80))
def test_what_is_encoded_is_decoded_again(sport: int, dport: int, tag: int, payload: bytes) -> None:
    sent = ip_packet(ABOUT, Sctp(sport, dport, tag), payload=payload or 0)
    data = encode(sent)
    assert len(data) == size(sent) and encode(decode(data, "ip")) == data
    assert decode(data, "ip").headers == sent.headers
    assert verify(data, "ip") == []


@given(st.integers(20, 51), st.integers(1, 255))
def test_a_flipped_byte_is_noticed(at: int, bits: int) -> None:
    data = bytearray(encode(packet(opening(TAG))))
    data[at] ^= bits
    assert verify(bytes(data), "ip") == ["sctp"]


def test_what_is_cut_off_is_refused() -> None:
    short = Packet((ABOUT._replace(len=31),), bytes(11))
    with pytest.raises(CodecError, match="sctp header at byte 20: truncated: 12 bytes were expected, 11 are there"):
        decode(encode(short), "ip")


def test_words() -> None:
    assert packet_words(packet(opening(1))) == "10.0.0.1 > 10.0.0.2 sctp 40000 > 80 INIT"
    assert brief(packet(abort(), 1)) == "sctp ABORT"


@pytest.mark.skipif(shutil.which("text2pcap") is None or shutil.which("tshark") is None, reason="tshark is not here")
@pytest.mark.parametrize(("payload", "kind"), [
    (opening(TAG), "1"), (opening(TAG, answer=True), "2"), (abort(), "6"),
])  # fmt: skip
def test_tshark_reads_the_same(tmp_path: Path, payload: bytes, kind: str) -> None:
    data = encode(packet(payload, 5))
    (tmp_path / "hex").write_text("".join(f"{i:06x} {b:02x}\n" for i, b in enumerate(data)), encoding="ascii")
    subprocess.run(["text2pcap", "-q", "-l", "101", "hex", "pcap"], cwd=tmp_path, check=True, capture_output=True)
    fields = ["-o", "sctp.checksum:CRC 32c", "-T", "fields", "-E", "separator=,"]
    for name in ("sctp.srcport", "sctp.dstport", "sctp.verification_tag", "sctp.chunk_type", "sctp.checksum.status"):
        fields += ["-e", name]
    done = subprocess.run(["tshark", "-r", "pcap", *fields], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == f"40000,80,0x00000005,{kind},1"
