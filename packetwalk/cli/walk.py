"""The command `walk`: send one packet, show where it went."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packetwalk.cli.answer import after_of, branches_text, status_of, text_of
from packetwalk.cli.fetch import ResolveOption, follow, is_url
from packetwalk.cli.options import (
    BadInput,
    ColdOption,
    DfOption,
    Dst,
    FileOption,
    IcmpOption,
    ModeOption,
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
)  # fmt: skip

if TYPE_CHECKING:
    from packetwalk.engine.branches import Branch
    from packetwalk.exchanges import Fetch
    from packetwalk.network import Network
    from packetwalk.trace import Flow, Trace

LAYOUTS = ("summary", "full", "minimal", "json")
COLOURS = ("auto", "always", "never")

CostsOption = Annotated[Path | None, typer.Option(metavar="FILE", help="JSON: {stage: nanoseconds}.")]
OutputOption = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FORMAT", help="summary|full|minimal|json.")
]
AfterOption = Annotated[
    str | None, typer.Option(metavar="'NETNS TABLE'", help="Also a table as it is then, conntrack, ipvs-conns.")
]
BranchesOption = Annotated[
    bool, typer.Option("--all-branches", help="Walk every backend that rules may draw, with its probability.")
]
PcapOption = Annotated[
    Path | None, typer.Option("--pcap", metavar="FILE", help="Also write every frame on every device as pcapng.")
]
HtmlOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page to step through the walk.")]


def walk(
    src: Src,
    dst: Dst,
    snapshot: Snapshot = None,
    file: FileOption = None,
    cni: ModeOption = None,
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
    costs: CostsOption = None,
    full: Annotated[bool, typer.Option("--full", help="Every step and what decided it.")] = False,
    minimal: Annotated[bool, typer.Option("--minimal", help="One line.")] = False,
    output: OutputOption = None,
    color: Annotated[str, typer.Option(metavar="WHEN", help="auto|always|never; NO_COLOR is respected.")] = "auto",
    after: AfterOption = None,
    all_branches: BranchesOption = False,
    pcap: PcapOption = None,
    html: HtmlOption = None,
    resolve: ResolveOption = None,
) -> None:
    """Send one packet, or follow a URL, and show where it and its answer went.

    \b
    Examples:
      packetwalk walk a b --tcp 8080 --full
      packetwalk walk a out --size 1472 --df --cold
      packetwalk walk a out --after 'node-1 conntrack'
      packetwalk walk a web:80 --pcap walk.pcapng --html walk.html
      packetwalk walk a http://web
      packetwalk walk n1-a 10.244.2.2 --snapshot recordings/S3-flannel-vxlan -o json
    """
    from packetwalk.engine.walk import walk as send

    colour, layout = _colour(color), _layout(full, minimal, output)
    url = is_url(dst, resolve)
    network = load_network(snapshot, seed, file=file, cni=cni, nodes=nodes, racks=racks, sets=sets, dns=url)
    table, prices = _asked_after(network, after, layout), _costs(costs)
    if url:
        unfit = dict(icmp=icmp, udp=udp, tcp=tcp, sctp=sctp, size=size, ttl=ttl, df=df) | {"all-branches": all_branches}
        trace: Trace | Fetch = follow(network, src, dst, resolve, unfit, cold=cold, costs=prices)
    else:
        flow = make_flow(network, src, dst, icmp=icmp, udp=udp, tcp=tcp, sctp=sctp, size=size, ttl=ttl, df=df)
        if all_branches:
            _one_walk(pcap, html)
            branches = _branches(network, flow, cold, prices)
            emit(branches_text(branches, layout, colour, table))
            raise typer.Exit(max(status_of(b.trace) for b in branches))
        trace = send(network, flow, cold=cold, costs=prices)
    _write(trace, pcap, html)
    emit(text_of(trace, layout, colour) + after_of(trace, table))
    raise typer.Exit(status_of(trace))


def _layout(full: bool, minimal: bool, output: str | None) -> str:
    if output is not None:
        known(output, LAYOUTS, "output format")
    asked = {*(["full"] if full else []), *(["minimal"] if minimal else []), *([output] if output else [])}
    if len(asked) > 1:
        raise BadInput(f"one output is possible, not {' and '.join(sorted(asked))}")
    return asked.pop() if asked else "summary"


def _asked_after(network: Network, words: str | None, layout: str) -> tuple[str, str] | None:
    """The room and the table that `--after` names."""
    if words is None:
        return None
    from packetwalk.show import SHOWN

    name, _, table = words.strip().partition(" ")
    room = known(network.room_of(name), network.rooms, "room")
    known(table.strip(), [*SHOWN, "conntrack", "ipvs-conns"], "table")
    if layout == "json":
        raise BadInput("--after prints a table below the trace; JSON has no place for it")
    return room, table.strip()


def _one_walk(pcap: Path | None, html: Path | None) -> None:
    for option, file in (("--pcap", pcap), ("--html", html)):
        if file is not None:
            raise BadInput(f"{option} writes one walk, and --all-branches makes several")


def _write(trace: Trace | Fetch, pcap: Path | None, html: Path | None) -> None:
    if pcap is not None:
        write_file(pcap, trace.to_pcapng())
    if html is not None:
        write_file(html, trace.to_html().encode())


def _branches(network: Network, flow: Flow, cold: bool, costs: Mapping[str, int]) -> list[Branch]:
    from packetwalk.engine.branches import walk_branches

    try:
        return walk_branches(network, flow, cold=cold, costs=costs)
    except ValueError as error:
        raise BadInput(str(error)) from None


def _costs(costs: Path | None) -> Mapping[str, int]:
    from packetwalk.engine.costs import DEFAULT_COSTS, load_costs

    try:
        return DEFAULT_COSTS if costs is None else load_costs(costs)
    except OSError as error:
        raise BadInput(f"{costs}: {error.strerror}") from None
    except ValueError as error:
        raise BadInput(str(error) if str(costs) in str(error) else f"{costs}: not JSON: {error}") from None


def _colour(when: str) -> bool:
    """Whether to colour: `auto` does on a terminal that can, unless NO_COLOR is set (no-color.org)."""
    known(when, COLOURS, "--color value")
    if when != "auto":
        return when == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
