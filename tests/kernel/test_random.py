"""Random networks against this machine's kernel: a few seeds each time, and every difference that was ever found.

`make fuzz-kernel SEEDS=200` tries many more. The plans in found/ are random networks shrunk to what once differed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.kernel.fuzz import Outcome, try_plan, try_seed
from tests.kernel.generate import generate
from tests.kernel.lab import known
from tests.kernel.plan import Plan, load
from tests.kernel.shrink import shrink

SEEDS = range(1000, 1008)
MORE = range(5000, 5060)
FOUND = {path.stem: path for path in sorted((Path(__file__).parent / "found").glob("*.json"))}
KNOWN = known()


@pytest.mark.parametrize(("seed", "ask"), [pytest.param(seed, partial(try_seed, seed), id=str(seed)) for seed in SEEDS])
def test_a_random_network(answer: Outcome, seed: int, ask: object) -> None:
    listed = KNOWN["seeds"].get(seed, {"probes": []})["probes"]
    assert not answer.refused, answer.refused
    surprises = [text for probe, text in answer.differences.items() if probe not in listed]
    assert not surprises, "\n".join(surprises)
    assert set(answer.differences) == set(listed), "agrees now: take it out of known.yaml"


@pytest.mark.long
@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(partial(try_seed, seed, rules=rules), id=f"{seed}{' with rules' if rules else ''}")
        for rules in (False, True)
        for seed in MORE
    ],
)
def test_many_more_random_networks(answer: Outcome, ask: object) -> None:
    assert not answer.refused, answer.refused
    assert answer.probes and not answer.differences, "\n".join(answer.differences.values())


@pytest.mark.parametrize(
    ("name", "ask"), [pytest.param(name, partial(try_plan, load(path)), id=name) for name, path in FOUND.items()]
)
def test_what_was_found_once(answer: Outcome, name: str, ask: object) -> None:
    assert not answer.refused, answer.refused
    if name in KNOWN["found"]:
        assert answer.differences, "agrees now: take it out of known.yaml"
    else:
        assert not answer.differences, "\n".join(answer.differences.values())


def test_the_list_names_what_is_there() -> None:
    assert set(KNOWN["found"]) <= set(FOUND) and set(KNOWN["seeds"]) <= set(SEEDS)


# -- the generator and the shrinker, without a kernel --------------------------------------------------------------


def test_a_seed_gives_one_plan_and_seeds_differ() -> None:
    assert generate(7) == generate(7) != generate(8)


def test_a_plan_reads_back_as_it_was_written(tmp_path: Path) -> None:
    plan = generate(3)
    (tmp_path / "plan.json").write_text(plan.dump())
    again = load(tmp_path / "plan.json")
    assert again.dump() == plan.dump() and list(again.build().rooms) == list(plan.build().rooms)


def test_many_features_come_up() -> None:
    """A generator that stops making something would go unnoticed."""
    verbs = {statement[0] for seed in range(150) for statement in generate(seed).statements}
    assert verbs >= {
        "wire",
        "bridge",
        "port",
        "vxlan",
        "route",
        "rule",
        "neigh",
        "proxy",
        "fdb",
        "sysctl",
        "link",
        "addr",
    }
    kinds = {probe["spec"]["kind"] for seed in range(10) for probe in generate(seed).probes}
    assert kinds == {"icmp", "udp", "tcp"}


def test_shrinking_keeps_what_is_needed_and_nothing_else() -> None:
    plan = generate(5)
    needed = [plan.statements[3], plan.statements[-2]]

    def differs(candidate: Plan) -> bool:
        return all(statement in candidate.statements for statement in needed) and plan.probes[4] in candidate.probes

    least = shrink(plan, differs, budget=500)
    assert list(least.statements) == needed and least.probes == (plan.probes[4],)
