"""Terminal transcripts as tests: `$ packetwalk ...`, what it prints, and `[status]` where that is not 0.

An ellipsis in what is expected stands for anything, also for several lines.
"""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from packetwalk.cli import main


class Entry(NamedTuple):
    """A command line (without its prompt) and the text that should follow it."""

    command: str
    expected: str


def entries(text: str) -> Iterator[Entry]:
    """The commands of a transcript; what stands before the first one is a comment."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield Entry(command, expected.rstrip("\n"))


def answer(command: str) -> str:
    """What a terminal shows after the command, stdout and stderr, with the status if it is not 0."""
    program, *argv = shlex.split(command, comments=True)
    assert program == "packetwalk", f"only packetwalk is run here, not {program}"
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        status = main(argv)
    text = shown.getvalue().rstrip("\n")
    return f"{text}\n[{status}]" if status else text


def matches(expected: str, found: str) -> bool:
    """Whether the text is as expected, ellipses allowed."""
    return re.fullmatch(".*".join(map(re.escape, expected.split("..."))), found, re.DOTALL) is not None
