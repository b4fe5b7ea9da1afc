"""packetwalk.kube.ingress and ingress_nginx: requests of the outside through a proxy, two connections each."""

from dataclasses import replace

import pytest

from packetwalk.cni import find, modes
from packetwalk.engine.fetch import fetch
from packetwalk.engine.walk import address_of
from packetwalk.exchanges import Fetch
from packetwalk.kube.balancer import LoadBalancer
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster
from packetwalk.kube.dns import Dns
from packetwalk.kube.ingress import IngressController
from packetwalk.kube.ingress_nginx import LABELS
from packetwalk.packet import Tcp, innermost

OUT = "203.0.113.10"


def shop(dns: Dns | None = None, mode: str = "flannel-vxlan", **controller: object) -> Cluster:
    """The pod b on node-2 behind the service web, and the proxy on node-1."""
    cluster = Cluster(2, find(mode), dns=dns, ingress_controller=IngressController(**controller))  # type: ignore[arg-type]
    cluster.pod("a", 1)
    b = cluster.pod("b", 2, http=8080)
    web = cluster.service("web", 80, pods=[b], target_port=8080)
    cluster.ingress("shop.example", web)
    return cluster


def connections(found: Fetch) -> set[tuple[str, str, int]]:
    """(source, destination, port) of every SYN that reached a listener."""
    return {
        (str(ip.src), str(ip.dst), header.dport)
        for _, step in found.whole.steps if step.stage == "deliver"
        for header in step.packet.headers if isinstance(header, Tcp) and header.flags == "S"
        if (ip := innermost(step.packet)) is not None
    }  # fmt: skip


def test_on_the_hosts_network_the_proxy_sees_the_client_and_the_pod_sees_the_proxy() -> None:
    net = build(shop(host_network=True))
    found = fetch(net, "out", "http://shop.example/cart")
    assert found.words == "200 OK: b saw 10.244.1.0:32768, forwarded for 203.0.113.10"
    assert connections(found) == {(OUT, "192.168.56.11", 80), ("10.244.1.0", "10.244.2.2", 8080)}
    told = "GET shop.example/cart x-forwarded-for 203.0.113.10 to default/web at 10.244.2.2:8080"
    assert f"ingress-nginx {told}" in str(found)


@pytest.mark.parametrize(("policy", "node", "words"), [
    ("Cluster", "node-1", "200 OK: b saw 10.244.1.3:32768, forwarded for 10.244.1.1"),
    ("Cluster", "node-2", "200 OK: b saw 10.244.1.3:32768, forwarded for 10.244.2.0"),
    ("Local", "node-1", f"200 OK: b saw 10.244.1.3:32768, forwarded for {OUT}"),
    ("Local", "node-2", "timeout"),
])  # fmt: skip
def test_behind_a_node_port_the_policy_decides_whom_the_proxy_sees(policy: str, node: str, words: str) -> None:
    net = build(shop(node_port=30080, external_traffic_policy=policy))
    hosts = {"shop.example": address_of(net, node)}
    found = fetch(net, "out", "http://shop.example:30080/", hosts=hosts)
    assert (found.words, found.delivered) == (words, words.startswith("200"))


@pytest.mark.parametrize("mode", modes())
def test_every_kind_of_network(mode: str) -> None:
    found = fetch(build(shop(mode=mode, host_network=True, node="node-2")), "out", "http://shop.example/")
    assert found.delivered and found.words.endswith(f"forwarded for {OUT}")


def test_the_outside_knows_the_host_by_dns_where_there_is_one() -> None:
    net = build(shop(Dns(), host_network=True))
    found = fetch(net, "out", "http://shop.example/")
    assert [about for about, _ in found.queries] == ["shop.example A, AAAA"] and found.delivered
    inside = fetch(net, "a", "http://shop.example/")
    assert len(inside.queries) == 4 and inside.delivered, "a pod finds it, too, by CoreDNS and the resolver outside"


def test_other_hosts_and_services_without_endpoints() -> None:
    cluster = shop(host_network=True)
    cluster.service("idle", 80)
    cluster.ingress("idle.example", "idle")
    net = build(cluster)
    hosts = {name: address_of(net, "node-1") for name in ("other.example", "idle.example")}
    assert fetch(net, "out", "http://other.example/", hosts=hosts).words.startswith("404 Not Found")
    found = fetch(net, "out", "http://idle.example/", hosts=hosts)
    assert (found.words, found.delivered) == ("503 Service Temporarily Unavailable", False)


@pytest.mark.parametrize(("change", "words"), [
    (lambda c: c.ingress("x.example", "webb"), "no service 'default/webb'; did you mean 'default/web'"),
    (lambda c: c.ingress("x.example", "web", port=81), "'default/web' has no port 81, only 80"),
])  # fmt: skip
def test_what_cannot_be(change: object, words: str) -> None:
    cluster = shop(host_network=True)
    change(cluster)  # type: ignore[operator]
    with pytest.raises(ValueError, match=words):
        build(cluster)
    with pytest.raises(ValueError, match="did you mean 'node-1'"):
        build(shop(node="node-11"))


@pytest.mark.parametrize("balancer", ["l2", "bgp", "cloud"])
def test_behind_a_load_balancer(balancer: str) -> None:
    cluster = replace(shop(load_balancer=True), load_balancer=LoadBalancer(balancer))
    found = fetch(build(cluster), "out", "http://shop.example/cart")
    assert found.delivered, found.minimal()
    assert "200 OK: b saw 10.244.1.3:32768, forwarded for" in found.words


def test_a_controller_that_is_there_is_taken() -> None:
    cluster = shop(host_network=True)
    cluster.pod("nginx", 2, labels=LABELS)
    net = build(cluster)
    assert not any("ingress" in room for room in (*net.rooms, *net.programs))
    assert [s.port for s in net["nginx"].sockets.listeners()] == [80]
