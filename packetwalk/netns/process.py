"""Processes: programs that run in a namespace, and their system calls.

A program's turn begins when its room is woken for it, and ends when it waits; what it sends meanwhile leaves in the
context of a task. Files are numbered from 0, which is a server's client.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from packetwalk.addr import ANY, IPv4
from packetwalk.apps.program import (
    App,
    Call,
    Clock,
    Close,
    Connect,
    Failed,
    Peer,
    Program,
    Receive,
    Say,
    Send,
)  # fmt: skip
from packetwalk.netns.local import NO_PACKET, tcp_connect, tcp_send
from packetwalk.netns.socket import Readable, Socket
from packetwalk.netns.tcp import Connection
from packetwalk.netns.visit import Skb, Visit
from packetwalk.packet import PROTO_TCP, PROTO_UDP, Ip, Packet, Udp, ip_packet, payload_len
from packetwalk.trace import TASK, Drop, Timer


class Datagrams(NamedTuple):
    """A UDP file: the socket, and whom it talks to. A server's socket stays when the file is closed."""

    socket: Socket
    peer: Peer


class Alarm(NamedTuple):
    """A time-out that is due. It is void once the program has gone on since `turn`."""

    process: Process
    turn: int


class Process:
    """A running program: its open files with what has come for each, and the call it waits in."""

    def __init__(self, name: str, program: Program[object]) -> None:
        self.name = name
        self.program = program
        self.files: dict[int, Datagrams | Connection] = {}
        self.inbox: dict[int, deque[bytes]] = {}
        self.waits: tuple[Connect | Receive, int] | None = None  # the call, and the file it is about
        self.turn = 0

    def open(self, file: Datagrams | Connection) -> int:
        """Give a file the lowest number that is free, as POSIX has it."""
        fd = next(n for n in range(len(self.files) + 1) if n not in self.files)
        self.files[fd], self.inbox[fd] = file, deque()
        return fd

    def file_of(self, socket: Socket | Connection) -> int | None:
        """The number under which a socket is open."""
        for fd, file in self.files.items():
            if socket is (file if isinstance(file, Connection) else file.socket):
                return fd
        return None


# -- turns -------------------------------------------------------------------------------------------------------------


def start(v: Visit, name: str, program: Program[object]) -> None:
    """Run a program until it waits for the first time."""
    _go_on(v, Process(name, program), None)


def readable(v: Visit, turn: Readable) -> None:
    """Something came for a socket: a server's program begins, or the process that has it open may go on."""
    socket = turn.socket
    if socket.owner is None:
        if turn.errno:  # the client has gone before its program began
            return
        assert not isinstance(socket.app, str)
        process = _served(v, socket.app, socket, turn.packet)
    else:
        assert isinstance(socket.owner, Process)
        process = socket.owner
    fd = process.file_of(socket)
    if fd is None:
        return
    if not turn.errno and payload_len(turn.packet.payload):
        process.inbox[fd].append(_data(turn.packet))
    if process.turn == 0:
        _go_on(v, process, None)
    elif turn.errno and isinstance(socket, Socket):
        _fail(v, process, fd, turn.errno)
    elif process.waits is not None:
        _look_again(v, process, *process.waits)


def alarm(v: Visit, due: Alarm) -> None:
    """A time-out: if the program still waits in that call, the call fails."""
    if due.turn == due.process.turn and due.process.waits is not None:
        _go_on(v, due.process, Failed("ETIMEDOUT"))


def _served(v: Visit, app: App, socket: Socket | Connection, packet: Packet) -> Process:
    """The process for a server's new client: a connection, or whoever sent a datagram."""
    memory = v.t.sockets.memory.setdefault(app, {})
    if isinstance(socket, Connection):
        peer = Peer("tcp", socket.raddr, socket.rport, socket.laddr, socket.lport)
        process = Process(str(app), app.serve(peer, memory))
        socket.owner = process
        process.open(socket)
        return process
    ip, udp = packet.headers[0], packet.headers[1]
    assert isinstance(ip, Ip) and isinstance(udp, Udp)
    peer = Peer("udp", ip.src, udp.sport, ip.dst, udp.dport)
    process = Process(str(app), app.serve(peer, memory))
    process.open(Datagrams(socket, peer))
    return process


def _go_on(v: Visit, process: Process, answer: object) -> None:
    """Run the program from one call to the next, until one of them waits or the program ends."""
    process.waits = None
    process.turn += 1
    try:
        while process.waits is None:
            call = process.program.throw(answer) if isinstance(answer, Failed) else process.program.send(answer)
            answer = _answer(v, process, call)
    except (StopIteration, Failed) as end:
        if isinstance(end, Failed):
            v.step("program", process.name, f"ends: {end.errno}", NO_PACKET)
        for fd in list(process.files):
            _close(v, process, fd)


def _look_again(v: Visit, process: Process, call: Connect | Receive, fd: int) -> None:
    """Go on if what the program waits for is there now."""
    answer = _connected(process, fd) if isinstance(call, Connect) else _received(process, fd)
    if answer is not None:
        _go_on(v, process, answer)


def _fail(v: Visit, process: Process, fd: int, errno: str) -> None:
    if process.waits is not None and process.waits[1] == fd:
        _go_on(v, process, Failed(errno))


# -- system calls ------------------------------------------------------------------------------------------------------


def _answer(v: Visit, process: Process, call: Call) -> object:
    """Do what a call says. A call that has to wait leaves itself in `process.waits`."""
    if isinstance(call, Say):
        v.step("program", process.name, call.what, NO_PACKET)
        return None
    if isinstance(call, Clock):
        return v.now
    if isinstance(call, Connect):
        return _connect(v, process, call)
    if call.fd not in process.files:
        return Failed("EBADF")
    if isinstance(call, Send):
        return _send(v, process.files[call.fd], call.data)
    if isinstance(call, Close):
        _close(v, process, call.fd)
        return None
    answer = _received(process, call.fd)
    if answer is None:
        process.waits = call, call.fd
        if call.timeout:
            v.timer(Timer(v.now + call.timeout, "alarm", Alarm(process, process.turn), context=TASK), NO_PACKET)
    return answer


def _connect(v: Visit, process: Process, call: Connect) -> object:
    sockets = v.t.sockets
    if call.proto == "udp":
        port, peer = sockets.free_port(PROTO_UDP), (call.addr, call.port)
        socket = sockets.bind(Socket(PROTO_UDP, port, owner=process, peer=peer))
        return process.open(Datagrams(socket, Peer("udp", *peer)))
    conn = Connection(ANY, sockets.free_port(PROTO_TCP), call.addr, call.port, owner=process)
    tcp_connect(v, conn)
    if conn.error:
        return Failed(conn.error)
    process.waits = call, process.open(conn)
    return None


def _connected(process: Process, fd: int) -> object:
    """What connect() returns: the file, an error, or None while it is under way."""
    conn = process.files[fd]
    assert isinstance(conn, Connection)
    if conn.error:
        del process.files[fd]
        return Failed(conn.error)
    return fd if conn.state == "ESTABLISHED" else None


def _received(process: Process, fd: int) -> object:
    """What recv() returns: data, b"" at the end of a stream, an error, or None while there is nothing."""
    file, inbox = process.files[fd], process.inbox[fd]
    if isinstance(file, Datagrams):
        return inbox.popleft() if inbox else None
    if inbox:
        data = b"".join(inbox)
        inbox.clear()
        return data
    if file.error:
        return Failed(file.error)
    return b"" if file.fin_received or file.state == "CLOSED" else None


def _send(v: Visit, file: Datagrams | Connection, data: bytes) -> object:
    if isinstance(file, Connection):
        if file.error or file.state == "CLOSED":
            return Failed(file.error or "EPIPE")
        tcp_send(v, file, file.write(data))
        return None
    peer, port = file.peer, file.socket.port
    src = peer.local if peer.local and v.t.is_own(peer.local) else file.socket.addr
    skb = Skb(ip_packet(Ip(IPv4(src), peer.addr, PROTO_UDP, 0), Udp(port, peer.port, 8 + len(data)), payload=data))
    skb.socket = file.socket
    before = len(v.steps)
    v.go("route_out", skb)
    drops = (s.what for s in v.steps[before:] if isinstance(s.what, Drop))
    errno = next((drop.errno for drop in drops if drop.errno), "")
    return Failed(errno) if errno else None


def _close(v: Visit, process: Process, fd: int) -> None:
    file = process.files.pop(fd)
    if isinstance(file, Connection):
        tcp_send(v, file, file.close())
    elif not file.socket.listening:
        v.t.sockets.close(file.socket)


def _data(packet: Packet) -> bytes:
    """The data that a packet brings; a payload that is a mere length is read as so many zeros."""
    payload = packet.payload
    return payload if isinstance(payload, bytes) else bytes(payload_len(payload))
