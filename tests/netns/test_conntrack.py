"""Connections: tuples, states, timeouts, and what is not one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packetwalk.addr import IPv4
from packetwalk.netns.conntrack import (
    ASSURED,
    DYING,
    ESTABLISHED,
    INVALID,
    NEW,
    ORIGINAL,
    RELATED,
    REPLY,
    SEEN_REPLY,
    Conn,
    Conns,
    ConnTuple,
    Tracked,
    tuple_of,
)
from packetwalk.packet import PORT_UNREACH, PROTO_ICMP, UNREACHABLE, Icmp, Ip, Packet, Slice, Tcp, ip_packet, size
from tests.netns.rooms import SECOND, echo, echo_reply, tcp, udp

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def told(conns: Conns, packet: Packet, now: int = 0, **sysctls: int) -> Tracked:
    """What tracking says of a packet, which then leaves the host: its connection is confirmed."""
    named = {f"net.netfilter.nf_conntrack_{k}": v for k, v in sysctls.items()}
    tracked = conns.track(packet, now, named)
    if tracked.conn is not None and not tracked.conn.confirmed:
        assert conns.confirm(tracked.conn, now)
    return tracked


def segment(src: str, flags: str, *, seq: int = 0, ack: int = 0, data: int = 0, window: int = 500) -> Packet:
    """A segment between 10.0.0.1:40000 and 10.0.0.2:80."""
    ports = (40000, 80) if src == A else (80, 40000)
    dst = B if src == A else A
    return ip_packet(
        Ip(IPv4(src), IPv4(dst), 6, 0, 64), Tcp(*ports, flags, seq, ack, window, wscale=0), payload=data
    )


def error(src: str, dst: str, about: Packet) -> Packet:
    quote = Slice(about, 0, size(about))
    return ip_packet(Ip(IPv4(src), IPv4(dst), PROTO_ICMP, 0, 64), Icmp(UNREACHABLE, PORT_UNREACH), payload=quote)


# -- tuples ------------------------------------------------------------------------------------------------------------


def test_a_tuple_is_read_from_the_headers() -> None:
    assert tuple_of(udp(A, B, sport=1000, dport=53)) == (IPv4(A), IPv4(B), 17, 1000, 53)
    assert tuple_of(echo(A, B, ident=7)) == (IPv4(A), IPv4(B), 1, 7, 8 << 8)
    assert tuple_of(Packet((Ip(IPv4(A), IPv4(B), 4, 84), Ip(IPv4(C), IPv4(B), 1, 64)))) == (IPv4(A), IPv4(B), 4, 0, 0)


def test_a_later_fragment_and_a_cut_header_have_none() -> None:
    whole = udp(A, B, size=3000)
    rest = Packet((Ip(IPv4(A), IPv4(B), 17, 1500, offset=1480),), Slice(whole, 1480, 2960))
    assert tuple_of(rest) is None
    assert tuple_of(Packet((Ip(IPv4(A), IPv4(B), 6, 24),), 4)) is None


def test_an_echo_is_answered_by_an_echo_reply_and_errors_by_nothing() -> None:
    asked = tuple_of(echo(A, B, ident=7))
    assert asked is not None and asked.inverse() == tuple_of(echo_reply(B, A, ident=7))
    assert ConnTuple(IPv4(A), IPv4(B), PROTO_ICMP, 0, UNREACHABLE << 8).inverse() is None


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.sampled_from([6, 17, 47]), st.integers(0, 65535))
def test_the_inverse_of_the_inverse_is_the_tuple(src: int, dst: int, proto: int, port: int) -> None:
    there = ConnTuple(IPv4(src), IPv4(dst), proto, port, 80)
    back = there.inverse()
    assert back is not None and back.inverse() == there


# -- states ------------------------------------------------------------------------------------------------------------


def test_a_datagram_opens_a_connection_and_its_answer_establishes_it() -> None:
    conns = Conns()
    first = told(conns, udp(A, B))
    assert (first.state, first.direction) == (NEW, ORIGINAL)
    assert told(conns, udp(A, B)).state == NEW, "nothing has come back yet"
    answer = told(conns, udp(B, A, sport=53, dport=40000))
    assert (answer.state, answer.direction) == (ESTABLISHED, REPLY)
    assert told(conns, udp(A, B)).state == ESTABLISHED
    assert len(conns.all()) == 1


def test_what_was_never_confirmed_is_not_known() -> None:
    conns = Conns()
    conns.track(udp(A, B), 0, {})
    assert conns.all() == []
    assert conns.track(udp(A, B), 0, {}).state == NEW


def test_an_echo_reply_that_nobody_asked_for_is_invalid() -> None:
    assert told(Conns(), echo_reply(B, A)) == Tracked(None, INVALID)


def test_an_entry_is_forgotten_when_its_time_is_over() -> None:
    conns = Conns()
    told(conns, udp(A, B))
    assert conns.find(ConnTuple(IPv4(A), IPv4(B), 17, 40000, 53), 30 * SECOND - 1) is not None
    assert conns.find(ConnTuple(IPv4(A), IPv4(B), 17, 40000, 53), 30 * SECOND) is None
    assert conns.all() == []


@pytest.mark.parametrize(
    ("packet", "name", "seconds"),
    [(udp(A, B), "udp", 30), (echo(A, B), "icmp", 30), (tcp(A, B), "tcp_timeout_syn_sent", 120)],
)
def test_timeouts_are_the_kernels_and_the_sysctls(packet: Packet, name: str, seconds: int) -> None:
    conn = told(Conns(), packet, SECOND).conn
    assert conn is not None and conn.expires == (1 + seconds) * SECOND
    key = name if name.startswith("tcp") else f"{name}_timeout"
    conn = told(Conns(), packet, SECOND, **{key: 7}).conn
    assert conn is not None and conn.expires == 8 * SECOND


def test_a_conversation_that_lasts_is_a_stream() -> None:
    conns = Conns()
    told(conns, udp(A, B))
    told(conns, udp(B, A, sport=53, dport=40000), SECOND)
    conn = told(conns, udp(A, B), SECOND).conn
    assert conn is not None and not conn.status & ASSURED and conn.expires == 31 * SECOND
    told(conns, udp(A, B), 3 * SECOND)
    assert conn.status & ASSURED and conn.expires == 123 * SECOND


def test_a_tuple_that_is_taken_cannot_be_confirmed() -> None:
    conns = Conns()
    told(conns, udp(A, B))
    twin = Conn(*[tuple_of(p) or pytest.fail("no tuple") for p in (udp(A, B), udp(B, A, sport=53, dport=40000))])
    assert not conns.confirm(twin, 0)


# -- ICMP errors -------------------------------------------------------------------------------------------------------


def test_an_error_belongs_to_the_connection_it_quotes() -> None:
    conns = Conns()
    told(conns, udp(A, B))
    found = conns.track(error(C, A, udp(A, B)), 0, {})
    assert (found.state, found.direction) == (RELATED, REPLY)
    assert found.conn is not None and not found.conn.status & SEEN_REPLY, "an error is no answer"


def test_an_error_about_nothing_known_or_sent_to_another_is_invalid() -> None:
    conns = Conns()
    assert conns.track(error(C, A, udp(A, B)), 0, {}).state == INVALID
    told(conns, udp(A, B))
    assert conns.track(error(B, C, udp(A, B)), 0, {}).state == INVALID


# -- TCP ---------------------------------------------------------------------------------------------------------------
HANDSHAKE = [(A, "S", 0, 0), (B, "SA", 0, 1), (A, "A", 1, 1)]


def shaken(conns: Conns) -> Conn:
    """A connection after its handshake."""
    for src, flags, seq, ack in HANDSHAKE:
        conn = told(conns, segment(src, flags, seq=seq, ack=ack)).conn
    assert conn is not None
    return conn


def state(conn: Conn | None) -> str:
    return conn.tcp.state if conn is not None and conn.tcp is not None else "none"


def test_a_connection_lives_through_its_states() -> None:
    conns = Conns()
    seen = []
    talk = [*HANDSHAKE, (A, "FA", 1, 1), (B, "A", 1, 2), (B, "FA", 1, 2), (A, "A", 2, 2)]
    for src, flags, seq, ack in talk:
        conn = told(conns, segment(src, flags, seq=seq, ack=ack)).conn
        seen.append(state(conn))
    assert seen == ["SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT"]
    assert conn is not None and conn.status & ASSURED and conn.expires == 120 * SECOND


def test_only_the_last_acknowledgement_assures() -> None:
    conns = Conns()
    for src, flags, seq, ack in HANDSHAKE[:2]:
        conn = told(conns, segment(src, flags, seq=seq, ack=ack)).conn
    assert conn is not None and not conn.status & ASSURED
    assert shaken(Conns()).status & ASSURED


def test_a_reset_as_the_only_answer_ends_the_entry() -> None:
    conns = Conns()
    told(conns, segment(A, "S"))
    refused = told(conns, segment(B, "RA", ack=1))
    assert refused.state == ESTABLISHED and refused.conn is not None and refused.conn.status & DYING
    assert conns.all() == []


def test_a_reset_of_an_open_connection_closes_it_for_ten_seconds() -> None:
    conns = Conns()
    conn = shaken(conns)
    assert told(conns, segment(A, "R", seq=1), SECOND).state == ESTABLISHED
    assert state(conn) == "CLOSE" and conn.expires == 11 * SECOND


def test_a_forged_reset_is_invalid_or_changes_nothing() -> None:
    conns = Conns()
    conn = shaken(conns)
    told(conns, segment(A, "PA", seq=1, ack=1, data=100))
    told(conns, segment(B, "A", seq=1, ack=101))
    assert told(conns, segment(A, "R", seq=50)).state == INVALID, "below what was acknowledged"
    assert told(conns, segment(A, "R", seq=300)).state == ESTABLISHED
    assert state(conn) == "ESTABLISHED", "in the window, but not the next byte: a challenge decides (RFC 5961)"


def test_segments_outside_the_window_are_invalid_unless_liberal() -> None:
    conns = Conns()
    shaken(conns)
    far = segment(A, "A", seq=1_000_000, ack=1)
    assert told(conns, far).state == INVALID
    assert told(conns, far, tcp_be_liberal=1).state == ESTABLISHED
    assert told(conns, segment(A, "A", seq=1, ack=999)).state == INVALID, "acknowledges what was never sent"


def test_a_repeated_syn_does_not_prolong_the_wait() -> None:
    conns = Conns()
    told(conns, segment(A, "S"))
    conn = told(conns, segment(A, "S"), 5 * SECOND).conn
    assert conn is not None and conn.expires == 120 * SECOND


def test_a_syn_reopens_a_closed_connection_with_a_new_entry() -> None:
    conns = Conns()
    old = shaken(conns)
    told(conns, segment(A, "R", seq=1))
    again = told(conns, segment(A, "S"))
    assert again.state == NEW and again.conn is not old and state(again.conn) == "SYN_SENT"


def test_a_connection_is_picked_up_in_its_middle_only_when_loose() -> None:
    picked = told(Conns(), segment(A, "A", seq=500, ack=700))
    assert picked.state == NEW and state(picked.conn) == "ESTABLISHED"
    assert picked.conn is not None and picked.conn.expires == 300 * SECOND
    assert told(Conns(), segment(A, "A", seq=500, ack=700), tcp_loose=0).state == INVALID


@pytest.mark.parametrize("flags", ["SA", "R", "FA", "", "P"])
def test_no_connection_begins_with(flags: str) -> None:
    assert told(Conns(), segment(A, flags)).state == INVALID


# -- overlays and printing ---------------------------------------------------------------------------------------------


def test_what_an_overlay_learns_stays_there() -> None:
    conns = Conns()
    conn = told(conns, udp(A, B)).conn
    copy = conns.overlay()
    told(copy, udp(B, A, sport=53, dport=40000))
    told(copy, udp(A, C))
    assert conn is not None and not conn.status & SEEN_REPLY
    assert len(conns.all()) == 1 and len(copy.all()) == 2


def test_it_prints_as_conntrack_does() -> None:
    conns = Conns()
    conn = told(conns, udp(A, B, sport=1000)).conn
    assert conn is not None
    line = "udp      17 28 src=10.0.0.1 dst=10.0.0.2 sport=1000 dport=53 [UNREPLIED] "
    assert conn.text(SECOND + 1) == line + "src=10.0.0.2 dst=10.0.0.1 sport=53 dport=1000 mark=0 use=1"
    assert shaken(Conns()).text(0) == (
        "tcp      6 432000 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=40000 dport=80 "
        "src=10.0.0.2 dst=10.0.0.1 sport=80 dport=40000 [ASSURED] mark=0 use=1"
    )
    ping = told(Conns(), echo(A, B, ident=7)).conn
    assert ping is not None and ping.text(0) == (
        "icmp     1 30 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=7 [UNREPLIED] "
        "src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=7 mark=0 use=1"
    )
