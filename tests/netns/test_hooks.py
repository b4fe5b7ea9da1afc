"""The hooks: which table sees a packet when, and what rules, tracking and NAT do to it on its way through a room."""

import pytest

from packetwalk.addr import IPv4
from packetwalk.netns.conntrack import CONFIRMED, Tracked
from packetwalk.netns.device import Veth
from packetwalk.netns.fragment import fragment
from packetwalk.netns.hooks import Policy, Rewrite
from packetwalk.netns.namespace import Netns
from packetwalk.netns.seen import Hit
from packetwalk.netns.socket import Socket
from packetwalk.packet import (
    ECHO_REPLY,
    PROTO_UDP,
    REDIRECT,
    TIME_EXCEEDED,
    UNREACHABLE,
    Ethernet,
    Packet,
    Tcp,
    Udp,
)
from packetwalk.trace import Drop, Reason, Step
from tests.netns.rooms import (
    M1,
    M2,
    M3,
    M4,
    about,
    echo,
    echo_reply,
    errnos,
    eth_of,
    frame,
    host,
    icmp_of,
    ip_of,
    iptables,
    known,
    of,
    one,
    pinger,
    reasons,
    router,
    sent,
    stages,
    switch,
    tcp,
    terminals,
    udp,
    unsupported,
    veth_pair,
    vxlan,
)

LEFT, RIGHT = "10.0.0.2", "10.0.1.2"


def between() -> Netns:
    """A router between 10.0.0.0/24 (eth0) and 10.0.1.0/24 (eth1) that knows both neighbours."""
    return router("r", "10.0.0.1/24", "10.0.1.1/24", known=True)


def right(room: Netns, packet: Packet, now: int = 0) -> list[Step]:
    """A packet from the left comes in."""
    return room.receive("eth0", frame(packet), now)


def left(room: Netns, packet: Packet, now: int = 0) -> list[Step]:
    """A packet from the right comes in."""
    return room.receive("eth1", frame(packet, M2), now)


def walked(steps: list[Step]) -> list[str]:
    """Where rules matched, tracking looked and NAT rewrote, in order."""
    return [s.dev if s.stage == "rule" else s.stage for s in steps if s.stage in ("rule", "conntrack", "nat")]


def marked(room: Netns, *places: str) -> None:
    """A rule that matches everything and does nothing but be seen, in each TABLE/CHAIN."""
    for place in places:
        table, chain = place.split("/")
        iptables(room, table, f"-A {chain} -j MARK --set-xmark 0x0/0x0")


# -- order -------------------------------------------------------------------------------------------------------------

EVERYWHERE = [
    f"{table}/{chain}"
    for table, chains in {
        "raw": ("PREROUTING", "OUTPUT"),
        "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
        "filter": ("INPUT", "FORWARD", "OUTPUT"),
        "security": ("INPUT", "FORWARD", "OUTPUT"),
    }.items()
    for chain in chains
]
NAT_RULES = [
    "-A PREROUTING -d 10.0.0.99 -j DNAT --to-destination 10.0.1.2",
    "-A POSTROUTING -o eth1 -j SNAT --to-source 10.0.1.1",
    "-A OUTPUT -d 10.9.9.9 -j DNAT --to-destination 10.0.1.2",
    "-A INPUT -j SNAT --to-source 10.0.0.77",
]


def test_a_forwarded_packet_meets_the_tables_in_the_kernels_order() -> None:
    room = between()
    marked(room, *EVERYWHERE)
    iptables(room, "nat", *NAT_RULES)
    assert walked(right(room, echo(LEFT, "10.0.0.99"))) == [
        "prerouting/raw", "conntrack", "prerouting/mangle", "prerouting/nat", "nat",
        "forward/mangle", "forward/filter", "forward/security", "postrouting/mangle", "postrouting/nat", "nat",
    ]  # fmt: skip


def test_a_packet_for_this_host_meets_input_last() -> None:
    room = between()
    marked(room, *EVERYWHERE)
    iptables(room, "nat", *NAT_RULES)
    steps = right(room, udp(LEFT, "10.0.0.1"))
    assert walked(steps)[:8] == [
        "prerouting/raw", "conntrack", "prerouting/mangle", "input/mangle", "input/filter", "input/security",
        "input/nat", "nat",
    ]  # fmt: skip


def test_a_packet_of_this_host_is_routed_again_after_a_dnat() -> None:
    room = between()
    marked(room, *EVERYWHERE)
    iptables(room, "nat", *NAT_RULES)
    room.route_add("default", via=LEFT)
    steps = room.send(udp("0.0.0.0", "10.9.9.9"), 0)
    assert walked(steps) == [
        "output/raw", "conntrack", "output/mangle", "output/nat", "nat", "output/filter", "output/security",
        "postrouting/mangle", "postrouting/nat", "nat",
    ]  # fmt: skip
    assert terminals(steps) == [("transmit", "eth1")]
    assert (ip_of(sent(steps)[0]).src, ip_of(sent(steps)[0]).dst) == (IPv4("10.0.1.1"), IPv4(RIGHT))


def test_the_filter_of_output_still_sees_the_old_device() -> None:
    room = between()
    iptables(room, "nat", NAT_RULES[2])
    iptables(room, "filter", "-A OUTPUT -o eth1 -j DROP", "-A OUTPUT -o eth0 -d 10.0.1.2 -j ACCEPT")
    room.route_add("default", via=LEFT)
    steps = room.send(udp("0.0.0.0", "10.9.9.9"), 0)
    assert [s.what.number for s in of(steps, "rule") if isinstance(s.what, Hit)] == [1, 2]
    assert terminals(steps) == [("transmit", "eth1")]


def test_a_mark_in_mangle_output_routes_again_and_one_in_filter_does_not() -> None:
    for table, dev in (("mangle", "eth1"), ("filter", "eth0")):
        room = between()
        room.rule_add(100, 7, fwmark=1, fwmask=0xFF)
        room.route_add("default", via=RIGHT, table=7)
        room.route_add("default", via=LEFT)
        iptables(room, table, "-A OUTPUT -j MARK --set-xmark 0x1/0xff")
        assert terminals(room.send(udp("0.0.0.0", "10.9.9.9"), 0)) == [("transmit", dev)]


def test_a_room_without_rules_makes_no_step() -> None:
    steps = right(between(), echo(LEFT, RIGHT))
    assert stages(steps) == ["receive", "route_in", "forward", "neigh", "transmit"]


def test_rules_that_lead_on_are_jumps() -> None:
    room = between()
    iptables(room, "filter", "-A FORWARD -j U1", "-A U1 -j U2", "-A U2 -j RETURN", "-A U1 -p icmp -j ACCEPT")
    steps = right(room, echo(LEFT, RIGHT))
    assert [str(s.what).partition(":")[0] for s in of(steps, "jump")] == ["FORWARD 1", "U1 1", "U2 1"]
    hit = one(steps, "rule").what
    assert isinstance(hit, Hit) and (hit.chain, hit.number, hit.stack) == ("U1", 2, ("FORWARD",))


# -- verdicts ----------------------------------------------------------------------------------------------------------


def test_a_drop_names_its_rule_and_leaves_no_connection() -> None:
    room = between()
    iptables(room, "filter", "-A FORWARD -m conntrack --ctstate NEW -j DROP")
    steps = right(room, udp(LEFT, RIGHT))
    drop = one(steps, "drop")
    assert drop.dev == "forward/filter" and isinstance(drop.what, Drop)
    assert drop.what.reason is Reason.NETFILTER_DROP and isinstance(drop.what.by, Hit)
    assert room.conns.all() == []


def test_a_policy_drops_too() -> None:
    room = between()
    iptables(room, "filter", FORWARD="DROP")
    drop = one(right(room, udp(LEFT, RIGHT)), "drop").what
    assert isinstance(drop, Drop) and drop.by == Policy("filter", "FORWARD")
    assert str(drop.by) == "policy of filter FORWARD"


def test_a_sender_whose_packet_is_dropped_hears_eperm() -> None:
    for table, chain in (("raw", "OUTPUT"), ("filter", "OUTPUT"), ("mangle", "POSTROUTING")):
        room = between()
        iptables(room, table, f"-A {chain} -p icmp -j DROP")
        assert errnos(room.send(echo("0.0.0.0", RIGHT), 0, pinger(room))) == ["EPERM"]


def test_a_sender_hears_nothing_of_a_tunnel_packet_that_is_dropped() -> None:
    room = between()
    vxlan(room, remote=RIGHT)
    room.addr_add("vx0", "10.5.0.1/24")
    room.neigh_add("10.5.0.2", M4, "vx0")
    iptables(room, "filter", "-A OUTPUT -p udp -j DROP")
    steps = room.send(echo("0.0.0.0", "10.5.0.2"), 0, pinger(room))
    assert reasons(steps) == [Reason.NETFILTER_DROP] and errnos(steps) == []


def test_what_is_not_modelled_ends_the_branch_and_is_named() -> None:
    room = between()
    iptables(room, "mangle", "-A PREROUTING -p udp -j TPROXY --on-port 1")
    steps = right(room, udp(LEFT, RIGHT))
    assert len(unsupported(steps)) == 1 and "TPROXY" in unsupported(steps)[0]
    assert not sent(steps)


@pytest.mark.parametrize(
    ("kind", "code"),
    [("icmp-port-unreachable", 3), ("icmp-host-prohibited", 10), ("icmp-admin-prohibited", 13)],
)
def test_a_rejected_packet_is_answered_from_the_device_it_came_by(kind: str, code: int) -> None:
    room = between()
    iptables(room, "filter", f"-A FORWARD -j REJECT --reject-with {kind}")
    steps = right(room, udp(LEFT, RIGHT, ttl=64))
    answer = sent(steps)[0]
    assert (icmp_of(answer).type, icmp_of(answer).code) == (UNREACHABLE, code)
    assert (ip_of(answer).src, ip_of(answer).dst, ip_of(answer).tos) == (IPv4("10.0.0.1"), IPv4(LEFT), 0xC0)
    assert about(answer).ttl == 63, "FORWARD sees what ip_forward left (real-kernel.md 10)"
    assert reasons(steps) == [Reason.NETFILTER_DROP] and room.conns.all() == []


def test_a_first_fragment_is_rejected_in_silence() -> None:
    """nf_send_unreach verifies the checksum (nf_reject_verify_csum), and a fragment has only part of what it covers."""
    room = between()
    iptables(room, "filter", "-A FORWARD -j REJECT")
    steps = right(room, udp(LEFT, RIGHT, mf=True))
    assert sent(steps) == [] and reasons(steps) == [Reason.NETFILTER_DROP]


def test_a_first_fragment_is_answered_only_where_nobody_verifies_its_checksum() -> None:
    """nf_send_unreach: what a tunnel with checksums brought in counts as verified (skb_csum_unnecessary)."""
    room = between()
    vxlan(room, remote=RIGHT)
    iptables(room, "filter", "-A FORWARD -j REJECT")
    first = fragment(udp(LEFT, RIGHT, size=3000), 1400)[0]
    assert sent(right(room, first)) == []
    assert icmp_of(sent(room.receive("vx0", frame(first, M4), 0))[0]).type == UNREACHABLE


def test_a_reset_comes_in_the_name_of_the_destination() -> None:
    room = between()
    iptables(room, "filter", "-A FORWARD -p tcp -j REJECT --reject-with tcp-reset")
    answer = sent(right(room, tcp(LEFT, RIGHT)))[0]
    ip, rst = ip_of(answer), answer.headers[-1]
    assert (ip.src, ip.dst, ip.df, ip.ttl, ip.len) == (IPv4(RIGHT), IPv4(LEFT), True, 64, 40)
    assert isinstance(rst, Tcp) and (rst.flags, rst.ack) == ("RA", 1)
    assert sent(right(room, tcp(LEFT, RIGHT, flags="R"))) == [], "a reset is not answered"


def test_a_connection_attempt_rejected_here_is_refused_at_once() -> None:
    room = between()
    iptables(room, "filter", "-A OUTPUT -p udp -j REJECT")
    socket = room.sockets.bind(Socket(PROTO_UDP, 40000, recverr=True))
    steps = room.send(udp("0.0.0.0", RIGHT), 0, socket)
    assert errnos(steps)[0] == "EPERM"
    assert "ECONNREFUSED" in [getattr(s.what, "errno", "") for s in of(steps, "deliver")]


# -- connection tracking -----------------------------------------------------------------------------------------------


def test_only_what_leaves_or_arrives_is_confirmed() -> None:
    room = between()
    room.conntrack = True
    right(room, udp(LEFT, RIGHT))
    assert [bool(c.status & CONFIRMED) for c in room.conns.all()] == [True]
    right(room, udp(LEFT, "10.9.9.9"))
    assert len(room.conns.all()) == 1, "no route: nothing remains"


def test_states_are_what_rules_see() -> None:
    room = between()
    iptables(
        room, "filter",
        "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -i eth0 -j ACCEPT",
        FORWARD="DROP",
    )  # fmt: skip
    assert reasons(left(room, echo(RIGHT, LEFT))) == [Reason.NETFILTER_DROP]
    assert sent(right(room, echo(LEFT, RIGHT)), "eth1")
    assert sent(left(room, echo_reply(RIGHT, LEFT)), "eth0")


def test_an_answer_without_a_question_is_invalid() -> None:
    room = between()
    iptables(room, "filter", "-A FORWARD -m conntrack --ctstate INVALID -j DROP")
    assert reasons(left(room, echo_reply(RIGHT, LEFT))) == [Reason.NETFILTER_DROP]


def test_what_is_not_tracked_is_neither_new_nor_invalid_nor_translated() -> None:
    room = between()
    iptables(room, "raw", "-A PREROUTING -p udp -j CT --notrack")
    iptables(room, "nat", "-A POSTROUTING -j MASQUERADE")
    iptables(room, "filter", "-A FORWARD -m conntrack ! --ctstate UNTRACKED -j DROP")
    steps = right(room, udp(LEFT, RIGHT))
    assert ip_of(sent(steps)[0]).src == IPv4(LEFT) and room.conns.all() == []
    assert not of(steps, "nat") and not of(steps, "conntrack")


def test_a_walk_changes_only_its_overlay() -> None:
    room = between()
    room.conntrack = True
    copy = room.overlay()
    right(copy, udp(LEFT, RIGHT))
    assert len(copy.conns.all()) == 1 and room.conns.all() == []


# -- NAT ---------------------------------------------------------------------------------------------------------------


def test_an_answer_is_untranslated_without_any_rule() -> None:
    room = between()
    iptables(room, "nat", "-A PREROUTING -d 10.0.0.99 -p udp -j DNAT --to-destination 10.0.1.2:5353")
    there = sent(right(room, udp(LEFT, "10.0.0.99", sport=40000, dport=53)))[0]
    udp_there = there.headers[-1]
    assert ip_of(there).dst == IPv4(RIGHT) and isinstance(udp_there, Udp) and udp_there.dport == 5353
    steps = left(room, udp(RIGHT, LEFT, sport=5353, dport=40000))
    assert not of(steps, "rule")
    tracked, rewrite = one(steps, "conntrack").what, one(steps, "nat")
    assert isinstance(tracked, Tracked) and (tracked.state, tracked.direction) == ("ESTABLISHED", "REPLY")
    assert isinstance(rewrite.what, Rewrite) and rewrite.what.side == "src" and rewrite.dev == "postrouting"
    back = sent(steps)[0].headers[-1]
    assert ip_of(sent(steps)[0]).src == IPv4("10.0.0.99") and isinstance(back, Udp) and back.sport == 53


def test_masquerade_takes_the_address_of_the_device_it_leaves_by_and_ignores_the_routes_src() -> None:
    room = between()
    room.addr_add("lo", "10.99.99.99/32")
    room.route_add("10.7.0.0/24", via=RIGHT, src="10.99.99.99")
    iptables(room, "nat", "-A POSTROUTING -j MASQUERADE")
    assert ip_of(sent(right(room, udp(LEFT, "10.7.0.7")))[0]).src == IPv4("10.0.1.1")


def test_masquerade_ends_with_its_device() -> None:
    room = between()
    iptables(room, "nat", "-A POSTROUTING -o eth1 -j MASQUERADE")
    right(room, udp(LEFT, RIGHT))
    assert len(room.conns.all()) == 1
    room.link_set("eth1", up=False)
    assert room.conns.all() == []


def test_masquerade_without_an_address_drops() -> None:
    room = between()
    room.link_add("eth2", Veth(mac=M4))
    room.route_add("10.7.0.0/24", dev="eth2")
    for dev in room.devices.values():
        dev.addrs = [a for a in dev.addrs if dev.name == "lo"]
    iptables(room, "nat", "-A POSTROUTING -j MASQUERADE")
    assert reasons(right(room, udp(LEFT, "10.7.0.7"))) == [Reason.NETFILTER_DROP]


def test_redirect_goes_to_the_address_of_the_device_and_to_loopback_for_this_host() -> None:
    room = between()
    iptables(room, "nat", "-A PREROUTING -p udp -j REDIRECT --to-ports 5353", "-A OUTPUT -p udp -j REDIRECT")
    room.sockets.bind(Socket(PROTO_UDP, 5353))
    steps = right(room, udp(LEFT, "8.8.8.8", dport=53))
    assert ip_of(one(steps, "deliver").packet).dst == IPv4("10.0.0.1")
    room.sockets.bind(Socket(PROTO_UDP, 53))
    room.route_add("default", via=LEFT)
    steps = room.send(udp("0.0.0.0", "8.8.8.8", dport=53), 0)
    assert ip_of(one(steps, "deliver").packet).dst == IPv4("127.0.0.1")


def test_an_error_about_a_service_seems_to_come_from_the_service() -> None:
    """A4: traceroute to a service shows the service's address at every hop."""
    room = between()
    iptables(room, "nat", "-A PREROUTING -d 10.96.0.10 -j DNAT --to-destination 10.0.1.2")
    answer = sent(right(room, udp(LEFT, "10.96.0.10", ttl=1)))[0]
    assert icmp_of(answer).type == TIME_EXCEEDED and ip_of(answer).src == IPv4("10.96.0.10")
    assert about(answer).dst == IPv4("10.96.0.10")
    assert room.conns.all() == []


def test_a_redirect_of_a_first_packet_dies_where_nat_is() -> None:
    for with_nat, told in ((False, [REDIRECT]), (True, [])):
        room = between()
        room.neigh_add("10.0.0.3", M4, "eth0")
        room.conntrack = True
        if with_nat:
            iptables(room, "nat", "-A PREROUTING -s 1.2.3.4 -j DNAT --to-destination 1.2.3.5")
        room.route_add("10.7.0.0/24", via="10.0.0.3")
        steps = right(room, udp(LEFT, "10.7.0.7"))
        assert [icmp_of(p).type for p in sent(steps) if ip_of(p).proto == 1] == told


def test_host_unreachable_finds_the_client_behind_the_masquerade() -> None:
    room = router("r", "10.0.0.1/24", "10.0.1.1/24")
    room.neigh_add(LEFT, M3, "eth0")
    iptables(room, "nat", "-A POSTROUTING -o eth1 -j MASQUERADE")
    steps = right(room, udp(LEFT, RIGHT))
    for second in (1, 2, 3):
        timer = next(s.what for s in steps if s.stage == "timer")
        steps = room.wake(timer, second * 1_000_000_000)  # type: ignore[arg-type]
    answer = sent(steps, "eth0")[0]
    assert (icmp_of(answer).type, ip_of(answer).dst, about(answer).src) == (UNREACHABLE, IPv4(LEFT), IPv4(LEFT))


def test_a_looping_packet_gets_another_port_each_time() -> None:
    """Fact 30: what was SNATed comes back as a new connection whose tuple is taken."""
    room = between()
    iptables(room, "nat", "-A POSTROUTING -o eth1 -j SNAT --to-source 10.0.9.9")
    first = sent(right(room, udp(LEFT, RIGHT)))[0].headers[-1]
    second = sent(right(room, udp("10.0.9.9", RIGHT)))[0].headers[-1]
    assert isinstance(first, Udp) and isinstance(second, Udp)
    assert first.sport == 40000 and second.sport != 40000


# -- br_netfilter ------------------------------------------------------------------------------------------------------

P1, P2 = "10.0.0.11", "10.0.0.12"


def filtering(**more: str) -> Netns:
    """A bridge with 10.0.0.1 that calls iptables; P1 (M3) is known at p1, P2 (M4) at p2."""
    room = switch("sw", addr="10.0.0.1/24")
    room.sysctl("net.bridge.bridge-nf-call-iptables", 1)
    room.sysctl("net.ipv4.ip_forward", 1)
    for dev, mac in (("p1", M3), ("p2", M4)):
        room.fdb_append(dev, mac)
    return room


def bridged(room: Netns, packet: Packet, dst: str = str(M4)) -> list[Step]:
    return room.receive("p1", frame(packet, type(M4)(dst)), 0)


def test_a_bridged_frame_meets_prerouting_forward_and_postrouting() -> None:
    room = filtering()
    room.conntrack = True
    marked(room, "raw/PREROUTING", "filter/FORWARD", "mangle/POSTROUTING", "filter/INPUT")
    iptables(room, "filter", "-A FORWARD -i br0 -o br0 -m physdev --physdev-in p1 --physdev-out p2 -j ACCEPT")
    steps = bridged(room, udp(P1, P2))
    assert walked(steps) == ["prerouting/raw", "conntrack", "forward/filter", "forward/filter", "postrouting/mangle"]
    assert sent(steps) == [frame(udp(P1, P2), M4)], "ttl and addresses as they came"
    assert len(room.conns.all()) == 1


def test_without_the_sysctl_a_bridge_only_bridges() -> None:
    room = filtering()
    room.sysctl("net.bridge.bridge-nf-call-iptables", 0)
    iptables(room, "filter", "-A FORWARD -j DROP")
    assert sent(bridged(room, udp(P1, P2)))


def test_a_bridged_frame_may_be_dropped_or_rejected() -> None:
    room = filtering()
    iptables(room, "filter", "-A FORWARD -p udp -j REJECT", "-A FORWARD -p tcp -j REJECT --reject-with tcp-reset")
    known(room, "REACHABLE", P1, M3, dev="br0")
    answer = sent(bridged(room, udp(P1, P2)), "p1")[0]
    assert icmp_of(answer).type == UNREACHABLE and eth_of(answer).src == M1
    answer = sent(bridged(room, tcp(P1, P2)), "p1")[0]
    assert answer.headers[0] == Ethernet(M4, M3), "in the name of the destination, link address and all"


def test_a_service_behind_the_same_bridge_is_reached_by_bridging() -> None:
    room = filtering()
    iptables(room, "nat", f"-A PREROUTING -d 10.96.0.10 -j DNAT --to-destination {P2}")
    known(room, "REACHABLE", P2, M4, dev="br0")
    out = sent(bridged(room, udp(P1, "10.96.0.10"), str(M1)))
    assert [eth_of(p) for p in out] == [Ethernet(M3, M4)], "not seen on br0, source address kept"
    assert ip_of(out[0]).dst == IPv4(P2) and ip_of(out[0]).ttl == 64


def test_a_stale_neighbour_makes_the_bridge_device_send_it() -> None:
    room = filtering()
    iptables(room, "nat", f"-A PREROUTING -d 10.96.0.10 -j DNAT --to-destination {P2}")
    known(room, "STALE", P2, M4, dev="br0")
    steps = bridged(room, udp(P1, "10.96.0.10"), str(M1))
    assert eth_of(sent(steps, "br0")[0]) == Ethernet(M1, M4)
    assert eth_of(sent(steps, "p2")[0]) == Ethernet(M3, M4)


def test_a_service_elsewhere_is_routed_and_prerouting_runs_once() -> None:
    room = filtering()
    room.link_add("eth0", Veth(mac=M2))
    room.addr_add("eth0", "10.0.1.1/24")
    room.neigh_add(RIGHT, M4, "eth0")
    iptables(room, "nat", f"-A PREROUTING -d 10.96.0.10 -j DNAT --to-destination {RIGHT}")
    marked(room, "raw/PREROUTING")
    steps = bridged(room, udp(P1, "10.96.0.10"), str(M1))
    assert walked(steps) == ["prerouting/raw", "conntrack", "prerouting/nat", "nat"]
    seen = one([s for s in steps if s.dev == "br0"], "receive").packet
    assert ip_of(seen).dst == IPv4(RIGHT), "the bridge device sees it after NAT (real-kernel.md 2)"
    assert ip_of(sent(steps, "eth0")[0]).ttl == 63


def test_a_service_behind_a_bridge_that_does_not_forward_goes_up_and_dies() -> None:
    """br_nf_pre_routing_finish: an error is a route, too, so the frame is handed to the host (ip_error)."""
    room = filtering()
    room.sysctl("net.ipv4.ip_forward", 0)
    iptables(room, "nat", f"-A PREROUTING -d 10.96.0.10 -j DNAT --to-destination {P2}")
    steps = bridged(room, udp(P1, "10.96.0.10"), str(M1))
    assert one([s for s in steps if s.dev == "br0"], "receive") and not sent(steps)
    assert reasons(steps) == [Reason.IP_INADDRERRORS]


# -- loopback ----------------------------------------------------------------------------------------------------------


def test_over_loopback_a_packet_keeps_its_connection() -> None:
    room = host("a")
    room.conntrack = True
    socket = pinger(room)
    steps = room.send(echo("0.0.0.0", "127.0.0.1"), 0, socket)
    assert [s.dev for s in of(steps, "conntrack")] == ["output", "output"], "request and answer, each tracked once"
    assert [icmp_of(s.packet).type for s in of(steps, "deliver")][-1] == ECHO_REPLY
    assert len(room.conns.all()) == 1


def test_between_rooms_nothing_of_it_travels() -> None:
    a, b = Netns("a"), Netns("b")
    veth_pair(a, b)
    a.addr_add("eth0", "10.0.0.1/24")
    b.addr_add("eth0", "10.0.0.2/24")
    a.neigh_add("10.0.0.2", M2, "eth0")
    iptables(a, "mangle", "-A OUTPUT -j MARK --set-xmark 0x5/0xff")
    iptables(b, "mangle", "-A PREROUTING -m mark --mark 0x5/0xff -j DROP")
    out = sent(a.send(echo("0.0.0.0", "10.0.0.2"), 0, pinger(a)))
    assert reasons(b.receive("eth0", out[0], 0)) == []
