"""The words of iptables: an option with its arguments, how a line is cut into words and how words are written back.

Every option is kept in the very text that iptables-save prints, so that a rule is data, compares by value, and prints
as it was read. What the text means is the business of the match or target that owns the option.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

PLAIN = frozenset("_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Option(NamedTuple):
    """One option as iptables-save prints it: `! --ctstate NEW,RELATED` has one argument and is inverted."""

    name: str
    args: tuple[str, ...] = ()
    inverted: bool = False

    @property
    def text(self) -> str:
        """The arguments, as printed."""
        return " ".join(self.args)

    def __str__(self) -> str:
        return " ".join([*(["!"] if self.inverted else []), self.name, *self.args])


class OptionKind(NamedTuple):
    """What an option takes. `read` gets its words and returns them as iptables-save would print them; ValueError says
    what was expected.

    printed: the name under which it is printed, where that is another one (`--or-mark` is a `--set-xmark`).
    """

    words: int = 1
    read: Callable[..., tuple[str, ...]] = lambda *words: words
    invertible: bool = False
    printed: str = ""


Options = Mapping[str, Option]


def ordered(options: Iterable[Option], kinds: Mapping[str, OptionKind]) -> tuple[Option, ...]:
    """Options in the order in which iptables-save prints them: that of their kinds."""
    rank = {name: i for i, name in enumerate(kinds)}
    return tuple(sorted(options, key=lambda option: rank[option.name]))


def split(line: str) -> list[str]:
    """Cut a line into words as iptables-restore does: double quotes hold a word together, a backslash in them takes
    the next character as it is. ValueError for a quote that is not closed."""
    words: list[str] = []
    word: list[str] = []
    quoted = started = False
    letters = iter(line)
    for letter in letters:
        if quoted and letter == "\\":
            word.append(next(letters, ""))
        elif letter == '"':
            quoted, started = not quoted, True
        elif letter.isspace() and not quoted:
            if started:
                words.append("".join(word))
                word, started = [], False
        else:
            word.append(letter)
            started = True
    if quoted:
        raise ValueError('a closing `"` was expected')
    return [*words, "".join(word)] if started else words


def quote(text: str) -> str:
    """A word as xtables_save_string writes it: in double quotes where it holds more than letters, digits, `_`, `-`."""
    if text and PLAIN.issuperset(text):
        return text
    for letter in "\\\"'":
        text = text.replace(letter, f"\\{letter}")
    return f'"{text}"'


def unquote(text: str) -> str:
    """The word that `quote` wrote."""
    return "".join(split(text)) if text.startswith('"') else text


def quoted(text: str) -> tuple[str]:
    """An argument that may hold anything, kept as it is printed."""
    return (quote(text),)


# -- numbers and lists, as options take them ---------------------------------------------------------------------------


def number(text: str, low: int = 0, high: int = 0xFFFFFFFF) -> int:
    """A number in decimal, octal (0...) or hexadecimal (0x...), as strtoul reads it."""
    try:
        digits = text.lower()
        value = int(digits, 16 if digits.startswith("0x") else 8 if digits.startswith("0") and len(digits) > 1 else 10)
    except ValueError:
        value = -1
    if not low <= value <= high or not text[:1].isdigit():
        raise ValueError(f"a number of {low} to {high} was expected, not {text!r}")
    return value


def bounds(text: str, sign: str = ":", low: int = 0, high: int = 0xFFFF) -> tuple[int, int]:
    """`80`, `1000:2000`, `:99` or `1024:` as the lowest and the highest."""
    first, colon, last = text.partition(sign)
    a = number(first, low, high) if first or not colon else low
    b = (number(last, low, high) if last else high) if colon else a
    if a > b:
        raise ValueError(f"a range from the lower to the higher number was expected, not {text!r}")
    return a, b


def span(text: str, sign: str = ":", low: int = 0, high: int = 0xFFFF) -> str:
    """`bounds` as iptables-save prints them."""
    a, b = bounds(text, sign, low, high)
    return str(a) if a == b else f"{a}{sign}{b}"


def masked(text: str) -> tuple[int, int]:
    """`0x4000/0x4000` or `0x64` (all bits) as value and mask."""
    value, slash, mask = text.partition("/")
    return number(value), number(mask) if slash else 0xFFFFFFFF


def one_of(words: Iterable[str], text: str) -> str:
    """The word, if it is one of those; ValueError that names them."""
    words = list(words)
    if text not in words:
        raise ValueError(f"one of {', '.join(words)} was expected, not {text!r}")
    return text


def listed(words: Iterable[str], text: str) -> str:
    """A list with commas, in the order of `words`, which is the order iptables-save prints."""
    words = list(words)
    given = {one_of(words, part.upper()) for part in text.split(",")}
    return ",".join(word for word in words if word in given)


def flags(*names: str) -> Iterator[tuple[str, OptionKind]]:
    """Kinds of options that take no argument."""
    for name in names:
        yield name, OptionKind(0)
