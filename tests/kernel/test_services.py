"""Services under every CNI mode, by rules of kube-proxy that this machine's kernel holds: it agrees in every frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from packetwalk.cli import main
from packetwalk.cni import MODES, find
from packetwalk.engine.walk import between
from packetwalk.kernel.probe import spec_of
from packetwalk.kernel.realise import missing_features
from packetwalk.kernel.record import drawn, record
from packetwalk.kube.balancer import LoadBalancer
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, Node, Pod, default_cluster
from packetwalk.network import Network
from packetwalk.prove import Proof, examine
from packetwalk.trace import Flow

pytestmark = pytest.mark.usefixtures("kernel")

WALKS = [
    ("a", "web:80"),  # a pod to a cluster IP
    ("b", "web:80"),  # an endpoint to its own service, perhaps to itself
    ("node-1", "web:80"),
    ("out", "node-1:30080"),
    ("out", "node-2:30080"),
    ("a", "node-1:30080"),
    ("a", "node-2:30080"),
    ("node-2", "127.0.0.1:30080"),
    ("a", "web"),  # a ping of a cluster IP: no rule is for it
]
WHOLE = ("flat-bridge", "flannel-vxlan", "calico-vxlan", "calico-ipip")
"""The modes that take all of them; others the first five."""


def flow_of(network: Network, src: str, dst: str) -> Flow:
    """`web:80` is TCP, `dns:53/udp` and `far:80/sctp` are not."""
    end, _, proto = dst.partition("/")
    port = int(end.rpartition(":")[2]) if proto else 0
    return between(network, src, end, **({proto: port} if proto else {}))


def proofs(network: Network, walks: list[tuple[str, str]]) -> list[Proof]:
    if missing := missing_features(network):
        pytest.skip(f"this kernel has no {', '.join(missing)}")
    flows = [dataclasses.replace(flow_of(network, *walk), sport=41000 + n) for n, walk in enumerate(walks)]
    return examine(network, [{"spec": spec_of(flow, 0.2)} for flow in flows])


def agree(network: Network, walks: list[tuple[str, str]]) -> None:
    for walk, proof in zip(walks, proofs(network, walks), strict=True):
        assert proof.verdict.agrees, f"{walk}: {proof}"


def in_nftables(made: Cluster) -> Cluster:
    return dataclasses.replace(made, kube_proxy=dataclasses.replace(made.kube_proxy, mode="nftables"))


PROXIED = [pytest.param(lambda made: made, id="iptables"), pytest.param(in_nftables, id="nftables")]


HOST_WALKS = [
    ("a", "proxy:8080"),
    ("a", "front:80"),
    ("b", "front:80"),
    ("proxy", "a:80"),
    ("proxy", "front:80"),  # it is its only endpoint
    ("out", "node-1:30080"),
    ("node-1/kubelet", "a:80"),
]


@pytest.mark.parametrize("mode", MODES)
def test_the_kernel_agrees_about_pods_on_the_hosts_network_and_kubelets(mode: str) -> None:
    cluster = Cluster(2, find(mode))
    cluster.pod("a", 1, listen=80)
    cluster.pod("b", 2, listen=80)
    proxy = cluster.pod("proxy", 2, listen=8080, host_network=True)
    cluster.service("front", 80, target_port=8080, pods=[proxy], node_port=30080)
    agree(build(cluster), HOST_WALKS)


@pytest.mark.parametrize("kind", ["l2", "bgp", "cloud", "direct return"])
def test_the_kernel_agrees_about_load_balancers(kind: str) -> None:
    """Also about the program that answers ARP: the first walk to each finds no neighbour.

    Which of several nodes a router's hash takes is the kernel's secret: with `bgp` and a direct return only one has it.
    """
    direct = kind == "direct return"
    balancer = LoadBalancer("cloud" if direct else kind, direct_return=direct)
    cluster = Cluster(2, find("flannel-vxlan"), load_balancer=balancer)
    pod = cluster.pod("b", 2, listen=8080)
    cluster.service("web", 80, target_port=8080, pods=[pod], type="LoadBalancer")
    cluster.service("kept", 80, target_port=8080, pods=[pod], type="LoadBalancer", external_traffic_policy="Local")
    walks = [("out", "kept:80"), ("out", "kept"), ("out", "web:80"), ("out", "web:80")]
    agree(build(cluster), walks if kind in ("l2", "cloud") else walks[:2])


@pytest.mark.parametrize("balancer", [False, True])
def test_the_kernel_agrees_about_the_control_planes_endpoint(balancer: bool) -> None:
    nodes = [Node("m1", control_plane=True), Node("m2", control_plane=True), Node("w")]
    cluster = Cluster(nodes, find("flannel-host-gw"), api_endpoint="192.168.56.10", api_balancer=balancer)
    cluster.pod("a", "w")
    agree(build(cluster), [("w/kubelet", "control-plane:6443"), ("a", "kubernetes:443")])


@pytest.mark.parametrize("mode", MODES)
def test_the_kernel_agrees_about_services_under_every_mode(mode: str) -> None:
    options = {"hairpin": True} if mode == "flat-bridge" else {}  # or no frame tells that b has drawn itself
    agree(build(default_cluster(find(mode, **options))), WALKS if mode in WHOLE else WALKS[:5])


def cluster(mode: str = "flannel-vxlan") -> tuple[Cluster, Pod, Pod]:
    made = Cluster(2, find(mode))
    made.pod("a", 1)
    return made, made.pod("b", 2, listen=8080), made.pod("c", 1, listen=8080)


@pytest.mark.parametrize("proxied", PROXIED)
def test_policies_ranges_and_services_without_endpoints(proxied: Callable[[Cluster], Cluster]) -> None:
    made, b, _ = cluster()
    made.service("local", 80, pods=[b], target_port=8080, node_port=30081, external_traffic_policy="Local")
    made.service("inside", 80, pods=[b], target_port=8080, internal_traffic_policy="Local")
    made.service("empty", 80, node_port=30082)
    made.service("guarded", 80, pods=[b], target_port=8080, type="LoadBalancer", load_balancer_ips=("198.51.100.7",),
                 load_balancer_source_ranges=("192.0.2.0/24",), node_port=30083)  # fmt: skip
    made.service("dns", 53, pods=[b], target_port=8080, protocol="UDP")
    made.service("open", 80, pods=[b], target_port=8080, external_ips=("198.51.100.8",))
    walks = [
        ("out", "node-2:30081"), ("out", "node-1:30081"), ("a", "node-1:30081"), ("a", "inside:80"), ("b", "inside:80"),
        ("a", "empty:80"), ("out", "node-1:30082"), ("node-1", "empty:80"), ("a", "198.51.100.7:80"),
        ("a", "198.51.100.8:80"), ("out", "node-1:30083"), ("a", "dns:53/udp"), ("node-1", "dns:53/udp"),
    ]  # fmt: skip
    agree(build(proxied(made)), walks)


SHORT = ("flat-bridge", "flannel-vxlan")


@pytest.mark.parametrize("mode", [m if m in SHORT else pytest.param(m, marks=pytest.mark.long) for m in MODES])
def test_the_kernel_agrees_about_nftables_mode(mode: str) -> None:
    made = in_nftables(default_cluster(find(mode, **({"hairpin": True} if mode == "flat-bridge" else {}))))
    refused = [("a", "web:81"), ("node-1", "web:81"), ("a", "10.96.77.7"), ("node-1", "10.96.77.7")]
    agree(build(made), [*WALKS[:-2], WALKS[-1], *refused] if mode in WHOLE else WALKS[:5])


@pytest.mark.parametrize("proxied", PROXIED)
def test_a_client_with_affinity_comes_back_to_its_endpoint(proxied: Callable[[Cluster], Cluster]) -> None:
    made, b, c = cluster()
    made.service("web", 80, pods=[b, c], target_port=8080, session_affinity="ClientIP")
    found = proofs(build(proxied(made)), [("a", "web:80")] * 4)
    assert len({proof.probe["dice"]["backend"] for proof in found}) == 1


def test_masquerade_all() -> None:
    made, b, c = cluster("flannel-host-gw")
    made.service("web", 80, pods=[b, c], target_port=8080)
    everything = dataclasses.replace(made, kube_proxy=dataclasses.replace(made.kube_proxy, masquerade_all=True))
    agree(build(everything), [("a", "web:80"), ("b", "web:80"), ("node-1", "web:80")])


def test_what_was_drawn_is_read_from_the_frames() -> None:
    network = build(default_cluster(find("flat-bridge")))
    ip = {"proto": "ip", "dst": "10.96.1.1"}
    tcp = {"proto": "tcp", "sport": 40000, "dport": 80}
    rewritten = {"layers": [{**ip, "dst": "10.244.2.2"}, tcp]}
    spec = {"dst": "10.96.1.1", "dport": 80}
    assert drawn(network, spec, [{"layers": [ip, tcp]}]) == {}
    assert drawn(network, spec, [{"layers": [ip, tcp]}, rewritten]) == {"backend": "10.244.2.2:80"}
    assert drawn(network, {"dst": "10.244.2.2", "dport": 80}, [rewritten]) == {}


@pytest.mark.parametrize("proxied", PROXIED)
def test_services_over_sctp(proxied: Callable[[Cluster], Cluster]) -> None:
    """Nobody here speaks it: the refusals come back through NAT."""
    made, b, c = cluster()
    made.service("far", 80, pods=[b], target_port=3868, node_port=30090, protocol="SCTP")
    made.service("near", 80, pods=[c], target_port=3868, protocol="SCTP")
    walks = [("a", "far:80/sctp"), ("a", "near:80/sctp"), ("node-1", "far:80/sctp"), ("out", "node-1:30090/sctp"),
             ("a", "far:81/sctp"), ("b", "far:80/sctp")]  # fmt: skip
    agree(build(proxied(made)), walks)


@pytest.mark.parametrize("proxied", PROXIED)
def test_a_recording_holds_the_rules(proxied: Callable[[Cluster], Cluster], tmp_path: Path) -> None:
    made, b, c = cluster()
    made.service("web", 80, pods=[b, c], target_port=8080, node_port=30080)
    network = build(proxied(made))
    if missing := missing_features(network):
        pytest.skip(f"this kernel has no {', '.join(missing)}")
    flows = [flow_of(network, "a", "web:80"), flow_of(network, "out", "node-1:30080")]
    record(network, [{"name": f.src, "spec": spec_of(f, 0.2)} for f in flows], tmp_path / "mine")
    assert main(["agree", str(tmp_path / "mine")]) == 0
