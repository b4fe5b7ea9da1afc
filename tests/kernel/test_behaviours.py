"""Every behaviour the datapath claims, in a network of two or three rooms, against this machine's own kernel.

The networks are in labs_link, labs_route and labs_ip. What is known to differ is named, with the reason, in known.yaml.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import pytest

from packetwalk.kernel.realise import missing_features
from tests.kernel import labs_ip, labs_link, labs_route
from tests.kernel.lab import disagreements, known

LABS = {**labs_link.LABS, **labs_route.LABS, **labs_ip.LABS}
KNOWN: dict[str, dict[str, Any]] = known()["behaviours"]
Answers = dict[str, "Future[tuple[str, dict[int, str]]]"]


def examine(name: str) -> tuple[str, dict[int, str]]:
    """What this machine lacks for a lab, and where its kernel disagrees. Runs in a process of the pool."""
    lab, probes = LABS[name]()
    missing = missing_features(lab.network)
    return ("", disagreements(lab.network, probes)) if not missing else (", ".join(missing), {})


@pytest.fixture(scope="module")
def answers(pool: ProcessPoolExecutor, request: pytest.FixtureRequest) -> Iterator[Answers]:
    """All labs that are to be tested, on their way side by side."""
    here = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    yield {item.callspec.params["name"]: pool.submit(examine, item.callspec.params["name"]) for item in here}


@pytest.mark.parametrize("name", LABS)
def test_the_kernel_does_what_is_predicted(answers: Answers, name: str) -> None:
    missing, wrong = answers[name].result()
    if missing:
        pytest.skip(f"this kernel has no {missing}")
    listed = KNOWN.get(name, {"probes": []})
    surprises = {n: text for n, text in wrong.items() if n not in listed["probes"]}
    assert not surprises, "\n".join(surprises.values())
    assert set(wrong) == set(listed["probes"]), f"agrees now, take it out of known.yaml: {listed}"


def test_the_list_of_known_differences_names_labs_and_reasons() -> None:
    assert set(KNOWN) <= set(LABS)
    assert all(entry["probes"] and entry["reason"].strip() for entry in KNOWN.values())
