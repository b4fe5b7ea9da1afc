"""kube-proxy's IPVS mode before a kernel that has IPVS: every kind of walk, in every mode the machine can build."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from packetwalk.addr import IPv4
from packetwalk.cni import MODES, find
from packetwalk.kernel.probe import spec_of
from packetwalk.kernel.realise import MissingFeature
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, default_cluster
from packetwalk.kube.kubeproxy import KubeProxy
from packetwalk.kube.service import ServicePort
from packetwalk.network import Network
from packetwalk.prove import examine
from packetwalk.trace import Flow

NODES = ("192.168.56.11", "192.168.56.12")


def flow(kind: str, src: str, dst: object, port: int = 0, sport: int = 40000, size: int = -1, ttl: int = 0) -> Flow:
    return Flow(kind, src, IPv4(str(dst)), port, sport, size=size, ttl=ttl)


def agree(network: Network, flows: Iterable[Flow]) -> None:
    """The kernel agrees about every one, one after another."""
    named = {f"{n}: {f.kind} {f.src} > {f.dst}:{f.dport}": f for n, f in enumerate(flows)}
    probes = [{"name": name, "spec": spec_of(f, 0.5)} for name, f in named.items()]
    try:
        proofs = examine(network, probes)
    except MissingFeature as error:
        pytest.skip(str(error))
    assert {p.probe["name"]: str(p) for p in proofs if not p.verdict.agrees} == {}
    assert any(p.probe["result"]["outcome"] == "connected" for p in proofs)


def shortly(name: str, names: Iterable[str]) -> list[object]:
    """All of them, but only that one where time is short."""
    return [n if n == name else pytest.param(n, marks=pytest.mark.long) for n in names]


def several(**proxy: object) -> Network:
    """Services of every kind, three pods behind them on two nodes."""
    cluster = Cluster(2, find("flannel-vxlan"), kube_proxy=KubeProxy(mode="ipvs", **proxy))  # type: ignore[arg-type]
    a, b, c, d = (cluster.pod(name, node, listen=80) for name, node in (("a", 1), ("b", 2), ("c", 1), ("d", 2)))
    cluster.service("web", 80, pods=[b, c, d])
    cluster.service("self", 80, pods=[a])
    cluster.service("none", 80)
    cluster.service("dns", [ServicePort(53, "dns", "UDP", 80)], pods=[b, c])
    cluster.service("sticky", 80, pods=[b, c, d], session_affinity="ClientIP", session_affinity_timeout=60)
    cluster.service("lb", [ServicePort(80, "http", "TCP", 80, 30081)], type="LoadBalancer", pods=[b, c],
                    external_ips=("203.0.113.77",), load_balancer_ips=("203.0.113.88",),
                    load_balancer_source_ranges=("203.0.113.0/24",))  # fmt: skip
    cluster.service("local", [ServicePort(80, "http", "TCP", 80, 30082)], type="NodePort", pods=[b],
                    external_traffic_policy="Local")  # fmt: skip
    return build(cluster)


@pytest.mark.parametrize("mode", shortly("flannel-vxlan", MODES))
def test_every_mode(kernel: None, mode: str) -> None:
    """Two connections each, so that turns show; a wrong port, a ping, a packet that is too old."""
    made = default_cluster(find(mode, **({"hairpin": True} if mode == "flat-bridge" else {})))
    network = build(replace(made, kube_proxy=KubeProxy(mode="ipvs")))
    web = network.services["web"]
    inside = [flow("tcp", src, web, 80, 41000 + n) for src in ("a", "b", "c", "node-1", "node-2") for n in (1, 2)]
    outside = [flow("tcp", "out", node, 30080, 42000 + n) for node in NODES for n in (1, 2)]
    refused = [flow("udp", "a", web, 80), flow("tcp", "a", web, 81), flow("tcp", "a", web, 80, ttl=1)]
    agree(network, [*inside, *outside, *refused, flow("icmp", "a", web)])


@pytest.mark.parametrize("scheduler", shortly("rr", ("rr", "wrr", "lc", "wlc", "sh")))
def test_every_scheduler(kernel: None, scheduler: str) -> None:
    network = several(scheduler=scheduler)
    web, sticky = network.services["web"], network.services["sticky"]
    turns = [flow("tcp", src, web, 80, 41000 + n) for src in ("a", "b", "node-1") for n in range(3)]
    back = [flow("tcp", src, sticky, 80, 42000 + n) for src in ("a", "b") for n in range(3)]
    agree(network, [*turns, *back])


def test_datagrams_fragments_and_ports_used_again(kernel: None) -> None:
    network = several()
    dns, web = network.services["dns"], network.services["web"]
    agree(network, [
        flow("udp", "a", dns, 53, 43000), flow("udp", "a", dns, 53, 43001), flow("udp", "a", dns, 53, 43000),
        flow("udp", "a", dns, 53, 43002, size=4000), flow("udp", "node-2", dns, 53, 43003),
        *(flow("tcp", "a", web, 80, 43004) for _ in range(3)),
    ])  # fmt: skip


def test_no_endpoints_own_service_and_addresses_from_outside(kernel: None) -> None:
    network = several()
    self, none, lb = (network.services[name] for name in ("self", "none", "lb"))
    agree(network, [
        flow("tcp", "a", self, 80, 44000), flow("tcp", "a", none, 80, 44001), flow("tcp", "node-1", none, 80, 44002),
        *(flow("tcp", "a", to, 80, 44010) for to in (lb, "203.0.113.77", "203.0.113.88")),
        *(flow("tcp", "node-1", to, 80, 44011) for to in (lb, "203.0.113.77", "203.0.113.88")),
        *(flow("tcp", "out", node, 30081, 44012) for node in NODES),
    ])  # fmt: skip


def test_policy_local(kernel: None) -> None:
    agree(several(), [flow("tcp", src, node, 30082, 45000) for node in NODES for src in ("out", "node-1")])


@pytest.mark.long
@pytest.mark.parametrize(
    "settings", [{"masquerade_all": True}, {"detect_local": ""}, {"detect_local": "BridgeInterface:cni0"}], ids=str
)
def test_what_is_masqueraded(kernel: None, settings: dict[str, object]) -> None:
    network = several(**settings)
    web = network.services["web"]
    agree(network, [flow("tcp", src, web, 80, 46000) for src in ("a", "b", "c", "node-1", "node-2")])
