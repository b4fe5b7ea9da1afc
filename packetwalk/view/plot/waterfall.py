"""Where the time of walks went: a row for each visit of a room, and in it a piece for each kind of stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from packetwalk import text
from packetwalk.text import sections
from packetwalk.view.compare import GROUP, LANES, unlike
from packetwalk.view.plot.picture import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    YELLOW,
    Picture,
    canvas,
    fitted,
)
from packetwalk.words import time

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from packetwalk.trace import Trace

ROWS = 40
"""visits drawn of one walk; of the others their number is told"""
LOOKS = dict(
    zip(
        LANES,
        ((SKY, ""), (BLUE, "..."), (RED, "////"), (YELLOW, "xxx"), (PURPLE, "\\\\\\\\"), (GREY, ""), (GREEN, "---"),
         (BLACK, ""), (ORANGE, "")),
        strict=True,
    )
)  # fmt: skip
ROW, NAMES, WIDTH = 0.2, 1.5, 7.2  # inches


class Piece(NamedTuple):
    """Time spent in one kind of stage, in ns."""

    start: int
    end: int
    lane: str


class Row(NamedTuple):
    """A visit, or several of one room that follow from one another."""

    name: str
    start: int
    end: int
    pieces: list[Piece]


def waterfall(*traces: Trace, names: Sequence[str] = ()) -> Picture:
    """Walks one under the other on one scale of time, each until the sender has its answer (all of it, if it gets
    none). The networks name them unless `names` does. ValueError without a walk."""
    if not traces:
        raise ValueError("a waterfall needs a walk")
    called = list(names) or unlike(trace.network for trace in traces)
    found = [list(rows(trace)) for trace in traces]
    shown = [r[:ROWS] for r in found]
    heights = [len(r) + 1.6 for r in shown]
    latest = max((row.end for r in shown for row in r), default=0) / 1000
    with canvas(NAMES + WIDTH, sum(heights) * ROW + 0.9) as figure:
        axes = figure.subplots(len(traces), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})
        figure.subplots_adjust(left=NAMES / (NAMES + WIDTH), right=0.98, top=1 - 0.3 / figure.get_figheight(),
                               bottom=0.75 / figure.get_figheight(), hspace=0.12)  # fmt: skip
        for ax, name, trace, r, all_of_it in zip(axes.flat, called, traces, shown, found, strict=True):
            _rows(ax, r, latest)
            when = f" after {time(_until(trace))}" if trace.delivered else ""
            more = f"; {len(all_of_it) - len(r)} visits more" if len(all_of_it) > len(r) else ""
            title = f"{name}: {text.outcome(trace)}{when}{more}"
            ax.set_title(title, loc="left", fontsize=8, weight="bold", pad=3)
        axes.flat[-1].set_xlabel("us since it was sent")
        _legend(figure, shown)
        return Picture(figure)


def rows(trace: Trace) -> Iterator[Row]:
    """The visits of a walk until its sender has an answer, and what they spent their time on."""
    until = _until(trace)
    for n, section in enumerate(sections(trace), 1):
        if trace.delivered and section.hops[0].at > until:
            return
        pieces: list[Piece] = []
        for hop in section.hops:
            for start, end, step in zip([hop.at, *hop.times], hop.times, hop.steps, strict=False):
                lane = GROUP.get(step.stage, "else")
                if end > start and pieces and pieces[-1].lane == lane and pieces[-1].end == start:
                    pieces[-1] = pieces[-1]._replace(end=end)
                elif end > start:
                    pieces.append(Piece(start, end, lane))
        yield Row(f"{n} {section.room}", section.hops[0].at, max(hop.end for hop in section.hops), pieces)


def _until(trace: Trace) -> int:
    return trace.result.at if trace.delivered else max((hop.end for hop in trace.hops), default=0)


def _rows(ax: Axes, found: list[Row], latest: float) -> None:
    for y, row in enumerate(found):
        if y:
            ax.plot([row.start / 1000] * 2, [y - 1, y], color=GREY, linewidth=0.5, zorder=1)
        for piece in row.pieces:
            colour, hatch = LOOKS[piece.lane]
            ax.barh(y, (piece.end - piece.start) / 1000, left=piece.start / 1000, height=0.72, color=colour,
                    hatch=hatch, edgecolor="black", linewidth=0.3, zorder=2)  # fmt: skip
        ax.text(row.end / 1000 + latest * 0.006, y, f"{(row.end - row.start) / 1000:.1f}", va="center", fontsize=6)
        name, points = fitted(row.name, NAMES - 0.15, 7)
        ax.text(-latest * 0.01, y, name.replace("\n", ""), ha="right", va="center", fontsize=min(points, 7))
    ax.set(xlim=(0, latest * 1.06 or 1), ylim=(max(len(found), 1) - 0.4, -0.6), yticks=[])
    ax.grid(axis="x", color="#dddddd", linewidth=0.5, zorder=0)
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)


def _legend(figure: Figure, shown: list[list[Row]]) -> None:
    from matplotlib.patches import Patch

    used = {piece.lane for r in shown for row in r for piece in row.pieces}
    patches = [Patch(facecolor=colour, hatch=hatch * 2, edgecolor="black", linewidth=0.3, label=lane)
               for lane, (colour, hatch) in LOOKS.items() if lane in used]  # fmt: skip
    figure.legend(handles=patches, loc="lower center", ncols=len(patches) or 1, fontsize=7, handlelength=2,
                  handleheight=1.1, columnspacing=1.2)  # fmt: skip
