"""Run a program by hand: each call it yields is answered by the test."""

from collections.abc import Callable
from typing import Any

from packetwalk.apps.program import Call, Failed, Program, Say


def play(program: Program[Any], answer: Callable[[Call], object]) -> tuple[list[Call], Any]:
    """All calls of a program, and what it returns. `answer` is asked for each but Say; it may return a Failed."""
    calls: list[Call] = []
    given: object = None
    try:
        while True:
            call = program.throw(given) if isinstance(given, Failed) else program.send(given)
            calls.append(call)
            given = None if isinstance(call, Say) else answer(call)
    except StopIteration as end:
        return calls, end.value


def said(calls: list[Call]) -> list[str]:
    """What the program put into the trace."""
    return [str(call.what) for call in calls if isinstance(call, Say)]
