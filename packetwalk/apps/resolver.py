"""The stub resolver of a C library: which names it asks for, whom and in which order (glibc's res_search, res_send)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple
from zlib import crc32

from packetwalk.addr import IPv4
from packetwalk.apps import dns
from packetwalk.apps.dns import NOERROR, NXDOMAIN, SERVFAIL, Message, MessageError
from packetwalk.apps.program import Close, Connect, Exchange, Failed, Outcome, Program, Receive, Say, Send

SECOND = 1_000_000_000
TIMEOUT = "timeout"
ADDRESSES = ("A", "AAAA")
MAX_SERVERS = 3  # MAXNS: more are ignored


@dataclass(frozen=True)
class ResolvConf:
    """/etc/resolv.conf, and what /etc/hosts knows, which goes first. timeout in seconds."""

    nameservers: tuple[IPv4, ...] = ()
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout: int = 5
    attempts: int = 2
    hosts: Mapping[str, IPv4] = field(default_factory=lambda: MappingProxyType({}))

    def __str__(self) -> str:
        """As the file has it; what is as by default is left out."""
        lines = [f"search {' '.join(self.search)}"] if self.search else []
        lines += [f"nameserver {addr}" for addr in self.nameservers]
        usual = {"ndots": 1, "timeout": 5, "attempts": 2}
        options = [f"{name}:{getattr(self, name)}" for name, value in usual.items() if getattr(self, name) != value]
        return "\n".join([*lines, *([f"options {' '.join(options)}"] if options else [])])

    def candidates(self, name: str) -> Iterator[str]:
        """The names asked for in turn until one of them is there (res_search)."""
        if name.endswith("."):
            yield name.rstrip(".")
            return
        as_is_first = name.count(".") >= self.ndots
        if as_is_first:
            yield name
        yield from (f"{name}.{domain}" for domain in self.search)
        if not as_is_first:
            yield name


class Resolved(NamedTuple):
    """What came of a name: the one that was there, or the last one; rcode may also be `timeout` or an errno."""

    name: str
    rcode: str
    answers: tuple[Message, ...] = ()

    @property
    def addresses(self) -> tuple[IPv4, ...]:
        return tuple(IPv4(r.data) for m in self.answers for r in m.answers if r.type == "A")

    @property
    def found(self) -> bool:
        """Whether there is a record of a type that was asked for."""
        return any(r.type == m.type for m in self.answers for r in m.answers)


def resolve(conf: ResolvConf, name: str, types: tuple[str, ...] = ADDRESSES) -> Program[Resolved]:
    """Look a name up as getaddrinfo does: both types of address at once from one socket, candidate after candidate.

    A name that is not there, has no such record or whose server fails leads to the next candidate; silence ends it.
    """
    if name.rstrip(".") in conf.hosts and types == ADDRESSES:
        known = name.rstrip(".")
        addr = conf.hosts[known]
        yield Say(Outcome(f"{known} is {addr} in /etc/hosts"))
        records = (dns.Record(known, "A", 0, str(addr)),)
        return Resolved(known, NOERROR, (Message(0, known, "A", True, answers=records),))
    last = Resolved(name, NXDOMAIN)
    for candidate in conf.candidates(name):
        got = yield from _ask(conf, candidate.lower(), types)
        if got.found:
            return got
        if got.rcode not in (NOERROR, NXDOMAIN, SERVFAIL):
            return got
        last = got if last.rcode == NXDOMAIN else last  # no data somewhere says more than not there
    return last


def _ask(conf: ResolvConf, name: str, types: tuple[str, ...]) -> Program[Resolved]:
    """Ask the servers for one name, one after another and all of them again (res_send)."""
    last = Resolved(name, TIMEOUT)
    servers = conf.nameservers[:MAX_SERVERS]
    for _ in range(conf.attempts):
        for nth, server in enumerate(servers):
            seconds = (conf.timeout << nth) // (len(servers) if nth else 1) or 1
            last = yield from _ask_one(server, name, types, seconds * SECOND)
            if last.rcode in (NOERROR, NXDOMAIN):
                return last
        if last.rcode == SERVFAIL:
            break
    return last


def _ask_one(server: IPv4, name: str, types: tuple[str, ...], timeout: int) -> Program[Resolved]:
    """One exchange with one server. A truncated answer is asked for again over TCP (RFC 7766 5)."""
    queries = {m.id: m for m in (Message(crc32(f"{name} {kind}".encode()) & 0xFFFF, name, kind) for kind in types)}
    sent = [dns.encode(query) for query in queries.values()]
    yield Say(Exchange(f"dns {name} {', '.join(types)}", "udp", server, dns.PORT, len(sent[0])))
    got: dict[int, Message] = {}
    try:
        fd = yield Connect("udp", server, dns.PORT)
        for data in sent:
            yield Send(fd, data)
        while len(got) < len(queries):
            data = yield Receive(fd, timeout)
            with suppress(MessageError):  # what is no answer to us is waited out
                answer = dns.decode(data)
                if answer.id in queries and answer.name == name:
                    got[answer.id] = answer
        yield Close(fd)
    except Failed as error:
        rcode = TIMEOUT if error.errno == "ETIMEDOUT" else error.errno
        yield Say(Outcome(rcode, error.errno, good=False))
        return Resolved(name, rcode)
    answers = tuple(got[ident] for ident in queries)
    rcode = answers[0].rcode if len({a.rcode for a in answers}) == 1 else NOERROR
    found = Resolved(name, rcode, answers)
    yield Say(Outcome(_words(answers), good=found.found))
    for answer in answers:
        if answer.truncated:
            again = yield from over_tcp(server, queries[answer.id])
            found = found._replace(answers=tuple(again or a if a is answer else a for a in found.answers))
    return found


def over_tcp(server: IPv4, query: Message) -> Program[Message | None]:
    """The same question over TCP; None if that fails."""
    data = dns.frame(dns.encode(query))
    yield Say(Exchange(f"dns {query.name} {query.type} over tcp", "tcp", server, dns.PORT, len(data)))
    try:
        fd = yield Connect("tcp", server, dns.PORT)
        yield Send(fd, data)
        answer = yield from framed(fd)
        yield Close(fd)
    except (Failed, MessageError) as error:
        yield Say(Outcome(str(error), getattr(error, "errno", "EBADMSG"), good=False))
        return None
    yield Say(Outcome(answer.said))
    return answer


def framed(fd: int, timeout: int = 0) -> Program[Message]:
    """Read one message from a TCP connection. Failed("EPIPE") if it ends before."""
    stream = b""
    while True:
        data, _ = dns.unframe(stream)
        if data is not None:
            return dns.decode(data)
        more = yield Receive(fd, timeout)
        if not more:
            raise Failed("EPIPE")
        stream += more


def _words(answers: tuple[Message, ...]) -> str:
    """`A 10.96.0.1, AAAA no data`; just once what they all say."""
    said = {a.said for a in answers}
    if len(said) == 1 and (len(answers) > 1 or not answers[0].answers):
        return said.pop()
    return ", ".join(f"{a.type} {'truncated' if a.truncated else a.said}" for a in answers)
