"""ARP: answering, for oneself and as a proxy, and believing what others say."""

from __future__ import annotations

import pytest

from packetwalk.addr import ANY, BROADCAST_MAC, ZERO_MAC, IPv4
from packetwalk.netns.namespace import Netns
from packetwalk.packet import (
    ARP_REPLY,
    ARP_REQUEST,
    Arp,
    Packet,
)
from packetwalk.trace import Step, Timer
from tests.netns.rooms import (
    M1,
    M3,
    M4,
    SECOND,
    STRANGER,
    B,
    arps,
    eth_of,
    host,
    is_at,
    known,
    ping,
    router,
    sent,
    state_of,
    terminals,
    two_addresses,
    who_has,
)


def answered(steps: list[Step]) -> list[Arp]:
    return [a for a in arps(sent(steps)) if a.op == ARP_REPLY]


# -- a program that answers -------------------------------------------------------------------------------------------


def test_a_program_answers_for_an_address_that_no_device_has() -> None:
    """MetalLB's speaker hears ARP by a packet socket: the kernel neither answers nor learns who asked."""
    room = host("a")
    room.arp_respond("10.0.0.200", "eth0")
    steps = room.receive("eth0", who_has("10.0.0.200", B), 0)
    assert [str(s.what) for s in steps if s.stage == "deliver"] == ["arp to arp responder for 10.0.0.200"]
    assert not answered(steps) and room.neighbours.get("eth0", IPv4(B)) is None
    (timer,) = (s.what for s in steps if isinstance(s.what, Timer))
    (reply,) = answered(room.wake(timer, timer.at))
    assert (reply.spa, reply.sha, reply.tpa) == (IPv4("10.0.0.200"), M1, IPv4(B))
    assert not room.overlay().is_own(IPv4("10.0.0.200"))


def test_it_answers_for_that_address_and_on_that_device_only() -> None:
    room = two_addresses()
    room.arp_respond("10.0.0.200", "eth0")
    for dev, target in (("eth0", "10.0.0.201"), ("eth1", "10.0.0.200")):
        assert not any(isinstance(s.what, Timer) for s in room.receive(dev, who_has(target, B), 0))
    said = is_at("10.0.0.200", M3, B, M3)  # an answer is no question
    assert not any(isinstance(s.what, Timer) for s in room.receive("eth0", said, 0))
    with pytest.raises(KeyError):
        room.arp_respond("10.0.0.200", "eth9")


# -- what others say --------------------------------------------------------------------------------------------------


def test_who_is_not_our_neighbour_is_not_learned() -> None:
    """arp_process: neither a stranger's question for another host nor an unsolicited answer creates an entry."""
    room = host("a")
    for said in (who_has("10.0.0.9", B), who_has(B, B), is_at(B, M3), is_at(B, M3, B, M3, to=BROADCAST_MAC)):
        assert terminals(room.receive("eth0", said, 0)) == [("consume", "eth0")]
        assert room.neighbours.get("eth0", IPv4(B)) is None


@pytest.mark.parametrize(
    "said", [who_has(B, B), is_at(B, M3, B, M3, to=BROADCAST_MAC), is_at(B, M3)], ids=["question", "answer", "reply"]
)
def test_arp_accept_creates_entries(said: Packet) -> None:
    """arp_process with arp_accept=1: gratuitous ARP and unsolicited answers are taken."""
    room = host("a")
    room.sysctl("net.ipv4.conf.eth0.arp_accept", 1)
    room.receive("eth0", said, 0)
    assert state_of(room)[0] == M3


def test_a_question_for_us_is_answered_and_its_sender_learned() -> None:
    """arp_process, neigh_event_ns: STALE, whatever was known before."""
    room = host("a")
    steps = room.receive("eth0", who_has("10.0.0.1", B), 0)
    assert answered(steps) == [Arp(ARP_REPLY, M1, IPv4("10.0.0.1"), M3, IPv4(B))]
    assert [eth_of(p).dst for p in sent(steps)] == [M3]
    assert state_of(room) == (M3, "STALE")
    room.receive("eth0", who_has("10.0.0.1", B, M4), 1)  # no lock time for those who ask us
    assert state_of(room) == (M4, "STALE")


def test_an_answer_is_locked_for_a_second() -> None:
    """arp_process: "use the FIRST one" of several answers back to back (locktime)."""
    room = host("a")
    ping(room)
    room.receive("eth0", is_at(B, M3), 0)
    room.receive("eth0", is_at(B, M4), SECOND)
    assert state_of(room) == (M3, "REACHABLE")
    room.receive("eth0", is_at(B, M4), SECOND + 1)
    assert state_of(room) == (M4, "REACHABLE")


@pytest.mark.parametrize("op", [ARP_REQUEST, ARP_REPLY])
def test_gratuitous_arp_overrules_the_lock(op: int) -> None:
    """arp_is_garp: sender = target; in an answer the target's MAC must be the sender's, too."""
    room = host("a")
    known(room, "REACHABLE")
    said = who_has(B, B, M4) if op == ARP_REQUEST else is_at(B, M4, B, M4, to=BROADCAST_MAC)
    room.receive("eth0", said, 1)
    assert state_of(room) == (M4, "STALE")


def test_an_answer_without_target_mac_is_not_gratuitous() -> None:
    """arp_is_garp compares tha with sha; zero is not equal (checked on 6.18)."""
    room = host("a")
    known(room, "STALE")
    room.receive("eth0", is_at(B, M4, B, ZERO_MAC, to=BROADCAST_MAC), 1)
    assert state_of(room) == (M3, "STALE")


def test_drop_gratuitous_arp() -> None:
    """arp_process: with drop_gratuitous_arp nobody learns from it (checked on 6.18)."""
    room = host("a")
    known(room, "STALE", now=-100 * SECOND)
    room.sysctl("net.ipv4.conf.eth0.drop_gratuitous_arp", 1)
    room.receive("eth0", who_has(B, B, M4), 0)
    assert state_of(room) == (M3, "STALE")


def test_a_broadcast_answer_does_not_confirm() -> None:
    """arp_process: "Broadcast replies and request packets do not assert neighbour reachability"."""
    room = host("a")
    known(room, "STALE", now=-100 * SECOND)
    room.receive("eth0", is_at(B, M4, to=BROADCAST_MAC), 0)
    assert state_of(room) == (M4, "STALE")


def test_a_known_neighbours_question_for_another_moves_it() -> None:
    """arp_process, "Update our ARP tables": also what is not for us updates who is known (checked on 6.18)."""
    room = host("a")
    known(room, "STALE", now=-100 * SECOND)
    room.receive("eth0", who_has("10.0.0.9", B, M4), 0)
    assert state_of(room) == (M4, "STALE")


def test_a_permanent_neighbour_stays() -> None:
    """__neigh_update without NEIGH_UPDATE_F_ADMIN; the asker gets his answer all the same."""
    room = host("a")
    known(room, "PERMANENT")
    steps = room.receive("eth0", who_has("10.0.0.1", B, M4), 10 * SECOND)
    assert [a.tha for a in answered(steps)] == [M4]
    assert state_of(room) == (M3, "PERMANENT")


def test_arp_for_someone_else_by_its_ethernet_address_is_not_read() -> None:
    """arp_rcv: PACKET_OTHERHOST."""
    room = host("a")
    known(room, "STALE", now=-100 * SECOND)
    steps = room.receive("eth0", who_has("10.0.0.1", B, M4, to=STRANGER), 0)
    assert terminals(steps) == [("consume", "eth0")] and state_of(room) == (M3, "STALE")


def test_a_unicast_question_is_answered() -> None:
    """The check of a neighbour (ucast_solicit) is an ordinary request."""
    assert answered(host("a").receive("eth0", who_has("10.0.0.1", B, to=M1), 0))


@pytest.mark.parametrize("tpa", ["224.0.0.1", "127.0.0.1"])
def test_nonsense_is_not_answered(tpa: str) -> None:
    """arp_process: multicast targets, and 127/8 without route_localnet."""
    assert not sent(host("a").receive("eth0", who_has(tpa, B), 0))


# -- duplicate address detection --------------------------------------------------------------------------------------


def test_a_probe_for_our_address_is_answered_and_nothing_learned() -> None:
    """arp_process: a sender address of 0 (RFC 2131, RFC 5227)."""
    room = host("a")
    steps = room.receive("eth0", who_has("10.0.0.1", "0.0.0.0"), 0)
    assert answered(steps) == [Arp(ARP_REPLY, M1, IPv4("10.0.0.1"), M3, ANY)]
    assert [eth_of(p).dst for p in sent(steps)] == [M3]
    assert not room.neighbours.all()


def test_a_probe_for_anothers_address_is_not_answered_even_by_a_proxy() -> None:
    """arp_process leaves at once for a zero sender: proxy_arp comes later."""
    room = proxy()
    assert not sent(room.receive("eth0", who_has("10.0.1.9", "0.0.0.0"), 0))


def test_a_probe_minds_arp_ignore() -> None:
    room = host("a")
    room.sysctl("net.ipv4.conf.all.arp_ignore", 8)
    assert not sent(room.receive("eth0", who_has("10.0.0.1", "0.0.0.0"), 0))


# -- proxy_arp --------------------------------------------------------------------------------------------------------


def proxy() -> Netns:
    room = router("r", "10.0.0.1/24", "10.0.1.1/24")
    room.sysctl("net.ipv4.conf.eth0.proxy_arp", 1)
    return room


def test_proxy_arp_answers_for_what_lies_behind_another_device() -> None:
    """arp_fwd_proxy: with our MAC on the device that was asked."""
    room = proxy()
    steps = room.receive("eth0", who_has("10.0.1.9", B), 0)
    assert answered(steps) == [Arp(ARP_REPLY, M1, IPv4("10.0.1.9"), M3, IPv4(B))]
    assert state_of(room) == (M3, "STALE")


def test_proxy_arp_answers_by_the_default_route() -> None:
    """The magic gateway 169.254.1.1 answers while there is a default route (real-kernel.md, facts 19 and 33)."""
    room = proxy()
    assert not sent(room.receive("eth0", who_has("169.254.1.1", B), 0))
    room.route_add("default", via="10.0.1.254")
    assert answered(room.receive("eth0", who_has("169.254.1.1", B), 0))


def test_proxy_arp_of_all_holds_for_every_device() -> None:
    """IN_DEV_PROXY_ARP is `all` or the device (IN_DEV_ORCONF)."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24")
    room.sysctl("net.ipv4.conf.all.proxy_arp", 1)
    assert answered(room.receive("eth0", who_has("10.0.1.9", B), 0))


def test_a_proxy_entry_answers_for_one_address() -> None:
    """arp_process: pneigh_lookup (`ip neigh add proxy`), also without proxy_arp."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24")
    room.neighbours.proxies.add(("eth0", int(IPv4("10.0.1.9"))))
    assert answered(room.receive("eth0", who_has("10.0.1.9", B), 0))
    assert not sent(room.receive("eth0", who_has("10.0.1.8", B), 0))


@pytest.mark.parametrize("why", ["not asked to", "forwarding", "same device", "no route", "blackhole", "unreachable"])
def test_proxy_arp_stays_silent(why: str) -> None:
    """arp_process: IN_DEV_FORWARD, RTN_UNICAST, and a way out by another device are needed."""
    room, target = proxy(), "10.0.1.9"
    if why == "not asked to":
        room.sysctl("net.ipv4.conf.eth0.proxy_arp", 0)
    elif why == "forwarding":
        room.sysctl("net.ipv4.conf.eth0.forwarding", 0)
    elif why == "same device":
        target = "10.0.0.9"
    elif why == "no route":
        target = "10.7.7.7"
    else:
        room.route_add("10.0.1.9/32", type=why)
    assert not sent(room.receive("eth0", who_has(target, B), 0))


@pytest.mark.parametrize(
    ("sender", "rp_filter", "silent"),
    [
        ("10.7.7.7", 1, True),  # no way back
        ("10.7.7.7", 0, False),
        ("10.0.1.7", 1, True),  # a way back, but by another device
        ("10.0.1.7", 2, False),
        ("10.0.1.1", 0, True),  # an address of ours
    ],
)
@pytest.mark.parametrize("target", ["10.0.1.9", "10.0.0.1"], ids=["proxied", "ours"])
def test_nobody_answers_a_martian(sender: str, rp_filter: int, silent: bool, target: str) -> None:
    """arp_process asks ip_route_input_noref, so fib_validate_source looks at the asker (rp_filter, own addresses)."""
    room = proxy()
    room.sysctl("net.ipv4.conf.eth0.rp_filter", rp_filter)
    assert bool(answered(room.receive("eth0", who_has(target, sender), 0))) is not silent


def test_our_own_address_claimed_by_another_is_not_answered() -> None:
    """A gratuitous question with our address: its sender is a martian to fib_validate_source."""
    assert not sent(host("a").receive("eth0", who_has("10.0.0.1", "10.0.0.1"), 0))


# -- arp_ignore, arp_filter -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "answers"),
    [
        (0, {"10.0.0.1", "10.0.1.1", "10.9.9.9"}),
        (1, {"10.0.0.1"}),
        (2, {"10.0.0.1"}),
        (3, {"10.0.0.1", "10.0.1.1"}),
        (4, {"10.0.0.1", "10.0.1.1", "10.9.9.9"}),
        (8, set()),
    ],
)
def test_arp_ignore(mode: int, answers: set[str]) -> None:
    """arp_ignore: 0 any address of ours, 1 those of the device, 3 none of scope host, 8 none; 4 to 7 are reserved."""
    room = two_addresses()
    room.sysctl("net.ipv4.conf.eth0.arp_ignore", mode)
    asked = ("10.0.0.1", "10.0.1.1", "10.9.9.9")
    assert {t for t in asked if sent(room.receive("eth0", who_has(t, B), 0))} == answers


def test_arp_ignore_2_wants_the_asker_in_the_subnet() -> None:
    """inet_confirm_addr with the asker's address."""
    room = host("a")
    room.route_add("10.7.0.0/16", dev="eth0")
    room.sysctl("net.ipv4.conf.eth0.arp_ignore", 1)
    assert answered(room.receive("eth0", who_has("10.0.0.1", "10.7.7.7"), 0))
    room.sysctl("net.ipv4.conf.eth0.arp_ignore", 2)
    assert not answered(room.receive("eth0", who_has("10.0.0.1", "10.7.7.7"), 0))
    assert answered(room.receive("eth0", who_has("10.0.0.1", B), 0))


def test_arp_ignore_is_the_greater_of_all_and_the_device() -> None:
    """IN_DEV_ARP_IGNORE is IN_DEV_MAXCONF."""
    room = two_addresses()
    room.sysctl("net.ipv4.conf.all.arp_ignore", 1)
    assert not sent(room.receive("eth0", who_has("10.0.1.1", B), 0))


def test_who_asked_in_vain_is_not_learned_either() -> None:
    """arp_process leaves (out_consume_skb) before it updates its table when arp_ignore forbids (checked on 6.18)."""
    room = host("a")
    known(room, "STALE", now=-100 * SECOND)
    room.sysctl("net.ipv4.conf.eth0.arp_ignore", 8)
    room.receive("eth0", who_has("10.0.0.1", B, M4), 0)
    assert state_of(room) == (M3, "STALE")


def test_arp_filter_answers_where_it_would_send() -> None:
    """arp_filter: only if the route to the asker leaves by the device that was asked."""
    room = two_addresses()
    room.sysctl("net.ipv4.conf.all.arp_filter", 1)
    assert answered(room.receive("eth0", who_has("10.0.0.1", B), 0))
    assert not answered(room.receive("eth0", who_has("10.0.0.1", "10.0.1.7"), 0))
