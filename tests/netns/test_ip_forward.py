"""A router: TTL, size, the errors it sends about what it drops, and redirects."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from packetwalk.addr import BROADCAST_MAC, IPv4
from packetwalk.netns.fragment import fragment
from packetwalk.netns.namespace import Netns
from packetwalk.netns.socket import DO, Socket
from packetwalk.packet import (
    FRAG_NEEDED,
    HOST_UNREACH,
    NET_UNREACH,
    PROTO_ICMP,
    REDIRECT,
    TIME_EXCEEDED,
    TTL_EXCEEDED,
    UNREACHABLE,
    Icmp,
    Ip,
    Packet,
    Slice,
    ip_packet,
    quoted,
    size,
)
from packetwalk.trace import Reason, Step
from tests.netns.rooms import (
    M3,
    SECOND,
    about,
    echo,
    echo_reply,
    errnos,
    frame,
    icmp_of,
    ip_of,
    of,
    one,
    reasons,
    router,
    sent,
    stages,
    tcp,
    udp,
)

A, B, NEARER = "10.0.0.2", "10.0.1.2", "10.0.0.254"
MS = SECOND // 1000


def between(mtu: int = 1500) -> Netns:
    """A router with 10.0.0.1 on eth0 and 10.0.1.1 on eth1, whose MTU is given; A and B are known."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24", known=True)
    room.link_set("eth1", mtu=mtu)
    return room


def corner() -> Netns:
    """A router that reaches 10.9.0.0/16 by another router on the link the packets come from."""
    room = between()
    room.route_add("10.9.0.0/16", via=NEARER)
    room.neigh_add(NEARER, "02:00:00:00:00:fe", "eth0")
    return room


def route(room: Netns, packet: Packet, now: int = 0) -> list[Step]:
    """The packet comes in by eth0, from A's MAC."""
    return room.receive("eth0", frame(packet), now)


def errors(steps: list[Step]) -> list[tuple[int, int]]:
    """(type, code) of the ICMP errors sent."""
    found = [icmp_of(s.packet) for s in of(steps, "icmp_error")]
    return [(icmp.type, icmp.code) for icmp in found]


# -- TTL --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packet", [echo(A, B, ttl=2), udp(A, B, ttl=2), tcp(A, B, ttl=2)])
def test_a_hop_costs_one_ttl_and_changes_nothing_else(packet: Packet) -> None:
    """ip_decrease_ttl."""
    (out,) = sent(route(between(), packet))
    assert Packet(out.headers[1:], out.payload) == Packet(
        (ip_of(packet)._replace(ttl=1), *packet.headers[1:]), packet.payload
    )


@pytest.mark.parametrize("ttl", [0, 1])
def test_a_packet_whose_time_is_over(ttl: int) -> None:
    """ip_forward, too_many_hops. The quoted packet still has the TTL it came with (real-kernel.md, fact 10)."""
    steps = route(between(), echo(A, B, ttl=ttl))
    assert reasons(steps) == [Reason.IP_INHDR] and errors(steps) == [(TIME_EXCEEDED, TTL_EXCEEDED)]
    assert about(sent(steps)[0]).ttl == ttl


def test_the_last_hop_needs_no_ttl() -> None:
    """ip_local_deliver does not look at the TTL."""
    assert icmp_of(sent(route(between(), echo(A, "10.0.0.1", ttl=1)))[0]).type == 0


def test_ttl_is_looked_at_before_the_size() -> None:
    """ip_forward: both are wrong, the TTL decides."""
    assert errors(route(between(1000), echo(A, B, ttl=1, size=1400, df=True))) == [(TIME_EXCEEDED, TTL_EXCEEDED)]


# -- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "fits"), [(972, True), (973, False)])
def test_df_and_one_byte_too_much(size: int, fits: bool) -> None:
    """ip_exceeds_mtu: 20 + 8 + 972 bytes fit 1000."""
    steps = route(between(1000), echo(A, B, size=size, df=True))
    assert reasons(steps) == ([] if fits else [Reason.PKT_TOO_BIG])
    assert errors(steps) == ([] if fits else [(UNREACHABLE, FRAG_NEEDED)])


def test_fragmentation_needed_says_what_fits_and_quotes_the_packet_untouched() -> None:
    """ip_forward asks for the size before it takes the TTL down: the quotation has 64 (real-kernel.md, fact 10)."""
    packet = echo(A, B, size=1400, df=True, id=77)
    (error,) = sent(route(between(1000), packet))
    assert icmp_of(error).mtu == 1000 and about(error) == ip_of(packet) and about(error).ttl == 64


def test_without_df_it_is_cut() -> None:
    """ip_finish_output, ip_fragment: every piece but the last is a multiple of eight long."""
    out = sent(route(between(1001), echo(A, B, size=1400)))
    assert [(ip_of(p).offset, ip_of(p).len, ip_of(p).mf, ip_of(p).ttl) for p in out] == [
        (0, 996, True, 63),
        (976, 452, False, 63),
    ]


def test_a_route_may_have_a_smaller_mtu_than_its_device() -> None:
    """ip_dst_mtu_maybe_forward: "forwarding = true case should always honour route mtu"."""
    room = between()
    room.route_add("10.9.0.0/16", via=B, mtu=900)
    (error,) = sent(route(room, echo(A, "10.9.9.9", size=1000, df=True)))
    assert icmp_of(error).mtu == 900


@pytest.mark.parametrize("use_pmtu", [0, 1])
def test_a_router_does_not_use_what_it_learned_as_a_host(use_pmtu: int) -> None:
    """net.ipv4.ip_forward_use_pmtu: a path MTU can be forged, so forwarding ignores it unless told otherwise."""
    room = between()
    room.sysctl("net.ipv4.ip_forward_use_pmtu", use_pmtu)
    room.sockets.bind(Socket(PROTO_ICMP, 7, pmtudisc=DO))
    mine = room.send(echo("0.0.0.0", B, size=1400), 0, room.sockets.find(PROTO_ICMP, 7, 0))
    (probe,) = sent(mine)
    error = ip_packet(
        Ip(IPv4(B), IPv4("10.0.1.1"), PROTO_ICMP, 0, 64),
        Icmp(UNREACHABLE, FRAG_NEEDED, mtu=1200),
        payload=Slice(Packet(probe.headers[1:], probe.payload), 0, 528),
    )
    one(room.receive("eth1", frame(error, room.devices["eth1"].mac), 0), "learn")
    assert errors(route(room, echo(A, B, size=1400, df=True))) == ([(UNREACHABLE, FRAG_NEEDED)] if use_pmtu else [])
    assert errnos(room.send(echo("0.0.0.0", B, size=1400), 0, room.sockets.find(PROTO_ICMP, 7, 0))) == ["EMSGSIZE"]


# -- the errors themselves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tos", "answered"), [(0, 0xC0), (0x10, 0xD0), (0x08, 0xC8), (0xB8, 0xD8), (0x03, 0xC2)])
def test_an_error_takes_precedence_over_other_traffic(tos: int, answered: int) -> None:
    """icmp_send: RT_TOS of what it is about, with IPTOS_PREC_INTERNETCONTROL; TTL 64 and no DF (checked on 6.18)."""
    ip = ip_of(sent(route(between(), echo(A, B, ttl=1, tos=tos)))[0])
    assert (ip.tos, ip.ttl, ip.df, str(ip.dst)) == (answered, 64, False, A)


@pytest.mark.parametrize(("payload", "whole"), [(56, 84), (520, 548), (521, 548), (1400, 548)])
def test_an_error_quotes_as_much_as_fits_576_bytes(payload: int, whole: int) -> None:
    """icmp_send, RFC 1812 4.3.2.3: 576 less 20 and 8."""
    (error,) = sent(route(between(), echo(A, B, ttl=1, size=payload)))
    assert isinstance(error.payload, Slice) and error.payload.stop == whole
    assert ip_of(error).len == whole + 28 == size(error) - 14


def test_an_error_comes_from_the_device_towards_the_sender() -> None:
    """icmp_route_lookup (real-kernel.md, fact 9): not where the packet came in, not where it would have gone."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24", "10.0.2.1/24", known=True)
    room.route_add("10.7.0.0/16", via="10.0.2.2")
    steps = route(room, echo("10.7.7.7", B, ttl=1))
    assert [(s.dev, str(ip_of(s.packet).src)) for s in of(steps, "transmit")] == [("eth2", "10.0.2.1")]


def test_an_error_by_a_device_without_address_borrows_one() -> None:
    """inet_select_addr: the first suitable address in device order, as on a cali* device (real-kernel.md, fact 9)."""
    room = router("r", "", "10.0.1.1/24", "10.0.2.1/24", known=True)
    room.route_add(f"{A}/32", dev="eth0")
    room.neigh_add(A, M3, "eth0")
    assert str(ip_of(sent(route(room, echo(A, B, ttl=1)))[0]).src) == "10.0.1.1"


def test_the_sysctl_makes_an_error_come_from_where_the_packet_came_in() -> None:
    """net.ipv4.icmp_errors_use_inbound_ifaddr."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24", "10.0.2.1/24", known=True)
    room.route_add("10.7.0.0/16", via="10.0.2.2")
    room.sysctl("net.ipv4.icmp_errors_use_inbound_ifaddr", 1)
    steps = route(room, echo("10.7.7.7", B, ttl=1))
    assert [(s.dev, str(ip_of(s.packet).src)) for s in of(steps, "transmit")] == [("eth2", "10.0.0.1")]


def an_error_about(packet: Packet) -> Packet:
    """An ICMP error from A, at the end of its TTL."""
    header = Ip(IPv4(A), IPv4(B), PROTO_ICMP, 0, 1)
    return ip_packet(header, Icmp(UNREACHABLE, HOST_UNREACH), payload=Slice(packet, 0, size(packet)))


LATER = fragment(echo(A, B, ttl=1, size=2000), 1000)
SILENT: dict[str, tuple[Packet, dict[str, Any]]] = {
    "about an ICMP error": (an_error_about(echo(B, A)), {}),
    "about a later fragment": (LATER[1], {}),
    "about a broadcast frame": (echo(A, B, ttl=1), {"dst": BROADCAST_MAC}),
    "to a sender that no route leads to": (echo("172.16.0.1", B, ttl=1), {}),
}
SPOKEN: dict[str, Packet] = {
    "about an echo request": echo(A, B, ttl=1),
    "about an echo reply": echo_reply(A, B, ttl=1),
    "about a first fragment": LATER[0],
    "about a datagram": udp(A, B, ttl=1),
}


@pytest.mark.parametrize("case", SILENT)
def test_what_no_error_is_sent_about(case: str) -> None:
    """RFC 1122 3.2.2, icmp_send. The packet is dropped all the same."""
    packet, more = SILENT[case]
    steps = between().receive("eth0", frame(packet, **more), 0)
    assert len(reasons(steps)) == 1 and not of(steps, "icmp_error") and not sent(steps)


@pytest.mark.parametrize("case", SPOKEN)
def test_what_an_error_is_sent_about(case: str) -> None:
    assert errors(route(between(), SPOKEN[case])) == [(TIME_EXCEEDED, TTL_EXCEEDED)]


def test_no_error_about_a_broadcast_address() -> None:
    """icmp_send: RTCF_BROADCAST. A datagram to the subnet's broadcast and a closed port gets no answer."""
    steps = between().receive("eth0", frame(udp(A, "10.0.0.255"), BROADCAST_MAC), 0)
    assert reasons(steps) == [Reason.NO_SOCKET] and not sent(steps)


# -- redirects --------------------------------------------------------------------------------------------------------


def redirects(steps: list[Step]) -> list[Packet]:
    return [p for p in sent(steps) if icmp_of(p).type == REDIRECT]


def test_a_redirect_names_the_next_hop_and_the_packet_goes_on() -> None:
    """ip_rt_send_redirect: born beside the packet, before it leaves, about the packet with its TTL already taken."""
    steps = route(corner(), echo(A, "10.9.9.9"))
    (told,) = redirects(steps)
    assert icmp_of(told).gateway == IPv4(NEARER) and ip_of(told).dst == IPv4(A)
    assert about(told).ttl == 63 and stages(steps)[-1] == "transmit" and ip_of(sent(steps)[-1]).dst == IPv4("10.9.9.9")


def test_a_redirect_to_the_destination_itself() -> None:
    """rt_nexthop: without a gateway the destination is on the very link."""
    room = between()
    room.neigh_add("10.0.0.9", M3, "eth0")
    (told,) = redirects(route(room, echo(A, "10.0.0.9")))
    assert icmp_of(told).gateway == IPv4("10.0.0.9")


@pytest.mark.parametrize(("shared_media", "told"), [(1, True), (0, False)])
def test_without_shared_media_the_sender_must_reach_the_gateway(shared_media: int, told: bool) -> None:
    """__mkroute_input, inet_addr_onlink: here the gateway is in another subnet of the same link than the sender."""
    room = between()
    room.addr_add("eth0", "10.3.0.1/24")
    room.route_add("10.9.0.0/16", via="10.3.0.9")
    room.neigh_add("10.3.0.9", M3, "eth0")
    for dev in ("all", "eth0"):
        room.sysctl(f"net.ipv4.conf.{dev}.shared_media", shared_media)
    assert bool(redirects(route(room, echo(A, "10.9.9.9")))) is told


def test_no_redirect_to_a_sender_behind_another_router() -> None:
    """fib_validate_source says whether the source is on the link (scope of its next hop)."""
    room = corner()
    room.route_add("10.7.0.0/16", via=A)
    assert not redirects(route(room, echo("10.7.7.7", "10.9.9.9")))


def told_at(room: Netns, start: int, stop: int, every: int) -> list[int]:
    """When redirects are sent, if a packet comes every so many ms from `start` to before `stop`."""
    times = range(start, stop, every)
    return [ms for ms in times if redirects(route(room, echo(A, "10.9.9.9"), ms * MS))]


def test_redirects_become_ever_more_seldom_and_end() -> None:
    """redirect_load is 20 ms, doubled each time; after redirect_number = 9 of them the sender is left alone.

    6.18 was asked the same every 10 ms for 12 s: it told at these very times, and once more after 20.7 s of silence.
    """
    times = told_at(corner(), 0, 13_000, 10)
    assert times == [0, 50, 140, 310, 640, 1290, 2580, 5150, 10280]
    assert [b - a for a, b in pairwise(times)] == [50, 90, 170, 330, 650, 1290, 2570, 5130]


def test_redirects_begin_anew_after_a_silence() -> None:
    """redirect_silence is 20.48 s, counted from the last packet that would have deserved one."""
    room = corner()
    last = told_at(room, 0, 13_000, 10)[-1]
    assert last < 12_990 and not told_at(room, 12_990 + 20_480, 12_990 + 20_481, 1)
    assert told_at(room, 12_990 + 2 * 20_480 + 1, 12_990 + 2 * 20_480 + 2, 1)


def test_each_sender_has_a_count_of_its_own() -> None:
    """struct inet_peer, by source address."""
    room = corner()
    assert redirects(route(room, echo(A, "10.9.9.9"))) and not redirects(route(room, echo(A, "10.9.9.9")))
    room.neigh_add("10.0.0.3", M3, "eth0")
    assert redirects(route(room, echo("10.0.0.3", "10.9.9.9")))


def test_errors_and_redirects_are_counted_apart() -> None:
    """inet_peer: rate_tokens for errors, n_redirects for redirects."""
    room = corner()
    for _ in range(6):
        unreachable = route(room, echo(A, "172.16.0.1"))
    assert reasons(unreachable) == [Reason.IP_INNOROUTES] and not sent(unreachable)
    assert redirects(route(room, echo(A, "10.9.9.9")))


def test_errors_about_lacking_routes_come_five_at_once_then_one_a_second() -> None:
    """ip_error: error_burst 5 s, error_cost 1 s. (icmp_ratelimit would take from the same tokens.)"""
    room = between()
    room.sysctl("net.ipv4.icmp_ratemask", 0)
    at = [0] * 7 + [SECOND, SECOND, 3 * SECOND, 3 * SECOND, 3 * SECOND]
    answers = [errors(route(room, echo(A, "172.16.0.1"), now)) for now in at]
    told = [(UNREACHABLE, NET_UNREACH)]
    assert [a == told for a in answers] == [True] * 5 + [False] * 2 + [True, False] + [True, True, False]


def test_quoted_packets_are_whole_in_memory() -> None:
    """What is quoted can be looked into by whoever hears of it, though the wire carries its beginning only."""
    packet = echo(A, B, ttl=1, size=1400)
    (error,) = sent(route(between(), packet))
    assert quoted(error) == packet
