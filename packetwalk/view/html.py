"""A trace as one self-contained piece of HTML: no script, no network; every name from a cluster is escaped."""

from __future__ import annotations

from html import escape

from packetwalk import text, words
from packetwalk.trace import Trace

STYLE = (
    "<style>.packetwalk{font:13px/1.5 monospace}.packetwalk td{padding:0 1.2em 0 0;vertical-align:top;text-align:left}"
    ".packetwalk summary{font-weight:bold;cursor:pointer}.packetwalk .bad{color:#b00020}.packetwalk .time{float:right;"
    "font-weight:normal;opacity:.6}</style>"
)


def trace_html(trace: Trace) -> str:
    """The trace with a section for each visit of a room that opens and closes, for notebooks and pages."""
    parts = [STYLE, '<div class="packetwalk">', f"<p>{escape(text.minimal(trace))}</p>"]
    for n, section in enumerate(text.sections(trace), 1):
        time = words.time(section.hops[0].at)
        rows = "".join(_row(line) for hop in section.hops for line in text.lines(hop))
        parts.append(
            f'<details open><summary>{n} {escape(section.room)} <span class="time">{time}</span></summary>'
            f"<table>{rows}</table></details>"
        )
    return "".join([*parts, "</div>"])


def _row(line: text.Line) -> str:
    step = line.step
    bad = ' class="bad"' if step.stage in ("drop", "unsupported") else ""
    cells = (step.stage, step.dev, f"{line.words} {line.more}".rstrip(), f"{line.shown} bytes" if line.shown else "")
    return f"<tr{bad}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
