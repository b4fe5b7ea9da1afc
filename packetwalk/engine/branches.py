"""Every way a packet may take where rules draw lots: one walk for each branch, with its probability."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

from packetwalk.engine.costs import DEFAULT_COSTS
from packetwalk.engine.fetch import fetch
from packetwalk.engine.walk import walk
from packetwalk.exchanges import Fetch
from packetwalk.netns.chooser import Scripted
from packetwalk.network import Network
from packetwalk.trace import Flow, Trace

MAX_BRANCHES = 256


class Branch(NamedTuple):
    """One outcome of all draws on the way, and the walk it leads to."""

    probability: float
    trace: Trace


def walk_branches(
    network: Network, flow: Flow, *, cold: bool = False, costs: Mapping[str, int] = DEFAULT_COSTS,
    limit: int = MAX_BRANCHES,
) -> list[Branch]:  # fmt: skip
    """Walk a flow once for every outcome of the statistic matches it meets; the probabilities add up to one.

    ValueError where there are more than `limit` of them.
    """
    branches: list[Branch] = []
    answers: tuple[bool, ...] | None = ()
    while answers is not None:
        if len(branches) == limit:
            raise ValueError(f"the flow has more than {limit} branches")
        chooser = Scripted(answers)
        trace = walk(network, flow, cold=cold, costs=costs, chooser=chooser)
        chance = prod(p if yes else 1 - p for yes, p in chooser.said)
        if chance > 0 or not branches:
            branches.append(Branch(chance, trace))
        answers = _next([yes for yes, _ in chooser.said])
    return branches


def fetch_branches(
    network: Network, src: str, url: str, *, limit: int = MAX_BRANCHES, **options: Any
) -> Iterator[Fetch]:
    """Follow a URL once for every outcome of the draws on its way, as they are asked for; at most `limit` times."""
    answers: tuple[bool, ...] | None = ()
    for _ in range(limit):
        if answers is None:
            return
        chooser = Scripted(answers)
        yield fetch(network, src, url, chooser=chooser, **options)
        answers = _next([yes for yes, _ in chooser.said])


def _next(said: list[bool]) -> tuple[bool, ...] | None:
    """The answers of the next branch: the last yes becomes a no. None when every yes has been a no."""
    while said and not said[-1]:
        said.pop()
    return (*said[:-1], False) if said else None
