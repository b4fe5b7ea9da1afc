"""Tables of words and numbers, for a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

ROOMY = 100
"""columns from which on names are never broken"""

NAMES = "walk"
"""the head of the column of names"""

Row = tuple[str, ...]


class Grid(NamedTuple):
    """A table. A cell may hold several lines. right: the columns of numbers."""

    title: str
    heads: Row
    rows: list[Row]
    right: frozenset[int] = frozenset()


def together(told: Iterable[tuple[str, Row]]) -> list[Row]:
    """Rows, each behind the names of all those of whom it is told."""
    names: dict[Row, list[str]] = {}
    for name, row in told:
        names.setdefault(row, []).append(name)
    return [("\n".join(who), *row) for row, who in names.items()]


def table(grids: Iterable[Grid], width: int) -> str:
    """Tables of at most `width` columns, one under the other, each followed by an empty line."""
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table

    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, highlight=False, markup=False, legacy_windows=False)
    for grid in grids:
        shown = Table(title=grid.title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, show_edge=False,
                      padding=(0, 1, 0, 0), collapse_padding=True, pad_edge=False)  # fmt: skip
        for i, head in enumerate(grid.heads):
            right = i in grid.right
            whole = right or (head == NAMES and width >= ROOMY)
            shown.add_column(head, justify="right" if right else "left", overflow="fold", no_wrap=whole)
        for row in grid.rows:
            shown.add_row(*row)
        console.print(shown, "")
    plain = out.getvalue().replace("\N{BOX DRAWINGS LIGHT HORIZONTAL}", "-")  # which any terminal has
    return "\n".join(line.rstrip() for line in plain.splitlines())


def markdown(grids: Iterable[Grid]) -> str:
    """The same tables in Markdown, each under a heading."""
    parts = []
    for grid in grids:
        rule = ["---:" if i in grid.right else "---" for i in range(len(grid.heads))]
        rows = [[cell.replace("|", "\\|").replace("\n", "<br>") for cell in row] for row in grid.rows]
        lines = [f"| {' | '.join(cells)} |" for cells in (grid.heads, rule, *rows)]
        parts.append("\n".join([f"### {grid.title}", "", *lines]))
    return "\n\n".join(parts)
