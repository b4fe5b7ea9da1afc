"""The programs behind sources: one that sends datagrams or echo requests, one that sends a TCP stream."""

from __future__ import annotations

from functools import partial
from random import Random

from packetwalk.addr import ANY
from packetwalk.engine.sim import Simulation
from packetwalk.engine.stats import FlowStats, Recorder
from packetwalk.netns.namespace import Netns
from packetwalk.netns.reno import Reno
from packetwalk.netns.socket import Socket
from packetwalk.packet import ECHO, PROTO_ICMP, PROTO_UDP, UDP_LEN, Icmp, Ip, Udp, ip_packet
from packetwalk.trace import TASK, Flow, Step, Timer

ENDLESS = 1 << 50  # bytes


class Sender:
    """Sends a pattern's packets until a time (ns). It has one turn at a time: when its room is busy, packets leave
    later than they should, as those of a program do."""

    def __init__(self, sim: Simulation, recorder: Recorder, stat: FlowStats, flow: Flow, stop: int,
                 rng: Random) -> None:  # fmt: skip
        source = stat.source
        assert source.pattern is not None
        self.sim, self.recorder, self.stat, self.flow, self.stop = sim, recorder, stat, flow, stop
        self._departures = source.pattern.departures(rng)
        proto, first = (PROTO_ICMP, flow.ident) if flow.kind == "icmp" else (PROTO_UDP, flow.sport)
        self._sockets = [Socket(proto, first + i) for i in range(source.conns)]
        self._due, self._size, self._turn = source.start, 0, 0

    def start(self) -> None:
        """Open the sockets, and wait for the first packet's time."""
        for socket in self._sockets:
            self.sim.network[self.flow.src].sockets.bind(socket)
            self.recorder.senders[socket] = self.stat
        self._wait()

    def _wait(self) -> None:
        gap, self._size = next(self._departures, (self.stop, 0))
        self._due += gap
        if self._due < self.stop:
            self.sim.program(self.flow.src, self._send, at=self._due, why="send")

    def _send(self, room: Netns, now: int) -> list[Step]:
        flow, turn = self.flow, self._turn
        socket = self._sockets[turn % len(self._sockets)]
        payload = self.recorder.sent(self.stat, self._size, now)
        header = (
            Icmp(ECHO, 0, socket.port, turn // len(self._sockets) & 0xFFFF)
            if flow.kind == "icmp"
            else Udp(socket.port, flow.dport, UDP_LEN + self._size)
        )
        self._turn += 1
        self._wait()
        return room.send(ip_packet(Ip(ANY, flow.dst, socket.proto, 0), header, payload=payload), now, socket)


class Transfer:
    """Opens a TCP connection, writes, and closes when everything is said or at a time (ns)."""

    def __init__(self, sim: Simulation, recorder: Recorder, stat: FlowStats, flow: Flow, stop: int) -> None:
        self.sim, self.recorder, self.stat, self.stop = sim, recorder, stat, stop
        self.room = flow.src
        total = stat.source.total or ENDLESS
        stat.conns = [
            Reno(ANY, flow.sport + i, flow.dst, flow.dport, send_size=total, payload=self._payload)
            for i in range(stat.source.conns)
        ]

    def start(self) -> None:
        """Connect when it is time, and stop when it is."""
        for conn in self.stat.conns if self.stat.source.start < self.stop else ():
            self.recorder.ports[conn.lport] = self.recorder.senders[conn] = self.stat
            self.sim.program(self.room, partial(_connect, conn), at=self.stat.source.start, why="connect")
            self.sim.program(self.room, partial(_finish, conn), at=self.stop, why="close")

    def _payload(self, size: int) -> int:
        return self.recorder.sent(self.stat, size, self.sim.now)


def _connect(conn: Reno, room: Netns, now: int) -> list[Step]:
    return room.connect(conn, now)


def _finish(conn: Reno, room: Netns, now: int) -> list[Step]:
    """The program has had enough: what is not on its way is not sent any more."""
    if conn.state != "ESTABLISHED":
        return []
    conn.to_send = conn.send_size = 0
    return room.wake(Timer(now, "app", conn, context=TASK), now)
