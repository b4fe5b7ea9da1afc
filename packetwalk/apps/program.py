"""What a program is, and what it may ask of the kernel it runs on.

A program is a generator: it yields calls and gets their answers. So what it does reads from top to bottom, it does no
I/O, and a test runs it by hand:

    def greet(addr: IPv4) -> Program[bytes]:
        fd = yield Connect("tcp", addr, 80)
        yield Send(fd, b"hello")
        return (yield Receive(fd))

A server is an App: for each client (a TCP connection, or one UDP datagram) it starts a program whose file 0 is that
client, as inetd does.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from packetwalk.addr import ANY, IPv4

CLIENT = 0
"""The file by which a server's program talks to its client."""


class Connect(NamedTuple):
    """Open a socket to a peer; `proto` is udp or tcp. Answer: the file. Raises Failed."""

    proto: str
    addr: IPv4
    port: int


class Send(NamedTuple):
    """Send data: one datagram, or more of a stream. No answer. Raises Failed."""

    fd: int
    data: bytes


class Receive(NamedTuple):
    """Wait for data: one datagram, or what has come of a stream; b"" when the peer has closed it.

    timeout in ns, 0 for none; then Failed("ETIMEDOUT") is raised, as it is for other errors of the socket.
    """

    fd: int
    timeout: int = 0


class Close(NamedTuple):
    """Close a file. What a program leaves open is closed when it ends."""

    fd: int


class Clock(NamedTuple):
    """Answer: ns since the start."""


class Say(NamedTuple):
    """Put something into the trace: what the program made of what it heard."""

    what: object


Call: TypeAlias = Connect | Send | Receive | Close | Clock | Say
T = TypeVar("T", covariant=True)
Program: TypeAlias = Generator[Call, Any, T]


class Failed(Exception):
    """A call failed; `errno` says how."""

    def __init__(self, errno: str) -> None:
        super().__init__(errno)
        self.errno = errno


class Peer(NamedTuple):
    """A server's client: its address, and the one of ours that it spoke to."""

    proto: str
    addr: IPv4
    port: int
    local: IPv4 = ANY
    local_port: int = 0


class App(Protocol):
    """A server. `str()` names it; it is the same in all runs, and what it learns goes into `memory`."""

    def serve(self, peer: Peer, memory: dict[object, object]) -> Program[None]:
        """The program for one client. memory: what this app keeps in this room."""


class Exchange(NamedTuple):
    """Said by a client where one exchange of messages begins: with whom, and what about."""

    about: str
    proto: str
    addr: IPv4
    port: int
    size: int = 0

    def __str__(self) -> str:
        return self.about


class Outcome(NamedTuple):
    """Said by a client where an exchange ends: what came of it. errno: where no answer came; good: it was the one
    hoped for."""

    words: str
    errno: str = ""
    good: bool = True

    def __str__(self) -> str:
        return self.words
