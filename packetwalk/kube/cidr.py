"""Address ranges: that they lie apart, how they are cut up, and what hands them out.

Who hands out is part of a CNI: see packetwalk/cni/ipam.py. Errors are ValueErrors of one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from packetwalk.addr import IPv4, Prefix


class Ipam(Protocol):
    """What a CNI gives out addresses by."""

    def join(self, node: str, wanted: Prefix | None = None) -> Prefix:
        """A node comes: its first range, or the one it wants."""

    def claim(self, node: str, wanted: IPv4 | None = None) -> IPv4:
        """One more address on that node."""

    def ranges(self, node: str) -> tuple[Prefix, ...]:
        """All ranges of the node, in the order it got them."""


def check_apart(named: Mapping[str, Prefix]) -> None:
    """ValueError, in one line, for the first two networks that overlap."""
    seen: list[tuple[str, Prefix]] = []
    for name, prefix in named.items():
        for other, before in seen:
            if prefix.overlaps(before):
                raise ValueError(f"{name} {prefix} overlaps {other} {before}")
        seen.append((name, prefix))


def split(pool: Prefix, length: int) -> Iterator[Prefix]:
    """The networks of that length in the pool, in order."""
    for number in range(1 << (length - pool.length)):
        yield Prefix(IPv4(pool.addr + (number << (32 - length))), length)
