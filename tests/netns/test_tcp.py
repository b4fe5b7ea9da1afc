"""TCP endpoints: who says what with which flags and options, sizes, silence, errors, and a path that shrinks."""

from __future__ import annotations

from itertools import pairwise

import pytest

from packetwalk.addr import IPv4
from packetwalk.engine.sim import Simulation
from packetwalk.netns.fib_table import Route
from packetwalk.netns.namespace import Netns
from packetwalk.netns.tcp import Connection
from packetwalk.network import Network
from packetwalk.packet import (
    FRAG_NEEDED,
    HOST_UNREACH,
    NET_UNREACH,
    PKT_FILTERED,
    PROTO_ICMP,
    TIME_EXCEEDED,
    UNREACHABLE,
    Icmp,
    Ip,
    Packet,
    Slice,
    Tcp,
    ip_packet,
    payload_len,
    size,
)
from packetwalk.trace import TASK, Reason, Step, Timer
from tests.netns.rooms import (
    M1,
    M2,
    SECOND,
    errnos,
    frame,
    host,
    ip_of,
    of,
    one,
    reasons,
    sent,
    tcp,
    timers,
    veth_pair,
)

A, B = "10.0.0.1", "10.0.0.2"
MS = SECOND // 1000


def pair() -> Network:
    """a (10.0.0.1) and b (10.0.0.2, listening on 80) on a veth pair; they know one another."""
    a, b = Netns("a"), Netns("b")
    network = veth_pair(a, b)
    a.addr_add("eth0", f"{A}/24")
    b.addr_add("eth0", f"{B}/24")
    a.neigh_add(B, M2, "eth0")
    b.neigh_add(A, M1, "eth0")
    b.listen(80)
    return network


def dial(*, data: int = 0, port: int = 80, **more: str) -> Connection:
    """A connection to b that is still to be opened."""
    return Connection(IPv4("0.0.0.0"), 40000, IPv4(B), port, send_size=data, **more)  # type: ignore[arg-type]


def talk(network: Network, conn: Connection, until: int = 90 * SECOND) -> list[tuple[str, int, Packet]]:
    """Open the connection and let everything happen: (room, when, segment) of all that was sent."""
    sim = Simulation(network, costs={})
    sim.program("a", lambda room, now: room.connect(conn, now))
    sim.run(until)
    steps = ((h.room, at, s) for h in sim.hops for s, at in zip(h.steps, h.times, strict=True))
    return [(room, at, s.packet) for room, at, s in steps if s.stage == "transmit" and s.dev == "eth0"]


def segment(packet: Packet) -> Tcp:
    return next(h for h in packet.headers if isinstance(h, Tcp))


def said(talked: list[tuple[str, int, Packet]]) -> list[str]:
    """`a S`, `b SA`, ... with the payload where there is one."""
    return [f"{r} {segment(p).flags} {payload_len(p.payload) or ''}".strip() for r, _, p in talked]


def opening(room: Netns) -> Tcp:
    """The SYN that the room would send to b."""
    return segment(sent(room.connect(dial(), 0))[0])


# -- a conversation ----------------------------------------------------------------------------------------------------


def test_connect_and_close() -> None:
    """The client closes as soon as it is connected; the server, having read the end, closes too."""
    conn = dial()
    talked = talk(pair(), conn)
    assert said(talked) == ["a S", "b SA", "a A", "a FA", "b A", "b FA", "a A"]
    assert (conn.state, conn.mss) == ("TIME_WAIT", 1448)


def test_sequence_numbers() -> None:
    """SYN and FIN take one each, counted from zero here."""
    numbers = [(segment(p).seq, segment(p).ack) for _, _, p in talk(pair(), dial())]
    assert numbers == [(0, 0), (0, 1), (1, 1), (1, 1), (1, 2), (1, 2), (2, 2)]


def test_options() -> None:
    """tcp_syn_options: mss, sack, timestamps, window scale in 40 bytes; timestamps alone (32) once connected."""
    syn, syn_ack, *rest = (segment(p) for _, _, p in talk(pair(), dial()))
    for first in (syn, syn_ack):
        assert (first.mss, first.sack_ok, first.wscale, first.ts is not None, first.header_len) == (
            1460, True, 7, True, 40,
        )  # fmt: skip
    assert (syn.window, syn_ack.window) == (64240, 63712)
    assert all((s.mss, s.wscale, s.header_len) == (0, -1, 32) for s in rest)


def test_ip_headers() -> None:
    """DF on all (path MTU discovery); a SYN-ACK has the id 0 (real-kernel.md, fact 8), as has a reset."""
    ips = [ip_of(p) for _, _, p in talk(pair(), dial())]
    assert all(ip.df and ip.ttl == 64 for ip in ips)
    assert [bool(ip.id) for ip in ips] == [True, False] + [True] * 5
    reset = ip_of(talk(pair(), dial(port=81))[1][2])
    assert reset.df and not reset.id


def test_data_and_its_echo() -> None:
    """1448 bytes a segment; PSH on the last; the client closes when all is back."""
    conn = dial(data=3000)
    talked = talk(pair(), conn)
    there = [s for s in said(talked) if s.startswith("a ") and s[-1].isdigit()]
    assert there == ["a A 1448", "a A 1448", "a PA 104"]
    assert conn.received == 3000 == sum(payload_len(p.payload) for r, _, p in talked if r == "b")
    assert said(talked)[-4:] == ["a FA", "b A", "b FA", "a A"]


def test_the_server_may_close_first() -> None:
    """FIN from the passive side: it is the one to wait (TIME_WAIT)."""
    network = pair()
    a, b = network["a"], network["b"]
    conn = dial()
    (syn,) = sent(a.connect(conn, 0))
    (syn_ack,) = sent(b.receive("eth0", syn, 0))
    (ack,) = sent(a.receive("eth0", syn_ack, 0))
    b.receive("eth0", ack, 0)
    (server,) = b.sockets.connections.values()
    (fin,) = sent(b.wake(Timer(0, "app", server, context=TASK), 0))
    (ack, *_) = sent(a.receive("eth0", fin, 0))
    assert (segment(fin).flags, segment(ack).flags, conn.state) == ("FA", "A", "CLOSE_WAIT")
    (last,) = sent(a.wake(Timer(0, "app", conn, context=TASK), 0))
    b.receive("eth0", ack, 0)
    (end,) = sent(b.receive("eth0", last, 0))
    a.receive("eth0", end, 0)
    assert (server.state, conn.state) == ("TIME_WAIT", "CLOSED")


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["device", "route", "advmss", "path mtu"])
def test_mss(by: str) -> None:
    """ipv4_default_advmss, ipv4_mtu: what the way takes, less 40; a route's advmss as it stands."""
    room = pair()["a"]
    if by == "device":
        room.link_set("eth0", mtu=1400)
    elif by == "route":
        room.route_add(f"{B}/32", dev="eth0", mtu=1400)
    elif by == "advmss":
        route: Route = room.route_add(f"{B}/32", dev="eth0")
        room.fib.table(254).remove(route)
        room.fib.table(254).add(route._replace(advmss=1360))
    else:
        conn = dial()
        (probe,) = sent(room.connect(conn, 0))
        room.receive("eth0", too_big(Packet(probe.headers[1:], probe.payload), 1400), 0)
    assert opening(room).mss == 1360


@pytest.mark.parametrize(("mtu", "other"), [(1500, 1300), (1300, 1500)])
def test_the_smaller_mss_counts(mtu: int, other: int) -> None:
    """tcp_sync_mss: the peer's announcement or the own way, less 12 for the timestamps."""
    network = pair()
    network["b"].link_set("eth0", mtu=other)
    network["a"].link_set("eth0", mtu=mtu)
    conn = dial()
    talk(network, conn)
    assert conn.mss == 1300 - 40 - 12


# -- silence -----------------------------------------------------------------------------------------------------------


def deaf() -> Network:
    """b's device is there, but b does not answer: its firewall, say."""
    network = pair()
    network["b"].addr_add("eth0", "10.0.0.99/24")
    network["b"].devices["eth0"].addrs = []
    network["b"].fib.tables.clear()
    return network


def test_an_unanswered_syn() -> None:
    """tcp_syn_linear_timeouts 4, tcp_syn_retries 6: seen on 6.18 at these seconds, and given up after 131."""
    network = deaf()
    conn = dial()
    talked = talk(network, conn, 200 * SECOND)
    assert [at // SECOND for r, at, _ in talked if r == "a"] == [0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67]
    assert (conn.state, conn.error, {s for s in said(talked) if s[0] == "a"}) == ("CLOSED", "ETIMEDOUT", {"a S"})


def test_an_unanswered_syn_ack() -> None:
    """tcp_synack_retries 5, doubling from one second."""
    room = pair()["b"]
    steps, at = room.receive("eth0", frame(tcp(A, B), M2, M1), 0), [0]
    while timers(steps, "tcp"):
        (again,) = timers(steps, "tcp")
        steps = room.wake(again, again.at)
        at += [again.at // SECOND] * len(sent(steps))
    assert at == [0, 1, 3, 7, 15, 31]


def test_lost_data_comes_again_ever_later() -> None:
    """tcp_retransmit_timer: from TCP_RTO_MIN, doubling, the oldest segment only."""
    network = pair()
    a, conn = network["a"], dial(data=3000)
    (syn,) = sent(a.connect(conn, 0))
    (syn_ack,) = sent(network["b"].receive("eth0", syn, 0))
    a.receive("eth0", syn_ack, 0)
    steps, at = a.wake(Timer(0, "app", conn, context=TASK), 0), [0]
    assert len(sent(steps)) == 3
    for _ in range(5):
        again = timers(steps, "tcp")[-1]
        steps = a.wake(again, again.at)
        (lost,) = sent(steps)
        assert segment(lost).seq == 1
        at.append(again.at)
    assert [(y - x) // MS for x, y in pairwise(at)] == [200, 400, 800, 1600, 3200]


def test_what_waits_for_arp_is_not_sent_again() -> None:
    """skb_still_in_host_queue; after three questions the connection fails with EHOSTUNREACH (real-kernel.md, 31)."""
    room = host("a", f"{A}/24")
    conn = dial()
    steps = room.connect(conn, 0)
    due = timers(steps)
    while due and conn.state == "SYN_SENT":
        first = min(due, key=lambda t: t.at)
        due.remove(first)
        steps = room.wake(first, first.at)
        assert not [p for p in sent(steps, "eth0") if any(isinstance(h, Tcp) for h in p.headers)]
        due += timers(steps)
    assert (conn.state, conn.error) == ("CLOSED", "EHOSTUNREACH")


# -- no ----------------------------------------------------------------------------------------------------------------


def test_a_closed_port() -> None:
    """tcp_v4_send_reset: RST and ACK for a SYN, and connect fails with ECONNREFUSED."""
    conn = dial(port=81)
    talked = talk(pair(), conn)
    assert said(talked) == ["a S", "b RA"] and (segment(talked[1][2]).ack, conn.error) == (1, "ECONNREFUSED")


@pytest.mark.parametrize(
    ("flags", "answer"), [("S", "RA"), ("A", "R"), ("FA", "R"), ("F", "RA"), ("R", None), ("RA", None)]
)
def test_what_a_closed_port_answers(flags: str, answer: str | None) -> None:
    """RFC 9293 3.10.7.1: with ACK a reset takes its sequence number from there; a reset is never answered."""
    steps = pair()["b"].receive("eth0", frame(tcp(A, B, dport=81, flags=flags), M2, M1), 0)
    assert reasons(steps) == [Reason.NO_SOCKET]
    assert [segment(p).flags for p in sent(steps)] == ([answer] if answer else [])


@pytest.mark.parametrize(("flags", "answer"), [("A", "R"), ("SA", "R"), ("F", None), ("R", None), ("SF", None)])
def test_what_a_listener_answers_to_nonsense(flags: str, answer: str | None) -> None:
    """tcp_rcv_state_process in LISTEN (checked on 6.18)."""
    steps = pair()["b"].receive("eth0", frame(tcp(A, B, flags=flags), M2, M1), 0)
    assert [segment(p).flags for p in sent(steps)] == ([answer] if answer else []) and len(reasons(steps)) == 1


def about(conn_syn: Packet, type_: int, code: int, mtu: int = 0) -> Packet:
    """An ICMP error about that packet, for a."""
    quote = Slice(conn_syn, 0, min(size(conn_syn), 548))
    error = ip_packet(Ip(IPv4(B), IPv4(A), PROTO_ICMP, 0, 64), Icmp(type_, code, mtu=mtu), payload=quote)
    return frame(error)


def too_big(packet: Packet, mtu: int) -> Packet:
    return about(packet, UNREACHABLE, FRAG_NEEDED, mtu)


@pytest.mark.parametrize(
    ("type_", "code", "errno"),
    [
        (UNREACHABLE, HOST_UNREACH, "EHOSTUNREACH"),
        (UNREACHABLE, NET_UNREACH, "ENETUNREACH"),
        (UNREACHABLE, PKT_FILTERED, "EHOSTUNREACH"),
        (TIME_EXCEEDED, 0, "EHOSTUNREACH"),
    ],
)
def test_errors_end_a_connection_only_while_it_opens(type_: int, code: int, errno: str) -> None:
    """tcp_v4_err (real-kernel.md, fact 31): hard for a SYN; later they are soft, and retransmission goes on."""
    network = pair()
    a, conn = network["a"], dial()
    (syn,) = sent(a.connect(conn, 0))
    a.receive("eth0", about(Packet(syn.headers[1:], 0), type_, code), 0)
    assert (conn.state, conn.error) == ("CLOSED", errno)
    network = pair()
    a, conn = network["a"], dial(data=1)
    (syn,) = sent(a.connect(conn, 0))
    a.receive("eth0", sent(network["b"].receive("eth0", syn, 0))[0], 0)
    (data,) = sent(a.wake(Timer(0, "app", conn, context=TASK), 0))
    a.receive("eth0", about(Packet(data.headers[1:], data.payload), type_, code), 0)
    assert (conn.state, conn.error) == ("ESTABLISHED", "")


@pytest.mark.parametrize(
    ("kind", "errno"),
    [("blackhole", "EINVAL"), ("prohibit", "EACCES"), ("unreachable", "EHOSTUNREACH"), ("", "ENETUNREACH")],
)
def test_connect_fails_at_once_without_a_way(kind: str, errno: str) -> None:
    """ip_route_connect (real-kernel.md, fact 31)."""
    room = host("a", f"{A}/24")
    if kind:
        room.route_add("10.9.0.0/16", type=kind)
    conn = Connection(IPv4("0.0.0.0"), 40000, IPv4("10.9.9.9"), 80)
    steps = room.connect(conn, 0)
    assert errnos(steps) == [errno] == [conn.error] and not sent(steps)


def test_a_foreign_source_cannot_be_bound() -> None:
    conn = Connection(IPv4("192.0.2.1"), 40000, IPv4(B), 80)
    assert errnos(pair()["a"].connect(conn, 0)) == ["EADDRNOTAVAIL"]


# -- a path that shrinks -----------------------------------------------------------------------------------------------


def test_smaller_segments_after_fragmentation_needed() -> None:
    """tcp_v4_mtu_reduced, tcp_simple_retransmit: what was lost goes again at once, in smaller pieces."""
    network = pair()
    a, conn = network["a"], dial(data=2896)
    (syn,) = sent(a.connect(conn, 0))
    a.receive("eth0", sent(network["b"].receive("eth0", syn, 0))[0], 0)
    first, second = sent(a.wake(Timer(0, "app", conn, context=TASK), 0))
    assert ip_of(first).len == ip_of(second).len == 1500
    steps: list[Step] = a.receive("eth0", too_big(Packet(first.headers[1:], first.payload), 1000), 0)
    one(steps, "learn")
    again = [(segment(s.packet).seq, ip_of(s.packet).len) for s in of(steps, "transmit")]
    assert again == [(1, 1000), (949, 1000), (1897, 1000), (2845, 104)] and conn.mss == 948
    assert not sent(a.receive("eth0", too_big(Packet(first.headers[1:], first.payload), 1000), 0))


def test_a_syn_ack_carries_df_whatever_its_listener_does() -> None:
    """Seen on Linux 6.18: with ip_no_pmtu_disc the SYN and the data go without, the SYN-ACK with DF and id 0."""
    network = pair()
    b = network["b"]
    b.sysctl("net.ipv4.ip_no_pmtu_disc", 1)
    (answer,) = sent(b.receive("eth0", frame(tcp(A, B, dport=80, flags="S"), dst=M2, src=M1), 0))
    assert (ip_of(answer).df, ip_of(answer).id) == (True, 0)


def test_a_connection_to_nobody_in_particular_is_one_to_this_host() -> None:
    """ip_route_output_key_hash_rcu: 0.0.0.0 becomes the source, or 127.0.0.1."""
    room = host("a", f"{A}/24")
    conn = Connection(IPv4("0.0.0.0"), 40000, IPv4("0.0.0.0"), 81)
    (syn, *_) = sent(room.connect(conn, 0), "lo")
    assert (str(ip_of(syn).src), str(ip_of(syn).dst)) == ("127.0.0.1", "127.0.0.1")
    assert (str(conn.laddr), str(conn.raddr)) == ("127.0.0.1", "127.0.0.1")
