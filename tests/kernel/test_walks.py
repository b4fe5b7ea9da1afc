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
from packetwalk.kube.kubeproxy import MODES as PROXIES
from packetwalk.prove import examine
from tests.walks import KINDS, Kind, network

TIMEOUT = 0.2  # seconds a client waits for what will not come


def ask(mode: str, proxy: str = PROXIES[0]) -> tuple[str, dict[str, str]]:
    """What this machine lacks for a mode, and what its kernel says of each kind of traffic where that differs.

    With kube-proxy in another mode than the first, only what it has a part in.
    """
    differ: dict[str, str] = {}
    asked = [kind for kind in KINDS if kind.proxied or proxy == PROXIES[0]]
    for _, group in groupby(sorted(asked, key=variant), key=variant):
        kinds = list(group)
        where = network(kinds[0], mode, proxy)
        if missing := missing_features(where):
            return ", ".join(missing), {}
        flows = [replace(between(where, k.src, k.dst), sport=41000 + n, ident=500 + n) for n, k in enumerate(kinds)]
        proofs = examine(where, [{"spec": spec_of(flow, TIMEOUT)} for flow in flows])
        differ |= {f"{k.src} > {k.dst}": str(p) for k, p in zip(kinds, proofs, strict=True) if not p.verdict.agrees}
    return "", differ


def variant(kind: Kind) -> tuple[bool, str]:
    """Kinds of one variant are walked in the same cluster."""
    return kind.plain, kind.balancer


QUICK = ("flannel-vxlan", "calico-vxlan")
"""The modes that are asked with kube-proxy in all of its modes each time; the others are among the long tests."""
CASES = [
    pytest.param(partial(ask, mode, proxy), id=f"{mode}-{proxy}",
                 marks=() if proxy == PROXIES[0] or mode in QUICK else pytest.mark.long)
    for mode in MODES for proxy in PROXIES
]  # fmt: skip


@pytest.mark.parametrize("ask", CASES)
def test_the_kernel_agrees_about_every_kind_of_traffic(answer: tuple[str, dict[str, str]], ask: object) -> None:
    missing, differ = answer
    if missing:
        pytest.skip(f"this kernel has no {missing}")
    assert not differ, "\n".join(f"{kind}: {proof}" for kind, proof in differ.items())
