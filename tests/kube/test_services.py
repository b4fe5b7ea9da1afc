"""Services of a cluster: what the control plane fills in, who finds them by name, and where their rules stand."""

import dataclasses

import pytest

from packetwalk.addr import IPv4, Prefix
from packetwalk.cni import find
from packetwalk.engine.walk import between, walk
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, Node, default_cluster
from packetwalk.kube.controlplane import filled
from packetwalk.kube.kubeproxy import KubeProxy
from packetwalk.kube.rules import beside
from packetwalk.kube.service import Endpoint, Service, ServicePort
from packetwalk.network import Network
from packetwalk.snapshot.iptables_save import read_iptables

CIDR = Prefix.parse("10.96.0.0/12")
HTTP = (ServicePort(80),)
PODS = {"a": (IPv4("10.244.1.2"), "node-1"), "shop/b": (IPv4("10.244.2.2"), "node-2")}


def built_in(network: Network, room: str, table: str, chain: str) -> list[str]:
    """Where the rules of a built-in chain lead."""
    rules = network[room].netfilter.tables[table].chains[chain].rules
    return [rule.target.name for rule in rules if rule.target is not None]


def test_addresses_come_from_behind_the_band_of_those_who_ask() -> None:
    """KEP 3070: of a /12 the first 256; KEP 3668: of the node ports the first 86."""
    made = filled([Service("x", HTTP), Service("y", HTTP, type="NodePort")], CIDR, {})
    assert [s.cluster_ip for s in made] == ["10.96.1.1", "10.96.1.2"]
    assert [s.ports[0].node_port for s in made] == [0, 30086]


def test_who_asks_gets_what_is_asked_for() -> None:
    asked = Service("y", (ServicePort(80, node_port=30086),), type="NodePort", cluster_ip="10.96.1.1")
    free, kept = filled([Service("x", HTTP, type="NodePort"), asked], CIDR, {})
    assert (kept.cluster_ip, kept.ports[0].node_port) == ("10.96.1.1", 30086)
    assert (free.cluster_ip, free.ports[0].node_port) == ("10.96.1.2", 30087)


def test_small_ranges_are_used_up_to_the_band_and_then_it() -> None:
    small = Prefix.parse("10.0.0.0/27")  # 30 addresses, of which the first 16 are the band
    made = filled([Service(f"s{i}", HTTP) for i in range(30)], small, {})
    assert [made[0].cluster_ip, made[13].cluster_ip, made[14].cluster_ip] == ["10.0.0.17", "10.0.0.30", "10.0.0.1"]
    with pytest.raises(ValueError, match="service 's30': no cluster IP is left"):
        filled([Service(f"s{i}", HTTP) for i in range(31)], small, {})


def test_endpoints_get_their_pods_address_and_node() -> None:
    (made,) = filled([Service("x", HTTP, (Endpoint(pod="shop/b", ready=False), Endpoint("192.0.2.1")))], CIDR, PODS)
    assert made.endpoints == (Endpoint("10.244.2.2", "node-2", "shop/b", ready=False), Endpoint("192.0.2.1"))


def test_a_health_check_port_where_the_policy_wants_one() -> None:
    local = Service("x", HTTP, type="LoadBalancer", external_traffic_policy="Local")
    made = filled([local, dataclasses.replace(local, name="y", external_traffic_policy="Cluster")], CIDR, {})
    assert [bool(s.health_check_node_port) for s in made] == [True, False]


@pytest.mark.parametrize(
    ("services", "message"),
    [
        ([Service("x", HTTP), Service("x", HTTP)], "two services are called 'default/x'"),
        ([Service("x", HTTP, cluster_ip="10.95.0.1")], "service 'x': cluster IP 10.95.0.1 is out of range: 10.96"),
        ([Service(n, HTTP, cluster_ip="10.96.0.9") for n in "xy"], "service 'y': cluster IP 10.96.0.9 is taken by"),
        ([Service("x", HTTP, (Endpoint(pod="b"),))], "service 'x': there is no pod 'b'; "),
    ],
)  # fmt: skip
def test_services_that_cannot_be(services: list[Service], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        filled(services, CIDR, PODS)


def test_a_service_in_python() -> None:
    cluster = Cluster(2, find("flannel-vxlan"))
    a, b = cluster.pod("a", 1), cluster.pod("b", 2, namespace="shop", listen=8080)
    web = cluster.service("web", 80, pods=[a, b], target_port=8080, namespace="shop")
    assert (web.type, web.endpoints) == ("ClusterIP", (Endpoint(pod="a"), Endpoint(pod="shop/b")))
    network = build(cluster)
    assert network.services == {"web.shop": IPv4("10.96.1.1")}
    flow = between(network, a, web, tcp=80)
    assert (flow.dst, flow.dport, flow.to) == (IPv4("10.96.1.1"), 80, "web.shop")
    assert build(cluster.using(find("calico-ipip"))).services == network.services


def test_where_a_walk_may_go() -> None:
    network = build(default_cluster(find("flat-bridge")))
    web = IPv4("10.96.1.1")
    ends = {
        end: between(network, "a", end) for end in ("web", "web:80", "b", "node-1:30080", "10.96.1.1:80", "web.default")
    }
    assert [(f.kind, f.dport) for f in ends.values()] == [
        ("icmp", 0), ("tcp", 80), ("icmp", 0), ("tcp", 30080), ("tcp", 80), ("icmp", 0)]  # fmt: skip
    assert {ends[end].dst for end in ("web", "web:80", "10.96.1.1:80", "web.default")} == {web}
    assert between(network, "a", "web:53", udp=53).kind == "udp"
    with pytest.raises(ValueError, match="'web:80' has a port, and so has --tcp 81"):
        between(network, "a", "web:80", tcp=81)
    with pytest.raises(ValueError, match="a port from 1 to 65535 was expected behind the colon, not '99999'"):
        between(network, "a", "web:99999")


def test_a_room_of_the_same_name_goes_first() -> None:
    cluster = default_cluster(find("flat-bridge"))
    cluster.pod("web", 2)
    network = build(cluster)
    assert between(network, "a", "web").dst != between(network, "a", "web.default").dst == IPv4("10.96.1.1")


def test_api_servers_are_a_service_where_there_are_any() -> None:
    cluster = Cluster([Node("cp", control_plane=True), Node("w")], find("flat-bridge"))
    network = build(cluster)
    assert network.services["kubernetes"] == IPv4("10.96.0.1")
    nat = network["w"].netfilter.tables["nat"].chains["KUBE-SERVICES"].rules
    assert "-d 10.96.0.1/32" in str(nat[0]) and str(nat[0]).endswith("-j KUBE-SVC-NPX46M4PTMTKRN6Y")
    assert [socket.port for socket in network["cp"].sockets.listeners()] == [6443, 6443]


def test_without_services_kube_proxy_writes_nothing() -> None:
    network = build(Cluster(2, find("flannel-vxlan")))
    assert not [c for t in network["node-1"].netfilter.tables.values() for c in t.chains if c.startswith("KUBE")]


def test_jumps_of_flannel_stand_below_those_of_kube_proxy_and_calicos_above() -> None:
    """The order on recorded nodes (S11); only that Felix appends in POSTROUTING."""
    flannel, calico = (build(default_cluster(find(mode))) for mode in ("flannel-vxlan", "calico-ipip"))
    kube = ["KUBE-PROXY-FIREWALL", "KUBE-FORWARD", "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES"]
    assert built_in(flannel, "node-1", "filter", "FORWARD") == [*kube, "FLANNEL-FWD"]
    assert built_in(calico, "node-1", "filter", "FORWARD") == ["cali-FORWARD", *kube, "ACCEPT", "MARK"]
    assert built_in(flannel, "node-1", "nat", "POSTROUTING") == ["KUBE-POSTROUTING", "FLANNEL-POSTRTG"]
    assert built_in(calico, "node-1", "nat", "POSTROUTING") == ["KUBE-POSTROUTING", "cali-POSTROUTING"]
    assert built_in(calico, "node-1", "nat", "PREROUTING") == ["cali-PREROUTING", "KUBE-SERVICES"]


def test_the_policies_of_a_cnis_tables_hold_and_its_own_table_is_kept() -> None:
    proxied = read_iptables("*filter\n:KUBE-X - [0:0]\n-A INPUT -j KUBE-X\nCOMMIT\n")
    cni = read_iptables("*filter\n:FORWARD DROP [0:0]\n-A INPUT -j ACCEPT\nCOMMIT\n*raw\n-A OUTPUT -j ACCEPT\nCOMMIT\n")
    both = beside(proxied, cni, lambda chain: 1)
    assert both.tables["filter"].chains["FORWARD"].policy == "DROP"
    assert [str(r) for r in both.tables["filter"].chains["INPUT"].rules] == ["-A INPUT -j ACCEPT", "-A INPUT -j KUBE-X"]
    assert [str(r) for r in both.tables["raw"].chains["OUTPUT"].rules] == ["-A OUTPUT -j ACCEPT"]


def test_nodes_share_what_kube_proxy_writes_alike() -> None:
    network = build(default_cluster(find("calico-ipip")))
    one, two = (network[node].netfilter.tables["nat"].chains for node in ("node-1", "node-2"))
    assert one["KUBE-SERVICES"] is two["KUBE-SERVICES"]
    assert one["PREROUTING"] is not two["PREROUTING"]


def test_what_kube_proxy_sets_on_a_node() -> None:
    cluster = dataclasses.replace(
        default_cluster(find("flat-bridge")), kube_proxy=KubeProxy(localhost_node_ports=False)
    )
    on, off = build(default_cluster(find("flat-bridge")))["node-1"], build(cluster)["node-1"]
    assert (on.conf("eth0").route_localnet, off.conf("eth0").route_localnet) == (1, 0)
    assert on.sysctls["net.netfilter.nf_conntrack_tcp_timeout_established"] == 86400


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_a_service_over_sctp(mode: str) -> None:
    cluster = Cluster(2, find("flannel-vxlan"), kube_proxy=KubeProxy(mode=mode))
    a, b = cluster.pod("a", 1), cluster.pod("b", 2, sctp=3868)
    web = cluster.service("diameter", 80, pods=[b], target_port=3868, protocol="SCTP", node_port=30080)
    network = build(cluster)
    trace = walk(network, a, web, sctp=80)
    assert (trace.result.outcome, trace.result.src) == ("reply", "10.96.1.1:80")
    (conn,) = trace.after["node-1"].conns.all()[:1]
    assert conn.text(trace.result.at).startswith("sctp     132 2 COOKIE_WAIT src=10.244.1.2 dst=10.96.1.1 sport=40000")
    assert walk(network, "out", "node-1", sctp=30080).result.outcome == "reply"
    assert walk(network, a, b, sctp=81).result.errno == "ECONNREFUSED"
    assert walk(network, b, a, sctp=81).result.errno == "ENOPROTOOPT"
