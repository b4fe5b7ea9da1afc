"""`walk`: deterministic, without traces in the network it walked, and always at an end."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from packetwalk.addr import IPv4, Mac
from packetwalk.engine.costs import DEFAULT_COSTS, load_costs
from packetwalk.engine.walk import walk
from packetwalk.netns.device import Nic
from packetwalk.netns.namespace import Netns
from packetwalk.network import Network
from packetwalk.trace import Flow, Reason


def chain(routers: int, *, rate: int = 0, delay: int = 0, queue: int = 1000) -> Network:
    """h0 - r1 - ... - rn - h1, each wire a /24 of its own."""
    net = Network("chain")
    names = ["h0", *(f"r{i}" for i in range(1, routers + 1)), "h1"]
    rooms = [net.add(Netns(name)) for name in names]
    for i, (left, right) in enumerate(pairwise(rooms)):
        for room, dev, host in ((left, "right", 1), (right, "left", 2)):
            room.link_add(dev, Nic(mac=Mac(0x020000000000 + i * 256 + host)))
            room.addr_add(dev, f"10.0.{i}.{host}/24")
        net.connect((left.name, "right"), (right.name, "left"), rate=rate, delay=delay, queue=queue)
    for i, room in enumerate(rooms):
        room.sysctl("net.ipv4.ip_forward", 1 if room.name.startswith("r") else 0)
        for n in range(len(rooms) - 1):
            if n > i:
                room.route_add(f"10.0.{n}.0/24", via=f"10.0.{i}.2")
            elif n < i - 1:
                room.route_add(f"10.0.{n}.0/24", via=f"10.0.{i - 1}.1")
    rooms[-1].listen(80)
    return net


def last(net: Network) -> IPv4:
    return net["h1"].devices["left"].addrs[0].local


@pytest.mark.parametrize("routers", [0, 1, 5, 20])
def test_ttl_falls_by_one_per_router(routers: int) -> None:
    net = chain(routers)
    trace = walk(net, Flow("icmp", "h0", last(net)))
    assert (trace.result.outcome, trace.result.ttl) == ("reply", 64 - routers)
    assert trace.totals.ttl == routers


@pytest.mark.parametrize("kind", ["icmp", "udp", "tcp"])
def test_two_runs_are_byte_identical(kind: str) -> None:
    net = chain(3)
    flow = Flow(kind, "h0", last(net), 80, size=3000)
    first, second = (json.dumps(walk(net, flow, cold=True).to_dict()) for _ in range(2))
    assert first == second
    assert walk(net, flow).delivered


def test_a_walk_leaves_the_network_as_it_was() -> None:
    net = chain(2)
    walk(net, Flow("icmp", "h0", last(net)))
    assert not any(room.neighbours.entries for room in net)


def test_warm_walks_show_no_arp_and_cold_ones_do() -> None:
    net = chain(1)
    warm, cold = (walk(net, Flow("icmp", "h0", last(net)), cold=c) for c in (False, True))
    assert not [s for _, s in warm.steps if s.stage in ("arp", "hold")]
    assert [s for _, s in cold.steps if s.stage == "hold"]
    assert cold.delivered


def test_a_routing_loop_ends_by_ttl() -> None:
    net = chain(2)
    net["r1"].route_add("10.9.0.0/16", via="10.0.1.2")
    net["r2"].route_add("10.9.0.0/16", via="10.0.1.1")
    net["h0"].route_add("10.9.0.0/16", via="10.0.0.2")
    trace = walk(net, Flow("icmp", "h0", IPv4("10.9.0.1")))
    assert (trace.result.outcome, trace.result.type) == ("icmp_error", 11)
    assert trace.drops[0][1].what.reason is Reason.IP_INHDR  # type: ignore[attr-defined]
    assert "round and round: r1 > r2" in str(trace)


def test_a_bound_says_when_it_bites() -> None:
    net = chain(3)
    assert "stopped after 4 events" in walk(net, Flow("icmp", "h0", last(net)), cold=True, max_events=4).note


def test_time_on_the_wire_is_bits_by_rate_and_distance() -> None:
    free = {stage: 0 for stage in DEFAULT_COSTS}
    net = chain(0, rate=1_000_000_000, delay=5_000)
    trace = walk(net, Flow("icmp", "h0", last(net)), costs=free)
    assert trace.result.at == 2 * (98 * 8 + 5_000)  # 98 bytes at 1 Gbit/s, 5 us away, there and back


def test_a_full_queue_drops() -> None:
    net = chain(0, rate=1_000, queue=1)
    trace = walk(net, Flow("icmp", "h0", last(net), size=9000))
    assert next(s.what.reason for _, s in trace.drops) is Reason.QDISC_DROP  # type: ignore[attr-defined]


def test_costs_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    file.write_text('{"receive": 1000}')
    assert load_costs(file)["receive"] == 1000
    for bad in ('{"recieve": 1}', '{"receive": "1"}', "[]"):
        file.write_text(bad)
        with pytest.raises(ValueError, match=r"costs\.json"):
            load_costs(file)
