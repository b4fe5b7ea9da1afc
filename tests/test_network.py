"""Networks: rooms and wires, the frozen graph of them, and overlays that keep what they learn to themselves."""

from __future__ import annotations

import networkx as nx
import pytest

from packetwalk.addr import IPv4
from packetwalk.engine.walk import walk
from packetwalk.netns.device import Geneve, Ipip, Nic, Veth
from packetwalk.netns.namespace import Netns
from packetwalk.network import Network, Wire
from packetwalk.trace import Flow
from tests.netns.rooms import M2, M3, busy_network, host, picture, veth_pair, vxlan


def two() -> Network:
    """Rooms a and b with a card each, not wired yet."""
    network = Network("two")
    network.add(host("a"), role="pod")
    network.add(host("b", "10.0.0.2/24", M2), role="node")
    return network


# -- rooms and wires ---------------------------------------------------------------------------------------------------


def test_rooms_by_name() -> None:
    network = two()
    assert [r.name for r in network] == ["a", "b"] and "a" in network and "c" not in network
    assert network["a"].name == "a" and network.roles == {"a": "pod", "b": "node"}
    with pytest.raises(ValueError, match="two rooms are called 'a'"):
        network.add(Netns("a"))


def test_a_wire_has_two_ends() -> None:
    network = two()
    wire = network.connect(("a", "eth0"), ("b", "eth0"), rate=10**9, delay=5, queue=3)
    assert wire == Wire(("a", "eth0"), ("b", "eth0"), 10**9, 5, 3)
    assert network.far(("a", "eth0")) == ("b", "eth0") and network.far(("b", "eth0")) == ("a", "eth0")
    assert network.far(("a", "lo")) is None


@pytest.mark.parametrize(
    ("end", "error", "words"),
    [
        (("a", "eth0"), ValueError, "a/eth0 is already wired to"),
        (("c", "eth0"), KeyError, "no room 'c'"),
        (("a", "eth9"), KeyError, "a has no device 'eth9'"),
    ],
)
def test_what_cannot_be_wired(end: tuple[str, str], error: type[Exception], words: str) -> None:
    network = two()
    network["b"].link_add("eth1", Nic(mac=M3))
    network.connect(("a", "eth0"), ("b", "eth0"))
    before = dict(network.wires)
    with pytest.raises(error, match=words):
        network.connect(("b", "eth1"), end)
    assert network.wires == before  # nothing half-done


def test_the_ends_of_a_veth_pair_know_each_others_state() -> None:
    """veth: its carrier is the other end's state; never the other room."""
    a, b = Netns("a"), Netns("b")
    veth_pair(a, b)
    near, far = a.devices["eth0"], b.devices["eth0"]
    assert isinstance(near, Veth) and near.peer is far and near.running
    b.link_set("eth0", up=False)
    assert not near.running


def test_owner() -> None:
    """Whose address it is; 127.0.0.1 is everyone's and so nobody's."""
    network = two()
    assert [network.owner(IPv4(x)) for x in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "127.0.0.1")] == ["a", "b", None, None]


# -- the graph ---------------------------------------------------------------------------------------------------------


def edges(graph: nx.MultiGraph[str], kind: str) -> set[frozenset[str]]:
    """The edges of that kind, without direction."""
    return {frozenset((a, b)) for a, b, data in graph.edges(data=True) if data["kind"] == kind}


def test_rooms_and_devices_are_nodes() -> None:
    graph = two().graph()
    assert graph.name == "two"
    assert graph.nodes["a"] == {"kind": "room", "role": "pod"}
    assert graph.nodes["b/eth0"] == {
        "kind": "nic", "mtu": 1500, "mac": str(M2), "up": True, "addrs": ("10.0.0.2/24",),
    }  # fmt: skip
    assert edges(graph, "device") == {frozenset((r, f"{r}/{d}")) for r in ("a", "b") for d in ("lo", "eth0")}


def test_wires_and_ports_are_edges() -> None:
    network = busy_network()
    network.wires[("a", "eth0")] = network.wires[("r", "eth0")] = network.wires["a", "eth0"]._replace(rate=7, delay=9)
    graph = network.graph()
    assert edges(graph, "wire") == {frozenset(("a/eth0", "r/eth0")), frozenset(("b/eth0", "r/eth1"))}
    assert graph.get_edge_data("a/eth0", "r/eth0")[0] == {"kind": "wire", "rate": 7, "delay": 9}
    assert edges(graph, "port") == {frozenset(("r/br0", "r/eth0"))}


def test_a_path_in_the_graph_is_a_path_of_wires() -> None:
    graph = busy_network().graph()
    assert nx.shortest_path(graph, "a", "b") == ["a", "a/eth0", "r/eth0", "r", "r/eth1", "b/eth0", "b"]


@pytest.mark.parametrize("kind", ["vxlan by remote", "vxlan by fdb", "ipip by remote", "ipip by route", "geneve"])
def test_tunnels_are_edges_between_the_devices_that_end_them(kind: str) -> None:
    """Whoever names the other's address: a remote, an FDB entry, the next hop of a route through it."""
    network = two()
    for name, near, far in (("a", "10.0.0.1", "10.0.0.2"), ("b", "10.0.0.2", "10.0.0.1")):
        room = network[name]
        if kind.startswith("vxlan"):
            vxlan(room, "t0", local=near, remote=far if "remote" in kind else "")
            if "fdb" in kind:
                room.fdb_append("t0", M3, dst=far)
        elif kind == "geneve":
            room.link_add("t0", Geneve(mac=M3, vni=1, remote=IPv4(far)))
        else:
            room.link_add("t0", Ipip(remote=IPv4(far if "remote" in kind else "0.0.0.0")))
            if "route" in kind:
                room.route_add("10.7.0.0/16", via=far, dev="t0", onlink=True)
    assert edges(network.graph(), kind.split()[0]) == {frozenset(("a/t0", "b/t0"))}
    assert network.graph().number_of_edges("a/t0", "b/t0") == 1


def test_a_tunnel_to_a_stranger_is_no_edge() -> None:
    network = two()
    vxlan(network["a"], "t0", remote="192.0.2.1")
    assert not edges(network.graph(), "vxlan")


def test_the_graph_is_frozen_and_tells_nothing_back() -> None:
    """A derived view: nobody can change it, and changes of the network do not reach an old one."""
    network = two()
    graph = network.graph()
    with pytest.raises(nx.NetworkXError, match="Frozen"):
        graph.add_node("c")
    network.add(Netns("c"))
    assert "c" not in graph and "c" in network.graph()


# -- overlays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", [
    Flow("icmp", "a", IPv4("10.0.1.2")),
    Flow("icmp", "a", IPv4("10.0.1.2"), size=1400, df="do"),
    Flow("icmp", "r", IPv4("10.5.0.12"), size=1400),
    Flow("tcp", "a", IPv4("10.0.1.2"), 80, size=3000),
    Flow("udp", "a", IPv4("10.0.1.9"), 53),
], ids=["ping", "path mtu", "tunnel", "tcp", "nobody"])  # fmt: skip
@pytest.mark.parametrize("cold", [True, False])
def test_a_walk_changes_nothing(flow: Flow, cold: bool) -> None:
    """Neighbours, FDBs, path MTUs, fragments, sockets, peers: all that is learned stays in the overlay."""
    network = busy_network()
    before = picture(network)
    trace = walk(network, flow, cold=cold)
    assert picture(network) == before and trace.hops
    assert isinstance(trace.after, Network) and picture(trace.after[flow.src]) != picture(network[flow.src])


def test_an_overlay_copies_only_the_rooms_that_were_entered() -> None:
    network = busy_network()
    overlay = network.overlay()
    assert overlay.visited() == [] and "a" in overlay and [r.name for r in overlay] == ["a", "b", "r"]
    overlay = network.overlay()
    assert overlay["a"] is overlay["a"] is not network["a"] and overlay.visited() == ["a"]
    assert overlay.wires is network.wires


def test_walking_on_from_where_a_walk_ended() -> None:
    """`trace.after` is a network like any other: what was learned is known there."""
    network = busy_network()
    first = walk(network, Flow("icmp", "a", IPv4("10.0.1.2")), cold=True)
    assert isinstance(first.after, Network)
    again = walk(first.after, Flow("icmp", "a", IPv4("10.0.1.2"), seq=2), cold=True)
    held = [[s.stage for _, s in t.steps].count("hold") for t in (first, again)]
    assert held[0] > 0 == held[1]


def test_reading_a_missing_room_of_an_overlay_names_it() -> None:
    with pytest.raises(KeyError, match="nowhere"):
        two().overlay()["nowhere"]


def test_a_clone_shares_nothing_that_changes() -> None:
    """Addresses and routes never change, so those are not copied: they are most of a network."""
    a, b = Netns("a"), Netns("b")
    network = veth_pair(a, b)
    a.addr_add("eth0", "10.0.0.1/24")
    copy = network.clone()
    assert copy["a"].fib.routes()[0] is network["a"].fib.routes()[0]
    copy["a"].route_add("10.9.0.0/16", via="10.0.0.2", dev="eth0")
    copy.link_set("a", "eth0", up=False)
    assert "10.9.0.0" not in network["a"].routes
    assert not copy["a"].device("eth0").up and network["a"].device("eth0").up
    near, far = (copy[name].device("eth0") for name in "ab")
    assert isinstance(near, Veth) and near.peer is far, "a pair is copied as a pair"
