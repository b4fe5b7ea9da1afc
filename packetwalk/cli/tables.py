"""The commands that show what is there, without a packet: rooms, show, commands, modes, schema, predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from packetwalk.cli.options import (
    BadInput,
    FileOption,
    ModeOption,
    NodesOption,
    RacksOption,
    SetOption,
    Snapshot,
    complete_room,
    complete_table,
    emit,
    known,
    load_network,
    snapshot_folder,
)  # fmt: skip


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
    rows += [(name, "pod", f"in {room}") for name, room in network.host_pods().items()]
    widths = [max((len(row[i]) for row in rows), default=0) for i in (0, 1)]
    emit("\n".join(f"{name:{widths[0]}}  {role:{widths[1]}}  {addrs}".rstrip() for name, role, addrs in rows))


def show(
    room: Annotated[
        str, typer.Argument(metavar="NETNS", help="Room whose table is wanted.", autocompletion=complete_room)
    ],
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="routes|ip-rules|neigh|fdb|links|addrs|rules|sets|ipvs|resolv.conf.",
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
    room = known(network.room_of(room), network.rooms, "room")
    try:
        emit("\n".join(rules(network, room, only, chain)) if table == "rules" else text_of(network, room, table))
    except KeyError as error:
        raise BadInput(str(error.args[0])) from None


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
        room = known(network.room_of(room), network.rooms, "room")
    emit("\n".join(lines.commands(network, room)))


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

    from packetwalk.document.model import schema as form

    emit(json.dumps(form(), indent=1))


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
