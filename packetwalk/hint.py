"""The nearest right word, for a message about a wrong one."""

from __future__ import annotations

from collections.abc import Iterable

LISTED = 12
"""so many words are told in full"""


def nearest(word: str, words: Iterable[str]) -> str:
    """ "did you mean 'X'?", or what there is where nothing is like it."""
    from difflib import get_close_matches

    words = list(words)
    near = get_close_matches(word, words, 1, 0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    more = f" and {len(words) - LISTED} more" if len(words) > LISTED else ""
    return f"there are {', '.join(words[:LISTED])}{more}" if words else "there is none"


def unknown(what: str, word: str, words: Iterable[str]) -> str:
    """One line about a word that is none of `words`."""
    return f"there is no {what} {word!r}; {nearest(word, words)}"
