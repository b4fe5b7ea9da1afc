"""The stub resolver of a C library: which names it asks for, whom and in which order (glibc's res_search, res_send)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from packetwalk.addr import IPv4
from packetwalk.apps import dns
from packetwalk.apps.dns import NOERROR, NXDOMAIN, SERVFAIL, Message, MessageError
from packetwalk.apps.program import Clock, Close, Connect, Exchange, Failed, Outcome, Program, Receive, Say, Send

SECOND = 1_000_000_000
TIMEOUT = "timeout"
ADDRESSES = ("A", "AAAA")
MAX_SERVERS = 3  # MAXNS: more are ignored
MODES = TOGETHER, SINGLE, REOPENED = "together", "single-request", "single-request-reopen"


@dataclass(frozen=True)
class ResolvConf:
    """/etc/resolv.conf, and what /etc/hosts knows, which goes first. timeout in seconds."""

    nameservers: tuple[IPv4, ...] = ()
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout: int = 5
    attempts: int = 2
    hosts: Mapping[str, IPv4] = field(default_factory=dict)

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


class Stub:
    """The resolver of one process. mode: how it asks for both types; it grows more careful when an answer stays out."""

    def __init__(self, conf: ResolvConf) -> None:
        self.conf = conf
        self.mode = TOGETHER

    def grow_careful(self) -> bool:
        """An answer came and the other did not: perhaps the server dislikes two at once (send_dg). Whether to retry."""
        retry = self.mode != MODES[-1]
        self.mode = MODES[min(MODES.index(self.mode) + 1, len(MODES) - 1)]
        return retry


def resolve(conf: ResolvConf, name: str, types: tuple[str, ...] = ADDRESSES) -> Program[Resolved]:
    """Look a name up as getaddrinfo does: both types of address at once from one socket, candidate after candidate.

    A name that is not there, has no such record or whose server fails leads to the next candidate; silence about one of
    the search list ends that list.
    """
    known = name.rstrip(".")
    if known in conf.hosts and types == ADDRESSES:
        addr = conf.hosts[known]
        yield Say(f"{known} is {addr} in /etc/hosts")
        records = (dns.Record(known, "A", 0, str(addr)),)
        return Resolved(known, NOERROR, (Message(0, known, "A", True, answers=records),))
    stub, last, silent = Stub(conf), Resolved(name, NXDOMAIN), False
    for candidate in conf.candidates(name):
        if silent and candidate != known:
            continue
        got = yield from _ask(stub, candidate.lower(), types)
        if got.found:
            return got
        silent = candidate != known and got.rcode not in (NOERROR, NXDOMAIN, SERVFAIL)
        last = got if last.rcode == NXDOMAIN else last  # no data somewhere says more than not there
    return last


def _ask(stub: Stub, name: str, types: tuple[str, ...]) -> Program[Resolved]:
    """Ask the servers for one name, one after another and all of them again, each by one socket (res_send)."""
    last, files = Resolved(name, TIMEOUT), dict[IPv4, int]()
    servers = stub.conf.nameservers[:MAX_SERVERS]
    for _ in range(stub.conf.attempts):
        for nth, server in enumerate(servers):
            seconds = (stub.conf.timeout << nth) // (len(servers) if nth else 1) or 1
            last = yield from _ask_one(stub, server, name, types, seconds * SECOND, files)
            if last.rcode in (NOERROR, NXDOMAIN):
                yield from _closed(files)
                return last
    yield from _closed(files)
    return last


def _ask_one(stub: Stub, server: IPv4, name: str, types: tuple[str, ...], timeout: int,
             files: dict[IPv4, int]) -> Program[Resolved]:  # fmt: skip
    """One exchange with one server. A truncated answer is asked for again over TCP (RFC 7766 5)."""
    queries = [Message(crc32(f"{name} {kind}".encode()) & 0xFFFF, name, kind) for kind in types]
    about = Exchange(f"dns {name} {', '.join(types)}", "udp", server, dns.PORT, len(dns.encode(queries[0])))
    yield Say(about)
    try:
        got = yield from _sent(stub, server, queries, timeout, files)
        while len(got) < len(queries) and stub.grow_careful():
            words = ", ".join(f"{q.type} {got[q.id].said if q.id in got else TIMEOUT}" for q in queries)
            yield Say(Outcome(words, "ETIMEDOUT", good=False))
            yield Say(about)
            got = yield from _sent(stub, server, queries, timeout, files)
    except Failed as error:
        rcode = TIMEOUT if error.errno == "ETIMEDOUT" else error.errno
        yield Say(Outcome(rcode, error.errno, good=False))
        return Resolved(name, rcode)
    answers = tuple(got[query.id] for query in queries if query.id in got)
    rcode = answers[0].rcode if len({a.rcode for a in answers}) == 1 else NOERROR
    found = Resolved(name, rcode, answers)
    yield Say(Outcome(_words(answers), good=found.found))
    for answer in answers:
        if answer.truncated:
            again = yield from over_tcp(server, answer)
            found = found._replace(answers=tuple(again or a if a is answer else a for a in found.answers))
    return found


def _sent(stub: Stub, server: IPv4, queries: list[Message], timeout: int,
          files: dict[IPv4, int]) -> Program[dict[int, Message]]:  # fmt: skip
    """Send the queries as the mode says; {id: answer} of those that came in time. Failed("ETIMEDOUT") for none."""
    got: dict[int, Message] = {}
    deadline = (yield Clock()) + timeout
    for batch in [queries] if stub.mode == TOGETHER else [[query] for query in queries]:
        if stub.mode == REOPENED:
            yield from _closed(files)
        if server not in files:
            files[server] = yield Connect("udp", server, dns.PORT)
        for query in batch:
            yield Send(files[server], dns.encode(query))
        while any(query.id not in got for query in batch):
            try:
                data = yield Receive(files[server], max(deadline - (yield Clock()), 1))
            except Failed as error:
                if error.errno == "ETIMEDOUT" and got:
                    return got
                raise
            with suppress(MessageError):  # what is no answer to us is waited out
                answer = dns.decode(data)
                if any((answer.id, answer.name, answer.type) == query[:3] for query in batch):
                    got[answer.id] = answer
    return got


def _closed(files: dict[IPv4, int]) -> Program[None]:
    for fd in files.values():
        yield Close(fd)
    files.clear()


def over_tcp(server: IPv4, about: Message) -> Program[Message | None]:
    """The question of a message over TCP; None if that fails."""
    data = dns.frame(dns.encode(Message(about.id, about.name, about.type)))
    yield Say(Exchange(f"dns {about.name} {about.type} over tcp", "tcp", server, dns.PORT, len(data)))
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
