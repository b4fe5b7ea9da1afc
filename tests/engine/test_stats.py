"""Counting: percentiles without keeping what is counted."""

from math import ceil
from random import Random

import pytest

from packetwalk.engine.stats import Histogram


def histogram(values: list[int]) -> Histogram:
    found = Histogram()
    for value in values:
        found.add(value)
    return found


@pytest.mark.parametrize("percent", [1, 50, 90, 99, 99.9])
def test_percentiles_are_exact_to_half_a_percent(percent: float) -> None:
    rng = Random(3)
    values = sorted(round(rng.lognormvariate(12, 2)) for _ in range(5000))
    exact = values[ceil(len(values) * percent / 100) - 1]
    assert histogram(values).percentile(percent) == pytest.approx(exact, rel=0.005)


def test_small_numbers_and_ends_are_exact() -> None:
    found = histogram([0, 1, 5, 200, 1_000_003])
    assert [found.percentile(p) for p in (20, 40, 60, 80, 100)] == [0, 1, 5, 200, 1_000_003]
    assert (found.min, found.max, found.mean, found.count) == (0, 1_000_003, 200_042, 5)
    assert histogram([777_777] * 3).percentile(50) == 777_777


def test_an_empty_one_is_zero() -> None:
    found = Histogram()
    assert (found.percentile(50), found.mean, found.max, found.shares()) == (0, 0, 0, [])


def test_merged_is_as_counted_together() -> None:
    a, b, both = histogram([3, 900]), histogram([1, 70_000]), histogram([3, 900, 1, 70_000])
    a.merge(b)
    a.merge(Histogram())
    assert (a.shares(), a.min, a.max, a.mean) == (both.shares(), both.min, both.max, both.mean)


def test_shares_rise_to_one() -> None:
    shares = histogram(list(range(0, 100_000, 37))).shares()
    assert shares == sorted(shares) and shares[-1] == (99_974, 1.0)
