"""Every kind of traffic in every mode, asked of this machine's kernel: it agrees in every frame."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import groupby

import pytest

from packetwalk.cni import MODES
from packetwalk.engine.walk import between
from packetwalk.kernel.probe import spec_of
from packetwalk.kernel.realise import missing_features
from packetwalk.prove import examine
from tests.walks import KINDS, Kind, network

TIMEOUT = 0.2  # seconds a client waits for what will not come


def ask(mode: str) -> tuple[str, dict[str, str]]:
    """What this machine lacks for a mode, and what its kernel says of each kind of traffic where that differs."""
    differ: dict[str, str] = {}
    for _, group in groupby(sorted(KINDS, key=variant), key=variant):
        kinds = list(group)
        where = network(kinds[0], mode)
        if missing := missing_features(where):
            return ", ".join(missing), {}
        flows = [replace(between(where, k.src, k.dst), sport=41000 + n, ident=500 + n) for n, k in enumerate(kinds)]
        proofs = examine(where, [{"spec": spec_of(flow, TIMEOUT)} for flow in flows])
        differ |= {f"{k.src} > {k.dst}": str(p) for k, p in zip(kinds, proofs, strict=True) if not p.verdict.agrees}
    return "", differ


def variant(kind: Kind) -> tuple[bool, str]:
    """Kinds of one variant are walked in the same cluster."""
    return kind.plain, kind.balancer


@pytest.mark.parametrize("ask", [pytest.param(partial(ask, mode), id=mode) for mode in MODES])
def test_the_kernel_agrees_about_every_kind_of_traffic(answer: tuple[str, dict[str, str]], ask: object) -> None:
    missing, differ = answer
    if missing:
        pytest.skip(f"this kernel has no {missing}")
    assert not differ, "\n".join(f"{kind}: {proof}" for kind, proof in differ.items())
