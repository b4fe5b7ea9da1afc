"""packetwalk.engine.fetch: a URL followed over real packets, divided into exchanges."""

from dataclasses import dataclass

import pytest

from packetwalk.addr import IPv4
from packetwalk.apps.dns import NOERROR, NXDOMAIN, Record
from packetwalk.apps.http import Backend, Proxy, WebServer
from packetwalk.apps.nameserver import Answer, NameServer
from packetwalk.apps.program import Exchange
from packetwalk.apps.resolver import ResolvConf
from packetwalk.engine.fetch import divided, fetch
from packetwalk.exchanges import Fetch
from packetwalk.network import Network
from packetwalk.packet import Packet
from packetwalk.text import sections
from packetwalk.trace import Hop, Step
from tests.engine.test_walk import chain, last

WEB = "web.prod.svc.cluster.local"
SEARCH = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local")


@dataclass(frozen=True)
class Known:
    """A zone of one name."""

    addr: IPv4

    def find(self, name: str, type: str) -> Answer:
        if name != WEB:
            return Answer(NXDOMAIN)
        return Answer(NOERROR, (Record(name, "A", 30, str(self.addr)),) if type == "A" else ())


def shop() -> Network:
    """h0 behind a router that serves HTTP on 8080; h1 is its DNS, and a proxy in front of that server."""
    net = chain(1)
    addr = last(net)
    h1 = net["h1"]
    h1.listen(53, app=NameServer("coredns", (Known(addr),)))
    h1.listen(80, app=Proxy("ingress", (Backend("", "/", "web", ((IPv4("10.0.0.2"), 8080),)),)), protos=("tcp",))
    net["r1"].listen(8080, app=WebServer("r1"), protos=("tcp",))
    net.resolvers["h0"] = ResolvConf((addr,), SEARCH, 5)
    return net


@pytest.fixture(scope="module")
def fetched() -> Fetch:
    return fetch(shop(), "h0", "http://web.prod/hello")


def test_the_look_ups_then_the_connection(fetched: Fetch) -> None:
    assert fetched.delivered and len(fetched.exchanges) == 3
    assert fetched.queries == [
        ("web.prod.default.svc.cluster.local A, AAAA", "NXDOMAIN"),
        (f"{WEB} A, AAAA", "A 10.0.1.2, AAAA no data"),
    ]
    assert fetched[2].flow.about == "http GET /hello of web.prod"
    assert fetched.words == "200 OK: r1 saw 10.0.1.2:32768, forwarded for 10.0.0.1"


def test_each_exchange_is_a_trace_of_its_own(fetched: Fetch) -> None:
    for trace in fetched:
        assert trace.hops[0].room == "h0" and trace.hops[0].cause is None and trace.delivered
        assert [type(step.what).__name__ for _, step in trace.steps].count("Exchange") == 1
        for n, hop in enumerate(trace.hops):
            if hop.cause is not None:
                before = trace.hops[hop.cause[0]]
                assert hop.cause[0] < n and before.at <= hop.at and hop.cause[1] < len(before.steps)
    ends = [trace.hops[0].at for trace in fetched]
    assert ends == sorted(ends) and fetched.at >= ends[-1]
    assert {fetched[0].flow.dst, fetched[0].flow.dport, fetched[0].flow.kind} == {IPv4("10.0.1.2"), 53, "udp"}


def test_a_visit_is_divided_by_cause_and_not_by_time(fetched: Fetch) -> None:
    """The servers' farewells after the answer belong to the exchange they are of."""
    sent = [step for _, step in fetched[0].steps if step.stage == "transmit"]
    assert len(sent) == 8, "two questions and two answers over two wires"
    assert all(step.packet.payload for step in sent)


def test_nothing_is_lost_when_it_is_divided() -> None:
    about = Exchange("dns x", "udp", IPv4("10.0.0.9"), 53)
    step, begin = Step("transmit", "eth0", None, Packet(())), Step("program", "client", about, Packet(()))
    hops = [
        Hop("a", "", 0, [begin, step], [0, 1]),
        Hop("b", "eth0", 2, [step], [2], (0, 1)),
        Hop("a", "eth0", 3, [step, begin, step], [3, 4, 5], (1, 0)),
        Hop("b", "", 9, [step], [9], (1, 0)),
        Hop("b", "eth0", 9, [step], [9], (2, 2)),
    ]
    first, second = divided(hops, "a")
    assert [(h.room, len(h.steps), h.cause) for h in first] == [("a", 2, None), ("b", 1, (0, 1)), ("a", 1, (1, 0)),
                                                                ("b", 1, (1, 0))]  # fmt: skip
    assert [(h.room, len(h.steps), h.cause, h.at) for h in second] == [("a", 2, None, 4), ("b", 1, (0, 1), 9)]


def test_text_forms(fetched: Fetch) -> None:
    summary, full, minimal = str(fetched), fetched.full(), fetched.minimal()
    assert "dns A?" in summary and "coredns A web.prod.default.svc.cluster.local: NXDOMAIN" in summary
    assert summary.splitlines()[0] == "h0 http://web.prod/hello"
    assert summary.splitlines()[-1].startswith("http://web.prod/hello: 200 OK")
    assert summary.endswith("; 2 look-ups, 1 connection")
    assert "    program      coredns" in full and "ttl 64 > 63" in full
    assert len(minimal.splitlines()) == 4 and minimal.splitlines()[0].endswith(": NXDOMAIN")
    assert fetched._repr_html_().count("<details") == sum(len(sections(trace)) for trace in fetched)
    data = fetched.to_dict()
    assert data["delivered"] is True and len(data["exchanges"]) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize(("url", "words", "good"), [
    ("dns:web.prod", "A 10.0.1.2, AAAA no data", True),
    ("dns:nothing", "nothing: NXDOMAIN", False),
    (f"dns:{WEB}?type=SRV", f"{WEB}: no data", False),
    ("tcp://web.prod:80", "connected", True),
    ("tcp://web.prod:81", "ECONNREFUSED", False),
    ("http://10.0.1.2/", "200 OK: r1 saw 10.0.1.2:32768, forwarded for 10.0.0.1", True),
    ("http://web.prod:53/", "timeout", False),
])  # fmt: skip
def test_what_comes_of_it(url: str, words: str, good: bool) -> None:
    found = fetch(shop(), "h0", url)
    assert (found.words, found.delivered) == (words, good)


def test_a_dns_that_is_out_of_reach_is_asked_twice_for_two_names() -> None:
    net = shop()
    net["r1"].sysctl("net.ipv4.ip_forward", 0)
    found = fetch(net, "h0", "http://web.prod")
    assert not found.delivered and found.words == "web.prod: timeout"
    assert [(trace.result.outcome, trace.result.said) for trace in found] == [("timeout", "timeout")] * 4
    names = [about.partition(" ")[0] for about, _ in found.queries]
    assert names == ["web.prod.default.svc.cluster.local"] * 2 + ["web.prod"] * 2
    assert found.at >= 20 * 10**9


def test_the_network_is_as_before_and_the_next_one_may_go_on() -> None:
    net = shop()
    found = fetch(net, "h0", "http://web.prod", cold=True)
    assert not net["h0"].neighbours.entries and "arp" in str(found[0])
    assert "arp" not in str(found[2]), "the first exchange has learned for the others"
    assert isinstance(found.after, Network) and fetch(found.after, "h0", "http://web.prod", cold=True).delivered


def test_what_cannot_be() -> None:
    with pytest.raises(KeyError, match="no room 'x'"):
        fetch(shop(), "x", "http://web")
    with pytest.raises(ValueError, match="h1 cannot look 'web' up"):
        fetch(shop(), "h1", "http://web")
