"""Rooms and wires, and on them the way a packet took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from packetwalk import text
from packetwalk.view.floorplan import Floorplan, Leg, floorplan, legs, natural, on_the_way
from packetwalk.view.plot.picture import BLUE, GREY, PALE, PURPLE, RED, Picture, canvas, fitted, text_width
from packetwalk.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Polygon

    from packetwalk.network import Network
    from packetwalk.trace import Trace

BESIDE = 24
"""rooms of one kind that are drawn beside those on the way; of the others their number is told"""
NARROW, WIDE, STOREY, HIGH, PAGE = 0.62, 1.3, 0.95, 0.42, 13.0  # inches
ASIDE = 0.06  # from a wire to what went over it
FILLED = 0.84  # of a slot, by a box
DASHED = (0, (3, 1.5))
FACES = {"pod": "white", "node": PALE, "switch": "#dddddd", "router": "#dddddd", "host": "white"}

Point = tuple[float, float]


def topology(trace: Trace, network: Network | None = None) -> Picture:
    """The network a trace was walked through, and each wire the packet took with the number of that leg.

    Rooms on the way are drawn bold, of others up to 24 of a kind are. network: where the trace does not hold it.
    """
    net: Any = network if network is not None else trace.after
    if net is None:
        raise ValueError("the trace does not hold its network: give it, too")
    way = on_the_way(trace)
    rooms, more = _shown(net, way)
    plan = floorplan(net, rooms)
    slot = min(max(PAGE / plan.width, NARROW), WIDE)
    width, height = max(plan.width * slot + 0.2, 4.2), plan.levels * STOREY
    top, foot = height - (STOREY - HIGH) / 2 + 0.15, -0.15
    taken = list(_there_and_back(trace))
    title = fill(f"{text.sent(trace)}: {text.outcome(trace)}", int(width * 14))
    with canvas(width, top + 0.4 - foot) as figure:
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, width), ylim=(foot, top + 0.4))
        ax.axis("off")
        left = (width - plan.width * slot) / 2
        drawing = Drawing(ax, plan, left, slot)
        for wire in plan.wires:
            drawing.wire(*wire)
        for n, leg in enumerate(taken, 1):
            drawing.leg(leg, n)
        drops = {room: f"drop {getattr(step.what, 'reason', '')}" for room, step in reversed(trace.drops)}
        for room in plan.spots:
            drawing.room(room, room in way, drops.get(room, ""))
        ax.text(0.1, top, title, va="bottom", fontsize=8, weight="bold")
        _legend(ax, 0.1, taken, more)
        return Picture(figure)


def _shown(net: Network, way: list[str]) -> tuple[list[str], Counter[str]]:
    """The rooms to draw, and how many of each role are not."""
    kept = set(way)
    more: Counter[str] = Counter()
    count: Counter[str] = Counter()
    pods = sum(role == "pod" for role in net.roles.values())
    for room in sorted(net.roles, key=natural):
        role = net.roles[room]
        if room in kept:
            continue
        if count[role] >= BESIDE or (role == "pod" and pods > BESIDE):
            more[role or "room"] += 1
            continue
        count[role] += 1
        kept.add(room)
    return [room for room in net.roles if room in kept], more


def _there_and_back(trace: Trace) -> Iterator[Leg]:
    """Each wire once for each direction, until the sender has its answer."""
    seen = set()
    for leg in legs(trace):
        if (leg.src, leg.dst) not in seen:
            seen.add((leg.src, leg.dst))
            yield leg
        if leg.answer and leg.dst == trace.flow.src:
            return


class Drawing(NamedTuple):
    """A floorplan on paper. left: inches to the first room; slot: inches from room to room."""

    ax: Axes
    plan: Floorplan
    left: float
    slot: float

    def across(self, x: float) -> float:
        return self.left + (x + 0.5) * self.slot

    def up(self, room: str) -> float:
        return (self.plan.spots[room].level + 0.5) * STOREY

    def ends(self, a: str, b: str) -> tuple[Point, Point]:
        """Where a line between two boxes begins and ends: at their edges."""
        x, to_x = map(self.across, self.plan.joints(a, b))
        y, to_y = self.up(a), self.up(b)
        if y == to_y:
            side = self.slot * FILLED / 2 if x < to_x else -self.slot * FILLED / 2
            return (x + side, y), (to_x - side, to_y)
        edge = HIGH / 2 if y < to_y else -HIGH / 2
        return (x, y + edge), (to_x, to_y - edge)

    def wire(self, a: str, b: str) -> None:
        (x, y), (to_x, to_y) = self.ends(a, b)
        self.ax.plot([x, to_x], [y, to_y], color=GREY, linewidth=0.8, zorder=1, solid_capstyle="butt")

    def leg(self, leg: Leg, number: int) -> None:
        """An arrow on the left of the wire, as traffic keeps left; a hatched band where the packet is in a tunnel."""
        from matplotlib.patches import FancyArrowPatch

        ends = self.ends(leg.src, leg.dst)
        start, end = (_beside(*ends, t, ASIDE) for t in (0, 1))
        colour = RED if leg.answer else BLUE
        if leg.tunnel:
            corners = [_beside(*ends, t, aside) for t, aside in ((0, 0.01), (1, 0.01), (1, 0.11), (0, 0.11))]
            self.ax.add_patch(_band(corners))
        self.ax.add_patch(
            FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7, shrinkA=0, shrinkB=0, color=colour,
                            linewidth=1.4, linestyle=DASHED if leg.answer else "-", zorder=3)
        )  # fmt: skip
        upright = ends[0][0] == ends[1][0]
        x, y = _beside(*ends, 0.45 if upright else 0.3, ASIDE + (0.14 if upright else 0.05))
        self.ax.text(x, y, str(number), ha="center", va="center", fontsize=6, color=colour, zorder=5, weight="bold",
                     bbox={"boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": colour, "linewidth": 0.5}
        )  # fmt: skip

    def room(self, room: str, on_way: bool, drop: str) -> None:
        from matplotlib.patches import FancyBboxPatch

        spot = self.plan.spots[room]
        y = self.up(room)
        left, right = (self.across(x) + side * self.slot * FILLED / 2 for x, side in ((spot.left, -1), (spot.right, 1)))
        self.ax.add_patch(
            FancyBboxPatch((left, y - HIGH / 2), right - left, HIGH, facecolor=FACES.get(spot.role, "white"), zorder=4,
                           boxstyle=f"round,pad=0,rounding_size={0.12 if spot.role == 'pod' else 0.02}",
                           edgecolor="black" if on_way else GREY, linewidth=1.4 if on_way else 0.6)
        )  # fmt: skip
        name, points = fitted(room, right - left - 0.08, 8)
        style: dict[str, Any] = {"ha": "center", "zorder": 5, "color": "black" if on_way else "#555555"}
        middle = (left + right) / 2
        self.ax.text(middle, y + (0.05 if spot.role else 0), name, va="center", fontsize=points, linespacing=1,
                     weight="bold" if on_way else "normal", **style)  # fmt: skip
        self.ax.text(middle, y - HIGH / 2 + 0.03, spot.role, va="bottom", fontsize=5, **style)
        if drop:
            self.ax.plot(
                [right], [y + HIGH / 2], marker="X", markersize=9, color=RED, markeredgecolor="white", zorder=6
            )
            self.ax.text(right - 0.08, y + HIGH / 2 + 0.04, drop, va="bottom", ha="right", fontsize=6, color=RED,
                         zorder=6, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip


def _beside(start: Point, end: Point, t: float, aside: float) -> Point:
    """The point at the share t of a line, so many inches to the left of who goes from start to end; it leaves and
    reaches the boxes at the height of the line itself."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    x, y = start[0] + t * dx, start[1] + t * dy
    if not dy:
        return x, y + (aside if dx > 0 else -aside)
    wider = min((dx * dx + dy * dy) ** 0.5 / abs(dy), 5)  # a flat line has to go farther aside to be as far away
    return x + (-aside if dy > 0 else aside) * wider, y


def _band(corners: list[Point]) -> Polygon:
    from matplotlib.patches import Polygon

    return Polygon(corners, facecolor=f"{PURPLE}55", edgecolor=PURPLE, linewidth=0.4, hatch="/////", zorder=2)


def _legend(ax: Axes, x: float, taken: list[Leg], more: Counter[str]) -> None:
    """What the lines mean, and what is not drawn, in one line at the foot."""
    y = 0.0
    for answer, name in ((False, "request"), (True, "answer")):
        if any(leg.answer == answer for leg in taken):
            ax.plot(
                [x, x + 0.3], [y, y], color=RED if answer else BLUE, linewidth=1.4, linestyle=DASHED if answer else "-"
            )
            x = _said(ax, x + 0.36, y, name)
    for tunnel in dict.fromkeys(leg.tunnel for leg in taken if leg.tunnel):
        ax.add_patch(_band([(x, y - 0.05), (x + 0.3, y - 0.05), (x + 0.3, y + 0.05), (x, y + 0.05)]))
        x = _said(ax, x + 0.36, y, f"inside {tunnel}")
    if more:
        _said(ax, x, y, "not drawn: " + ", ".join(counted(n, role) for role, n in more.items()))


def _said(ax: Axes, x: float, y: float, words: str) -> float:
    ax.text(x, y, words, va="center", fontsize=7)
    return x + text_width(words, 7) + 0.3
