"""The three promises: kept by every mode as its authors meant it, and what breaks each."""

from pathlib import Path

import pytest

import packetwalk as pw
from packetwalk.cni import MODES, parse
from packetwalk.kube.build import build
from packetwalk.kube.cluster import default_cluster
from packetwalk.network import Network
from packetwalk.promises import ADDRESS, AGENTS, HOST_PODS, PODS, PROMISES, conformance


def network(mode: str, *lines: str, racks: int = 1) -> Network:
    return pw.whatif(build(default_cluster(parse(mode), racks=racks)), *lines)


@pytest.mark.parametrize("mode", [*MODES, "flat-bridge:segment", "calico-bgp:version=3.32"])
def test_every_mode_keeps_them(mode: str) -> None:
    report = conformance(network(mode))
    assert report.kept and not report.left_out
    assert [(report.pairs(p), len(report.cases[p])) for p in PROMISES] == [(6, 3), (3, 2), (6, 3)]


@pytest.mark.parametrize("how", [{"udp": 80}, {"tcp": 80}])
@pytest.mark.parametrize("mode", ["flannel-vxlan", "calico-ipip"])
def test_by_datagrams_and_connections_too(mode: str, how: dict[str, int]) -> None:
    report = conformance(network(mode), **how)
    assert report.kept and report.pairs(PODS) == 6


def test_ip_masq_of_the_plugin_bridge_hides_pods_behind_their_node() -> None:
    report = conformance(network("flat-bridge:ip_masq"))
    assert [report.broken(p) for p in PROMISES] == [4, 0, 4]
    first = next(b for b in report.breaches if b.promise == ADDRESS)
    assert first.what == "b sees 192.168.56.11, a's own address is 10.244.1.2"
    assert (first.case.nodes, first.case.sources, first.case.destinations) == (
        ("node-1", "node-2"), ("a", "c"), ("b",))  # fmt: skip
    ((room, words),) = first.where
    assert room == "node-1"
    assert words.startswith("nat src 10.244.1.2 > 192.168.56.11 by CNI-")
    assert words.endswith(" 2: ! -d 224.0.0.0/4 -j MASQUERADE")


def test_who_is_not_reached_breaks_the_first_promise_only() -> None:
    report = conformance(network("flat-bridge", racks=2))
    assert [report.broken(p) for p in PROMISES] == [4, 0, 0]
    assert report.pairs(ADDRESS) == 2  # the others' address was seen by nobody
    assert report.breaches[0].what == "a does not reach b: timeout"
    ((room, words),) = report.breaches[0].where
    assert room == "router" and words.startswith("drop IP_INNOROUTES: no route to 10.244.2.2 ")


def test_an_agent_that_does_not_reach_its_pod() -> None:
    report = conformance(network("calico-ipip", "node-1 iptables -I OUTPUT 1 -d 10.244.0.0/16 -j DROP"))
    assert [report.broken(p) for p in PROMISES] == [0, 2, 0]
    (breach,) = report.breaches
    assert breach.promise == AGENTS and breach.what.startswith("node-1/kubelet does not reach a: ")


def test_only_the_ports_change() -> None:
    """NAT that leaves the address alone breaks the first promise, and not the third."""
    rule = "node-1 iptables -t nat -A POSTROUTING -s 10.244.1.2 -p tcp -j SNAT --to-source 10.244.1.2:50000-50001"
    report = conformance(network("calico-ipip"), tcp=80)
    assert report.kept
    a = pw.address_of(network("calico-ipip"), "a")
    report = conformance(network("calico-ipip", rule.replace("10.244.1.2", str(a))), tcp=80)
    assert [report.broken(p) for p in PROMISES] == [2, 0, 0]


def test_the_report_in_words_and_as_data() -> None:
    report = conformance(network("flat-bridge:ip_masq"))
    lines = str(report).splitlines()
    assert lines[0] == "flat-bridge cluster of 2 nodes: 3 pods of 2 kinds on 2 nodes, echo requests"
    assert lines[1] == "  1 broken  every pod reaches every pod without NAT     by 4 of 6 pairs, 3 walks"
    assert "node-1 > node-2: a > b, and 1 pair like it" in lines
    data = report.to_dict()
    assert data["kept"] is False and [p["kept"] for p in data["promises"]] == [False, True, False]
    assert [(w["src"], w["dst"], w["pairs"]) for w in data["walks"]] == [
        ("a", "c", 2), ("a", "b", 2), ("b", "a", 2), ("node-1/kubelet", "a", 2), ("node-2/kubelet", "b", 1),
    ]  # fmt: skip
    assert data["walks"][0]["walk"] == "a > node-1 > c > node-1 > a : reply ttl 64"
    assert {(b["src"], b["dst"], b["pairs"]) for b in data["breaches"]} == {("a", "b", 2), ("b", "a", 2)}


def test_pods_that_do_not_listen_are_left_out_and_said() -> None:
    cluster = default_cluster(parse("flat-bridge"))
    cluster.pod("mute", 2)
    report = conformance(build(cluster), tcp=80)
    assert (report.pods, report.left_out) == (3, ["1 pod without a listener on tcp port 80"])
    assert str(report).endswith("\nleft out: 1 pod without a listener on tcp port 80")


def beside(mode: str) -> Network:
    """Two nodes with a pod and a pod on the host's network each."""
    cluster = pw.Cluster(2, parse(mode))
    for node in (1, 2):
        cluster.pod(f"p{node}", node, listen=80)
        cluster.pod(f"h{node}", node, listen=8080, host_network=True)
    return build(cluster)


ACROSS = {"flannel-vxlan": 4, "calico-ipip": 4, "calico-bgp": 2, "geneve": 2}


@pytest.mark.parametrize(("mode", "broken"), ACROSS.items())
def test_pods_on_the_hosts_network_are_told_apart(mode: str, broken: int) -> None:
    """Kubernetes promises it for them, too; masquerading towards nodes and addresses of tunnels stand against it."""
    report = conformance(beside(mode))
    assert report.kept and report.pods == 4
    assert (report.pairs(PODS), report.pairs(HOST_PODS)) == (2, 10)
    across = [b.case for b in report.breaches if b.case.nodes[0] != b.case.nodes[1]]
    assert len({case.ends for case in across}) == broken
    assert not conformance(beside(mode), host_network=True).kept


def test_what_hides_pods_from_host_network_pods_elsewhere() -> None:
    report = conformance(beside("calico-ipip"), host_network=True)
    said = {(b.case.ends, b.what) for b in report.breaches}
    assert (("p1", "h2"), "h2 sees 192.168.56.11, p1's own address is 10.244.189.129") in said
    assert (("h1", "p2"), "p2 sees 10.244.189.128, h1's own address is 192.168.56.11") in said
    assert not any(set(b.case.ends) == {"h1", "h2"} for b in report.breaches)


def test_a_line_says_what_does_not_count() -> None:
    lines = str(conformance(beside("flannel-vxlan"))).splitlines()
    assert lines[4].startswith("  4 broken  the same with pods on the host's network    ")
    assert lines[5] == "  4 counts only if that is asked for; it begins with: h2 is reached through NAT at node-1"
    assert len(lines) == 6


@pytest.mark.parametrize("name", ["S2-flannel-hostgw", "S3-flannel-vxlan", "S4-calico-bgp", "S5-calico-ipip"])
def test_recorded_nodes_keep_them(shared: Path, name: str) -> None:
    report = conformance(pw.load_snapshot(shared / "recordings" / name))
    assert report.kept and report.pairs(PODS) == 12 and report.kinds == 2
