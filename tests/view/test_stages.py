"""The picture of the stage graph: every stage and arrow of the table, and the way of a packet through it."""

import re
import xml.etree.ElementTree as ElementTree

import packetwalk as pw
from packetwalk.cni import find
from packetwalk.netns.stack import FOLLOWS
from packetwalk.trace import Trace
from packetwalk.view.stages import PLACES, stage_graph

SVG = "{http://www.w3.org/2000/svg}"
LIT = "#ffd166"


def ping(mode: str) -> Trace:
    cluster = pw.Cluster(nodes=2, cni=find(mode))
    a, b = cluster.pod("a", node=1), cluster.pod("b", node=2)
    return pw.walk(pw.build(cluster), a, b)


def lit(svg: str) -> set[str]:
    """The stages that are lit."""
    boxes = re.findall(r'<rect x="[^>]*fill="([^"]*)"[^>]*/><text [^>]*>(\w+)</text>', svg)
    return {stage for fill, stage in boxes if fill == LIT}


def test_every_stage_and_every_arrow_of_the_table_is_drawn() -> None:
    picture = stage_graph(FOLLOWS)
    drawn = ElementTree.fromstring(picture.svg)
    assert {text.text for text in drawn.iter(f"{SVG}text")} == set(FOLLOWS)
    assert len(list(drawn.iter(f"{SVG}line"))) == sum(len(after - {None}) for after in FOLLOWS.values())
    assert lit(picture.svg) == set()


def test_no_two_boxes_share_a_place_and_nothing_stands_outside() -> None:
    drawn = ElementTree.fromstring(stage_graph({**FOLLOWS, "new": frozenset({"receive"}), "newer": frozenset()}).svg)
    boxes = [(float(r.get("x", 0)), float(r.get("y", 0))) for r in drawn.iter(f"{SVG}rect") if r.get("x")]
    assert len(set(boxes)) == len(boxes) == len(FOLLOWS) + 2
    assert len(set(PLACES.values())) == len(PLACES)
    width, height = float(drawn.get("width", 0)), float(drawn.get("height", 0))
    assert all(0 <= x <= width - 100 and 0 <= y <= height - 30 for x, y in boxes)


def test_a_routed_packet_lights_the_stages_between_its_steps() -> None:
    steps = ping("calico-bgp")["node-1"].steps
    way = {"receive", "link_in", "prerouting", "route_in", "forward", "postrouting", "neigh", "transmit"}
    assert lit(stage_graph(FOLLOWS, steps).svg) == way


def test_a_tunnel_lights_the_second_way_out() -> None:
    steps = ping("calico-ipip")["node-1"].steps
    assert lit(stage_graph(FOLLOWS, steps).svg) >= {"forward", "transmit", "encap", "route_out", "output", "neigh"}


def test_a_packet_that_arrives_is_not_forwarded() -> None:
    found = lit(stage_graph(FOLLOWS, ping("calico-bgp")["b"].steps).svg)
    assert {"input", "local", "route_out", "transmit"} <= found and not {"forward", "encap"} & found


def test_the_same_steps_give_the_same_bytes() -> None:
    first, second = (stage_graph(FOLLOWS, ping("flannel-vxlan")["node-1"].steps) for _ in range(2))
    assert first == second and first._repr_svg_() == first.svg
