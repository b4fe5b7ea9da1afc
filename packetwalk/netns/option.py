"""The words of iptables: an option with its arguments, how a line is cut into words and how words are written back.

Every option is kept in the very text that iptables-save prints, so that a rule is data, compares by value, and prints
as it was read. What the text means is the business of the match or target that owns the option.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeAlias

from packetwalk.addr import MASKS, IPv4

PROTOCOLS = {
    "icmp": 1, "igmp": 2, "ipencap": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33, "ipv6": 41, "rsvp": 46, "gre": 47,
    "esp": 50, "ah": 51, "ipv6-icmp": 58, "ospf": 89, "ipip": 94, "etherip": 97, "pim": 103, "vrrp": 112, "sctp": 132,
    "mobility-header": 135, "udplite": 136,
}  # fmt: skip
"""Protocols by the names of /etc/protocols, as iptables and ipset print them."""

ICMP_TYPES = {
    "any": "any", "echo-reply": "0", "pong": "0", "destination-unreachable": "3", "network-unreachable": "3/0",
    "host-unreachable": "3/1", "protocol-unreachable": "3/2", "port-unreachable": "3/3", "fragmentation-needed": "3/4",
    "source-route-failed": "3/5", "network-unknown": "3/6", "host-unknown": "3/7", "network-prohibited": "3/9",
    "host-prohibited": "3/10", "TOS-network-unreachable": "3/11", "TOS-host-unreachable": "3/12",
    "communication-prohibited": "3/13", "host-precedence-violation": "3/14", "precedence-cutoff": "3/15",
    "source-quench": "4", "redirect": "5", "network-redirect": "5/0", "host-redirect": "5/1",
    "TOS-network-redirect": "5/2", "TOS-host-redirect": "5/3", "echo-request": "8", "ping": "8",
    "router-advertisement": "9", "router-solicitation": "10", "time-exceeded": "11", "ttl-exceeded": "11",
    "ttl-zero-during-transit": "11/0", "ttl-zero-during-reassembly": "11/1", "parameter-problem": "12",
    "ip-header-bad": "12/0", "required-option-missing": "12/1", "timestamp-request": "13", "timestamp-reply": "14",
    "address-mask-request": "17", "address-mask-reply": "18",
}  # fmt: skip
"""ICMP types by the names iptables and ipset take, as iptables-save prints them."""

PLAIN = frozenset("_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
WORD = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s"])+')
LINE = re.compile(r'(?:"(?:[^"\\]|\\.)*+"|[^\s"]++|\s++)*+')
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
ESCAPED = re.compile(r"\\(.)")


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


class Extension(NamedTuple):
    """A match or a target with its options: an extension of iptables."""

    name: str
    options: tuple[Option, ...] = ()
    words: tuple[str, ...] = ()

    def get(self, name: str) -> Option | None:
        return next((option for option in self.options if option.name == name), None)

    def text(self, name: str, default: str = "") -> str:
        """The arguments of an option; `default` where it is not given."""
        option = self.get(name)
        return default if option is None else option.text

    def has(self, name: str) -> bool:
        return self.get(name) is not None


class OptionKind(NamedTuple):
    """What an option takes. `read` gets its words and returns them as
    iptables-save would print them; ValueError says what was expected.

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


def cut(line: str) -> list[str]:
    """Cut a line into words as iptables-restore does, each with its quotes: double quotes hold a word together, a
    backslash in them takes the next character as it is. ValueError for a quote that is not closed."""
    if not LINE.fullmatch(line):
        raise ValueError('a closing `"` was expected')
    return WORD.findall(line)


def unquote(word: str) -> str:
    """What a word says, without its quotes."""
    return QUOTED.sub(lambda m: ESCAPED.sub(r"\1", m[1]), word) if '"' in word else word


def quote(text: str) -> str:
    """A word as xtables_save_string writes it: in double quotes where it holds more than letters, digits, `_`, `-`."""
    if text and PLAIN.issuperset(text):
        return text
    for letter in "\\\"'":
        text = text.replace(letter, f"\\{letter}")
    return f'"{text}"'


def quoted(text: str) -> tuple[str]:
    """An argument that may hold anything, kept as it is printed."""
    return (quote(text),)


# -- numbers and lists, as options take them ---------------------------------------------------------------------------


def number(text: str, low: int = 0, high: int = 0xFFFFFFFF) -> int:
    """A number in decimal, octal (0...) or hexadecimal (0x...), as strtoul reads it."""
    digits = text.lower()
    try:
        value = int(digits, 16 if digits.startswith("0x") else 8 if digits.startswith("0") and len(digits) > 1 else 10)
    except ValueError:
        value = -1
    if not low <= value <= high or not text[:1].isdigit():
        raise ValueError(f"a number of {low} to {high} was expected, not {text!r}")
    return value


def bounds(text: str, sign: str = ":", high: int = 0xFFFF) -> tuple[int, int]:
    """`80`, `1000:2000`, `:99` or `1024:` as the lowest and the highest."""
    first, colon, last = text.partition(sign)
    a = number(first, 0, high) if first or not colon else 0
    b = (number(last, 0, high) if last else high) if colon else a
    if a > b:
        raise ValueError(f"a range from the lower to the higher number was expected, not {text!r}")
    return a, b


def span(text: str, sign: str = ":", high: int = 0xFFFF) -> str:
    """`bounds` as iptables-save prints them."""
    a, b = bounds(text, sign, high)
    return str(a) if a == b else f"{a}{sign}{b}"


def masked(text: str) -> tuple[int, int]:
    """`0x4000/0x4000` or `0x64` (all bits) as value and mask."""
    value, slash, mask = text.partition("/")
    return number(value), number(mask) if slash else 0xFFFFFFFF


def network(text: str) -> tuple[int, int]:
    """`10.0.0.0/8`, `10.0.0.0/255.0.0.0` or a bare address as address and mask; host bits are cut off."""
    addr, slash, mask = text.partition("/")
    bits = 0xFFFFFFFF if not slash else int(IPv4(mask)) if "." in mask else MASKS[number(mask, 0, 32)]
    return int(IPv4(addr)) & bits, bits


def network_text(addr: int, mask: int) -> str:
    """A network as iptables-save prints it: with the length of its mask, or the mask if it is no prefix."""
    length = mask.bit_count()
    return f"{IPv4(addr)}/{length if MASKS[length] == mask else IPv4(mask)}"


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


def sides(text: str) -> tuple[bool, ...]:
    """`src,dst` of a set's dimensions: for each, whether the source is meant."""
    return tuple(one_of(("src", "dst"), part) == "src" for part in text.split(","))


# -- kinds of options that several matches and targets have ------------------------------------------------------------

FLAG = OptionKind(0)


def numeric(high: int = 0xFFFFFFFF, *, invertible: bool = False) -> OptionKind:
    """An option with one number, printed in decimal."""
    return OptionKind(1, lambda text: (str(number(text, 0, high)),), invertible)


def mark(text: str) -> tuple[str]:
    """A mark as a match prints it: without the mask where all bits count."""
    value, mask = masked(text)
    return (f"{value:#x}" if mask == 0xFFFFFFFF else f"{value:#x}/{mask:#x}",)


def xmark(text: str) -> tuple[str]:
    """A mark as a target prints it, always with its mask."""
    value, mask = masked(text)
    return (f"{value:#x}/{mask:#x}",)


def set_and_sides(name: str, text: str) -> tuple[str, str]:
    """The two words after `--match-set`, `--add-set` and the like."""
    sides(text)
    return quote_word(name), text


def quote_word(word: str) -> str:
    """A word that is printed bare unless it could not be read again."""
    return quote(word) if not word or any(c.isspace() or c in "\"'\\" for c in word) else word


# -- what a match or target needs --------------------------------------------------------------------------------------

Finish: TypeAlias = Callable[[dict[str, Option]], None]
"""Adds to the options of a match or target what iptables fills in; ValueError for what cannot go together."""


def anything(options: dict[str, Option]) -> None:
    """A `finish` that is content with all options and with none."""


def exactly_one(kinds: Mapping[str, OptionKind]) -> Finish:
    """A `finish` that wants one of these options and no second."""
    names = [name for name, kind in kinds.items() if not kind.printed]

    def finish(options: dict[str, Option]) -> None:
        if len([name for name in names if name in options]) != 1:
            raise ValueError(f"{'one of ' if len(names) > 1 else ''}{', '.join(names)} was expected")

    return finish


def at_least_one(kinds: Mapping[str, OptionKind]) -> Finish:
    """A `finish` that wants one of these options, or more."""
    names = [name for name, kind in kinds.items() if not kind.printed]

    def finish(options: dict[str, Option]) -> None:
        if not any(name in options for name in names):
            raise ValueError(f"at least one of {', '.join(names)} was expected")

    return finish
