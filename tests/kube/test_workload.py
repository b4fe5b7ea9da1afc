"""Deployments, DaemonSets and selectors: where their pods go, what they are called, and which services find them."""

from collections import Counter
from itertools import islice

import pytest

from packetwalk.cni import find
from packetwalk.engine.walk import walk
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, Node, Pod
from packetwalk.kube.controlplane import selected
from packetwalk.kube.service import Endpoint, Service, ServicePort
from packetwalk.kube.workload import SAFE, TEMPLATE_HASH, pod_names, scheduled, template_hash

CNI = find("flat-bridge")
WEB = {"app": "web"}


def placed(nodes: list[Node], count: int, pods: list[Pod] | None = None) -> list[str]:
    return list(islice(scheduled(nodes, pods or [], "default", WEB), count))


def test_pods_of_one_kind_are_spread_before_nodes_are_filled() -> None:
    nodes = [Node("x"), Node("y"), Node("z")]
    assert placed(nodes, 4) == ["x", "y", "z", "x"]
    crowd = [Pod("p", "x"), Pod("q", "x"), Pod("r", "y")]
    assert placed(nodes, 3, crowd) == ["z", "y", "x"]  # none is alike, so the emptiest first
    assert placed(nodes, 2, [Pod("w", "z", labels=WEB)]) == ["x", "y"]
    assert placed(nodes, 1, [Pod("w", "x", "other", labels=WEB), Pod("v", "y")]) == ["z"]


def test_zones_are_kept_even() -> None:
    nodes = [Node("x1", zone="x"), Node("x2", zone="x"), Node("y1", zone="y")]
    assert placed(nodes, 2) == ["x1", "y1"]
    assert Counter(placed(nodes, 6)) == {"x1": 2, "x2": 2, "y1": 2}


def test_control_planes_are_taken_only_where_there_is_nothing_else() -> None:
    assert set(placed([Node("m", control_plane=True), Node("w")], 5)) == {"w"}
    assert set(placed([Node("m", control_plane=True)], 2)) == {"m"}


def test_names_are_those_of_controllers_and_the_same_again() -> None:
    names = list(islice(pod_names(7, "default", "web-abc"), 3000))
    assert len(set(names)) == len(names)
    assert all(n.startswith("web-abc-") and len(n) == 13 and set(n[8:]) <= set(SAFE) for n in names)
    assert names == list(islice(pod_names(7, "default", "web-abc"), 3000)) != list(islice(pod_names(8, "", "w"), 3000))
    assert set(template_hash(0, "default/web")) <= set("456789bcdf") != template_hash(0, "default/shop")


def test_a_deployment() -> None:
    cluster = Cluster(2, CNI)
    cluster.pod("a", 1)
    web = cluster.deployment("web", 3, listen=8080)
    (only,) = cluster.deployment("one", namespace="shop", labels={"tier": "db"})
    assert [p.node for p in web] == ["node-2", "node-1", "node-2"]
    assert {(p.labels["app"], p.listen) for p in web} == {("web", (8080,))}
    (template,) = {p.labels[TEMPLATE_HASH] for p in web}
    assert all(p.name.startswith(f"web-{template}-") for p in web)
    assert (only.namespace, only.labels["tier"], "app" in only.labels) == ("shop", "db", False)
    assert cluster.pods[1:] == [*web, only]


def test_a_daemon_set() -> None:
    cluster = Cluster([Node("m", control_plane=True), Node("w")], CNI)
    agents = cluster.daemon_set("agent", listen=9, host_network=True)
    assert [(p.node, p.host_network) for p in agents] == [("m", True), ("w", True)]
    assert len({p.name for p in agents}) == 2


def test_a_selector_finds_pods_of_its_namespace_that_have_all_of_it() -> None:
    service = Service("web", (ServicePort(80),), (Endpoint(pod="x"),), selector={"app": "web", "track": "new"})
    both = {"app": "web", "track": "new", "more": "1"}
    pods = [Pod("x", "n", labels=both), Pod("y", "n", labels=both, ready=False), Pod("z", "n", labels=WEB),
            Pod("x", "n", "shop", labels=both)]  # fmt: skip
    assert selected(service, pods).endpoints == (Endpoint(pod="x"), Endpoint(pod="y", ready=False))
    assert selected(Service("web", (ServicePort(80),)), pods).endpoints == ()


@pytest.mark.parametrize("mode", ["flannel-vxlan", "calico-bgp"])
def test_a_walk_to_a_service_by_selector(mode: str) -> None:
    cluster = Cluster(3, find(mode))
    a = cluster.pod("a", 1)
    pods = cluster.deployment("web", 3, listen=8080)
    web = cluster.service("web", 80, target_port=8080, selector=WEB)
    trace = walk(build(cluster), a, web, tcp=80)
    assert trace.result.outcome == "connected" and {h.room for h in trace.hops} & {p.room for p in pods}
    cluster.service("none", 80, selector={"app": "wep"})
    assert walk(build(cluster), a, "none:80").result.errno == "ECONNREFUSED"
