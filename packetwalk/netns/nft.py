"""Tables of nftables and how a packet walks their chains (nft_do_chain, net/netfilter/nf_tables_core.c).

A base chain says at which hook it wants to see packets, and when among the others there; from it rules and maps lead to
other chains. Evidence and verdicts are those of iptables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from packetwalk.netns.netfilter import Verdict
from packetwalk.netns.nft_rule import NftRule, parse_nft_rule
from packetwalk.netns.nft_set import GO_ON, NftSet, Outcome
from packetwalk.netns.seen import Hit, Seen, Undecided

PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
OF_FRAMES = ("ingress", "egress")  # hooks of a device, at which nothing is evaluated
TYPES = ("filter", "nat", "route")


@dataclass(frozen=True)
class Base:
    """Where a base chain is registered: `type filter hook forward priority filter; policy accept;`."""

    type: str
    hook: str
    priority: int
    text: str
    policy: str = "accept"


class NftChain:
    """A chain and its rules; `comment` as printed. A chain without a base is reached by jumps only.

    lines: its rules as (place, text), read when somebody first looks: kube-proxy keeps a chain for every endpoint, and
    a packet meets few. sets: those of its table.
    """

    def __init__(self, name: str, sets: Mapping[str, NftSet], base: Base | None = None, comment: str = "",
                 lines: Sequence[tuple[str, str]] = ()) -> None:  # fmt: skip
        self.name, self.sets, self.base, self.comment, self.lines = name, sets, base, comment, lines

    @cached_property
    def rules(self) -> list[NftRule]:
        """The rules in order."""
        return [parse_nft_rule(text, self.name, self.sets, where) for where, text in self.lines]

    def within(self, sets: Mapping[str, NftSet]) -> NftChain:
        """The same chain beside other sets."""
        return NftChain(self.name, sets, self.base, self.comment, self.lines)

    def __str__(self) -> str:
        head = [f"comment {self.comment}"] if self.comment else []
        head += [self.base.text] if self.base is not None else []
        lines = [f"\tchain {self.name} {{", *(f"\t\t{line}" for line in (*head, *self.rules)), "\t}"]
        return "\n".join(lines)


@dataclass
class NftTable:
    """A table; family ip or inet. others: objects that are not modelled, as read; rules that ask for them are
    undecided."""

    family: str
    name: str
    comment: str = ""
    sets: dict[str, NftSet] = field(default_factory=dict)
    chains: dict[str, NftChain] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """What `nft list table` prints."""
        head = f"\n\tcomment {self.comment}" if self.comment else ""
        blocks = [*self.others, *map(str, self.sets.values()), *map(str, self.chains.values())]
        return f"table {self.family} {self.name} {{{head}\n" + "\n\n".join(blocks) + "\n}"

    def with_set(self, one: NftSet) -> NftTable:
        """The same table with another set of that name."""
        sets = {**self.sets, one.name: one}
        chains = {name: chain.within(sets) for name, chain in self.chains.items()}
        return NftTable(self.family, self.name, self.comment, sets, chains, self.others)

    @property
    def title(self) -> str:
        return self.name if self.family == "ip" else f"{self.family} {self.name}"

    def bases(self) -> Iterator[BaseChain]:
        """Its base chains; one that is dormant has none (NFT_TABLE_F_DORMANT)."""
        if "\tflags dormant" in self.others:
            return
        for chain in self.chains.values():
            if chain.base is not None:
                yield BaseChain(self, chain, chain.base)


class BaseChain:
    """A base chain at its hook (by iptables' name for it). It prints as the table does."""

    __slots__ = ("chain", "hook", "policy", "priority", "table", "type")

    def __init__(self, table: NftTable, chain: NftChain, base: Base) -> None:
        self.table, self.chain = table, chain
        self.type, self.hook, self.priority, self.policy = base.type, base.hook.upper(), base.priority, base.policy

    def __str__(self) -> str:
        return self.table.title

    @property
    def chains(self) -> dict[str, NftChain]:
        """The chains a rule may lead to."""
        return self.table.chains

    def traverse(self, seen: Seen) -> Verdict:
        """Walk the chain to a verdict, or to its policy. Every rule that matches is appended to `seen.hits`."""
        chains, chain = self.table.chains, self.chain
        way: tuple[str, ...] = ()
        rules = _numbered(chain)
        stack: list[Position] = []
        try:
            while True:
                for number, rule in rules:
                    outcome = _run(rule, seen)
                    if outcome is None:
                        continue
                    hit = self._hit(chain, number, rule, way, outcome.element)
                    seen.hits.append(hit)
                    kind = outcome.kind
                    if not kind:
                        continue
                    if kind in ("jump", "goto"):
                        if kind == "jump":
                            stack.append(Position(chain, rules, way))
                        way = (*way, chain.name)
                        chain = chains[outcome.chain]
                        rules = _numbered(chain)
                    elif kind == "return":
                        rules = iter(())
                    else:
                        return Verdict(kind, hit, rule.target, chain.name)
                    break
                else:
                    if not stack:
                        return Verdict(self.policy, None, None, self.chain.name)
                    chain, rules, way = stack.pop()
        except Undecided as reason:
            hit = self._hit(chain, number, rule, way)
            return Verdict("unsupported", hit, rule.target, chain.name, f"{reason} ({rule.where or chain.name})")

    def _hit(self, chain: NftChain, number: int, rule: NftRule, way: tuple[str, ...], element: str = "") -> Hit:
        return Hit(f"{self.table.family} {self.table.name}", chain.name, number, rule, way, element)


class Position(NamedTuple):
    """Where a walk goes on when it comes back from a jump: the rules that are left of a chain, and the way to it."""

    chain: NftChain
    rules: Iterator[tuple[int, NftRule]]
    way: tuple[str, ...]


def _numbered(chain: NftChain) -> Iterator[tuple[int, NftRule]]:
    return iter(enumerate(chain.rules, 1))


def _run(rule: NftRule, seen: Seen) -> Outcome | None:
    """The statements of a rule one after the other: the first verdict, or None from the first that does not match."""
    found = GO_ON
    for run in rule.runs:
        outcome = run(seen)
        if outcome is None:
            return None
        if outcome.kind:
            return outcome if outcome.element else outcome._replace(element=found.element)
        if outcome.element:
            found = outcome
    return found
