"""The smallest plan that still shows a difference: probes first, then statements, in ever smaller pieces (ddmin)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tests.kernel.plan import Plan

T = TypeVar("T")


def shrink(plan: Plan, differs: Callable[[Plan], bool], budget: int = 120) -> Plan:
    """Take out of the plan whatever is not needed for `differs` to stay true. budget: how often it may be asked."""
    left = budget

    def holds(candidate: Plan) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and differs(candidate)

    probes = _least(plan.probes, lambda some: bool(some) and holds(plan._replace(probes=tuple(some))))
    plan = plan._replace(probes=tuple(probes))
    statements = _least(plan.statements, lambda some: holds(plan._replace(statements=tuple(some))))
    return plan._replace(statements=tuple(statements))


def _least(items: Sequence[T], holds: Callable[[Sequence[T]], bool]) -> Sequence[T]:
    """Zeller's delta debugging: a subset from which no single item can be taken any more, while the budget lasts."""
    pieces = 2
    while len(items) > 1:
        length = -(-len(items) // pieces)
        for start in range(0, len(items), length):
            rest = [*items[:start], *items[start + length :]]
            if rest and holds(rest):
                items, pieces = rest, max(pieces - 1, 2)
                break
        else:
            if length == 1:
                break
            pieces = min(pieces * 2, len(items))
    return items
