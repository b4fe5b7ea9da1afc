"""Sources of traffic: who sends what to whom, and when. They are data; `packetwalk.engine.simulate` plays them.

    poisson(a, b, rate=20_000, size=1400)
    on_off(a, web, rate=50_000, on="2ms", off="8ms", port=80)
    transfer(a, b, total=5_000_000, start="100ms")

Ends are named as for `walk`. Each of these functions also takes `options`:

port: where to (5201, iperf's, unless told). A room that has no program there gets one that reads and says nothing; one
that listens there echoes, and so do the pods behind a service.
conns: from so many source ports in turn. icmp: echo requests instead of UDP. start and stop: when, from the start of
the run, in ns or as "200ms". name: what it is called in tables.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import count, repeat
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from packetwalk.edit import TIMES, quantity

if TYPE_CHECKING:
    from packetwalk.engine.walk import Named

SECOND = 1_000_000_000
IPERF = 5201
SIZE = 1400
SIZE_MAX = 65507

Departure = tuple[int, int]
"""(ns after the one before, or after the start; bytes of payload)"""


class Pattern(Protocol):
    """When packets leave, and how large they are."""

    def departures(self, rng: Random) -> Iterator[Departure]:
        """One packet after the other, for as long as there are any."""


@dataclass(frozen=True, slots=True)
class Constant:
    """`rate` packets a second, all the same time apart."""

    rate: float
    size: int

    def departures(self, rng: Random) -> Iterator[Departure]:
        """The n-th leaves n/rate seconds after the first, to the nanosecond."""
        before = 0
        for n in count():
            at = round(n * SECOND / self.rate)
            yield at - before, self.size
            before = at

    def __str__(self) -> str:
        return f"constant {self.rate:g}/s of {self.size} bytes"


@dataclass(frozen=True, slots=True)
class Poisson:
    """`rate` packets a second on average, each independent of the others."""

    rate: float
    size: int

    def departures(self, rng: Random) -> Iterator[Departure]:
        """Gaps are exponential."""
        while True:
            yield round(rng.expovariate(self.rate) * SECOND), self.size

    def __str__(self) -> str:
        return f"poisson {self.rate:g}/s of {self.size} bytes"


@dataclass(frozen=True, slots=True)
class OnOff:
    """Bursts at `rate` packets a second that last `on` ns, with `off` ns of silence between them."""

    rate: float
    size: int
    on: int
    off: int

    def departures(self, rng: Random) -> Iterator[Departure]:
        """Every burst begins with a packet."""
        gap = max(1, round(SECOND / self.rate))
        more = -(-self.on // gap) - 1
        yield 0, self.size
        while True:
            yield from repeat((gap, self.size), more)
            yield self.on + self.off - more * gap, self.size

    def __str__(self) -> str:
        return f"{self.on / 1e6:g} ms at {self.rate:g}/s, {self.off / 1e6:g} ms silence, {self.size} bytes"


@dataclass(frozen=True, slots=True)
class Recorded:
    """Packets at given times: (ns since the start, bytes)."""

    packets: tuple[Departure, ...]

    def departures(self, rng: Random) -> Iterator[Departure]:
        """As they stand in the file."""
        before = 0
        for at, size in self.packets:
            yield at - before, size
            before = at

    def __str__(self) -> str:
        return f"{len(self.packets)} recorded packets"


@dataclass(frozen=True, slots=True)
class Source:
    """Traffic from a room to another room, a service or an address. proto: udp, icmp or tcp. times in ns; stop 0: at
    the end of the run. total: what a TCP transfer carries in bytes, 0 as much as it can."""

    src: str
    dst: str
    pattern: Pattern | None
    proto: str = "udp"
    port: int = IPERF
    conns: int = 1
    start: int = 0
    stop: int = 0
    total: int = 0
    name: str = ""

    def __str__(self) -> str:
        what = self.pattern or f"tcp transfer{f' of {self.total} bytes' if self.total else ''}"
        return f"{self.src} > {self.dst} {what}"


def constant(src: str | Named, dst: str | Named, *, rate: float, size: int = SIZE, **options: Any) -> Source:
    """`rate` packets of `size` bytes of payload a second, evenly spaced."""
    return _source(src, dst, Constant(_rate(rate), _size(size)), 0, **options)


def poisson(src: str | Named, dst: str | Named, *, rate: float, size: int = SIZE, **options: Any) -> Source:
    """`rate` packets of `size` bytes of payload a second on average, at random: the arrivals of queueing theory."""
    return _source(src, dst, Poisson(_rate(rate), _size(size)), 0, **options)


def on_off(src: str | Named, dst: str | Named, *, rate: float, on: str | int, off: str | int, size: int = SIZE,
           **options: Any) -> Source:  # fmt: skip
    """Bursts of `on` at `rate` packets a second, `off` of silence between them."""
    burst, silence = nanoseconds(on), nanoseconds(off)
    if burst <= 0:
        raise ValueError(f"on: a burst longer than nothing was expected, not {on!r}")
    return _source(src, dst, OnOff(_rate(rate), _size(size), burst, silence), 0, **options)


def recorded(src: str | Named, dst: str | Named, path: str | Path, **options: Any) -> Source:
    """The packets of a CSV file with the columns `time,size`: seconds since the start, bytes of payload.

    ValueError, in one line, for a line that is none; OSError for a file that cannot be read.
    """
    return _source(src, dst, Recorded(tuple(_packets(Path(path)))), 0, **options)


def transfer(src: str | Named, dst: str | Named, *, total: int = 0, **options: Any) -> Source:
    """A TCP connection that sends `total` bytes, or as many as it can until it is stopped.

    NewReno (RFC 5681, 6582): slow start, congestion avoidance, fast retransmit, at most the 64 KB that the far end
    announces; every segment is acknowledged at once.
    """
    if total < 0:
        raise ValueError(f"total: a number of bytes was expected, not {total!r}")
    return _source(src, dst, None, total, **options)


def nanoseconds(time: str | int) -> int:
    """A time in ns, or as text with its unit. ValueError for what is neither."""
    return time if isinstance(time, int) else quantity(TIMES)(time)


def _source(src: str | Named, dst: str | Named, pattern: Pattern | None, total: int, /, *, port: int = 0,
            icmp: bool = False, conns: int = 1, start: str | int = 0, stop: str | int = 0,
            name: str = "") -> Source:  # fmt: skip
    source, to = (end if isinstance(end, str) else end.room for end in (src, dst))
    to, colon, behind = to.partition(":")
    if icmp and (port or colon or pattern is None):
        raise ValueError("echo requests have no port, and TCP has none of them")
    if colon and not (behind.isdecimal() and 1 <= int(behind) <= 65535):
        raise ValueError(f"{to}:{behind}: a port from 1 to 65535 was expected behind the colon")
    if not 1 <= conns <= 10_000:
        raise ValueError(f"conns: a number from 1 to 10000 was expected, not {conns!r}")
    proto = "icmp" if icmp else "udp" if pattern is not None else "tcp"
    port = port or (int(behind) if colon else IPERF)
    return Source(source, to, pattern, proto, port, conns, nanoseconds(start), nanoseconds(stop), total,
                  name or f"{source} > {to}")  # fmt: skip


def _rate(rate: float) -> float:
    if not 0 < rate <= SECOND:
        raise ValueError(f"rate: packets a second were expected, more than 0 and at most 1e9, not {rate!r}")
    return rate


def _size(size: int) -> int:
    if not 0 <= size <= SIZE_MAX:
        raise ValueError(f"size: 0 to {SIZE_MAX} bytes of payload were expected, not {size!r}")
    return size


def _packets(path: Path) -> Iterator[Departure]:
    before = 0
    with path.open(encoding="utf-8", newline="") as file:
        for row in (reader := csv.reader(file)):
            if not row or (reader.line_num == 1 and [cell.strip() for cell in row] == ["time", "size"]):
                continue
            where = f"{path}:{reader.line_num}"
            try:
                time, size = row
                at, length = int(Decimal(time) * SECOND), int(size)
            except (ValueError, InvalidOperation, OverflowError):
                wanted = f"seconds and bytes were expected, as in 0.0015,1400, not {','.join(row)!r}"
                raise ValueError(f"{where}: {wanted}") from None
            if at < before:
                raise ValueError(f"{where}: {time} s lies before the packet above it")
            if not 0 <= length <= SIZE_MAX:
                raise ValueError(f"{where}: 0 to {SIZE_MAX} bytes of payload were expected, not {size}")
            yield at, length
            before = at
