"""Sources: when packets leave and how large they are, and what is wrong with a description."""

from itertools import islice, pairwise
from pathlib import Path
from random import Random

import pytest

from packetwalk.engine.sources import Source, constant, nanoseconds, on_off, poisson, recorded, transfer

MS = 1_000_000


def times(source: Source, count: int, seed: str = "1") -> list[int]:
    """When the first packets leave, in ns."""
    assert source.pattern is not None
    at, found = 0, []
    for gap, _ in islice(source.pattern.departures(Random(seed)), count):
        at += gap
        found.append(at)
    return found


def test_a_constant_rate_does_not_drift() -> None:
    """A third of a second is no whole number of ns; the error does not add up."""
    assert times(constant("a", "b", rate=3), 7)[::3] == [0, 1_000_000_000, 2_000_000_000]


def test_poisson_gaps_are_exponential() -> None:
    """Mean and standard deviation of the gaps are 1/rate; the same seed draws the same."""
    source = poisson("a", "b", rate=1000)
    found = times(source, 20_000)
    gaps = [b - a for a, b in pairwise(found)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(MS, rel=0.02) and deviation == pytest.approx(MS, rel=0.03)
    assert times(source, 50) == found[:50] != times(source, 50, seed="2")


def test_bursts_are_as_long_as_they_should_be() -> None:
    """3 ms at 1000/s hold three packets; the next burst begins 10 ms after the first."""
    source = on_off("a", "b", rate=1000, on="3ms", off="7ms")
    assert times(source, 7) == [n * MS for n in (0, 1, 2, 10, 11, 12, 20)]
    assert times(on_off("a", "b", rate=1000, on="500us", off=0), 3) == [0, MS // 2, MS]


def test_a_file_says_when_and_how_much(tmp_path: Path) -> None:
    file = tmp_path / "times.csv"
    file.write_text("time,size\n0.001,100\n0.0010005,9000\n\n2,0\n")
    source = recorded("a", "b", file, start="5ms")
    assert times(source, 9) == [1_000_000, 1_000_500, 2_000_000_000]
    assert source.pattern is not None
    assert [size for _, size in source.pattern.departures(Random())] == [100, 9000, 0]
    assert source.start == 5 * MS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,size\n0.1\n", "t.csv:2: seconds and bytes were expected, as in 0.0015,1400, not '0.1'"),
        ("0.1,ten\n", "t.csv:1: seconds and bytes were expected"),
        ("nan,1\n", "t.csv:1: seconds and bytes were expected"),
        ("0.2,1\n0.1,1\n", "t.csv:2: 0.1 s lies before the packet above it"),
        ("0.2,65508\n", "t.csv:1: 0 to 65507 bytes of payload were expected, not 65508"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        recorded("a", "b", tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: constant("a", "b", rate=0), "rate: packets a second were expected, more than 0"),
        (lambda: poisson("a", "b", rate=10, size=65508), "size: 0 to 65507 bytes"),
        (lambda: on_off("a", "b", rate=10, on=0, off=1), "on: a burst longer than nothing"),
        (lambda: on_off("a", "b", rate=10, on="1m", off=1), "a number with one of ns, us, ms, s behind it"),
        (lambda: transfer("a", "b", total=-1), "total: a number of bytes"),
        (lambda: transfer("a", "b", icmp=True), "echo requests have no port"),
        (lambda: constant("a", "b:http", rate=1), "b:http: a port from 1 to 65535"),
        (lambda: constant("a", "b", rate=1, conns=0), "conns: a number from 1 to 10000"),
    ],
)
def test_what_is_wrong_with_a_source(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()  # type: ignore[operator]


def test_a_source_in_words() -> None:
    assert str(poisson("a", "b", rate=2e4)) == "a > b poisson 20000/s of 1400 bytes"
    assert str(on_off("a", "b", rate=5, on="2ms", off="8ms")) == "a > b 2 ms at 5/s, 8 ms silence, 1400 bytes"
    assert str(transfer("a", "b:80", total=9)) == "a > b tcp transfer of 9 bytes"
    assert transfer("a", "b:80").port == 80 and constant("a", "b", rate=1, port=53).port == 53
    assert nanoseconds("1.5us") == 1500 and nanoseconds(7) == 7
