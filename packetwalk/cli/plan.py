"""The command `plan`: address ranges of a cluster, what is wrong with them, and what to tell kubeadm and the CNI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from packetwalk.cli.options import DELIVERED, NOT_DELIVERED, BadInput, complete_mode, emit, known, within
from packetwalk.source import DEFAULT_MODE

if TYPE_CHECKING:
    from packetwalk.addr import Prefix
    from packetwalk.cni import Cni
    from packetwalk.kube.plan import Plan

FORMATS = ("text", "json")


def plan(
    nodes: Annotated[int, typer.Option("--nodes", metavar="N", help="How many nodes.")] = 3,
    pods: Annotated[int, typer.Option("--pods", metavar="M", help="How many pods on each.")] = 110,
    services: Annotated[int, typer.Option("--services", metavar="N", help="How many services.")] = 1000,
    cni: Annotated[
        str,
        typer.Option("--cni", metavar="MODE[:OPTION=VALUE]", help="Of `modes`.", autocompletion=complete_mode),
    ] = DEFAULT_MODE,
    pod_cidr: Annotated[str | None, typer.Option("--pod-cidr", metavar="CIDR", help="Else a free one.")] = None,
    service_cidr: Annotated[str | None, typer.Option("--service-cidr", metavar="CIDR", help="The same.")] = None,
    node_cidr: Annotated[str | None, typer.Option("--node-cidr", metavar="CIDR", help="The nodes' network.")] = None,
    node_mask: Annotated[
        int | None, typer.Option("--node-mask", metavar="LENGTH", help="node-cidr-mask-size; else what pods need.")
    ] = None,
    outside: Annotated[
        list[str] | None,
        typer.Option("--outside", metavar="[NAME=]CIDR", help="A network that is to be reached. May be repeated."),
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FORMAT", help="text|json.")] = "text",
) -> None:
    """Plan the ranges of nodes, pods and services.

    How many nodes and pods fit, what overlaps and which packets then go wrong (walked, where a small cluster shows it),
    what is translated at the edge, and what to tell kubeadm and the CNI.

    \b
    Examples:
      packetwalk plan --nodes 50
      packetwalk plan --nodes 200 --pods 250 --cni flannel-vxlan --outside office=10.0.0.0/8
      packetwalk plan --pod-cidr 10.244.0.0/16 --node-cidr 10.244.0.0/24 -o json

    Exit status: 0 the plan holds, 1 it has conflicts, 2 bad input.
    """
    from packetwalk.cni import parse
    from packetwalk.kube.plan import Wanted
    from packetwalk.kube.plan import plan as make

    known(output, FORMATS, "output format")
    for option, value, most in (("--nodes", nodes, 100_000), ("--pods", pods, 65_000), ("--services", services, 10**6)):
        within(option, value, 1, most)
    within("--node-mask", node_mask, 8, 30)
    wanted = Wanted(
        nodes, pods, services, _cidr("--pod-cidr", pod_cidr), _cidr("--service-cidr", service_cidr),
        _cidr("--node-cidr", node_cidr), node_mask or 0, tuple(map(_outside, outside or ())),
    )  # fmt: skip
    try:
        chosen = parse(cni)
        made = make(wanted, chosen)
    except ValueError as error:
        raise BadInput(str(error)) from None
    emit(json.dumps(_data(made, chosen), indent=1) if output == "json" else "\n".join(_lines(made, chosen)))
    raise typer.Exit(NOT_DELIVERED if made.conflicts else DELIVERED)


def _cidr(option: str, text: str | None) -> Prefix | None:
    from packetwalk.addr import Prefix

    if text is None:
        return None
    if "/" not in text:
        raise BadInput(f"{option} {text}: a network such as 10.244.0.0/16 was expected")
    try:
        return Prefix.parse(text)
    except ValueError as error:
        raise BadInput(f"{option} {error}") from None


def _outside(text: str) -> tuple[str, Prefix]:
    """`NAME=CIDR`, or a network alone."""
    name, equals, cidr = text.partition("=")
    prefix = _cidr("--outside", cidr if equals else text)
    assert prefix is not None
    return name if equals and name else "outside", prefix


def _lines(made: Plan, cni: Cni) -> Iterator[str]:
    """The plan in sections, empty ones left out."""
    wide, long = max(len(r.name) for r in made.ranges), max(len(str(r.prefix)) for r in made.ranges)
    yield "ranges"
    yield from (f"  {r.name:{wide}}  {r.prefix!s:{long}}  {r.use}".rstrip() for r in made.ranges)
    yield "fits"
    yield from (f"  {line}" for line in made.fits)
    if made.conflicts:
        yield "conflicts"
    for conflict, shown in _shown(made, cni):
        yield f"  {conflict}"
        if shown:
            yield f"    {shown}"
    sections = {"notes": made.notes, "at the edge": made.edge, "kubeadm": made.kubeadm, f"{cni.name}": made.settings}
    for title, lines in sections.items():
        if lines:
            yield title
        yield from (f"  {line}" for line in lines)


def _data(made: Plan, cni: Cni) -> dict[str, Any]:
    """The plan as JSON has it."""
    return {
        "holds": not made.conflicts, "cni": cni.name, "node_mask": made.node_mask,
        "ranges": [{"kind": r.kind, "name": r.name, "cidr": str(r.prefix), "use": r.use} for r in made.ranges],
        "fits": made.fits,
        "conflicts": [
            {"ranges": [str(r.prefix) for r in (c.one, c.other) if r is not None], "what": str(c), "walk": shown}
            for c, shown in _shown(made, cni)
        ],
        "notes": made.notes, "edge": made.edge, "kubeadm": made.kubeadm, "settings": made.settings,
    }  # fmt: skip


def _shown(made: Plan, cni: Cni) -> Iterator[tuple[Any, str]]:
    """Each conflict, and a walk that shows what comes of it where there is one."""
    from packetwalk.planned import show

    return ((conflict, show(made, conflict, cni)) for conflict in made.conflicts)
