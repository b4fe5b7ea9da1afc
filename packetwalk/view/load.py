"""A load as text: what each flow got, where packets died, which wires made them wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packetwalk.view.table import Grid, Row, table
from packetwalk.words import counted

if TYPE_CHECKING:
    from packetwalk.engine.load import Load

MICROSECOND, MILLISECOND, SECOND = 1_000, 1_000_000, 1_000_000_000
BUSIEST, WORST = 6, 8
WIDTH = 120


def summary(load: Load) -> str:
    """The tables a person wants first. Nothing is left out of `Load.rows`."""
    lasted = f"{counted(len(load.flows), 'flow')} for {duration(load.until)}, seed {load.seed}"
    lines = [f"{lasted}  {load.network}", *(f"  {fault}" for fault in load.faults)]
    grids = [_flows(load), _hops(load), *([_drops(load)] if load.deaths else [])]
    lines += ["", table(grids, WIDTH).rstrip()]
    lines += [f"not modelled, met {n} times: {what}" for what, n in load.unsupported.items()]
    return "\n".join([*lines, *([load.note] if load.note else [])])


def duration(ns: int) -> str:
    """Three digits and a unit: 18.4 us, 1.23 ms, 120 ms."""
    for unit, size in (("s", SECOND), ("ms", MILLISECOND), ("us", MICROSECOND)):
        if ns >= size:
            return f"{_digits(ns / size)} {unit}"
    return f"{ns} ns"


def bits(rate: int) -> str:
    """Three digits and a unit: 11.2 Mbit/s."""
    for unit, size in (("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 10**3)):
        if rate >= size:
            return f"{_digits(rate / size)} {unit}"
    return f"{rate} bit/s"


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _flows(load: Load) -> Grid:
    heads = ["flow", "sent", "delivered", "lost", "goodput", "p50", "p90", "p99", "max"]
    rows = load.rows("flows")
    answered, again = any(r["answers"] for r in rows), any(r["again"] for r in rows)
    heads += [*(["answers", "rtt p50"] if answered else []), *(["sent again"] if again else [])]
    return Grid("flows (one way, from program to program)", tuple(heads),
                [_flow(r, answered, again) for r in rows], frozenset(range(1, len(heads))))  # fmt: skip


def _flow(r: dict[str, Any], answered: bool, again: bool) -> Row:
    lost = f"{r['lost']} ({r['lost'] / r['sent']:.1%})" if r["lost"] else "0"
    cells = [r["flow"], str(r["sent"]), str(r["delivered"]), lost, bits(r["goodput_bps"])]
    cells += [duration(r[f"{name}_ns"]) if r["delivered"] else "-" for name in ("p50", "p90", "p99", "max")]
    if answered:
        cells += [str(r["answers"]), duration(r["rtt_p50_ns"]) if r["answers"] else "-"]
    return (*cells, *([str(r["again"])] if again else []))


def _hops(load: Load) -> Grid:
    rows = sorted(load.rows("hops"), key=lambda r: (-r["drops"], -r["p99_ns"], -r["frames"], r["from"]))
    shown: list[Row] = [
        (f"{r['from']}/{r['dev']} > {r['to']}", str(r["frames"]), bits(r["bps"]),
         f"{r['bps'] / r['rate_bps']:.0%}" if r["rate_bps"] else "", str(r["drops"]), duration(r["p50_ns"]),
         duration(r["p99_ns"]), duration(r["max_ns"]))
        for r in rows[:BUSIEST]
    ]  # fmt: skip
    more = f", {BUSIEST} of {len(rows)}" if len(rows) > BUSIEST else ""
    heads = ("wire", "frames", "carried", "use", "drops", "p50", "p99", "max")
    return Grid(f"wires, and how long frames took to the room behind (slowest first{more})", heads, shown,
                frozenset(range(1, len(heads))))  # fmt: skip


def _drops(load: Load) -> Grid:
    rows = load.rows("drops")
    more = f" ({WORST} of {len(rows)})" if len(rows) > WORST else ""
    shown: list[Row] = [
        (str(r["count"]), r["reason"], r["room"], r["dev"], r["flow"] or "(none)", r["by"]) for r in rows[:WORST]
    ]
    return Grid(f"drops{more}", ("packets", "reason", "room", "dev", "flow", "by"), shown, frozenset({0}))
