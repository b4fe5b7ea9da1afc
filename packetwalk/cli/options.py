"""What the command line is asked: options that several commands share, and their values checked and made into things.

Everything heavy is imported by the function that needs it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packetwalk.hint import unknown
from packetwalk.source import DEFAULT_MODE, check_folder, from_file, from_mode, from_snapshot

if TYPE_CHECKING:
    from packetwalk.network import Network
    from packetwalk.trace import Flow

DELIVERED, NOT_DELIVERED, BAD_INPUT, UNSUPPORTED, INTERRUPTED = 0, 1, 2, 3, 130
SIZE_MAX = 65507  # what an IPv4 datagram has left for data beside an IP and a UDP or ICMP header


class BadInput(Exception):
    """What was asked cannot be done; each argument is one line for a person."""


def complete_room(ctx: typer.Context, incomplete: str) -> list[str]:
    """Rooms, and pods in nodes, of the network that the command line names so far; none where it cannot be read."""
    network = _named_so_far(ctx)
    names = (*network.rooms, *network.host_pods()) if network is not None else ()
    return [name for name in names if name.startswith(incomplete)]


def complete_destination(ctx: typer.Context, incomplete: str) -> list[str]:
    """The same, and services."""
    network = _named_so_far(ctx)
    names = (*network.rooms, *network.host_pods(), *network.services) if network is not None else ()
    return [name for name in names if name.startswith(incomplete)]


def _named_so_far(ctx: typer.Context) -> Network | None:
    given = ctx.params
    try:
        return load_network(
            Path(given["snapshot"]) if given.get("snapshot") else None,
            file=[Path(name) for name in given.get("file") or ()],
            cni=given.get("cni"),
            nodes=int(given.get("nodes") or 2),
            racks=int(given.get("racks") or 1),
        )
    except (BadInput, ValueError):
        return None


def complete_table(incomplete: str) -> list[str]:
    """Tables that `show` can print."""
    from packetwalk.show import SHOWN

    return [name for name in SHOWN if name.startswith(incomplete)]


def complete_mode(incomplete: str) -> list[str]:
    """CNI modes."""
    from packetwalk.cni import modes

    return [name for name in modes() if name.startswith(incomplete)]


Snapshot = Annotated[
    Path | None,
    typer.Option("--snapshot", metavar="DIR", help="Folder with snapshot.json and state/ ."),
]
ModeOption = Annotated[
    str | None,
    typer.Option(
        "--cni",
        metavar="MODE[:OPTION=VALUE]",
        help="Build a cluster with that CNI (`packetwalk modes`).",
        autocompletion=complete_mode,
    ),
]
FileOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--file", "-f", metavar="FILE",
        help="A cluster.yaml (`packetwalk schema --example` prints one), `kubectl get -o yaml`, or both; repeatable.",
    ),
]  # fmt: skip
NodesOption = Annotated[int, typer.Option("--nodes", metavar="N", help="With --cni: how many nodes.")]
RacksOption = Annotated[int, typer.Option("--racks", metavar="N", help="With --cni: how many racks, each a subnet.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="LINE", help="'ROOM WORDS' of ip, bridge, sysctl, iptables, ipvsadm; repeatable."),
]
Src = Annotated[
    str,
    typer.Argument(metavar="SRC", help="Room that sends, or a program there: node-1/kubelet.",
                   autocompletion=complete_room),
]  # fmt: skip
Dst = Annotated[
    str,
    typer.Argument(
        metavar="DST", help="Room, service or IPv4 address, perhaps with :PORT.", autocompletion=complete_destination
    ),
]
IcmpOption = Annotated[bool, typer.Option("--icmp", help="An echo request (the default).")]
UdpOption = Annotated[int | None, typer.Option("--udp", metavar="PORT", help="A UDP datagram to that port.")]
SctpOption = Annotated[int | None, typer.Option("--sctp", metavar="PORT", help="An SCTP INIT to that port.")]
TcpOption = Annotated[int | None, typer.Option("--tcp", metavar="PORT", help="A TCP connection to that port.")]
SizeOption = Annotated[
    int | None,
    typer.Option("--size", metavar="N", help="Bytes of payload, to 65507; else 56 (icmp), 32 (udp), 0 (tcp)."),
]
TtlOption = Annotated[int | None, typer.Option("--ttl", metavar="N", help="Time to live, 1 to 255.")]
DfOption = Annotated[bool | None, typer.Option("--df/--no-df", help="Forbid or allow fragments.")]
ColdOption = Annotated[bool, typer.Option("--cold", help="Start with neighbours and FDBs as they are: ARP shows.")]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="Stands for the kernel's hash secret.")]


def snapshot_folder(folder: Path) -> None:
    """BadInput unless the folder can be one."""
    try:
        check_folder(folder)
    except ValueError as error:
        raise BadInput(str(error)) from None


def load_network(
    snapshot: Path | None, seed: int = 0, *, file: Sequence[Path] | None = None, cni: str | None = None, nodes: int = 2,
    racks: int = 1, sets: Iterable[str] | None = None, dns: bool = False, quiet: bool = False,
) -> Network:  # fmt: skip
    """The network of a snapshot's folder, of files (a cluster.yaml, objects of Kubernetes), or of the default cluster.

    With a file, `cni` takes the place of its own. sets: lines of --set that change it. dns: the default cluster has a
    DNS. quiet: it has been said before what of the files is left out."""
    if snapshot is not None and (file or cni is not None):
        raise BadInput(f"--snapshot and {'--cni' if cni is not None else '--file'} exclude each other")
    if file and (nodes, racks) != (2, 1):
        raise BadInput(f"--nodes and --racks are for the cluster that is built without a file; {file[0]} has its own")
    within("--nodes", nodes, 1, 100_000)
    within("--racks", racks, 1, 10_000)
    try:
        if file:
            network = from_file(*file, cni=cni, seed=seed, tell=None if quiet else _remark)
        elif snapshot is not None:
            network = from_snapshot(snapshot, seed)
        else:
            network = from_mode(cni or DEFAULT_MODE, nodes=nodes, racks=racks, seed=seed, dns=dns)
    except ValueError as error:
        raise BadInput(*error.args) from None
    except OSError as error:
        raise BadInput(f"{error.filename}: {error.strerror}") from None
    change(network, sets or ())
    return network


def _remark(text: str) -> None:
    sys.stderr.write(f"packetwalk: {text}\n")


def change(network: Network, sets: Iterable[str]) -> None:
    """Do what lines of --set say to a network that is nobody else's."""
    for line in sets:
        from packetwalk.edit import apply

        try:
            apply(network, line)
        except ValueError as error:
            raise BadInput(f"--set {error}") from None


def known(word: str, words: Iterable[str], what: str) -> str:
    """The word itself; BadInput with the nearest one if it is none of `words`."""
    words = list(words)
    if word in words:
        return word
    raise BadInput(unknown(what, word, words))


def within(option: str, value: int | None, low: int, high: int) -> None:
    """BadInput unless the option was left out or has a value from low to high."""
    if value is not None and not low <= value <= high:
        raise BadInput(f"{option} {value} is out of range: {low} to {high} was expected")


def make_flow(
    network: Network, src: str, dst: str, *, icmp: bool, udp: int | None, tcp: int | None,
    sctp: int | None, size: int | None, ttl: int | None, df: bool | None,
) -> Flow:  # fmt: skip
    """The flow that the options describe, checked against the network."""
    from packetwalk.engine.walk import between

    ports = {"udp": udp, "tcp": tcp, "sctp": sctp}
    kinds = [kind for kind, given in (("icmp", icmp or None), *ports.items()) if given is not None]
    if len(kinds) > 1:
        raise BadInput(f"{' and '.join(f'--{kind}' for kind in kinds)} exclude each other")
    within("--ttl", ttl, 1, 255)
    within("--size", size, 0, SIZE_MAX)
    for kind, port in ports.items():
        within(f"--{kind}", port, 1, 65535)
    rooms = (*network.rooms, *network.programs)
    known(src, rooms, "room")
    if "://" in dst:
        raise BadInput(f"{dst!r} is a URL, which only `walk` and `prove` follow")
    if dst.count(":") > 1:
        raise BadInput(f"{dst!r} is no IPv4 address; IPv6 is not modelled")
    name, colon, _ = dst.partition(":")
    if colon and icmp:
        raise BadInput(f"{dst!r} has a port, which --icmp has no use for")
    if not (name[:1].isdecimal() and "." in name):
        known(name, (*rooms, *network.services), "room or service" if network.services else "room")
    modes = {None: "", True: "do", False: "dont"}
    try:
        return between(
            network, src, dst, udp=udp or 0, tcp=tcp or 0, sctp=sctp or 0, size=-1 if size is None else size,
            ttl=ttl or 0, df=modes[df],
        )  # fmt: skip
    except (KeyError, ValueError) as error:
        raise BadInput(str(error.args[0])) from None


def emit(text: str) -> None:
    """Print. A reader who has gone away (`| head`) is no error, and the exit status stays what it was to be."""
    try:
        if text:
            sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains when it exits
        if not isinstance(error, BrokenPipeError):
            raise BadInput(f"cannot write the output: {error.strerror}") from None


def write_file(path: Path, data: bytes) -> None:
    """Put what is complete into a file; BadInput where that cannot be."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
