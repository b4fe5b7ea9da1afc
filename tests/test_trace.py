"""The trace as a program meets it: hops, steps, times, totals, and its forms."""

import json
from html.parser import HTMLParser

import pytest

import packetwalk as pw


@pytest.fixture(scope="module")
def trace() -> pw.Trace:
    net = pw.load_snapshot(pw.SAMPLE)
    return pw.walk(net, pw.Flow("icmp", "a", pw.address_of(net, "b"), to="b"))


def test_a_room_leads_to_its_first_visit_and_a_stage_to_its_step(trace: pw.Trace) -> None:
    step = trace["node-1"].step("encap")
    assert str(step.packet) == "Ip/Ip/Icmp 104 bytes" and step.dev == "tunl0"
    assert str(step.what) == "192.168.56.0/24 dev eth0 proto kernel scope link src 192.168.56.11"
    route = trace["node-1"].step("route_in").what
    assert str(route) == "10.244.2.0/26 via 192.168.56.12 dev tunl0 proto bird onlink"
    assert trace["node-2"].step("decap").dev == "tunl0"  # what comes out of the tunnel is the same visit
    assert trace["node-2"].step("route_in", 1).dev.startswith("cali")


def test_what_is_not_there_is_told_with_what_is(trace: pw.Trace) -> None:
    with pytest.raises(KeyError, match=r"never came to 'out'; it went by a, node-1, fabric, node-2, b"):
        trace["out"]
    with pytest.raises(KeyError, match=r"node-1 has no step 'decap'; it has receive, jump, rule"):
        trace["node-1"].step("decap")


def test_times_add_up(trace: pw.Trace) -> None:
    for hop in trace:
        assert hop.times == sorted(hop.times) and hop.at <= hop.times[0]
        assert hop.took == hop.end - hop.at == hop.times[-1] - hop.at
    way = list(trace)
    for hop in way[1:]:
        assert hop.cause is not None
        cause = way[hop.cause[0]]
        assert cause.steps[hop.cause[1]].stage == ("decap" if hop.why == "napi" else "transmit")
        assert hop.at >= cause.times[hop.cause[1]]
    assert sum(hop.took for hop in way) == way[-1].end  # one packet, one place at a time


def test_costs_are_what_a_visit_lasts(trace: pw.Trace) -> None:
    from packetwalk.engine.costs import DEFAULT_COSTS

    for hop in trace:
        assert hop.took == sum(DEFAULT_COSTS.get(step.stage, 0) for step in hop.steps)


def test_the_forms(trace: pw.Trace) -> None:
    assert str(trace).splitlines()[0].startswith("icmp a 10.244.1.2 > b 10.244.2.2 echo request")
    assert trace.minimal().count("\n") == 0 and trace.minimal().startswith("a > node-1 [+ipip] > fabric")
    assert trace.full().count("\n") > str(trace).count("\n") > trace.minimal().count("\n")
    assert str(trace["node-1"]).splitlines()[0].split() == ["receive", "cali1d1fbd8ffd0", "-", "eth"]


def test_the_data_form_is_plain_complete_and_counted(trace: pw.Trace) -> None:
    data = json.loads(json.dumps(trace.to_dict()))
    assert data["version"] == 4
    assert {"flow", "hops", "network", "note", "result", "totals", "unevaluated", "version"} <= data.keys()
    assert [hop["room"] for hop in data["hops"]] == [hop.room for hop in trace]
    for told, hop in zip(data["hops"], trace, strict=True):
        assert (told["at_ns"], told["took_ns"]) == (hop.at, hop.took)
        assert [s["stage"] for s in told["steps"]] == [s.stage for s in hop.steps]
    encap = next(s for s in data["hops"][1]["steps"] if s["stage"] == "encap")
    assert [h["name"] for h in encap["packet"]["headers"]] == ["Ip", "Ip", "Icmp"]
    assert encap["packet"]["headers"][0]["src"] == "192.168.56.11" and encap["packet"]["size"] == 104
    assert data["totals"] == {"rooms": 5, "tunnels": {"ipip": 20}, "ttl": 2, "path_mtu": 1480, "drops": 0} | {
        k: v for k, v in data["totals"].items() if k not in ("rooms", "tunnels", "ttl", "path_mtu", "drops")
    }


class Balance(HTMLParser):
    """Collects the tags that are open, and complains about one that closes another."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.scripts += tag == "script"
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_notebook_shows_it_whole_and_safe(trace: pw.Trace) -> None:
    page = Balance()
    page.feed(trace._repr_html_())
    assert not page.open and page.scripts == 2, "the data and the player"
    assert "10.244.2.0/26 via 192.168.56.12 dev tunl0" in page.text and "104 bytes" in page.text


def test_names_from_a_cluster_are_escaped() -> None:
    from packetwalk.netns.device import Veth
    from packetwalk.netns.namespace import Netns

    net = pw.Network("<script>alert(1)</script>")
    room = net.add(Netns("<b>"))
    room.link_add("<i>", Veth(mac=pw.Mac(0x0200_0000_0001)))
    room.addr_add("<i>", "10.0.0.1/24")
    html = pw.walk(net, pw.Flow("icmp", "<b>", pw.IPv4("10.0.0.9")))._repr_html_()
    assert "<b>" not in html and "<i>" not in html and "<script>alert" not in html and "&lt;i&gt;" in html
    page = Balance()
    page.feed(html)
    assert not page.open and page.scripts == 2 and "<b>" in page.text and "<script>alert(1)</script>" in page.text


def test_the_same_walk_gives_the_same_bytes() -> None:
    def once() -> str:
        net = pw.load_snapshot(pw.SAMPLE, seed=3)
        return json.dumps(pw.walk(net, pw.Flow("tcp", "a", pw.address_of(net, "b"), 8080), cold=True).to_dict())

    assert once() == once()


def test_what_was_learned_is_there_afterwards_and_can_be_walked_on() -> None:
    net = pw.load_snapshot(pw.SAMPLE)
    flow = pw.Flow("icmp", "a", pw.address_of(net, "b"))
    cold = pw.walk(net, flow, cold=True)
    assert isinstance(cold.after, pw.Network)
    again = pw.walk(cold.after, flow, cold=True)
    assert any(step.stage == "hold" for _, step in cold.steps)
    assert not any(step.stage == "hold" for _, step in again.steps)


def test_whom_a_room_saw(trace: pw.Trace) -> None:
    assert trace.source_seen("b") == trace.source_seen() == pw.address_of(pw.load_snapshot(pw.SAMPLE), "a")
    assert trace.source_seen("node-1") is None and trace.source_seen("a") is None
