"""The command `conformance`: whether a network keeps the three promises of Kubernetes."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from packetwalk.cli.options import (
    DELIVERED,
    NOT_DELIVERED,
    UNSUPPORTED,
    BadInput,
    FileOption,
    ModeOption,
    NodesOption,
    RacksOption,
    SeedOption,
    SetOption,
    Snapshot,
    emit,
    known,
    load_network,
    within,
)

FORMATS = ("text", "json")


def conformance(
    snapshot: Snapshot = None,
    file: FileOption = None,
    cni: ModeOption = None,
    nodes: NodesOption = 2,
    racks: RacksOption = 1,
    sets: SetOption = None,
    udp: Annotated[int | None, typer.Option("--udp", metavar="PORT", help="To pods that listen on that port.")] = None,
    tcp: Annotated[int | None, typer.Option("--tcp", metavar="PORT", help="The same, by connections.")] = None,
    host_network: Annotated[
        bool, typer.Option("--host-network", help="What pods on the host's network break counts, too.")
    ] = False,
    seed: SeedOption = 0,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FORMAT", help="text|json.")] = "text",
) -> None:
    """Ask a network for Kubernetes' three promises.

    Every pod reaches every pod without NAT; agents on a node reach the pods on it; the address of a pod is the one
    others see. Pods that no table tells apart are walked once. By echo requests unless there is a port. Most CNIs hide
    pods from host-network pods of other nodes, or these behind a tunnel's address: that is told apart.

    \b
    Examples:
      packetwalk conformance
      packetwalk conformance --cni flat-bridge:ip_masq
      packetwalk conformance -f cluster.yaml --tcp 80 -o json
      packetwalk conformance --snapshot recordings/S3-flannel-vxlan

    Exit status: 0 kept, 1 broken, 2 bad input, 3 something that is not modelled decided.
    """
    from packetwalk.promises import conformance as examine

    known(output, FORMATS, "output format")
    if udp is not None and tcp is not None:
        raise BadInput("--udp and --tcp exclude each other")
    within("--udp", udp, 1, 65535)
    within("--tcp", tcp, 1, 65535)
    network = load_network(snapshot, seed, file=file, cni=cni, nodes=nodes, racks=racks, sets=sets)
    report = examine(network, udp=udp or 0, tcp=tcp or 0, host_network=host_network)
    if not report.pods:
        why = f" that listens on {report.protocol}" if report.left_out else ""
        raise BadInput(f"{network.name or 'the network'} has no pod{why}")
    emit(json.dumps(report.to_dict(), indent=1) if output == "json" else str(report))
    raise typer.Exit(DELIVERED if report.kept else UNSUPPORTED if report.unsupported else NOT_DELIVERED)
