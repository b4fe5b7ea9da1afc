"""packetwalk.apps.resolver: the queries a C library sends, played by hand."""

import pytest

from packetwalk.addr import IPv4
from packetwalk.apps import dns
from packetwalk.apps.dns import NXDOMAIN, SERVFAIL, Message, Record
from packetwalk.apps.program import Call, Clock, Close, Connect, Failed, Receive, Send
from packetwalk.apps.resolver import SECOND, ResolvConf, Resolved, resolve
from tests.apps.play import play, said

SERVER, SECOND_SERVER = IPv4("10.96.0.10"), IPv4("10.96.0.11")
SHOP = ResolvConf((SERVER,), ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local"), 5)


class Servers:
    """Name servers that know some A records; `rcodes` and `silent` say who behaves otherwise."""

    def __init__(
        self, *names: str, silent: tuple[IPv4, ...] = (), failing: tuple[IPv4, ...] = (), many: int = 1
    ) -> None:
        self.names, self.silent, self.failing, self.many = names, silent, failing, many
        self.asked: list[str] = []
        self.open: dict[int, tuple[Connect, list[bytes]]] = {}
        self.timeouts: list[int] = []

    def __call__(self, call: Call) -> object:
        if isinstance(call, Connect):
            fd = len(self.open)
            self.open[fd] = call, []
            return fd
        if isinstance(call, Send):
            to, answers = self.open[call.fd]
            tcp = to.proto == "tcp"
            query = dns.decode(call.data[2:] if tcp else call.data)
            self.asked.append(f"{query.type} {query.name}")
            if to.addr not in self.silent and not (query.name.startswith("deaf") and self.lose()):
                response = self.answer(query, to.addr)
                answers.append(dns.frame(dns.encode(response)) if tcp else dns.encode(response, limit=512))
        elif isinstance(call, Receive):
            _, answers = self.open[call.fd]
            self.timeouts.append(call.timeout)
            return answers.pop(0) if answers else Failed("ETIMEDOUT")
        elif isinstance(call, Clock):
            return 0
        else:
            assert isinstance(call, Close)
        return None

    def lose(self) -> bool:
        """Whether the question just asked gets no answer: the first two for an IPv6 address."""
        return self.asked[-1].startswith("AAAA") and self.asked.count(self.asked[-1]) <= 2

    def answer(self, query: Message, server: IPv4) -> Message:
        if server in self.failing:
            return query._replace(response=True, rcode=SERVFAIL)
        if query.name not in self.names:
            return query._replace(response=True, rcode=NXDOMAIN)
        records = tuple(Record(query.name, "A", 30, f"10.96.1.{n}") for n in range(1, self.many + 1))
        return query._replace(response=True, answers=records if query.type == "A" else ())


def looked_up(conf: ResolvConf, name: str, servers: Servers) -> Resolved:
    _, found = play(resolve(conf, name), servers)
    assert isinstance(found, Resolved)
    return found


@pytest.mark.parametrize(("name", "there", "asked"), [
    ("web", "web.shop.svc.cluster.local", ["web.shop.svc.cluster.local"]),
    ("web.prod", "web.prod.svc.cluster.local", ["web.prod.shop.svc.cluster.local", "web.prod.svc.cluster.local"]),
    ("web.prod.svc", "web.prod.svc.cluster.local",
     ["web.prod.svc.shop.svc.cluster.local", "web.prod.svc.svc.cluster.local", "web.prod.svc.cluster.local"]),
    ("example.com", "example.com",
     ["example.com.shop.svc.cluster.local", "example.com.svc.cluster.local", "example.com.cluster.local",
      "example.com"]),
    ("web.prod.svc.cluster.local.", "web.prod.svc.cluster.local", ["web.prod.svc.cluster.local"]),
    ("a.b.c.d.e.f", "a.b.c.d.e.f", ["a.b.c.d.e.f"]),
])  # fmt: skip
def test_the_search_path(name: str, there: str, asked: list[str]) -> None:
    servers = Servers(there)
    found = looked_up(SHOP, name, servers)
    assert (found.name, found.addresses) == (there, (IPv4("10.96.1.1"),))
    assert servers.asked == [f"{kind} {n}" for n in asked for kind in ("A", "AAAA")], "both types, always together"


def test_a_name_that_is_nowhere() -> None:
    servers = Servers()
    calls, found = play(resolve(SHOP, "nope"), servers)
    assert (found.rcode, found.addresses) == (NXDOMAIN, ())
    assert len(servers.asked) == 8 and said(calls).count("NXDOMAIN") == 4


def test_enough_dots_are_tried_as_they_are_first() -> None:
    servers = Servers()
    looked_up(ResolvConf((SERVER,), ("corp.example",)), "db.prod", servers)
    assert servers.asked[::2] == ["A db.prod", "A db.prod.corp.example"]


def test_silence_is_waited_out_twice_and_ends_the_search() -> None:
    servers = Servers("web.shop.svc.cluster.local", silent=(SERVER,))
    assert looked_up(SHOP, "web", servers).rcode == "timeout"
    assert servers.timeouts == [5 * SECOND] * 4
    assert servers.asked[::2] == ["A web.shop.svc.cluster.local"] * 2 + ["A web"] * 2, "the name itself is still tried"
    assert len(servers.open) == 2, "a socket for each name, whatever the attempts"


def test_an_answer_that_stays_out_makes_it_careful() -> None:
    """Both from one socket; then one after the other; then each from a socket of its own (send_dg)."""
    servers = Servers("deaf.example", "deaf2.example")
    calls, found = play(resolve(ResolvConf((SERVER,)), "deaf.example"), servers)
    assert found.addresses and servers.asked == ["A deaf.example", "AAAA deaf.example"] * 3
    assert said(calls) == [
        "dns deaf.example A, AAAA", "A 10.96.1.1, AAAA timeout", "dns deaf.example A, AAAA",
        "A 10.96.1.1, AAAA timeout", "dns deaf.example A, AAAA", "A 10.96.1.1, AAAA no data",
    ]  # fmt: skip
    sent = [call.fd for call in calls if isinstance(call, Send)]
    assert len(set(sent[:4])) == 1 and len({*sent[3:]}) == 3


@pytest.mark.parametrize("fault", ["silent", "failing"])
def test_the_next_server_is_asked(fault: str) -> None:
    faults: dict[str, tuple[IPv4, ...]] = {fault: (SERVER,)}
    servers = Servers("web.shop.svc.cluster.local", **faults)  # type: ignore[arg-type]
    conf = ResolvConf((SERVER, SECOND_SERVER), SHOP.search, 5)
    assert looked_up(conf, "web", servers).addresses == (IPv4("10.96.1.1"),)


def test_a_truncated_answer_is_asked_for_again_over_tcp() -> None:
    servers = Servers("web.shop.svc.cluster.local", many=40)
    calls, found = play(resolve(SHOP, "web"), servers)
    assert len(found.addresses) == 40
    assert [c.proto for c in calls if isinstance(c, Connect)] == ["udp", "tcp"]


def test_the_hosts_file_goes_first() -> None:
    conf = ResolvConf(hosts={"shop.example": IPv4("192.168.56.11")})
    assert looked_up(conf, "shop.example", Servers()).addresses == (IPv4("192.168.56.11"),)


def test_the_file_it_came_from() -> None:
    assert str(SHOP).splitlines() == [
        "search shop.svc.cluster.local svc.cluster.local cluster.local", "nameserver 10.96.0.10", "options ndots:5",
    ]  # fmt: skip
    assert str(ResolvConf((SERVER,))) == "nameserver 10.96.0.10"
