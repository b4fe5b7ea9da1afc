"""A realised network ready for probes: taps on every interface, echo servers, one processor.

with realise(network) as real, Bench(real) as bench:
    before = bench.settle()                                      # what neighbours and FDBs know now
    result, frames = bench.run({"kind": "icmp", "src": "a", "dst": "10.0.0.2"})
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any

from packetwalk.frames import LINGER, LINGER_ELSE
from packetwalk.kernel.capture import Capture
from packetwalk.kernel.doors import Refused, flush_conntrack
from packetwalk.kernel.probe import DEFAULTS, TIMEOUT, Programs, Result, Spec
from packetwalk.kernel.realise import Realised
from packetwalk.netns.device import Bridge, Vxlan

SETTLED = 0.04
"""Seconds without a frame after which nothing moves any more."""
TURN = 0.02  # seconds between two looks into the rings
ASKED = {"INCOMPLETE"}  # of a neighbour: a question is on its way
MULTICAST = ("01:00:5e", "33:33")  # FDB entries that a device makes for itself


class Bench:
    """A realised network with taps on every interface and echo servers for its listeners, ready for probes.

    This process stays on one processor meanwhile. Raises OSError where a socket cannot be had, CaptureLost where frames
    came too fast.
    """

    def __init__(self, real: Realised) -> None:
        self.real = real
        self._capture = Capture(real)
        self._programs = Programs(real)
        self._known: dict[str, dict[str, Any]] = {}
        self._open = ExitStack()

    def __enter__(self) -> Bench:
        with ExitStack() as opening:
            opening.enter_context(_one_processor())
            opening.enter_context(self._capture)
            opening.callback(self._programs.close)
            self._programs.start()
            self._open = opening.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._open.close()

    def run(self, spec: Spec) -> tuple[Result, list[dict[str, Any]]]:
        """Send one probe: what its client saw, and every frame until its time is over and a little longer.

        KeyError for a kind or a room that is not there. What it leaves under way ends at `settle`.
        """
        spec = {**DEFAULTS[spec["kind"]], "timeout": TIMEOUT, **spec}
        client = self._programs.client(spec)
        try:
            last = time.monotonic() + spec["timeout"] + LINGER.get(spec["kind"], LINGER_ELSE) / 1e9
            self._capture.take()
            client.send()
            self._programs.watch(client)
            while (left := last - time.monotonic()) > 0:
                self._programs.turn(min(left, TURN))
                self._capture.collect()
            if client.result is None:
                client.late()
            return client.result or {"outcome": "timeout"}, self._capture.take()
        finally:
            self._capture.touch(spec["src"])  # it may have asked for a neighbour on a device that shows no frame
            self._programs.drop(client.socket)
            self._programs.stop()
            self._programs.start()

    def settle(self, limit: float = 5.0) -> dict[str, dict[str, Any]]:
        """Wait (at most that many seconds) until nothing moves, and forget neighbours that are still being asked for.

        Returns what every room has learned then: a recording's `before`.
        """
        end = time.monotonic() + limit
        while True:
            self._quiet(end)
            self._capture.take()
            changed = self._capture.touched() if self._known else set(self.real.names)
            self._known |= {room: self._learned(room) for room in changed}
            asked = [(r, n) for r in changed for n in self._known[r].get("neigh", ()) if ASKED & set(n["state"])]
            if not asked or time.monotonic() > end:
                return {room: tables for room in self.real.names if (tables := self._known[room])}
            for room, entry in asked:
                with suppress(Refused):  # it may be answered, or gone, by now
                    self.real.output(room, "ip", "neigh", "del", entry["dst"], "dev", entry["dev"])
                self._capture.touch(room)

    def forget_connections(self) -> None:
        """Empty the connection tracking tables: each probe meets its network as no other has used it."""
        for room in self.real.network:
            if room.conntrack:
                with self.real.inside(room.name):
                    flush_conntrack()

    def _learned(self, room: str) -> dict[str, Any]:
        """Neighbours, bridge and vxlan FDBs and cached routes of a room, only what there is."""
        text = self.real.batch(room, "ip", ["neigh show", "route show cache"], "-j", "-4")
        tables = dict(zip(("neigh", "route_cache"), documents(text), strict=False))
        if any(isinstance(d, Bridge | Vxlan) for d in self.real.network[room].devices.values()):
            entries = next(iter(documents(self.real.output(room, "bridge", "-j", "fdb"))), [])
            tables["fdb"] = [e for e in entries if not e["mac"].startswith(MULTICAST)]
        return {key: value for key in ("neigh", "fdb", "route_cache") if (value := tables.get(key))}

    def _quiet(self, until: float) -> None:
        """Go on until no frame came for a while, or until a time."""
        silent = time.monotonic()
        while (now := time.monotonic()) < min(until, silent + SETTLED):
            self._programs.turn(SETTLED / 4)
            if self._capture.collect():
                silent = now


@contextmanager
def _one_processor() -> Iterator[None]:
    """This process, and with it all softirqs of what it sends, stays on one processor; which one depends on its pid."""
    before = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {before[os.getpid() % len(before)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def documents(text: str) -> list[list[Any]]:
    """The JSON lists that stand one after another in a text. iproute2 prints nothing at all for an empty table."""
    found: list[list[Any]] = []
    at, decoder = 0, json.JSONDecoder()
    while text[at:].strip():
        value, at = decoder.raw_decode(text, at + len(text[at:]) - len(text[at:].lstrip()))
        found.append([v for v in value if v])
    return found
