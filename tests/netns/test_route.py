"""Routing decisions of packets: in, through and out; sources, next hops, and the kernel itself as judge."""

from __future__ import annotations

from collections import Counter

import pytest

from packetwalk.addr import ANY, BROADCAST_MAC, IPv4, Prefix
from packetwalk.netns.fib_table import Nexthop, Route
from packetwalk.netns.namespace import Netns
from packetwalk.netns.policy_rule import PolicyRule
from packetwalk.netns.route import input_route, output_route
from packetwalk.netns.visit import Skb
from packetwalk.packet import HOST_UNREACH, NET_UNREACH, PKT_FILTERED
from packetwalk.trace import Drop, Reason, Step
from tests.netns.rooms import (
    M3,
    M4,
    SECOND,
    arps,
    echo,
    errnos,
    eth_of,
    frame,
    host,
    icmp_of,
    ip_of,
    pinger,
    reasons,
    router,
    sent,
    stages,
    unsupported,
)

FAR = "10.9.9.9"


def through(room: Netns, dst: str, *, src: str = "10.0.0.2", dev: str = "eth0") -> list[Step]:
    """A packet from a neighbour on eth0."""
    return room.receive(dev, frame(echo(src, dst), dst=room.devices[dev].mac), 0)


def three() -> Netns:
    """A router with three subnets whose .2 are known."""
    return router("r", "10.0.0.1/24", "10.0.1.1/24", "10.0.2.1/24", known=True)


# -- types of routes, for a router ------------------------------------------------------------------------------------


def test_forwarded_by_the_longest_prefix() -> None:
    """ip_route_input_slow, ip_forward: out by that device, one hop less."""
    room = three()
    room.route_add("10.9.0.0/16", via="10.0.1.2")
    room.route_add("10.9.9.0/24", via="10.0.2.2")
    (out,) = sent(through(room, FAR))
    assert (eth_of(out).src, eth_of(out).dst, ip_of(out).ttl) == (room.devices["eth2"].mac, M3, 63)


@pytest.mark.parametrize(
    ("kind", "code"),
    [("unreachable", HOST_UNREACH), ("prohibit", PKT_FILTERED), ("blackhole", None), ("", NET_UNREACH)],
)
def test_what_a_router_answers_where_it_has_no_way(kind: str, code: int | None) -> None:
    """ip_error: EHOSTUNREACH, EACCES, ENETUNREACH have codes; EINVAL (blackhole) is silent."""
    room = three()
    if kind:
        room.route_add("10.9.0.0/16", type=kind)
    steps = through(room, FAR)
    assert len(reasons(steps)) == 1
    assert [(icmp_of(p).type, icmp_of(p).code) for p in sent(steps)] == ([] if code is None else [(3, code)])


@pytest.mark.parametrize(
    ("action", "code"), [("unreachable", NET_UNREACH), ("prohibit", PKT_FILTERED), ("blackhole", None)]
)
def test_what_a_router_answers_by_rule(action: str, code: int | None) -> None:
    """fib4_rule_action: an unreachable rule is a net that is not there."""
    room = three()
    room.rule_add(100, action, iif="eth0")
    steps = through(room, "10.0.1.2")
    assert [(icmp_of(p).type, icmp_of(p).code) for p in sent(steps)] == ([] if code is None else [(3, code)])
    assert sent(through(room, "10.0.1.2", src="10.0.2.2", dev="eth2"), "eth1")


def test_throw_goes_on_with_the_next_table() -> None:
    room = three()
    room.route_add("10.9.0.0/16", type="throw", table=100)
    room.route_add("default", via="10.0.1.2", dev="eth1", table=100)
    room.route_add("default", via="10.0.2.2")
    room.rule_add(10, 100)
    assert [s.dev for s in through(room, FAR) if s.stage == "transmit"] == ["eth2"]
    assert [s.dev for s in through(room, "10.8.8.8") if s.stage == "transmit"] == ["eth1"]


def test_the_answers_of_one_router_to_one_sender_are_few() -> None:
    """ip_error's token bucket: five at once, then one a second (with icmp_ratemask 0; seen on 6.18)."""
    room = three()
    room.sysctl("net.ipv4.icmp_ratemask", 0)
    assert [len(sent(through(room, FAR))) for _ in range(7)] == [1, 1, 1, 1, 1, 0, 0]
    later = room.receive("eth0", frame(echo("10.0.0.2", FAR)), SECOND)
    assert len(sent(later)) == 1


def test_a_local_route_takes_a_whole_subnet_in() -> None:
    """RTN_LOCAL from a route of type local (AnyIP)."""
    room = three()
    room.route_add("10.9.0.0/16", type="local", dev="lo", table="local")
    assert "deliver" in stages(through(room, FAR))


def test_a_longer_prefix_in_main_beats_a_local_route_until_a_rule_is_added() -> None:
    """Tables local and main are one trie (fib_trie_table) until fib_unmerge."""
    room = three()
    room.route_add("10.0.0.0/16", type="local", dev="lo", table="local")
    assert "forward" in stages(through(room, "10.0.1.2"))
    assert room.fib.addr_type(IPv4("10.0.1.2")) == "unicast" and room.fib.addr_type(IPv4("10.0.7.7")) == "local"
    room.rule_add(100, "main", src=Prefix.parse("10.99.0.0/16"))
    assert "forward" not in stages(through(room, "10.0.1.2"))
    assert room.fib.addr_type(IPv4("10.0.1.2")) == "local"


def test_a_source_that_a_local_route_claims_is_a_martian() -> None:
    """fib_validate_source: with fib_has_custom_local_routes the short cut by addresses is not taken."""
    room = three()
    assert "forward" in stages(room.receive("eth0", frame(echo("10.8.0.9", "10.0.1.2")), 0))
    room.route_add("10.8.0.0/16", type="local", dev="lo", table="local")
    steps = room.receive("eth0", frame(echo("10.8.0.9", "10.0.1.2")), 0)
    assert reasons(steps) == [Reason.IP_LOCAL_SOURCE]


@pytest.mark.parametrize(("kind", "table"), [("local", 100), ("broadcast", "main"), ("local", "main")])
def test_a_source_that_any_table_claims_is_a_martian(kind: str, table: int | str) -> None:
    """fib_validate_source looks at every table that the rules name, as soon as there is a rule of one's own."""
    room = three()
    room.rule_add(100, 100, src=Prefix.parse("30.0.0.0/8"))
    room.rule_add(101, 100, dst=Prefix.parse("10.8.0.0/16"))
    assert "forward" in stages(room.receive("eth0", frame(echo("10.8.0.9", "10.0.1.2")), 0))
    room.route_add("10.8.0.0/16", dev="eth0", table=table)
    room.route_replace("10.8.0.0/16", dev="lo", type=kind, table=table)
    steps = room.receive("eth0", frame(echo("10.8.0.9", "10.0.1.2")), 0)
    assert reasons(steps) == [Reason.IP_LOCAL_SOURCE]


def test_a_way_back_that_is_not_modelled_is_named_though_nobody_asks_for_it() -> None:
    room = three()
    room.rule_add(100, 100, src=Prefix.parse("30.0.0.0/8"))
    room.fib.add(Route(Prefix.parse("10.8.0.0/16"), (Nexthop("eth0"),), oddity="encap mpls"))
    steps = room.receive("eth0", frame(echo("10.8.0.9", "10.0.1.2")), 0)
    assert stages(steps)[-1] == "unsupported"


def test_a_subnets_broadcast_is_delivered_and_not_answered() -> None:
    """RTN_BROADCAST; icmp_echo_ignore_broadcasts."""
    steps = through(three(), "10.0.0.255")
    assert not sent(steps) and reasons(steps) == [Reason.INVALID_PROTO]


def test_a_directed_broadcast_is_not_forwarded() -> None:
    """ip_mkroute_input: without bc_forwarding another subnet's broadcast is taken in, never sent on."""
    assert not sent(through(three(), "10.0.1.255"))


def test_a_directed_broadcast_is_forwarded_where_both_sysctls_say_so() -> None:
    """IN_DEV_BFORWARD: `all` and the incoming device."""
    room = three()
    room.sysctl("net.ipv4.conf.eth0.bc_forwarding", 1)
    assert not sent(through(room, "10.0.1.255"))
    room.sysctl("net.ipv4.conf.all.bc_forwarding", 1)
    assert [eth_of(p).dst for p in sent(through(room, "10.0.1.255"))] == [BROADCAST_MAC]


def test_without_forwarding_nothing_is_said() -> None:
    """ip_error with forwarding off: IP_INADDRERRORS, and silence (real-kernel.md, fact 28)."""
    room = three()
    room.sysctl("net.ipv4.conf.eth0.forwarding", 0)
    for dst in ("10.0.1.2", FAR):
        steps = through(room, dst)
        assert reasons(steps) == [Reason.IP_INADDRERRORS] and not sent(steps)


def test_forwarding_is_asked_of_the_incoming_device_only() -> None:
    room = three()
    room.sysctl("net.ipv4.conf.eth1.forwarding", 0)
    assert sent(through(room, "10.0.1.2"), "eth1")


# -- martians ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("src", "dst", "reason"),
    [
        ("224.0.0.1", "10.0.1.2", Reason.IP_INVALID_SOURCE),
        ("255.255.255.255", "10.0.1.2", Reason.IP_INVALID_SOURCE),
        ("0.0.0.0", "10.0.1.2", Reason.IP_INVALID_SOURCE),
        ("10.0.0.2", "0.0.0.0", Reason.IP_INVALID_DEST),
        ("127.0.0.1", "10.0.1.2", Reason.IP_LOCALNET),
        ("10.0.0.2", "127.0.0.1", Reason.IP_LOCALNET),
        ("10.0.0.1", "10.0.1.2", Reason.IP_LOCAL_SOURCE),
        ("10.0.2.1", "10.0.1.2", Reason.IP_LOCAL_SOURCE),
    ],
)
def test_martians(src: str, dst: str, reason: Reason) -> None:
    """ip_route_input_slow, fib_validate_source; an own address as source is dropped, rp_filter or not (fact 29)."""
    steps = through(three(), dst, src=src)
    assert reasons(steps) == [reason] and not sent(steps)


@pytest.mark.parametrize(
    ("src", "rp_filter", "passes"),
    [
        ("10.0.0.2", 1, True),
        ("10.0.2.2", 1, False),  # a way back, by another device
        ("10.0.2.2", 2, True),
        ("10.7.7.7", 0, True),
        ("10.7.7.7", 1, False),  # no way back at all
        ("10.7.7.7", 2, False),
    ],
)
def test_rp_filter(src: str, rp_filter: int, passes: bool) -> None:
    """__fib_validate_source: strict, loose (real-kernel.md, fact 18)."""
    room = three()
    room.sysctl("net.ipv4.conf.eth0.rp_filter", rp_filter)
    steps = through(room, "10.0.1.2", src=src)
    assert bool(sent(steps, "eth1")) is passes
    assert reasons(steps) == ([] if passes else [Reason.IP_RPFILTER])


def test_rp_filter_is_the_greater_of_all_and_the_device() -> None:
    """IN_DEV_RPFILTER is IN_DEV_MAXCONF: all=1 with device=2 is loose (fact 18)."""
    room = three()
    room.sysctl("net.ipv4.conf.all.rp_filter", 1)
    assert reasons(through(room, "10.0.1.2", src="10.0.2.2")) == [Reason.IP_RPFILTER]
    room.sysctl("net.ipv4.conf.eth0.rp_filter", 2)
    assert sent(through(room, "10.0.1.2", src="10.0.2.2"), "eth1")


def test_rp_filter_accepts_every_next_hop_of_a_route_back() -> None:
    """fib_info_nh_uses_dev: any next hop of the route will do."""
    room = three()
    room.sysctl("net.ipv4.conf.all.rp_filter", 1)
    hops = (Nexthop("eth0", IPv4("10.0.0.2")), Nexthop("eth2", IPv4("10.0.2.2")))
    room.route_add("10.9.0.0/16", nexthops=hops)
    for dev in ("eth0", "eth2"):
        assert sent(through(room, "10.0.1.2", src=FAR, dev=dev), "eth1")


def test_accept_local_lets_own_addresses_in() -> None:
    room = three()
    room.sysctl("net.ipv4.conf.eth0.accept_local", 1)
    assert sent(through(room, "10.0.1.2", src="10.0.2.1"), "eth1")


# -- several next hops ------------------------------------------------------------------------------------------------


def multipath(weights: tuple[int, int] = (1, 1), seed: int = 0) -> Netns:
    room = three()
    room.seed = seed
    hops = (Nexthop("eth1", IPv4("10.0.1.2"), weights[0]), Nexthop("eth2", IPv4("10.0.2.2"), weights[1]))
    room.route_add("10.9.0.0/16", nexthops=hops)
    return room


def spread(room: Netns, flows: int = 400) -> list[str]:
    """By which device each of many flows leaves."""
    devs = []
    for n in range(flows):
        steps = through(room, f"10.9.{n // 250}.{n % 250}")
        devs += [s.dev for s in steps if s.stage == "transmit"]
    assert len(devs) == flows
    return devs


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (4, 1)])
def test_many_flows_use_every_next_hop_by_weight(weights: tuple[int, int]) -> None:
    """fib_multipath_hash, fib_select_multipath."""
    count = Counter(spread(multipath(weights)))
    assert abs(count["eth1"] / 400 - weights[0] / sum(weights)) < 0.1


def test_a_flow_keeps_to_one_next_hop_and_a_seed_to_its_choice() -> None:
    """The hash is keyed once per boot; the same seed makes the same choices, another one others."""
    assert spread(multipath(seed=1), 100) == spread(multipath(seed=1), 100)
    assert spread(multipath(seed=1), 100) != spread(multipath(seed=2), 100)
    room = multipath()
    assert len({tuple(s.dev for s in through(room, FAR) if s.stage == "transmit") for _ in range(5)}) == 1


def test_a_host_spreads_its_own_flows_too() -> None:
    """ip_route_output_key_hash_rcu, fib_select_path."""
    room = multipath()
    out = [output_route(room, IPv4(f"10.9.1.{n}"), 0) for n in range(100)]
    assert {rt.dev for rt in out} == {"eth1", "eth2"}
    assert {(rt.dev, str(rt.src)) for rt in out} == {("eth1", "10.0.1.1"), ("eth2", "10.0.2.1")}


def test_dead_next_hops_are_not_used() -> None:
    room = three()
    hops = (Nexthop("eth1", IPv4("10.0.1.2"), dead=True), Nexthop("eth2", IPv4("10.0.2.2")))
    room.route_add("10.9.0.0/16", nexthops=hops)
    assert set(spread(room, 50)) == {"eth2"}


def source(room: Netns, dst: str, **key: object) -> str:
    return str(output_route(room, IPv4(dst), 0, **key).src)  # type: ignore[arg-type]


def test_source_is_an_address_in_the_gateways_subnet() -> None:
    """fib_result_prefsrc, inet_select_addr for the next hop."""
    room = host("a", "10.0.0.1/24")
    room.addr_add("eth0", "10.0.1.1/24")
    room.route_add("10.9.0.0/16", via="10.0.1.254")
    assert [source(room, d) for d in ("10.0.0.7", "10.0.1.7", FAR)] == ["10.0.0.1", "10.0.1.1", "10.0.1.1"]


def test_source_of_a_route_wins() -> None:
    """fib_prefsrc."""
    room = host("a", "10.0.0.1/24")
    room.addr_add("lo", "10.7.7.7/32")
    room.route_add("10.9.0.0/16", via="10.0.0.254", src="10.7.7.7")
    assert source(room, FAR) == "10.7.7.7"


def test_secondary_addresses_are_not_chosen() -> None:
    """IFA_F_SECONDARY."""
    room = host("a", "10.0.0.1/24")
    room.addr_add("eth0", "10.0.0.3/24")
    assert [a.secondary for a in room.devices["eth0"].addrs] == [False, True]
    assert source(room, "10.0.0.7") == "10.0.0.1"


def test_a_link_scope_address_is_not_chosen_for_the_world() -> None:
    """inet_select_addr: the address's scope may not exceed the route's."""
    room = host("a", "")
    room.addr_add("eth0", "169.254.7.7/16", scope="link")
    room.addr_add("eth0", "10.0.0.1/24")
    room.route_add("default", via="10.0.0.254")
    room.route_add("10.8.0.0/16", dev="eth0")
    assert [source(room, d) for d in (FAR, "10.8.0.1")] == ["10.0.0.1", "169.254.7.7"]


def test_a_host_scope_address_is_never_chosen() -> None:
    """inet_select_addr: localnet_scope is RT_SCOPE_HOST, so scope host exceeds link (checked on 6.18)."""
    room = host("a", "")
    room.addr_add("eth0", "10.0.0.5/24", scope="host")
    room.addr_add("eth0", "10.0.1.1/24")
    room.route_add("10.8.0.0/16", dev="eth0")
    assert source(room, "10.8.0.1") == "10.0.1.1"


def test_a_device_without_address_borrows_the_first_of_another() -> None:
    """inet_select_addr goes through all devices in order; lo's 127.0.0.1 is of scope host."""
    room = router("r", "", "10.0.1.1/24")
    room.route_add("10.8.0.0/16", dev="eth0")
    assert source(room, "10.8.0.1") == "10.0.1.1"


@pytest.mark.parametrize("own", ["10.0.0.1", "10.0.1.1"])
def test_to_an_own_address_by_lo_from_itself(own: str) -> None:
    room = three()
    rt = output_route(room, IPv4(own), 0)
    assert (rt.kind, rt.dev, str(rt.src)) == ("local", "lo", own)


@pytest.mark.parametrize(
    ("kind", "errno"),
    [("blackhole", "EINVAL"), ("prohibit", "EACCES"), ("unreachable", "EHOSTUNREACH"), ("", "ENETUNREACH")],
)
def test_what_a_sender_hears_where_there_is_no_way(kind: str, errno: str) -> None:
    """fib_props (real-kernel.md, fact 31)."""
    room = host("a")
    if kind:
        room.route_add("10.9.0.0/16", type=kind)
    steps = room.send(echo("0.0.0.0", FAR), 0, pinger(room))
    assert errnos(steps) == [errno] and not sent(steps)


def test_a_foreign_source_is_refused() -> None:
    """ip_route_output_key_hash_rcu: __ip_dev_find of the source."""
    room = host("a", gateway="10.0.0.254")
    assert output_route(room, IPv4(FAR), 0, src=IPv4("10.0.0.77")).error == "EINVAL"
    socket = pinger(room)
    socket.addr = IPv4("10.0.0.77")
    assert errnos(room.send(echo("0.0.0.0", FAR), 0, socket)) == ["EADDRNOTAVAIL"]


def test_an_oif_that_has_no_route_is_taken_for_a_link() -> None:
    """ip_route_output_key_hash_rcu: "Apparently, routing tables are wrong. Assume, that the destination is on link"."""
    room = three()
    rt = output_route(room, IPv4(FAR), 0, oif="eth1")
    assert (rt.kind, rt.dev, rt.via, str(rt.src)) == ("unicast", "eth1", ANY, "10.0.1.1")


def test_an_oif_keeps_to_routes_of_its_device() -> None:
    room = three()
    room.route_add("default", via="10.0.1.2", metric=1)
    room.route_add("default", via="10.0.2.2", metric=2)
    assert [str(output_route(room, IPv4(FAR), 0, oif=d).via) for d in ("", "eth1", "eth2")] == [
        "10.0.1.2",
        "10.0.1.2",
        "10.0.2.2",
    ]


def test_an_onlink_gateway_is_asked_for_though_no_route_leads_to_it() -> None:
    """RTNH_F_ONLINK."""
    room = host("a")
    room.route_add("10.9.0.0/16", via="1.2.3.4", dev="eth0", onlink=True)
    assert [a.tpa for a in arps(sent(room.send(echo("0.0.0.0", FAR), 0, pinger(room))))] == [IPv4("1.2.3.4")]


def test_a_route_without_gateway_asks_for_the_destination_itself() -> None:
    """rt_nexthop: no gateway, so the destination is the neighbour."""
    room = host("a")
    room.route_add("10.9.0.0/16", dev="eth0")
    assert [a.tpa for a in arps(sent(room.send(echo("0.0.0.0", FAR), 0, pinger(room))))] == [IPv4(FAR)]


def test_a_rule_by_source_routes_by_the_senders_bind() -> None:
    """fib4_rule_match on the source: an unbound socket has none yet when the route is looked up."""
    room = three()
    room.route_add("default", via="10.0.1.2")
    room.route_add("default", via="10.0.2.2", table=100, dev="eth2")
    room.rule_add(10, 100, src=Prefix.parse("10.0.0.0/24"))
    assert str(output_route(room, IPv4(FAR), 0).via) == "10.0.1.2"
    assert str(output_route(room, IPv4(FAR), 0, src=IPv4("10.0.0.1")).via) == "10.0.2.2"


def test_multicast_is_said_not_to_be_modelled() -> None:
    assert unsupported(through(three(), "224.0.0.5"))


def test_unknown_attributes_end_the_branch_by_name() -> None:
    """A guess about a route or rule that is not modelled would be worse than none."""
    room = three()
    hop = Nexthop("eth1", IPv4("10.0.1.2"))
    room.fib.table(254).add(Route(Prefix.parse("10.9.0.0/16"), (hop,), oddity="nhid 7"))
    assert "nhid 7" in unsupported(through(room, FAR))[0]
    assert "nhid 7" in unsupported(room.send(echo("0.0.0.0", FAR), 0, pinger(room)))[0]
    room = three()
    room.fib.set_rules([*room.fib.rules, PolicyRule(10, 254, oddity="uidrange 0-10")])
    assert "uidrange 0-10" in unsupported(through(room, "10.0.1.2"))[0]


# -- redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["send_redirects", "another device", "off"])
def test_a_redirect_is_due_when_a_packet_leaves_as_it_came(setting: str) -> None:
    """__mkroute_input, ip_rt_send_redirect: same device, source on the link."""
    room = three()
    if setting == "another device":
        room.route_add("10.9.0.0/16", via="10.0.1.2")
    else:
        room.route_add("10.9.0.0/16", via="10.0.0.254")
        room.neigh_add("10.0.0.254", M4, "eth0")
    if setting == "off":
        for dev in ("all", "eth0"):
            room.sysctl(f"net.ipv4.conf.{dev}.send_redirects", 0)
    redirects = [p for p in sent(through(room, FAR)) if icmp_of(p).type == 5]
    if setting == "send_redirects":
        assert [icmp_of(p).gateway for p in redirects] == [IPv4("10.0.0.254")]
    else:
        assert not redirects


def test_a_martian_comes_back_as_the_drop_it_is() -> None:
    packet = echo("10.0.0.1", "10.0.1.2")
    found = input_route(three(), Skb(packet, "eth0"), ip_of(packet), 0)
    assert isinstance(found, Drop) and found.reason == Reason.IP_LOCAL_SOURCE
