"""Deployments, DaemonSets, labels and selectors in cluster.yaml."""

from pathlib import Path

import pytest

from packetwalk.cni import FlatBridge
from packetwalk.document import DocumentError, load_cluster
from packetwalk.kube.cluster import Cluster
from packetwalk.kube.service import Endpoint


def cluster_of(tmp_path: Path, text: str) -> Cluster:
    path = tmp_path / "c.yaml"
    path.write_text(f"cni: flat-bridge\nnodes: 2\n{text}", encoding="utf-8")
    return load_cluster(path)


def test_they_say_what_python_says(tmp_path: Path) -> None:
    found = cluster_of(tmp_path, """
pods: [{name: a, node: 2, labels: {tier: db, weight: "07"}, ready: false}]
deployments: [{name: web, replicas: 2, listen: [80], labels: {app: front}}, {name: one, namespace: shop}]
daemon_sets: [{name: agent, host_network: true}]
services: [{name: web, port: 80, selector: {app: front}}, {name: a, port: 80, pods: [a]}]
""")
    cluster = Cluster(2, FlatBridge())
    cluster.pod("a", 2, labels={"tier": "db", "weight": "07"})
    cluster.deployment("web", 2, listen=80, labels={"app": "front"})
    cluster.deployment("one", namespace="shop")
    cluster.daemon_set("agent", host_network=True)
    assert [p.ready for p in found.pods] == [False, True, True, True, True, True]
    assert found.pods[1:] == cluster.pods[1:] and found.pods[0].labels == cluster.pods[0].labels
    assert found.services[0].selector == {"app": "front"}
    assert found.services[1].endpoints == (Endpoint(pod="a", ready=False),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deployments: [{name: x}, {name: x}]", "3:33: two deployments are called 'x'; the first one is in line 3"),
        ("deployments: [{name: x, replica: 2}]", "3:25: there is no field 'replica'; did you mean 'replicas'?"),
        ("daemon_sets: [{name: x, replicas: 2}]", "3:25: there is no field 'replicas'; there are name, namespace"),
        ("deployments: [{name: x, replicas: -1}]", "3:35: deployments[0].replicas: 0 or more was expected, not -1"),
        ("services: [{name: x, port: 80, selector: web}]", "3:42: services[0].selector: a mapping of names to values"),
    ],
)
def test_what_is_wrong_has_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DocumentError) as error:
        cluster_of(tmp_path, text)
    assert error.value.args[0].partition("c.yaml:")[2].startswith(message)
