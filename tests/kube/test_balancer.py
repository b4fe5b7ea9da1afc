"""Load balancers of services and of the control plane: who has the address, and how traffic for it reaches a pod."""

import dataclasses

import pytest

from packetwalk.addr import IPv4
from packetwalk.cni import MODES, find
from packetwalk.engine.fetch import fetch
from packetwalk.engine.walk import walk
from packetwalk.kube.balancer import Front, LoadBalancer, speakers, translation
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, Node
from packetwalk.kube.dns import Dns
from packetwalk.kube.service import Endpoint, Service, ServicePort
from packetwalk.netns.socket import Delivery
from packetwalk.network import Network
from packetwalk.snapshot.iptables_save import read_iptables
from packetwalk.trace import Trace

KINDS = {
    "l2": LoadBalancer("l2"),
    "bgp": LoadBalancer("bgp"),
    "cloud": LoadBalancer("cloud"),
    "direct return": LoadBalancer("cloud", direct_return=True),
}


def cluster_of(balancer: LoadBalancer | None, mode: str = "flannel-host-gw", **options: object) -> Cluster:
    """Three nodes; the pod behind the service `web` is on the second."""
    cluster = Cluster(3, find(mode), load_balancer=balancer)
    pod = cluster.pod("b", 2, listen=8080)
    cluster.service("web", 80, target_port=8080, pods=[pod], type="LoadBalancer", **options)
    return cluster


def client_of(trace: Trace, room: str = "b") -> str:
    """Whom the pod sees."""
    steps = (s for h, s in trace.steps if h.room == room and isinstance(s.what, Delivery) and s.what.kind == "segment")
    return str(next(steps).packet.headers[0].src)  # type: ignore[union-attr]


def announcers(network: Network) -> dict[str, str]:
    """Who answers ARP: {address: node}."""
    return {str(IPv4(ip)): room.name for room in network for _, ip in room.sockets.responders}


# -- under every mode and kind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_client_outside_reaches_the_service_by_its_name(mode: str, kind: str) -> None:
    network = build(cluster_of(KINDS[kind], mode))
    trace = walk(network, "out", "web:80")
    assert trace.result.outcome == "connected"
    assert trace.flow.dst == network.published["web"] != network.services["web"]
    assert ("lb" in {h.room for h in trace.hops}) == (KINDS[kind].mode == "cloud")


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_policy_local_the_node_of_the_pod_gets_it_and_the_client_is_seen(kind: str) -> None:
    """But a machine that translates hides the client behind itself, whatever the policy."""
    network = build(cluster_of(KINDS[kind], external_traffic_policy="Local"))
    trace = walk(network, "out", "web:80")
    assert not {"node-1", "node-3"} & {h.room for h in trace.hops}
    assert client_of(trace) == ("192.168.56.2" if kind == "cloud" else "203.0.113.10")


@pytest.mark.parametrize("kind", KINDS)
def test_source_ranges(kind: str) -> None:
    """kube-proxy drops strangers; where the machine translates, it has to, since node ports know no ranges."""
    few, many = (build(cluster_of(KINDS[kind], load_balancer_source_ranges=(source,)))
                 for source in ("198.18.0.0/15", "203.0.113.0/24"))  # fmt: skip
    trace = walk(few, "out", "web:80")
    assert trace.result.outcome == "timeout" and trace.drops
    assert {room for room, _ in trace.drops} <= ({"lb"} if kind == "cloud" else {"node-1", "node-2", "node-3"})
    assert walk(many, "out", "web:80").result.outcome == "connected"


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_endpoint_nobody_connects(kind: str) -> None:
    cluster = Cluster(2, find("flat-bridge"), load_balancer=KINDS[kind])
    cluster.service("web", 80, type="LoadBalancer")
    assert walk(build(cluster), "out", "web:80").result.outcome in ("timeout", "error")


def test_pods_take_the_short_cut_of_kube_proxy() -> None:
    cluster = cluster_of(LoadBalancer("cloud"))
    cluster.pod("a", 1)
    network = build(cluster)
    trace = walk(network, "a", f"{network.published['web']}:80")
    assert trace.result.outcome == "connected" and "lb" not in {h.room for h in trace.hops}
    assert walk(network, "a", "web:80").flow.dst == network.services["web"]


# -- l2 ----------------------------------------------------------------------------------------------------------------


def test_the_node_whose_hash_with_the_address_is_lowest_answers() -> None:
    """sha256 of NODE#ADDRESS, as MetalLB's speakers sort themselves."""
    cluster = cluster_of(LoadBalancer("l2"))
    cluster.service("too", 80, pods=cluster.pods, type="LoadBalancer")
    assert announcers(build(cluster)) == {"192.168.56.240": "node-1", "192.168.56.241": "node-2"}
    (local,) = announcers(build(cluster_of(LoadBalancer("l2"), external_traffic_policy="Local"))).items()
    assert local == ("192.168.56.240", "node-2")


def test_no_device_has_the_address() -> None:
    network = build(cluster_of(LoadBalancer("l2")))
    assert not any(room.is_own(network.published["web"]) for room in network)
    asked = walk(network, "out", "web:80", cold=True)
    assert any("arp responder for 192.168.56.240" in str(s.what) for h, s in asked.steps if h.room == "node-1")


def test_a_card_that_is_a_port_of_the_bridge_leaves_the_answer_to_the_bridge() -> None:
    cluster = Cluster(2, find("flat-bridge", segment=True, hairpin=True), load_balancer=LoadBalancer("l2"))
    cluster.service("web", 80, pods=[cluster.pod("b", 2, listen=80)], type="LoadBalancer")
    network = build(cluster)
    assert {dev for room in network for dev, _ in room.sockets.responders} == {"cni0"}


def test_speakers_want_an_endpoint_that_serves() -> None:
    port = (ServicePort(80),)
    ends = (Endpoint("1", "x", ready=False), Endpoint("2", "y", ready=False, serving=True), Endpoint("3", "z"))
    assert speakers(Service("s", port, ends), "xyz") == ["x", "y", "z"]
    assert speakers(Service("s", port, ends, external_traffic_policy="Local"), "xyz") == ["y", "z"]
    assert speakers(Service("s", port, ends[:1]), "xyz") == []


# -- bgp ---------------------------------------------------------------------------------------------------------------


def test_routers_spread_the_traffic_over_the_nodes_that_tell_them() -> None:
    network = build(cluster_of(LoadBalancer("bgp")))
    assert [f"nexthop via 192.168.56.{n} dev eth0" in network["router"].routes for n in (11, 12, 13)] == [True] * 3
    alone = build(cluster_of(LoadBalancer("bgp"), external_traffic_policy="Local"))
    assert "198.51.100.0 via 192.168.56.12 dev eth0 proto bird" in alone["router"].routes


def test_leaves_and_spines_know_the_way() -> None:
    cluster = Cluster(4, find("calico-bgp", peer_fabric=True), racks=2, spines=2, load_balancer=LoadBalancer("bgp"))
    pods = cluster.deployment("web", 4, listen=80)
    cluster.service("web", 80, pods=pods, type="LoadBalancer", external_traffic_policy="Local")
    network = build(cluster)
    assert walk(network, "out", "web:80").result.outcome == "connected"
    assert network["spine-1"].routes.count("nexthop via 100.64.0.") == 2  # a leaf each


# -- cloud -------------------------------------------------------------------------------------------------------------


def test_health_checks_leave_out_nodes_without_an_endpoint_that_is_ready() -> None:
    backs = {
        policy: [str(r.target) for r in build(cluster_of(LoadBalancer("cloud"), external_traffic_policy=policy))["lb"]
                 .netfilter.tables["nat"].chains.popitem()[1].rules]
        for policy in ("Cluster", "Local")
    }  # fmt: skip
    assert [len(rules) for rules in backs.values()] == [3, 1]
    assert "192.168.56.12:" in backs["Local"][0]


def test_what_a_machine_does_is_text_of_iptables() -> None:
    text = translation([Front("ns/web", "198.51.100.7", 80, ((IPv4("10.0.0.1"), 30080), (IPv4("10.0.0.2"), 30080)),
                              sources=("203.0.113.0/24",))])  # fmt: skip
    rules = str(read_iptables(text, "lb"))
    assert '-A PREROUTING -s 203.0.113.0/24 -d 198.51.100.7/32 -p tcp -m comment --comment "ns/web"' in rules
    assert "--probability 0.50000000000 -j DNAT --to-destination 10.0.0.1:30080" in rules
    assert '-A INPUT -d 198.51.100.7/32 -p tcp -m comment --comment "ns/web" -m tcp --dport 80 -j DROP' in rules


# -- what cannot be ----------------------------------------------------------------------------------------------------


def racked(balancer: LoadBalancer, **options: object) -> Cluster:
    cluster = Cluster(2, find("calico-bgp", peer_fabric=True), racks=2, load_balancer=balancer)
    cluster.service("web", 80, pods=[cluster.pod("b", 2, listen=80)], type="LoadBalancer", **options)
    return cluster


def used_up() -> Cluster:
    cluster = Cluster(1, find("flat-bridge"), load_balancer=LoadBalancer("bgp", pool="198.18.0.0/31"))
    for name in "xyz":
        cluster.service(name, 80, type="LoadBalancer")
    return cluster


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (used_up(), "service 'z': no address is left in the load balancer's pool 198.18.0.0/31"),
        (racked(KINDS["direct return"]), "'web': direct_return hands frames to nodes, so all must be in one rack"),
        (racked(LoadBalancer("l2", pool="10.9.0.0/28")), "'web': 10.9.0.0 is in no subnet of a node that could answer"),
        (Cluster(1, find("flat-bridge"), load_balancer=LoadBalancer("bgp", "10.96.0.0/24")), "overlaps load balancer"),
    ],
)  # fmt: skip
def test_what_cannot_be(cluster: Cluster, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(cluster)


def test_words_that_are_none() -> None:
    with pytest.raises(ValueError, match="there is no load balancer 'l3'; there are l2, bgp, cloud"):
        LoadBalancer("l3")
    with pytest.raises(ValueError, match="direct_return is for a cloud"):
        LoadBalancer("bgp", direct_return=True)


def test_addresses_asked_for_and_of_nodes_are_passed_over() -> None:
    nodes = [Node("n", "192.168.56.240"), Node("m")]
    cluster = Cluster(nodes, find("flat-bridge"), load_balancer=LoadBalancer("l2"))
    cluster.service("x", 80, type="LoadBalancer", load_balancer_ips=("192.168.56.241",))
    cluster.service("y", 80, type="LoadBalancer")
    cluster.service("z", 80, external_ips=("192.0.2.1",))
    assert {n: str(ip) for n, ip in build(cluster).published.items() if "." not in n} == {
        "x": "192.168.56.241", "y": "192.168.56.242", "z": "192.0.2.1"}  # fmt: skip


def test_nobody_serves_them_where_there_is_no_balancer() -> None:
    network = build(cluster_of(None))
    assert network.published == {} and not announcers(network)


# -- the control plane -------------------------------------------------------------------------------------------------


def planes(*, balancer: bool, endpoint: str = "192.168.56.10") -> Cluster:
    nodes = [*(Node(f"m{i}", control_plane=True) for i in (1, 2, 3)), Node("w")]
    cluster = Cluster(nodes, find("flannel-host-gw"), api_endpoint=endpoint, api_balancer=balancer)
    cluster.pod("a", "w")
    return cluster


@pytest.mark.parametrize("balancer", [False, True])
def test_kubelets_go_to_the_endpoint_and_pods_past_it(balancer: bool) -> None:
    network = build(planes(balancer=balancer))
    kubelet = walk(network, "w/kubelet", "control-plane:6443")
    assert kubelet.result.peer == "192.168.56.10:6443"
    assert ("api-lb" in {h.room for h in kubelet.hops}) == balancer
    assert network["m1"].is_own(IPv4("192.168.56.10")) != balancer
    pod = walk(network, "a", "kubernetes:443")
    assert pod.result.outcome == "connected" and "api-lb" not in {h.room for h in pod.hops}


def test_a_machine_takes_no_address_that_is_taken() -> None:
    cluster = planes(balancer=False, endpoint="192.168.56.2")
    cluster = dataclasses.replace(cluster, load_balancer=LoadBalancer("cloud"))
    cluster.service("web", 80, type="LoadBalancer")
    assert str(build(cluster)["lb"].device("eth0").addrs[0].local) == "192.168.56.3"


def test_without_an_endpoint_it_is_the_first_api_server() -> None:
    network = build(planes(balancer=False, endpoint=""))
    assert walk(network, "w/kubelet", "control-plane:6443").result.peer == "192.168.56.11:6443"


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (planes(balancer=False, endpoint="192.168.56.12"), "192.168.56.12 is the address of node 'm2'; one of its own"),
        (planes(balancer=True, endpoint="10.9.9.9"), "API endpoint 10.9.9.9 is no free address of 192.168.56.0/24"),
        (planes(balancer=False, endpoint="192.168.56.1"), "API endpoint 192.168.56.1 is no free address"),
        (Cluster(1, find("flat-bridge"), api_endpoint="192.168.56.10"), "leads nowhere: no node is a control_plane"),
    ],
)  # fmt: skip
def test_endpoints_that_cannot_be(cluster: Cluster, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(cluster)


@pytest.mark.parametrize("dns", [None, Dns()])
def test_a_client_outside_follows_a_url_to_the_published_address(dns: Dns | None) -> None:
    """By the resolver outside, or by its hosts file where the cluster has no DNS."""
    cluster = Cluster(2, find("flannel-host-gw"), load_balancer=LoadBalancer("l2"), dns=dns)
    cluster.service("web", 80, target_port=8080, pods=[cluster.pod("b", 2, http=8080)], type="LoadBalancer")
    found = fetch(build(cluster), "out", "http://web.default/")
    assert found.delivered and len(found.queries) == (1 if dns else 0)
