"""Random networks against this machine's kernel: a few seeds each time, and every difference that was ever found.

`make fuzz-kernel SEEDS=200` tries many more. The plans in found/ are random networks shrunk to what once differed.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.kernel.fuzz import Outcome, try_plan, try_seed
from tests.kernel.generate import generate
from tests.kernel.lab import known
from tests.kernel.plan import Plan, load
from tests.kernel.shrink import shrink

SEEDS = range(1000, 1016)
FOUND = {path.stem: path for path in sorted((Path(__file__).parent / "found").glob("*.json"))}
KNOWN = known()
Answers = dict[object, "Future[Outcome]"]


@pytest.fixture(scope="module")
def answers(pool: ProcessPoolExecutor) -> Iterator[Answers]:
    """All plans, on their way side by side."""
    seeds: Answers = {seed: pool.submit(try_seed, seed) for seed in SEEDS}
    yield {**seeds, **{name: pool.submit(try_plan, load(path)) for name, path in FOUND.items()}}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_network(answers: Answers, seed: int) -> None:
    outcome = answers[seed].result()
    listed = KNOWN["seeds"].get(seed, {"probes": []})["probes"]
    assert not outcome.refused, outcome.refused
    surprises = [text for probe, text in outcome.differences.items() if probe not in listed]
    assert not surprises, "\n".join(surprises)
    assert set(outcome.differences) == set(listed), "agrees now: take it out of known.yaml"


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once(answers: Answers, name: str) -> None:
    outcome = answers[name].result()
    assert not outcome.refused, outcome.refused
    if name in KNOWN["found"]:
        assert outcome.differences, "agrees now: take it out of known.yaml"
    else:
        assert not outcome.differences, "\n".join(outcome.differences.values())


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
