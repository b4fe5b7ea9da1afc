"""What a stage costs: nanoseconds of CPU per step, a table of the driver and not a property of the datapath.

The defaults are apportioned from measurements on one core of a shared virtual machine, Linux 6.18: one
more forwarding namespace behind a veth costs 880 ns a packet, 1,560 ns with connection tracking, and a
VXLAN path of about 12 stages 14,700 ns (netperf-like UDP over 1 to 8 veth links). They give the right
order of magnitude, not a promise for your machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

DEFAULT_COSTS: Mapping[str, int] = MappingProxyType(
    {
        # a router hop: receive + route_in + forward + neigh + transmit = 880 ns
        "receive": 250,
        "route_in": 180,
        "forward": 60,
        "neigh": 70,
        "transmit": 320,
        # what a hop adds
        "conntrack": 680,
        "bridge": 150,
        "flood": 150,
        "learn": 40,
        "arp": 200,
        "route_out": 220,
        "fdb": 60,
        "encap": 900,
        "decap": 700,
        "defrag": 300,
        "fragment": 250,
        "icmp_error": 400,
        "deliver": 500,
        # a program is woken, reads and writes: measured round trip over one veth 53 us, less the two hops
        "app": 20_000,
    }
)
"""ns per step of that stage. Stages that are not named cost nothing of their own."""


def load_costs(path: str | Path) -> dict[str, int]:
    """The default costs with those of a JSON file ({"stage": nanoseconds}) laid over them.

    ValueError, in one line, for a stage nobody has or a cost that is not a number of nanoseconds.
    """
    given = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(given, dict):
        raise ValueError(f"{path}: an object {{stage: nanoseconds}} was expected")
    for stage, cost in given.items():
        if stage not in DEFAULT_COSTS:
            raise ValueError(f"{path}: no stage is called {stage!r}; there are {', '.join(DEFAULT_COSTS)}")
        if not isinstance(cost, int) or isinstance(cost, bool) or cost < 0:
            raise ValueError(f"{path}: {stage}: a whole number of nanoseconds was expected, not {cost!r}")
    return {**DEFAULT_COSTS, **given}
