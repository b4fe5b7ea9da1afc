"""Nodes of a subnet share what their daemons write alike; each leaves out what concerns itself."""

from packetwalk.cni import find
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster


def test_a_node_sees_all_ranges_but_routes_its_own_to_its_bridge() -> None:
    network = build(Cluster(3, find("flannel-host-gw")))
    assert network["node-2"].routes.splitlines()[1:4] == [
        "10.244.1.0/24 via 192.168.56.11 dev eth0",
        "10.244.2.0/24 dev cni0 proto kernel scope link src 10.244.2.1",
        "10.244.3.0/24 via 192.168.56.13 dev eth0",
    ]


def test_nothing_grows_with_pairs_of_nodes() -> None:
    network = build(Cluster(30, find("flannel-host-gw"), racks=2))
    bases = {id(network[f"node-{n}"].fib.table(254).base) for n in range(1, 31)}
    assert len(bases) == 2
    base = network["node-1"].fib.table(254).base
    assert base is not None and len(list(base)) == 15


def test_a_deleted_route_is_gone_on_that_node_only() -> None:
    network = build(Cluster(3, find("flannel-host-gw")))
    network["node-1"].route_del("10.244.3.0/24")
    assert "10.244.3.0/24" not in network["node-1"].routes
    assert "10.244.3.0/24 via" in network["node-2"].routes


def test_a_device_that_goes_down_takes_the_shared_routes_along() -> None:
    network = build(Cluster(2, find("flannel-host-gw")))
    network["node-1"].link_set("eth0", up=False)
    assert network["node-1"].routes == "10.244.1.0/24 dev cni0 proto kernel scope link src 10.244.1.1"
    assert "10.244.1.0/24 via 192.168.56.11 dev eth0" in network["node-2"].routes
