"""DNS, HTTP and ingress through this machine's kernel: the same programs over real sockets come to the same answers."""

from __future__ import annotations

import pytest

from packetwalk.cni import MODES, find
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, default_cluster
from packetwalk.kube.dns import Dns
from packetwalk.kube.ingress import IngressController
from packetwalk.kube.service import Endpoint
from packetwalk.network import Network
from packetwalk.prove_url import prove_urls
from tests.kernel.lab import why_not

WALKS = [
    ("shop/a", "http://web.prod/hello"),
    ("shop/a", "dns:db.prod"),
    ("shop/a", "dns:nope.prod"),
    ("shop/a", "dns:example.com"),
    ("shop/a", "dns:many.prod"),  # truncated, and asked for again over TCP
    ("shop/a", "dns:10.96.0.10?type=PTR"),
    ("shop/a", "tcp://web.prod:81"),
    ("prod/b", "http://web.prod/"),  # its own service: the hairpin is masqueraded
    ("node-1", "http://10.96.7.7/"),
    ("out", "http://shop.example:30080/cart"),
]


def town(mode: str, policy: str = "Cluster", dns: Dns | None = None) -> Network:
    options = {"hairpin": True} if mode == "flat-bridge" else {}
    controller = IngressController("node-1", node_port=30080, external_traffic_policy=policy)
    dns = dns or Dns(replicas=1, upstream={"example.com": "203.0.113.10"})
    cluster = Cluster(2, find(mode, **options), dns=dns, ingress_controller=controller)
    cluster.pod("a", 1, namespace="shop")
    b = cluster.pod("b", 2, namespace="prod", http=8080)
    web = cluster.service("web", 80, pods=[b], target_port=8080, namespace="prod", ip="10.96.7.7")
    cluster.service("db", 5432, pods=[b], namespace="prod", ip="None")
    many = [Endpoint(f"192.0.2.{n}") for n in range(1, 61)]
    cluster.service("many", 80, pods=many, namespace="prod", ip="None")
    cluster.ingress("shop.example", web)
    return build(cluster)


def agree(network: Network, walks: list[tuple[str, str]]) -> None:
    if reason := why_not():
        pytest.skip(reason)
    from packetwalk.kernel.realise import missing_features  # which needs Linux

    if missing := missing_features(network):
        pytest.skip(f"this kernel has no {', '.join(missing)}")
    for walk, proof in zip(walks, prove_urls(network, walks), strict=True):
        assert proof.agrees, f"{walk}: {proof}"
        assert str(proof).startswith("kernel agrees: ")


WHOLE = ("flannel-vxlan",)
"""The modes that take all of them; the others, which are left to `make test-all`, the first and the last two."""


@pytest.mark.parametrize("mode", [m if m in WHOLE else pytest.param(m, marks=pytest.mark.long) for m in MODES])
def test_the_kernel_agrees_about_names_under_every_mode(mode: str) -> None:
    agree(town(mode), WALKS if mode in WHOLE else [*WALKS[:1], *WALKS[-2:]])


def test_the_kernel_agrees_about_whom_a_proxy_sees() -> None:
    agree(town("flannel-vxlan", "Local"), WALKS[-1:])


def test_the_kernel_agrees_about_node_local_dns() -> None:
    agree(town("flannel-vxlan", dns=Dns(node_local=True)), WALKS[:3])


def test_the_kernel_may_draw_another_backend() -> None:
    """It cannot be told which: the walk that draws as it did is found by trying."""
    agree(build(default_cluster(find("flannel-host-gw"), dns=True)), [("a", "http://web"), ("c", "http://web.default")])
