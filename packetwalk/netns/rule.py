"""One rule of iptables: read from the words of a line, printed as iptables-save prints it, compiled once."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from packetwalk.netns import match_memory, match_packet, match_state
from packetwalk.netns.match import (
    FIXED,
    HEADER,
    UNKNOWN,
    Check,
    Condition,
    Match,
    MatchKind,
    always,
    compile_header,
    dull,
    undecided,
)  # fmt: skip
from packetwalk.netns.option import Option, OptionKind, cut, ordered, unquote
from packetwalk.netns.target import TARGETS, Target, TargetKind

LONG = {
    "--source": "-s", "--src": "-s", "--destination": "-d", "--dst": "-d", "--in-interface": "-i",
    "--out-interface": "-o", "--protocol": "-p", "--proto": "-p", "--fragment": "-f", "--match": "-m", "--jump": "-j",
    "--goto": "-g",
}  # fmt: skip
MATCHES = {**match_packet.MATCHES, **match_state.MATCHES, **match_memory.MATCHES}
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
        """Its tests in the order in which the kernel makes them: header,
        then matches (ipt_do_table); unknown ones last."""
        tests = [*map(compile_header, self.header), *(self._condition(match) for match in self.matches)]
        return sorted(tests, key=lambda condition: condition.rank == UNKNOWN)

    def _condition(self, match: Match) -> Condition:
        if match.name not in MATCHES or match.words:
            return undecided("match", str(match))
        return MATCHES[match.name].compile(match, self)


def chained(conditions: Sequence[Condition]) -> Check:
    """One closure out of several tests, in that order."""
    check: Check = always
    for condition in reversed(conditions):
        check = condition.link(check)
    return check


def cheapest_first(conditions: Sequence[Condition]) -> Sequence[Condition]:
    """The same answer sooner: tests that only look are sorted, up to the first that remembers or draws."""
    fixed = next((i for i, c in enumerate(conditions) if c.rank >= FIXED), len(conditions))
    return (*sorted(conditions[:fixed], key=lambda c: c.rank), *conditions[fixed:])


# -- reading -----------------------------------------------------------------------------------------------------------


def parse_rule(line: str, where: str = "", *, chains: Container[str] = ()) -> Rule:
    """A rule from `-A CHAIN ...`, in any order that iptables takes. ValueError, in one line, for what it would refuse.

    chains: names that `-j` takes for chains even where a target has that name.
    """
    words = cut(line)
    if len(words) < 2 or words[0] not in ("-A", "--append"):
        raise ValueError(f"`-A CHAIN ...` was expected, not {line!r}")
    return Reading(words[2:], chains).rule(unquote(words[1]), where)


class Reading:
    """The words of a rule, with their quotes, while they are read."""

    def __init__(self, words: list[str], chains: Container[str]) -> None:
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
            target = Target(name, _finished(f"-j {name}", options, words, TARGETS.get(name)), tuple(words))
        matches = tuple(Match(n, _finished(f"-m {n}", o, w, MATCHES.get(n)), tuple(w)) for n, o, w in self.matches)
        header = ordered((option for option in self.header.values() if not dull(option)), HEADER)
        return Rule(chain, header, matches, target, self.goto, where)

    def next(self, option: str = "") -> str:
        if self.at >= len(self.words):
            raise ValueError(f"{option}: a value was expected")
        self.at += 1
        return unquote(self.words[self.at - 1])

    def _word(self, word: str) -> None:
        word = LONG.get(word, word)
        if word == "!":
            self.inverted = True
        elif word == "-m":
            name = self.next(word)
            self.matches.append((name, {}, [] if name in MATCHES else self._unknown()))
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
        """The words of a match or target that is not modelled, as they were."""
        start = self.at
        while self.at < len(self.words):
            at = self.at + (self.words[self.at] == "!")
            word = self.words[at] if at < len(self.words) else ""
            if not to_the_end and LONG.get(word, word) in (*HEADER, "-m", "-j", "-g", "-c"):
                break
            self.at += 1
        return self.words[start : self.at]

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
        return self._strange(word, proto)

    def _strange(self, word: str, proto: str) -> None:
        """An option that nobody has: a slip of the pen if one is spelt alike, else one too new for us, which makes its
        match or target one that is not modelled."""
        from difflib import get_close_matches  # only where something is strange

        owner = self.target or (self.matches[-1] if self.matches else None)
        kinds = [MATCHES.get(name) for name in (proto, *(m[0] for m in self.matches))]
        known = [*(TARGETS[self.target[0]].options if self.target and self.target[0] in TARGETS else ())]
        near = get_close_matches(word, [*known, *(option for kind in kinds for option in _kinds(kind))], 1, 0.75)
        if near or owner is None or not word.startswith("--"):
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{word}: no match or target named before it has this option{hint}")
        self.at -= 1
        before = ["!"] if self.inverted else []
        self.inverted = False
        owner[2].extend([*before, *self._unknown(to_the_end=owner is self.target)])

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


def _finished(
    what: str, options: dict[str, Option], words: list[str], kind: MatchKind | TargetKind | None
) -> tuple[Option, ...]:
    if kind is None:
        return ()
    if not words:
        try:
            kind.finish(options)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from None
    return ordered(options.values(), kind.options)
