"""The command `packetwalk`. Everything heavy is imported by the command that needs it.

Exit status: 0 delivered (and answered), 1 not, 2 bad input (one line on stderr), 3 something not modelled decided.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from packetwalk import comparing, explaining, proving
from packetwalk.answer import after_of, branches_text, status_of, text_of
from packetwalk.asked import (
    BAD_INPUT,
    DELIVERED,
    INTERRUPTED,
    BadInput,
    ColdOption,
    DfOption,
    Dst,
    FileOption,
    IcmpOption,
    ModeOption,
    NodesOption,
    RacksOption,
    SeedOption,
    SetOption,
    SizeOption,
    Snapshot,
    Src,
    TcpOption,
    TtlOption,
    UdpOption,
    complete_room,
    complete_table,
    emit,
    known,
    load_network,
    make_flow,
    snapshot_folder,
)  # fmt: skip

if TYPE_CHECKING:
    from packetwalk.engine.branches import Branch
    from packetwalk.network import Network
    from packetwalk.trace import Flow

LAYOUTS = ("summary", "full", "minimal", "json")
COLOURS = ("auto", "always", "never")

# typer carries click's exceptions under a name of its own since 0.27, and only their base class knows all of them.
CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


# -- the commands ------------------------------------------------------------------------------------------------------


@app.callback(invoke_without_command=True)
def packetwalk(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Show the path of a packet through Linux network namespaces, as the kernel would take it.

    \b
    Examples, all on the cluster that is built where none is named (Calico with IP-in-IP on two nodes):
      packetwalk rooms                       who is there
      packetwalk walk a b                    ping pod b from pod a: what changed on the way
      packetwalk walk a b --tcp 8080 --full  every step, with the table entry that decided
      packetwalk show node-1 routes          what `ip route` prints there
      packetwalk commands node-1             the shell lines that build that node

    Exit status: 0 delivered, 1 not delivered, 2 bad input, 3 something that is not modelled decided.
    """
    if version:
        emit(f"packetwalk {_version()}")
        raise typer.Exit(DELIVERED)
    if ctx.invoked_subcommand is None:
        emit(ctx.get_help())


@app.command()
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
    size: SizeOption = None,
    ttl: TtlOption = None,
    df: DfOption = None,
    cold: ColdOption = False,
    seed: SeedOption = 0,
    costs: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON: {stage: nanoseconds}.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Every step and what decided it.")] = False,
    minimal: Annotated[bool, typer.Option("--minimal", help="One line.")] = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FORMAT", help="summary|full|minimal|json.")
    ] = None,
    color: Annotated[str, typer.Option(metavar="WHEN", help="auto|always|never; NO_COLOR is respected.")] = "auto",
    after: Annotated[
        str | None, typer.Option(metavar="'NETNS TABLE'", help="Also a table as the walk left it, or conntrack.")
    ] = None,
    all_branches: Annotated[
        bool, typer.Option("--all-branches", help="Walk every backend that rules may draw, with its probability.")
    ] = False,
) -> None:
    """Send one packet and show where it and its answer went.

    \b
    Examples:
      packetwalk walk a b
      packetwalk walk a b --tcp 8080 --full
      packetwalk walk a out --size 1472 --df --cold
      packetwalk walk a out --after 'node-1 conntrack'
      packetwalk walk n1-a 10.244.2.2 --snapshot recordings/S3-flannel-vxlan -o json
    """
    from packetwalk.engine.walk import walk as send

    colour = _colour(color)
    layout = _layout(full, minimal, output)
    network = load_network(snapshot, seed, file=file, cni=cni, nodes=nodes, racks=racks, sets=sets)
    flow = make_flow(network, src, dst, icmp=icmp, udp=udp, tcp=tcp, size=size, ttl=ttl, df=df)
    table = _asked_after(network, after, layout)
    prices = _costs(costs)
    if all_branches:
        branches = _branches(network, flow, cold, prices)
        emit(branches_text(branches, layout, colour, table))
        raise typer.Exit(max(status_of(b.trace) for b in branches))
    trace = send(network, flow, cold=cold, costs=prices)
    emit(text_of(trace, layout, colour) + after_of(trace, table))
    raise typer.Exit(status_of(trace))


@app.command()
def rooms(
    snapshot: Snapshot = None,
    file: FileOption = None,
    cni: ModeOption = None,
    nodes: NodesOption = 2,
    racks: RacksOption = 1,
    sets: SetOption = None,
) -> None:
    """List the rooms of a network: name, role, addresses.

    \b
    Examples:
      packetwalk rooms
      packetwalk rooms --snapshot recordings/S3-flannel-vxlan
    """
    network = load_network(snapshot, file=file, cni=cni, nodes=nodes, racks=racks, sets=sets)
    rows = []
    for room in network:
        addrs = [str(a) for d in room.devices.values() if d.kind != "loopback" for a in d.addrs]
        rows.append((room.name, network.roles.get(room.name, ""), " ".join(addrs)))
    widths = [max((len(row[i]) for row in rows), default=0) for i in (0, 1)]
    emit("\n".join(f"{name:{widths[0]}}  {role:{widths[1]}}  {addrs}".rstrip() for name, role, addrs in rows))


@app.command()
def show(
    room: Annotated[
        str, typer.Argument(metavar="NETNS", help="Room whose table is wanted.", autocompletion=complete_room)
    ],
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="routes|ip-rules|neigh|fdb|links|addrs|rules|sets.",
            autocompletion=complete_table,
        ),
    ],
    only: Annotated[str, typer.Option("--table", metavar="TABLE", help="Of rules: only this table.")] = "",
    chain: Annotated[str, typer.Option(metavar="CHAIN", help="Of rules: only this chain.")] = "",
    snapshot: Snapshot = None,
    file: FileOption = None,
    cni: ModeOption = None,
    nodes: NodesOption = 2,
    racks: RacksOption = 1,
    sets: SetOption = None,
) -> None:
    """Print a room's table as `ip`, `bridge`, iptables-save and ipset print it.

    \b
    Examples:
      packetwalk show node-1 routes
      packetwalk show node-1 rules --table nat --chain POSTROUTING
      packetwalk show n1 fdb --snapshot recordings/S3-flannel-vxlan
    """
    from packetwalk.show import SHOWN, rules
    from packetwalk.show import show as text_of

    known(table, SHOWN, "table")
    if (only or chain) and table != "rules":
        raise BadInput(f"--table and --chain are for rules, not for {table}")
    network = load_network(snapshot, file=file, cni=cni, nodes=nodes, racks=racks, sets=sets)
    known(room, network.rooms, "room")
    try:
        emit("\n".join(rules(network, room, only, chain)) if table == "rules" else text_of(network, room, table))
    except KeyError as error:
        raise BadInput(str(error.args[0])) from None


@app.command()
def commands(
    room: Annotated[
        str | None,
        typer.Argument(metavar="[NETNS]", help="Only this room and its wires.", autocompletion=complete_room),
    ] = None,
    snapshot: Snapshot = None,
    file: FileOption = None,
    cni: ModeOption = None,
    nodes: NodesOption = 2,
    racks: RacksOption = 1,
    sets: SetOption = None,
) -> None:
    """Print the shell lines that build the network.

    They want root, iproute2 and sysctl; a line with # says what no command can build.

    \b
    Examples:
      packetwalk commands | sudo sh -e
      packetwalk commands node-1 --snapshot my-snapshot
    """
    from packetwalk import commands as lines

    network = load_network(snapshot, file=file, cni=cni, nodes=nodes, racks=racks, sets=sets)
    if room is not None:
        known(room, network.rooms, "room")
    emit("\n".join(lines.commands(network, room)))


@app.command()
def modes() -> None:
    """List the CNI modes that --cni takes, one line each.

    \b
    Examples:
      packetwalk modes
    """
    from packetwalk.cni import modes as all_modes

    about = all_modes()
    width = max(map(len, about))
    emit("\n".join(f"{name:{width}}  {line}" for name, line in about.items()))


@app.command()
def schema(
    example: Annotated[bool, typer.Option("--example", help="A cluster.yaml to start from instead.")] = False,
) -> None:
    """Print the JSON schema of cluster.yaml, which editors check a file by while it is written.

    \b
    Examples:
      packetwalk schema > cluster.schema.json
      packetwalk schema --example > cluster.yaml
      packetwalk walk a b -f cluster.yaml
    """
    from packetwalk.source import EXAMPLE

    if example:
        emit(EXAMPLE.read_text(encoding="utf-8").rstrip())
        return
    import json

    from packetwalk.document.model import schema as form

    emit(json.dumps(form(), indent=1))


@app.command()
def predict(
    recording: Annotated[Path, typer.Argument(metavar="RECORDING", help="Folder with recording.json.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with every frame.")] = False,
) -> None:
    """Say what a kernel would do with recorded probes.

    \b
    Examples:
      packetwalk predict recordings/G302
      packetwalk predict recordings/G302 --json
    """
    import json

    from packetwalk.predict import predict as replay
    from packetwalk.snapshot import SnapshotError

    snapshot_folder(recording)
    try:
        answer = replay(recording)
    except SnapshotError as error:
        raise BadInput(str(error)) from None
    if as_json:
        emit(json.dumps(answer))
        return
    emit("\n".join(f"{p['name']}: {p['result']['outcome']}, {len(p['frames'])} frames" for p in answer["probes"]))


app.command()(comparing.compare)
app.command()(explaining.explain)
app.command()(proving.prove)
app.command()(proving.record)
app.command()(proving.agree)


# -- what was asked ----------------------------------------------------------------------------------------------------


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

    room, _, table = words.strip().partition(" ")
    known(room, network.rooms, "room")
    known(table.strip(), [*SHOWN, "conntrack"], "table")
    if layout == "json":
        raise BadInput("--after prints a table below the trace; JSON has no place for it")
    return room, table.strip()


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


# -- what is answered --------------------------------------------------------------------------------------------------


def _colour(when: str) -> bool:
    """Whether to colour: `auto` does on a terminal that can, unless NO_COLOR is set (no-color.org)."""
    known(when, COLOURS, "--color value")
    if when != "auto":
        return when == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("packetwalk")
    except PackageNotFoundError:
        return "(not installed: run from its source)"


def _complain(*lines: str) -> int:
    for line in lines:
        print(f"packetwalk: {' '.join(line.split())}", file=sys.stderr)
    return BAD_INPUT


def main(argv: list[str] | None = None) -> int:
    """Run the command line (sys.argv unless given) and return its exit status."""
    command: Any = typer.main.get_command(app)
    try:
        status = command.main(args=explaining.rule_last(argv), prog_name="packetwalk", standalone_mode=False)
    except BadInput as error:
        return _complain(*map(str, error.args))
    except proving.Missing as error:
        _complain(str(error))
        return proving.MISSING
    except CLICK_ERROR as error:
        ctx = getattr(error, "ctx", None)
        path = ctx.command_path if ctx is not None else "packetwalk"
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        return _complain(f"{message.rstrip('.')} (see {path} --help)")
    except typer.Abort:
        return INTERRUPTED
    return status if isinstance(status, int) else DELIVERED
