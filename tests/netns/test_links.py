"""What a link that goes, comes or changes takes along, here without a kernel; tests/kernel/test_links.py asks one."""

from __future__ import annotations

import pytest

from packetwalk.addr import IPv4, Mac
from packetwalk.netns.device import Bridge, Veth
from packetwalk.netns.fib_table import Nexthop
from packetwalk.netns.namespace import Netns
from packetwalk.network import Network
from tests.netns.rooms import M1, M2, M3, M4, router, switch

STRANGER = Mac("02:00:00:00:77:77")


def node_and_pod(peers: int = 1) -> Network:
    """A node whose bridge has a port to each pod."""
    network = Network("pods")
    node = network.add(Netns("node"))
    node.link_add("br0", Bridge(mac=M3))
    node.addr_add("br0", "10.0.0.254/24")
    for n in range(1, peers + 1):
        pod = network.add(Netns(f"pod{n}"))
        pod.link_add("eth0", Veth(mac=M1))
        node.link_add(f"v{n}", Veth(mac=M2))
        network.connect((pod.name, "eth0"), ("node", f"v{n}"))
        node.link_set(f"v{n}", master="br0")
        node.bridge_fdb.learn("br0", Mac(f"02:00:00:00:00:a{n}"), f"v{n}", 0)
    return network


def learned(room: Netns) -> set[str]:
    return {e.dev for e in room.bridge_fdb.entries.values() if not (e.local or e.static)}


def test_a_port_whose_far_end_goes_down_forgets_whom_it_learned() -> None:
    """br_port_carrier_check; the bridge lives on while another port does (seen on 6.18)."""
    network = node_and_pod(peers=2)
    node = network["node"]
    node.neigh_add("10.0.0.9", STRANGER, "br0", state="REACHABLE")
    network.link_set("pod1", "eth0", up=False)
    assert learned(node) == {"v2"} and node.neighbours.get("br0", IPv4("10.0.0.9")) is not None
    network.link_set("pod1", "eth0", up=True)
    assert learned(node) == {"v2"}


def test_a_bridge_without_carrier_forgets_its_neighbours_but_the_permanent() -> None:
    """neigh_carrier_down."""
    network = node_and_pod()
    node = network["node"]
    node.neigh_add("10.0.0.9", STRANGER, "br0", state="REACHABLE")
    node.neigh_add("10.0.0.8", STRANGER, "br0")
    network.link_set("pod1", "eth0", up=False)
    assert [str(n.dst) for n in node.neighbours.all()] == ["10.0.0.8"]


def test_a_bridge_that_goes_down_forgets_what_is_behind_its_ports() -> None:
    """br_stp_disable_bridge; static entries stay."""
    node = node_and_pod()["node"]
    node.fdb_append("v1", STRANGER)
    node.link_set("br0", up=False)
    assert not learned(node) and ("br0", STRANGER) in node.bridge_fdb.entries


def test_a_bridge_that_its_last_port_leaves_has_no_carrier() -> None:
    """br_port_state_selection; a bridge that never had one has (seen on 6.18)."""
    room = switch(ports=2)
    bridge = room.devices["br0"]
    running = []
    for port, master in (("p1", ""), ("p2", ""), ("p1", "br0")):
        room.link_set(port, master=master)
        running.append(bridge.running)
    assert running == [True, False, True]


@pytest.mark.parametrize(
    ("sizes", "bridge"),
    [
        ([("p1", 1400)], 1400),
        ([("p1", 1400), ("p2", 1300), ("p2", 1500)], 1400),
        ([("br0", 1350), ("p1", 1300)], 1350),  # set by hand, it stays
        ([("br0", 1500), ("p1", 1300)], 1300),  # what changes nothing sets nothing (dev_set_mtu)
    ],
)
def test_a_bridge_takes_the_smallest_mtu_of_its_ports(sizes: list[tuple[str, int]], bridge: int) -> None:
    """br_mtu_auto_adjust (seen on 6.18)."""
    room = switch(ports=2)
    for dev, mtu in sizes:
        room.link_set(dev, mtu=mtu)
    assert room.devices["br0"].mtu == bridge
    room.link_set("p1", master="")
    room.link_set("p2", master="")
    assert room.devices["br0"].mtu == (1350 if bridge == 1350 else 1500)


def test_the_last_address_takes_local_routes_and_neighbours_along() -> None:
    """fib_disable_ip by force, arp_ifdown: the other device keeps its own (seen on 6.18)."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24")
    room.route_add("10.9.4.4/32", dev="eth0", type="local", table="local")
    for dst, dev in (("10.0.0.2", "eth0"), ("10.0.1.2", "eth1")):
        room.neigh_add(dst, M4, dev)
    room.addr_del("eth0", "10.0.0.1/24")
    assert not room.fib.is_local(IPv4("10.9.4.4"))
    assert [n.dev for n in room.neighbours.all()] == ["eth1"]


def test_a_dead_share_is_listed_as_linkdown_though_its_device_runs() -> None:
    """fib_sync_down_dev sets both flags, also for the last address (seen on 6.18)."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24")
    room.route_add("10.9.0.0/16", nexthops=(Nexthop("eth0", IPv4("10.0.0.2")), Nexthop("eth1", IPv4("10.0.1.2"))))
    room.addr_del("eth1", "10.0.1.1/24")
    assert room.routes.splitlines()[-1].endswith("via 10.0.1.2 dev eth1 weight 1 dead linkdown")


def test_a_broadcast_address_of_a_link_without_carrier_may_be_a_host() -> None:
    """inet_addr_type by fib_table_lookup, which heeds ignore_routes_with_linkdown (seen on 6.18)."""
    network = node_and_pod()
    node = network["node"]
    network.link_set("pod1", "eth0", up=False)
    assert node.fib.addr_type(IPv4("10.0.0.255")) == "broadcast"
    node.sysctl("net.ipv4.conf.br0.ignore_routes_with_linkdown", 1)
    assert node.fib.addr_type(IPv4("10.0.0.255")) == "unicast" and node.fib.addr_type(IPv4("10.0.0.254")) == "local"
    network.link_set("pod1", "eth0", up=True)
    assert node.fib.addr_type(IPv4("10.0.0.255")) == "broadcast"
