"""A trace as a capture file: pcapng, as Wireshark and tshark read it (draft-ietf-opsawg-pcapng).

It is what captures on every device of every room would show together: a frame is there once for each device that saw
it go out or come in. Times are nanoseconds since the walk began, so every walk takes place on 1 January 1970.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

from packetwalk import text
from packetwalk.codec import encode
from packetwalk.frames import DIRECTIONS
from packetwalk.packet import Ethernet, Packet
from packetwalk.trace import TERMINAL, Hop, Trace

SECTION, INTERFACE, ENHANCED_PACKET = 0x0A0D0D0A, 1, 6  # block types
BYTE_ORDER, MAJOR, MINOR, LENGTH_UNKNOWN = 0x1A2B3C4D, 1, 0, -1
LINK_ETHERNET, LINK_RAW = 1, 101  # LINKTYPE_RAW: an IP packet with nothing in front
END, COMMENT = 0, 1  # options of any block, then those of a section, an interface and a packet
APPLICATION = 4
NAME, DESCRIPTION, IPV4, MAC, RESOLUTION = 2, 3, 4, 6, 9
FLAGS = 2
NANOSECONDS = b"\x09"  # of a second, as a negative power of ten
DIRECTION_BITS = {"in": 1, "out": 2}

Option = tuple[int, bytes]
Place = tuple[int, int]
"""(hop, step) of a trace"""


class Frame(NamedTuple):
    """What a device saw. told: the steps that decided, in words; sent: the step that put it on the wire it came by."""

    place: Place
    at: int
    room: str
    dev: str
    direction: str
    packet: Packet
    told: list[str]
    sent: Place | None

    @property
    def interface(self) -> tuple[str, str, int]:
        """Room, device and link type."""
        return self.room, self.dev, LINK_ETHERNET if isinstance(self.packet.headers[0], Ethernet) else LINK_RAW


def write_pcapng(trace: Trace, path: str | Path) -> None:
    """Write a trace as a pcapng file; what was there is replaced. OSError where that cannot be."""
    Path(path).write_bytes(pcapng(trace))


def pcapng(trace: Trace) -> bytes:
    """A trace as a pcapng file: an interface for each room and device that saw a frame, called ROOM/DEVICE, and the
    frames in order of time with their directions and, as comments, the steps that decided.

    A step is told once: what led to a frame that goes out stands with it; what became of one that goes no further
    stands where it was last seen. The comment of the whole file says what was sent and what came of it.
    """
    frames = sorted((f for n, hop in enumerate(trace.hops) for f in _frames(n, hop)), key=lambda f: f.at)
    numbers = {frame.place: n for n, frame in enumerate(frames, 1)}
    interfaces = {where: n for n, where in enumerate(dict.fromkeys(f.interface for f in frames))}
    return b"".join(
        [
            _section(trace),
            *(_interface(trace, *where) for where in interfaces),
            *(_packet(frame, interfaces[frame.interface], numbers) for frame in frames),
        ]
    )


def _frames(n: int, hop: Hop) -> list[Frame]:
    """The frames that devices see in a visit, each with the steps told there."""
    words = {id(line.step): f"{line.step.stage} {line.words} {line.more}".rstrip() for line in text.lines(hop)}
    found: list[Frame] = []
    told: list[str] = []
    for i, (step, at) in enumerate(zip(hop.steps, hop.times, strict=True)):
        if step.stage in DIRECTIONS:
            direction = DIRECTIONS[step.stage]
            sent = hop.cause if direction == "in" and i == 0 else None
            found.append(Frame((n, i), at, hop.room, step.dev, direction, step.packet, told, sent))
            told = []
            continue
        told += filter(None, [words.get(id(step), "")])
        if step.stage in TERMINAL and found:
            found[-1].told.extend(told)
            told = []
    if found:
        found[-1].told.extend(told)
    return found


# -- blocks ------------------------------------------------------------------------------------------------------------


def _section(trace: Trace) -> bytes:
    comment = "\n".join([f"{text.sent(trace)}  {trace.network}".rstrip(), *text.endings(trace)])
    body = struct.pack("<IHHq", BYTE_ORDER, MAJOR, MINOR, LENGTH_UNKNOWN)
    return _block(SECTION, body, [(COMMENT, comment.encode()), (APPLICATION, b"packetwalk")])


def _interface(trace: Trace, room: str, dev: str, link: int) -> bytes:
    """An interface with what `ip addr` lists of its device, where the walk kept the network."""
    options: list[Option] = [(NAME, f"{room}/{dev}".encode())]
    network: Any = trace.after
    device = network[room].devices.get(dev) if network is not None else None
    if device is not None:
        options.append((DESCRIPTION, f"{device.kind} {dev} of {network.roles.get(room) or 'room'} {room}".encode()))
        options += [(IPV4, struct.pack(">II", addr.local, _mask(addr.length))) for addr in device.addrs]
        if link == LINK_ETHERNET:
            options.append((MAC, int(device.mac).to_bytes(6, "big")))
    return _block(INTERFACE, struct.pack("<HHI", link, 0, 0), [*options, (RESOLUTION, NANOSECONDS)])


def _mask(length: int) -> int:
    return 0xFFFFFFFF << (32 - length) & 0xFFFFFFFF


def _packet(frame: Frame, interface: int, numbers: dict[Place, int]) -> bytes:
    data = encode(frame.packet)
    told = [f"frame {numbers[frame.sent]} arrives"] if frame.sent in numbers else []
    told += frame.told
    options: list[Option] = [(COMMENT, "\n".join(told).encode())] if told else []
    options.append((FLAGS, struct.pack("<I", DIRECTION_BITS[frame.direction])))
    head = struct.pack("<IIIII", interface, frame.at >> 32, frame.at & 0xFFFFFFFF, len(data), len(data))
    return _block(ENHANCED_PACKET, head + _padded(data), options)


def _block(kind: int, body: bytes, options: list[Option]) -> bytes:
    """A block: its type, its length, what it holds, options, its length again. Values are padded to 32 bits."""
    listed = b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options)
    body += listed + struct.pack("<HH", END, 0)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _padded(value: bytes) -> bytes:
    return value + b"\0" * (-len(value) % 4)
