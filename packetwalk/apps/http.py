"""HTTP/1.1 (RFC 9112): a server that tells what it saw, a client, a reverse proxy. h11 writes and reads the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from packetwalk.addr import IPv4
from packetwalk.apps.program import CLIENT, Close, Connect, Failed, Peer, Program, Receive, Say, Send

if TYPE_CHECKING:
    import h11

PORT = 80
LATIN = "latin-1"  # header bytes that are no ASCII keep their value (RFC 9110 5.5)
Headers: TypeAlias = tuple[tuple[str, str], ...]
REASONS = {200: "OK", 404: "Not Found", 502: "Bad Gateway", 503: "Service Temporarily Unavailable"}
UPSTREAM_TIMEOUT = 5_000_000_000  # ns: nginx as an ingress connects for 5 s (proxy-connect-timeout)


class Request(NamedTuple):
    """A request, whole."""

    method: str
    path: str
    headers: Headers
    body: bytes = b""

    def header(self, name: str) -> str:
        """The value of a header, empty without it."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    @property
    def host(self) -> str:
        """The host that is asked for, without its port."""
        return self.header("host").partition(":")[0].lower()

    def __str__(self) -> str:
        told = self.header("x-forwarded-for")
        return f"{self.method} {self.header('host')}{self.path}{f' x-forwarded-for {told}' if told else ''}"


class Response(NamedTuple):
    """A response, whole."""

    status: int
    body: str = ""

    def __str__(self) -> str:
        return f"{self.status} {REASONS.get(self.status, '')}".rstrip()


@dataclass(frozen=True, eq=False)
class WebServer:
    """Answers every request with who it is, and whom it saw ask."""

    name: str

    def __str__(self) -> str:
        return "http"

    def serve(self, peer: Peer, memory: dict[object, object]) -> Program[None]:
        """The requests of one connection."""
        wire = _server()
        while (request := (yield from _request(wire))) is not None:
            told = request.header("x-forwarded-for")
            body = f"{self.name} saw {peer.addr}:{peer.port}{f', forwarded for {told}' if told else ''}"
            yield Say(f"{request}: {body}")
            yield from _respond(wire, request, Response(200, f"{body}\n"))


class Backend(NamedTuple):
    """Where an ingress sends requests for a host (empty: any) whose path begins with a prefix, element by element."""

    host: str
    path: str
    service: str
    endpoints: tuple[tuple[IPv4, int], ...]

    def takes(self, request: Request) -> bool:
        """Whether the request is for it (pathType Prefix: /a takes /a/b and not /ab)."""
        prefix, path = self.path.rstrip("/"), request.path.partition("?")[0]
        return self.host in ("", request.host) and (path == prefix or path.startswith(f"{prefix}/"))


@dataclass(frozen=True, eq=False)
class Proxy:
    """An ingress controller as ingress-nginx is one: it ends the client's connection and opens its own to a pod."""

    name: str
    backends: tuple[Backend, ...]

    def __str__(self) -> str:
        return self.name

    def serve(self, peer: Peer, memory: dict[object, object]) -> Program[None]:
        """The requests of one client."""
        wire = _server()
        while (request := (yield from _request(wire))) is not None:
            backend = self._backend(request)
            if backend is None:
                yield Say(f"{request}: no rule for it")
                response = Response(404, "default backend - 404")
            else:
                response = yield from _passed_on(request, peer, backend, memory)
            yield from _respond(wire, request, response)

    def _backend(self, request: Request) -> Backend | None:
        """The rule that takes the request: one that names its host, and then the longest path, goes first."""
        fitting = [b for b in self.backends if b.takes(request)]
        return max(fitting, key=lambda b: (bool(b.host), len(b.path)), default=None)


def get(addr: IPv4, port: int, host: str, path: str) -> Program[Response]:
    """One GET, as curl does it: the connection is closed when the response is whole. Raises Failed."""
    authority = host if port == PORT else f"{host}:{port}"
    headers = (("Host", authority), ("User-Agent", "packetwalk"), ("Accept", "*/*"))
    return (yield from _fetched(addr, port, Request("GET", path, headers), 0))


# -- inside ------------------------------------------------------------------------------------------------------------


def _passed_on(request: Request, peer: Peer, backend: Backend, memory: dict[object, object]) -> Program[Response]:
    """What an endpoint says: each in turn, the next one where a connection fails (proxy_next_upstream)."""
    count = len(backend.endpoints)
    turn = memory.get(backend, 0)
    assert isinstance(turn, int)
    memory[backend] = turn + 1
    forwarded = request._replace(headers=_forwarded(request, peer))
    for n in range(count):
        addr, port = backend.endpoints[(turn + n) % count]
        yield Say(f"{forwarded} to {backend.service} at {addr}:{port}")
        try:
            return (yield from _fetched(addr, port, forwarded, UPSTREAM_TIMEOUT))
        except Failed as error:
            yield Say(f"{addr}:{port} failed: {error.errno}")
    yield Say(f"{backend.service} has no endpoint that answers")
    return Response(502 if count else 503, "")


def _forwarded(request: Request, peer: Peer) -> Headers:
    """The headers for the pod. nginx as an ingress believes no X-Forwarded-For but its own (use-forwarded-headers)."""
    ours = {
        "X-Real-IP": str(peer.addr), "X-Forwarded-For": str(peer.addr), "X-Forwarded-Host": request.header("host"),
        "X-Forwarded-Port": str(peer.local_port), "X-Forwarded-Proto": "http",
    }  # fmt: skip
    replaced = {name.lower() for name in ours}
    return (*((n, v) for n, v in request.headers if n.lower() not in replaced), *ours.items())


def _fetched(addr: IPv4, port: int, request: Request, timeout: int) -> Program[Response]:
    import h11

    wire = h11.Connection(h11.CLIENT)
    fd = yield Connect("tcp", addr, port)
    headers = [(name.encode(LATIN), value.encode(LATIN)) for name, value in request.headers]
    head = h11.Request(method=request.method, target=request.path.encode(LATIN), headers=headers)
    yield Send(fd, _bytes(wire, head, *([h11.Data(data=request.body)] if request.body else []), h11.EndOfMessage()))
    status, body = 0, b""
    try:
        while not isinstance(event := wire.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                wire.receive_data((yield Receive(fd, timeout)))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
    except h11.RemoteProtocolError:
        raise Failed("EPROTO") from None  # whoever listens there speaks no HTTP
    yield Close(fd)
    return Response(status, body.decode("utf-8", "replace"))


def _server() -> h11.Connection:
    import h11

    return h11.Connection(h11.SERVER)


def _request(wire: h11.Connection) -> Program[Request | None]:
    """The client's next request; None when it has closed the connection, or does not speak HTTP."""
    import h11

    if wire.our_state is h11.DONE:
        wire.start_next_cycle()
    request = None
    try:
        while not isinstance(event := wire.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                wire.receive_data((yield Receive(CLIENT)))
            elif isinstance(event, h11.Request):
                headers = tuple((n.decode(LATIN), v.decode(LATIN)) for n, v in event.headers.raw_items())
                request = Request(event.method.decode(), event.target.decode(LATIN), headers)
            elif isinstance(event, h11.Data) and request is not None:
                request = request._replace(body=request.body + event.data)
            elif isinstance(event, h11.ConnectionClosed):
                return None
    except (h11.RemoteProtocolError, Failed):
        return None
    return request


def _respond(wire: h11.Connection, request: Request, response: Response) -> Program[None]:
    import h11

    body = response.body.encode() if request.method != "HEAD" else b""
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    head = h11.Response(status_code=response.status, headers=headers, reason=REASONS.get(response.status, ""))
    yield Send(CLIENT, _bytes(wire, head, *([h11.Data(data=body)] if body else []), h11.EndOfMessage()))


def _bytes(wire: h11.Connection, *events: h11.Event) -> bytes:
    """Events as bytes. Failed("EPROTO") for what the other side's message does not allow."""
    import h11

    try:
        return b"".join(wire.send(event) or b"" for event in events)
    except h11.LocalProtocolError:
        raise Failed("EPROTO") from None
