"""Sets and maps of nftables: elements found by the values of a packet, single ones by a dict (nft_lookup.c).

A set is never changed: what rules add to it while a packet walks (nft_dynset.c) is remembered in the ruleset's state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from packetwalk.netns.nft_term import Span, Value
from packetwalk.netns.seen import Seen

SECOND = 1_000_000_000
Key = tuple[Value, ...]
WIDE = {"ipv4_addr": 2, "inet_proto": 5, "inet_service": 5, "mark": 5}
"""How many elements of a set nft prints on a line."""


class Outcome(NamedTuple):
    """What a statement comes to: "" to go on, or a verdict, with the chain of a jump or goto. element: what a map or
    set held for the packet."""

    kind: str = ""
    chain: str = ""
    element: str = ""


GO_ON = Outcome()


class Element(NamedTuple):
    """One element as nft prints it. key: a span for each of its parts, none for `*`; outcome: what a map has for it;
    expires: ns, 0 for never."""

    text: str
    key: tuple[Span, ...]
    outcome: Outcome = GO_ON
    expires: int = 0


@dataclass(eq=False)
class NftSet:
    """A set or a map. heads: the lines that describe it, as nft prints them; timeout in ns; unknown: what of it is not
    modelled; where: "FILE:LINE", or "" for one without a name."""

    name: str
    types: tuple[str, ...]
    elements: Sequence[Element] = ()
    is_map: bool = False
    heads: tuple[str, ...] = ()
    timeout: int = 0
    unknown: str = ""
    where: str = ""
    _exact: dict[Key, Element] = field(default_factory=dict, repr=False)
    _spans: list[Element] = field(default_factory=list, repr=False)
    _default: Element | None = None

    def __post_init__(self) -> None:
        for element in self.elements:
            if not element.key:
                self._default = element
            elif all(low == high for low, high in element.key):
                self._exact[tuple([low for low, _ in element.key])] = element
            else:
                self._spans.append(element)

    def __str__(self) -> str:
        lines = [f"\t{'map' if self.is_map else 'set'} {self.name} {{", *(f"\t\t{head}" for head in self.heads)]
        if self.elements:
            lines.append(f"\t\telements = {{ {self._listed()} }}")
        return "\n".join([*lines, "\t}"])

    def _listed(self) -> str:
        """calculate_delim (nft's expression.c): two addresses a line, five ports, one of everything else."""
        wide = WIDE.get(self.types[0], 1) if len(self.types) == 1 and not self.is_map else 1
        texts = [element.text for element in self.elements]
        rows = [", ".join(texts[i : i + wide]) for i in range(0, len(texts), wide)]
        return ",\n\t\t\t     ".join(rows)

    def find(self, key: Key, seen: Seen) -> Element | None:
        """The element that holds these values, unless its time is up."""
        expires = self.learned(seen).get(key)
        if expires is not None and expires > seen.now:
            return Element(", ".join(map(str, key)), ())
        element = self._exact.get(key)
        if element is None:
            element = next((e for e in self._spans if _covers(e.key, key)), self._default)
        if element is not None and element.expires and element.expires <= seen.now:
            return None
        return element

    def outcome(self, value: Value) -> Outcome | None:
        """What a map has for one value, found beforehand."""
        element = self._exact.get((value,), self._default)
        return element.outcome if element is not None else None

    def learned(self, seen: Seen) -> dict[Key, int]:
        """What rules have added, and until when."""
        found = seen.state.get(self, {})
        assert isinstance(found, dict)
        return found

    def learn(self, key: Key, seen: Seen, timeout: int, *, refresh: bool) -> None:
        """nft_dynset_eval: add an element; `update` also winds the clock of one that is there."""
        found = self.learned(seen)
        if refresh or found.get(key, 0) <= seen.now:
            seen.state[self] = {**found, key: seen.now + timeout if timeout else 1 << 62}

    def forget(self, key: Key, seen: Seen) -> None:
        """`delete` of what rules have added."""
        seen.state[self] = {k: at for k, at in self.learned(seen).items() if k != key}

    @property
    def chains(self) -> Iterable[str]:
        """The chains that its verdicts lead to."""
        return dict.fromkeys(e.outcome.chain for e in self.elements if e.outcome.chain)


def _covers(spans: tuple[Span, ...], key: Key) -> bool:
    return all(low <= value <= high for (low, high), value in zip(spans, key, strict=True))  # type: ignore[operator]
