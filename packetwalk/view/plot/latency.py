"""How long packets took under load, as empirical distributions side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from packetwalk.view.plot.picture import DASHES, GREY, LINES, MARKERS, Picture, canvas

WIDTH, HEIGHT = 6.4, 3.9  # inches
GUIDES = (0.5, 0.9, 0.99)


@runtime_checkable
class Distribution(Protocol):
    """What has counted durations."""

    def shares(self) -> list[tuple[int, float]]:
        """(ns, share of all that took at most so long), rising."""


@runtime_checkable
class Loaded(Protocol):
    """What has a distribution of latencies: a Load, of all its flows together, or one of them."""

    @property
    def latency(self) -> Distribution: ...


def ecdf(latencies: Mapping[str, Sequence[int] | Distribution | Loaded], title: str = "latency under load") -> Picture:
    """The share of packets that took at most so long, a line for each name: what `simulate` returned, one of its flows,
    or ns in any order. The scale is logarithmic, as what waits in queues waits many times longer. ValueError where
    nothing was counted."""
    curves = {name: _shares(found) for name, found in latencies.items()}
    if empty := next((name for name, curve in curves.items() if not curve), None):
        raise ValueError(f"{empty}: no packet arrived, so there is no latency to draw")
    if not curves:
        raise ValueError("a distribution needs latencies")
    with canvas(WIDTH, HEIGHT, "constrained") as figure:
        ax = figure.subplots()
        for share in GUIDES:
            ax.axhline(share, color="#cccccc", linewidth=0.6, zorder=0)
            ax.text(
                1.01,
                share,
                f"p{share * 100:g}",
                transform=ax.get_yaxis_transform(),
                va="center",
                fontsize=6,
                color=GREY,
            )
        for n, (name, curve) in enumerate(curves.items()):
            us = [ns / 1000 for ns, _ in curve]
            marked = [next(i for i, (_, reached) in enumerate(curve, 1) if reached >= share) for share in GUIDES]
            ax.step([us[0], *us], [0.0, *(share for _, share in curve)], where="post", color=LINES[n % len(LINES)],
                    linestyle=DASHES[n % len(DASHES)], linewidth=1.4, label=f"{name} (median {_at(curve, 0.5):.1f} us)",
                    marker=MARKERS[n % len(MARKERS)], markevery=marked, markersize=4)  # fmt: skip
        low, high = _limits(curves.values())
        ax.set_xscale("log")
        ticks = _ticks(low, high)
        ax.set_xticks(ticks, [f"{tick:.4g}" for tick in ticks])
        ax.set_xticks([], minor=True)
        ax.set(
            xlim=(low, high),
            ylim=(0, 1.02),
            xlabel="us until a packet has arrived (logarithmic)",
            ylabel="share of packets",
        )
        ax.set_title(title, loc="left", fontsize=9, weight="bold")
        ax.grid(axis="x", which="both", color="#eeeeee", linewidth=0.5)
        ax.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=2 if len(curves) > 1 else 1, fontsize=7, handlelength=3.5)
        return Picture(figure)


def _limits(curves: Iterable[list[tuple[int, float]]]) -> tuple[float, float]:
    """The smallest and the largest time in us, with a margin."""
    ends = [ns for curve in curves for ns in (curve[0][0], curve[-1][0])]
    return max(min(ends), 1) / 1000 * 0.9, max(*ends, 2) / 1000 * 1.1


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, at least four if some are there."""
    found: list[float] = []
    for steps in (
        (1, 2, 5),
        (1, 1.5, 2, 3, 4, 5, 7),
        (1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 2, 2.3, 2.6, 3, 3.5, 4, 5, 6, 8),
    ):
        found = [step * 10**power for power in range(-3, 9) for step in steps if low <= step * 10**power <= high]
        if len(found) >= 4:
            break
    return found


def _shares(found: Sequence[int] | Distribution | Loaded) -> list[tuple[int, float]]:
    if isinstance(found, Loaded):
        found = found.latency
    if isinstance(found, Distribution):
        return found.shares()
    ordered = sorted(found)
    last = {ns: n for n, ns in enumerate(ordered, 1)}
    return [(ns, n / len(ordered)) for ns, n in last.items()]


def _at(curve: list[tuple[int, float]], share: float) -> float:
    return next(ns for ns, reached in curve if reached >= share) / 1000
