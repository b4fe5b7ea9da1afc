"""A walk as HTML: whole without a script, and with the data that the player in trace.js reads.

The player itself is driven by a browser in tests/browser.
"""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import packetwalk as pw
from packetwalk.cli import main
from packetwalk.packet import Geneve, Ip, Packet, Udp, Vxlan, size
from packetwalk.source import from_mode
from packetwalk.trace import Trace
from packetwalk.view.html.packets import Packets, fields
from tests.test_trace import Balance


def walked(mode: str, src: str, dst: str, **more: Any) -> Trace:
    net = from_mode(mode, nodes=2, racks=1, seed=0)
    return pw.walk(net, pw.between(net, src, dst, **more))


@pytest.fixture(scope="module")
def trace() -> Trace:
    return walked("calico-ipip", "a", "b")


class Page(HTMLParser):
    """The rows of the tables and the sections around them, with their data-... attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[dict[str, str]] = []
        self.sections: list[dict[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name.removeprefix("data-"): value or "" for name, value in attrs}
        {"tr": self.rows, "details": self.sections}.get(tag, []).append(found)


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'type="application/json">(.*?)</script>', html)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_a_row_leads_to_the_packet_before_and_after(trace: Trace) -> None:
    html = trace._repr_html_()
    data, page = data_of(html), Page(html)
    kinds = [[data["headers"][h][0] for h in packet[0]] for packet in data["packets"]]
    encap = trace["node-1"].step("encap")
    row = next(r for r in page.rows if data["packets"][int(r["packet"])][2] == size(encap.packet))
    assert kinds[int(row["before"])] == ["ip", "icmp"] and kinds[int(row["packet"])] == ["ip", "ip", "icmp"]
    assert data["packets"][int(row["packet"])][1:] == ["56 bytes of payload", 104]
    outer = data["headers"][data["packets"][int(row["packet"])][0][0]]
    assert outer == ["ip", "20 bytes", outer[2]]
    assert {"src": "192.168.56.11", "dst": "192.168.56.12", "proto": "4 ipip", "ttl": "63"}.items() <= dict(
        map(tuple, outer[2])
    ).items()


def test_rows_say_when_and_how_long(trace: Trace) -> None:
    page = Page(trace._repr_html_())
    assert [s["name"] for s in page.sections[:3]] == ["a", "node-1", "fabric"]
    assert [(r["at"], r["took"]) for r in page.rows[:3]] == [("220", "220"), ("290", "70"), ("610", "320")]
    assert page.sections[1]["wire"] == "0-1" and page.sections[1]["room"] == "1"


def test_a_first_packet_of_a_visit_is_compared_with_the_one_that_was_sent(trace: Trace) -> None:
    html = trace._repr_html_()
    rows = Page(html).rows
    assert "before" not in rows[0] and rows[3]["before"] == rows[2]["packet"]


def test_headers_that_are_equal_as_tuples_are_told_apart() -> None:
    """Vxlan(7) == Geneve(7), since both are tuples."""
    packets = Packets()
    ip = Ip(pw.IPv4(1), pw.IPv4(2), 17, 36, 64)
    numbers = [packets.number(Packet((ip, Udp(1, 2, 16), shim))) for shim in (Vxlan(7), Geneve(7), Vxlan(7))]
    assert numbers == [0, 1, 0] and packets.number(None) is None and packets.number(Packet(())) is None
    assert [h[0] for h in data_as(packets)["headers"]] == ["ip", "udp", "vxlan", "geneve"]


def data_as(packets: Packets) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(packets.to_dict()))
    return data


def test_fields_that_say_nothing_are_left_out() -> None:
    plain = Ip(pw.IPv4(1), pw.IPv4(2), 6, 40, 64)
    assert [name for name, _ in fields(plain)] == ["src", "dst", "proto", "len", "ttl", "id"]
    assert dict(fields(plain._replace(df=True, offset=8, tos=1))).items() >= {"df": "1", "offset": "8"}.items()
    assert fields(Udp(1, 2, 16, checksum=False))[-1] == ("checksum", "0")


@pytest.mark.parametrize("flow", [("a", "b"), ("b", "web:80"), ("a", "out"), ("a", "10.244.189.188")])
def test_usual_walks_stay_small(flow: tuple[str, str]) -> None:
    assert len(walked("calico-ipip", *flow)._repr_html_()) < 300_000


def test_a_drop_is_marked(trace: Trace) -> None:
    dropped = walked("calico-ipip", "a", "10.244.189.188")
    html = dropped._repr_html_()
    assert [r["class"] for r in Page(html).rows if "class" in r] == ["pw-bad"]
    assert "pw-end pw-bad" in html and "pw-end pw-bad" not in trace._repr_html_()


def test_data_in_a_script_cannot_end_it() -> None:
    net = pw.Network("</script><img src=x>")
    from packetwalk.netns.device import Veth
    from packetwalk.netns.namespace import Netns

    for name in ("</script>", "&<!--"):
        room = net.add(Netns(name))
        room.link_add("<i>", Veth(mac=pw.Mac(0x0200_0000_0001 + len(name))))
    net["</script>"].addr_add("<i>", "10.0.0.1/24")
    net["&<!--"].addr_add("<i>", "10.0.0.2/24")
    net.connect(("</script>", "<i>"), ("&<!--", "<i>"))
    trace = pw.walk(net, pw.Flow("icmp", "</script>", pw.IPv4("10.0.0.2")))
    assert trace.delivered
    for html in (trace._repr_html_(), trace.to_html()):
        page = Balance()
        page.feed(re.sub("<meta[^>]*>", "", html))
        assert not page.open and page.scripts == 2 and "</script>" in page.text
        assert "<img" not in html and data_of(html)["packets"]


def test_a_long_way_has_no_picture(trace: Trace) -> None:
    assert trace._repr_html_().count("<svg") == 1
    lonely = walked("calico-ipip", "a", "10.244.189.129")
    assert "<svg" not in lonely._repr_html_()


def test_the_same_walk_gives_the_same_page_and_it_loads_nothing(trace: Trace) -> None:
    html = trace.to_html()
    assert html == walked("calico-ipip", "a", "b").to_html()
    assert html.startswith("<!DOCTYPE html>") and not re.search(r"https?:|url\(|@import|\bimport\b", html)


def test_walk_writes_the_page_that_was_asked_for(
    trace: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "walk.html"
    assert main(["walk", "a", "b", "--minimal", "--html", str(file)]) == 0
    assert file.read_text(encoding="utf-8") == trace.to_html()
    assert main(["walk", "a", "web:80", "--all-branches", "--html", str(file)]) == 2
    assert "--html writes one walk" in capsys.readouterr().err
