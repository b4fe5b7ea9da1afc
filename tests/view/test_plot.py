"""Pictures: the same bytes for the same walk, everything on them that has to be, and no label over another."""

import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

import packetwalk as pw
from packetwalk.cli import main
from packetwalk.packet import Header
from packetwalk.source import from_mode
from packetwalk.trace import Trace

pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plot`)")
from packetwalk.view.plot.headers import BYTE, LOOKS, frames
from packetwalk.view.plot.overhead import on_the_wire
from packetwalk.view.plot.picture import Picture, fitted
from packetwalk.view.plot.waterfall import rows


def walked(mode: str = "flannel-vxlan", src: str = "a", dst: str = "b", nodes: int = 2, **more: Any) -> Trace:
    net = from_mode(mode, nodes=nodes, racks=1, seed=0)
    return pw.walk(net, pw.between(net, src, dst, **more))


@pytest.fixture(scope="module")
def vxlan() -> Trace:
    return walked()


@pytest.fixture(scope="module")
def ipip() -> Trace:
    return walked("calico-ipip")


def leaf_and_spine() -> Trace:
    cluster = pw.Cluster(nodes=8, racks=4, spines=2, cni=pw.Calico("none", peer_fabric=True))
    pods = [cluster.pod(f"checkout-{n}-7f9c6d5b8-x2x{n}z", node=n) for n in range(1, 9)]
    net = pw.build(cluster)
    return pw.walk(net, pods[0], pods[-1])


def drawn(kind: str, *traces: Trace) -> Picture:
    picture = getattr(pw.plot, kind)(*traces)
    assert isinstance(picture, Picture)
    return picture


def words(picture: Picture) -> list[str]:
    """Every text on a picture that can be seen."""
    from matplotlib.text import Text

    found = (text for text in picture.figure.findobj(Text) if text.get_visible())
    return [text.get_text() for text in found if text.get_text().strip()]


def overlaps(picture: Picture) -> list[tuple[str, str]]:
    """Pairs of texts that cover one another by more than a hair, and texts that reach out of the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    FigureCanvasAgg(picture.figure).draw()
    beyond = set()  # ticks that the axes do not reach have labels, too, which nobody sees
    for ax in picture.figure.axes:
        low, high = ax.get_xlim()
        beyond |= {tick.label1 for tick in ax.xaxis.get_major_ticks() if not low <= tick.get_loc() <= high}
    seen = [t for t in picture.figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in beyond]
    boxes = [(text.get_text(), text.get_window_extent().padded(-1)) for text in seen]
    page = picture.figure.bbox
    found = [(a, b) for (a, one), (b, other) in itertools.combinations(boxes, 2) if one.overlaps(other)]
    return found + [(a, "(edge)") for a, box in boxes if box.x0 < page.x0 or box.x1 > page.x1]


# -- all of them -------------------------------------------------------------------------------------------------------
KINDS = ("topology", "waterfall", "headers", "overhead")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_walk_gives_the_same_svg(kind: str, vxlan: Trace) -> None:
    svg = drawn(kind, vxlan).to_bytes()
    assert svg == drawn(kind, walked()).to_bytes()
    assert not re.search(rb"\d\d\d\d-\d\d-\d\dT|Matplotlib v", svg) and svg.startswith(b"<?xml")


def test_another_process_draws_the_same(vxlan: Trace) -> None:
    code = (
        "import sys, packetwalk as pw; from packetwalk.source import from_mode\n"
        "net = from_mode('flannel-vxlan', nodes=2, racks=1, seed=0)\n"
        "sys.stdout.buffer.write(pw.plot.topology(pw.walk(net, pw.between(net, 'a', 'b'))).to_bytes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, check=True
    )
    assert done.stdout == pw.plot.topology(vxlan).to_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_no_label_covers_another(kind: str, vxlan: Trace, ipip: Trace) -> None:
    assert overlaps(drawn(kind, vxlan)) == []
    if kind in ("waterfall", "overhead"):
        assert overlaps(drawn(kind, vxlan, ipip)) == []


def test_a_notebook_shows_a_picture_and_files_hold_it(vxlan: Trace, tmp_path: Path) -> None:
    picture = pw.plot.headers(vxlan)
    assert picture._repr_svg_().endswith("</svg>\n")
    for ending, begins in (("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")):
        picture.save(tmp_path / f"x.{ending}")
        assert (tmp_path / f"x.{ending}").read_bytes().startswith(begins)
        assert (tmp_path / f"x.{ending}").read_bytes() == pw.plot.headers(vxlan).to_bytes(ending)
    with pytest.raises(ValueError, match="no picture format 'gif'; there are svg, png, pdf"):
        picture.save(tmp_path / "x.gif")
    assert not (tmp_path / "x.gif").exists()


def test_matplotlib_waits_until_something_is_drawn() -> None:
    code = "import sys, packetwalk.view.plot as plot; plot.topology; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_name_with_dollars_is_no_formula() -> None:
    assert "$" in fitted("a$b$", 2, 8)[0]
    from packetwalk.netns.device import Veth
    from packetwalk.netns.namespace import Netns

    net = pw.Network()
    for n, name in enumerate(("$x^2$", "b_{1}"), 1):
        room = net.add(Netns(name))
        room.link_add("eth0", Veth(mac=pw.Mac(0x0200_0000_0000 + n)))
        room.addr_add("eth0", f"10.0.0.{n}/24")
    net.connect(("$x^2$", "eth0"), ("b_{1}", "eth0"))
    assert b"$x^2$" in pw.plot.topology(pw.walk(net, pw.between(net, "$x^2$", "b_{1}"))).to_bytes()


# -- topology ----------------------------------------------------------------------------------------------------------
def test_topology_numbers_the_way_and_says_what_tunnel(vxlan: Trace) -> None:
    seen = words(pw.plot.topology(vxlan))
    assert [w for w in seen if w.isdecimal()] == [str(n) for n in range(1, 9)]
    assert {"a", "b", "c", "node-1", "node-2", "fabric", "router", "out", "request", "answer", "inside vxlan"} <= set(
        seen
    )


def test_topology_marks_a_drop() -> None:
    seen = words(pw.plot.topology(walked("calico-ipip", "a", "10.244.189.188")))
    assert "drop NOT_SPECIFIED" in seen and "answer" not in seen


def test_twenty_nodes_and_long_names_stay_readable() -> None:
    for trace in (walked(nodes=20), leaf_and_spine()):
        picture = pw.plot.topology(trace)
        names = [room for room in trace.after.rooms if trace.after.roles[room] in ("node", "pod")]  # type: ignore[attr-defined]
        seen = {w.replace("\n", "") for w in words(picture)}
        assert set(names) <= seen and overlaps(picture) == []
        assert min(t.get_fontsize() for t in picture.figure.axes[0].texts) >= 5


def test_what_is_not_drawn_is_told() -> None:
    trace = walked(nodes=60)
    seen = words(pw.plot.topology(trace))
    assert "not drawn: 34 nodes" in seen and "node-60" not in seen and "node-2" in seen


def test_topology_wants_the_network(vxlan: Trace) -> None:
    bare = Trace(vxlan.flow, vxlan.result, vxlan.hops)
    with pytest.raises(ValueError, match="give it, too"):
        pw.plot.topology(bare)
    assert "node-1" in words(pw.plot.topology(bare, vxlan.after))  # type: ignore[arg-type]


# -- waterfall ---------------------------------------------------------------------------------------------------------
def test_waterfall_accounts_for_every_nanosecond(vxlan: Trace) -> None:
    found = list(rows(vxlan))
    assert [row.name for row in found[:3]] == ["1 a", "2 node-1", "3 fabric"]
    for row in found:
        assert [p.end for p in row.pieces[:-1]] == [p.start for p in row.pieces[1:]]
        assert (row.pieces[0].start, row.pieces[-1].end) == (row.start, row.end)
    assert found[-1].end == vxlan.result.at


def test_waterfalls_stand_one_under_the_other(vxlan: Trace, ipip: Trace) -> None:
    picture = pw.plot.waterfall(vxlan, ipip, names=["first", "second"])
    titles = [ax.get_title(loc="left") for ax in picture.figure.axes]
    assert titles == [f"first: reply ttl 62 after {vxlan.result.at / 1000:.1f} us",
                      f"second: reply ttl 62 after {ipip.result.at / 1000:.1f} us"]  # fmt: skip
    assert len({ax.get_xlim() for ax in picture.figure.axes}) == 1
    with pytest.raises(ValueError, match="needs a walk"):
        pw.plot.waterfall()


def test_a_waterfall_ends_with_the_answer() -> None:
    trace = walked(dst="b:80", size=1)
    assert list(rows(trace))[-1].start <= trace.result.at < max(hop.end for hop in trace.hops)


# -- headers -----------------------------------------------------------------------------------------------------------
def test_headers_grow_and_shrink_to_scale(vxlan: Trace) -> None:
    found = list(frames(vxlan))
    assert [(f.where, f.bytes, f.outside) for f in found] == [
        ("a eth0", 98, 14), ("node-1 flannel.1", 98, 14), ("node-1 eth0", 148, 64), ("fabric p-node-2", 148, 64),
        ("node-2 cni0", 98, 14), ("node-2 veth2e5c8f7c", 98, 14),
    ]  # fmt: skip
    from matplotlib.patches import Rectangle

    boxes = [box for box in pw.plot.headers(vxlan).figure.axes[0].findobj(Rectangle) if box.get_height() == 0.2]
    widths = sorted({round(box.get_width() / BYTE) for box in boxes})
    assert widths == [8, 14, 20, 56]
    assert len({box.get_hatch() for box in boxes}) > 3, "told apart without colour"


def test_every_header_has_a_look() -> None:
    assert set(LOOKS) == set(get_args(Header))
    assert "sctp" in words(pw.plot.headers(walked(sctp=80)))


def test_a_long_payload_is_broken(vxlan: Trace) -> None:
    seen = words(pw.plot.headers(walked(size=1400)))
    assert "1400 bytes" in seen and "1492" in seen


# -- latency and overhead ----------------------------------------------------------------------------------------------
class Counted:
    def shares(self) -> list[tuple[int, float]]:
        return [(1000, 0.25), (3000, 1.0)]


def drawn_line(picture: Picture) -> list[tuple[float, float]]:
    line = next(line for line in picture.figure.axes[0].lines if line.get_label()[0] != "_")
    return list(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True))


def test_ecdf_draws_samples_and_distributions() -> None:
    picture = pw.plot.ecdf({"listed": [4000, 1000, 1000, 2000], "counted": Counted()})
    listed, counted = (line for line in picture.figure.axes[0].lines if line.get_label()[0] != "_")
    assert list(zip(listed.get_xdata(), listed.get_ydata(), strict=True)) == [(1, 0), (1, 0.5), (2, 0.75), (4, 1)]
    assert list(counted.get_ydata()) == [0, 0.25, 1] and listed.get_linestyle() != counted.get_linestyle()
    assert {"listed (median 1.0 us)", "counted (median 3.0 us)", "p50", "p99"} <= set(words(picture))
    assert overlaps(picture) == []

    class Load:
        latency = Counted()

    assert drawn_line(pw.plot.ecdf({"load": Load()})) == drawn_line(pw.plot.ecdf({"counted": Counted()}))
    for nothing in ({}, {"x": []}):
        with pytest.raises(ValueError, match="latenc"):
            pw.plot.ecdf(nothing)


def test_overhead_counts_fragments_and_tunnels() -> None:
    assert on_the_wire(1472, 1500, 0) == 1472 + 8 + 20 + 38
    assert on_the_wire(1473, 1500, 0) == 1473 + 8 + 2 * (20 + 38)
    assert on_the_wire(100, 1450, 50) == 100 + 8 + 20 + 50 + 38


def test_walks_that_cost_the_same_share_a_line(vxlan: Trace, ipip: Trace) -> None:
    picture = pw.plot.overhead(vxlan, walked("geneve"), ipip, names=["vxlan", "geneve", "ipip"])
    assert {"vxlan, geneve (+50 bytes, mtu 1450)", "ipip (+20 bytes, mtu 1480)"} <= set(words(picture))
    with pytest.raises(ValueError, match="lost: nothing arrived"):
        pw.plot.overhead(walked("calico-ipip", "a", "10.244.189.188"), names=["lost"])


# -- the command -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_plot_writes_what_python_draws(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], vxlan: Trace
) -> None:
    file = tmp_path / "x.svg"
    assert main(["plot", kind, "a", "b", "--cni", "flannel-vxlan", "-o", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: {kind} of a > b over flannel-vxlan\n"
    more = {"names": ["flannel-vxlan"]} if kind in ("waterfall", "overhead") else {}
    assert file.read_bytes() == getattr(pw.plot, kind)(vxlan, **more).to_bytes()


def test_plot_draws_latencies_under_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, again = tmp_path / "x.svg", tmp_path / "y.svg"
    words = "plot ecdf a b --cni flannel-vxlan,flannel-host-gw --until 5ms --seed 3 --load"
    command = [*words.split(), "poisson rate 9000 size 1400"]
    assert main([*command, "-o", str(file)]) == 0
    assert main([*command, "-o", str(again)]) == 0
    assert file.read_bytes() == again.read_bytes()
    assert b"flannel-host-gw (median " in file.read_bytes()
    assert b"a &gt; b poisson rate 9000 size 1400, 5ms" in file.read_bytes()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("topologie a b -o x.svg", "did you mean 'topology'?"),
        ("topology a b -o x.gif", "no picture format 'gif'"),
        ("topology a b -o x", "no picture format ''"),
        ("headers a b --cni flannel-vxlan,geneve -o x.svg", "headers shows one walk, and --cni names 2 modes"),
        ("waterfall a b --cni geneve,geneve -o x.svg", "--cni names 'geneve' twice"),
        ("overhead a 10.9.9.9 -o x.svg", "nothing arrived"),
        ("ecdf a b --udp 53 -o x.svg", "--udp is for a single packet; --load says what ecdf sends"),
        ("ecdf a b --load rat -o x.svg", "did you mean 'rate'?"),
        ("topology a b --load 'rate 9' -o x.svg", "--load is for ecdf"),
        ("topology a b", "Missing option '--output'"),
        ("topology a b -o no/x.svg", "no/x.svg: No such file or directory"),
    ],
)
def test_plot_says_what_is_wrong(
    words: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plot", *shlex.split(words)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and complaint in err and err.count("\n") == 1 and not list(tmp_path.iterdir())
