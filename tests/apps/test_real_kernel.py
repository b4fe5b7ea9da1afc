"""DNS, HTTP and ingress through this machine's kernel: the same programs over real sockets come to the same answers."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from packetwalk.apps.client import Url
from packetwalk.apps.client import fetch as client
from packetwalk.apps.program import Exchange, Outcome
from packetwalk.cni import MODES, find
from packetwalk.engine.fetch import fetch
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster
from packetwalk.kube.dns import Dns
from packetwalk.kube.ingress import IngressController
from packetwalk.kube.service import Endpoint
from packetwalk.network import Network
from tests.apps.real import Servers, follow
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


def words(said: Iterable[object]) -> list[str]:
    """What a client said, without the ports that a kernel draws."""
    return [re.sub(r"(saw [\d.]+):\d+", r"\1", str(what)) for what in said if isinstance(what, Exchange | Outcome)]


def expected(network: Network, room: str, url: str) -> list[str]:
    found = fetch(network, room, url)
    return words(step.what for hop in found.hops if hop.room == room for step in hop.steps if step.stage == "program")


def agree(network: Network, walks: list[tuple[str, str]]) -> None:
    if reason := why_not():
        pytest.skip(reason)
    from packetwalk.kernel.realise import missing_features, realise  # which needs Linux

    if missing := missing_features(network):
        pytest.skip(f"this kernel has no {', '.join(missing)}")
    with realise(network) as real, Servers(real):
        for room, url in walks:
            conf = network.resolvers[room]
            said = words(follow(real, room, client(Url.parse(url), conf)))
            assert said == expected(network, room, url), f"{url} from {room}"


WHOLE = ("flannel-vxlan",)
"""The modes that take all of them; the others, which are left to `make test-all`, the first and the last two."""


@pytest.mark.parametrize("mode", [m if m in WHOLE else pytest.param(m, marks=pytest.mark.long) for m in MODES])
def test_the_kernel_agrees_about_names_under_every_mode(mode: str) -> None:
    agree(town(mode), WALKS if mode in WHOLE else [*WALKS[:1], *WALKS[-2:]])


def test_the_kernel_agrees_about_whom_a_proxy_sees() -> None:
    agree(town("flannel-vxlan", "Local"), WALKS[-1:])


def test_the_kernel_agrees_about_node_local_dns() -> None:
    agree(town("flannel-vxlan", dns=Dns(node_local=True)), WALKS[:3])
