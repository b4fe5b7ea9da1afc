"""A chain of rules, compiled for walking: which of its rules may match a packet, found without asking them all.

A run of rules that each ask for one exact address, port or device (KUBE-SERVICES, KUBE-NODEPORTS, Calico's dispatch
chains) is found by a dict; every other rule costs one call of its closure. Answers and order are those of asking all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain as joined
from typing import NamedTuple, TypeAlias

from packetwalk.netns.match import Check, Condition
from packetwalk.netns.option import network
from packetwalk.netns.rule import Rule, chained, cheapest_first
from packetwalk.netns.seen import Seen
from packetwalk.netns.target import Effect, compile_target

RUN = 8
"""Rules in a row that make an index worth its look-up."""

Key: TypeAlias = "int | str"

FIELDS: dict[str, Callable[[Seen], Key]] = {
    "-d": lambda s: s.dst,
    "-s": lambda s: s.src,
    "--dport": lambda s: s.dport,
    "-i": lambda s: s.iif,
    "-o": lambda s: s.oif,
}
"""What an index may be over, the most telling first."""


class Entry(NamedTuple):
    """A rule in its place: `number` counts from 1; effect is what its target does (nothing, for a jump or without)."""

    rule: Rule
    number: int
    conditions: tuple[Condition, ...]
    effect: Effect


Step: TypeAlias = tuple[Check, Entry]
"""A rule that may match and the test that tells."""


class Chain:
    """A chain: its rules in order, and the policy of a built-in one ("" in a user's)."""

    def __init__(self, table: str, name: str, policy: str = "") -> None:
        self.table, self.name, self.policy = table, name, policy
        self.rules: list[Rule] = []
        self._entries: dict[int, Entry] = {}
        self._plain: list[Step] | None = None
        self._parts: list[list[Step] | Run] | None = None

    def append(self, rule: Rule) -> None:
        """Put a rule at the end; it is compiled when a packet first comes by."""
        self.rules.append(rule)
        self._plain = self._parts = None

    def steps(self, seen: Seen) -> Iterator[Step]:
        """The rules that may match, in order, each with its test.

        A packet without a transport header is shown every rule and every
        test in the kernel's own order, because some tests drop it at once.
        """
        if seen.l4 is None:
            return iter(self.plain())
        parts = self._parts
        if parts is None:
            parts = self._parts = self._divide()
        if len(parts) == 1 and isinstance(parts[0], list):
            return iter(parts[0])
        return joined.from_iterable([part if isinstance(part, list) else part.steps(self, seen) for part in parts])

    def plain(self) -> list[Step]:
        """Every rule, with its tests in the kernel's order."""
        if self._plain is None:
            entries = [self.entry(i) for i in range(len(self.rules))]
            self._plain = [(chained(entry.conditions), entry) for entry in entries]
        return self._plain

    def entry(self, i: int) -> Entry:
        """The rule at a position, compiled once: both orders of its tests share what they remember."""
        entry = self._entries.get(i)
        if entry is None:
            rule = self.rules[i]
            entry = self._entries[i] = Entry(rule, i + 1, tuple(rule.conditions()), compile_target(rule.target))
        return entry

    def step(self, i: int) -> Step:
        entry = self.entry(i)
        return chained(cheapest_first(entry.conditions)), entry

    def _divide(self) -> list[list[Step] | Run]:
        """Runs that can be indexed, and the rules between them."""
        parts: list[list[Step] | Run] = []
        exact = [exact_keys(rule) for rule in self.rules]
        at = 0
        while at < len(exact):
            field, end = _longest(exact, at)
            if end - at >= RUN:
                parts.append(Run(field, [(keys[field], i) for i, keys in enumerate(exact[at:end], at)]))
                at = end
                continue
            if not parts or not isinstance(parts[-1], list):
                parts.append([])
            last = parts[-1]
            assert isinstance(last, list)
            last.append(self.step(at))
            at += 1
        return parts or [[]]


class Run:
    """Rules in a row that each ask for one exact value of the same field, found by that value."""

    def __init__(self, field: str, keys: list[tuple[Key, int]]) -> None:
        self._value = FIELDS[field]
        self._places: dict[Key, list[int]] = {}
        self._steps: dict[Key, list[Step]] = {}
        for key, i in keys:
            self._places.setdefault(key, []).append(i)

    def steps(self, chain: Chain, seen: Seen) -> list[Step]:
        """The rules of the run that may match, compiled when first asked for."""
        key = self._value(seen)
        steps = self._steps.get(key)
        if steps is None:
            places = self._places.get(key)
            if places is None:
                return NOTHING
            steps = self._steps[key] = [chain.step(i) for i in places]
        return steps


NOTHING: list[Step] = []


def exact_keys(rule: Rule) -> dict[str, Key]:
    """The fields of which a rule asks one exact value."""
    keys: dict[str, Key] = {}
    options = [*rule.header, *(option for match in rule.matches for option in match.options)]
    for option in options:
        if option.inverted or option.name not in FIELDS:
            continue
        if option.name in ("-s", "-d"):
            addr, mask = network(option.text)
            if mask == 0xFFFFFFFF:
                keys[option.name] = addr
        elif option.name == "--dport":
            if ":" not in option.text:
                keys[option.name] = int(option.text)
        elif not option.text.endswith("+"):
            keys[option.name] = option.text
    return keys


def _longest(exact: list[dict[str, Key]], start: int) -> tuple[str, int]:
    """The field that most rules from `start` on have, without a gap, and where that ends."""
    best, end = "", start
    for field in FIELDS:
        at = start
        while at < len(exact) and field in exact[at]:
            at += 1
        if at > end:
            best, end = field, at
    return best, end
