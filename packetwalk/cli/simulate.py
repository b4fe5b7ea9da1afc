"""The command `simulate`: many packets at once, and what became of them."""

from __future__ import annotations

import csv
import io
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from packetwalk.cli.options import (
    UNSUPPORTED,
    BadInput,
    ColdOption,
    Dst,
    FileOption,
    ModeOption,
    NodesOption,
    RacksOption,
    SetOption,
    Snapshot,
    Src,
    emit,
    known,
    load_network,
)

if TYPE_CHECKING:
    from packetwalk.engine.load import Load
    from packetwalk.engine.sources import Source
    from packetwalk.network import Network

FORMATS = ("text", "csv", "json")
PATIENCE = 1.0  # seconds without a bar
TABLES = ("flows", "hops", "rooms", "drops", "time")


def simulate(
    src: Src,
    dst: Dst,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORDS]...", help="rate N, size BYTES, poisson, on TIME off TIME, transfer BYTES, "
                       "times FILE, icmp, conns N, start TIME, stop TIME, name NAME."),
    ] = None,
    also: Annotated[
        list[str] | None, typer.Option("--also", metavar="'SRC DST WORDS'", help="One more flow; repeatable.")
    ] = None,
    until: Annotated[str, typer.Option(metavar="TIME", help="How long sources send: 500ms, 2s.")] = "1s",
    faults: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="LINE", help="'at TIME LINE of --set', or 'at TIME bgp withdraw NODE'."),
    ] = None,
    every: Annotated[
        str, typer.Option(metavar="TIME", help="Slices of the table `time`; else a twentieth.", show_default=False)
    ] = "0ns",
    snapshot: Snapshot = None,
    file: FileOption = None,
    cni: ModeOption = None,
    nodes: NodesOption = 2,
    racks: RacksOption = 1,
    sets: SetOption = None,
    cold: ColdOption = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of what is drawn, by sources and by rules.")] = 0,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FORMAT", help="text|csv|json.")] = "text",
    table: Annotated[str, typer.Option(metavar="NAME", help="With csv: flows|hops|rooms|drops|time.")] = "flows",
) -> None:  # fmt: skip
    """Send many packets at once and count what became of them.

    \b
    Examples:
      packetwalk simulate a b rate 5000 size 1400 --until 200ms
      packetwalk simulate a b poisson rate 8000 --also 'c b transfer 1000000' --set 'link node-1 rate 100mbit'
      packetwalk simulate a web:80 transfer 500000 conns 4 --fault 'at 20ms link node-2 down' -o json

    Exit status: 0 played, whatever was lost; 2 bad input; 3 something that is not modelled was met.
    """
    from packetwalk.engine.simulate import simulate as play

    known(output, FORMATS, "output format")
    known(table, TABLES, "table")
    network = load_network(snapshot, seed, file=file, cni=cni, nodes=nodes, racks=racks, sets=sets)
    try:
        sources = [source_of(network, [src, dst, *(words or ())]), *(
            source_of(network, shlex.split(line), f"--also {line!r}: ") for line in also or ()
        )]  # fmt: skip
        with _progress() as tell:
            load = play(
                network, *sources, until=until, seed=seed, faults=faults or (), every=every, cold=cold, progress=tell
            )
    except (ValueError, KeyError) as error:
        raise BadInput(str(error.args[0])) from None
    except OSError as error:
        raise BadInput(f"{error.filename}: {error.strerror}") from None
    emit(_shown(load, output, table))
    raise typer.Exit(UNSUPPORTED if load.unsupported else 0)


def source_of(network: Network, line: list[str], where: str = "") -> Source:
    """A source in words: its ends, then what it sends."""
    from packetwalk.edit import Words, number
    from packetwalk.engine import sources
    from packetwalk.engine.sources import SIZE_MAX

    words = Words(line)
    grammar: dict[str, Callable[[str], Any] | None] = {
        "rate": _rate, "size": number(0, SIZE_MAX), "poisson": None, "on": str, "off": str, "times": str,
        "transfer": number(), "icmp": None, "port": number(1, 65535), "conns": number(1, 10_000), "start": str,
        "stop": str, "name": str,
    }  # fmt: skip
    try:
        src = words.one_of("room", (*network.rooms, *network.programs))
        dst = words.take("where it goes to")
        options = words.options(grammar)
        kinds = [name for name in ("poisson", "on", "times", "transfer") if name in options]
        if len(kinds) > 1:
            raise ValueError(f"{' and '.join(kinds)} exclude each other")
        kind = kinds[0] if kinds else "constant"
        if ("on" in options) != ("off" in options):
            raise ValueError("`on TIME` and `off TIME` go together")
        if kind in ("times", "transfer"):
            if other := {"rate", "size"} & {*options}:
                raise ValueError(f"{kind} has no use for {' and '.join(sorted(other))}")
        else:
            options.setdefault("rate", 1000.0)
        if kind == "times":
            return sources.recorded(src, dst, options.pop("times"), **options)
        if kind == "transfer":
            return sources.transfer(src, dst, total=options.pop("transfer"), **options)
        if kind == "on":
            return sources.on_off(src, dst, **options)
        options.pop("poisson", None)
        return (sources.poisson if kind == "poisson" else sources.constant)(src, dst, **options)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"packets a second were expected, not {text!r}") from None


@contextmanager
def _progress() -> Iterator[Callable[[float], None] | None]:
    """A bar on stderr, where that is a terminal and the run a long one; it goes away when that is over."""
    if not sys.stderr.isatty():
        yield None
        return
    from time import monotonic

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("simulating"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn()
    bar, begun = Progress(*columns, console=Console(stderr=True), transient=True), monotonic()
    task = bar.add_task("", total=1.0)

    def tell(share: float) -> None:
        if monotonic() - begun > PATIENCE and not bar.live.is_started:
            bar.start()
        bar.update(task, completed=share)

    try:
        yield tell
    finally:
        bar.stop()


def _shown(load: Load, output: str, table: str) -> str:
    if output == "text":
        return str(load)
    if output == "json":
        return json.dumps(load.to_dict(), indent=1)
    rows, out = load.rows(table), io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")
