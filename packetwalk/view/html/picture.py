"""The rooms of a walk as a small SVG: boxes and wires, each with its number for the player to light."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from packetwalk.view.floorplan import Floorplan, Leg

SLOT, STOREY, BOX, HIGH, MARGIN = 116, 58, 100, 30, 6  # pixels
LETTERS = 15  # of a name that a box has room for


def picture(plan: Floorplan, legs: Sequence[Leg], rooms: Sequence[str]) -> str:
    """An SVG element; rooms and wires are told by their place in `rooms`. Wires the packet took are drawn thicker."""
    number = {room: n for n, room in enumerate(rooms)}
    width, height = plan.width * SLOT + 2 * MARGIN, plan.levels * STOREY + 2 * MARGIN
    taken = [{leg.src, leg.dst} for leg in legs]

    def across(x: float) -> float:
        return MARGIN + (x + 0.5) * SLOT

    def down(room: str) -> float:
        return height - MARGIN - (plan.spots[room].level + 0.5) * STOREY

    parts = [f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img">']
    for a, b in plan.wires:
        (x, to_x), (y, to_y) = map(across, plan.joints(a, b)), map(down, (a, b))
        if plan.spots[a].level < plan.spots[b].level:  # from the top of the lower box to the bottom of the upper one
            y, to_y = y - HIGH / 2, to_y + HIGH / 2
        wire = "-".join(map(str, sorted((number[a], number[b]))))
        ends = f'x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}"'
        parts.append(f'<line data-wire="{wire}" {ends} stroke-width="{2 if {a, b} in taken else 1}"/>')
    for room, spot in plan.spots.items():
        left, right, y = across(spot.left) - BOX / 2, across(spot.right) + BOX / 2, down(room)
        letters = int(LETTERS * (right - left) / BOX)
        name = room if len(room) <= letters else f"{room[: letters - 5]}\N{HORIZONTAL ELLIPSIS}{room[-4:]}"
        middle = (left + right) / 2
        role = f'<text class="pw-role" x="{middle:g}" y="{y + 11:g}">{escape(spot.role)}</text>' if spot.role else ""
        parts.append(
            f'<g data-room="{number[room]}"><title>{escape(room)}</title>'
            f'<rect x="{left:g}" y="{y - HIGH / 2:g}" width="{right - left:g}" height="{HIGH}" rx="3"/>'
            f'<text x="{middle:g}" y="{y + (0 if role else 4):g}">{escape(name)}</text>{role}</g>'
        )
    return "".join([*parts, "</svg>"])
