"""What a cluster's user leaves open is filled in; what cannot be is one clear line."""

import pytest

from packetwalk.cni import find
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, Node, Pod, Rack, default_cluster
from packetwalk.kube.layout import layout

CNI = find("flat-bridge")


def test_nodes_of_one_switch() -> None:
    plan = layout(Cluster(3, CNI))
    assert [str(s.ip) for s in plan.seats] == ["192.168.56.11", "192.168.56.12", "192.168.56.13"]
    (place,) = plan.places
    assert (place.switches, str(place.subnet), str(place.gateway)) == (("fabric",), "192.168.56.0/24", "192.168.56.1")


def test_nodes_take_racks_in_turn() -> None:
    plan = layout(Cluster(3, CNI, racks=2))
    assert [(s.place.name, str(s.ip)) for s in plan.seats] == [
        ("rack-1", "192.168.56.11"), ("rack-2", "192.168.57.11"), ("rack-1", "192.168.56.12")]  # fmt: skip


def test_ranges_grow_with_the_cluster() -> None:
    plan = layout(Cluster(3000, CNI, racks=2))
    assert [str(p.subnet) for p in plan.places] == ["172.16.0.0/21", "172.16.8.0/21"]
    assert str(plan.pod_cidr) == "10.128.0.0/9"


def test_given_addresses_are_kept_and_passed_over() -> None:
    racks = [Rack("left", "25.25.25.0/24", "25.25.25.254"), Rack("right", "35.35.35.0/24", "35.35.35.254")]
    nodes = [Node("x", "25.25.25.11", "left"), Node("y", rack="left"), Node("z", "35.35.35.122", "right")]
    plan = layout(Cluster(nodes, CNI, racks))
    assert [str(s.ip) for s in plan.seats] == ["25.25.25.11", "25.25.25.12", "35.35.35.122"]
    assert [p.switches for p in plan.places] == [("tor-1",), ("tor-2",)]


def test_ranges_of_nodes_are_as_long_as_asked_for() -> None:
    """300 pods do not fit into a /24."""
    cluster = Cluster(2, CNI, node_mask=23)
    for number in range(300):
        cluster.pod(f"p{number}", 1)
    network = build(cluster)
    assert "10.244.2.0/23 dev cni0" in network["node-1"].routes
    assert "10.244.4.0/23 via 192.168.56.12" in network["node-1"].routes
    assert str(layout(Cluster(200, CNI, node_mask=23)).pod_cidr) == "10.128.0.0/9"  # of a /16 there are 128


BAD = [
    (Cluster([], CNI), "a cluster needs a node"),
    (Cluster([Node("n"), Node("n")], CNI), "two nodes are called 'n'"),
    (Cluster(1, CNI, [Rack("r"), Rack("r")]), "two racks are called 'r'"),
    (Cluster(1, CNI, []), "a cluster needs a rack"),
    (Cluster(1, CNI, node_mask=31), "node_mask 31 is out of range: 8 to 30 was expected"),
    (Cluster(1, CNI, 0), "0 racks: 1 or more was expected"),
    (Cluster(1, CNI, pods=[Pod("p", "node-1"), Pod("p", "node-1")]), "two pods are called 'p'"),
    (Cluster(1, CNI, pods=[Pod("node-1", "node-1")]), "two rooms are called 'node-1'"),
    (Cluster(1, CNI, pods=[Pod("p", "nod-1")]), "pod 'p' is on no node: there is no node 'nod-1'; did you mean"),
    (Cluster([Node("n", rack="rack-2")], CNI), "node 'n' stands in no rack: there is no rack 'rack-2'; did"),
    (Cluster([Node("n", switch="fabrik")], CNI), "no switch in rack-1 'fabrik'; did you mean 'fabric'?"),
    (Cluster([Node("n", "10.0.0.1")], CNI), "node 'n': address 10.0.0.1 is not in rack-1, which is 192.168.56.0/24"),
    (Cluster([Node("n", "192.168.56.1")], CNI), "node 'n': address 192.168.56.1 is taken by the gateway of rack-1"),
    (Cluster([Node("n", "192.168.56.9"), Node("m", "192.168.56.9")], CNI), "192.168.56.9 is taken by node 'n'"),
    (Cluster(1, CNI, [Rack("r", "10.1.0.0/24", "10.2.0.1")]), "r: gateway 10.2.0.1 is not in its subnet 10.1.0.0/24"),
    (Cluster(4, CNI, [Rack("r", "10.1.0.0/29")]), "the subnet of r, 10.1.0.0/29, is too small for its nodes"),
    (Cluster(2, CNI, 2, node_cidr="10.1.0.0/24"), "node CIDR 10.1.0.0/24 is too small: 2 subnets of /24"),
    (Cluster(1, CNI, pod_cidr="10.244.0.0/33"), "pod CIDR: '10.244.0.0/33' is not a prefix"),
    (Cluster(1, CNI, pod_cidr="10.100.0.0/16"), "service CIDR 10.96.0.0/12 overlaps pod CIDR 10.100.0.0/16"),
    (Cluster(1, CNI, pod_cidr="192.168.0.0/16"), "subnet of rack-1 192.168.56.0/24 overlaps pod CIDR 192.168.0.0/16"),
    (Cluster(1, CNI, 1, 2, pod_cidr="100.64.0.0/16"), "leaves and spines 100.64.0.0/16 overlaps pod CIDR"),
]  # fmt: skip


@pytest.mark.parametrize(("cluster", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_what_cannot_be(cluster: Cluster, message: str) -> None:
    with pytest.raises(ValueError) as error:
        layout(cluster)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_pod_is_put_on_a_node_by_number_or_name() -> None:
    cluster = Cluster(2, CNI)
    assert (cluster.pod("a", 2).node, cluster.pod("b", "node-1", listen=80).listen) == ("node-2", (80,))
    assert cluster.pod("c", 1, namespace="prod").room == "prod/c"
    for node in (0, 3, "node-3"):
        with pytest.raises(ValueError, match="pod 'd' is on no node"):
            cluster.pod("d", node)


def test_using_another_cni_leaves_the_cluster_alone() -> None:
    cluster = default_cluster(CNI)
    other = cluster.using(find("flannel-host-gw"))
    other.pod("more", 1)
    assert [p.name for p in cluster.pods] == ["a", "c", "b"]
    assert (cluster.cni.name, other.cni.name) == ("flat-bridge", "flannel-host-gw")
