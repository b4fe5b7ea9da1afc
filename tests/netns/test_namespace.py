"""The verbs that fill a namespace, and that a walk leaves its network as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from packetwalk.addr import IPv4, Prefix
from packetwalk.engine.walk import walk
from packetwalk.netns.device import Nic, Veth
from packetwalk.netns.fib_table import Nexthop, Route, Table
from packetwalk.netns.namespace import Netns
from packetwalk.netns.policy_rule import Flow as FibFlow
from packetwalk.network import Network
from packetwalk.packet import Packet
from packetwalk.snapshot.iproute import load_snapshot, read_route
from packetwalk.snapshot.reader import Record
from packetwalk.trace import Flow
from tests.netns.rooms import (
    M1,
    M2,
    M3,
    M4,
    arps,
    busy_network,
    echo,
    errnos,
    frame,
    host,
    picture,
    pinger,
    real,
    router,
    sent,
    stages,
    switch,
    tell,
    udp,
    who_has,
)

# -- verbs: what they refuse ------------------------------------------------------------------------------------------


def room_a() -> Netns:
    return host("a", "10.0.0.1/24")


BAD: list[tuple[str, Callable[[Netns], object], str]] = [
    ("device", lambda n: n.device("eth7"), "eth7"),
    ("link_set of nothing", lambda n: n.link_set("eth7", up=True), "eth7"),
    ("link_set into nothing", lambda n: n.link_set("eth0", master="br7"), "br7"),
    ("link_add twice", lambda n: n.link_add("eth0", Nic(mac=M2)), "eth0"),
    ("addr_add to nothing", lambda n: n.addr_add("eth7", "10.0.0.1/24"), "eth7"),
    ("addr_add of no address", lambda n: n.addr_add("eth0", "10.0.0/24"), "10.0.0"),
    ("addr_add beyond 32", lambda n: n.addr_add("eth0", "10.0.0.1/33"), "33"),
    ("addr_add of a word", lambda n: n.addr_add("eth0", "10.0.0.1/x"), "x"),
    ("addr_add of no scope", lambda n: n.addr_add("eth0", "10.0.9.1/24", scope="planet"), "planet"),
    ("addr_add twice", lambda n: n.addr_add("eth0", "10.0.0.1/24"), "10.0.0.1"),
    ("route_add with host bits", lambda n: n.route_add("10.9.0.1/16", dev="eth0"), "10.9.0.0/16"),
    ("route_add by nothing", lambda n: n.route_add("10.9.0.0/16", dev="eth7"), "eth7"),
    ("route_add to nowhere", lambda n: n.route_add("10.9.0.0/16"), "via"),
    ("route_add off link", lambda n: n.route_add("10.9.0.0/16", via="1.2.3.4"), "1.2.3.4"),
    ("route_add via ourselves", lambda n: n.route_add("10.9.0.0/16", via="10.0.0.1"), "10.0.0.1"),
    ("route_add into no table", lambda n: n.route_add("10.9.0.0/16", dev="eth0", table="blue"), "blue"),
    ("route_add of no type", lambda n: n.route_add("10.9.0.0/16", dev="eth0", type="sideways"), "sideways"),
    ("route_add of no scope", lambda n: n.route_add("10.9.0.0/16", dev="eth0", scope="planet"), "planet"),
    ("route_add of a foreign src", lambda n: n.route_add("10.9.0.0/16", dev="eth0", src="1.2.3.4"), "1.2.3.4"),
    ("route_add twice", lambda n: n.route_add("10.0.0.0/24", dev="eth0"), "10.0.0.0/24"),
    ("route_del of nothing", lambda n: n.route_del("10.9.0.0/16"), "10.9.0.0/16"),
    ("rule_add of no action", lambda n: n.rule_add(10, "blue"), "blue"),
    ("neigh_add to nothing", lambda n: n.neigh_add("10.0.0.2", M3, "eth7"), "eth7"),
    ("neigh_add of no MAC", lambda n: n.neigh_add("10.0.0.2", "02:00", "eth0"), "02:00"),
    ("neigh_add of no state", lambda n: n.neigh_add("10.0.0.2", M3, "eth0", state="HAPPY"), "HAPPY"),
    ("fdb_append to nothing", lambda n: n.fdb_append("eth7", M3), "eth7"),
    ("sysctl of a word", lambda n: n.sysctl("net.ipv4.ip_forward", "on"), "on"),
    ("listen on no address", lambda n: n.listen(80, addr="here"), "here"),
]


@pytest.mark.parametrize(("verb", "word"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_verb_refuses_in_one_line(verb: Callable[[Netns], object], word: str) -> None:
    """As iproute2 and the kernel refuse (EINVAL, ENODEV, EEXIST, ENETUNREACH): the line names what was wrong."""
    room = room_a()
    before = picture(room)
    with pytest.raises((ValueError, KeyError)) as caught:
        verb(room)
    (message,) = caught.value.args
    assert word in message and "\n" not in message and message != word
    assert picture(room) == before  # and nothing is half done


# -- verbs: what they write -------------------------------------------------------------------------------------------


def test_a_fresh_room_has_what_a_fresh_namespace_has() -> None:
    """`ip link set lo up` in a new namespace."""
    shown = real("ip link set lo up; ip -4 -j route show table all")
    assert table_of(Netns("a")) == {read_route(r) for r in records(shown)}


def records(text: str) -> list[Record]:
    return [Record(o, Path("-"), "-") for o in json.loads(text)]


def table_of(room: Netns) -> set[Route]:
    """Every route of the room, as one set."""
    return {route for table in room.fib.tables.values() for route in table}


@pytest.mark.parametrize(
    "addrs",
    [
        ["eth0 10.4.0.1/32"],
        ["eth0 10.4.0.1/31"],
        ["eth0 10.4.0.0/31"],
        ["eth0 10.4.0.1/30"],
        ["eth0 10.4.0.5/24"],
        ["eth0 10.4.0.1/24", "eth0 10.4.0.2/24"],  # the second one is secondary
        ["eth0 10.4.0.1/24", "eth0 10.4.0.2/25"],
        ["eth0 10.4.0.1/24", "eth0 10.4.0.2/32"],
        ["eth0 10.4.0.1/24", "eth1 10.4.0.2/24"],  # the same subnet on two devices
        ["eth0 169.254.1.1/16 scope link"],
        ["eth0 10.4.0.1/24 scope host"],
        ["lo 10.4.0.1/32"],
        ["lo 10.4.0.1/24"],
        ["lo 127.0.0.2/8 scope host"],
        ["eth0 192.168.0.0/24"],
        ["eth0 10.4.0.1/8", "eth0 10.4.0.1/16"],
    ],
    ids=", ".join,
)
def test_addr_add_adds_the_kernels_routes(addrs: list[str]) -> None:
    """fib_add_ifaddr, compared with `ip route show table all` in a fresh namespace."""
    links = "\n".join(
        f"ip link add eth{n} type veth peer name far{n}; ip link set eth{n} up; ip link set far{n} up" for n in (0, 1)
    )
    adds = "\n".join(f"ip addr add {a.split()[1]} dev {a.split()[0]} {' '.join(a.split()[2:])}" for a in addrs)
    shown = real(f"ip link set lo up\n{links}\n{adds}\nip -4 -j route show table all")
    room = Netns("a")
    for n in (0, 1):
        room.link_add(f"eth{n}", Nic(mac=M1))
    for line in addrs:
        dev, text, *scope = line.split()
        room.addr_add(dev, text, scope=scope[1] if scope else "global")
    assert table_of(room) == {read_route(r) for r in records(shown)}


def test_addr_add_without_routes_adds_none() -> None:
    room = Netns("a")
    room.link_add("eth0", Nic(mac=M1))
    before = table_of(room)
    room.addr_add("eth0", "10.4.0.1/24", routes=False)
    assert table_of(room) == before and room.is_own(IPv4("10.4.0.1"))


def test_routes_are_listed_as_ip_route_lists_them() -> None:
    """fn_trie_dump_leaf: by address, then the longer prefix first, then tos and metric."""
    lines: list[tuple[str, dict[str, Any]]] = [
        ("default", {"via": "10.4.0.254"}),
        ("default", {"via": "10.4.0.253", "metric": 7}),
        ("10.0.0.0/8", {"via": "10.4.0.9"}),
        ("10.0.0.0/24", {"via": "10.4.0.9", "metric": 3}),
        ("10.0.0.0/24", {"via": "10.4.0.8", "metric": 2}),
        ("10.0.0.0/16", {"type": "blackhole"}),
        ("9.0.0.0/8", {"dev": "eth0"}),
    ]
    room = host("a", "10.4.0.1/24")
    script = "ip link add eth0 type veth peer name far; ip link set far up; ip link set eth0 up\n"
    script += "ip addr add 10.4.0.1/24 dev eth0\n"
    for dst, more in lines:
        room.route_add(dst, **more)
        kind = f"{more.pop('type')} " if "type" in more else ""
        script += f"ip route add {kind}{dst} {' '.join(f'{k} {v}' for k, v in more.items())}\n"
    assert room.routes.splitlines() == [" ".join(x.split()) for x in real(script + "ip route").splitlines()]


def test_a_device_that_goes_down_takes_its_routes_along() -> None:
    """fib_disable_ip: unicast and broadcast routes go, the local address stays (checked on 6.18)."""
    room = host("a", "10.0.0.1/24", gateway="10.0.0.254")
    room.link_set("eth0", up=False)
    left = {str(r) for r in table_of(room) if r.dev == "eth0"}
    assert left == {"local 10.0.0.1 dev eth0 table local proto kernel scope host src 10.0.0.1"}
    assert errnos(room.send(echo("0.0.0.0", "10.0.0.2"), 0, pinger(room))) == ["ENETUNREACH"]


@pytest.mark.parametrize("down", ["eth0", "eth1"])
def test_a_device_that_goes_down_kills_its_share_of_a_route_only(down: str) -> None:
    """fib_sync_down_dev: one of several next hops is marked dead; the route lives on with the other (seen on 6.18)."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24")
    room.route_add("10.9.0.0/16", nexthops=(Nexthop("eth0", IPv4("10.0.0.2")), Nexthop("eth1", IPv4("10.0.1.2"))))
    room.link_set(down, up=False)
    found = [room.fib.lookup(FibFlow(IPv4("10.9.0.1")), n << 27).hop for n in range(16)]
    assert {h.dev for h in found if h} == {"eth0", "eth1"} - {down}


def test_a_share_comes_back_with_its_device_and_a_route_goes_with_its_last() -> None:
    """fib_sync_up, fib_flush: as `ip route` of a 6.18 kernel shows it."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24")
    room.route_add("10.9.0.0/16", nexthops=(Nexthop("eth0", IPv4("10.0.0.2")), Nexthop("eth1", IPv4("10.0.1.2"))))
    lines = [line for line in room.routes.splitlines() if line.startswith("10.9")]
    room.link_set("eth1", up=False)
    assert room.routes.splitlines()[-1] == (
        "10.9.0.0/16 nexthop via 10.0.0.2 dev eth0 weight 1 nexthop via 10.0.1.2 dev eth1 weight 1 dead linkdown"
    )
    room.link_set("eth1", up=True)
    assert [line for line in room.routes.splitlines() if line.startswith("10.9")] == lines
    for dev in ("eth0", "eth1"):
        room.link_set(dev, up=False)
    for dev in ("eth0", "eth1"):
        room.link_set(dev, up=True)
    assert [line.split()[0] for line in room.routes.splitlines()] == ["10.0.0.0/24", "10.0.1.0/24"]


def test_a_device_that_goes_down_leaves_a_shared_table_to_others() -> None:
    """A base table is shared between rooms: what one of them loses, the others keep."""
    room, shared = router("r", "10.0.0.1/24", "10.0.1.1/24"), Table()
    for dst, dev in (("10.20.0.0/16", "eth0"), ("10.30.0.0/16", "eth1")):
        shared.add(Route(Prefix.parse(dst), (Nexthop(dev),)))
    room.fib.table(254).base = shared
    room.link_set("eth0", up=False)
    assert [str(r.dst) for r in shared] == ["10.20.0.0/16", "10.30.0.0/16"]
    assert [str(r.dst) for r in room.fib.routes()] == ["10.0.1.0/24", "10.30.0.0/16"]


@pytest.mark.parametrize("where", ["all", "eth0"])
def test_routes_of_a_link_without_carrier_can_be_ignored(where: str) -> None:
    """fib_lookup_good_nhc: set for all or for the device; local routes stand; seen on 6.18."""
    room, far = router("r", "10.0.1.1/24"), Netns("far")
    room.link_add("veth0", Veth(mac=M3))
    room.addr_add("veth0", "10.0.0.1/24")
    far.link_add("eth0", Veth(mac=M4))
    network = Network("pair")
    for end in (room, far):
        network.add(end)
    network.connect(("r", "veth0"), ("far", "eth0"))
    room.route_add("10.9.0.0/16", nexthops=(Nexthop("veth0", IPv4("10.0.0.2")), Nexthop("eth0", IPv4("10.0.1.2"))))

    def ways(dst: str) -> set[str]:
        found = [room.fib.lookup(FibFlow(IPv4(dst)), n << 27) for n in range(16)]
        return {f.error or (f.hop.dev if f.hop else "?") for f in found}

    far.link_set("eth0", up=False)
    assert ways("10.9.0.1") == {"veth0", "eth0"} and ways("10.0.0.7") == {"veth0"}
    assert "10.0.0.0/24 dev veth0 proto kernel scope link src 10.0.0.1 linkdown" in room.routes.splitlines()
    room.sysctl(f"net.ipv4.conf.{where.replace('eth0', 'veth0')}.ignore_routes_with_linkdown", 1)
    assert ways("10.9.0.1") == {"eth0"} and ways("10.0.0.7") == {"ENETUNREACH"} and ways("10.0.0.1") == {"veth0"}
    assert "10.0.0.0/24 dev veth0 proto kernel scope link src 10.0.0.1 dead linkdown" in room.routes.splitlines()
    far.link_set("eth0", up=True)
    assert ways("10.9.0.1") == {"veth0", "eth0"} and ways("10.0.0.7") == {"veth0"}


def test_a_rule_says_which_device_and_which_target_are_missing() -> None:
    """FIB_RULE_IIF_DETACHED, FIB_RULE_OIF_DETACHED, FIB_RULE_UNRESOLVED, as `ip rule` of a 6.18 kernel prints them."""
    room = router("r", "10.0.0.1/24")
    room.rule_add(100, 100, iif="none0")
    room.rule_add(101, "goto", oif="none1", goto=500)
    room.rule_add(102, 7, iif="a", oif="eth0")
    room.rule_add(103, "goto", goto=102, invert=True, iif="a")
    assert [str(r) for r in room.fib.rules][1:5] == [
        "100: from all iif none0 [detached] lookup 100",
        "101: from all oif none1 [detached] goto 500 [unresolved]",
        "102: from all iif a [detached] oif eth0 lookup 7",
        "103: not from all iif a [detached] goto 102",
    ]
    room.link_add("none0", Nic())
    room.rule_add(500, "nop")
    assert [str(r) for r in room.fib.rules][1:3] == [
        "100: from all iif none0 lookup 100",
        "101: from all oif none1 [detached] goto 500",
    ]


def test_a_second_address_of_a_subnet_is_secondary_only_with_the_same_length() -> None:
    """__inet_insert_ifa."""
    room = host("a", "10.0.0.1/24")
    flags = [room.addr_add("eth0", a).secondary for a in ("10.0.0.2/24", "10.0.0.3/25", "10.0.1.1/24", "10.0.0.4/24")]
    assert flags == [True, False, False, True]


def test_ip_forward_sets_every_device_now_and_later() -> None:
    """inet_forward_change: all, default, and each device; later ones copy the default."""
    room = host("a", "10.0.0.1/24")
    room.sysctl("net.ipv4.ip_forward", 1)
    room.link_add("eth1", Nic(mac=M2))
    assert [room.conf(d).forwarding for d in ("eth0", "eth1")] == [True, True]
    room.sysctl("net.ipv4.conf.eth0.forwarding", 0)
    assert [room.conf(d).forwarding for d in ("eth0", "eth1")] == [False, True]
    room.sysctl("net.ipv4.conf.all.forwarding", 0)
    assert [room.conf(d).forwarding for d in ("eth0", "eth1")] == [False, False]


def test_a_device_with_a_dot_in_its_name() -> None:
    """sysctl writes the dot as a slash."""
    room = Netns("a")
    room.link_add("eth0.5", Nic(mac=M1))
    room.sysctl("net.ipv4.conf.eth0/5.proxy_arp", 1)
    assert room.conf("eth0.5").proxy_arp and not room.conf("lo").proxy_arp


def test_route_add_finds_the_device_by_the_gateway() -> None:
    room = router("r", "10.0.0.1/24", "10.0.1.1/24")
    assert room.route_add("10.9.0.0/16", via="10.0.1.254").dev == "eth1"
    assert str(room.route_add("10.8.0.0/16", dev="eth0")) == "10.8.0.0/16 dev eth0 scope link"
    with pytest.raises(ValueError, match="not on a link of eth0"):
        room.route_add("10.7.0.0/16", via="10.0.1.254", dev="eth0")


def test_route_add_with_several_next_hops() -> None:
    room = router("r", "10.0.0.1/24", "10.0.1.1/24")
    hops = (Nexthop("eth0", IPv4("10.0.0.2")), Nexthop("eth1", IPv4("10.0.1.2"), 3))
    line = "10.9.0.0/16 nexthop via 10.0.0.2 dev eth0 weight 1 nexthop via 10.0.1.2 dev eth1 weight 3"
    assert str(room.route_add("10.9.0.0/16", nexthops=hops)) == line


def test_route_del_takes_the_first_of_that_prefix() -> None:
    room = host("a", "10.0.0.1/24")
    room.route_add("10.9.0.0/16", via="10.0.0.8", metric=8)
    room.route_add("10.9.0.0/16", via="10.0.0.7", metric=7)
    assert room.route_del("10.9.0.0/16").metric == 7
    assert room.route_del("10.9.0.0/16").metric == 8


def test_rule_add_takes_names_and_numbers() -> None:
    room = Netns("a")
    ten = Prefix.parse("10.0.0.0/8")
    assert str(room.rule_add(7, "main", src=ten)) == "7: from 10.0.0.0/8 lookup main"
    assert str(room.rule_add(8, 100, iif="eth0")) == "8: from all iif eth0 lookup 100"
    assert str(room.rule_add(9, "blackhole", dst=ten)) == "9: from all to 10.0.0.0/8 blackhole"
    assert [r.priority for r in room.fib.rules] == [0, 7, 8, 9, 32766, 32767]


def test_listen_answers_udp_and_refuses_other_ports() -> None:
    room = host("a", "10.0.0.1/24")
    room.neigh_add("10.0.0.2", M3, "eth0")
    room.listen(53)
    echoed = tell(room, room.receive("eth0", frame(udp("10.0.0.2", "10.0.0.1", dport=53)), 0))
    assert [stages(v)[-1] for v in echoed] == ["transmit"]
    assert "icmp_error" in stages(room.receive("eth0", frame(udp("10.0.0.2", "10.0.0.1", dport=54)), 0))


def test_a_bridge_port_can_be_set_free() -> None:
    room = switch(ports=2)
    room.link_set("p1", master="")
    assert [d.name for d in room.ports("br0")] == ["p2"]
    assert not sent(room.receive("p2", frame(echo("10.0.0.2", "10.0.0.3"), dst=M4), 0))


# -- a walk changes nothing -------------------------------------------------------------------------------------------


def test_the_picture_shows_a_change_anywhere() -> None:
    """The check below must be able to fail."""
    network = busy_network()
    changes: list[Callable[[], object]] = [
        lambda: network["r"].neighbours.put(network["r"].neigh_add("10.0.0.7", M1, "eth0")),
        lambda: network["r"].bridge_fdb.learn("br0", M1, "p1", 0),
        lambda: network["a"].sockets.bind(pinger(network["a"])),
        lambda: network["r"].peers.update({1: "x"}),  # type: ignore[dict-item]
        network["r"].next_ident,
        lambda: setattr(network["r"].devices["eth1"], "mtu", 99),
        lambda: network["r"].fib.exceptions.update({("x",): "y"}),  # type: ignore[dict-item]
    ]
    for change in changes:
        before = picture(network)
        change()
        assert picture(network) != before


FLOWS = [
    Flow("icmp", "a", IPv4("10.0.1.2")),
    Flow("icmp", "a", IPv4("10.0.1.2"), size=1400),  # learns a path MTU
    Flow("icmp", "a", IPv4("10.0.1.2"), size=1400, df="dont"),  # is cut and put together
    Flow("icmp", "a", IPv4("10.0.1.9")),  # ARP fails at the router
    Flow("icmp", "a", IPv4("10.0.0.9")),  # and at the sender
    Flow("icmp", "a", IPv4("10.9.9.9")),  # no route: peers, tokens
    Flow("udp", "a", IPv4("10.0.1.2"), 80),
    Flow("udp", "a", IPv4("10.0.1.2"), 81),
    Flow("tcp", "a", IPv4("10.0.1.2"), 80, size=5000),
    Flow("icmp", "r", IPv4("10.5.0.12")),  # through the tunnel
]


@pytest.mark.parametrize("cold", [True, False], ids=["cold", "warm"])
@pytest.mark.parametrize("flow", FLOWS, ids=lambda f: f"{f.kind} {f.src} {f.dst} {f.payload} {f.df}")
def test_a_walk_changes_nothing_in_the_network_it_walks(flow: Flow, cold: bool) -> None:
    network = busy_network()
    before = picture(network)
    trace = walk(network, flow, cold=cold)
    assert picture(network) == before
    assert picture(trace.after) != before  # it did learn, elsewhere


def test_the_flows_do_what_they_are_there_for() -> None:
    """Else the test above would compare much ado about nothing."""
    outcomes = [walk(busy_network(), f).result for f in FLOWS]
    assert [(r.outcome, r.errno) for r in outcomes] == [
        ("reply", ""),
        ("icmp_error", ""),
        ("reply", ""),
        ("icmp_error", ""),
        ("icmp_error", ""),
        ("icmp_error", ""),
        ("reply", ""),
        ("error", "ECONNREFUSED"),
        ("connected", ""),
        ("reply", ""),
    ]


def test_two_walks_of_one_network_are_alike() -> None:
    network = busy_network()
    first, second = (walk(network, FLOWS[1], cold=True) for _ in range(2))
    assert picture(first.hops) == picture(second.hops)


@pytest.mark.parametrize("name", ["S3-flannel-vxlan", "S5-calico-ipip", "G330", "F023"])
def test_walks_change_nothing_in_a_real_nodes_tables(shared: Path, name: str) -> None:
    network = load_snapshot(shared / "recordings" / name)
    before = picture(network)
    rooms = [r.name for r in network if any(not a.scope for d in r.devices.values() for a in d.addrs)][:4]
    for src in rooms:
        for dst in rooms:
            addr = next(a.local for d in network[dst].devices.values() for a in d.addrs if not a.scope)
            walk(network, Flow("icmp", src, addr, size=1452))
    assert picture(network) == before


def test_an_overlay_learns_for_itself() -> None:
    """Netns.overlay: neighbours, FDB, exceptions, sockets, peers and fragments are its own."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24")
    before = picture(room)
    over = room.overlay()
    over.receive("eth0", who_has("10.0.0.1", "10.0.0.2"), 0)
    over.receive("eth0", frame(echo("10.0.0.2", "10.9.9.9")), 0)
    fragment = Packet(frame(echo("10.0.0.2", "10.0.0.1", mf=True)).headers, 56)
    over.receive("eth0", fragment, 0)
    pinger(over)
    assert picture(room) == before
    assert picture(over) != before
    assert not arps(sent(over.send(echo("0.0.0.0", "10.0.0.2"), 1)))  # it has learned who that is


def test_a_router_does_not_follow_redirects() -> None:
    """inet_forward_change: turning forwarding on turns conf/all/accept_redirects off, once, when the value changes."""
    r = Netns("r")
    r.link_add("eth0", Veth())
    r.sysctl("net.ipv4.ip_forward", 1)
    assert not r.conf("eth0").accept_redirects
    r.sysctl("net.ipv4.conf.all.accept_redirects", 1)
    r.sysctl("net.ipv4.conf.eth0.forwarding", 0)
    r.sysctl("net.ipv4.ip_forward", 1)
    assert r.conf_values["all"]["accept_redirects"] == 1 and not r.conf("eth0").forwarding, "it was on already"
