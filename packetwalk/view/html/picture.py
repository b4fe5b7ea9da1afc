"""The rooms of a walk as a small SVG: boxes and wires, each with its number for the player to light."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from packetwalk.view.floorplan import Floorplan, Leg

SLOT, STOREY, BOX, HIGH, MARGIN = 116, 58, 100, 30, 6  # pixels
LETTERS = 15
"""of a name that a box has room for"""


def picture(plan: Floorplan, legs: Sequence[Leg], rooms: Sequence[str]) -> str:
    """An SVG element; rooms and wires are told by their place in `rooms`. Wires the packet took are drawn thicker."""
    number = {room: n for n, room in enumerate(rooms)}
    width, height = plan.width * SLOT + 2 * MARGIN, plan.levels * STOREY + 2 * MARGIN
    taken = {frozenset((leg.src, leg.dst)) for leg in legs}

    def middle(room: str) -> tuple[float, float]:
        spot = plan.spots[room]
        return MARGIN + (spot.x + 0.5) * SLOT, height - MARGIN - (spot.level + 0.5) * STOREY

    parts = [f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img">']
    for a, b in plan.wires:  # from the top of the lower box to the bottom of the upper one
        (x, y), (to_x, to_y) = middle(a), middle(b)
        if plan.spots[a].level < plan.spots[b].level:
            y, to_y = y - HIGH / 2, to_y + HIGH / 2
        wire = "-".join(map(str, sorted((number[a], number[b]))))
        thick = 2 if frozenset((a, b)) in taken else 1
        ends = f'x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}"'
        parts.append(f'<line data-wire="{wire}" {ends} stroke-width="{thick}"/>')
    for room, spot in plan.spots.items():
        x, y = middle(room)
        name = room if len(room) <= LETTERS else f"{room[: LETTERS - 5]}\N{HORIZONTAL ELLIPSIS}{room[-4:]}"
        parts.append(
            f'<g data-room="{number[room]}"><title>{escape(room)}</title>'
            f'<rect x="{x - BOX / 2:g}" y="{y - HIGH / 2:g}" width="{BOX}" height="{HIGH}" rx="3"/>'
            f'<text x="{x:g}" y="{y + (0 if spot.role else 4):g}">{escape(name)}</text>'
            + (
                f'<text class="pw-role" x="{x:g}" y="{y + 11:g}">{escape(spot.role)}</text></g>'
                if spot.role
                else "</g>"
            )
        )
    return "".join([*parts, "</svg>"])
