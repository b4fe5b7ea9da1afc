"""A DNS server: answers from its zones, forwards the rest, remembers what it was told (as CoreDNS with the plugins
kubernetes, forward and cache does)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from packetwalk.addr import IPv4
from packetwalk.apps import dns
from packetwalk.apps.dns import NOERROR, SERVFAIL, Message, MessageError, Record
from packetwalk.apps.program import CLIENT, Clock, Close, Connect, Failed, Peer, Program, Receive, Say, Send
from packetwalk.apps.resolver import framed

SECOND = 1_000_000_000
READ_TIMEOUT = 2 * SECOND  # how long the plugin forward waits for an upstream
MAX_ALIASES = 7


class Answer(NamedTuple):
    """What a zone says: an rcode and records."""

    rcode: str = NOERROR
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()


class Zone(Protocol):
    """Names that a server knows itself."""

    def find(self, name: str, type: str) -> Answer | None:
        """The answer for a name; None if it is for others to say."""


class Forward(NamedTuple):
    """Where questions about names under `zone` go (`` is everything): to the first of `servers` that answers."""

    zone: str
    servers: tuple[IPv4, ...]
    proto: str = "udp"


@dataclass(frozen=True, eq=False)
class NameServer:
    """A server for UDP and TCP. cache, denial: seconds it remembers what was forwarded, at most; 0: not at all."""

    name: str
    zones: tuple[Zone, ...] = ()
    forwards: tuple[Forward, ...] = ()
    cache: int = 0
    denial: int = 0

    def __str__(self) -> str:
        return self.name

    def serve(self, peer: Peer, memory: dict[object, object]) -> Program[None]:
        """Answer a datagram, or all questions of a connection."""
        if peer.proto == "udp":
            response = yield from self._respond((yield Receive(CLIENT)), memory)
            if response is not None:
                yield Send(CLIENT, dns.encode(response, limit=dns.UDP_MAX))
            return
        stream = b""
        while more := (yield Receive(CLIENT)):
            stream += more
            data, rest = dns.unframe(stream)
            while data is not None:
                stream = rest
                response = yield from self._respond(data, memory)
                if response is not None:
                    yield Send(CLIENT, dns.frame(dns.encode(response)))
                data, rest = dns.unframe(stream)

    def _respond(self, data: bytes, memory: dict[object, object]) -> Program[Message | None]:
        try:
            query = dns.decode(data)
        except MessageError as error:
            yield Say(str(error))
            return None
        response = yield from self._answer(query, memory)
        yield Say(response)
        return response

    def _answer(self, query: Message, memory: dict[object, object]) -> Program[Message]:
        """The response to a query. An alias in one of our zones is followed, wherever it leads."""
        name, aliases = query.name, list[Record]()
        while (answer := self._known(name, query.type)) is not None:
            target = next((r.data.rstrip(".") for r in answer.answers if r.type == "CNAME" != query.type), "")
            if not target or len(aliases) > MAX_ALIASES:
                found = (*aliases, *answer.answers)
                rcode = NOERROR if aliases else answer.rcode
                return query._replace(response=True, rcode=rcode, answers=found, authority=answer.authority,
                                      additional=answer.additional, authoritative=True)  # fmt: skip
            aliases += answer.answers
            name = target
        response = yield from self._ask_others(query._replace(name=name), memory)
        if not aliases:
            return response._replace(id=query.id)
        return query._replace(response=True, answers=(*aliases, *response.answers), authoritative=True)

    def _known(self, name: str, type: str) -> Answer | None:
        return next((answer for zone in self.zones if (answer := zone.find(name, type)) is not None), None)

    def _ask_others(self, query: Message, memory: dict[object, object]) -> Program[Message]:
        """What was remembered, or what the first upstream that answers says; SERVFAIL if none does."""
        now = yield Clock()
        kept = memory.get((query.name, query.type))
        if isinstance(kept, _Kept) and kept.until > now:
            yield Say(f"remembers {query.type} {query.name}")
            return kept.message
        forward = next(f for f in self._forwards() if _within(query.name, f.zone))
        for server in forward.servers:
            try:
                response = yield from _forwarded(forward.proto, server, query)
            except Failed as error:
                yield Say(f"{server} does not answer: {error.errno}")
                continue
            seconds = self._lifetime(response)
            if seconds:
                memory[query.name, query.type] = _Kept(response, now + seconds * SECOND)
            return response
        return query._replace(response=True, rcode=SERVFAIL)

    def _forwards(self) -> Iterator[Forward]:
        yield from sorted(self.forwards, key=lambda f: -len(f.zone))
        yield Forward("", ())

    def _lifetime(self, response: Message) -> int:
        """Seconds to remember a response: as long as its records say, and not longer than we do."""
        most = self.cache if response.answers else self.denial
        told = [r.ttl for r in (*response.answers, *response.authority)]
        return min([most, *told]) if response.rcode != SERVFAIL else 0


class _Kept(NamedTuple):
    message: Message
    until: int


def _forwarded(proto: str, server: IPv4, query: Message) -> Program[Message]:
    """Ask one upstream."""
    fd = yield Connect(proto, server, dns.PORT)
    data = dns.encode(query)
    try:
        yield Send(fd, dns.frame(data) if proto == "tcp" else data)
        if proto == "tcp":
            response = yield from framed(fd, READ_TIMEOUT)
        else:
            response = dns.decode((yield Receive(fd, READ_TIMEOUT)))
    except MessageError:
        raise Failed("EBADMSG") from None
    yield Close(fd)
    return response


def _within(name: str, zone: str) -> bool:
    return not zone or name == zone or name.endswith(f".{zone}")
