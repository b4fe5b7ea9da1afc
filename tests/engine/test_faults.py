"""Faults: what strikes at its time, and what BGP takes away and brings back."""

from __future__ import annotations

import pytest

import packetwalk as pw
from packetwalk.engine.faults import Fault, Faults, parse, withdraw
from packetwalk.network import Network
from packetwalk.trace import Reason

MS = 1_000_000


def leaf_and_spine() -> tuple[pw.Pod, pw.Pod, Network]:
    """Two racks, two spines, Calico that peers with the leaves."""
    cluster = pw.Cluster(nodes=2, racks=2, spines=2, cni=pw.Calico("none", peer_fabric=True))
    return cluster.pod("a", node=1), cluster.pod("b", node=2), pw.build(cluster)


def test_a_fault_in_words() -> None:
    down = Fault(1_500_000, "link node-1 down")
    assert parse("at 1.5ms link node-1 down") == down == parse(("1500us", "link node-1 down"))
    assert parse((7, "bgp withdraw x")).at == 7 and str(parse("at 20ms x")) == "at 20 ms x"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("link node-1 down", "`at TIME LINE` was expected, such as 'at 200ms link node-1 down'"),
        ("at 5 link node-1 down", "'at 5 link node-1 down': a number with one of ns, us, ms, s behind it"),
        ("at 5ms link node-9 down", "there is no room or ROOM/DEV 'node-9'; did you mean 'node-"),
        ("at 5ms bgp flap node-1", "`bgp withdraw NODE` or `bgp announce NODE` was expected"),
        ("at 5ms bgp withdraw node-9", "there is no room 'node-9'; did you mean 'node-"),
        ("at 5ms bgp withdraw a", "a announces nothing by BGP"),
        ("at 5ms bgp announce node-1", "nothing of node-1 was withdrawn before"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(line: str, said: str) -> None:
    a, b, net = leaf_and_spine()
    with pytest.raises(ValueError) as caught:
        pw.simulate(net, pw.constant(a, b, rate=1), faults=[line])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_faults_are_tried_in_the_order_of_their_times() -> None:
    """Announced at 9 ms is what was withdrawn at 3 ms, wherever they stand in the list."""
    _, _, net = leaf_and_spine()
    Faults(["at 9ms bgp announce node-2", "at 3ms bgp withdraw node-2"]).check(net)


def test_a_withdrawn_node_is_forgotten_everywhere_but_at_home() -> None:
    _, _, net = leaf_and_spine()
    block = next(str(r.dst) for r in net["node-2"].fib.routes() if r.type == "blackhole")
    had = [room.name for room in net if block in room.routes]
    gone = withdraw(net, "node-2")
    assert {name for name, _ in gone} == {*had} - {"node-2"} >= {"spine-1", "spine-2", "border", "leaf-2"}
    assert [room.name for room in net if block in room.routes] == ["node-2"]


def test_nodes_that_share_a_table_all_lose_the_route() -> None:
    cluster = pw.Cluster(nodes=3, cni=pw.Calico("ipip"))
    a, b = cluster.pod("a", node=1), cluster.pod("b", node=3)
    net = pw.build(cluster)
    before = {name: net[name].routes for name in ("node-1", "node-2", "node-3")}
    gone = withdraw(net, "node-3")
    assert {name for name, _ in gone} == {"node-1", "node-2"}
    assert not pw.walk(net, a, b).delivered and net["node-3"].routes == before["node-3"]
    for name, route in gone:
        net[name].fib.table(route.table).add(route)
    assert {name: net[name].routes for name in before} == before


def test_traffic_dies_until_it_is_announced_again() -> None:
    a, b, net = leaf_and_spine()
    faults = ["at 10ms bgp withdraw node-2", "at 20ms bgp announce node-2"]
    load = pw.simulate(net, pw.constant(a, b, rate=1000), until="30ms", every="10ms", faults=faults)
    assert [r["delivered"] for r in load.rows("time")] == [10, 0, 10]
    assert load.drops == {Reason.IP_INNOROUTES: 10}
    assert {d.room for d in load.deaths} == {"border"}, "the default routes lead there, and it knows no such pod"


def test_a_spine_that_fails_is_gone_round() -> None:
    """The leaf has two next hops: with one device down it sends by the other, and nothing more is lost."""
    a, b, net = leaf_and_spine()
    through = next(h.room for h in pw.walk(net, a, b, udp=5201) if h.room.startswith("spine"))
    fault = f"at 10ms leaf-1 link set {through} down"
    load = pw.simulate(net, pw.constant(a, b, rate=1000), until="20ms", faults=[fault])
    other = {"spine-1", "spine-2"} - {through}
    assert load.delivered == 20 and load.rooms[other.pop()].visits >= 10
