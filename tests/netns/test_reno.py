"""A TCP sender with congestion control, and the receiver that keeps what comes too early."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

import packetwalk as pw
from packetwalk.addr import IPv4
from packetwalk.netns.reno import ANNOUNCED, Reno
from packetwalk.netns.tcp import MIN_RTO, Connection, Segment
from packetwalk.packet import Tcp
from packetwalk.trace import Reason
from tests.engine.test_sim import FREE, line

A, B, MS = IPv4("10.0.0.1"), IPv4("10.0.0.2"), 1_000_000
MSS = 1448


def connected(total: int = 10**6) -> tuple[Reno, Connection, list[Segment]]:
    """Both ends after the handshake, and the first flight."""
    client, server = Reno(A, 40000, B, 80, send_size=total), Connection(B, 80, A, 40000, app="sink")
    syn_ack = server.accept(client.open()[0].tcp)[0]
    ack = client.on_segment(syn_ack.tcp, 0, 0)[0]
    server.on_segment(ack.tcp, 0, 0)
    return client, server, client.write(total)


def deliver(client: Reno, server: Connection, segments: Iterable[Segment], now: int = 0) -> list[Segment]:
    """Segments reach the server in order, each acknowledgement reaches the client; what it sends then."""
    answers = [a for s in segments for a in server.on_segment(s.tcp, s.payload, now)]
    return [out for a in answers for out in client.on_segment(a.tcp, 0, now)]


def test_slow_start_doubles_the_window_each_round_trip() -> None:
    client, server, flight = connected()
    sizes = []
    while len(flight) < ANNOUNCED // MSS:
        sizes.append(len(flight))
        flight = deliver(client, server, flight)
    assert sizes == [10, 20, 40] and len(flight) <= ANNOUNCED // MSS


def test_the_far_ends_window_is_never_overrun() -> None:
    client, server, flight = connected()
    for _ in range(12):
        flight = deliver(client, server, flight)
        assert sum(s.payload for s in client.unacked) <= ANNOUNCED


def test_the_third_duplicate_sends_the_lost_segment_again() -> None:
    """RFC 5681 3.2: the threshold is half of what was on its way, and three have left the network."""
    client, server, flight = connected()
    lost, *rest = flight
    for n, segment in enumerate(rest, 1):
        (answer,) = server.on_segment(segment.tcp, segment.payload, 0)
        assert answer.tcp.ack == lost.tcp.seq
        out = client.on_segment(answer.tcp, 0, 0)
        if n == 3:
            assert out == [lost._replace(again=True)] and client.ssthresh == 5 and client.cwnd == 8
        elif n < 3:
            assert out == []
    (answer,) = server.on_segment(lost.tcp, lost.payload, 0)
    assert answer.tcp.ack == flight[-1].tcp.seq + MSS, "the rest had been kept (tcp_data_queue_ofo)"
    client.on_segment(answer.tcp, 0, 0)
    assert client.cwnd == client.ssthresh == 5 and client.recover == -1


def test_a_partial_acknowledgement_shows_the_next_hole() -> None:
    """RFC 6582: two losses in one window cost no timeout."""
    client, server, flight = connected()
    first, second = flight[0], flight[5]
    out = deliver(client, server, [s for s in flight if s not in (first, second)])
    assert [s.tcp.seq for s in out if s.again] == [first.tcp.seq]
    out = deliver(client, server, [s for s in out if s.again])
    assert out[0] == second._replace(again=True)
    assert client.recover >= 0 and client.ssthresh == 5
    deliver(client, server, out)
    assert server.rcv_nxt == client.snd_una and client.again == 2


def test_a_timeout_starts_slowly_again() -> None:
    client, server, flight = connected()
    assert client.on_timeout() == [flight[0]._replace(again=True)]
    assert (client.cwnd, client.ssthresh, client.rto) == (1, 5, 2 * MIN_RTO)
    out = deliver(client, server, flight[:1])
    assert [(s.tcp.seq, s.again) for s in out] == [(s.tcp.seq, True) for s in flight[1:3]], "the whole flight was lost"
    while out and server.rcv_nxt < flight[-1].tcp.seq:
        out = deliver(client, server, out)
    assert server.received >= 10 * MSS and client.recover == -1 and client.again == 10


def test_the_timeout_follows_the_round_trip() -> None:
    """RFC 6298: of a path of 300 ms, 300 and four times half of it; then it settles."""
    client, server, flight = connected()
    flight = deliver(client, server, flight, now=0)
    flight = deliver(client, server, flight, now=300 * MS)
    assert client.srtt == 300 * MS and client.rto == 900 * MS
    for n in range(2, 40):
        flight = deliver(client, server, flight, now=300 * MS * n)
    assert client.rto == pytest.approx(300 * MS, rel=0.1)


def test_what_overlaps_is_taken_once() -> None:
    server = Connection(B, 80, A, 40000, state="ESTABLISHED", app="sink", rcv_nxt=100)

    def arrives(seq: int, size: int, flags: str = "A") -> int:
        return server.on_segment(Tcp(40000, 80, flags, seq, 0), size, 0)[0].tcp.ack

    assert [arrives(120, 10), arrives(130, 5), arrives(100, 10), arrives(95, 20)] == [100, 100, 110, 115]
    assert arrives(110, 10) == 135 and server.received == 35
    assert arrives(100, 20) == 135, "seen before"
    assert arrives(145, 0, "FA") == 135 and not server.fin_received
    assert arrives(135, 10) == 146 and server.fin_received and server.state == "CLOSE_WAIT"


# -- over wires --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", [2, 8, 100])
def test_every_byte_arrives_whatever_is_lost(queue: int) -> None:
    load = pw.simulate(line(rate=10**7, delay=MS, queue=queue), pw.transfer("a", "b", total=300_000), until="20s")
    (conn,) = load.flows[0].conns
    assert conn.state in ("FIN_WAIT2", "TIME_WAIT") and conn.snd_una == 300_002, "with the SYN and the FIN"
    assert bool(load.drops) == bool(conn.again) == (queue < 40)


def test_a_wire_is_filled() -> None:
    """1448 of 1514 bytes are the program's; slow start and a few losses take little."""
    load = pw.simulate(line(rate=10**7, delay=MS, queue=30), pw.transfer("a", "b"), until="5s", costs=FREE)
    goodput = load.rows()[0]["goodput_bps"]
    assert 0.93 < goodput / 10**7 <= 1448 / 1514 and load.drops.keys() == {Reason.QDISC_DROP}


def test_a_long_path_is_as_fast_as_its_window_allows() -> None:
    load = pw.simulate(line(rate=10**9, delay=20 * MS), pw.transfer("a", "b"), until="4s", costs=FREE)
    assert load.rows()[0]["goodput_bps"] == pytest.approx(44 * MSS * 8 / 0.04, rel=0.05)


def test_two_connections_share() -> None:
    sources = pw.transfer("a", "b", name="one"), pw.transfer("a", "b", name="two", start="100ms")
    load = pw.simulate(line(rate=10**7, delay=MS, queue=20), *sources, until="10s", costs=FREE)
    one, two = (load.flow(name).delivered for name in ("one", "two"))
    assert 1 / 3 < one / two < 3
