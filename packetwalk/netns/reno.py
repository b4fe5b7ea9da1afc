"""A TCP sender with congestion control: NewReno (RFC 5681, RFC 6582) and the timer of RFC 6298.

    conn = Reno(ANY, 40000, far, 5201, send_size=1_000_000)
    steps = room.connect(conn, now)

The window counts segments. Left out, as it is of no use on one path: SACK, pacing, delayed acknowledgements, and the
growing of the far end's window beyond the 64 KB that it announces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from packetwalk.netns.tcp import INITIAL_WINDOW, MIN_RTO, SECOND, Connection, Segment
from packetwalk.packet import Tcp, payload_len

ANNOUNCED = 502 << 7  # bytes: what both ends announce (Connection._header)
DUPLICATES = 3
MAX_RTO = 120 * SECOND


@dataclass(eq=False)
class Reno(Connection):
    """The sending end. cwnd, ssthresh: in segments; lost: those to be sent again; recover: the sequence number that
    ends a recovery, fast
    if duplicates began it; again: how many were sent again. payload: makes what stands for so many bytes."""

    payload: Callable[[int], int] = int
    cwnd: float = INITIAL_WINDOW
    ssthresh: float = float("inf")
    duplicates: int = 0
    recover: int = -1
    fast: bool = False
    again: int = 0
    srtt: int = 0
    rttvar: int = 0
    lost: list[Segment] = field(default_factory=list)
    _urgent: list[Segment] = field(default_factory=list)
    _clock: tuple[int, int] | None = None  # (sequence number, ns): one segment at a time is timed
    _now: int = -1

    @property
    def window(self) -> int:
        """Segments that may be on their way."""
        return max(1, min(int(self.cwnd), ANNOUNCED // self.mss))

    @property
    def flight(self) -> int:
        """Segments that are on their way, as far as we know."""
        return len(self.unacked) - len(self.lost)

    def write(self, data: int | bytes) -> list[Segment]:
        """The program writes once, and closes."""
        self.fin_queued = True
        return super().write(data)

    def on_segment(self, tcp: Tcp, payload: int | bytes, now: int) -> list[Segment]:
        """As of any connection; the window follows what is acknowledged."""
        self._now = now
        out = super().on_segment(tcp, payload, now)
        self._now = -1
        return out

    def on_timeout(self) -> list[Segment]:
        """Everything that is not acknowledged is taken for lost (RFC 5681 3.1): one segment, then slow start."""
        flight = self.flight
        out = super().on_timeout()
        if out and self.state not in ("SYN_SENT", "SYN_RECV"):
            self.ssthresh, self.cwnd = max(flight / 2, 2), 1
            self.recover, self.fast, self.duplicates = self.snd_nxt, False, 0
            self.lost, self._clock = self.unacked[1:], None
            self.again += len(out)
        return out

    def shrink(self, pmtu: int) -> list[Segment]:
        """As of any connection; it has sent everything again."""
        out = super().shrink(pmtu)
        if out:
            self.lost = []
            self.again += len(out)
        return out

    # -- inside ----------------------------------------------------------------------------------------------------

    def _on_ack(self, tcp: Tcp, now: int) -> None:
        before, waiting = self.snd_una, len(self.unacked)
        super()._on_ack(tcp, now)
        if self.snd_una > before:
            self._advance(waiting - len(self.unacked), now)
        elif tcp.ack == before and waiting:
            self._duplicate()

    def _advance(self, count: int, now: int) -> None:
        """So many segments more have arrived."""
        self._measure(now)
        self.duplicates = 0
        self.lost = [s for s in self.lost if s.tcp.seq >= self.snd_una]
        if self.recover >= 0 and self.snd_una >= self.recover:
            if self.fast:
                self.cwnd = self.ssthresh
            self.recover, self.lost = -1, []
        elif self.recover >= 0 and self.fast:  # RFC 6582 3.2: a partial acknowledgement shows the next hole
            self._urgent = self.unacked[:1]
            self.cwnd = max(self.cwnd - count + 1, 1)
        elif self.cwnd < self.ssthresh:
            self.cwnd += count
        else:
            self.cwnd += count / self.cwnd
        self.cwnd = min(self.cwnd, max(ANNOUNCED // self.mss, INITIAL_WINDOW))  # tcp_is_cwnd_limited

    def _duplicate(self) -> None:
        """The far end still waits for the same segment: at the third time it is lost (RFC 5681 3.2)."""
        self.duplicates += 1
        if self.recover >= 0:
            self.cwnd += self.fast
        elif self.duplicates == DUPLICATES:
            self.ssthresh = max(self.flight / 2, 2)
            self.cwnd = self.ssthresh + DUPLICATES
            self.recover, self.fast, self._clock = self.snd_nxt, True, None  # Karn: what is sent again is not timed
            self._urgent = self.unacked[:1]

    def _measure(self, now: int) -> None:
        """RFC 6298 2: the timeout follows the smoothed round trip and its variation."""
        if self._clock is not None and self.snd_una >= self._clock[0]:
            rtt, self._clock = now - self._clock[1], None
            self.rttvar = (3 * self.rttvar + abs(self.srtt - rtt)) // 4 if self.srtt else rtt // 2
            self.srtt = (7 * self.srtt + rtt) // 8 if self.srtt else rtt
        self.rto = min(max(MIN_RTO, self.srtt + 4 * self.rttvar), MAX_RTO)

    def _push(self) -> list[Segment]:
        """What is lost goes first, then what the window lets out."""
        out, self._urgent = self._urgent, []
        while self.lost and self.flight < self.window:
            out.append(self.lost.pop(0))
        self.again += len(out)
        out = [s._replace(again=True) for s in out]
        if self.lost:
            return out
        fresh = super()._push()
        if fresh and self._clock is None and self._now >= 0 and self.recover < 0:
            self._clock = self.snd_nxt, self._now
        return [*out, *fresh]

    def _cut(self, seq: int, data: int | bytes) -> list[Segment]:
        return [s._replace(payload=self.payload(payload_len(s.payload))) for s in super()._cut(seq, data)]
