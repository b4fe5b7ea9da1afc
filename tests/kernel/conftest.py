"""What the tests against this machine's own kernel share: whether there is one to ask, and a pool that asks it."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

ROOT = str(Path(__file__).resolve().parent.parent.parent)

if ROOT not in sys.path:  # lets tests say `from tests.kernel.lab import ...` in importlib mode
    sys.path.append(ROOT)

WORKERS = 14  # they wait for answers that will not come most of the time


@pytest.fixture(scope="session")
def kernel() -> None:
    """Skips a test where no real kernel can be asked."""
    from tests.kernel.lab import why_not  # the path above must be there first

    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def pool(kernel: None) -> Iterator[ProcessPoolExecutor]:
    """Processes that ask the kernel side by side."""
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("fork")) as executor:
        yield executor


@pytest.fixture(scope="session")
def asked(pool: ProcessPoolExecutor, request: pytest.FixtureRequest) -> dict[str, Future[Any]]:
    """What all tests with a parameter `ask` want to know, on its way side by side."""
    calls = {item.nodeid: getattr(item, "callspec", None) for item in request.session.items}
    return {test: pool.submit(c.params["ask"]) for test, c in calls.items() if c is not None and "ask" in c.params}


@pytest.fixture
def answer(asked: dict[str, Future[Any]], request: pytest.FixtureRequest) -> Any:
    """What `ask` of this test returned, in a process of the pool."""
    return asked[request.node.nodeid].result()
