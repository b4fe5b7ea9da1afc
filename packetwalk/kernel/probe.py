"""Probes through a realised network: clients and echo servers as sockets of this one process, and what clients saw.

A probe's specification and its result have the form of a recording's (see `recordings/README.md`): kind, src, dst,
dport, sport, id, seq, size, ttl, df, bind, timeout. A socket is opened inside its room and used from outside; all of
them are served by one thread, so that the order of frames is the kernel's and not the scheduler's.
"""

from __future__ import annotations

import errno
import selectors
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from packetwalk.codec import CodecError, encode
from packetwalk.kernel import responder
from packetwalk.kernel.capture import decoded
from packetwalk.kernel.realise import Realised

# isort: off
from packetwalk.packet import (
    ECHO, ECHO_REPLY, ICMP_ERRORS, PROTO_SCTP, PROTO_TCP, REDIRECT, Icmp, Ip, Packet, Sctp, payload_len, quoted,
)  # fmt: skip
# isort: on
from packetwalk.sctp import ABORT, TAG, chunks, opening
from packetwalk.trace import Flow

Spec = Mapping[str, Any]
Result = dict[str, Any]

DEFAULTS: dict[str, dict[str, Any]] = {
    "icmp": {"id": 4660, "seq": 1, "size": 56},
    "udp": {"sport": 40000, "size": 32},
    "tcp": {"sport": 40000, "size": 0},
    "sctp": {"sport": 40000, "size": 0},
}
"""What a specification may leave out, with the values that a prediction takes then. Sizes in bytes of payload."""
TIMEOUT = 0.6
"""Seconds after which a client gives up."""

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

# ip(7); Python's socket module has no names for them
_IP_MTU_DISCOVER, _IP_RECVERR, _DONT, _WANT, _DO, _PROBE = 10, 11, 0, 1, 2, 3
_MODES = {None: _WANT, True: _DO, False: _DONT, "probe": _PROBE}
_FLOW_MODES: dict[str, Any] = {"do": True, "dont": False, "probe": "probe"}
_ERROR = struct.Struct("=IBBBxII")  # sock_extended_err: errno, origin, type, code, info, data
_KINDS = {
    "icmp": (socket.SOCK_RAW, socket.IPPROTO_ICMP), "udp": (socket.SOCK_DGRAM, 0), "tcp": (socket.SOCK_STREAM, 0),
    "sctp": (socket.SOCK_RAW, PROTO_SCTP),
}  # fmt: skip
_ORIGINS = {1: "local", 2: "icmp"}
_PATTERN = bytes(range(256)) * 257
_BIGGEST = 1 << 16


def spec_of(flow: Flow, timeout: float = TIMEOUT) -> dict[str, Any]:
    """A flow as a probe's specification; `timeout` in seconds."""
    spec: dict[str, Any] = {"kind": flow.kind, "src": flow.src, "dst": str(flow.dst), "timeout": timeout}
    spec |= {"id": flow.ident, "seq": flow.seq} if flow.kind == "icmp" else {"dport": flow.dport, "sport": flow.sport}
    optional = {"ttl": flow.ttl, "bind": str(flow.bind) if flow.bind else "", "df": _FLOW_MODES.get(flow.df)}
    if flow.size >= 0:
        spec["size"] = flow.size
    return spec | {key: value for key, value in optional.items() if value or value is False}


# -- servers ----------------------------------------------------------------------------------------------------------


class Programs:
    """Echo servers for a network's listeners, a client when there is one, and the turns they take.

    Servers answer with what they got: UDP from the address that the route suggests, with path MTU discovery.
    """

    def __init__(self, real: Realised) -> None:
        self._real = real
        self._selector = selectors.DefaultSelector()
        self._servers: list[socket.socket] = []

    def close(self) -> None:
        """Stop the servers for good."""
        self.stop()
        self._selector.close()

    def start(self) -> None:
        """Echo servers for the network's listeners, and those who answer ARP. OSError for a port that is taken."""
        for room in self._real.network:
            for listener in room.sockets.listeners():
                self._listen(
                    room.name, "tcp" if listener.proto == PROTO_TCP else "udp", str(listener.addr), listener.port
                )
            for socket_ in room.sockets.responders.values():
                with self._real.inside(room.name):
                    self._servers.append(responder.listen(socket_.dev))
                work = partial(responder.respond, self._servers[-1], int(socket_.addr).to_bytes(4, "big"))
                self._selector.register(self._servers[-1], READ, work)

    def stop(self) -> None:
        """Close every server at once: nothing half open may talk into the next probe."""
        for server in self._servers:
            self.drop(server)
        self._servers.clear()

    def turn(self, seconds: float) -> None:
        """Let everybody work who has something to do; wait for it at most so long."""
        for key, events in self._selector.select(seconds):
            key.data(events)

    def client(self, spec: Spec) -> Client:
        """The client of a probe, in its room. KeyError for a kind or a room that is not there."""
        kind = spec["kind"]
        return _CLIENTS[kind](self._socket(spec["src"], kind), spec)

    def watch(self, client: Client) -> None:
        """Tell the client what its socket hears, until it is over."""
        if not client.over:
            self._selector.register(client.socket, READ | client.wants, partial(self._tell, client))

    def drop(self, sock: socket.socket) -> None:
        """Close a socket without a farewell that could be lost and repeated (SO_LINGER 0: at most a reset)."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(sock)
        with suppress(OSError):  # it is closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        sock.close()

    def _tell(self, client: Client, events: int) -> None:
        client.ready(events)
        if client.over:
            self._selector.unregister(client.socket)
            client.leave()
        else:
            self._selector.modify(client.socket, READ | client.wants, partial(self._tell, client))

    def _socket(self, room: str, kind: str) -> socket.socket:
        with self._real.inside(room):
            sock = socket.socket(socket.AF_INET, *_KINDS[kind])
        sock.setblocking(False)
        return sock

    def _listen(self, room: str, kind: str, addr: str, port: int) -> None:
        server = self._socket(room, kind)
        self._servers.append(server)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((addr, port))
        work: Callable[[int], None]
        if kind == "tcp":
            server.listen()
            work = partial(self._accept, server)
        else:
            server.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _WANT)
            work = partial(_echo_datagram, server)
        self._selector.register(server, READ, work)

    def _accept(self, server: socket.socket, _: int) -> None:
        with suppress(BlockingIOError, ConnectionError):
            conn = server.accept()[0]
            conn.setblocking(False)
            self._servers.append(conn)
            self._selector.register(conn, READ, partial(_echo_stream, conn, bytearray(), self._selector))


def _echo_datagram(server: socket.socket, _: int) -> None:
    with suppress(OSError):  # an error of an earlier answer, or no way back: the client will tell
        data, peer = server.recvfrom(_BIGGEST)
        server.sendto(data, peer)


def _echo_stream(conn: socket.socket, owed: bytearray, selector: selectors.BaseSelector, events: int) -> None:
    """What came goes back; after the client's end, ours."""
    try:
        if events & READ:
            data = conn.recv(_BIGGEST)
            owed += data
            if not data:
                selector.unregister(conn)
                conn.shutdown(socket.SHUT_WR)
                return
        if owed:
            del owed[: conn.send(owed)]
        selector.modify(conn, READ | (WRITE if owed else 0), selector.get_key(conn).data)
    except BlockingIOError:
        return
    except OSError:
        with suppress(KeyError):
            selector.unregister(conn)


# -- clients ----------------------------------------------------------------------------------------------------------


class Client:
    """The sending program of a probe: it acts once and keeps the first thing it hears as `result`."""

    wants = 0  # what its socket waits for besides something to read

    def __init__(self, sock: socket.socket, spec: Spec) -> None:
        self.socket, self.spec = sock, spec
        self.result: Result | None = None

    def send(self) -> None:
        """Act. What goes wrong at once is the result."""
        spec, sock = self.spec, self.socket
        try:
            if "ttl" in spec:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, spec["ttl"])
            if "df" in spec or spec["kind"] != "tcp":
                sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _MODES[spec.get("df")])
            if "bind" in spec or "sport" in spec:
                sock.bind((spec.get("bind", ""), spec.get("sport", 0)))
            self.act()
        except OSError as error:
            self.result = {"outcome": "send_error", "errno": _word(error.errno)}

    def act(self) -> None:
        """Send what the specification says."""
        raise NotImplementedError

    def ready(self, events: int) -> None:
        """The socket has news."""
        with suppress(BlockingIOError):
            while self.result is None:
                self.hear()

    def hear(self) -> None:
        """Read one thing; BlockingIOError if there is none."""
        raise NotImplementedError

    def late(self) -> None:
        """The time is over: look once more."""

    def leave(self) -> None:
        """It is over: what a program does with its socket then."""

    @property
    def over(self) -> bool:
        """Whether the client is done with its socket."""
        return self.result is not None


class Echo(Client):
    """An echo request through a raw socket; ICMP errors come back whole."""

    def act(self) -> None:
        spec = self.spec
        packet = encode(Packet((Icmp(ECHO, 0, spec["id"], spec["seq"]),), spec["size"]))
        self.socket.sendto(packet, (spec["dst"], 0))

    def hear(self) -> None:
        try:
            packet = decoded(self.socket.recv(_BIGGEST), "ip")
        except CodecError:
            return
        ip, icmp = packet.headers[0], packet.l4
        if not isinstance(ip, Ip) or not isinstance(icmp, Icmp):
            return
        if icmp.type == ECHO_REPLY and self._ours(icmp):
            self.result = {"outcome": "reply", "src": str(ip.src), "ttl": ip.ttl, "size": ip.len}
        about = quoted(packet)
        if icmp.type in ICMP_ERRORS - {REDIRECT} and about is not None and self._ours(about.headers[-1]):
            self.result = {
                "outcome": "icmp_error", "src": str(ip.src), "type": icmp.type, "code": icmp.code,
                "mtu": icmp.mtu or None, "ttl": ip.ttl,
            }  # fmt: skip

    def _ours(self, header: object) -> bool:
        return isinstance(header, Icmp) and (header.id, header.seq) == (self.spec["id"], self.spec["seq"])


class Datagram(Client):
    """One UDP datagram from an unconnected socket that asks for errors (IP_RECVERR)."""

    def act(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        self.socket.sendto(_PATTERN[: self.spec["size"]], (self.spec["dst"], self.spec["dport"]))

    def hear(self) -> None:
        try:
            data, (addr, port) = self.socket.recvfrom(_BIGGEST)
        except BlockingIOError:
            raise
        except OSError as error:
            self._error(_word(error.errno))
        else:
            self.result = {"outcome": "reply", "src": f"{addr}:{port}", "size": len(data)}

    def late(self) -> None:
        self._error("")

    def _error(self, word: str) -> None:
        """An error, with what the error queue says of it (ip(7), IP_RECVERR)."""
        queue: dict[str, Any] = {}
        with suppress(BlockingIOError):
            for level, kind, data in self.socket.recvmsg(_BIGGEST, 512, socket.MSG_ERRQUEUE)[1]:
                if (level, kind) == (socket.IPPROTO_IP, _IP_RECVERR):
                    number, origin, icmp, code, info, _ = _ERROR.unpack_from(data)
                    queue = {
                        "errno": _word(number), "origin": _ORIGINS.get(origin, str(origin)), "type": icmp, "code": code,
                        "info": info, "offender": socket.inet_ntoa(data[_ERROR.size + 4 : _ERROR.size + 8]),
                    }  # fmt: skip
        if word or queue:
            self.result = {"outcome": "error", "errno": word or queue["errno"]} | ({"errqueue": queue} if queue else {})


class Opening(Datagram):
    """An SCTP INIT through a raw socket, which keeps a kernel that has no SCTP from refusing the answer."""

    def act(self) -> None:
        spec = self.spec
        self.socket.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        packet = encode(Packet((Sctp(spec["sport"], spec["dport"]),), opening(TAG)))
        self.socket.sendto(packet, (spec["dst"], 0))

    def hear(self) -> None:
        try:
            packet = decoded(self.socket.recv(_BIGGEST), "ip")
        except CodecError:
            return
        except BlockingIOError:
            raise
        except OSError as error:
            return self._error(_word(error.errno))
        ip, header = packet.headers[0], packet.l4
        if isinstance(ip, Ip) and isinstance(header, Sctp) and header.dport == self.spec["sport"]:
            self.result = {"outcome": "reply", "src": f"{ip.src}:{header.sport}", "size": payload_len(packet.payload)}
            if any(chunk.type == ABORT for chunk in chunks(packet.payload)):
                self.result = {"outcome": "error", "errno": "ECONNREFUSED"}
        return None


class Stream(Client):
    """A TCP connection: open it, perhaps send and read the echo, close it."""

    wants = WRITE

    def __init__(self, sock: socket.socket, spec: Spec) -> None:
        super().__init__(sock, spec)
        self.echoed, self.sent = 0, 0
        self.ended = False  # the other end is closed, or there never was one
        self.connected: Result | None = None
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    @property
    def over(self) -> bool:
        return self.ended or (self.result is not None and self.connected is None)

    def act(self) -> None:
        number = self.socket.connect_ex((self.spec["dst"], self.spec["dport"]))
        if number != errno.EINPROGRESS:
            self._failed(number)

    def _failed(self, number: int) -> None:
        self.result, self.ended = {"outcome": "error", "errno": _word(number)}, True

    def leave(self) -> None:
        if self.connected is None:  # an error met in connect() is only noted: the kernel would go on (sk_err_soft)
            self.socket.close()

    def ready(self, events: int) -> None:
        try:
            if self.connected is None:
                self._opened()
            elif events & READ:
                self._read()
            if self.connected is not None and self.sent < self.spec["size"]:
                self.sent += self.socket.send(_PATTERN[self.sent % 256 :][: self.spec["size"] - self.sent])
                self.wants = WRITE if self.sent < self.spec["size"] else 0
        except BlockingIOError:
            return
        except OSError as error:
            self.ended = True
            if self.result is None:
                self._failed(error.errno or 0)

    def _opened(self) -> None:
        number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            return self._failed(number)
        addr, port = self.socket.getpeername()
        mss = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        self.connected = {"outcome": "connected", "peer": f"{addr}:{port}", "mss": mss}
        return self._close_if_done()

    def _read(self) -> None:
        data = self.socket.recv(_BIGGEST)
        self.echoed += len(data)
        if not data:
            self.ended = True
        elif self.result is None:
            self._close_if_done()

    def _close_if_done(self) -> None:
        """Everything came back: our end is closed, and the socket kept until the other end is, too."""
        size = self.spec["size"]
        self.wants = WRITE if size else 0
        if self.connected is not None and self.echoed >= size:
            self.result = self.connected | ({"echoed": self.echoed} if size else {})
            self.socket.shutdown(socket.SHUT_WR)

    def late(self) -> None:
        if self.connected is not None:
            self.result = self.connected | {"echoed": self.echoed}


_CLIENTS: dict[str, type[Client]] = {"icmp": Echo, "udp": Datagram, "tcp": Stream, "sctp": Opening}


def _word(number: int | None) -> str:
    return errno.errorcode.get(number or 0, str(number))
