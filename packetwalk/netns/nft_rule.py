"""One rule of nftables: read from the words of a line, printed as nft prints it, compiled a function for a statement.

The kernel runs the expressions of a rule one after the other until one does not match (nft_do_chain, net/netfilter/
nf_tables_core.c). What nftables and iptables have in common (REJECT, NAT) is done by the same targets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from packetwalk.hint import unknown
from packetwalk.netns.nft_action import STATEMENTS, Run, always, nothing
from packetwalk.netns.nft_set import GO_ON, NftSet, Outcome
from packetwalk.netns.nft_term import KINDS, TERMS, Span, Strange, Term, Value, span_of
from packetwalk.netns.nft_words import VERDICTS, Words, duration
from packetwalk.netns.option import number
from packetwalk.netns.seen import Lot, Seen, Undecided
from packetwalk.netns.target import Target


@dataclass(frozen=True, slots=True)
class Statement:
    """A part of a rule, as nft prints it, and what it does. target: what iptables would call that, None for a mere
    question; aims: the chains it may lead to."""

    text: str
    run: Run = field(compare=False, repr=False)
    target: Target | None = None
    aims: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NftRule:
    """A rule as data; where: "FILE:LINE" or ""."""

    chain: str
    statements: tuple[Statement, ...]
    where: str = ""
    runs: tuple[Run, ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        return " ".join(statement.text for statement in self.statements)

    @property
    def target(self) -> Target | None:
        """What it does, as a target of iptables; a look-up in a map has none."""
        return next((s.target for s in reversed(self.statements) if s.target is not None), None)

    @property
    def comment(self) -> str:
        """What it says about itself."""
        return next((s.text[9:-1] for s in self.statements if s.text.startswith("comment ")), "")


def parse_nft_rule(line: str, chain: str, sets: Mapping[str, NftSet], where: str = "") -> NftRule:
    """A rule from a line of `nft list`. ValueError, in one line, for what nft would refuse.

    What is not modelled becomes a statement that cannot be decided.
    """
    statements = tuple(Reading(line, sets).statements())
    return NftRule(chain, statements, where, tuple([s.run for s in statements if s.run is not nothing]))


def _undecided(text: str) -> Run:
    def run(s: Seen) -> Outcome | None:
        raise Undecided("statement", text)

    return run


class Reading(Words):
    """The words of a rule while they are read. sets: those of its table."""

    def __init__(self, line: str, sets: Mapping[str, NftSet]) -> None:
        super().__init__(line)
        self.sets = sets

    # -- statements ------------------------------------------------------------------------------------------------

    def statements(self) -> list[Statement]:
        found: list[Statement] = []
        while self.at < len(self.words):
            start = self.at
            try:
                found.append(self._statement())
            except Strange:
                self.at = len(self.words) - (2 if self.words[-2:-1] == ["comment"] else 0)
                text = self.text(start)
                found.append(Statement(text, _undecided(text)))
        return found

    def _statement(self) -> Statement:
        start, word = self.at, self.peek()
        if word in VERDICTS:
            self.at += 1
            outcome = GO_ON if word == "continue" else Outcome(word)
            return Statement(word, always(outcome), Target(word.upper()))
        if word in ("jump", "goto"):
            self.at += 1
            chain = self.next("a chain")
            return Statement(self.text(start), always(Outcome(word, chain)), Target(chain), (chain,))
        if word in STATEMENTS:
            self.at += 1
            run, target = STATEMENTS[word](self)
            return Statement(self.text(start), run, target)
        if word in ("meta", "ct") and self.peek(2) == "set":
            return self._set_mark(start)
        if word in ("add", "update", "delete") and self.peek(1).startswith("@"):
            return self._change(start)
        return self._question(start)

    def _set_mark(self, start: int) -> Statement:
        """nft_meta_set_eval, nft_ct_set_eval: a mark from a number, another mark, and bits of it."""
        to = f"{self.next('meta')} {self.next('mark')}"
        if to not in ("meta mark", "ct mark"):
            raise Strange(to)
        self.took("set")
        source: Term | None = None
        fixed = 0
        if self.peek() in ("meta", "ct"):
            source = self._term()
        else:
            fixed = number(self.next("a mark"))
        change = self._bits()

        def run(s: Seen) -> Outcome | None:
            value = source.load(s) if source is not None else fixed
            if value is None:
                return None
            mark = change(int(value))
            if to == "meta mark":
                s.mark = mark
            elif s.conn is not None:
                s.conn.mark = mark
            return GO_ON

        return Statement(self.text(start), run, Target("MARK" if to == "meta mark" else "CONNMARK"))

    def _bits(self) -> Callable[[int], int]:
        """`& 0xffff | 0x1`, one after the other."""
        steps: list[tuple[str, int]] = []
        while self.peek() in ("&", "|", "^"):
            steps.append((self.next("an operator"), number(self.next("a number"))))

        def change(value: int) -> int:
            for sign, bits in steps:
                value = value & bits if sign == "&" else value | bits if sign == "|" else value ^ bits
            return value

        return change

    def _change(self, start: int) -> Statement:
        """nft_dynset_eval: what a packet stands for goes into a set, or out of it."""
        way, wanted = self.next("update"), self._named()
        self.need("{")
        terms = self._terms()
        timeout = duration(self.next("a time")) if self.took("timeout") else wanted.timeout
        if not self.took("}"):
            raise Strange(self.peek())

        def run(s: Seen) -> Outcome | None:
            key = tuple([term.load(s) for term in terms])
            if None in key:
                return None
            if way == "delete":
                wanted.forget(key, s)  # type: ignore[arg-type]
            else:
                wanted.learn(key, s, timeout, refresh=way == "update")  # type: ignore[arg-type]
            return GO_ON

        return Statement(self.text(start), run, Target("SET"))

    # -- questions -------------------------------------------------------------------------------------------------

    def _question(self, start: int) -> Statement:
        """A comparison or a look-up in a map."""
        if self.took("numgen"):
            return self._numgen(start)
        terms = self._terms()
        if self.took("vmap"):
            wanted = self._wanted(terms, mapped=True)
            return Statement(self.text(start), _vmap(terms, wanted), None, tuple(wanted.chains))
        change = self._bits()
        sign = self.next("a value") if self.peek() in ("==", "!=", "<", ">", "<=", ">=") else "=="
        if self.peek().startswith("@") or self.peek() == "{":
            run = _within(terms, self._wanted(terms, mapped=False), inverted=sign == "!=")
            return Statement(self.text(start), run)
        if len(terms) > 1:
            raise Strange("a concatenation compared with one value")
        span = span_of(terms[0].kind, self.next("a value"))
        return Statement(self.text(start), _compare(terms[0], change, sign, span))

    def _terms(self) -> list[Term]:
        terms = [self._term()]
        while self.took("."):
            terms.append(self._term())
        return terms

    def _term(self) -> Term:
        for length in (3, 2, 1):
            words = " ".join(self.words[self.at : self.at + length])
            if words in TERMS:
                self.at += length
                return TERMS[words]
        raise Strange(self.peek())

    def _named(self) -> NftSet:
        name = self.next("a set")[1:]
        if name not in self.sets:
            raise ValueError(unknown("set or map", name, self.sets))
        return self.sets[name]

    def _wanted(self, terms: list[Term], *, mapped: bool) -> NftSet:
        """A set or map, by its name or in braces."""
        return self._braces([t.kind for t in terms], mapped=mapped) if self.peek() == "{" else self._named()

    def _braces(self, kinds: list[str], *, mapped: bool) -> NftSet:
        return NftSet("", tuple(kinds), self.elements(kinds, mapped=mapped), mapped)

    def _numgen(self, start: int) -> Statement:
        """nft_ng_random_eval: one of so many, each as likely as another, drawn by a lot for each that is left."""
        if not self.took("random", "mod"):
            raise Strange("numgen inc")
        count = number(self.next("how many"), 1)
        if not self.took("vmap"):
            raise Strange(self.peek())
        wanted = self._braces(["integer"], mapped=True)
        lots = [wanted.outcome(i) for i in range(count)]

        def run(s: Seen) -> Outcome | None:
            for i, lot in enumerate(lots):
                left = count - i
                chain = lot.chain if lot is not None else ""
                if left == 1 or s.choose.statistic(Lot(chain), 1 / left, s):
                    return lot
            return None

        return Statement(self.text(start), run, None, tuple(wanted.chains))


# -- what questions come to --------------------------------------------------------------------------------------------


def _vmap(terms: list[Term], wanted: NftSet) -> Run:
    """nft_lookup_eval on a verdict map: its verdict, or no match."""
    loads = [term.load for term in terms]

    def run(s: Seen) -> Outcome | None:
        _known(wanted)
        key = tuple([load(s) for load in loads])
        element = wanted.find(key, s) if None not in key else None  # type: ignore[arg-type]
        return element.outcome if element is not None else None

    return run


def _within(terms: list[Term], wanted: NftSet, *, inverted: bool) -> Run:
    """nft_lookup_eval on a set."""
    loads = [term.load for term in terms]

    def run(s: Seen) -> Outcome | None:
        _known(wanted)
        key = tuple([load(s) for load in loads])
        if None in key:
            return None
        element = wanted.find(key, s)  # type: ignore[arg-type]
        if (element is not None) is inverted:
            return None
        return GO_ON if element is None or not wanted.name else Outcome(element=element.text)

    return run


def _known(wanted: NftSet) -> None:
    if wanted.unknown:
        raise Undecided("set", f"{wanted.name}, which has {wanted.unknown}")


def _compare(term: Term, change: Callable[[int], int], sign: str, span: Span) -> Run:
    """nft_cmp_eval, nft_range_eval; of bits one is enough (nft_bitwise_eval before it)."""
    low, high = span
    load, bits = term.load, KINDS[term.kind].bits

    def holds(value: Value) -> bool:
        if bits and sign == "==":
            return bool(int(value) & int(low))
        value = change(value) if isinstance(value, int) else value
        if sign in ("==", "!="):
            return (low <= value <= high) is (sign == "==")  # type: ignore[operator]
        number = int(value)
        return {"<": number < int(low), ">": number > int(high), "<=": number <= int(high),
                ">=": number >= int(low)}[sign]  # fmt: skip

    def run(s: Seen) -> Outcome | None:
        value = load(s)
        return GO_ON if value is not None and holds(value) else None

    return run
