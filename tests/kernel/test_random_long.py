"""The long part against this machine's kernel: many more random networks, without and with iptables rules.

A difference is shrunk and explained by `python -m tests.kernel.fuzz --first SEED --seeds 1 [--rules]`.
"""

from __future__ import annotations

from functools import partial

import pytest

from tests.kernel.fuzz import Outcome, try_seed

pytestmark = pytest.mark.long

SEEDS = [
    pytest.param(partial(try_seed, seed, rules=rules), id=f"{seed}{' with rules' if rules else ''}")
    for rules in (False, True)
    for seed in range(5000, 5060)
]


@pytest.mark.parametrize("ask", SEEDS)
def test_a_random_network(answer: Outcome, ask: object) -> None:
    assert not answer.refused, answer.refused
    assert answer.probes and not answer.differences, "\n".join(answer.differences.values())
