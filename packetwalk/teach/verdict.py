"""What a judge says of an answer, and `exercises`, which makes a notebook's `check` of its judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from packetwalk.network import Network
from packetwalk.trace import Trace

NO_ANSWER = "There is no answer yet: put yours in place of the dots, run its cell, then this one."


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer is right, and why. True where it is; a notebook shows it in colour."""

    right: bool
    why: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'Right' if self.right else 'Not yet'}. {self.why}"

    def _repr_html_(self) -> str:
        ink, mark = ("#0b6e4f", "✓ Right.") if self.right else ("#a03c00", "✗ Not yet.")
        style = f"border-left:4px solid {ink};padding:.4em .8em;margin:.3em 0"
        return f'<div style="{style}"><b style="color:{ink}">{mark}</b> {escape(self.why)}</div>'


Judge = Callable[[Network, Any], Verdict]
Check = Callable[[int, Network, object], Verdict]


def exercises(*judges: Judge) -> Check:
    """`check(number, net, answer)` of a notebook whose exercises those judges judge, in order."""

    def check(number: int, net: Network, answer: object) -> Verdict:
        """Judge the answer to an exercise: it may be wrong in any way, and is never an error."""
        if number not in range(1, len(judges) + 1):
            return Verdict(False, f"There is no exercise {number!r}, only 1 to {len(judges)}.")
        if answer is ... or (isinstance(answer, dict) and ... in answer.values()):
            return Verdict(False, NO_ANSWER)
        try:
            return judges[number - 1](net, answer)
        except (KeyError, ValueError) as error:  # from walk, whatif or the answer's form: one line each
            return Verdict(False, str(error.args[0]))

    return check


def number(answer: object, right: int, praise: str, *, known: Mapping[int, str], otherwise: str) -> Verdict:
    """Judge a whole number. known: what is behind an answer that is often given; otherwise: what helps with others."""
    if not isinstance(answer, int) or isinstance(answer, bool):
        raise ValueError(f"A whole number was expected, not {answer!r}.")
    if answer == right:
        return Verdict(True, praise)
    return Verdict(False, known.get(answer, otherwise))


def text(answer: object, expected: str) -> str:
    """The answer as text with single spaces. ValueError, saying what was expected, for anything else."""
    if not isinstance(answer, str) or not answer.strip():
        raise ValueError(f"{expected} was expected, not {answer!r}.")
    return " ".join(answer.split())


def lines(answer: object, expected: str) -> list[str]:
    """One line, or a list of them. ValueError, saying what was expected, for anything else."""
    return [text(line, expected) for line in (answer if isinstance(answer, list | tuple) else [answer])]


def ending(trace: Trace) -> str:
    """Where a walk ended that was not answered, in words."""
    if not trace.drops:
        return f"No room dropped the packet, and yet the sender got: {trace.result.outcome}."
    room, step = trace.drops[0]
    drop: Any = step.what
    return f"{room} drops it: {drop.reason.value}{f', by {drop.by}' if drop.by is not None else ''}."
