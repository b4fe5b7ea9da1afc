"""A walk as pcapng: read back block by block, and by tshark, which has to see what the trace says."""

import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import packetwalk as pw
from packetwalk.cli import main
from packetwalk.codec import decode, verify
from packetwalk.frames import frames, layers, seen
from packetwalk.source import from_mode
from packetwalk.trace import Trace

WALKS = {
    "a service over vxlan": ("flannel-vxlan", "b", "web:80", {"size": 3000}),
    "fragments over ipip": ("calico-ipip", "a", "b", {"size": 4000}),
    "geneve": ("geneve", "a", "b", {"udp": 9, "size": 100}),
    "an error that quotes": ("calico-ipip", "a", "b", {"ttl": 2}),
    "a closed port": ("flannel-host-gw", "a", "b", {"udp": 9, "size": 100}),
}


def walked(name: str, cold: bool = True) -> Trace:
    mode, src, dst, more = WALKS[name]
    net = from_mode(mode, nodes=2, racks=1, seed=0)
    return pw.walk(net, pw.between(net, src, dst, **more), cold=cold)


class Block(NamedTuple):
    kind: int
    body: bytes
    options: dict[int, bytes]


FIXED = {0x0A0D0D0A: 16, 1: 8, 6: 20}  # bytes in front of the options, but for a packet's data


def blocks(data: bytes) -> Iterator[Block]:
    """A pcapng file as the draft describes it, without a line of what wrote it."""
    while data:
        kind, length = struct.unpack_from("<II", data)
        assert length % 4 == 0 and struct.unpack_from("<I", data, length - 4) == (length,)
        body, data = data[8 : length - 4], data[length:]
        at = FIXED[kind] + (-(-struct.unpack_from("<I", body, 12)[0] // 4) * 4 if kind == 6 else 0)
        options = {}
        while at < len(body):
            code, size = struct.unpack_from("<HH", body, at)
            options[code] = body[at + 4 : at + 4 + size]
            at += 4 + -(-size // 4) * 4
        assert list(options)[-1] == 0 and at == len(body)
        yield Block(kind, body, options)


@pytest.mark.parametrize("name", WALKS)
def test_the_file_holds_every_frame_with_its_interface_time_and_direction(name: str) -> None:
    trace = walked(name)
    section, *rest = blocks(trace.to_pcapng())
    interfaces = [b for b in rest if b.kind == 1]
    packets = [b for b in rest if b.kind == 6]
    assert section.kind == 0x0A0D0D0A and all(i.options[9] == b"\x09" for i in interfaces)
    found = []
    for packet in packets:
        n, high, low, length, original = struct.unpack_from("<IIIII", packet.body)
        link = {1: "eth", 101: "ip"}[struct.unpack_from("<H", interfaces[n].body)[0]]
        data = packet.body[20 : 20 + length]
        assert length == original and verify(data, link) == []
        room, _, dev = interfaces[n].options[2].decode().partition("/")
        way = {1: "in", 2: "out"}[struct.unpack("<I", packet.options[2])[0]]
        found.append((high << 32 | low, room, dev, way, length, decode(data, link).headers[0]))
    told = sorted(frames(trace.hops, 0), key=lambda f: f["t_ns"])
    first = {id(step): step.packet.headers[0] for _, step, _ in seen(trace.hops)}
    assert len(found) == len(first) > 10
    assert [f[:5] for f in found] == [(f["t_ns"], f["netns"], f["dev"], f["dir"], f["len"]) for f in told]
    assert {f[5] for f in found} == set(first.values())


def test_an_interface_tells_its_addresses() -> None:
    named = {b.options[2]: b for b in blocks(walked("fragments over ipip").to_pcapng()) if b.kind == 1}
    tunnel, nic = named[b"node-1/tunl0"], named[b"node-1/eth0"]
    assert tunnel.options[3] == b"ipip tunl0 of node node-1" and 6 not in tunnel.options
    assert nic.options[4] == bytes([192, 168, 56, 11, 255, 255, 255, 0]) and len(nic.options[6]) == 6
    assert len(named) == len([b for b in blocks(walked("fragments over ipip").to_pcapng()) if b.kind == 1])


def test_comments_tell_each_step_where_it_decided() -> None:
    net = from_mode("calico-ipip", nodes=2, racks=1, seed=0)
    trace = pw.walk(net, pw.between(net, "a", "10.244.189.188"))
    section, *rest = blocks(trace.to_pcapng())
    comments = [b.options.get(1, b"").decode() for b in rest if b.kind == 6]
    assert comments[0].splitlines()[0] == "route_out default via 169.254.1.1 dev eth0"
    assert comments[1].startswith("frame 1 arrives\n")
    assert "route_in blackhole 10.244.189.128/26 proto bird\ndrop NOT_SPECIFIED by blackhole" in comments[1]
    assert len(comments) == 2
    summary = section.options[1].decode()
    assert summary.startswith("icmp a 10.244.189.129 > 10.244.189.188 echo request")
    assert "dropped at node-1" in summary


def test_a_walk_without_a_frame_is_a_file_without_packets(tmp_path: Path) -> None:
    net = from_mode("calico-ipip", nodes=2, racks=1, seed=0)
    broken = pw.whatif(net, "a route del default")
    pw.write_pcapng(pw.walk(broken, pw.between(broken, "a", "b")), tmp_path / "x.pcapng")
    (section,) = blocks((tmp_path / "x.pcapng").read_bytes())
    assert b"no route to" in section.options[1]


def test_walk_writes_the_file_that_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.pcapng"
    assert main(["walk", "a", "b", "--minimal", "--pcap", str(file)]) == 0
    assert capsys.readouterr().out.endswith(": reply ttl 62\n")
    net = from_mode("calico-ipip", nodes=2, racks=1, seed=0)
    assert file.read_bytes() == pw.walk(net, pw.between(net, "a", "b")).to_pcapng()
    assert main(["walk", "a", "b", "--pcap", str(tmp_path / "no" / "x.pcapng")]) == 2
    assert main(["walk", "a", "web:80", "--all-branches", "--pcap", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "x.pcapng: No such file or directory" in err and "--pcap writes one walk" in err


# --- tshark ----------------------------------------------------------------------------------------------------------
FIELDS = {
    "eth": {"src": "eth.src", "dst": "eth.dst"},
    "ip": {
        "src": "ip.src", "dst": "ip.dst", "ttl": "ip.ttl", "id": "ip.id", "len": "ip.len", "protocol": "ip.proto",
        "df": "ip.flags.df", "mf": "ip.flags.mf",
    },
    "icmp": {"type": "icmp.type", "code": "icmp.code", "mtu": "icmp.mtu"},
    "udp": {"sport": "udp.srcport", "dport": "udp.dstport"},
    "tcp": {"sport": "tcp.srcport", "dport": "tcp.dstport", "mss": "tcp.options.mss_val", "payload": "tcp.len"},
    "vxlan": {"vni": "vxlan.vni"},
    "geneve": {"vni": "geneve.vni"},
    "arp": {"spa": "arp.src.proto_ipv4", "tpa": "arp.dst.proto_ipv4"},
}  # fmt: skip
ASKED = [name for group in FIELDS.values() for name in group.values()]
JUDGED = ("ip.checksum.status", "icmp.checksum.status", "udp.checksum.status", "tcp.checksum.status")
FRAME = ("frame.time_epoch", "frame.interface_name", "frame.packet_flags_direction", "frame.comment")
SETTINGS = ("ip.check_checksum:TRUE", "udp.check_checksum:TRUE", "tcp.check_checksum:TRUE", "ip.defragment:FALSE")
HEX = {"ip.id": "0x%04x", "geneve.vni": "0x%06x"}
GOOD, UNVERIFIED, ABSENT = "1", "2", "3"


def tshark(file: Path) -> list[dict[str, str]]:
    """Every field that was asked for, frame by frame."""
    program = shutil.which("tshark")
    if program is None:
        pytest.skip("tshark is not installed")
    names = [*FRAME, *ASKED, *JUDGED, "_ws.malformed"]
    command = [program, "-n", "-r", str(file), "-dudp.port==8472,vxlan", "-Tfields", "-Eseparator=/t"]
    command += [f"-o{setting}" for setting in SETTINGS] + [f"-e{name}" for name in names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [dict(zip(names, line.split("\t"), strict=True)) for line in done.stdout.splitlines()]


def expected(listed: list[dict[str, Any]]) -> dict[str, list[str]]:
    """tshark's fields of a frame's layers, from the outermost to what an ICMP error quotes."""
    values: dict[str, list[str]] = {name: [] for name in ASKED}
    for layer in listed:
        for key, name in FIELDS[layer["proto"]].items():
            if key in layer:
                value = layer[key]
                values[name].append(HEX[name] % value if name in HEX else str(int(value) if value in (0, 1) else value))
        if "quoted" in layer:
            for name, more in expected(layer["quoted"]).items():
                values[name] += more
    return values


@pytest.mark.parametrize("name", WALKS)
def test_tshark_sees_what_the_trace_says(name: str, tmp_path: Path) -> None:
    trace = walked(name)
    pw.write_pcapng(trace, tmp_path / "walk.pcapng")
    told = sorted(((at, hop, step) for hop, step, at in seen(trace.hops)), key=lambda row: row[0])
    rows = tshark(tmp_path / "walk.pcapng")
    assert len(rows) == len(told)
    for row, (at, hop, step) in zip(rows, told, strict=True):
        where = f"{hop.room}/{step.dev} {step.stage} at {at}: {step.packet}"
        assert row["_ws.malformed"] == "", where
        assert row["frame.interface_name"] == f"{hop.room}/{step.dev}"
        assert row["frame.time_epoch"] == f"{at // 10**9}.{at % 10**9:09d}", where
        assert int(row["frame.packet_flags_direction"], 16) == {"receive": 1, "transmit": 2}[step.stage]
        found = {key: row[key].split(",") if row[key] else [] for key in ASKED}
        assert found == expected(layers(step.packet)), where
        for field in JUDGED:
            assert set(row[field].split(",")) <= {GOOD, UNVERIFIED, ABSENT, ""}, f"{where}: {field}"
    assert any(row["ip.checksum.status"].startswith(GOOD) for row in rows)
    assert any("route_in" in row["frame.comment"] for row in rows)


PAGE = Path(__file__).parent.parent.parent / "docs" / "wireshark.md"
FILTERS = re.findall(r"^\| [^|]* \| `([^`]*)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("shown", FILTERS)
def test_a_filter_of_the_page_finds_something(shown: str, tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    net = from_mode("flannel-vxlan", nodes=2, racks=1, seed=0)
    walks = (pw.between(net, "a", "b:80"), pw.between(net, "a", "web:80"), pw.between(net, "a", "b", udp=9))
    found = 0
    for n, flow in enumerate(walks):
        file = tmp_path / f"{n}.pcapng"
        pw.write_pcapng(pw.walk(net, flow), file)
        command = ["tshark", "-n", "-r", str(file), "-dudp.port==8472,vxlan", "-Y", shown]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        found += len(done.stdout.splitlines())
    assert len(FILTERS) == 6 and found
