"""A walk of several exchanges: what a client of a URL did, each look-up and connection with its own trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html import escape

from packetwalk import text
from packetwalk.apps.program import Exchange, Outcome
from packetwalk.trace import Hop, Trace, Unsupported
from packetwalk.words import counted, time

VERSION = 1
"""It grows when the form of `Fetch.to_dict` changes."""


@dataclass(slots=True)
class Fetch:
    """What a client in the room or pod `src` did for a URL. Times are since it began, in all traces.

    words: what came of it; delivered: whether that is what was hoped for; at: when it was known, in ns. whole: all
    exchanges in one trace.
    """

    src: str
    url: str
    words: str
    delivered: bool
    exchanges: list[Trace]
    whole: Trace = field(repr=False)
    at: int = 0

    @property
    def after(self) -> object:
        """The network as it was left."""
        return self.whole.after

    @property
    def hops(self) -> list[Hop]:
        """Every visit of every room."""
        return self.whole.hops

    @property
    def unsupported(self) -> list[tuple[str, Unsupported]]:
        """(room, what) of every branch that ended at something not modelled."""
        return self.whole.unsupported

    @property
    def said(self) -> list[Exchange | Outcome]:
        """What the client said: where each exchange begins, and what came of it."""
        steps = (step for hop in self.hops if hop.room == self.whole.flow.src for step in hop.steps)
        return [step.what for step in steps if isinstance(step.what, Exchange | Outcome)]

    @property
    def counts(self) -> str:
        """`2 look-ups, 1 connection`."""
        asked = len(self.queries)
        return f"{counted(asked, 'look-up')}, {counted(len(self.exchanges) - asked, 'connection')}"

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
        """One line for each exchange, with the way that led to its outcome, and one for what came of it all."""
        lines = [f"{t.flow.about}: {_way(t).minimal()}" for t in self.exchanges]
        return "\n".join([*lines, f"{self.url}: {self.words}"])

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON; `version` counts changes of this form."""
        return {
            "version": VERSION, "src": self.src, "url": self.url, "words": self.words, "delivered": self.delivered,
            "note": self.whole.note, "at_ns": self.at, "exchanges": [trace.to_dict() for trace in self.exchanges],
        }  # fmt: skip

    def to_pcapng(self) -> bytes:
        """Every frame on every device, as pcapng."""
        return self.whole.to_pcapng()

    def to_html(self) -> str:
        """A page to step through each exchange with."""
        from packetwalk.view.html import page

        return page(*self.exchanges, title=f"{self.src} {self.url}")

    def _repr_html_(self) -> str:
        parts = (trace._repr_html_() for trace in self.exchanges)
        return "".join([f"<p>{escape(self._ending())}</p>", *parts])

    def _ending(self) -> str:
        note = f"\n{self.whole.note}" if self.whole.note else ""
        return f"{self.url}: {self.words} in {time(self.at)}; {self.counts}{note}"


def _way(trace: Trace) -> Trace:
    """The visits that led, each to the next, to what the client heard; where nothing came, to the last drop."""
    heard = [n for n, hop in enumerate(trace.hops) if any(isinstance(step.what, Outcome) for step in hop.steps)]
    lost = [n for n, hop in enumerate(trace.hops) if any(step.stage in ("drop", "unsupported") for step in hop.steps)]
    for ends in (heard[:1], lost[-1:]):
        way = [trace.hops[n] for end in ends for n in _led_to(trace, end)]
        if len({hop.room for hop in way}) > 1:
            return replace(trace, hops=way)
    return trace


def _led_to(trace: Trace, end: int) -> list[int]:
    """A visit, and before it those that caused it."""
    way = [end]
    while (cause := trace.hops[way[-1]].cause) is not None:
        way.append(cause[0])
    return way[::-1]
