"""Cutting datagrams and putting them together: sizes, order, duplicates, overlaps, time; what a router does between."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packetwalk.addr import IPv4
from packetwalk.netns.fragment import FRAG_TIME, FragQueue, assemble, fragment
from packetwalk.netns.namespace import Netns
from packetwalk.packet import ECHO_REPLY, FRAG_TIME_EXCEEDED, IP_LEN, TIME_EXCEEDED, Packet
from packetwalk.trace import Reason, Step
from tests.netns.rooms import (
    M1,
    M3,
    about,
    echo,
    eth_of,
    frame,
    host,
    icmp_of,
    ip_of,
    of,
    one,
    reasons,
    router,
    sent,
    stages,
    timers,
    udp,
)

A, OWN, OTHER = "10.0.0.2", "10.0.0.1", "10.0.0.9"


def cut(mtu: int = 1000, *, ident: int = 5, size: int = 2400, dst: str = OWN) -> list[Packet]:
    """An echo request of that many bytes in fragments; by default they begin at 0, 976 and 1952 of 2408."""
    return fragment(echo(A, dst, size=size, id=ident), mtu)


def spans(pieces: list[Packet]) -> list[tuple[int, int, bool]]:
    """(offset, bytes, more) of each."""
    return [(ip_of(p).offset, ip_of(p).len - IP_LEN, ip_of(p).mf) for p in pieces]


def end_host(*, conntrack: bool = False) -> Netns:
    """10.0.0.1 and 10.0.0.9 on eth0, with A as known neighbour."""
    room = host("h")
    room.addr_add("eth0", f"{OTHER}/24")
    room.neigh_add(A, M3, "eth0")
    room.conntrack = conntrack
    return room


def take(room: Netns, pieces: list[Packet], now: int = 0) -> list[Step]:
    """Those fragments arrive one after another; all steps."""
    return [step for p in pieces for step in room.receive("eth0", frame(p), now)]


def answered(steps: list[Step]) -> bool:
    """Whether the echo request was answered."""
    return any(icmp_of(s.packet).type == ECHO_REPLY for s in of(steps, "route_out"))


# -- cutting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "mtu", "expected"),
    [
        (1472, 1500, [(0, 1480, False)]),
        (1473, 1500, [(0, 1480, True), (1480, 1, False)]),
        (2400, 1000, [(0, 976, True), (976, 976, True), (1952, 456, False)]),  # 980 is no multiple of eight
        (1950, 1000, [(0, 976, True), (976, 976, True), (1952, 6, False)]),
        (1948, 1000, [(0, 976, True), (976, 980, False)]),  # the last needs to be none
    ],
)
def test_sizes(size: int, mtu: int, expected: list[tuple[int, int, bool]]) -> None:
    """ip_frag_next: all that fits, to a multiple of eight unless it is the last."""
    assert spans(fragment(echo(A, OWN, size=size), mtu)) == expected


def test_a_fragment_keeps_the_header_but_for_length_and_place() -> None:
    for piece in fragment(echo(A, OWN, size=2000, id=9, tos=8, ttl=33), 1500):
        ip = ip_of(piece)
        assert (ip.src, ip.dst, ip.id, ip.tos, ip.ttl) == (IPv4(A), IPv4(OWN), 9, 8, 33)


def test_a_fragment_can_be_cut_again() -> None:
    """A router without conntrack cuts each fragment by itself: uneven sizes (real-kernel.md, fact 27)."""
    again = [p for piece in cut(1500) for p in fragment(piece, 1000)]
    assert spans(again) == [(0, 976, True), (976, 504, True), (1480, 928, False)]
    assert assemble(tuple(again)) == echo(A, OWN, size=2400, id=5)


@given(
    size=st.integers(0, 9000),
    mtus=st.lists(st.integers(68, 1500), min_size=1, max_size=3),
    order=st.randoms(use_true_random=False),
)
def test_whatever_is_cut_comes_together_in_any_order(size: int, mtus: list[int], order: object) -> None:
    """RFC 791: cut once or several times, each piece within its MTU, then shuffled."""
    packet = udp(A, OWN, size=size, id=3)
    pieces = [packet]
    for mtu in sorted(mtus, reverse=True):
        pieces = [q for p in pieces for q in fragment(p, mtu)]
        assert all(ip_of(p).len <= mtu and (not ip_of(p).mf or not (ip_of(p).len - IP_LEN) % 8) for p in pieces)
    order.shuffle(pieces)  # type: ignore[attr-defined]
    assert assemble(tuple(pieces)) == packet
    if len(pieces) > 1:
        assert assemble(tuple(pieces[1:])) is None


# -- the end host ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conntrack", [False, True])
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_fragments_may_come_in_any_order(order: tuple[int, ...], conntrack: bool) -> None:
    """ip_defrag: at the end host after routing; with conntrack before it, in PREROUTING."""
    pieces, room = cut(), end_host(conntrack=conntrack)
    steps = take(room, [pieces[i] for i in order])
    assert stages(steps).count("hold") == 2 and one(steps, "defrag").packet == echo(A, OWN, size=2400, id=5)
    assert answered(steps) and not room.reassembly
    path = stages(room.receive("eth0", frame(pieces[0]), 0))
    assert path == (["receive", "hold"] if conntrack else ["receive", "route_in", "hold"])


def test_datagrams_are_told_apart_by_addresses_protocol_and_id() -> None:
    """struct frag_v4_compare_key."""
    ip = ip_of(cut()[0])
    room = end_host()
    for other in (ip._replace(id=6), ip._replace(src=IPv4("10.0.0.3")), ip._replace(dst=IPv4(OTHER)), ip):
        take(room, [Packet((other,), cut()[0].payload)])
    take(room, [fragment(udp(A, OWN, size=2400, id=5), 1000)[0]])
    assert len(room.reassembly) == 5


def test_a_duplicate_is_dropped_and_the_rest_goes_on() -> None:
    """inet_frag_queue_insert: IPFRAG_DUP."""
    first, *rest = cut()
    steps = take(end_host(), [first, first, *rest])
    assert reasons(steps) == [Reason.DUP_FRAG] and answered(steps)


def test_a_piece_within_what_came_in_sequence_is_a_duplicate_too() -> None:
    """The run 0 to 1952 contains 496 to 992 (checked on 6.18)."""
    x, y = cut(), cut(516)
    steps = take(end_host(), [x[0], x[1], y[1], x[2]])
    assert reasons(steps) == [Reason.DUP_FRAG] and answered(steps)


@pytest.mark.parametrize("order", ["ahead", "two runs"])
def test_an_overlap_spoils_the_whole_datagram(order: str) -> None:
    """IPFRAG_OVERLAP, discard_qp (checked on 6.18): what has come is forgotten, what follows begins anew."""
    x = cut()
    pieces = [x[0], cut(700)[1], x[1], x[2]] if order == "ahead" else [x[1], x[0], cut(516)[1], x[2]]
    room = end_host()
    steps = take(room, pieces)
    assert reasons(steps) == [Reason.NOT_SPECIFIED] and not answered(steps)
    (queue,) = room.reassembly.values()
    assert isinstance(queue, FragQueue) and len(queue.pieces) == (2 if order == "ahead" else 1)


@pytest.mark.parametrize("first_seen", ["long", "short"])
def test_fragments_must_agree_on_the_length(first_seen: str) -> None:
    """ip_frag_queue: a last fragment that ends elsewhere, or something beyond the end (checked on 6.18)."""
    long, short = cut()[2], cut(size=1000)[1]
    steps = take(end_host(), [long, short] if first_seen == "long" else [short, long])
    assert reasons(steps) == [Reason.NOT_SPECIFIED] and stages(steps).count("hold") == 1


# -- time --------------------------------------------------------------------------------------------------------------


def wait(room: Netns, pieces: list[Packet]) -> list[Step]:
    """Those fragments arrive, and nothing else until their time is over."""
    (timer,) = timers(take(room, pieces), "frag")
    assert timer.at == FRAG_TIME == 30_000_000_000
    return room.wake(timer, timer.at)


@pytest.mark.parametrize("conntrack", [False, True])
@pytest.mark.parametrize(("which", "told"), [((0,), True), ((1, 0), True), ((1,), False), ((1, 2), False)])
def test_time_exceeded_only_if_the_first_fragment_is_there(which: tuple[int, ...], told: bool, conntrack: bool) -> None:
    """ip_expire, RFC 792; from the very address the datagram was for, also where conntrack waited (seen on 6.18)."""
    pieces = cut(dst=OTHER)
    steps = wait(end_host(conntrack=conntrack), [pieces[i] for i in which])
    assert reasons(steps) == [Reason.FRAG_REASM_TIMEOUT]
    errors = sent(steps)
    assert [(icmp_of(p).type, icmp_of(p).code) for p in errors] == [(TIME_EXCEEDED, FRAG_TIME_EXCEEDED)] * told
    assert [(str(ip_of(p).src), about(p).offset, about(p).mf) for p in errors] == [(OTHER, 0, True)] * told


def test_nothing_happens_when_all_came_in_time() -> None:
    room = end_host()
    steps = take(room, cut())
    (timer,) = timers(steps, "frag")
    assert not room.wake(timer, timer.at)


def test_an_old_timer_does_not_end_a_new_queue() -> None:
    """The same id is used again after the first datagram was complete."""
    room = end_host()
    (old,) = timers(take(room, cut()), "frag")
    (new,) = timers(take(room, cut()[:1], now=20_000_000_000), "frag")
    assert not room.wake(old, old.at) and room.reassembly
    assert reasons(room.wake(new, new.at)) == [Reason.FRAG_REASM_TIMEOUT] and not room.reassembly


# -- a router between --------------------------------------------------------------------------------------------------


def between(mtu: int, *, conntrack: bool) -> Netns:
    """A router whose eth1 takes `mtu` bytes."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24", known=True)
    room.link_set("eth1", mtu=mtu)
    room.conntrack = conntrack
    return room


def test_a_router_passes_fragments_on_one_by_one() -> None:
    """Without conntrack nobody on the way waits for the others."""
    steps = take(between(1500, conntrack=False), cut(dst="10.0.1.2"))
    assert spans(sent(steps)) == spans(cut()) and not of(steps, "hold")
    assert all(ip_of(p).ttl == 63 for p in sent(steps))


@pytest.mark.parametrize(("mtu", "largest"), [(1500, 1000), (1000, 1000), (900, 900)])
def test_conntrack_cuts_again_as_the_datagram_came(mtu: int, largest: int) -> None:
    """nf_defrag_ipv4 and ip_do_fragment: not larger than the largest fragment was (real-kernel.md, fact 11)."""
    steps = take(between(mtu, conntrack=True), cut(dst="10.0.1.2"))
    assert stages(steps).count("hold") == 2 and one(steps, "forward").packet.headers[0].len == 2428  # type: ignore[union-attr]
    assert spans(sent(steps)) == spans(cut(largest))


def test_conntrack_remembers_uneven_fragments() -> None:
    """ip_do_fragment's fast path: the list of fragments is sent as it came where every piece fits."""
    uneven = [p for piece in cut(1500, dst="10.0.1.2") for p in fragment(piece, 1000)]
    assert spans(sent(take(between(1500, conntrack=True), uneven))) == spans(uneven)


def test_conntrack_on_the_way_is_silent_when_the_rest_stays_out() -> None:
    """frag_expire_skip_icmp: only the end host tells the sender."""
    steps = wait(between(1500, conntrack=True), cut(dst="10.0.1.2")[:1])
    assert reasons(steps) == [Reason.FRAG_REASM_TIMEOUT] and not sent(steps)


def test_df_of_the_largest_fragment_survives_conntrack() -> None:
    """ip_frag_reasm: such a datagram must not be cut smaller than it came; the sender hears of the MTU."""
    pieces = [Packet((ip_of(p)._replace(df=True),), p.payload) for p in cut(dst="10.0.1.2")]
    steps = take(between(900, conntrack=True), pieces)
    assert reasons(steps) == [Reason.PKT_TOO_BIG] and icmp_of(sent(steps)[0]).mtu == 900
    assert not reasons(take(between(1000, conntrack=True), pieces))


# -- chains of routers -------------------------------------------------------------------------------------------------


@given(
    mtus=st.lists(st.integers(576, 1500), min_size=1, max_size=6),
    size=st.integers(0, 4000),
    conntrack=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_ttl_falls_by_one_a_hop_and_the_datagram_arrives(mtus: list[int], size: int, conntrack: list[bool]) -> None:
    """Whatever the links in between take, every piece has spent one TTL per router, and together they are the whole."""
    packet = echo("10.1.0.2", "10.2.0.2", size=size, ttl=64, id=8)
    pieces = [packet]
    for mtu, tracks in zip(mtus, conntrack, strict=False):
        room = router("r", "10.1.0.1/24", "10.2.0.1/24", known=True)
        room.link_set("eth1", mtu=mtu)
        room.conntrack = tracks
        frames = [frame(p, M1) for p in pieces]
        pieces = [Packet(p.headers[1:], p.payload) for f in frames for p in sent(room.receive("eth0", f, 0))]
        assert pieces and all(ip_of(p).len <= mtu for p in pieces)
    assert {ip_of(p).ttl for p in pieces} == {64 - len(mtus)}
    arrived = pieces[0] if len(pieces) == 1 else assemble(tuple(pieces))
    assert arrived == Packet((ip_of(packet)._replace(ttl=64 - len(mtus)), *packet.headers[1:]), packet.payload)


def test_all_fragments_go_to_the_same_neighbour() -> None:
    """The datagram is routed once; each piece gets its link header by itself (ip_finish_output2)."""
    steps = take(between(900, conntrack=False), [echo(A, "10.0.1.2", size=2000, id=1)])
    assert [(s.dev, eth_of(s.packet).dst) for s in of(steps, "transmit")] == [("eth1", M3)] * 3
