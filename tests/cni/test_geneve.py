"""The point-to-point Geneve overlay: a device for each peer."""

import pytest

from packetwalk.cni import Geneve
from packetwalk.engine.walk import address_of, walk
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, default_cluster
from packetwalk.netns.device import Geneve as Device
from packetwalk.trace import Flow


def test_a_tunnel_to_every_other_node() -> None:
    network = build(default_cluster(Geneve(), nodes=4))
    tunnels = [d for d in network["node-2"].devices.values() if isinstance(d, Device)]
    assert [(d.name, str(d.remote), d.vni, d.mtu) for d in tunnels] == [
        ("genev0", "192.168.56.11", 100, 1450),
        ("genev1", "192.168.56.13", 100, 1450),
        ("genev2", "192.168.56.14", 100, 1450),
    ]
    assert walk(network, Flow("icmp", "a", address_of(network, "b"))).delivered


def test_too_many_nodes_for_pairs() -> None:
    with pytest.raises(ValueError, match="101 nodes; it takes a device on each node for every other one"):
        build(Cluster(101, Geneve()))
