"""ARP: asking, waiting, giving up, and using what is known; see test_arp_answer for the other side."""

from __future__ import annotations

import pytest

from packetwalk.addr import ANY, BROADCAST_MAC, ZERO_MAC, IPv4, Mac
from packetwalk.netns.device import Nic
from packetwalk.netns.namespace import Netns
from packetwalk.netns.neighbour import UNRES_QLEN_BYTES
from packetwalk.netns.socket import Delivery, Socket
from packetwalk.packet import (
    ARP_REPLY,
    ARP_REQUEST,
    HOST_UNREACH,
    PROTO_ICMP,
    UNREACHABLE,
    Arp,
    Ethernet,
    Vxlan,
)
from packetwalk.trace import Reason, Step, Timer
from tests.netns.rooms import (
    M1,
    M2,
    M3,
    M4,
    SECOND,
    STRANGER,
    B,
    about,
    arps,
    echo,
    echo_reply,
    errnos,
    eth_of,
    frame,
    host,
    icmp_of,
    ip_of,
    is_at,
    known,
    of,
    ping,
    pinger,
    reasons,
    router,
    sent,
    stages,
    state_of,
    switch,
    terminals,
    timers,
    two_addresses,
    udp,
    vxlan,
    who_has,
)


def give_up(room: Netns, steps: list[Step]) -> list[list[Step]]:
    """Wake the room whenever it wants until it wants no more; the steps of each time."""
    (timer,) = timers(steps, "arp")
    visits = []
    while True:
        visits.append(room.wake(timer, timer.at))
        if not timers(visits[-1], "arp"):
            return visits
        (timer,) = timers(visits[-1], "arp")


# -- asking and waiting -----------------------------------------------------------------------------------------------


def test_the_first_packet_asks_and_waits() -> None:
    """neigh_resolve_output, arp_solicit: one broadcast; the packet is held."""
    room = host("a")
    steps = ping(room)
    assert terminals(steps) == [("hold", "eth0"), ("transmit", "eth0")]
    (question,) = sent(steps)
    assert question.headers == (
        Ethernet(M1, BROADCAST_MAC, 0x0806),
        Arp(ARP_REQUEST, M1, IPv4("10.0.0.1"), ZERO_MAC, IPv4(B)),
    )
    assert [t.at for t in timers(steps, "arp")] == [SECOND]


def test_packets_wait_together_and_leave_in_order() -> None:
    """__neigh_event_send queues at the tail, __neigh_update empties from the head; nobody asks twice."""
    room = host("a")
    visits = [ping(room, seq=n) for n in (1, 2, 3)]
    assert [len(arps(sent(v))) for v in visits] == [1, 0, 0]
    steps = room.receive("eth0", is_at(B, M3), SECOND // 2)
    assert [icmp_of(p).seq for p in sent(steps)] == [1, 2, 3]
    assert {eth_of(p)[:2] for p in sent(steps)} == {(M1, M3)}
    assert state_of(room) == (M3, "REACHABLE")


def test_a_full_queue_loses_its_oldest_packet() -> None:
    """__neigh_event_send: unres_qlen_bytes; the head of the queue goes (SKB_DROP_REASON_NEIGH_QUEUEFULL)."""
    room = host("a")
    dropped: list[int] = []
    for n in range(1, 201):
        steps = ping(room, seq=n, size=1472)
        assert set(reasons(steps)) <= {Reason.NEIGH_QUEUEFULL}
        dropped += [icmp_of(s.packet).seq for s in of(steps, "drop")]
    left = [icmp_of(p).seq for p in sent(room.receive("eth0", is_at(B, M3), 1))]
    assert dropped and dropped + left == list(range(1, 201))
    assert len(left) * 1500 <= UNRES_QLEN_BYTES


def test_a_waiting_packet_counts_with_the_memory_it_takes() -> None:
    """__neigh_event_send adds up skb->truesize: 500 pings of 84 bytes take far more than 212,992 bytes."""
    room = host("a")
    assert any(reasons(ping(room, seq=n)) for n in range(500))


@pytest.mark.parametrize(("size", "left"), [(56, 256), (200, 166), (600, 166), (1472, 92)])
def test_as_many_datagrams_wait_as_in_the_kernel(size: int, left: int) -> None:
    """Measured on 6.18: truesize is 256 and the head, which is 576 bytes (skb_small_head_cache), 1024 or 2048."""
    room = host("a")
    for n in range(600):
        room.send(udp("0.0.0.0", B, size=size, sport=1000 + n), 0)
    assert len(sent(room.receive("eth0", is_at(B, M3), 1))) == left


def test_other_next_hops_have_queues_of_their_own() -> None:
    room = host("a", gateway="10.0.0.254")
    ping(room)
    steps = ping(room, "8.8.8.8")
    assert [a.tpa for a in arps(sent(steps))] == [IPv4("10.0.0.254")]
    assert [ip_of(p).dst for p in sent(room.receive("eth0", is_at("10.0.0.254", M4), 1))] == [IPv4("8.8.8.8")]


def test_a_question_from_the_one_we_ask_is_an_answer_too() -> None:
    """neigh_event_ns: the asker's address becomes STALE, which is valid: the queue is emptied, then we answer him."""
    room = host("a")
    ping(room)
    steps = room.receive("eth0", who_has("10.0.0.1", B), 1)
    assert [ip_of(p).dst for p in sent(steps) if not arps([p])] == [IPv4(B)]
    assert state_of(room)[1] == "DELAY"  # STALE, and at once used


# -- giving up --------------------------------------------------------------------------------------------------------


def test_three_tries_a_second_apart_and_then_nothing() -> None:
    """neigh_timer_handler: mcast_solicit 3, retrans_time 1 s; failed at 3 s."""
    room = host("a")
    first = ping(room)
    visits = give_up(room, first)
    assert [len(arps(sent(v))) for v in (first, *visits)] == [1, 1, 1, 0]
    assert {a.tpa for v in visits for a in arps(sent(v))} == {IPv4(B)}
    assert [s.what.at for v in (first, *visits) for s in v if isinstance(s.what, Timer)] == [
        SECOND,
        2 * SECOND,
        3 * SECOND,
    ]
    assert state_of(room) == (None, "FAILED")


def test_every_waiter_of_this_host_hears_of_the_failure_over_lo() -> None:
    """arp_error_report, ipv4_link_failure: host unreachable to ourselves, for each packet, in order."""
    room = host("a")
    first = ping(room, seq=1)
    ping(room, seq=2, now=SECOND // 2)
    last = give_up(room, first)[-1]
    assert reasons(last) == [Reason.NEIGH_FAILED] * 2
    errors = sent(last, "lo")
    assert [(icmp_of(e).type, icmp_of(e).code) for e in errors] == [(UNREACHABLE, HOST_UNREACH)] * 2
    assert {(ip_of(e).src, ip_of(e).dst) for e in errors} == {(IPv4("10.0.0.1"), IPv4("10.0.0.1"))}
    told = [s.what for s in of(last, "deliver") if isinstance(s.what, Delivery)]
    assert [(d.kind, d.errno) for d in told] == [("error", "EHOSTUNREACH")] * 2


def test_the_sender_of_a_forwarded_packet_hears_of_the_failure() -> None:
    """arp_error_report: the error goes to where the packet came from, quoting it as it stood in the queue (ttl 63)."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24")
    room.neigh_add(B, M3, "eth0")
    first = room.receive("eth0", frame(echo(B, "10.0.1.9")), 0)
    last = give_up(room, first)[-1]
    (error,) = sent(last, "eth0")
    assert (ip_of(error).src, ip_of(error).dst) == (IPv4("10.0.0.1"), IPv4(B))
    assert (icmp_of(error).type, icmp_of(error).code) == (UNREACHABLE, HOST_UNREACH)
    assert about(error).dst == IPv4("10.0.1.9") and about(error).ttl == 63


def test_no_error_about_an_error() -> None:
    """icmp_send (RFC 1122 3.2.2): a waiting ICMP error dies in silence."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24")
    expired = room.receive("eth0", frame(echo("10.0.1.9", "10.0.0.77", ttl=1)), 0)
    (error,) = [s.packet for s in of(expired, "hold")]
    assert icmp_of(error).type == 11
    last = give_up(room, expired)[-1]
    assert reasons(last) == [Reason.NEIGH_FAILED] and not of(last, "icmp_error")


def test_after_a_failure_the_next_packet_asks_again() -> None:
    """__neigh_event_send: NUD_FAILED becomes NUD_INCOMPLETE, with all tries ahead of it."""
    room = host("a")
    give_up(room, ping(room))
    again = ping(room, now=10 * SECOND)
    assert len(arps(sent(again))) == 1
    assert [len(arps(sent(v))) for v in give_up(room, again)] == [1, 1, 0]


def test_an_answer_in_time_stops_the_tries() -> None:
    room = host("a")
    (timer,) = timers(ping(room), "arp")
    room.receive("eth0", is_at(B, M3), SECOND // 2)
    assert room.wake(timer, timer.at) == []


# -- known neighbours -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["PERMANENT", "NOARP", "REACHABLE"])
def test_a_connected_neighbour_is_used_without_more_ado(state: str) -> None:
    """neigh_connected_output: no question, no timer."""
    room = host("a")
    known(room, state)
    steps = ping(room)
    assert [eth_of(p).dst for p in sent(steps)] == [M3] and not timers(steps)
    assert state_of(room) == (M3, state)


def test_a_stale_neighbour_is_used_and_checked_five_seconds_later() -> None:
    """__neigh_event_send: STALE becomes DELAY; then three unicast questions a second apart (ucast_solicit)."""
    room = host("a")
    known(room, "STALE", now=-100 * SECOND)
    steps = ping(room)
    assert [eth_of(p).dst for p in sent(steps)] == [M3]
    assert state_of(room) == (M3, "DELAY")
    assert [t.at for t in timers(steps, "arp")] == [5 * SECOND]
    visits = give_up(room, steps)
    assert [[eth_of(p).dst for p in sent(v)] for v in visits] == [[M3], [M3], [M3], []]
    assert state_of(room) == (None, "FAILED")


def test_while_it_is_checked_a_neighbour_is_still_used() -> None:
    """NUD_PROBE is valid; an answer makes it reachable, and nothing more is asked."""
    room = host("a")
    known(room, "STALE", now=-100 * SECOND)
    (timer,) = timers(ping(room), "arp")
    (timer,) = timers(room.wake(timer, timer.at), "arp")
    assert state_of(room) == (M3, "PROBE")
    assert [eth_of(p).dst for p in sent(ping(room, seq=2, now=5 * SECOND))] == [M3]
    room.receive("eth0", is_at(B, M3), 5 * SECOND)
    assert state_of(room) == (M3, "REACHABLE")
    assert not sent(room.wake(timer, timer.at))


def test_a_reachable_neighbour_grows_stale() -> None:
    """neigh_timer_handler after the reachable time; the packet is still sent."""
    room = host("a")
    known(room, "REACHABLE")
    steps = ping(room, now=100 * SECOND)
    assert [eth_of(p).dst for p in sent(steps)] == [M3]
    assert state_of(room) == (M3, "DELAY")


def test_a_failed_neighbour_is_asked_for() -> None:
    room = host("a")
    known(room, "FAILED", mac=None)
    assert terminals(ping(room)) == [("hold", "eth0"), ("transmit", "eth0")]


def test_a_multicast_next_hop_is_never_asked_for() -> None:
    """arp_constructor, ip_eth_mc_map: 01:00:5e and the lower 23 bits."""
    room = host("a")
    room.route_add("224.0.0.0/4", dev="eth0")
    steps = room.send(echo("10.0.0.1", "224.129.2.3"), 0)
    assert not arps(sent(steps))
    if sent(steps):  # what is not modelled may be called so; a wrong address may not
        assert eth_of(sent(steps)[0]).dst == Mac("01:00:5e:01:02:03")
    else:
        assert stages(steps)[-1] == "unsupported"


@pytest.mark.parametrize("dst", ["10.0.0.255", "255.255.255.255"])
def test_a_broadcast_needs_no_question(dst: str) -> None:
    """arp_constructor: RTN_BROADCAST next hops are NOARP with the device's broadcast address."""
    room = host("a", gateway="10.0.0.254")
    (out,) = sent(room.send(echo("10.0.0.1", dst), 0), "eth0")
    assert eth_of(out).dst == BROADCAST_MAC


# -- whose address a question names -----------------------------------------------------------------------------------


def spa_of(room: Netns, mode: int, src: str, dst: str = B) -> str:
    """The sender address of the question that a packet from `src` makes."""
    room.sysctl("net.ipv4.conf.eth0.arp_announce", mode)
    socket = room.sockets.bind(Socket(PROTO_ICMP, 7, IPv4(src)))
    (question,) = arps(sent(room.send(echo(src, dst), 0, socket)))
    return str(question.spa)


@pytest.mark.parametrize(
    ("mode", "src", "spa"),
    [
        (0, "10.9.9.9", "10.9.9.9"),  # any address of ours
        (1, "10.9.9.9", "10.0.0.1"),  # not known to the target's subnet
        (2, "10.9.9.9", "10.0.0.1"),
        (0, "10.0.0.3", "10.0.0.3"),
        (1, "10.0.0.3", "10.0.0.3"),  # a secondary one, but in the subnet
        (2, "10.0.0.3", "10.0.0.1"),  # the primary address only
        (0, "10.0.1.1", "10.0.1.1"),
        (1, "10.0.1.1", "10.0.0.1"),
    ],
)
def test_arp_announce(mode: int, src: str, spa: str) -> None:
    """arp_solicit: 0 the packet's source, 1 if it is in the target's subnet, 2 never."""
    room = two_addresses()
    room.addr_add("eth0", "10.0.0.3/24")
    assert spa_of(room, mode, src) == spa


def test_a_forwarded_packets_source_is_not_ours_to_announce() -> None:
    """arp_solicit: inet_addr_type of the source must be RTN_LOCAL; else inet_select_addr for the target."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24")
    room.addr_add("eth1", "10.0.2.1/24")
    (question,) = arps(sent(room.receive("eth0", frame(echo(B, "10.0.2.9")), 0), "eth1"))
    assert (question.spa, question.tpa) == (IPv4("10.0.2.1"), IPv4("10.0.2.9"))


def test_a_device_without_address_borrows_one_in_device_order() -> None:
    """inet_select_addr: the first suitable address of any device, but none of scope host (real-kernel.md, fact 9)."""
    room = router("r", "", "10.0.1.1/24", "10.0.2.1/24")
    room.route_add("10.3.0.9/32", dev="eth0")
    (question,) = arps(sent(room.receive("eth2", frame(echo("10.0.2.2", "10.3.0.9"), dst=M3), 0), "eth0"))
    assert question.spa == IPv4("10.0.1.1")


def test_a_host_without_any_address_asks_in_the_name_of_zero() -> None:
    """arp_solicit sends even if inet_select_addr finds nothing (checked on 6.18)."""
    room = router("r", "", "")
    room.route_add("10.3.0.9/32", dev="eth0")
    room.route_add("10.4.0.0/16", dev="eth1")
    (question,) = arps(sent(room.receive("eth1", frame(echo("10.4.0.2", "10.3.0.9"), dst=M2), 0), "eth0"))
    assert (question.spa, question.tpa) == (ANY, IPv4("10.3.0.9"))


def test_an_address_of_scope_host_is_not_announced() -> None:
    """inet_select_addr with RT_SCOPE_LINK skips scope host, unless the device has route_localnet."""
    room = Netns("a")
    room.link_add("eth0", Nic(mac=M1))
    room.addr_add("eth0", "10.0.0.5/24", scope="host")
    room.addr_add("eth0", "10.0.1.1/24")
    assert spa_of(room, 2, "10.0.1.1", "10.0.0.9") == "10.0.1.1"


# -- over bridges and tunnels -----------------------------------------------------------------------------------------


def test_arp_over_a_bridge() -> None:
    """The question floods, the answer teaches the FDB, and the ping goes to that port alone."""
    room = switch(ports=3, addr="10.0.0.1/24")
    asked = ping(room)
    assert [s.dev for s in of(asked, "transmit")] == ["br0", "p3", "p2", "p1"]
    got = room.receive("p2", is_at(B, M3), 1)
    assert [(s.dev, icmp_of(s.packet).type) for s in of(got, "transmit")] == [("br0", 8), ("p2", 8)]


def test_arp_between_two_ports_is_none_of_the_hosts_business() -> None:
    """br_handle_frame_finish: a broadcast is flooded and passed up; the answer goes to the port that was learned."""
    room = switch(ports=3)
    asked = room.receive("p1", who_has(B, "10.0.0.3", M4), 0)
    assert [s.dev for s in of(asked, "transmit")] == ["p3", "p2"]
    answer = room.receive("p2", is_at(B, M3, "10.0.0.3", M4), 1)
    assert terminals(answer) == [("transmit", "p1")]


def tunnelled() -> Netns:
    room = host("a")
    room.neigh_add(B, M3, "eth0")
    vxlan(room, remote=B)
    room.addr_add("vx0", "10.5.0.1/24")
    return room


def test_arp_over_vxlan_asks_the_default_destination() -> None:
    """vxlan_xmit: a broadcast goes to the all-zero entry; the outer packet is sent to the far end."""
    room = tunnelled()
    steps = ping(room, "10.5.0.2")
    (outer,) = sent(steps, "eth0")
    assert ip_of(outer).dst == IPv4(B) and Vxlan(42) in outer.headers
    assert [(a.spa, a.tpa) for a in arps([outer])] == [(IPv4("10.5.0.1"), IPv4("10.5.0.2"))]


def test_arp_over_vxlan_without_a_destination_is_dropped() -> None:
    """vxlan_xmit: seen on the device, then NO_TX_TARGET; three tries, then host unreachable (fact 34)."""
    room = host("a")
    vxlan(room)
    room.addr_add("vx0", "10.5.0.1/24")
    first = ping(room, "10.5.0.2")
    assert [s.dev for s in of(first, "transmit")] == ["vx0"]
    visits = give_up(room, first)
    assert [reasons(v)[0] for v in (first, *visits[:2])] == [Reason.NO_TX_TARGET] * 3
    assert [len(arps(sent(v, "vx0"))) for v in visits] == [1, 1, 0]
    assert Reason.NEIGH_FAILED in reasons(visits[-1]) and errnos(visits[-1]) == ["EHOSTUNREACH"]


def test_a_question_through_vxlan_is_answered_through_vxlan() -> None:
    """vxlan_rcv, arp_process, vxlan_xmit: one room asks, the other answers, each in its own outer packet."""
    a, b = tunnelled(), host("b", "10.0.0.2/24", M3)
    b.neigh_add("10.0.0.1", M1, "eth0")
    vxlan(b, local=B, remote="10.0.0.1", mac=STRANGER)
    b.addr_add("vx0", "10.5.0.2/24")
    (question,) = sent(ping(a, "10.5.0.2"), "eth0")
    (answer,) = sent(settle(b, b.receive("eth0", question, 0)), "eth0")
    assert [(x.op, x.sha, x.spa) for x in arps([answer])] == [(ARP_REPLY, STRANGER, IPv4("10.5.0.2"))]
    assert state_of(b, "10.5.0.1", "vx0") == (M4, "STALE")
    (out,) = sent(settle(a, a.receive("eth0", answer, 1)), "eth0")
    assert icmp_of(out).type == 8 and ip_of(out).dst == IPv4(B)
    assert state_of(a, "10.5.0.2", "vx0") == (STRANGER, "REACHABLE")


def settle(room: Netns, steps: list[Step]) -> list[Step]:
    """Add what the room does at once by itself (a tunnel device's turn)."""
    now = [t for t in timers(steps) if t.kind == "napi"]
    return steps + [s for t in now for s in room.wake(t, t.at)]


def test_the_reply_of_a_ping_needs_an_answer_too() -> None:
    """icmp_reply goes out like anything else: it waits for its next hop."""
    room = host("a")
    steps = room.receive("eth0", frame(echo(B, "10.0.0.1")), 0)
    assert terminals(steps) == [("deliver", "eth0"), ("hold", "eth0"), ("transmit", "eth0")]
    pinger(room)
    assert "deliver" in stages(room.receive("eth0", frame(echo_reply(B, "10.0.0.1")), 1))
