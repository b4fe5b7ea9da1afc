"""Chance: what a kernel draws at random is drawn here, so that the same seed gives the same walk."""

from __future__ import annotations

from typing import Protocol

from packetwalk.netns.rule import Rule
from packetwalk.netns.seen import Chooser, Lot, Seen


class RoomChooser(Chooser, Protocol):
    """A chooser that a room can keep."""

    def overlay(self) -> RoomChooser:
        """The one a walk draws from, so that the next walk finds this one as it was."""


class Seeded:
    """A chooser that draws from a seed: a small multiplicative generator, good enough to spread ports and backends."""

    def __init__(self, seed: int = 0) -> None:
        self._state = seed * 2 + 1

    def overlay(self) -> Seeded:
        copy = Seeded()
        copy._state = self._state
        return copy

    def statistic(self, rule: Rule | Lot, probability: float, seen: Seen) -> bool:
        """Whether `-m statistic --mode random` matches this time, or a lot of `numgen random` is drawn."""
        return self._draw() < probability * (1 << 32)

    def port(self, low: int, high: int) -> int:
        """A port from `low` to `high`, both included."""
        return low + self._draw() * (high - low + 1) // (1 << 32)

    def _draw(self) -> int:
        """The upper half of a 64-bit linear congruential generator (Knuth's MMIX constants): 32 bits."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1
        return self._state >> 32


class Scripted(Seeded):
    """A chooser that answers statistic matches as told, and yes once nothing is told any more; it keeps what it said.

    said: (answer, probability of a yes) in order.
    """

    def __init__(self, answers: tuple[bool, ...] = ()) -> None:
        super().__init__()
        self.answers = answers
        self.said: list[tuple[bool, float]] = []

    def overlay(self) -> Scripted:
        return self

    def statistic(self, rule: Rule | Lot, probability: float, seen: Seen) -> bool:
        """The next answer."""
        n = len(self.said)
        answer = self.answers[n] if n < len(self.answers) else True
        self.said.append((answer, probability))
        return answer
