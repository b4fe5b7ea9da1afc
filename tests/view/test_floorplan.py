"""Where rooms stand in a picture, and which wires a packet took."""

from itertools import pairwise

import packetwalk as pw
from packetwalk.source import from_mode
from packetwalk.view.floorplan import Leg, floorplan, legs, on_the_way


def test_pods_stand_under_their_node_and_nodes_under_their_switch() -> None:
    net = from_mode("flannel-vxlan", nodes=3, racks=1, seed=0)
    plan = floorplan(net, net.rooms)
    level = {room: spot.level for room, spot in plan.spots.items()}
    assert (level["a"], level["node-1"], level["fabric"], level["router"], level["out"]) == (0, 1, 2, 3, 4)
    pods = [pod for pod, node in ((a, b) for a, b in plan.wires if b == "node-1")]
    middle = sum(plan.spots[pod].x for pod in pods) / len(pods)
    assert pods and plan.spots["node-1"].x == middle
    assert plan.spots["node-1"].x < plan.spots["node-2"].x < plan.spots["node-3"].x
    assert plan.levels == 5 and plan.spots["a"].role == "pod"


def test_no_two_rooms_stand_in_one_place() -> None:
    cluster = pw.Cluster(nodes=6, racks=3, spines=2, cni=pw.Calico("none", peer_fabric=True))
    for n in range(1, 7):
        for name in "ab"[: n % 3]:
            cluster.pod(f"{name}{n}", node=n)
    net = pw.build(cluster)
    plan = floorplan(net, net.rooms)
    assert len(plan.spots) == len(net.rooms)
    for level in range(plan.levels):
        row = sorted(spot.x for spot in plan.spots.values() if spot.level == level)
        assert all(b - a >= 1 for a, b in pairwise(row)), level
    assert min(spot.x for spot in plan.spots.values()) == 0
    assert {frozenset(wire) for wire in plan.wires} == {frozenset((w.a[0], w.b[0])) for w in net.wires.values()}


def test_numbers_in_names_count() -> None:
    net = from_mode("flat-bridge", nodes=11, racks=1, seed=0)
    plan = floorplan(net, net.rooms)
    nodes = sorted((room for room, spot in plan.spots.items() if spot.role == "node"), key=lambda r: plan.spots[r].x)
    assert nodes[1] == "node-2" and nodes[-1] == "node-11"


def test_rooms_without_a_node_find_a_place() -> None:
    from packetwalk.netns.device import Veth
    from packetwalk.netns.namespace import Netns

    net = pw.Network()
    for name, devs in (("left", "x"), ("middle", "xy"), ("right", "y")):
        room = net.add(Netns(name))
        for dev in devs:
            room.link_add(dev, Veth())
    net.connect(("left", "x"), ("middle", "x"))
    net.connect(("right", "y"), ("middle", "y"))
    plan = floorplan(net, net.rooms)
    assert [(r, s.x, s.level) for r, s in plan.spots.items()] == [("left", 0, 0), ("right", 1, 0), ("middle", 0.5, 1)]
    assert (plan.spots["middle"].left, plan.spots["middle"].right) == (0, 1) and plan.joints("left", "middle") == (0, 0)
    assert floorplan(net, []).spots == {} and floorplan(net, ["left"]).width == 1


def test_the_way_there_and_back() -> None:
    net = from_mode("calico-ipip", nodes=2, racks=1, seed=0)
    trace = pw.walk(net, pw.between(net, "a", "b"), cold=True)
    there = [("a", "node-1"), ("node-1", "fabric"), ("fabric", "node-2"), ("node-2", "b")]
    back = [(b, a) for a, b in reversed(there)]
    expected = [(w, False) for w in there] + [(w, True) for w in back]
    assert list(legs(trace)) == [Leg(*w, answer, "ipip" if "fabric" in w else "") for w, answer in expected]
    lost = pw.walk(net, pw.between(net, "a", "b", ttl=2))
    assert [leg.answer for leg in legs(lost)] == [False] * 3 + [True] * 3, "what tells of a death is an answer, too"
    assert on_the_way(trace) == ["a", "node-1", "fabric", "node-2", "b"]
