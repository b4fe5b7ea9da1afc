"""packetwalk.apps.nameserver: zones, forwarding, aliases and what is remembered, played by hand."""

from typing import Any

from packetwalk.addr import IPv4
from packetwalk.apps import dns
from packetwalk.apps.dns import NOERROR, NXDOMAIN, SERVFAIL, Message, Record, decode, encode
from packetwalk.apps.nameserver import Answer, Forward, NameServer
from packetwalk.apps.program import CLIENT, Call, Clock, Close, Connect, Failed, Peer, Receive, Send
from tests.apps.play import play, said

UPSTREAM, OTHER = IPv4("203.0.113.10"), IPv4("203.0.113.11")
UDP, TCP = Peer("udp", IPv4("10.0.0.1"), 40000), Peer("tcp", IPv4("10.0.0.1"), 40000)
RECORDS = {
    ("web.prod", "A"): "10.96.1.1", ("db.prod", "CNAME"): "db.example.com.", ("near.prod", "CNAME"): "web.prod.",
    ("loop.prod", "CNAME"): "loop.prod.",
}  # fmt: skip


class Prod:
    """A zone with everything under prod."""

    def find(self, name: str, type: str) -> Answer | None:
        if not name.endswith("prod"):
            return None
        kinds = [kind for kind in (type, "CNAME") if (name, kind) in RECORDS]
        if kinds:
            return Answer(NOERROR, (Record(name, kinds[0], 30, RECORDS[name, kinds[0]]),))
        return Answer(NOERROR if any(n == name for n, _ in RECORDS) else NXDOMAIN)


class World:
    """The client's queries in, the responses out; upstreams answer what they know."""

    def __init__(self, *queries: bytes, silent: tuple[IPv4, ...] = (), now: int = 0) -> None:
        self.queries, self.silent, self.now = list(queries), silent, now
        self.out: list[bytes] = []
        self.upstream: list[tuple[str, IPv4]] = []
        self.pending = b""

    def __call__(self, call: Call) -> object:
        if isinstance(call, Clock):
            return self.now
        if isinstance(call, Connect):
            self.upstream.append((call.proto, call.addr))
            return 1
        if isinstance(call, Send):
            if call.fd == CLIENT:
                self.out.append(call.data)
            else:
                tcp = self.upstream[-1][0] == "tcp"
                query = decode(call.data[2:] if tcp else call.data)
                record = Record(query.name, "A", 60, "203.0.113.9")
                data = encode(query._replace(response=True, answers=(record,)))
                self.pending = dns.frame(data) if tcp else data
            return None
        if isinstance(call, Receive):
            if call.fd == CLIENT:
                return self.queries.pop(0) if self.queries else b""
            return Failed("ETIMEDOUT") if self.upstream[-1][1] in self.silent else self.pending
        assert isinstance(call, Close)
        return None


def ask(server: NameServer, name: str, kind: str = "A", world: World | None = None,
        memory: dict[object, object] | None = None) -> tuple[Message, list[str]]:  # fmt: skip
    world = world or World()
    world.queries = [encode(Message(5, name, kind))]
    calls, _ = play(server.serve(UDP, {} if memory is None else memory), world)
    return decode(world.out[-1]), said(calls)


SERVER = NameServer("coredns", (Prod(),), (Forward("", (UPSTREAM, OTHER)),), cache=30, denial=5)


def test_it_answers_from_its_zone() -> None:
    response, told = ask(SERVER, "web.prod")
    assert (response.id, response.said, response.authoritative) == (5, "10.96.1.1", True)
    assert told == ["A web.prod: 10.96.1.1"]
    assert ask(SERVER, "web.prod", "AAAA")[0].said == "no data"
    assert ask(SERVER, "x.prod")[0].rcode == NXDOMAIN


def test_it_forwards_the_rest() -> None:
    world = World()
    response, _ = ask(SERVER, "example.com", world=world)
    assert (response.id, response.said, world.upstream) == (5, "203.0.113.9", [("udp", UPSTREAM)])


def test_the_next_upstream_and_then_servfail() -> None:
    world = World(silent=(UPSTREAM,))
    assert ask(SERVER, "example.com", world=world)[0].said == "203.0.113.9"
    assert [addr for _, addr in world.upstream] == [UPSTREAM, OTHER]
    assert ask(SERVER, "example.com", world=World(silent=(UPSTREAM, OTHER)))[0].rcode == SERVFAIL
    assert ask(NameServer("alone", (Prod(),)), "example.com")[0].rcode == SERVFAIL


def test_an_alias_is_followed_inside_and_outside() -> None:
    near, _ = ask(SERVER, "near.prod")
    assert [r.type for r in near.answers] == ["CNAME", "A"] and near.said == "CNAME web.prod. 10.96.1.1"
    far, _ = ask(SERVER, "db.prod")
    assert [(r.name, r.type) for r in far.answers] == [("db.prod", "CNAME"), ("db.example.com", "A")]
    assert ask(SERVER, "db.prod", "CNAME")[0].said == "db.example.com."


def test_an_alias_of_itself_ends() -> None:
    assert ask(SERVER, "loop.prod")[0].rcode == NOERROR


def test_what_was_forwarded_is_remembered_for_a_while() -> None:
    memory: dict[object, object] = {}
    first, second, late = World(), World(now=29_000_000_000), World(now=31_000_000_000)
    for world in (first, second, late):
        assert ask(SERVER, "example.com", world=world, memory=memory)[0].said == "203.0.113.9"
    assert [len(world.upstream) for world in (first, second, late)] == [1, 0, 1]


def test_a_zone_has_its_own_upstream() -> None:
    server = NameServer("node-local-dns", (), (Forward("prod", (OTHER,), "tcp"), Forward("", (UPSTREAM,))))
    world = World()
    ask(server, "web.prod", world=world)
    ask(server, "webprod", world=world)
    assert world.upstream == [("tcp", OTHER), ("udp", UPSTREAM)]


def test_a_connection_carries_several_questions() -> None:
    one, two = (dns.frame(encode(Message(n, name, "A"))) for n, name in ((1, "web.prod"), (2, "x.prod")))
    stream = one + two
    world = World(stream[:5], stream[5:])
    play(SERVER.serve(TCP, {}), world)
    responses: list[Any] = [decode(data[2:]) for data in world.out]
    assert [(r.id, r.said) for r in responses] == [(1, "10.96.1.1"), (2, NXDOMAIN)]


def test_what_is_no_question_gets_no_answer() -> None:
    world = World(b"hello")
    calls, _ = play(SERVER.serve(UDP, {}), world)
    assert world.out == [] and "no DNS message" in said(calls)[0]
