"""A figure that is drawn the same, byte for byte, whenever the same is drawn."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "png", "pdf")
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "hatch.linewidth": 0.4,
    "legend.frameon": False,
    "svg.fonttype": "path",  # the same on a machine without the font
    "svg.hashsalt": "packetwalk",  # else ids are random
    "savefig.facecolor": "white",
    "text.parse_math": False,  # a name may hold dollars
}
UNDATED: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7",
)  # fmt: skip
GREY, PALE = "#888888", "#f2f2f2"
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)), (0, (8, 2)))
LINES = (BLUE, RED, GREEN, PURPLE, BLACK, ORANGE, SKY, GREY)
MARKERS = "osD^vPX*"


class Picture:
    """A drawn figure. `figure` is matplotlib's own, to change before it is saved."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def to_bytes(self, form: str = "svg") -> bytes:
        """The picture as svg, png (200 dots an inch) or pdf. ValueError for another form."""
        if form not in FORMATS:
            raise ValueError(f"there is no picture format {form!r}; there are {', '.join(FORMATS)}")
        import matplotlib

        out = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            self.figure.savefig(out, format=form, dpi=200, metadata=UNDATED[form], bbox_inches="tight", pad_inches=0.08)
        return out.getvalue()

    def save(self, path: str | Path) -> None:
        """Write it to a file; the ending says how. ValueError for another ending, OSError where that cannot be."""
        Path(path).write_bytes(self.to_bytes(Path(path).suffix.removeprefix(".")))

    def _repr_svg_(self) -> str:
        return self.to_bytes("svg").decode()


@contextmanager
def canvas(width: float, height: float, layout: Any = None) -> Iterator[Figure]:
    """An empty figure of that many inches, to draw on in our style. ImportError, in one line, without matplotlib."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ImportError("pictures need matplotlib: pip install 'packetwalk[plot]'") from None
    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout=layout)


def text_width(words: str, points: float) -> float:
    """Inches that a line of text takes."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), words, size=points).get_extents().width) / 72 if words.strip() else 0.0


def fitted(words: str, width: float, points: float) -> tuple[str, float]:
    """A name on one line or two that fits into `width` inches, and its size in points; in need, its middle is cut."""
    for shown, sizes in ((words, (points, points - 1.5)), *((half, (points, points - 3)) for half in _halves(words))):
        need = max(text_width(line, points) for line in shown.split("\n")) / points
        if need * sizes[1] <= width:
            return shown, min(points, width / need)
    keep = len(words)
    while keep > 4 and text_width(words[:keep], points - 3) > width:
        keep -= 1
    head = keep // 2
    return f"{words[:head]}\N{HORIZONTAL ELLIPSIS}{words[head + 1 - keep :]}", points - 3


def _halves(words: str) -> Iterator[str]:
    """The name broken behind a hyphen, dot or slash: the break nearest to the middle."""
    breaks = [m.end() for m in re.finditer(r"[-._/ ]", words) if m.end() < len(words)]
    for at in sorted(breaks, key=lambda at: abs(at - len(words) / 2))[:1]:
        yield f"{words[:at]}\n{words[at:]}"
