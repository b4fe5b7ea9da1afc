"""The command that puts rules into words: `packetwalk explain RULE|CHAIN`."""

from __future__ import annotations

import sys
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
    emit,
    known,
    load_network,
)  # fmt: skip


def explain(
    what: Annotated[str, typer.Argument(metavar="RULE|CHAIN", help="A rule (`-A CHAIN ...`) or the name of a chain.")],
    room: Annotated[str, typer.Option("--room", metavar="NETNS", help="Only this room's chain.")] = "",
    table: Annotated[str, typer.Option(metavar="TABLE", help="Only this table's chain.")] = "",
    snapshot: Snapshot = None,
    file: FileOption = None,
    cni: ModeOption = None,
    nodes: NodesOption = 2,
    racks: RacksOption = 1,
    sets: SetOption = None,
) -> None:
    """Say in words what a rule of iptables does, or what a chain is for and what each of its rules does.

    \b
    Examples:
      packetwalk explain cali-FORWARD
      packetwalk explain FORWARD --room node-1 --table filter
      packetwalk explain '-A KUBE-SVC-X -m statistic --mode random --probability 0.5 -j KUBE-SEP-Y'
    """
    from difflib import get_close_matches

    from packetwalk.explain import explain_chain, explain_nft_chain, explain_rule, purpose
    from packetwalk.netns.rule import parse_rule

    if what.startswith(("-A ", "--append ")):
        try:
            return emit(explain_rule(parse_rule(what)))
        except ValueError as error:
            raise BadInput(str(error)) from None
    network = load_network(snapshot, file=file, cni=cni, nodes=nodes, racks=racks, sets=sets)
    names = [known(room, network.rooms, "room")] if room else list(network.rooms)
    found: dict[str, list[str]] = {}  # the same chain of several rooms is said once
    chains: set[str] = set()
    for name in names:
        for one in network[name].netfilter.tables.values():
            chains |= one.chains.keys()
            if what in one.chains and table in ("", one.name):
                text = "\n".join(explain_chain(one.name, what, one.chains[what].rules))
                found.setdefault(text, []).append(name)
        for other in network[name].netfilter.nft.values():
            chains |= other.chains.keys()
            if what in other.chains and table in ("", other.title):
                text = "\n".join(explain_nft_chain(other.title, what, other.chains[what].rules))
                found.setdefault(text, []).append(name)
    if found:
        return emit("\n".join(f"{', '.join(rooms)}: {text}" for text, rooms in found.items()))
    if purpose(what) and not room and not table and not get_close_matches(what, chains, 1, 0.85):
        return emit(f"{what}: {purpose(what)}. No room of this network has it.")
    known(what, sorted(chains), "chain")
    raise BadInput(f"there is no chain {what!r} in table {table}")


def rule_last(argv: list[str] | None) -> list[str] | None:
    """The command line with the rule that `explain` is given behind `--`: it begins with a dash, as options do."""
    from packetwalk.netns.option import quote_word

    words = sys.argv[1:] if argv is None else argv
    if words[:1] != ["explain"]:
        return argv
    at = next((i for i, word in enumerate(words) if word.startswith(("-A ", "--append "))), None)
    if at is not None:
        return [*words[:at], *words[at + 1 :], "--", words[at]]
    at = next((i for i, word in enumerate(words) if word in ("-A", "--append")), None)
    return words if at is None else [*words[:at], "--", " ".join(map(quote_word, words[at:]))]
