"""A walk of several exchanges: what a client of a URL did, each look-up and connection with its own trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from packetwalk import text
from packetwalk.trace import Trace
from packetwalk.words import counted, time

VERSION = 1
"""It grows when the form of `Fetch.to_dict` changes."""


@dataclass(slots=True)
class Fetch:
    """What a client in room `src` did for a URL. Times are since it began, in all traces.

    words: what came of it; delivered: whether that is what was hoped for; at: when it was known, in ns.
    """

    src: str
    url: str
    words: str
    delivered: bool
    exchanges: list[Trace] = field(default_factory=list)
    network: str = ""
    note: str = ""
    at: int = 0
    after: object = field(default=None, repr=False)

    def __iter__(self) -> Iterator[Trace]:
        return iter(self.exchanges)

    def __getitem__(self, number: int) -> Trace:
        """The trace of an exchange, counted from 0."""
        return self.exchanges[number]

    @property
    def queries(self) -> list[tuple[str, str]]:
        """(name and types, answer) of each look-up, in the order in which they were sent."""
        traces = (t for t in self.exchanges if t.flow.about.startswith("dns "))
        return [(t.flow.about.removeprefix("dns "), text.outcome(t)) for t in traces]

    def __str__(self) -> str:
        return self.text()

    def text(self, *, full: bool = False, color: bool = False) -> str:
        """Each exchange with a line for every room, or with every step; and what came of it all."""
        show = text.full if full else text.summary
        parts = [f"[{n}] {show(trace, color=color)}" for n, trace in enumerate(self.exchanges, 1)]
        return "\n\n".join([f"{self.src} {self.url}", *parts, self._ending()])

    def full(self) -> str:
        """Every room and step of every exchange."""
        return self.text(full=True)

    def minimal(self) -> str:
        """One line for each exchange, and one for the outcome."""
        lines = [f"{t.flow.about}: {text.minimal(t)}" for t in self.exchanges]
        return "\n".join([*lines, f"{self.url}: {self.words}"])

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON; `version` counts changes of this form."""
        return {
            "version": VERSION, "src": self.src, "url": self.url, "words": self.words, "delivered": self.delivered,
            "note": self.note, "at_ns": self.at, "exchanges": [trace.to_dict() for trace in self.exchanges],
        }  # fmt: skip

    def _ending(self) -> str:
        asked = len(self.queries)
        about = f"{counted(asked, 'look-up')}, {counted(len(self.exchanges) - asked, 'connection')}"
        note = f"\n{self.note}" if self.note else ""
        return f"{self.url}: {self.words} in {time(self.at)}; {about}{note}"
