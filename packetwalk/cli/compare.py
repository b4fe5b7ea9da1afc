"""The command `compare`: the same flow over several CNIs, side by side."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from packetwalk.cli.options import (
    BadInput,
    ColdOption,
    DfOption,
    Dst,
    FileOption,
    IcmpOption,
    NodesOption,
    RacksOption,
    SctpOption,
    SeedOption,
    SetOption,
    SizeOption,
    Src,
    TcpOption,
    TtlOption,
    UdpOption,
    emit,
    known,
    load_network,
    make_flow,
)

if TYPE_CHECKING:
    from packetwalk.trace import Trace

FORMATS = ("table", "markdown", "json")
NARROW, ELSEWHERE, WIDE = 80, 100, 120


def compare(
    src: Src,
    dst: Dst,
    cni: Annotated[
        str,
        typer.Option("--cni", metavar="MODE,MODE...|all", help="Of `packetwalk modes`; the first is the measure."),
    ] = "all",
    file: FileOption = None,
    nodes: NodesOption = 2,
    racks: RacksOption = 1,
    sets: SetOption = None,
    icmp: IcmpOption = False,
    udp: UdpOption = None,
    tcp: TcpOption = None,
    sctp: SctpOption = None,
    size: SizeOption = None,
    ttl: TtlOption = None,
    df: DfOption = None,
    cold: ColdOption = False,
    seed: SeedOption = 0,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FORMAT", help="table|markdown|json.")] = "table",
) -> None:
    """Send the same packet over several CNIs and put the walks side by side.

    \b
    Examples:
      packetwalk compare a b --cni flannel-vxlan,calico-ipip
      packetwalk compare a b --cni all --racks 2
      packetwalk compare a b --tcp 80 -f cluster.yaml -o markdown

    Exit status: 0 compared, whatever came of the walks; 2 bad input.
    """
    from packetwalk.cni import modes, parse
    from packetwalk.engine.walk import walk
    from packetwalk.view.compare import compare as side_by_side

    known(output, FORMATS, "output format")
    names = list(modes()) if cni == "all" else cni.split(",")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f"--cni names {twice!r} twice")
    traces: list[Trace] = []
    needs: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        network = load_network(None, seed, file=file, cni=name, nodes=nodes, racks=racks, sets=sets, quiet=bool(traces))
        flow = make_flow(network, src, dst, icmp=icmp, udp=udp, tcp=tcp, sctp=sctp, size=size, ttl=ttl, df=df)
        traces.append(walk(network, flow, cold=cold))
        needs[name] = [(need.what, need.without) for need in parse(name).needs]
    found = side_by_side(*traces, names=names, needs=needs)
    if output == "json":
        emit(json.dumps(found.to_dict(), indent=1))
    else:
        emit(found.markdown() if output == "markdown" else found.table(_width()))


def _width() -> int:
    """Columns of the terminal, within what the tables are made for; 100 where the output goes elsewhere."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else ELSEWHERE
    return min(max(columns, NARROW), WIDE)
