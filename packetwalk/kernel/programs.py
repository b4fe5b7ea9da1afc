"""Programs over the real sockets of a realised network: the same generators that our rooms run, with a kernel below.

    with realise(network) as real, Servers(real):
        said = follow(real, "a", fetch(Url.parse("http://web"), network.resolvers["a"]))

Each program has a thread and blocks in its calls; its sockets are opened inside of its room.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeAlias

from packetwalk.addr import IPv4
from packetwalk.apps.program import CLIENT, App, Clock, Close, Connect, Failed, Peer, Program, Receive, Say, Send
from packetwalk.kernel.realise import Realised
from packetwalk.netns.socket import Socket
from packetwalk.packet import PROTO_UDP

PATIENCE = 10.0
"""Seconds after which a call without a time-out of its own gives up."""


class Datagrams:
    """A UDP server's client: what it sent, and the socket that answers it."""

    def __init__(self, server: socket.socket, data: bytes, peer: tuple[str, int]) -> None:
        self.server, self.data, self.peer = server, [data], peer

    def sendall(self, data: bytes) -> None:
        """Answer it."""
        self.server.sendto(data, self.peer)

    def recv(self, size: int) -> bytes:
        """What it sent."""
        return self.data.pop(0)

    def settimeout(self, seconds: float) -> None:
        """It is there already."""

    def close(self) -> None:
        """The server's socket stays."""


File: TypeAlias = socket.socket | Datagrams


def follow(real: Realised, room: str, program: Program[Any], client: File | None = None) -> list[object]:
    """Run a program in a room's namespace to its end: what it said."""
    files: dict[int, File] = {CLIENT: client} if client is not None else {}
    said: list[object] = []
    answer: object = None
    with suppress(StopIteration, Failed):
        while True:
            call = program.throw(answer) if isinstance(answer, Failed) else program.send(answer)
            if isinstance(call, Say):
                said.append(call.what)
                answer = None
            elif isinstance(call, Clock):
                answer = time.monotonic_ns()
            else:
                answer = _call(real, room, files, call)
    for file in files.values():
        file.close()
    return said


def _call(real: Realised, room: str, files: dict[int, File], call: Connect | Send | Receive | Close) -> object:
    try:
        if isinstance(call, Connect):
            kind = socket.SOCK_DGRAM if call.proto == "udp" else socket.SOCK_STREAM
            with real.inside(room):
                file = socket.socket(socket.AF_INET, kind)
            file.settimeout(PATIENCE)
            fd = next(n for n in range(len(files) + 1) if n not in files)
            files[fd] = file
            file.connect((str(call.addr), call.port))
            return fd
        if isinstance(call, Send):
            files[call.fd].sendall(call.data)
        elif isinstance(call, Receive):
            files[call.fd].settimeout(call.timeout / 1e9 if call.timeout else PATIENCE)
            return files[call.fd].recv(65536)
        else:
            files.pop(call.fd).close()
    except TimeoutError:
        return Failed("ETIMEDOUT")
    except OSError as error:
        return Failed(errno.errorcode.get(error.errno or 0, "EIO"))
    return None


class Servers:
    """Every App that listens in the network, at work in its real namespace while the `with` lasts."""

    def __init__(self, real: Realised) -> None:
        self.real = real
        self.over = threading.Event()
        self.threads: list[threading.Thread] = []

    def __enter__(self) -> Servers:
        for room in self.real.network:
            for listener in room.sockets.listeners():
                if not isinstance(listener.app, str):
                    self._listen(room.name, listener)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _listen(self, room: str, listener: Socket) -> None:
        udp = listener.proto == PROTO_UDP
        with self.real.inside(room):
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((str(listener.addr), listener.port))
        server.settimeout(0.1)
        if not udp:
            server.listen()
        self._start(self._datagrams if udp else self._connections, room, server, listener.app, {})

    def _start(self, work: Any, *about: Any) -> None:
        thread = threading.Thread(target=work, args=about)
        self.threads.append(thread)
        thread.start()

    def _datagrams(self, room: str, server: socket.socket, app: App, memory: dict[object, object]) -> None:
        with server:
            while not self.over.is_set():
                with suppress(TimeoutError, ConnectionRefusedError):
                    data, (addr, port) = server.recvfrom(65536)
                    peer = Peer("udp", IPv4(addr), port)
                    self._start(follow, self.real, room, app.serve(peer, memory), Datagrams(server, data, (addr, port)))

    def _connections(self, room: str, server: socket.socket, app: App, memory: dict[object, object]) -> None:
        with server:
            while not self.over.is_set():
                with suppress(TimeoutError):
                    client, (addr, port) = server.accept()
                    local, local_port = client.getsockname()
                    peer = Peer("tcp", IPv4(addr), port, IPv4(local), local_port)
                    self._start(follow, self.real, room, app.serve(peer, memory), client)
