"""A node's rules: what each CNI would have restored, made when somebody looks."""

import re
from copy import copy

import pytest

from packetwalk.cni import MODES, find
from packetwalk.kube.build import build
from packetwalk.kube.cluster import default_cluster
from packetwalk.kube.rules import Deferred
from packetwalk.netns.netfilter import Ruleset, Table


@pytest.mark.parametrize("mode", MODES)
def test_every_set_a_rule_asks_for_is_there(mode: str) -> None:
    ruleset = build(default_cluster(find(mode)))["node-1"].netfilter
    rules = [str(r) for table in ruleset.tables.values() for chain in table.chains.values() for r in chain.rules]
    assert {name for rule in rules for name in re.findall(r"--match-set (\S+)", rule)} <= set(ruleset.sets)


def test_calico_has_chains_for_its_pods_only() -> None:
    network = build(default_cluster(find("calico-ipip")))
    chains = network["node-1"].netfilter.tables["filter"].chains
    interfaces = {d.name for d in network["node-1"].devices.values() if d.name.startswith("cali")}
    assert {name.removeprefix("cali-tw-") for name in chains if name.startswith("cali-tw-")} == interfaces
    assert len(interfaces) == 2


def test_rules_are_made_once_and_only_when_asked_for() -> None:
    made: list[int] = []

    def make() -> Ruleset:
        made.append(1)
        ruleset = Ruleset()
        ruleset.table("filter")
        return ruleset

    deferred = Deferred(make)
    over = deferred.overlay()
    assert not made
    assert list(over.tables) == ["filter"] and over.tables is deferred.tables
    over.state["recent"] = 1
    assert deferred.state == {} and made == [1]
    with pytest.raises(AttributeError, match="nothing"):
        _ = deferred.nothing


def test_what_is_set_before_the_rules_are_made_stays() -> None:
    changed = copy(Deferred(Ruleset))
    changed.tables = {"filter": Table("filter")}
    assert changed.sets == {} and list(changed.tables) == ["filter"]
