"""SCTP in a room: who answers an INIT, what connection tracking makes of an association, and NAT of its ports."""

import struct

import pytest

from packetwalk import sctp
from packetwalk.addr import IPv4
from packetwalk.netns.conntrack import ASSURED, Conns, Tracked
from packetwalk.netns.match_packet import MATCHES
from packetwalk.netns.nat import Range, setup, translate
from packetwalk.netns.sctp_track import ALL, CLOSED, COOKIE_WAIT, ESTABLISHED, NEXT, NONE, TIMEOUTS
from packetwalk.packet import PROTO_SCTP, PROTO_UNREACH, UNREACHABLE, Ip, Packet, Sctp, ip_packet
from packetwalk.sctp import TAG, abort, chunks, opening
from packetwalk.trace import Reason
from tests.netns.rooms import SECOND, frame, icmp_of, of, one, reasons, router, sent
from tests.netns.seen import matches, seen

A, B = "10.0.0.2", "10.0.0.1"
PORTS = {A: (40000, 80), B: (80, 40000)}


def packet(src: str, *parts: bytes, tag: int = 0) -> Packet:
    about = Ip(IPv4(src), IPv4(B if src == A else A), PROTO_SCTP, 0, 64)
    return ip_packet(about, Sctp(*PORTS[src], tag), payload=b"".join(parts))


def chunk(kind: int, flags: int = 0, body: bytes = b"") -> bytes:
    return struct.pack("!BBH", kind, flags, 4 + len(body)) + body


# -- tracking ----------------------------------------------------------------------------------------------------------


def told(conns: Conns, packet: Packet, now: int = 0) -> Tracked:
    tracked = conns.track(packet, now, {})
    if tracked.conn is not None and not tracked.conn.confirmed:
        assert conns.confirm(tracked.conn, now)
    return tracked


def state(conns: Conns) -> str:
    (conn,) = conns.all()
    assert conn.sctp is not None
    return conn.sctp.state


def test_an_association_from_init_to_the_end() -> None:
    conns = Conns()
    steps = [
        (A, opening(1), 0, "NEW", CLOSED),
        (B, opening(2, answer=True), 1, "ESTABLISHED", COOKIE_WAIT),
        (A, chunk(sctp.COOKIE_ECHO), 2, "ESTABLISHED", "COOKIE_ECHOED"),
        (B, chunk(sctp.COOKIE_ACK), 1, "ESTABLISHED", ESTABLISHED),
        (A, chunk(sctp.DATA, 3, b"hello"), 2, "ESTABLISHED", ESTABLISHED),
        (A, chunk(sctp.SHUTDOWN), 2, "ESTABLISHED", "SHUTDOWN_SENT"),
        (B, chunk(sctp.SHUTDOWN_ACK), 1, "ESTABLISHED", "SHUTDOWN_ACK_SENT"),
        (A, chunk(sctp.SHUTDOWN_COMPLETE), 2, "ESTABLISHED", CLOSED),
    ]
    for src, part, tag, ctstate, after in steps:
        tracked = told(conns, packet(src, part, tag=tag))
        assert (tracked.state, state(conns)) == (ctstate, after)
        assert tracked.conn is not None and tracked.conn.expires == TIMEOUTS[after] * SECOND
    (conn,) = conns.all()
    assert conn.status & ASSURED
    assert conn.text(0).startswith("sctp     132 10 CLOSED src=10.0.0.2 dst=10.0.0.1 sport=40000 dport=80 src=10.0.0.1")


@pytest.mark.parametrize(("src", "part", "tag"), [
    (B, chunk(sctp.DATA), 9),  # neither end was given that tag
    (B, abort(), 9),
    (B, abort(reflected=True), 1),  # with the T bit it is the other end's
    (A, opening(5), 1),  # an INIT carries none
    (A, chunk(sctp.COOKIE_ECHO), 1),
    (A, chunk(sctp.DATA) + chunk(sctp.COOKIE_ACK), 2),  # which must come first
    (A, opening(5) + abort(), 0),  # and that alone
    (A, bytes(4), 2),
    (A, b"", 2),
    (B, chunk(sctp.INIT_ACK), 1),  # cut off
])  # fmt: skip
def test_what_does_not_belong_to_it_is_invalid(src: str, part: bytes, tag: int) -> None:
    conns = Conns()
    told(conns, packet(A, opening(1)))
    told(conns, packet(B, opening(2, answer=True), tag=1))
    assert conns.track(packet(src, part, tag=tag), 0, {}).state == "INVALID"
    assert state(conns) == COOKIE_WAIT


@pytest.mark.parametrize("part", [*map(chunk, (sctp.ABORT, sctp.COOKIE_ACK, sctp.SHUTDOWN_COMPLETE, sctp.DATA)), b""])
def test_what_opens_nothing(part: bytes) -> None:
    assert Conns().track(packet(A, part), 0, {}).state == "INVALID"


def test_an_abort_ends_it() -> None:
    conns = Conns()
    told(conns, packet(A, opening(1)))
    assert told(conns, packet(B, abort(), tag=1)).state == "ESTABLISHED"
    assert state(conns) == CLOSED


def test_a_repeated_init_does_not_prolong_the_wait() -> None:
    conns = Conns()
    told(conns, packet(A, opening(1)))
    told(conns, packet(A, opening(1)), 2 * SECOND)
    (conn,) = conns.all()
    assert conn.expires == 10 * SECOND
    assert conns.track(packet(A, opening(1)), 11 * SECOND, {}).state == "NEW"


def test_heartbeats_of_a_second_path() -> None:
    conns = Conns()
    assert told(conns, packet(A, chunk(sctp.HEARTBEAT), tag=5)).state == "NEW"
    assert state(conns) == "HEARTBEAT_SENT"
    assert told(conns, packet(B, chunk(sctp.HEARTBEAT_ACK), tag=6)).state == "ESTABLISHED"
    assert state(conns) == ESTABLISHED


def test_the_table_of_states_is_whole() -> None:
    """Each chunk has a next state for every state and direction; nothing comes of a reply before anything was sent."""
    for forth, back in NEXT.values():
        assert len(forth) == len(back) == len(ALL)
        assert "-" not in forth and "N" not in forth + back
        assert back[ALL.index(NONE)] == "-"


def test_ports_are_rewritten_and_drawn() -> None:
    conns = Conns()
    conn = conns.track(packet(A, opening(1)), 0, {}).conn
    assert conn is not None
    to = IPv4("10.0.9.9")
    setup(conns, conn, Range(to, to, (3868, 3868)), _Ports(), 0, source=False)
    changed = translate(packet(A, opening(1)), conn, "ORIGINAL", source=False)
    ip, header = changed.headers
    assert isinstance(ip, Ip) and (ip.dst, header) == (to, Sctp(40000, 3868))
    assert changed.payload == opening(1)


class _Ports:
    def port(self, low: int, high: int) -> int:
        return low


# -- rules -------------------------------------------------------------------------------------------------------------


def test_matches_of_ports() -> None:
    assert "sctp" in MATCHES
    s = seen(l4=Sctp(40000, 80), proto=PROTO_SCTP)
    assert matches("-p sctp -m sctp --dport 80", s) and not matches("-p sctp -m sctp --dport 81", s)
    assert matches("-p sctp -m sctp --sport 40000:40001 ! --dport 81", s)
    assert matches("-p sctp -m multiport --dports 79,80", s)
    assert not matches("-p tcp -m tcp --dport 80", s)


# -- rooms -------------------------------------------------------------------------------------------------------------


def test_a_listener_answers_an_init() -> None:
    room = router("b", f"{B}/24", known=True)
    room.listen(80, protos=("sctp",))
    steps = room.receive("eth0", frame(packet(A, opening(7))), 0)
    assert str(one(steps, "deliver").what) == "chunks to sctp echo server port 80 INIT"
    (reply,) = sent(steps)
    assert reply.headers[-1] == Sctp(80, 40000, 7)
    assert [str(c) for c in chunks(reply.payload)] == ["INIT_ACK"] and chunks(reply.payload)[0].tag == TAG + 1
    assert not sent(room.receive("eth0", frame(packet(A, chunk(sctp.DATA), tag=TAG + 1)), 0))


@pytest.mark.parametrize(("part", "tag", "answered", "flags"), [
    (opening(7), 0, 7, 0), (chunk(sctp.DATA), 5, 5, 1), (abort(), 5, 0, 0), (chunk(sctp.SHUTDOWN_COMPLETE), 5, 0, 0),
])  # fmt: skip
def test_nobody_at_the_port(part: bytes, tag: int, answered: int, flags: int) -> None:
    room = router("b", f"{B}/24", known=True)
    room.listen(81, protos=("sctp",))
    steps = room.receive("eth0", frame(packet(A, part, tag=tag)), 0)
    assert reasons(steps) == [Reason.NO_SOCKET]
    replies = [(p.headers[-1], [(c.type, c.flags) for c in chunks(p.payload)]) for p in sent(steps)]
    assert replies == ([(Sctp(80, 40000, answered), [(sctp.ABORT, flags)])] if answered else [])


def test_a_host_without_sctp() -> None:
    room = router("b", f"{B}/24", known=True)
    steps = room.receive("eth0", frame(packet(A, opening(7))), 0)
    assert reasons(steps) == [Reason.IP_NOPROTO]
    (icmp,) = [icmp_of(p) for p in sent(steps)]
    assert (icmp.type, icmp.code) == (UNREACHABLE, PROTO_UNREACH)
    assert not of(steps, "deliver")
