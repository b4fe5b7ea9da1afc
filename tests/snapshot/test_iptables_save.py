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
    ],
)
def test_bad_input_is_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(SnapshotError) as error:
        read_iptables(text, "f")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
