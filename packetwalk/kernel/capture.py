"""What passes every interface of a realised network: one AF_PACKET ring per namespace, frames in a recording's form.

A ring (packet_mmap, TPACKET_V2) and not recvmsg: the kernel copies a frame at the tap and stamps it there, so later
processing cannot change what was seen. Nothing is promiscuous. Frames of IGMP and IPv6 are left out.
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Any, NamedTuple

from packetwalk.codec import CodecError, decode
from packetwalk.frames import layers
from packetwalk.kernel.realise import Realised
from packetwalk.netns.device import Geneve, Vxlan
from packetwalk.packet import (
    ETH_IP,
    ETH_LEN,
    IP_LEN,
    PROTO_ICMP,
    PROTO_UDP,
    UDP_LEN,
    VXLAN_LEN,
    Icmp,
    Ip,
    Packet,
    Slice,
    Udp,
    header_len,
    quoted,
)

FRAME, BLOCK, BLOCKS = 1024, 1 << 16, 48
"""Bytes of a ring's slot (headers and quotations fit), of its blocks, and their number: 3 MiB, 3072 frames a room."""

_SOL_PACKET, _PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION = 263, 5, 6, 10
_TPACKET_V2 = 1
_ETH_P_ALL = 3
_OUTGOING = 4  # sll_pkttype
_ARPHRD_TUNNEL = 768
_HEADER = struct.Struct("=IIIHHII")  # tpacket2_hdr: status, len, snaplen, mac, net, sec, nsec
_SLL_AT = 32  # sockaddr_ll stands behind the aligned tpacket2_hdr
_SLL = struct.Struct("=2xHiHB")  # protocol, ifindex, hatype, pkttype
_USER = 1  # TP_STATUS_USER: the slot is ours to read
_PORTS = struct.Struct("!HHH")
_ECHO = struct.Struct("!BBxxHH")
_IPV6, _IGMP = 0x86DD, 2


class CaptureLost(RuntimeError):
    """The rings were full: what was captured is not everything."""


class Raw(NamedTuple):
    """One captured frame. `at` in ns since 1970; `length` may exceed the bytes kept; link is "eth" or "ip"."""

    at: int
    ifindex: int
    out: bool
    link: str
    length: int
    data: bytes


class Ring:
    """The tap of the namespace this thread is in. OSError without CAP_NET_RAW."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self.socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        size = struct.pack("=IIII", BLOCK, BLOCKS, FRAME, BLOCKS * BLOCK // FRAME)
        self.socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, size)
        self._memory = mmap.mmap(self.socket.fileno(), BLOCKS * BLOCK)
        self._slot = 0
        self._last = 0

    def close(self) -> None:
        """Give the memory back. The ring cannot be used any more."""
        self._memory.close()
        self.socket.close()

    def drain(self) -> Iterator[Raw]:
        """What came since the last time, in the kernel's order; times never run backwards. CaptureLost if it was too
        much."""
        memory = self._memory
        while True:
            at = self._slot * FRAME
            status, length, kept, mac, _, seconds, nanos = _HEADER.unpack_from(memory, at)
            if not status & _USER:
                break
            _, index, kind, direction = _SLL.unpack_from(memory, at + _SLL_AT)
            data = memory[at + mac : at + mac + kept]
            struct.pack_into("=I", memory, at, 0)  # TP_STATUS_KERNEL
            self._slot = (self._slot + 1) % (BLOCKS * BLOCK // FRAME)
            self._last = max(self._last, seconds * 1_000_000_000 + nanos)
            yield Raw(
                self._last, index, direction == _OUTGOING, "ip" if kind == _ARPHRD_TUNNEL else "eth", length, data
            )
        lost = struct.unpack("=II", self.socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
        if lost:
            raise CaptureLost(f"{lost} frames did not fit into the ring")


class Capture:
    """Taps on every interface of a realised network, from `with` on until it ends."""

    def __init__(self, real: Realised) -> None:
        self.real = real
        rooms = list(real.network)
        devices = [d for room in rooms for d in room.devices.values()]
        self.vxlan_ports = frozenset(d.dport for d in devices if isinstance(d, Vxlan))
        self.geneve_ports = frozenset(d.dport for d in devices if isinstance(d, Geneve))
        self._names = {room.name: {d.index: d.name for d in room.devices.values()} for room in rooms}
        self._rings: dict[str, Ring] = {}
        self._raw: list[tuple[str, Raw]] = []
        self._touched: set[str] = set()

    def __enter__(self) -> Capture:
        try:
            for room in self._names:
                with self.real.inside(room):
                    self._rings[room] = Ring()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the taps."""
        for ring in self._rings.values():
            ring.close()
        self._rings.clear()

    def collect(self) -> int:
        """Take what is in the rings. Returns how many frames are new, background included."""
        before = len(self._raw)
        for room, ring in self._rings.items():
            found = len(self._raw)
            self._raw += ((room, raw) for raw in ring.drain())
            if len(self._raw) > found:
                self._touched.add(room)
        return len(self._raw) - before

    def touch(self, room: str) -> None:
        """Count a room among those that have seen a frame: something else changed there."""
        self._touched.add(room)

    def touched(self) -> set[str]:
        """The rooms that have seen a frame since this was asked last."""
        touched, self._touched = self._touched, set()
        return touched

    def take(self) -> list[dict[str, Any]]:
        """Everything collected so far as a recording's frames, and forget it. Times in ns since the first frame."""
        self.collect()
        seen = [(room, raw) for room, raw in self._raw if not _background(raw, self.vxlan_ports)]
        self._raw = []
        seen.sort(key=lambda pair: pair[1].at)
        start = seen[0][1].at if seen else 0
        return [self._frame(room, raw, start) for room, raw in seen]

    def _frame(self, room: str, raw: Raw, start: int) -> dict[str, Any]:
        try:
            packet = decoded(raw.data.ljust(raw.length, b"\0"), raw.link, self.vxlan_ports, self.geneve_ports)
            shown = layers(packet)
        except CodecError as error:  # an honest gap: no prediction will ever be equal to it
            shown = [{"proto": "undecoded", "why": str(error)}]
        dev = self._names[room].get(raw.ifindex, f"if{raw.ifindex}")
        return {
            "t_ns": raw.at - start, "netns": room, "dev": dev, "dir": "out" if raw.out else "in", "len": raw.length,
            "layers": shown,
        }  # fmt: skip


def decoded(data: bytes, link: str, vxlan_ports: Collection[int] = (), geneve_ports: Collection[int] = ()) -> Packet:
    """`codec.decode`, and a first fragment shows its UDP or ICMP header, also where an ICMP error quotes it."""
    return _unfolded(decode(data, link, vxlan_ports, geneve_ports), data)


def _unfolded(packet: Packet, data: bytes) -> Packet:
    last = packet.headers[-1]
    body = data[sum(map(header_len, packet.headers)) :]
    about = quoted(packet)
    if about is not None and isinstance(packet.payload, Slice):
        return packet._replace(payload=packet.payload._replace(of=_unfolded(about, body)))
    if not isinstance(last, Ip) or last.offset or not last.mf or len(body) < UDP_LEN:
        return packet
    left = last.len - IP_LEN - UDP_LEN
    if last.proto == PROTO_UDP:
        return Packet((*packet.headers, Udp(*_PORTS.unpack_from(body))), left)
    if last.proto == PROTO_ICMP:
        return Packet((*packet.headers, Icmp(*_ECHO.unpack_from(body))), left)
    return packet


def _background(raw: Raw, vxlan_ports: Collection[int]) -> bool:
    """IPv6 or IGMP, also in a tunnel: what a host says of its own accord."""
    data, start = raw.data, ETH_LEN if raw.link == "eth" else 0
    while True:
        kind = int.from_bytes(data[start - 2 : start], "big") if start else ETH_IP
        if kind != ETH_IP or len(data) < start + IP_LEN:
            return kind == _IPV6
        proto, body = data[start + 9], start + (data[start] & 15) * 4
        port = int.from_bytes(data[body + 2 : body + 4], "big")
        if proto != PROTO_UDP or port not in vxlan_ports:
            return proto == _IGMP
        start = body + UDP_LEN + VXLAN_LEN + ETH_LEN
