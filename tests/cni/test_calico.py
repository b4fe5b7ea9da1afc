"""Calico's tables (cni-datapaths 6 to 9): what BIRD and Felix would install, mode by mode."""

import pytest

from packetwalk.cni import Calico
from packetwalk.engine.walk import address_of, walk
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, Node, Rack, default_cluster
from packetwalk.netns.device import Vxlan
from packetwalk.network import Network
from packetwalk.packet import Arp
from packetwalk.show import show
from packetwalk.trace import Flow

BLOCKS = ("10.244.1.0/26", "10.244.2.0/26", "10.244.3.0/26")


def calico(encap: str = "ipip", racks: int = 1, spines: int = 0, **options: object) -> Network:
    """Three nodes with blocks one can read; node-2 stands in the second rack if there is one."""
    nodes = [Node(f"node-{i}", pod_cidr=block) for i, block in enumerate(BLOCKS, 1)]
    cluster = Cluster(nodes, Calico(encap, **options), racks, spines)  # type: ignore[arg-type]
    cluster.pod("a", 1, listen=80)
    cluster.pod("b", 2, listen=80)
    return build(cluster)


def routes(network: Network, room: str = "node-1") -> list[str]:
    """What `ip route` prints of pod ranges."""
    return [line for line in network[room].routes.splitlines() if "10.244." in line]


CALI = "cali" + "acd53aa4120"  # sha1 of default.a


def test_bgp_unencapsulated() -> None:
    assert routes(calico("none")) == [
        f"10.244.1.0 dev {CALI} scope link",
        "blackhole 10.244.1.0/26 proto bird",
        "10.244.2.0/26 via 192.168.56.12 dev eth0 proto bird",
        "10.244.3.0/26 via 192.168.56.13 dev eth0 proto bird",
    ]


def test_a_next_hop_of_another_subnet_is_the_gateway() -> None:
    network = calico("none", racks=2)
    assert "10.244.2.0/26 via 192.168.56.1 dev eth0 proto bird" in routes(network)
    assert routes(network, "router") == []


def test_ipip_always() -> None:
    assert routes(calico("ipip")) == [
        "blackhole 10.244.1.0/26 proto bird",
        f"10.244.1.1 dev {CALI} scope link",
        "10.244.2.0/26 via 192.168.56.12 dev tunl0 proto bird onlink",
        "10.244.3.0/26 via 192.168.56.13 dev tunl0 proto bird onlink",
    ]


def test_ipip_across_subnets_only() -> None:
    assert routes(calico("ipip", racks=2, cross_subnet=True))[2:] == [
        "10.244.2.0/26 via 192.168.57.11 dev tunl0 proto bird onlink",
        "10.244.3.0/26 via 192.168.56.12 dev eth0 proto bird",
    ]


def test_vxlan_always() -> None:
    network = calico("vxlan")
    assert routes(network) == [
        "blackhole 10.244.1.0/26 proto 80",
        f"10.244.1.1 dev {CALI} scope link",
        "10.244.2.0/26 via 10.244.2.0 dev vxlan.calico onlink",
        "10.244.3.0/26 via 10.244.3.0 dev vxlan.calico onlink",
    ]
    mac = network["node-2"].device("vxlan.calico").mac
    assert str(mac) == "66:c0:93:2e:56:2c", "66 and the SHA-1 of node-2"
    assert f"10.244.2.0 dev vxlan.calico lladdr {mac} PERMANENT" in show(network, "node-1", "neigh")
    assert f"{mac} dev vxlan.calico dst 192.168.56.12 self permanent" in show(network, "node-1", "fdb")


def test_vxlan_across_subnets_only_keeps_entries_for_all() -> None:
    network = calico("vxlan", racks=2, cross_subnet=True)
    assert routes(network)[2:] == [
        "10.244.2.0/26 via 10.244.2.0 dev vxlan.calico onlink",
        "10.244.3.0/26 via 192.168.56.12 dev eth0 proto 80 onlink",
    ]
    assert len(show(network, "node-1", "neigh").splitlines()) == 2


def test_the_devices() -> None:
    vxlan, tunl0 = calico("vxlan")["node-1"].device("vxlan.calico"), calico("ipip")["node-1"].device("tunl0")
    assert isinstance(vxlan, Vxlan) and (vxlan.vni, vxlan.dport, vxlan.mtu, vxlan.learning) == (4096, 4789, 1450, False)
    assert (tunl0.kind, tunl0.mtu, [str(a) for a in tunl0.addrs]) == ("ipip", 1480, ["10.244.1.0/32"])


@pytest.mark.parametrize(("encap", "mtu"), [("none", 1500), ("ipip", 1480), ("vxlan", 1450)])
def test_pod_mtu_is_that_of_the_worst_case(encap: str, mtu: int) -> None:
    assert calico(encap)["a"].device("eth0").mtu == mtu
    if encap != "none":
        assert calico(encap, cross_subnet=True)["a"].device("eth0").mtu == mtu


def test_a_pod_and_its_host_end() -> None:
    network = calico()
    assert network["a"].routes.splitlines() == ["default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0 scope link"]
    host = network["node-1"].device(CALI)
    assert (str(host.mac), host.addrs) == ("ee:ee:ee:ee:ee:ee", [])
    conf = network["node-1"].conf(CALI)
    assert (conf.proxy_arp, conf.forwarding, conf.route_localnet, conf.rp_filter) == (True, True, True, 0)


def test_the_first_packet_asks_for_the_gateway_that_is_nowhere() -> None:
    """6.1: proxy ARP answers for 169.254.1.1 with ee:ee:ee:ee:ee:ee, since the node's default route leads elsewhere."""
    network = calico()
    trace = walk(network, Flow("icmp", "a", address_of(network, "b")), cold=True)
    asked = [h for s in trace.hops[0].steps for h in s.packet.headers if isinstance(h, Arp)]
    assert {str(arp.tpa) for arp in asked} == {"169.254.1.1"}
    assert trace.after is not None
    entry = trace.after["a"].neighbours.get("eth0", asked[0].tpa)
    assert entry is not None and str(entry.lladdr) == "ee:ee:ee:ee:ee:ee"


def test_fabric_peering_tells_the_routers() -> None:
    network = calico("none", racks=2, peer_fabric=True)
    assert routes(network, "router") == [
        "10.244.1.0/26 via 192.168.56.11 dev eth0 proto bird",
        "10.244.2.0/26 via 192.168.57.11 dev eth1 proto bird",
        "10.244.3.0/26 via 192.168.56.12 dev eth0 proto bird",
    ]
    assert walk(network, Flow("icmp", "a", address_of(network, "b"))).delivered


def test_fabric_peering_on_leaf_and_spine() -> None:
    network = calico("none", racks=2, spines=2, peer_fabric=True)
    trace = walk(network, Flow("icmp", "a", address_of(network, "b")))
    assert trace.delivered and any(h.room.startswith("spine") for h in trace)
    assert any("dev leaf-2" in line for line in routes(network, "spine-1"))


def test_route_reflectors_spread_what_the_mesh_would() -> None:
    assert routes(calico("none", reflectors=("node-3",), mesh=False)) == routes(calico("none"))
    assert routes(calico("none", mesh=False))[2:] == []
    with pytest.raises(ValueError, match="route reflector 'node-9' is no node; there are node-1, node-2, node-3"):
        calico(reflectors=("node-9",))


def test_versions_print_other_routes() -> None:
    assert "10.244.2.0/26 via 10.244.2.0 dev vxlan.calico onlink mtu 1450" in routes(calico("vxlan", version="3.31"))
    newer = routes(calico("none", version="3.32"))
    assert f"10.244.1.0 dev {CALI} scope link metric 1024" in newer
    assert "10.244.2.0/26 via 192.168.56.12 dev eth0 proto bird metric 1024" in newer
    assert routes(calico("ipip", version="3.33"))[::2] == [
        "blackhole 10.244.1.0/26 proto 80",
        "10.244.2.0/26 via 192.168.56.12 dev tunl0 proto 80 onlink mtu 1480",
    ]


def test_blocks_spread_over_the_pool() -> None:
    network = build(default_cluster(Calico(), nodes=5))
    blocks = {line.split()[1] for n in range(1, 6) for line in routes(network, f"node-{n}") if "blackhole" in line}
    assert len(blocks) == 5 and all(block.endswith("/26") for block in blocks)


def test_what_calico_refuses() -> None:
    for options, message in [
        ({"encap": "gre"}, "there is no encap 'gre'"),
        ({"encap": "none", "cross_subnet": True}, "needs encap ipip or vxlan"),
    ]:
        with pytest.raises(ValueError, match=message):
            Calico(**options)  # type: ignore[arg-type]


def test_two_racks_with_gateways_of_their_own() -> None:
    racks = [Rack("left", "25.25.25.0/24", "25.25.25.254"), Rack("right", "35.35.35.0/24", "35.35.35.254")]
    nodes = [Node("x", "25.25.25.121", "left"), Node("y", "35.35.35.122", "right")]
    cluster = Cluster(nodes, Calico("none"), racks, nic="bond0")
    network = build(cluster)
    assert any(line.endswith("via 25.25.25.254 dev bond0 proto bird") for line in routes(network, "x"))
