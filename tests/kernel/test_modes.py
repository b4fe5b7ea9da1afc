"""The clusters packetwalk builds, in a kernel: every CNI mode that this machine can build, on one rack and on two."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from packetwalk.cni import modes
from packetwalk.engine.walk import address_of
from packetwalk.kernel.realise import missing_features
from packetwalk.source import from_mode
from tests.kernel.lab import disagreements, probe

CASES = [(mode, racks) for mode in modes() for racks in (1, 2)]


def examine(mode: str, racks: int) -> tuple[str, dict[int, str]]:
    """What this machine lacks for the default cluster under a mode, and where its kernel disagrees."""
    network = from_mode(mode, racks=racks)
    if missing := missing_features(network):
        return ", ".join(missing), {}
    b = address_of(network, "b")
    how: list[dict[str, Any]] = [{}, {"size": 1472, "df": True}]
    return "", disagreements(network, [*(probe(f"icmp a {b}", **more) for more in how), probe(f"tcp a {b}:80")])


@pytest.mark.parametrize(
    "ask", [pytest.param(partial(examine, mode, racks), id=f"{mode}-{racks}") for mode, racks in CASES]
)
def test_a_cluster_does_in_a_kernel_what_it_does_here(answer: tuple[str, dict[int, str]], ask: object) -> None:
    missing, wrong = answer
    if missing:
        pytest.skip(f"this kernel has no {missing}")
    assert not wrong, "\n".join(wrong.values())
