"""The network below a cluster: who is wired to whom, and that packets find their way across it."""

import pytest

from packetwalk.addr import IPv4
from packetwalk.cni import find
from packetwalk.engine.walk import address_of, walk
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, Link, Node, Rack
from packetwalk.network import Network
from packetwalk.trace import Flow

CNI = find("flat-bridge")


def way(network: Network, src: str, dst: str) -> list[str]:
    """The rooms of an echo request and its reply between nodes."""
    trace = walk(network, Flow("icmp", src, address_of(network, dst)))
    assert trace.delivered
    return [hop.room for hop in trace]


def test_one_switch_and_a_host_outside() -> None:
    network = build(Cluster(2, CNI))
    assert network.roles == {"fabric": "switch", "router": "router", "out": "host", "node-1": "node", "node-2": "node"}
    assert way(network, "node-1", "node-2")[:3] == ["node-1", "fabric", "node-2"]
    assert way(network, "node-1", "out")[:4] == ["node-1", "fabric", "router", "out"]


def test_racks_behind_a_router() -> None:
    network = build(Cluster(2, CNI, racks=2))
    assert way(network, "node-1", "node-2")[:5] == ["node-1", "tor-1", "router", "tor-2", "node-2"]
    assert str(address_of(network, "router")) == "192.168.56.1"


def test_leaf_and_spine() -> None:
    network = build(Cluster(2, CNI, racks=2, spines=2))
    there = way(network, "node-1", "node-2")[:5]
    assert (there[0], there[1], there[3], there[4]) == ("node-1", "leaf-1", "leaf-2", "node-2")
    assert there[2] in ("spine-1", "spine-2")
    assert "border" in way(network, "node-1", "out")
    assert "nexthop via 100.64.0.1 dev spine-1 weight 1 nexthop via 100.64.0.3 dev spine-2" in network["leaf-1"].routes


def test_both_spines_are_used() -> None:
    network = build(Cluster(12, CNI, racks=2, spines=2))
    used = {hop for n in range(2, 13, 2) for hop in way(network, "node-1", f"node-{n}") if hop.startswith("spine")}
    assert used == {"spine-1", "spine-2"}


def test_links_have_the_rate_delay_and_mtu_that_were_asked_for() -> None:
    slow = Link(rate=1_000_000, delay=5_000, mtu=9000, queue=10)
    network = build(Cluster(1, CNI, link=slow, nic="bond0"))
    wire = network.wires["node-1", "bond0"]
    assert (wire.rate, wire.delay, wire.queue) == (1_000_000, 5_000, 10)
    assert network["node-1"].device("bond0").mtu == 9000
    assert network.wires["router", "eth0"].rate == 0


def test_two_switches_in_a_rack() -> None:
    rack = Rack("r", switches=("one", "two"), cables=(("one", "two"),))
    network = build(Cluster([Node("x", switch="one"), Node("y", switch="two")], CNI, [rack]))
    assert way(network, "x", "y")[:4] == ["x", "one", "two", "y"]


LOOPS = [
    ((("a", "b"), ("b", "c"), ("c", "a")), "form a loop without a router"),
    ((("a", "b"), ("a", "b"), ("b", "c")), "form a loop without a router"),
    ((("a", "a"), ("a", "b"), ("b", "c")), "form a loop without a router"),
    ((("a", "b"),), "no cable joins 'c' to 'a'"),
    ((("a", "x"),), "a cable ends at 'x', which is none of its switches"),
]


@pytest.mark.parametrize(("cables", "message"), LOOPS)
def test_cables_that_cannot_be(cables: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(Cluster(1, CNI, [Rack("r", switches=("a", "b", "c"), cables=cables)]))


def test_a_gateway_of_ones_own_choice() -> None:
    network = build(Cluster(1, CNI, [Rack("r", "25.25.25.0/24", "25.25.25.254")]))
    assert network["router"].is_own(IPv4("25.25.25.254"))
    assert "default via 25.25.25.254 dev eth0" in network["node-1"].routes
