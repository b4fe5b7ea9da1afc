"""Pods on the host's network and the kubelet: programs of a node, which have its addresses, ports and tables."""

import pytest

from packetwalk.addr import IPv4
from packetwalk.cni import MODES, find
from packetwalk.engine.walk import address_of, between, walk
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, Node
from packetwalk.netns.socket import Delivery
from packetwalk.network import Network
from packetwalk.trace import Trace


def cluster_of(mode: str) -> Cluster:
    """Pod a on node-1, pod b on node-2, where the pod proxy is on the host's network; a service before that."""
    cluster = Cluster(2, find(mode))
    cluster.pod("a", 1, listen=80)
    cluster.pod("b", 2, listen=80)
    proxy = cluster.pod("proxy", 2, listen=8080, host_network=True, namespace="edge")
    cluster.service("front", 80, target_port=8080, pods=[proxy])
    return cluster


def seen_by(trace: Trace, room: str) -> str:
    """Who asks, as the first segment says that a socket of the room gets."""
    steps = (s for h, s in trace.steps if h.room == room and isinstance(s.what, Delivery) and s.what.kind == "segment")
    return str(next(steps).packet.headers[0].src)  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", MODES)
def test_it_is_reached_where_its_node_is(mode: str) -> None:
    network = build(cluster_of(mode))
    node = address_of(network, "node-2")
    assert "edge/proxy" not in network and network.programs["edge/proxy"] == "node-2"
    assert walk(network, "a", "edge/proxy:8080").result.peer == f"{node}:8080"
    assert walk(network, "a", "front:80").result.outcome == "connected"
    assert walk(network, "b", "front:80").result.outcome == "connected"


@pytest.mark.parametrize("mode", MODES)
def test_it_sends_as_its_node(mode: str) -> None:
    network = build(cluster_of(mode))
    for src in ("edge/proxy", "node-2/kubelet"):
        trace = walk(network, src, "b:80")
        assert (trace.flow.src, trace.flow.by, trace.result.outcome) == ("node-2", src, "connected")
        assert str(trace).startswith(f"tcp {src} ")
    assert walk(network, "edge/proxy", "a:80").result.outcome == "connected"
    assert walk(network, "node-1", "a:80").flow.by == ""


@pytest.mark.parametrize("mode", ["flannel-host-gw", "calico-bgp", "calico-ipip"])
def test_the_kubelet_asks_a_pod_of_its_own_from_the_address_of_the_link(mode: str) -> None:
    """inet_select_addr: a bridge has an address to ask from; a cali device has none, so the first device's serves."""
    network = build(cluster_of(mode))
    bridged = mode == "flannel-host-gw"
    assert seen_by(walk(network, "node-1/kubelet", "a:80"), "a") == ("10.244.1.1" if bridged else "192.168.56.11")


def test_to_kube_proxy_it_is_no_pod_of_the_cluster() -> None:
    """Its address is not in the cluster CIDR: what it sends to a service is masqueraded, what a pod sends is not."""
    cluster = cluster_of("flannel-host-gw")
    cluster.service("web", 80, pods=[p for p in cluster.pods if p.name == "a"])
    network = build(cluster)
    marked = {
        src: any("KUBE-MARK-MASQ" in str(s.what) for _, s in walk(network, src, "web:80").steps)
        for src in ("edge/proxy", "b")
    }
    assert marked == {"edge/proxy": True, "b": False}


def test_it_is_an_endpoint_of_its_node() -> None:
    """With the policy Local its own node alone lets outside traffic in, with the client's address kept."""
    cluster = cluster_of("calico-bgp")
    (proxy,) = (p for p in cluster.pods if p.host_network)
    cluster.service("edge", 80, target_port=8080, pods=[proxy], node_port=30080, external_traffic_policy="Local")
    network = build(cluster)
    assert walk(network, "out", "node-1:30080").result.outcome == "timeout"
    assert seen_by(walk(network, "out", "node-2:30080"), "node-2") == "203.0.113.10"


def wrong() -> list[tuple[Cluster, str]]:
    twice, address = (Cluster([Node("m")], find("flat-bridge")) for _ in range(2))
    twice.pod("x", 1, listen=80, host_network=True)
    twice.pod("y", 1, listen=80, host_network=True)
    address.pod("x", 1, ip="10.244.1.9", host_network=True)
    return [
        (twice, "pod 'y': port 80 of m is taken by pod 'x'"),
        (address, "pod 'x' is on the host's network, so it has no ip of its own"),
    ]


@pytest.mark.parametrize(("cluster", "message"), wrong())
def test_what_cannot_be(cluster: Cluster, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(cluster)


def test_the_api_server_may_be_such_a_pod() -> None:
    cluster = Cluster([Node("m", control_plane=True)], find("flat-bridge"))
    cluster.pod("kube-apiserver-m", 1, listen=6443, host_network=True, namespace="kube-system")
    assert walk(build(cluster), "m/kubelet", "kubernetes:443").result.outcome == "connected"


def test_a_room_goes_before_a_program_of_its_name() -> None:
    network = Network()
    network.programs["x"] = "node-1"
    assert (network.room_of("x"), network.room_of("y")) == ("node-1", "y")
    built = build(cluster_of("flat-bridge"))
    assert between(built, "node-1", "node-2/kubelet", tcp=10250).dst == IPv4("192.168.56.12")
    assert built.overlay().programs == built.programs
