"""The tables of iptables and how a packet walks them (ipt_do_table, net/ipv4/netfilter/ip_tables.c)."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from packetwalk.netns.chain import Chain, Entry, Step
from packetwalk.netns.ipset import IpSet
from packetwalk.netns.rule import Rule
from packetwalk.netns.seen import Hit, HotDrop, Seen, Undecided
from packetwalk.netns.target import Target

if TYPE_CHECKING:
    from packetwalk.netns.nft import BaseChain, NftTable

Registered: TypeAlias = "str | BaseChain"

HOOKS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
"""The built-in chains of each table."""

PRIORITIES = {"raw": -300, "conntrack": -200, "mangle": -150, "filter": 0, "security": 50, "confirm": 1 << 31}
OF_IPVS = {  # ip_vs_ops4
    ("INPUT", "ipvs answer"): 98, ("INPUT", "ipvs request"): 99,
    ("FORWARD", "ipvs error"): 99, ("FORWARD", "ipvs answer"): 100,
    ("OUTPUT", "ipvs answer"): -99, ("OUTPUT", "ipvs request"): -98,
}  # fmt: skip
SOURCE_SIDE = frozenset({"INPUT", "POSTROUTING"})  # HOOK2MANIP

TRACKING = {"conntrack", "state", "connmark", "connbytes", "connlimit", "connlabel", "helper", "cluster"}
TRACKING_TARGETS = {"DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "CONNMARK", "CONNSECMARK", "SYNPROXY"}


class Verdict(NamedTuple):
    """How a table decided, and by what: `hit` is None where the policy of the built-in `chain` did.

    kind: accept, drop, reject, dnat, snat, masquerade, redirect, tproxy or unsupported (`what` names it). A packet that
    is not to be tracked is no verdict, as other rules still see it: its `ctstate` is UNTRACKED from then on.
    """

    kind: str
    hit: Hit | None
    target: Target | None
    chain: str
    what: str = ""


POLICIES = {(policy, hook): Verdict(policy.lower(), None, None, hook)
            for hook in HOOKS["mangle"] for policy in ("ACCEPT", "DROP")}  # fmt: skip
"""What a built-in chain says of a packet that none of its rules decided."""


class Table:
    """A table: its chains by name, the built-in ones first."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.chains: dict[str, Chain] = {hook: Chain(name, hook, "ACCEPT") for hook in HOOKS[name]}

    def __str__(self) -> str:
        """What iptables-save prints of it, without counters."""
        heads = [f":{chain.name} {chain.policy or '-'} [0:0]" for chain in self.chains.values()]
        rules = [str(rule) for chain in self.chains.values() for rule in chain.rules]
        return "\n".join([f"*{self.name}", *heads, *rules, "COMMIT"])

    def chain(self, name: str) -> Chain:
        """A chain, made if it is not there."""
        if name not in self.chains:
            self.chains[name] = Chain(self.name, name)
        return self.chains[name]

    def append(self, rule: Rule) -> None:
        """Put a rule at the end of its chain. KeyError where that, or the chain it leads to, is not there."""
        self.chains[rule.chain].append(rule)


class Ruleset:
    """All tables of a namespace and its IP sets; nft: those of nftables proper, by family and name, never changed.

    `state` is what matches remember; an overlay remembers on its own.
    """

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.sets: dict[str, IpSet] = {}
        self.state: dict[object, object] = {}
        self.nft: dict[str, NftTable] = {}
        self._orders: dict[tuple[str, tuple[str, ...]], tuple[Registered, ...]] = {}

    def __str__(self) -> str:
        """What iptables-save prints, and iptables-restore takes."""
        return "\n".join(map(str, self.tables.values()))

    def overlay(self) -> Ruleset:
        """The same tables with a memory of their own (a walk's)."""
        copy = Ruleset()
        copy.tables, copy.sets, copy.state = self.tables, dict(self.sets), dict(self.state)
        copy.nft, copy._orders = self.nft, self._orders
        return copy

    def table(self, name: str) -> Table:
        """A table, made with its built-in chains if it is not there."""
        if name not in self.tables:
            self.tables[name] = Table(name)
        return self.tables[name]

    def destinations(self) -> Iterator[str]:
        """What DNAT rewrites to, as `ip:port`."""
        tables: list[Table | NftTable] = [*self.tables.values(), *self.nft.values()]
        for table in tables:
            for chain in table.chains.values():
                for rule in chain.rules:
                    if rule.target is not None and rule.target.name == "DNAT":
                        yield rule.target.text("--to-destination")

    @property
    def needs_conntrack(self) -> bool:
        """Whether a rule asks for connection tracking: a match or target
        that takes a reference on it (nf_ct_netns_get)."""
        return any(_tracks(rule) for t in self.tables.values() for chain in t.chains.values() for rule in chain.rules)

    def order(self, hook: str, usual: tuple[str, ...]) -> tuple[Registered, ...]:
        """What sees a packet at a hook: the usual things, and among them by priority the base chains of nftables.

        Those of NAT all have one place, that of `nat` (nf_nat_register_fn): for usual ("nat",) they and iptables' own
        chain are what is asked there, until one of them says how a connection is to be rewritten. Of two things with
        the same priority the one that came last is first (nf_hook_entries_grow): tables of nftables are loaded after
        those of iptables.
        """
        if not self.nft:
            return usual
        found = self._orders.get((hook, usual))
        if found is None:
            here = [base for table in reversed(self.nft.values()) for base in table.bases() if base.hook == hook]
            nat = usual == ("nat",)
            places: list[tuple[int, Registered]] = [
                (base.priority, base) for base in here if (base.type == "nat") is nat
            ]
            at = -400
            for name in usual:
                source = 100 if hook in SOURCE_SIDE else -100
                at = source if name == "nat" else OF_IPVS.get((hook, name), PRIORITIES.get(name, at))
                places.append((at, name))
            found = tuple([who for _, who in sorted(places, key=lambda place: place[0])])
            self._orders[hook, usual] = found
        return found

    def chains(self, table: Registered) -> Container[str]:
        """The chains that a rule of a table may lead to."""
        return self.tables[table].chains if isinstance(table, str) else table.chains

    @property
    def translates(self) -> bool:
        """Whether anybody has asked for NAT: then connections are rewritten at all hooks of NAT."""
        return "nat" in self.tables or any(base.type == "nat" for t in self.nft.values() for base in t.bases())

    def traverse(self, table: Registered, hook: str, seen: Seen) -> Verdict:
        """ipt_do_table: walk a table from one of its built-in chains to a verdict, or to that chain's policy.

        Every rule that matches is appended to `seen.hits`. A position in a chain is an iterator over the rules that are
        left, so that to return to a chain is to go on with it.
        """
        if not isinstance(table, str):
            return table.traverse(seen)
        seen.sets = self.sets
        chains = self.tables[table].chains
        chain = chains[hook]
        steps = chain.steps(seen)
        stack: list[tuple[Chain, Iterator[Step]]] = []
        try:
            while True:
                for check, entry in steps:
                    if not check(seen):
                        continue
                    hit = _hit(chain, entry, stack)
                    seen.hits.append(hit)
                    target = entry.rule.target
                    if target is not None and target.name in chains:
                        if not entry.rule.goto:
                            stack.append((chain, steps))
                        chain = chains[target.name]
                        steps = chain.steps(seen)
                        break
                    kind = entry.effect(seen)
                    if kind == "return":
                        steps = iter(())
                        break
                    if kind:
                        return Verdict(kind, hit, target, chain.name, str(target) if kind == "unsupported" else "")
                else:
                    if not stack:
                        return POLICIES[chains[hook].policy, hook]
                    chain, steps = stack.pop()
        except Undecided as reason:
            return Verdict("unsupported", _hit(chain, entry, stack), entry.rule.target, chain.name, str(reason))
        except HotDrop:
            return Verdict("drop", _hit(chain, entry, stack), None, chain.name)


def _hit(chain: Chain, entry: Entry, stack: list[tuple[Chain, Iterator[Step]]]) -> Hit:
    return Hit(chain.table, chain.name, entry.number, entry.rule, tuple([caller.name for caller, _ in stack]))


def _tracks(rule: Rule) -> bool:
    target = rule.target
    if any(match.name in TRACKING for match in rule.matches):
        return True
    if target is None:
        return False
    return target.name in TRACKING_TARGETS or (target.name == "CT" and not target.has("--notrack"))
