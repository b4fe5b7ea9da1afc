"""Reading what iptables-save wrote, and writing the same text again."""

import re
from pathlib import Path

import pytest

from packetwalk.netns.netfilter import Ruleset
from packetwalk.snapshot.iptables_save import read_iptables
from packetwalk.snapshot.reader import SnapshotError

SHARED = Path(__file__).resolve().parents[3] / "shared"
DUMPS = sorted(
    [
        *SHARED.glob("recordings/*/state/*/*/iptables-save.txt"),
        *SHARED.glob("data/*/*dump.txt"),
        *SHARED.glob("data/*/*.save"),
    ]
)


def printed(ruleset: Ruleset) -> list[str]:
    return [str(rule) for t in ruleset.tables.values() for chain in t.chains.values() for rule in chain.rules]


@pytest.mark.skipif(not DUMPS, reason="../shared is not here")
def test_every_dump_prints_as_it_was_read() -> None:
    for dump in DUMPS:
        text = dump.read_text(encoding="utf-8")
        lines = [re.sub(r"^\[\d+:\d+\] ", "", line) for line in text.splitlines() if line.startswith(("-A", "["))]
        assert sorted(printed(read_iptables(text, str(dump)))) == sorted(lines), dump


@pytest.mark.skipif(not DUMPS, reason="../shared is not here")
def test_what_kube_proxy_writes_prints_as_the_kernel_kept_it() -> None:
    """overall-iptables-plain.save is what iptables-save printed after that .restore; it names REJECT's default."""
    given = SHARED / "data/kube-proxy/overall-iptables-plain.restore"
    kept = SHARED / "data/kube-proxy/overall-iptables-plain.save"
    rules = printed(read_iptables(given.read_text(encoding="utf-8"), str(given)))
    named = [re.sub("-j REJECT$", "-j REJECT --reject-with icmp-port-unreachable", rule) for rule in rules]
    lines = [line for line in kept.read_text(encoding="utf-8").splitlines() if line.startswith("-A")]
    assert sorted(named) == sorted(lines)


def test_tables_may_come_in_several_parts() -> None:
    ruleset = read_iptables("*nat\nCOMMIT\n*filter\n-A INPUT -j DROP\nCOMMIT\n*filter\n-A INPUT -j ACCEPT\nCOMMIT\n")
    assert printed(ruleset) == ["-A INPUT -j DROP", "-A INPUT -j ACCEPT"]


def test_counters_are_left_out() -> None:
    assert printed(read_iptables("*filter\n[12:345] -A INPUT -j DROP\n-A INPUT -c 1 2 -j DROP\nCOMMIT\n")) == [
        "-A INPUT -j DROP", "-A INPUT -j DROP",
    ]  # fmt: skip


def test_a_rule_knows_its_line() -> None:
    ruleset = read_iptables("*filter\n:INPUT DROP [0:0]\n\n-A INPUT -j ACCEPT\nCOMMIT\n", "/x/iptables-save.txt")
    (rule,) = ruleset.tables["filter"].chains["INPUT"].rules
    assert rule.where == "iptables-save.txt:4"
    assert ruleset.tables["filter"].chains["INPUT"].policy == "DROP"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("*fliter\nCOMMIT\n", "f:1: there is no table 'fliter'"),
        ('*filter\n-A INPUT -m comment --comment "a\nCOMMIT\n', 'f:2: a closing `"` was expected'),
        ("*filter\n-A INPUT -j ACCEPT\n", "f: table filter has no COMMIT"),
        ("*filter\n-A KUBE-X -j ACCEPT\nCOMMIT\n", "f:2: table filter has no chain 'KUBE-X'"),
        ("*filter\n:U - [0:0]\n-A INPUT -j U\n-A INPUT -j V\nCOMMIT\n", "f:4: there is no chain or target 'V' in"),
        ("*filter\n-A INPUT -g DROP\nCOMMIT\n", "f:2: there is no chain or target 'DROP' in table filter"),
        ("*filter\n:A - [0:0]\n-A INPUT -j A\n-A A -p tcp -j A\nCOMMIT\n", "f:4: a loop of chains: INPUT > A > A"),
        ("*filter\n:A - [0:0]\n:B -\n-A A -j B\n-A B -g A\nCOMMIT\n", "f:5: a loop of chains: A > B > A"),
        ("*filter\n*nat\nCOMMIT\n", "f:2: COMMIT of table filter was expected before `*nat`"),
        ("-A INPUT -j ACCEPT\n", "f:1: a table (`*filter`) was expected before '-A INPUT -j ACCEPT'"),
        ("*filter\n:INPUT - [0:0]\nCOMMIT\n", "f:2: a policy (ACCEPT or DROP) of INPUT was expected, not '-'"),
        ("*filter\nwhat is this\nCOMMIT\n", "f:2: `-A CHAIN ...` was expected, not 'what is this'"),
        ("*filter\n-A INPUT -p tcp --dprot 5\nCOMMIT\n", "f:2: --dprot: no match or target named before it"),
    ],
)
def test_bad_input_is_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(SnapshotError) as error:
        read_iptables(text, "f")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
