"""What SCTP (RFC 9260) carries behind its common header: chunks, of which only those that open an association
are made here."""

from __future__ import annotations

import struct
from typing import NamedTuple

from packetwalk.packet import Slice

DATA, INIT, INIT_ACK, HEARTBEAT, HEARTBEAT_ACK, ABORT, SHUTDOWN, SHUTDOWN_ACK, ERROR = 0, 1, 2, 4, 5, 6, 7, 8, 9
COOKIE_ECHO, COOKIE_ACK, SHUTDOWN_COMPLETE = 10, 11, 14
NAMES = {
    DATA: "DATA", INIT: "INIT", INIT_ACK: "INIT_ACK", 3: "SACK", HEARTBEAT: "HEARTBEAT",
    HEARTBEAT_ACK: "HEARTBEAT_ACK", ABORT: "ABORT", SHUTDOWN: "SHUTDOWN", SHUTDOWN_ACK: "SHUTDOWN_ACK", ERROR: "ERROR",
    COOKIE_ECHO: "COOKIE_ECHO", COOKIE_ACK: "COOKIE_ACK", SHUTDOWN_COMPLETE: "SHUTDOWN_COMPLETE",
}  # fmt: skip
"""RFC 9260 3.2."""
REFLECTED = 1  # the T bit of ABORT and SHUTDOWN_COMPLETE: the tag is the receiver's own

TAG = 0x70770001
"""The initiate tag of whoever opens an association here; who answers has the next one. A kernel draws them."""

_HEAD = struct.Struct("!BBH")
_INIT = struct.Struct("!IIHHI")  # initiate tag, advertised window, streams out and in, first TSN
_WINDOW, _OUT, _IN = 106496, 10, 65535  # what Linux offers: half of net.core.rmem_default, and its default streams
_COOKIE = (
    _HEAD.pack(0, 7, 8) + b"\0\0\0\0"
)  # the state cookie that INIT_ACK must have, in its shortest form


class Chunk(NamedTuple):
    """One chunk: its type and flags, what follows its first four bytes, and the length that it claims."""

    type: int
    flags: int
    body: bytes
    length: int

    @property
    def tag(self) -> int:
        """The initiate tag of INIT and INIT_ACK; -1 where it is cut off."""
        return int.from_bytes(self.body[:4], "big") if len(self.body) >= 4 else -1

    def __str__(self) -> str:
        return NAMES.get(self.type, f"chunk {self.type}")


def chunks(payload: int | bytes | Slice) -> tuple[Chunk, ...]:
    """The chunks behind a common header, up to the first one without a length (for_each_sctp_chunk); none where the
    payload has no bytes."""
    found: list[Chunk] = []
    data, at = payload if isinstance(payload, bytes) else b"", 0
    while len(data) - at >= _HEAD.size:
        kind, flags, length = _HEAD.unpack_from(data, at)
        found.append(Chunk(kind, flags, data[at + _HEAD.size : at + length], length))
        if not length:
            break
        at += length + 3 & ~3
    return tuple(found)


def opening(tag: int, *, answer: bool = False) -> bytes:
    """An INIT chunk, or the INIT_ACK that answers one; `tag` is what the other end is to call us by."""
    body = _INIT.pack(tag, _WINDOW, _OUT, _IN, tag) + (_COOKIE if answer else b"")
    return _HEAD.pack(INIT_ACK if answer else INIT, 0, _HEAD.size + len(body)) + body


def abort(*, reflected: bool = False) -> bytes:
    """An ABORT chunk without a cause. reflected: the tag of its packet is that of the one it answers."""
    return _HEAD.pack(ABORT, REFLECTED if reflected else 0, _HEAD.size)
