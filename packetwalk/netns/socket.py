"""Sockets: who in this namespace speaks, and what reaches them.

A socket is data. The stages deliver to it and answer for it where the kernel does; what a program does with it (an echo
server, a client that closes) is its `app`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from packetwalk.addr import ANY, IPv4
from packetwalk.netns.tcp import Connection
from packetwalk.packet import PROTO_ICMP, PROTO_TCP, PROTO_UDP, Packet

# IP_MTU_DISCOVER: when a socket sets DF and whether it minds the cached path MTU (ip(7))
DONT, WANT, DO, PROBE = "dont", "want", "do", "probe"


@dataclass(slots=True, eq=False)
class Socket:
    """An ICMP (raw), UDP or TCP socket. `port` is the local port, or the echo id of an ICMP socket; `ttl` 0 = default.

    pmtudisc: dont, want, do or probe; empty = the namespace's default. `app` is `echo` for a server, empty for a
    client.
    """

    proto: int
    port: int
    addr: IPv4 = ANY
    pmtudisc: str = ""
    ttl: int = 0
    tos: int = 0
    recverr: bool = False
    listening: bool = False
    app: str = ""

    def __str__(self) -> str:
        name = {PROTO_ICMP: "icmp", PROTO_UDP: "udp", PROTO_TCP: "tcp"}.get(self.proto, str(self.proto))
        kind = f"{self.app} server" if self.app else "listener" if self.listening else "client"
        port = f"id {self.port}" if self.proto == PROTO_ICMP else f"port {self.port}"
        return f"{name} {kind} {port}" if self.port else f"{name} {kind}"


class Delivery(NamedTuple):
    """Evidence of a `deliver` step: what reached which socket (None: the kernel itself, as for an echo request).

    detail: what it led to, as it was then (a connection goes on changing).
    """

    kind: str  # echo-request | echo-reply | datagram | segment | error | arp
    socket: Socket | Connection | None = None
    errno: str = ""
    detail: str = ""
    info: int = 0  # of an error: what the error queue has beside it (ee_info), a path MTU

    def __str__(self) -> str:
        words = (self.kind, self.errno, "" if self.socket is None else f"to {self.socket}", self.detail)
        return " ".join(word for word in words if word)


class Readable(NamedTuple):
    """A program's turn: the socket, and what it reads."""

    socket: Socket
    packet: Packet


class Sockets:
    """Listening and client sockets by (protocol, port), TCP connections by their four-tuple."""

    __slots__ = ("bound", "connections")

    def __init__(self) -> None:
        self.bound: dict[tuple[int, int], Socket] = {}
        self.connections: dict[tuple[int, int, int, int], Connection] = {}

    def overlay(self) -> Sockets:
        """The same listeners; connections and client sockets of a walk are its own."""
        copy = Sockets()
        copy.bound = dict(self.bound)
        return copy

    def bind(self, socket: Socket) -> Socket:
        self.bound[socket.proto, socket.port] = socket
        return socket

    def find(self, proto: int, port: int, addr: int) -> Socket | None:
        """The socket bound to that port, if it is bound to that address or to any (udp4_lib_lookup)."""
        socket = self.bound.get((proto, port))
        return socket if socket is not None and (not socket.addr or socket.addr == addr) else None

    def listeners(self) -> list[Socket]:
        return [s for s in self.bound.values() if s.listening]
