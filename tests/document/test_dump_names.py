"""Names in objects of Kubernetes: CoreDNS, ExternalName, hostnames, dnsConfig and ingresses of a dump."""

from __future__ import annotations

from pathlib import Path

import pytest

from packetwalk.addr import IPv4
from packetwalk.document import DocumentError, load_cluster
from packetwalk.engine.fetch import fetch
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster
from packetwalk.kube.ingress import Ingress

NODES = """
kind: List
items:
- kind: Node
  metadata: {name: n1}
  spec: {podCIDR: 10.244.0.0/24}
  status: {addresses: [{type: InternalIP, address: 10.0.0.11}]}
- kind: Node
  metadata: {name: n2}
  spec: {podCIDR: 10.244.1.0/24}
  status: {addresses: [{type: InternalIP, address: 10.0.0.12}]}
"""
PODS = """
---
kind: List
items:
- kind: Pod
  metadata: {name: coredns-5d78c-x2x7p, namespace: kube-system, labels: {k8s-app: kube-dns}}
  spec: {nodeName: n2, dnsPolicy: Default, containers: [{name: coredns, ports: [{containerPort: 53, protocol: UDP}]}]}
  status: {phase: Running, podIP: 10.244.1.5}
- kind: Pod
  metadata: {name: shop-0, namespace: prod, labels: {app: shop}}
  spec:
    nodeName: n2
    hostname: shop-0
    subdomain: peers
    dnsConfig: {options: [{name: ndots, value: "2"}, {name: edns0}], searches: [corp.example]}
    containers: [{name: c, ports: [{containerPort: 9000, name: http-web}, {containerPort: 9001}]}]
  status: {phase: Running, podIP: 10.244.1.6}
- kind: Pod
  metadata: {name: a}
  spec: {nodeName: n1, containers: [{name: c}]}
  status: {phase: Running, podIP: 10.244.0.7}
- kind: Pod
  metadata:
    name: ingress-nginx-controller-7f9c
    namespace: ingress-nginx
    labels: {app.kubernetes.io/name: ingress-nginx, app.kubernetes.io/component: controller}
  spec: {nodeName: n1, containers: [{name: controller, ports: [{containerPort: 80, name: http}]}]}
  status: {phase: Running, podIP: 10.244.0.8}
- kind: Service
  metadata: {name: kube-dns, namespace: kube-system}
  spec:
    clusterIP: 10.96.0.10
    selector: {k8s-app: kube-dns}
    ports: [{name: dns, port: 53, protocol: UDP, targetPort: 53}, {name: dns-tcp, port: 53, targetPort: 53}]
- kind: Service
  metadata: {name: shop, namespace: prod}
  spec: {clusterIP: 10.96.4.4, selector: {app: shop}, ports: [{name: web, port: 80, targetPort: http-web}]}
- kind: Service
  metadata: {name: peers, namespace: prod}
  spec: {clusterIP: None, selector: {app: shop}, publishNotReadyAddresses: true, ports: [{port: 9001}]}
- {kind: Service, metadata: {name: mail}, spec: {type: ExternalName, externalName: mail.example.com}}
- kind: Service
  metadata: {name: front, namespace: ingress-nginx}
  spec:
    type: NodePort
    clusterIP: 10.96.5.5
    externalTrafficPolicy: Local
    selector: {app.kubernetes.io/name: ingress-nginx}
    ports: [{port: 80, targetPort: http, nodePort: 30080}]
- kind: Ingress
  metadata: {name: shop, namespace: prod}
  spec:
    rules:
    - host: shop.example
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop, port: {name: web}}}}]}
"""


def town(tmp_path: Path, text: str = "", beside: str = "cni: flannel-vxlan\n") -> Cluster:
    path = tmp_path / "dump.yaml"
    path.write_text(f"{beside}---{NODES}{text or PODS}", encoding="utf-8")
    return load_cluster(path)


def test_the_dns_of_a_dump_answers_in_its_own_pods(tmp_path: Path) -> None:
    net = build(town(tmp_path))
    assert [room for room in net.rooms if "coredns" in room] == ["kube-system/coredns-5d78c-x2x7p"]
    found = fetch(net, "a", "http://shop.prod")
    assert found.words == "200 OK: prod/shop-0 saw 10.244.0.7:32768"
    assert [about.split()[0] for about, _ in found.queries] == ["shop.prod.default.svc.cluster.local",
                                                                "shop.prod.svc.cluster.local"]  # fmt: skip
    assert "kube-system/coredns-5d78c-x2x7p" in {hop.room for hop in found[0]}
    assert fetch(net, "a", "dns:shop-0.peers.prod").words == "A 10.244.1.6, AAAA no data"
    assert fetch(net, "a", "dns:mail?type=CNAME").words == "CNAME mail.example.com."


def test_what_a_pod_has_of_its_own(tmp_path: Path) -> None:
    conf = build(town(tmp_path)).resolvers["prod/shop-0"]
    assert (conf.ndots, conf.nameservers) == (2, (IPv4("10.96.0.10"),))
    assert conf.search == ("prod.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example")


def test_the_ingress_of_a_dump_is_served_by_its_own_controller(tmp_path: Path) -> None:
    cluster = town(tmp_path)
    assert cluster.ingresses == [Ingress("shop.example", "prod/shop", "/", 80)]
    net = build(cluster)
    found = fetch(net, "out", "http://shop.example:30080/")
    assert found.words == "200 OK: prod/shop-0 saw 10.244.0.8:32768, forwarded for 203.0.113.10"
    assert not [room for room in net.rooms if room == "ingress-nginx/ingress-nginx-controller"]


def test_a_document_beside_it_goes_first(tmp_path: Path) -> None:
    assert town(tmp_path, beside="cni: flannel-vxlan\ndns: false\n").dns is None
    net = build(town(tmp_path, beside="cni: flannel-vxlan\ndns: {node_local: true}\n"))
    assert "nodelocaldns" in net["n1"].devices
    assert fetch(net, "a", "http://shop.prod").delivered


def test_pods_of_node_local_dns_are_a_cache(tmp_path: Path) -> None:
    pod = """- kind: Pod
  metadata: {name: node-local-dns-8x2kq, namespace: kube-system, labels: {k8s-app: node-local-dns}}
  spec: {nodeName: n1, hostNetwork: true, dnsPolicy: Default, containers: [{name: node-cache}]}
  status: {phase: Running, podIP: 10.0.0.11}
"""
    dns = town(tmp_path, PODS + pod).dns
    assert dns is not None and dns.node_local
    assert town(tmp_path, "\n---\nkind: Pod\nmetadata: {name: a}\nspec: {nodeName: n1}\n").dns is None


@pytest.mark.parametrize(("wrong", "words"), [
    ("{name: wev}", "service prod/shop: there is no port 'wev'; did you mean 'web'?"),
    ("{nunber: 80}", "there is no field 'nunber'; did you mean 'number'?"),
])  # fmt: skip
def test_what_is_wrong_with_an_ingress(wrong: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as error:
        town(tmp_path, PODS.replace("port: {name: web}", f"port: {wrong}"))
    assert words in str(error.value)
