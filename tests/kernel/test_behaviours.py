"""Every behaviour the datapath claims, in a network of two or three rooms, against this machine's own kernel.

The networks are in labs_link, labs_route, labs_ip and labs_filter. What is known to differ is named,
with the reason, in known.yaml.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from packetwalk.kernel.realise import missing_features
from tests.kernel import labs_filter, labs_ip, labs_link, labs_route
from tests.kernel.lab import disagreements, known

LABS = {**labs_link.LABS, **labs_route.LABS, **labs_ip.LABS, **labs_filter.LABS}
KNOWN: dict[str, dict[str, Any]] = known()["behaviours"]


def examine(name: str) -> tuple[str, dict[int, str]]:
    """What this machine lacks for a lab, and where its kernel disagrees. Runs in a process of the pool."""
    lab, probes = LABS[name]()
    missing = missing_features(lab.network)
    return ("", disagreements(lab.network, probes)) if not missing else (", ".join(missing), {})


@pytest.mark.parametrize(("name", "ask"), [pytest.param(name, partial(examine, name), id=name) for name in LABS])
def test_the_kernel_does_what_is_predicted(answer: tuple[str, dict[int, str]], name: str, ask: object) -> None:
    missing, wrong = answer
    if missing:
        pytest.skip(f"this kernel has no {missing}")
    listed = KNOWN.get(name, {"probes": []})
    surprises = {n: text for n, text in wrong.items() if n not in listed["probes"]}
    assert not surprises, "\n".join(surprises.values())
    assert set(wrong) == set(listed["probes"]), f"agrees now, take it out of known.yaml: {listed}"


def test_the_list_of_known_differences_names_labs_and_reasons() -> None:
    assert set(KNOWN) <= set(LABS)
    assert all(entry["probes"] and entry["reason"].strip() for entry in KNOWN.values())
