"""Commands of iptables on a namespace's tables, and the same ones given to a real iptables."""

import shutil

import pytest

from packetwalk.edit import apply, whatif
from packetwalk.iptables import iptables
from packetwalk.netns.namespace import Netns
from packetwalk.netns.netfilter import Ruleset
from packetwalk.network import Network
from packetwalk.source import SAMPLE, from_snapshot
from tests.netns.rooms import real

BASE = (
    "-N mine",
    "-A FORWARD -s 10.0.0.1 -j mine",
    "-A FORWARD -p tcp --dport 80 -j ACCEPT",
    "-A mine -i eth0 -j RETURN",
)
SCRIPTS: dict[str, tuple[str, ...]] = {
    "append and insert": (*BASE, "-I FORWARD -d 10.0.0.2 -j DROP", "-I FORWARD 3 -p udp -j DROP",
                          "-I FORWARD 5 -j mine"),
    "delete by number and by rule": (*BASE, "-D FORWARD 1", "-D FORWARD -p tcp -m tcp --dport 80 -j ACCEPT"),
    "replace": (*BASE, "-R FORWARD 2 -p udp --dport 53 -j DROP"),
    "policies": (*BASE, "-P FORWARD DROP", "-A FORWARD -j ACCEPT", "-P INPUT DROP", "-P INPUT ACCEPT"),
    "flush a chain and remove it": (*BASE, "-F mine", "-D FORWARD 1", "-X mine"),
    "flush all": (*BASE, "-F"),
    "another table, long names": ("--table nat --append POSTROUTING --source 10.0.0.0/8 --jump MASQUERADE",
                                  "-A POSTROUTING -t nat -o eth1 -j SNAT --to-source 10.1.0.1"),
    "words in quotes": ('-A INPUT -m comment --comment "from far away" -j ACCEPT',),
}  # fmt: skip


def listed(ruleset: Ruleset) -> list[str]:
    """The chains and rules as iptables-save has them, without counters."""
    return [
        line
        for table in ruleset.tables.values()
        for line in (
            *(f":{c.name} {c.policy or '-'}" for c in table.chains.values()),
            *(str(rule) for c in table.chains.values() for rule in c.rules),
        )
    ]


def by_chain(lines: list[str]) -> dict[str, list[str]]:
    """Lines under the chain they are about, in their order."""
    found: dict[str, list[str]] = {}
    for line in sorted(lines, key=lambda line: line.startswith("-")):
        found.setdefault(line.removeprefix("-A ").removeprefix(":").split()[0], []).append(line)
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_iptables_does_the_same(name: str) -> None:
    if not shutil.which("iptables"):
        pytest.skip("iptables is needed")
    ruleset = Ruleset()
    for line in SCRIPTS[name]:
        ruleset = iptables(ruleset, line)
    script = "\n".join([*(f"iptables -w {line} >&2" for line in SCRIPTS[name]), "iptables-save"])
    theirs = [line.partition(" [")[0] for line in real(script).splitlines() if line.startswith((":", "-A"))]
    assert theirs and by_chain(listed(ruleset)) == by_chain(theirs)


REFUSED = [
    ("", "it ends where a command was expected"),
    ("-Z", "there is no command '-Z'; did you mean"),
    ("-A", "it ends where a chain was expected"),
    ("-A FORWRD -j DROP", "table filter: there is no chain 'FORWRD'; did you mean 'FORWARD'?"),
    ("-A FORWARD -j DORP", "there is no chain or target 'DORP'; did you mean 'DROP'?"),
    ("-A FORWARD -s 10.0.0.300", "'10.0.0.300' is not an IPv4 address"),
    ("-A mine -j mine", "a loop of chains: mine leads back to mine"),
    ("-t nta -A X", "there is no table 'nta'; did you mean 'nat'?"),
    ("-t", "it ends where a table was expected"),
    ("-I FORWARD 4 -j DROP", "a rule number from 1 to 3 was expected, not 4: FORWARD has 2"),
    ("-D FORWARD 3", "a rule number from 1 to 2 was expected, not 3"),
    ("-D FORWARD -s 10.0.0.9 -j mine", "FORWARD has no rule '-s 10.0.0.9/32 -j mine'"),
    ("-R FORWARD -j DROP", "the number of a rule of FORWARD was expected"),
    ("-P FORWARD DENY", "ACCEPT or DROP was expected, not 'DENY'"),
    ("-P mine DROP", "mine is no built-in chain of table filter"),
    ("-N mine", "table filter has a chain 'mine' already"),
    ("-X mine", "chain mine is not empty"),
    ("-X FORWARD", "FORWARD is a built-in chain"),
]


@pytest.mark.parametrize(("line", "message"), REFUSED, ids=[line for line, _ in REFUSED])
def test_what_is_refused_changes_nothing(line: str, message: str) -> None:
    ruleset = Ruleset()
    for before in BASE:
        ruleset = iptables(ruleset, before)
    shown = listed(ruleset)
    with pytest.raises(ValueError) as error:
        iptables(ruleset, line)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert listed(ruleset) == shown


def test_a_chain_in_use_stays() -> None:
    ruleset = Ruleset()
    for line in (*BASE, "-F mine"):
        ruleset = iptables(ruleset, line)
    with pytest.raises(ValueError, match="chain mine is in use by FORWARD"):
        iptables(ruleset, "-X mine")


def test_a_line_of_set_changes_one_room_and_leaves_others_and_the_original() -> None:
    network = from_snapshot(SAMPLE)
    line = 'node-1 iptables -I FORWARD -s 10.244.1.2 -m comment --comment "not you" -j DROP'
    changed = whatif(network, line)
    first = changed["node-1"].netfilter.tables["filter"].chains["FORWARD"].rules[0]
    assert str(first) == '-A FORWARD -s 10.244.1.2/32 -m comment --comment "not you" -j DROP'
    assert listed(network["node-1"].netfilter) == listed(from_snapshot(SAMPLE)["node-1"].netfilter)
    assert listed(changed["node-2"].netfilter) == listed(network["node-2"].netfilter)


def test_a_rule_that_asks_for_tracking_switches_it_on() -> None:
    network, room = Network(), Netns("r")
    network.add(room)
    apply(network, "r iptables -A INPUT -s 10.0.0.1 -j DROP")
    assert not room.conntrack
    apply(network, "r iptables -A INPUT -m conntrack --ctstate INVALID -j DROP")
    assert room.conntrack
