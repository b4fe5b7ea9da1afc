"""What kube-proxy keeps on a node in IPVS mode: sets, rules, virtual services, the addresses of kube-ipvs0."""

import shutil
import subprocess
from dataclasses import replace
from typing import Any

import pytest

import packetwalk as pw
from packetwalk.addr import IPv4
from packetwalk.cni import MODES, find
from packetwalk.kube.balancer import LoadBalancer
from packetwalk.kube.build import build
from packetwalk.kube.cluster import default_cluster
from packetwalk.kube.kubeproxy import KubeProxy, ProxiedNode
from packetwalk.kube.kubeproxy_ipvs import Written, ipvs
from packetwalk.kube.service import Endpoint, Service, ServicePort
from packetwalk.network import Network
from packetwalk.packet import ARP_REPLY, Arp
from packetwalk.show import show
from packetwalk.snapshot.ipset_save import read_ipsets
from packetwalk.snapshot.iptables_save import read_iptables
from packetwalk.snapshot.ipvsadm_save import read_ipvs

POD_CIDR = "10.244.0.0/16"
NODE = IPv4("192.168.56.11")
WEB = Service(
    "web",
    (ServicePort(80, "http", target_port=8080),),
    (Endpoint("10.244.1.2", "n1"), Endpoint("10.244.2.2", "n2")),
    cluster_ip="10.96.0.100",
)
OUTSIDE = replace(
    WEB, type="LoadBalancer", ports=(ServicePort(80, "http", node_port=30080), ServicePort(53, "dns", "UDP")),
    external_ips=("203.0.113.7",), load_balancer_ips=("203.0.113.8",), health_check_node_port=32000,
    load_balancer_source_ranges=("203.0.113.0/25",), external_traffic_policy="Local",
)  # fmt: skip
IPVS = KubeProxy(mode="ipvs")


def written(*services: Service, proxy: KubeProxy = IPVS, node: str = "n1") -> Written:
    detector = proxy.local_detector(POD_CIDR, "10.244.1.0/24")
    addrs = (NODE, IPv4("10.244.1.1"), IPv4("127.0.0.1"))
    return ipvs(proxy, ProxiedNode(node, NODE, addrs, detector), services)


def chain(text: str, table: str, name: str) -> list[str]:
    return [str(rule).removeprefix(f"-A {name} ") for rule in read_iptables(text).table(table).chains[name].rules]


def elements(made: Written) -> dict[str, list[str]]:
    """The sets that have any."""
    found = {name: [e.text for e in one.entries.values()] for name, one in read_ipsets(made.sets).items()}
    return {name: texts for name, texts in found.items() if texts}


def servers(made: Written) -> dict[str, list[str]]:
    return {s.key.words: [f"{r.addr}:{r.port}" for r in s.servers] for s in made.services}


def test_a_cluster_ip_is_a_virtual_service_on_kube_ipvs0() -> None:
    made = written(WEB)
    assert servers(made) == {"-t 10.96.0.100:80": ["10.244.1.2:8080", "10.244.2.2:8080"]}
    assert made.services[0].saved[0] == "-A -t 10.96.0.100:80 -s rr"
    assert made.addrs == (IPv4("10.96.0.100"),)
    assert elements(made) == {
        "KUBE-CLUSTER-IP": ["10.96.0.100,tcp:80"],
        "KUBE-LOOP-BACK": ["10.244.1.2,tcp:8080,10.244.1.2"],
        "KUBE-IPVS-IPS": ["10.96.0.100"],
    }
    assert len(read_ipsets(made.sets)) == 17, "empty ones stand, too"


def test_rules_ask_only_sets_that_have_elements() -> None:
    cluster_ip = ("-m comment --comment \"Kubernetes service cluster ip + port for masquerade purpose\" "
                  "-m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ")  # fmt: skip
    assert chain(written(WEB).rules, "nat", "KUBE-SERVICES") == [
        "-s 127.0.0.0/8 -j RETURN",
        f"! -s {POD_CIDR} {cluster_ip}",
        "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT",
        "-m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT",
    ]
    assert chain(written(WEB).rules, "nat", "KUBE-NODE-PORT") == []
    assert chain(written().rules, "nat", "KUBE-SERVICES") == [
        "-s 127.0.0.0/8 -j RETURN", "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT"]  # fmt: skip


@pytest.mark.parametrize(
    ("proxy", "start", "ends"),
    [
        (replace(IPVS, masquerade_all=True), "-m comment", "dst,dst"),
        (replace(IPVS, detect_local=""), "-m comment", "src,dst"),
        (replace(IPVS, detect_local="BridgeInterface:cni0"), "! -i cni0 -m comment", "dst,dst"),
        (replace(IPVS, detect_local="NodeCIDR"), "! -s 10.244.1.0/24 -m comment", "dst,dst"),
    ],
)
def test_what_is_masqueraded_follows_the_settings(proxy: KubeProxy, start: str, ends: str) -> None:
    rule = chain(written(WEB, proxy=proxy).rules, "nat", "KUBE-SERVICES")[1]
    assert rule.startswith(start) and f"KUBE-CLUSTER-IP {ends} -j KUBE-MARK-MASQ" in rule


def test_outside_addresses_have_sets_and_services_of_their_own() -> None:
    made = written(OUTSIDE)
    found = elements(made)
    assert found["KUBE-EXTERNAL-IP-LOCAL"] == ["203.0.113.7,tcp:80", "203.0.113.7,udp:53"]
    assert found["KUBE-LOAD-BALANCER"] == found["KUBE-LOAD-BALANCER-LOCAL"] == found["KUBE-LOAD-BALANCER-FW"]
    assert found["KUBE-LOAD-BALANCER-SOURCE-CIDR"] == ["203.0.113.8,tcp:80,203.0.113.0/25",
                                                       "203.0.113.8,udp:53,203.0.113.0/25"]  # fmt: skip
    assert found["KUBE-NODE-PORT-TCP"] == found["KUBE-NODE-PORT-LOCAL-TCP"] == ["30080"]
    assert found["KUBE-HEALTH-CHECK-NODE-PORT"] == ["32000"]
    assert set(servers(made)) == {
        f"{kind} {addr}:{port}"
        for kind, port in (("-t", 80), ("-u", 53))
        for addr in ("10.96.0.100", "203.0.113.7", "203.0.113.8")
    } | {f"-t {NODE}:30080", "-t 10.244.1.1:30080"}
    assert servers(made)[f"-t {NODE}:30080"] == ["10.244.1.2:80"], "policy Local"
    assert servers(made)["-t 10.96.0.100:80"] == ["10.244.1.2:80", "10.244.2.2:80"]
    assert made.addrs == tuple(map(IPv4, ("10.96.0.100", "203.0.113.7", "203.0.113.8")))


def test_external_ips_of_policy_cluster_are_masqueraded() -> None:
    made = written(replace(OUTSIDE, external_traffic_policy="Cluster", health_check_node_port=0))
    rules = [r for r in chain(made.rules, "nat", "KUBE-SERVICES") if "KUBE-EXTERNAL-IP " in r]
    assert [r.rpartition("-j ")[2] for r in rules] == ["KUBE-MARK-MASQ", "ACCEPT", "ACCEPT"]
    assert "KUBE-EXTERNAL-IP-LOCAL" not in elements(made)


def test_a_node_outside_the_source_ranges_is_shut_out_by_itself() -> None:
    closed = chain(written(OUTSIDE).rules, "filter", "KUBE-IPVS-OUT-FILTER")
    assert closed[0] == "-s 203.0.113.8/32 -m ipvs --vproto 6 --vaddr 203.0.113.8 --vport 80 -j DROP"
    within = replace(OUTSIDE, load_balancer_source_ranges=("192.168.56.0/24",))
    assert chain(written(within).rules, "filter", "KUBE-IPVS-OUT-FILTER") == []
    assert "203.0.113.8,tcp:80,203.0.113.8" in elements(written(within))["KUBE-LOAD-BALANCER-SOURCE-IP"]


def test_policy_local_without_a_local_endpoint_takes_the_others() -> None:
    """Unlike iptables mode (kubernetes pull request 97081)."""
    made = written(OUTSIDE, node="n3")
    assert servers(made)[f"-t {NODE}:30080"] == ["10.244.1.2:80", "10.244.2.2:80"]


def test_affinity_is_persistence_and_the_scheduler_is_the_proxys() -> None:
    sticky = replace(WEB, session_affinity="ClientIP", session_affinity_timeout=600)
    made = written(sticky, proxy=replace(IPVS, scheduler="sh"))
    assert made.services[0].saved[0] == "-A -t 10.96.0.100:80 -s sh -p 600"


def test_a_scheduler_or_mode_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no scheduler of IPVS 'rrr'; did you mean 'rr'"):
        KubeProxy(mode="ipvs", scheduler="rrr")


def test_strict_arp_and_the_sysctls_of_ipvs() -> None:
    keys = IPVS.sysctls
    assert {k.rpartition(".")[2]: v for k, v in keys.items() if k.startswith("net.ipv4.vs.")} == {
        "conntrack": 1, "expire_nodest_conn": 1, "expire_quiescent_template": 1}  # fmt: skip
    assert "net.ipv4.conf.all.route_localnet" not in keys and "net.ipv4.conf.all.arp_ignore" not in keys
    assert replace(IPVS, strict_arp=True).sysctls["net.ipv4.conf.all.arp_announce"] == 2


def test_node_port_addresses_choose_where_node_ports_are_served() -> None:
    node_ports = replace(WEB, type="NodePort", ports=(ServicePort(80, "http", node_port=30080),))
    made = written(node_ports, proxy=replace(IPVS, node_port_addresses=("192.168.56.0/24",)))
    assert [k for k in servers(made) if k.endswith(":30080")] == [f"-t {NODE}:30080"]


@pytest.mark.skipif(shutil.which("iptables-restore") is None, reason="iptables is not installed")
def test_iptables_takes_the_rules() -> None:
    if subprocess.run(["ipset", "list", "-n"], capture_output=True, check=False).returncode:
        pytest.skip("ipset and root are needed")
    made = written(replace(OUTSIDE, load_balancer_source_ranges=("192.168.56.0/24",)))
    script = "ipset restore && printf '%s' \"$RULES\" | iptables-restore --test"
    done = subprocess.run(["unshare", "-n", "sh", "-ec", script], input=made.sets,
                          env={"RULES": made.rules, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                          text=True, capture_output=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


# -- clusters ----------------------------------------------------------------------------------------------------------


def cluster(mode: str, **options: Any) -> Network:
    options = {"hairpin": True, **options} if mode == "flat-bridge" else options
    return build(replace(default_cluster(find(mode, **options)), kube_proxy=IPVS))


@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_walk_connects_in_every_mode(mode: str) -> None:
    """From pods on either node, from a pod that is its own endpoint, from a node, and from outside by either node."""
    net = cluster(mode)
    for src in ("a", "b", "c", "node-1", "node-2"):
        trace = pw.walk(net, src, "web", tcp=80)
        assert trace.delivered, f"{src}: {trace.minimal()}"
        assert any(step.stage == "ipvs" for _, step in trace.steps)
    for node in ("192.168.56.11", "192.168.56.12"):
        assert pw.walk(net, "out", node, tcp=30080).delivered


def test_a_request_never_passes_forward_on_its_first_node() -> None:
    trace = pw.walk(cluster("flannel-vxlan"), "a", "web", tcp=80)
    first = trace["node-1"]
    assert "forward" not in [step.stage for step in first.steps]
    assert first.step("ipvs").dev == "input"


def test_other_ports_of_a_cluster_ip_and_pings_are_refused() -> None:
    net = cluster("flannel-vxlan")
    for asked in ({"tcp": 81}, {}):
        trace = pw.walk(net, "a", "web", **asked)
        assert not trace.delivered
        (_, step), *_ = trace.drops
        assert "KUBE-IPVS-IPS" in str(step.what)


def test_nodes_share_equal_services_and_addresses() -> None:
    net = cluster("flannel-vxlan")
    one, other = net["node-1"], net["node-2"]
    key = next(k for k in one.ipvs.services if str(k.addr).startswith("10.96."))
    assert one.ipvs.services[key] is other.ipvs.services[key]
    assert one.device("kube-ipvs0").addrs[0] is other.device("kube-ipvs0").addrs[0]
    assert not one.device("kube-ipvs0").up


@pytest.mark.parametrize(("strict", "answers"), [(True, {"node-1"}), (False, {"node-1", "node-2", "node-3"})])
def test_without_strict_arp_every_node_answers_for_a_load_balancers_address(strict: bool, answers: set[str]) -> None:
    """Why MetalLB wants strictARP: the address stands on kube-ipvs0 of every node."""
    made = pw.Cluster(3, find("flannel-host-gw"), load_balancer=LoadBalancer("l2"))
    made = replace(made, kube_proxy=replace(IPVS, strict_arp=strict))
    made.deployment("web", replicas=2, listen=80)
    made.service("web", 80, selector={"app": "web"}, type="LoadBalancer")
    trace = pw.walk(build(made), "out", "web:80", cold=True)
    sent = ((hop.room, h) for hop, step in trace.steps if step.stage == "transmit" for h in step.packet.headers)
    replies = {room for room, h in sent if isinstance(h, Arp) and h.op == ARP_REPLY and h.spa == IPv4("192.168.56.240")}
    assert replies - {"fabric"} == answers
    assert trace.delivered


def test_what_is_shown_can_be_read_again() -> None:
    net = cluster("calico-ipip")
    text = str(net["node-1"].ipvs)
    assert str(read_ipvs(text)) == text and "10.244." in text
    assert "create KUBE-IPVS-IPS hash:ip" in show(net, "node-1", "sets")
    assert "cali40" in show(net, "node-1", "sets"), "the CNI's own sets stay"
