"""The stage graph of a room as a picture, with the stages lit that a packet passed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import hypot

from packetwalk.trace import Step

Follows = Mapping[str, frozenset[str | None]]

# (column, row). As in Netfilter's packet flow: in on the left, out on the right, links below, sockets above.
PLACES = {
    "icmp": (3, 0), "tcp_shrink": (4, 0),
    "local": (2, 1), "decap": (3, 1), "arp_ask": (4, 1), "route_out": (5, 1), "encap": (7, 1),
    "input": (2, 2), "ip_error": (3, 2), "icmp_error": (4, 2), "output": (5, 2), "arp_resolve": (6, 2),
    "prerouting": (1, 3), "route_in": (2, 3), "forward": (3, 3), "postrouting": (5, 3), "neigh": (6, 3),
    "transmit": (7, 3),
    "receive": (0, 4), "link_in": (1, 4), "bridge": (2, 4), "bridge_finish": (5, 4), "bridge_xmit": (6, 4),
    "arp": (1, 5),
}  # fmt: skip
COLUMNS, ACROSS, DOWN, WIDTH, HEIGHT = 8, 124, 66, 100, 30
SILENT = frozenset(
    ("link_in", "prerouting", "input", "local", "output", "postrouting", "neigh", "bridge_finish", "bridge_xmit")
)
"""Stages that may pass a packet on without a step of their own."""


@dataclass(frozen=True, slots=True)
class Diagram:
    """An SVG image, which a notebook shows."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Diagram, {len(self.svg)} bytes of SVG>"


def stage_graph(follows: Follows, steps: Iterable[Step] = ()) -> Diagram:
    """Every stage and which may follow which (`netns.stack.FOLLOWS`), lit where those steps of a room have passed."""
    places, went = _placed(follows), set(_passed(follows, [step.stage for step in steps]))
    lit = {stage for edge in went for stage in edge}
    width, height = COLUMNS * ACROSS, (1 + max(row for _, row in places.values())) * DOWN
    edges = [(a, b) for a, after in follows.items() for b in sorted(filter(None, after))]
    edges.sort(key=lambda edge: edge in went)  # lit ones on top
    return Diagram(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'style="max-width:100%;height:auto" '
        'font-family="sans-serif" font-size="13" role="img" aria-label="stages of a packet through a room">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
        + "".join(_arrow(places[a], places[b], (a, b) in went) for a, b in edges)
        + "".join(_box(stage, place, stage in lit) for stage, place in places.items())
        + "</svg>"
    )


def _placed(follows: Follows) -> dict[str, tuple[int, int]]:
    """The place of every stage; one that PLACES does not know stands in a row of its own below."""
    below, extra = 1 + max(row for _, row in PLACES.values()), 0
    places = {}
    for stage in follows:
        if stage in PLACES:
            places[stage] = PLACES[stage]
        else:
            places[stage] = (extra % COLUMNS, below + extra // COLUMNS)
            extra += 1
    return places


def _passed(follows: Follows, noted: list[str]) -> Iterator[tuple[str, str]]:
    """The edges between the noted stages, by way of silent ones where it has to be."""
    here = ""
    for stage in noted:
        there = "local" if stage == "deliver" else stage
        if there not in follows:
            continue  # a step inside a stage, such as a rule
        way = _silent_way(follows, here, there) if here else []
        yield from pairwise(way)
        if not way:
            yield there, there  # a branch of its own begins here
        here = "" if stage == "deliver" else there


def _silent_way(follows: Follows, here: str, there: str) -> list[str]:
    """The shortest way from a stage to another with nothing but silent ones between; empty where there is none."""
    ways = [[here]]
    seen = {here}
    for way in ways:
        for stage in sorted(filter(None, follows[way[-1]])):
            if stage == there:
                return [*way, there]
            if stage in SILENT and stage not in seen:
                seen.add(stage)
                ways.append([*way, stage])
    return []


def _centre(place: tuple[int, int]) -> tuple[float, float]:
    return (place[0] + 0.5) * ACROSS, (place[1] + 0.5) * DOWN


def _box(stage: str, place: tuple[int, int], lit: bool) -> str:
    x, y = _centre(place)
    fill, line, weight = ("#ffd166", "#7a4d00", 2) if lit else ("#f4f5f7", "#8a94a3", 1)
    return (
        f'<rect x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{fill}" '
        f'stroke="{line}" stroke-width="{weight}"/>'
        f'<text x="{x:g}" y="{y + 4.5:g}" text-anchor="middle" fill="#1c2430">{escape(stage)}</text>'
    )


def _arrow(start: tuple[int, int], end: tuple[int, int], lit: bool) -> str:
    """A line from the edge of a box to that of another, with a head; a short one for a stage that follows itself."""
    (x0, y0), (x1, y1) = _centre(start), _centre(end)
    if start == end:
        x0, x1 = x0 + WIDTH / 2 + (ACROSS - WIDTH) / 2, x1 + WIDTH / 2
    else:
        x0, y0 = _edge(x0, y0, x1, y1)
        x1, y1 = _edge(x1, y1, x0, y0)
    length = hypot(x1 - x0, y1 - y0)
    dx, dy = (x1 - x0) / length, (y1 - y0) / length
    ink, weight = ("#b06f00", 2.5) if lit else ("#a7b0bd", 1.2)
    head = f"{x1:.1f},{y1:.1f} {x1 - 8 * dx - 4 * dy:.1f},{y1 - 8 * dy + 4 * dx:.1f} "
    head += f"{x1 - 8 * dx + 4 * dy:.1f},{y1 - 8 * dy - 4 * dx:.1f}"
    return (
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1 - 6 * dx:.1f}" y2="{y1 - 6 * dy:.1f}" stroke="{ink}" '
        f'stroke-width="{weight:g}"/><polygon points="{head}" fill="{ink}"/>'
    )


def _edge(x: float, y: float, towards_x: float, towards_y: float) -> tuple[float, float]:
    """Where the line from a box's centre to a point leaves the box."""
    dx, dy = towards_x - x, towards_y - y
    scale = min(WIDTH / 2 / abs(dx) if dx else 9e9, HEIGHT / 2 / abs(dy) if dy else 9e9)
    return x + dx * scale, y + dy * scale
