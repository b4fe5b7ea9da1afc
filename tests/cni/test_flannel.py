"""Flannel's tables (cni-datapaths 2 to 5): devices, entries for each peer, rules."""

import pytest

from packetwalk.cni import Flannel
from packetwalk.engine.walk import address_of, walk
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, Link, default_cluster
from packetwalk.netns.device import Ipip, Vxlan
from packetwalk.network import Network
from packetwalk.packet import Ip
from packetwalk.show import show
from packetwalk.trace import Flow


def flannel(*args: object, nodes: int = 2, racks: int = 1, **options: object) -> Network:
    return build(default_cluster(Flannel(*args, **options), nodes=nodes, racks=racks))  # type: ignore[arg-type]


def test_vxlan_tables_of_a_node_with_one_peer() -> None:
    network = flannel("vxlan")
    mac = network["node-2"].device("flannel.1").mac
    assert network["node-1"].routes.splitlines() == [
        "default via 192.168.56.1 dev eth0",
        "10.244.1.0/24 dev cni0 proto kernel scope link src 10.244.1.1",
        "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink",
        "192.168.56.0/24 dev eth0 proto kernel scope link src 192.168.56.11",
    ]
    assert show(network, "node-1", "neigh") == f"10.244.2.0 dev flannel.1 lladdr {mac} PERMANENT"
    assert f"{mac} dev flannel.1 dst 192.168.56.12 self permanent" in show(network, "node-1", "fdb")


def test_the_vxlan_device() -> None:
    device = flannel("vxlan")["node-1"].device("flannel.1")
    assert isinstance(device, Vxlan)
    assert (device.vni, device.dport, device.mtu, device.learning, device.df) == (1, 8472, 1450, False, "unset")
    assert (str(device.local), device.link) == ("192.168.56.11", "eth0")
    assert [str(a) for a in device.addrs] == ["10.244.1.0/32"]


def test_options_of_vxlan() -> None:
    device = flannel("vxlan", vni=7, port=4789, mtu=1400)["node-1"].device("flannel.7")
    assert isinstance(device, Vxlan) and (device.vni, device.dport, device.mtu) == (7, 4789, 1400)


@pytest.mark.parametrize(("backend", "mtu"), [("host-gw", 1500), ("vxlan", 1450), ("ipip", 1480)])
def test_mtus(backend: str, mtu: int) -> None:
    network = flannel(backend)
    assert [network[room].device(dev).mtu for room, dev in (("node-1", "cni0"), ("a", "eth0"))] == [mtu, mtu]


def test_a_jumbo_link_makes_room_for_the_tunnel() -> None:
    network = build(Cluster(1, Flannel("vxlan"), link=Link(mtu=9000)))
    assert network["node-1"].device("flannel.1").mtu == 8950


def test_ipip_routes_by_the_far_node() -> None:
    network = flannel("ipip")
    assert "10.244.2.0/24 via 192.168.56.12 dev flannel.ipip onlink" in network["node-1"].routes
    assert isinstance(network["node-1"].device("flannel.ipip"), Ipip)


def test_direct_routing_leaves_the_tunnel_to_other_subnets() -> None:
    network = flannel("vxlan", direct_routing=True, nodes=3, racks=2)
    routes = network["node-1"].routes
    assert "10.244.3.0/24 via 192.168.56.12 dev eth0" in routes
    assert "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink" in routes
    assert "10.244.3.0 " not in show(network, "node-1", "neigh"), "no entry for a peer on the link"
    routes = flannel("ipip", direct_routing=True, nodes=3, racks=2)["node-1"].routes
    assert "10.244.3.0/24 via 192.168.56.12 dev eth0 onlink" in routes


def test_a_pod_s_interface_and_routes() -> None:
    network = flannel("vxlan")
    assert network["a"].routes.splitlines() == [
        "default via 10.244.1.1 dev eth0",
        "10.244.0.0/16 via 10.244.1.1 dev eth0",
        "10.244.1.0/24 dev eth0 proto kernel scope link src 10.244.1.2",
    ]
    ports = [d for d in network["node-1"].devices.values() if d.master == "cni0"]
    assert len(ports) == 2 and all(p.port.hairpin and p.name.startswith("veth") and len(p.name) == 12 for p in ports)


def test_a_node_reaches_a_remote_pod_from_its_tunnel_address() -> None:
    """3.4: route look-up picks flannel.1's address; the inner packet arrives with TTL 63."""
    network = flannel("vxlan")
    trace = walk(network, Flow("icmp", "node-1", address_of(network, "b")))
    arrived = trace["b"].steps[0].packet.headers[1]
    assert isinstance(arrived, Ip) and (str(arrived.src), arrived.ttl) == ("10.244.1.0", 63)


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match="there is no backend 'wireguard'; there are host-gw, vxlan, ipip"):
        Flannel("wireguard")
