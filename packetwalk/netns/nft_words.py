"""The words of a line of nftables, and the elements of its sets and maps."""

from __future__ import annotations

import re

from packetwalk.netns.nft_set import GO_ON, SECOND, Element, Outcome
from packetwalk.netns.nft_term import Span, Strange, span_of

WORD = re.compile(r'"[^"]*"|[{}(),]|[^\s{}(),"]+(?:,[^\s{}(),"]+)*')
VERDICTS = ("accept", "drop", "return", "continue")
TIMES = {"d": 86400 * SECOND, "h": 3600 * SECOND, "m": 60 * SECOND, "s": SECOND, "ms": SECOND // 1000}


def duration(text: str) -> int:
    """`3h`, `1d2h30m`, `10s500ms` in ns."""
    parts = re.findall(r"(\d+)(ms|[dhms])", text)
    if not parts or "".join(n + unit for n, unit in parts) != text:
        raise ValueError(f"a time like 3h or 1m30s was expected, not {text!r}")
    return sum(int(n) * TIMES[unit] for n, unit in parts)


class Words:
    """The words of a rule, or of a list of elements, while they are read."""

    def __init__(self, line: str) -> None:
        if line.count('"') % 2:
            raise ValueError('a closing `"` was expected')
        self.words: list[str] = WORD.findall(line)
        self.at = 0

    # -- words -----------------------------------------------------------------------------------------------------

    def peek(self, ahead: int = 0) -> str:
        """A word that is still to come, "" beyond the end."""
        return self.words[self.at + ahead] if self.at + ahead < len(self.words) else ""

    def next(self, expected: str) -> str:
        if self.at >= len(self.words):
            raise ValueError(f"it ends where {expected} was expected")
        self.at += 1
        return self.words[self.at - 1]

    def took(self, *words: str) -> bool:
        """Whether these words come next; then they are passed."""
        if any(self.peek(i) != word for i, word in enumerate(words)):
            return False
        self.at += len(words)
        return True

    def text(self, start: int) -> str:
        """The words since a place, as nft spaces them."""
        found = ""
        for word in self.words[start : self.at]:
            found += word if not found or word in ",)" or found.endswith("(") else f" {word}"
        return found

    # -- elements --------------------------------------------------------------------------------------------------

    def need(self, word: str) -> None:
        """Pass a word that has to come next."""
        got = self.next(f"`{word}`")
        if got != word:
            raise ValueError(f"`{word}` was expected, not {got!r}")

    def elements(self, kinds: list[str], *, mapped: bool) -> list[Element]:
        """`{ ELEMENT, ELEMENT }`; of a map each has a verdict."""
        self.need("{")
        found = [self._element(kinds, mapped=mapped)]
        while self.took(","):
            found.append(self._element(kinds, mapped=mapped))
        self.need("}")
        return found

    def _element(self, kinds: list[str], *, mapped: bool) -> Element:
        start = self.at
        key: list[Span] = []
        if not self.took("*"):
            for i, kind in enumerate(kinds):
                if i:
                    self.need(".")
                key.append(span_of(kind, self.next("a value")))
        expires = 0
        while self.peek() in ("comment", "timeout", "expires", "counter"):
            word = self.next("an option")
            if word == "counter":
                self.counted()
            elif word == "comment":
                self.next("a comment")
            else:
                left = duration(self.next("a time"))
                expires = left if word == "expires" else expires or left
        outcome = GO_ON
        if mapped:
            self.need(":")
            word = self.next("a verdict")
            if word not in (*VERDICTS, "jump", "goto"):
                raise Strange(f"a map to {word}")
            chain = self.next("a chain") if word in ("jump", "goto") else ""
            outcome = Outcome("" if word == "continue" else word, chain)
        text = self.text(start)
        return Element(text, tuple(key), outcome._replace(element=text), expires)

    def counted(self) -> None:
        """Pass the numbers of a counter."""
        if self.took("packets"):
            self.next("a number")
            self.need("bytes")
            self.next("a number")
