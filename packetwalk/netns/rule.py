"""One rule of iptables: read from the words of a line, printed as iptables-save prints it, compiled once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from packetwalk.netns.match import (
    FIXED,
    HEADER,
    MATCHES,
    Check,
    Condition,
    Match,
    MatchKind,
    always,
    compile_header,
    compile_match,
)
from packetwalk.netns.option import Option, OptionKind, ordered, quote, split, unquote
from packetwalk.netns.target import TARGETS, Target, TargetKind

LONG = {
    "--source": "-s", "--src": "-s", "--destination": "-d", "--dst": "-d", "--in-interface": "-i",
    "--out-interface": "-o", "--protocol": "-p", "--proto": "-p", "--fragment": "-f", "--match": "-m", "--jump": "-j",
    "--goto": "-g",
}  # fmt: skip
IMPLIED = ("tcp", "udp", "icmp", "sctp", "udplite", "dccp")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as data. `goto`: its target is a chain that returns to our caller's caller; where: "FILE:LINE" or ""."""

    chain: str
    header: tuple[Option, ...] = ()
    matches: tuple[Match, ...] = ()
    target: Target | None = None
    goto: bool = False
    where: str = field(default="", compare=False)

    def __str__(self) -> str:
        words = [f"-A {self.chain}", *map(str, self.header), *map(str, self.matches)]
        if self.target is not None:
            words.append(f"-g {self.target.name}" if self.goto else str(self.target))
        return " ".join(words)

    @property
    def comment(self) -> str:
        """The text of its comments."""
        found = [m.get("--comment") for m in self.matches if m.name == "comment"]
        return "; ".join(unquote(option.text) for option in found if option is not None)

    def match(self, name: str) -> Match | None:
        return next((m for m in self.matches if m.name == name), None)

    def conditions(self) -> list[Condition]:
        """Its tests in the order in which the kernel makes them: header, then matches (ipt_do_table)."""
        header = [c for c in map(compile_header, self.header) if c is not None]
        return [*header, *map(compile_match, self.matches)]


def chained(conditions: list[Condition]) -> Check:
    """One closure out of several tests, in that order."""
    check: Check = always
    for condition in reversed(conditions):
        check = condition.link(check)
    return check


def cheapest_first(conditions: list[Condition]) -> list[Condition]:
    """The same answer sooner: tests that only look are sorted up to the first that remembers, draws or gives up."""
    fixed = next((i for i, c in enumerate(conditions) if c.rank == FIXED), len(conditions))
    return sorted(conditions[:fixed], key=lambda c: c.rank) + conditions[fixed:]


# -- reading -----------------------------------------------------------------------------------------------------------


def parse_rule(line: str, where: str = "", *, chains: frozenset[str] = frozenset()) -> Rule:
    """A rule from `-A CHAIN ...`, in any order that iptables takes. ValueError, in one line, for what it would refuse.

    chains: names that `-j` takes for chains even where a target has that name.
    """
    words = split(line)
    if len(words) < 2 or words[0] not in ("-A", "--append"):
        raise ValueError(f"`-A CHAIN ...` was expected, not {line!r}")
    return Reading(words[2:], chains).rule(words[1], where)


class Reading:
    """The words of a rule while they are read."""

    def __init__(self, words: list[str], chains: frozenset[str]) -> None:
        self.words, self.chains = words, chains
        self.at = 0
        self.inverted = False
        self.header: dict[str, Option] = {}
        self.matches: list[tuple[str, dict[str, Option], list[str]]] = []
        self.target: tuple[str, dict[str, Option], list[str]] | None = None
        self.goto = False

    def rule(self, chain: str, where: str) -> Rule:
        while self.at < len(self.words):
            self._word(self.next())
        if self.inverted:
            raise ValueError("an option was expected after `!`")
        target = None
        if self.target is not None:
            name, options, words = self.target
            target = Target(name, _finished(options, TARGETS.get(name)), tuple(words))
        matches = tuple(Match(n, _finished(o, MATCHES.get(n)), tuple(w)) for n, o, w in self.matches)
        return Rule(chain, ordered(self.header.values(), HEADER), matches, target, self.goto, where)

    def next(self, option: str = "") -> str:
        if self.at >= len(self.words):
            raise ValueError(f"{option}: a value was expected")
        self.at += 1
        return self.words[self.at - 1]

    def _word(self, word: str) -> None:
        word = LONG.get(word, word)
        if word == "!":
            self.inverted = True
        elif word == "-m":
            self.matches.append((name := self.next(word), {}, self._unknown() if name not in MATCHES else []))
        elif word in ("-j", "-g"):
            name = self.next(word)
            self.goto = word == "-g"
            known = name in TARGETS or name in self.chains or self.goto
            self.target = (name, {}, [] if known else self._unknown(to_the_end=True))
        elif word == "-c":
            self.at += 2  # counters
        elif word in HEADER:
            self._option(word, HEADER[word], self.header)
        else:
            self._extension(word)

    def _unknown(self, *, to_the_end: bool = False) -> list[str]:
        """The words of a match or target that is not modelled, as they would be printed."""
        start = self.at
        while self.at < len(self.words):
            word = self.words[self.at]
            following = self.words[self.at + 1] if self.at + 1 < len(self.words) else ""
            one = following if word == "!" else word
            if not to_the_end and (LONG.get(one, one) in (*HEADER, "-m", "-j", "-g", "-c")):
                break
            self.at += 1
        return [w if w == "!" or w.startswith("-") else _bare(w) for w in self.words[start : self.at]]

    def _extension(self, word: str) -> None:
        """An option of the target, of a match, or of the match that `-p` implies: the order of iptables."""
        if self.target is not None and word in _kinds(TARGETS.get(self.target[0])):
            return self._option(word, TARGETS[self.target[0]].options[word], self.target[1])
        for name, options, _ in reversed(self.matches):
            if word in _kinds(MATCHES.get(name)):
                return self._option(word, MATCHES[name].options[word], options)
        proto = self.header["-p"].text if "-p" in self.header else ""
        if proto in IMPLIED and word in _kinds(MATCHES.get(proto)):
            self.matches.append((proto, {}, []))
            return self._extension(word)
        raise ValueError(f"{word}: no match or target named before it has this option")

    def _option(self, word: str, kind: OptionKind, options: dict[str, Option]) -> None:
        inverted, self.inverted = self.inverted, False
        if kind.words and self.at < len(self.words) and self.words[self.at] == "!":  # the old place: `--dport ! 80`
            inverted, self.at = True, self.at + 1
        if inverted and not kind.invertible:
            raise ValueError(f"{word} takes no `!`")
        words = [self.next(word) for _ in range(kind.words)]
        try:
            args = kind.read(*words)
        except ValueError as error:
            raise ValueError(f"{word}: {error}") from None
        name = kind.printed or word
        options[name] = Option(name, args, inverted)


def _kinds(kind: MatchKind | TargetKind | None) -> Mapping[str, OptionKind]:
    return {} if kind is None else kind.options


def _bare(word: str) -> str:
    return quote(word) if any(c in word for c in " \t\"'\\") or not word else word


def _finished(options: dict[str, Option], kind: MatchKind | TargetKind | None) -> tuple[Option, ...]:
    if kind is None:
        return tuple(options.values())
    kind.finish(options)
    return ordered(options.values(), kind.options)
