"""Sockets: who in this namespace speaks, and what reaches them.

A socket is data. The stages deliver to it and answer for it where the kernel does; what a program does with it (an echo
server, a client that closes) is its `app`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from packetwalk.addr import ANY, IPv4
from packetwalk.apps.program import App
from packetwalk.netns.tcp import Connection
from packetwalk.packet import ETH_ARP, PROTO_ICMP, PROTO_SCTP, PROTO_TCP, PROTO_UDP, Packet

# IP_MTU_DISCOVER: when a socket sets DF and whether it minds the cached path MTU (ip(7))
DONT, WANT, DO, PROBE = "dont", "want", "do", "probe"
EPHEMERAL = range(32768, 61000)


@dataclass(slots=True, eq=False)
class Socket:
    """An ICMP (raw), UDP, TCP or SCTP socket. `port` is the local port, or the echo id of an ICMP one; ttl 0: default.

    pmtudisc: dont, want, do or probe; empty = the namespace's default. `app` is `echo` or an App for a server, empty
    for a client; `owner` the process that has it open; `peer` the only address and port it hears, if it is connected.
    With proto ETH_P_ARP it is a packet socket (packet(7)) on the device `dev`.
    """

    proto: int
    port: int
    addr: IPv4 = ANY
    pmtudisc: str = ""
    ttl: int = 0
    tos: int = 0
    recverr: bool = False
    listening: bool = False
    app: App | str = ""
    owner: object = None
    peer: tuple[IPv4, int] | None = None
    dev: str = ""

    def __str__(self) -> str:
        if self.proto == ETH_ARP:
            return f"arp {self.app} for {self.addr}"
        names = {PROTO_ICMP: "icmp", PROTO_UDP: "udp", PROTO_TCP: "tcp", PROTO_SCTP: "sctp"}
        name = names.get(self.proto, str(self.proto))
        kind = f"{self.app} server" if self.app else "listener" if self.listening else "client"
        port = f"id {self.port}" if self.proto == PROTO_ICMP else f"port {self.port}"
        return f"{name} {kind} {port}" if self.port else f"{name} {kind}"


class Delivery(NamedTuple):
    """Evidence of a `deliver` step: what reached which socket (None: the kernel itself, as for an echo request).

    detail: what it led to, as it was then (a connection goes on changing).
    """

    kind: str  # echo-request | echo-reply | datagram | segment | chunks | error | arp
    socket: Socket | Connection | None = None
    errno: str = ""
    detail: str = ""
    info: int = 0  # of an error: what the error queue has beside it (ee_info), a path MTU

    def __str__(self) -> str:
        words = (self.kind, self.errno, "" if self.socket is None else f"to {self.socket}", self.detail)
        return " ".join(word for word in words if word)


class Readable(NamedTuple):
    """A program's turn: the socket, and what it reads or which error it gets."""

    socket: Socket | Connection
    packet: Packet
    errno: str = ""


class Sockets:
    """Listening and client sockets by (protocol, port, address), TCP connections by their four-tuple, and programs that
    answer ARP by (device, address).

    memory: what each program here keeps from one client to the next.
    """

    __slots__ = ("bound", "connections", "memory", "responders")

    def __init__(self) -> None:
        self.bound: dict[tuple[int, int, int], Socket] = {}
        self.connections: dict[tuple[int, int, int, int], Connection] = {}
        self.memory: dict[App, dict[object, object]] = {}
        self.responders: dict[tuple[str, int], Socket] = {}

    def overlay(self) -> Sockets:
        """The same listeners, and what their programs keep; connections and client sockets of a walk are its own."""
        copy = Sockets()
        copy.bound, copy.responders = dict(self.bound), self.responders
        copy.memory = {app: dict(kept) for app, kept in self.memory.items()}
        return copy

    def bind(self, socket: Socket) -> Socket:
        self.bound[socket.proto, socket.port, socket.addr] = socket
        return socket

    def close(self, socket: Socket) -> None:
        """Nobody has it open any more."""
        self.bound.pop((socket.proto, socket.port, socket.addr), None)

    def speaks(self, proto: int, *, listening: bool = False) -> bool:
        """Whether anybody here has a socket of that protocol, or a listening one."""
        return any(s.proto == proto and (s.listening or not listening) for s in self.bound.values())

    def free_port(self, proto: int) -> int:
        """The first ephemeral port that nobody is bound to; a kernel draws one (net.ipv4.ip_local_port_range)."""
        taken = {port for kind, port, _ in self.bound if kind == proto}
        if proto == PROTO_TCP:
            taken |= {port for _, port, _, _ in self.connections}
        return next(port for port in EPHEMERAL if port not in taken)

    def find(self, proto: int, port: int, addr: int, peer: tuple[int, int] | None = None) -> Socket | None:
        """The socket bound to that port, at that address before any (udp4_lib_lookup2 scores them so).

        peer: who speaks to it; a connected socket hears nobody but its own.
        """
        bound = self.bound
        socket = bound.get((proto, port, addr)) or bound.get((proto, port, ANY))
        return socket if socket is None or socket.peer is None or peer in (None, socket.peer) else None

    def listeners(self) -> list[Socket]:
        return [s for s in self.bound.values() if s.listening]

    def servers(self) -> list[Socket]:
        """All who answer by themselves: listeners, and programs that answer ARP."""
        return [*self.listeners(), *self.responders.values()]
