"""A chain finds by its indices what asking every rule finds."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packetwalk.netns.chain import RUN, Chain, Run, Step
from packetwalk.netns.netfilter import Ruleset, Verdict
from packetwalk.netns.rule import parse_rule
from packetwalk.netns.seen import Seen
from packetwalk.packet import Icmp
from tests.netns.seen import Dice, places, ruleset, seen, walk


class Plain(Chain):
    """A chain that asks every rule, each in the kernel's own order of tests."""

    def steps(self, seen: Seen) -> Iterator[Step]:
        return iter(self.plain())


def plain(rules: Ruleset) -> Ruleset:
    """The same rules, without an index."""
    copy = Ruleset()
    for name, table in rules.tables.items():
        other = copy.table(name)
        for chain in table.chains.values():
            other.chains[chain.name] = Plain(name, chain.name, chain.policy)
            for rule in chain.rules:
                other.append(rule)
    return copy


ADDRS = [f"10.0.0.{n}" for n in range(4)]
EXACT = {
    "-d": st.sampled_from(ADDRS),
    "-s": st.sampled_from(ADDRS),
    "-i": st.sampled_from(["eth0", "eth1", "eth+", "cali1"]),
    "-o": st.sampled_from(["eth0", "eth1", "eth+"]),
    "-p tcp --dport": st.sampled_from(["80", "81", "80:90"]),
    "-p udp --dport": st.sampled_from(["80", "81"]),
}
OTHER = st.sampled_from([
    "", "", "-m mark --mark 0x1/0x1", "-m mark ! --mark 0x2/0x2", "! -s 10.0.0.1", "! -d 10.0.0.2", "-d 10.0.0.0/30",
    "-m conntrack --ctstate NEW", "-m addrtype --dst-type LOCAL", "-m statistic --mode nth --every 2 --packet 0",
    "-m recent --set", "-m recent --rcheck", "-m string --string x --algo bm", "-p icmp", "-m ttl --ttl-gt 3",
    "-m statistic --mode random --probability 0.5",
])  # fmt: skip
TARGETS = st.sampled_from([
    "", "", "-j MARK --set-xmark 0x1/0x1", "-j MARK --set-xmark 0x2/0x2", "-j RETURN", "-j ACCEPT", "-j DROP", "-j U0",
    "-g U0", "-j U1", "-g U1", "-j LOG", "-j NFQUEUE --queue-num 1",
])  # fmt: skip


@st.composite
def chains(draw: st.DrawFn, name: str, barred: tuple[str, ...]) -> list[str]:
    """Rules that come in runs, as Kubernetes writes them, with odd ones between."""
    lines = []
    for _ in range(draw(st.integers(0, 3))):
        field = draw(st.sampled_from(sorted(EXACT)))
        for _ in range(draw(st.integers(1, 2 * RUN))):
            target = draw(TARGETS)
            if not target.endswith(barred):
                lines.append(f"-A {name} {field} {draw(EXACT[field])} {draw(OTHER)} {target}")
        lines.append(f"-A {name} {draw(OTHER)}")
    return [line for line in lines if line.count("-p ") < 2 and line.count("-d ") < 2 and line.count("-s ") < 2]


@st.composite
def rulesets(draw: st.DrawFn) -> list[str]:
    return [
        *draw(chains("FORWARD", ())), *draw(chains("U0", ("U0",))), *draw(chains("U1", ("U0", "U1"))),
        "-A U0 -s 9.9.9.9", "-A U1 -s 9.9.9.9",
    ]  # fmt: skip


PACKETS = st.fixed_dictionaries({
    "src": st.sampled_from(ADDRS), "dst": st.sampled_from(ADDRS), "dport": st.sampled_from([80, 81, 85]),
    "iif": st.sampled_from(["eth0", "eth1", "cali1"]), "oif": st.sampled_from(["eth0", "eth1", "lo"]),
    "kind": st.sampled_from(["tcp", "udp", "icmp", "later", "attack"]), "mark": st.integers(0, 3),
})  # fmt: skip
KINDS = {
    "tcp": {}, "udp": {"proto": 17}, "icmp": {"l4": Icmp(8)}, "later": {"offset": 1480, "payload": 8},
    "attack": {"offset": 8, "payload": 8},
}  # fmt: skip


def told(verdict: Verdict, s: Seen) -> tuple[object, ...]:
    return verdict.kind, verdict.hit, verdict.chain, verdict.what, s.hits, s.mark


@given(rulesets(), st.lists(PACKETS, min_size=1, max_size=4))
@settings(max_examples=300)
def test_indexed_and_plain_evaluation_agree(lines: list[str], packets: list[dict[str, object]]) -> None:
    indexed = ruleset(*lines)
    other = plain(indexed)
    dice = Dice(True, False, False), Dice(True, False, False)
    for about in packets:
        kind = KINDS[str(about["kind"])]
        rest = {key: value for key, value in about.items() if key != "kind"} | kind
        answers = []
        for rules, die in zip((indexed, other), dice, strict=True):
            s = seen(state=rules.state, choose=die, **rest)  # type: ignore[arg-type]
            answers.append(told(walk(rules, s), s))
        assert answers[0] == answers[1]
    assert dice[0].asked == dice[1].asked


def services(count: int) -> Ruleset:
    lines = [f"-A KUBE-SERVICES -d 10.96.{n >> 8}.{n & 255} -p tcp --dport 80 -j S{n}" for n in range(count)]
    rest = ["-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j DROP", *(f"-A S{n} -p tcp" for n in range(count))]
    return ruleset("-A FORWARD -j KUBE-SERVICES", *lines, *rest)


def test_kube_services_asks_only_the_rules_of_the_address() -> None:
    rules = services(500)
    chain = rules.tables["filter"].chains["KUBE-SERVICES"]
    assert len(list(chain.steps(seen(dst="10.96.1.9")))) == 2
    assert len(list(chain.steps(seen(dst="8.8.8.8")))) == 1
    s = seen(dst="10.96.1.9")
    walk(rules, s)
    assert places(s) == ["FORWARD:1", "KUBE-SERVICES:266", "S265:1"]


@pytest.mark.parametrize(
    ("words", "indexed"),
    [
        ("-i cali{n} -g cali-fw-{n}", True),
        ("-p tcp -m tcp --dport 30{n:03}", True),
        ("-s 10.0.0.{n}/32 ! -d 10.0.0.1/32", True),
        ("-s 10.0.{n}.0/24", False),
        ("-i cali{n}+", False),
        ("! -d 10.0.0.{n}/32", False),
        ("-p tcp --dport {n}:100", False),
    ],
)
def test_what_makes_an_index(words: str, indexed: bool) -> None:
    chain = Chain("filter", "X")
    for n in range(RUN):
        chain.append(parse_rule(f"-A X {words.format(n=n)}".replace("-g", "-m comment --comment")))
    list(chain.steps(seen()))
    assert chain._parts is not None
    assert any(isinstance(part, Run) for part in chain._parts) is indexed


def test_a_few_rules_are_asked_one_by_one() -> None:
    assert len(list(services(RUN - 1).tables["filter"].chains["KUBE-SERVICES"].steps(seen()))) == RUN


def test_a_rule_appended_later_is_found() -> None:
    rules = services(20)
    chain = rules.tables["filter"].chains["KUBE-SERVICES"]
    before = len(list(chain.steps(seen(dst="10.96.0.3"))))
    chain.append(parse_rule("-A KUBE-SERVICES -j DROP"))
    assert len(list(chain.steps(seen(dst="10.96.0.3")))) == before + 1
