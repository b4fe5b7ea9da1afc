"""The plugin `bridge` (cni-datapaths 10): routed ranges, ipMasq, and one flat segment."""

from packetwalk.cni import FlatBridge
from packetwalk.engine.walk import walk
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, default_cluster


def test_a_route_to_each_node_s_range_and_nothing_else() -> None:
    network = build(default_cluster(FlatBridge(), nodes=3))
    assert [line for line in network["node-1"].routes.splitlines() if "via" in line] == [
        "default via 192.168.56.1 dev eth0",
        "10.244.2.0/24 via 192.168.56.12 dev eth0",
        "10.244.3.0/24 via 192.168.56.13 dev eth0",
    ]
    assert build(Cluster(3, FlatBridge()))["node-1"].netfilter.tables == {}


def test_one_segment_carries_pods_of_all_nodes_without_a_hop() -> None:
    network = build(default_cluster(FlatBridge(segment=True), nodes=3))
    assert walk(network, "a", "b").minimal().startswith("a > node-1 > fabric > node-2 > b > node-2 > fabric")
    assert walk(network, "a", "b").result.ttl == 64
    assert network["a"].routes.splitlines()[1] == "10.244.0.0/16 dev eth0 proto kernel scope link src 10.244.1.2"
    assert network["node-1"].device("eth0").master == "cni0" and network["node-1"].device("eth0").addrs == []
    assert walk(network, "node-1", "node-2").delivered and walk(network, "node-1", "b").delivered
    assert "default via 192.168.56.1 dev cni0" in network["node-1"].routes


def test_ip_masq_spares_the_node_s_own_range_only() -> None:
    """10.3 and 10.5: a pod of another node is masqueraded, too."""
    nat = build(default_cluster(FlatBridge(ip_masq=True)))["node-1"].netfilter.tables["nat"]
    kube, *jumps = [str(rule) for rule in nat.chains["POSTROUTING"].rules]
    assert kube.endswith("-j KUBE-POSTROUTING")
    assert [line.split()[3] for line in jumps] == ["10.244.1.2/32", "10.244.1.3/32"]
    chain = jumps[0].rpartition(" -j ")[2]
    assert len(chain) == 28 and chain.startswith("CNI-")
    accept, masquerade = map(str, nat.chains[chain].rules)
    assert "-d 10.244.1.0/24" in accept and accept.endswith("-j ACCEPT")
    assert "! -d 224.0.0.0/4" in masquerade and masquerade.endswith("-j MASQUERADE")
