"""A TCP endpoint: segments in, segments out (RFC 9293, with Linux's options, timers and choices).

Sans-I/O like the rest: `open`, `on_segment`, `close`, `on_timeout` return the segments to send. Sequence numbers start
at zero; there is no congestion control beyond the initial window, since a walk looks at paths, not at throughput.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import NamedTuple

from packetwalk.addr import IPv4
from packetwalk.apps.program import App
from packetwalk.packet import Tcp, joined, part, payload_len

SECOND = 1_000_000_000
INITIAL_RTO = SECOND  # RFC 6298 and TCP_TIMEOUT_INIT
MIN_RTO = SECOND // 5  # TCP_RTO_MIN
LINEAR_SYN_RETRIES = 4  # net.ipv4.tcp_syn_linear_timeouts
SYN_RETRIES = 6  # net.ipv4.tcp_syn_retries, after the linear ones
SYNACK_RETRIES = 5
RETRIES = 15  # net.ipv4.tcp_retries2
INITIAL_WINDOW = 10  # segments, RFC 6928
TIMESTAMP_LEN = 12
MIN_SND_MSS = 48  # net.ipv4.tcp_min_snd_mss
IPV4_MAX_PMTU = 65535


class Segment(NamedTuple):
    """A segment to send: flags, payload (bytes, or how many), and whether it is a retransmission."""

    tcp: Tcp
    payload: int | bytes = 0
    again: bool = False


@dataclass(slots=True, eq=False)
class Connection:
    """One end of a connection. `advmss` is what we announce, `mss` the largest payload we send (TCP_MAXSEG).

    send_size: bytes the program sends once connected; app: `echo` sends
    back what it reads, an App is a program's, otherwise a client that closes. owner: the program's process, which
    reads and writes itself; to_send: what it has written and the window does not let out yet. news: what the last
    segment brought in order; early: segments that came before their turn, by sequence number, with their FIN.
    """

    laddr: IPv4
    lport: int
    raddr: IPv4
    rport: int
    state: str = "CLOSED"
    advmss: int = 1460
    mss: int = 536
    pmtu: int = 1500
    peer_mss: int = 536
    max_window: int = 0
    ttl: int = 0
    pmtudisc: str = ""
    app: App | str = ""
    owner: object = None
    send_size: int = 0
    snd_nxt: int = 0
    snd_una: int = 0
    rcv_nxt: int = 0
    to_send: int | bytes = 0
    received: int = 0
    fin_queued: bool = False
    fin_received: bool = False
    unacked: list[Segment] = field(default_factory=list)
    retries: int = 0
    rto: int = INITIAL_RTO
    error: str = ""
    established_at: int = -1
    deadline: int = 0
    news: int | bytes = 0
    early: dict[int, tuple[int | bytes, bool]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[int, int, int, int]:
        return (self.laddr, self.lport, self.raddr, self.rport)

    @property
    def window(self) -> int:
        """Segments that may be on their way."""
        return INITIAL_WINDOW

    def __str__(self) -> str:
        return f"tcp {self.laddr}:{self.lport} > {self.raddr}:{self.rport}"

    def open(self) -> list[Segment]:
        """Active open: the SYN (tcp_connect)."""
        self.state = "SYN_SENT"
        return [self._queue(self._header("S", syn=True))]

    def accept(self, syn: Tcp) -> list[Segment]:
        """Passive open: answer a SYN (tcp_conn_request)."""
        self.state = "SYN_RECV"
        self._learn_options(syn)
        self.rcv_nxt = syn.seq + 1
        return [self._queue(self._header("SA", syn=True))]

    def sync_mss(self, pmtu: int) -> None:
        """tcp_sync_mss: what fits the path MTU and the peer, less the timestamps, at most half the peer's window."""
        self.pmtu = pmtu
        mss = max(min(pmtu - 40, self.peer_mss) - TIMESTAMP_LEN, MIN_SND_MSS)
        if self.max_window:
            cutoff = self.max_window // 2 if self.max_window > 536 else self.max_window
            mss = min(mss, max(cutoff, 68 - 20))
        self.mss = mss

    def on_segment(self, tcp: Tcp, payload: int | bytes, now: int) -> list[Segment]:
        """A segment arrived (tcp_rcv_state_process). Returns the answers; `state` and `error` tell the rest."""
        if "R" in tcp.flags:
            self.error = "ECONNREFUSED" if self.state == "SYN_SENT" else "ECONNRESET"
            self.state, self.unacked = "CLOSED", []
            return []
        if self.state == "SYN_SENT":
            return self._on_syn_ack(tcp, now)
        if "S" in tcp.flags:  # a repeated SYN: our SYN-ACK was lost, or their acknowledgement
            return list(self.unacked[:1]) if self.state == "SYN_RECV" else [self._ack()]
        self._on_ack(tcp, now)
        out = self._on_data(tcp, payload)
        if self.state == "CLOSED":
            return []
        return [*out, *self._push()]

    def close(self) -> list[Segment]:
        """The program closes: a FIN once everything is sent (tcp_close). An unanswered SYN just goes away."""
        if self.state in ("SYN_SENT", "CLOSED"):
            self.state, self.unacked = "CLOSED", []
            return []
        self.fin_queued = True
        return self._push()

    def write(self, data: int | bytes) -> list[Segment]:
        """The program writes data, or so many bytes."""
        self.to_send = joined(self.to_send, data)
        return self._push()

    def on_timeout(self) -> list[Segment]:
        """The retransmission timer fired (tcp_retransmit_timer): the oldest segment again, or ETIMEDOUT."""
        if not self.unacked:
            return []
        limit = {"SYN_SENT": SYN_RETRIES + LINEAR_SYN_RETRIES, "SYN_RECV": SYNACK_RETRIES}.get(self.state, RETRIES)
        self.retries += 1
        if self.retries > limit:
            self.error, self.state, self.unacked = "ETIMEDOUT", "CLOSED", []
            return []
        if self.state != "SYN_SENT" or self.retries > LINEAR_SYN_RETRIES:
            self.rto = min(self.rto * 2, 120 * SECOND)
        return [self.unacked[0]._replace(again=True)]

    def shrink(self, pmtu: int) -> list[Segment]:
        """The path MTU fell (tcp_v4_mtu_reduced): smaller segments from now on, and what was lost again at once."""
        if pmtu >= self.pmtu:
            return []
        self.sync_mss(pmtu)
        data = [s for s in self.unacked if s.payload]
        if not data:
            return []
        whole, rest = reduce(joined, (s.payload for s in data)), [s for s in self.unacked if not s.payload]
        self.unacked = [*self._cut(data[0].tcp.seq, whole), *rest]
        return [s._replace(again=True) for s in self.unacked]

    # -- inside ----------------------------------------------------------------------------------------------------

    def _on_syn_ack(self, tcp: Tcp, now: int) -> list[Segment]:
        if "S" not in tcp.flags or "A" not in tcp.flags or tcp.ack != self.snd_nxt:
            return []
        self._learn_options(tcp)
        self.rcv_nxt, self.snd_una = tcp.seq + 1, tcp.ack
        self.unacked, self.retries, self.rto = [], 0, MIN_RTO
        self.state, self.established_at = "ESTABLISHED", now
        self.sync_mss(self.pmtu)
        return [self._ack()]

    def _on_ack(self, tcp: Tcp, now: int) -> None:
        if "A" not in tcp.flags or tcp.ack <= self.snd_una:
            return
        self.snd_una = tcp.ack
        self.unacked = [s for s in self.unacked if _end(s) > tcp.ack]
        self.retries, self.rto = 0, MIN_RTO
        if self.state == "SYN_RECV":
            self.state, self.established_at = "ESTABLISHED", now
            self.sync_mss(self.pmtu)
        elif not self.unacked and self.state in ("FIN_WAIT1", "CLOSING", "LAST_ACK"):
            self.state = {"FIN_WAIT1": "FIN_WAIT2", "CLOSING": "TIME_WAIT", "LAST_ACK": "CLOSED"}[self.state]

    def _on_data(self, tcp: Tcp, payload: int | bytes) -> list[Segment]:
        fin, size = "F" in tcp.flags, payload_len(payload)
        if not payload and not fin:
            return []
        if tcp.seq > self.rcv_nxt:
            self.early[tcp.seq] = payload, fin  # tcp_data_queue_ofo: it is kept until the gap is closed
        if tcp.seq > self.rcv_nxt or tcp.seq + size + fin <= self.rcv_nxt:
            return [self._ack()]  # out of order or seen before: say what is expected
        self.news = part(payload, self.rcv_nxt - tcp.seq, size)
        self.rcv_nxt = tcp.seq + size + fin
        while self.rcv_nxt in self.early:
            more, fin = self.early.pop(self.rcv_nxt)
            self.news = joined(self.news, more)
            self.rcv_nxt += payload_len(more) + fin
        self.received += payload_len(self.news)
        if self.app == "echo":
            self.to_send = joined(self.to_send, self.news)
        if fin:
            self.fin_received = True
            moves = {"ESTABLISHED": "CLOSE_WAIT", "FIN_WAIT1": "CLOSING", "FIN_WAIT2": "TIME_WAIT"}
            self.state = moves.get(self.state, self.state)
        return [self._ack()]

    def _push(self) -> list[Segment]:
        """What the initial window lets out: data in segments of `mss`, then the FIN."""
        out: list[Segment] = []
        if self.state in ("ESTABLISHED", "CLOSE_WAIT"):
            room = max(self.window - len(self.unacked), 0) * self.mss
            whole = payload_len(self.to_send)
            size = min(whole, room)
            if size:
                out = self._cut(self.snd_nxt, part(self.to_send, 0, size))
                self.to_send = part(self.to_send, size, whole)
                self.snd_nxt += size
                self.unacked += out
            if self.fin_queued and not self.to_send:
                self.state = "FIN_WAIT1" if self.state == "ESTABLISHED" else "LAST_ACK"
                self.fin_queued = False
                out = [*out, self._queue(self._header("FA"))]
        return out

    def _cut(self, seq: int, data: int | bytes) -> list[Segment]:
        segments, size = [], payload_len(data)
        for at in range(0, size, self.mss):
            end = min(at + self.mss, size)
            flags = "PA" if end == size else "A"
            segments.append(Segment(self._header(flags)._replace(seq=seq + at), part(data, at, end)))
        return segments

    def _queue(self, tcp: Tcp) -> Segment:
        segment = Segment(tcp)
        self.snd_nxt += 1  # SYN and FIN each take a number
        self.unacked.append(segment)
        return segment

    def _ack(self) -> Segment:
        return Segment(self._header("A"))

    def _header(self, flags: str, *, syn: bool = False) -> Tcp:
        mss, wscale = (self.advmss, 7) if syn else (0, -1)
        window = syn_window(self.advmss, answer="A" in flags) if syn else 502  # 64256 bytes, scaled by 2^7
        return Tcp(self.lport, self.rport, flags, self.snd_nxt, self.rcv_nxt if "A" in flags else 0, window, mss=mss,
                   sack_ok=syn, wscale=wscale, ts=(1, 0))  # fmt: skip

    def _learn_options(self, tcp: Tcp) -> None:
        self.peer_mss = tcp.mss or 536  # RFC 9293 3.7.1: 536 where nothing was said
        self.max_window = tcp.window


def syn_window(mss: int, *, answer: bool) -> int:
    """The window a SYN (or SYN-ACK) announces: the buffer rounded down to whole segments
    (tcp_select_initial_window)."""
    unit = mss - TIMESTAMP_LEN if answer else mss
    return min(65535, max(unit, 65535 // unit * unit if mss > 32768 else 64240 // unit * unit or unit))


def _end(segment: Segment) -> int:
    return segment.tcp.seq + payload_len(segment.payload) + ("S" in segment.tcp.flags) + ("F" in segment.tcp.flags)
