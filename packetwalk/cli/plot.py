"""The command `plot`: a picture of a walk, or of the same walk over several CNIs."""

from __future__ import annotations

from pathlib import Path
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
    Snapshot,
    Src,
    TcpOption,
    TtlOption,
    UdpOption,
    emit,
    known,
    load_network,
    make_flow,
    write_file,
)

if TYPE_CHECKING:
    from packetwalk.trace import Trace
    from packetwalk.view.plot import Picture

KINDS = ("topology", "waterfall", "headers", "overhead")
OF_ONE = ("topology", "headers")

Kind = Annotated[str, typer.Argument(metavar="KIND", help="topology|waterfall|headers|overhead.")]
OutOption = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="A file that ends in svg, png or pdf.")]
ModesOption = Annotated[
    str | None,
    typer.Option(
        "--cni", metavar="MODE,MODE...|all", help="Of `packetwalk modes`; several for waterfall and overhead."
    ),
]


def plot(
    kind: Kind,
    src: Src,
    dst: Dst,
    output: OutOption,
    snapshot: Snapshot = None,
    file: FileOption = None,
    cni: ModesOption = None,
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
) -> None:
    """Draw a walk: the rooms it went through, where its time went, its headers, what they cost.

    \b
    Examples:
      packetwalk plot topology a b -o topology.svg
      packetwalk plot waterfall a web:80 --cni flannel-vxlan,calico-ipip -o time.pdf
      packetwalk plot headers a b --cni geneve -o headers.png
      packetwalk plot overhead a b --cni all -o overhead.svg

    The same input gives the same SVG, byte for byte. Exit status: 0 drawn, whatever came of the walk; 2 bad input.
    """
    from packetwalk.engine.walk import walk

    known(kind, KINDS, "kind of plot")
    names = _modes(cni)
    if kind in OF_ONE and len(names) > 1:
        raise BadInput(f"{kind} shows one walk, and --cni names {len(names)} modes")
    traces: list[Trace] = []
    for name in names:
        network = load_network(snapshot, seed, file=file, cni=name, nodes=nodes, racks=racks, sets=sets)
        flow = make_flow(network, src, dst, icmp=icmp, udp=udp, tcp=tcp, sctp=sctp, size=size, ttl=ttl, df=df)
        traces.append(walk(network, flow, cold=cold))
    form = output.suffix.removeprefix(".")
    try:
        picture = _drawn(kind, traces, [name for name in names if name is not None])
        data = picture.to_bytes(form)
    except (ImportError, ValueError) as error:
        raise BadInput(str(error)) from None
    write_file(output, data)
    emit(f"{output}: {kind} of {src} > {dst}{f' over {cni}' if cni else ''}")


def _modes(cni: str | None) -> list[str | None]:
    from packetwalk.cni import modes

    if cni is None:
        return [None]
    names = list(modes()) if cni == "all" else cni.split(",")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f"--cni names {twice!r} twice")
    return [*names]


def _drawn(kind: str, traces: list[Trace], names: list[str]) -> Picture:
    from packetwalk.view import plot

    if kind == "topology":
        return plot.topology(traces[0])
    if kind == "headers":
        return plot.headers(traces[0])
    return plot.waterfall(*traces, names=names) if kind == "waterfall" else plot.overhead(*traces, names=names)
