"""The command `plot`: a picture of a walk, of the same walk over several CNIs, or of latencies under load."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    from packetwalk.network import Network
    from packetwalk.trace import Trace
    from packetwalk.view.plot import Picture

KINDS = ("topology", "waterfall", "headers", "overhead", "ecdf")
OF_ONE = ("topology", "headers")
LOAD = "poisson rate 5000"

Kind = Annotated[str, typer.Argument(metavar="KIND", help="topology|waterfall|headers|overhead|ecdf.")]
OutOption = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="A file that ends in svg, png or pdf.")]
ModesOption = Annotated[
    str | None,
    typer.Option(
        "--cni", metavar="MODE,MODE...|all", help="Of `packetwalk modes`; several for waterfall, overhead, ecdf."
    ),
]
LoadOption = Annotated[
    str | None,
    typer.Option("--load", metavar="WORDS", help=f"For ecdf: what is sent, as for `simulate`; else {LOAD!r}."),
]
UntilOption = Annotated[str, typer.Option("--until", metavar="TIME", help="For ecdf: how long.")]


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
    load: LoadOption = None,
    until: UntilOption = "100ms",
) -> None:
    """Draw a walk (its rooms, where its time went, its headers, what they cost), or latencies under load.

    \b
    Examples:
      packetwalk plot topology a b -o topology.svg
      packetwalk plot waterfall a web:80 --cni flannel-vxlan,calico-ipip -o time.pdf
      packetwalk plot headers a b --cni geneve -o headers.png
      packetwalk plot overhead a b --cni all -o overhead.svg
      packetwalk plot ecdf a b --cni flannel-vxlan,calico-ipip --load 'poisson rate 9000 size 1400' -o latency.svg

    The same input gives the same SVG, byte for byte. Exit status: 0 drawn, whatever came of the walk; 2 bad input.
    """
    known(kind, KINDS, "kind of plot")
    names = _modes(cni)
    if kind in OF_ONE and len(names) > 1:
        raise BadInput(f"{kind} shows one walk, and --cni names {len(names)} modes")
    networks = [
        load_network(snapshot, seed, file=file, cni=name, nodes=nodes, racks=racks, sets=sets) for name in names
    ]
    flow = {"icmp": icmp, "udp": udp, "tcp": tcp, "sctp": sctp, "size": size, "ttl": ttl, "df": df}
    try:
        if kind == "ecdf":
            picture = _latencies(networks, names, [src, dst, *_words(load, flow)], until=until, seed=seed, cold=cold)
        else:
            picture = _drawn(kind, _walks(networks, src, dst, flow, cold, load), [name for name in names if name])
        data = picture.to_bytes(output.suffix.removeprefix("."))
    except (ImportError, ValueError, KeyError) as error:
        raise BadInput(str(error.args[0])) from None
    write_file(output, data)
    emit(f"{output}: {kind} of {src} > {dst}{f' over {cni}' if cni else ''}")


def _walks(
    networks: list[Network], src: str, dst: str, flow: dict[str, Any], cold: bool, load: str | None
) -> list[Trace]:
    from packetwalk.engine.walk import walk

    if load is not None:
        raise BadInput("--load is for ecdf; the others show a single packet")
    return [walk(network, make_flow(network, src, dst, **flow), cold=cold) for network in networks]


def _words(load: str | None, flow: dict[str, Any]) -> list[str]:
    """What is sent, in the words of `simulate`."""
    if unfit := next((name for name, value in flow.items() if value not in (None, False)), None):
        raise BadInput(f"--{unfit} is for a single packet; --load says what ecdf sends")
    return shlex.split(LOAD if load is None else load)


def _latencies(
    networks: list[Network], names: list[str | None], line: list[str], *, until: str, seed: int, cold: bool
) -> Picture:
    from packetwalk.cli.simulate import source_of
    from packetwalk.engine.simulate import simulate
    from packetwalk.view import plot

    loads = {
        name or network.name: simulate(network, source_of(network, line), until=until, seed=seed, cold=cold)
        for name, network in zip(names, networks, strict=True)
    }
    return plot.ecdf(loads, f"{line[0]} > {line[1]} {' '.join(line[2:])}, {until}")


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
