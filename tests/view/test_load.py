"""A load as text."""

import pytest

import packetwalk as pw
from packetwalk.view.load import bits, duration
from tests.engine.test_sim import FREE, line

DOWN = "at 500ms link a down"


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0 ns"), (999, "999 ns"), (1000, "1.00 us"), (9994, "9.99 us"), (9996, "10.0 us"), (99_960, "100 us"),
     (1_234_567, "1.23 ms"), (120_000_000, "120 ms"), (61_000_000_000, "61.0 s")],
)  # fmt: skip
def test_three_digits_and_a_unit(ns: int, text: str) -> None:
    assert duration(ns) == text


def test_rates() -> None:
    assert [bits(n) for n in (7, 1500, 11_240_000, 10**10)] == ["7 bit/s", "1.50 kbit/s", "11.2 Mbit/s", "10.0 Gbit/s"]


def test_a_load_says_who_got_what_and_where_packets_died() -> None:
    sources = pw.constant("a", "b", rate=100, size=1208), pw.constant("b", "a", rate=10)
    load = pw.simulate(line(rate=10**6, delay=1_000_000, queue=2), *sources, until="1s", costs=FREE, faults=[DOWN])
    assert (
        str(load)
        == """\
2 flows for 1.00 s, seed 0  pair
  at 500 ms link a down

flows (one way, from program to program)
flow   sent  delivered        lost      goodput      p50      p90      p99      max
-----------------------------------------------------------------------------------
a > b   100         49  51 (51.0%)   474 kbit/s  11.0 ms  11.0 ms  11.0 ms  11.0 ms
b > a    10          5   5 (50.0%)  56.0 kbit/s  12.5 ms  12.5 ms  12.5 ms  12.5 ms

wires, and how long frames took to the room behind (slowest first)
wire        frames      carried  use  drops      p50      p99      max
----------------------------------------------------------------------
a/eth0 > b      50   500 kbit/s  50%     50  11.0 ms  11.0 ms  11.0 ms
b/eth0 > a       5  57.7 kbit/s   6%      0  12.5 ms  12.5 ms  12.5 ms

drops
packets  reason          room  dev   flow   by
---------------------------------------------------------------
     50  QDISC_DROP      a     eth0  a > b  eth0 has no carrier
      5  IP_OUTNOROUTES  b           b > a
      1  DEV_READY       b     eth0  a > b  eth0 is down"""
    )
