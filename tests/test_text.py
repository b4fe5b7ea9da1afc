"""Words and columns: what a person reads of a trace."""

import re

import pytest

import packetwalk as pw
from packetwalk.netns.device import Veth
from packetwalk.netns.fib_table import Nexthop
from packetwalk.netns.namespace import Netns
from packetwalk.netns.netfilter import Ruleset
from packetwalk.packet import ARP_REPLY, ARP_REQUEST, Arp, Icmp, Ip, Tcp, Udp, ip_packet
from packetwalk.words import brief, counted, flags, packet_words, time

A, B = pw.IPv4("10.0.0.1"), pw.IPv4("10.0.0.2")
MAC = pw.Mac(0x0200_0000_0001)


@pytest.fixture(scope="module")
def sample() -> pw.Network:
    return pw.load_snapshot(pw.SAMPLE)


def walk(net: pw.Network, kind: str, src: str, dst: str, port: int = 0, **more: object) -> pw.Trace:
    return pw.walk(net, pw.Flow(kind, src, pw.IPv4(dst), port, **more))  # type: ignore[arg-type]


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ns", "words"),
    [
        (0, "0.0 us"),
        (1_234, "1.2 us"),
        (9_999_949, "9999.9 us"),
        (10_000_000, "0.0100000 s"),
        (1_000_002_200, "1.0000022 s"),
    ],
)
def test_times_keep_a_tenth_of_a_microsecond(ns: int, words: str) -> None:
    assert time(ns) == words


def test_one_is_not_many() -> None:
    assert (counted(0, "room"), counted(1, "room"), counted(2, "room")) == ("0 rooms", "1 room", "2 rooms")


@pytest.mark.parametrize(
    ("letters", "words"), [("S", "[S]"), ("SA", "[S.]"), ("A", "[.]"), ("FA", "[F.]"), ("RA", "[R.]")]
)
def test_tcp_flags_are_those_of_tcpdump(letters: str, words: str) -> None:
    assert flags(Tcp(1, 2, letters)) == words


@pytest.mark.parametrize(
    ("packet", "short", "long"),
    [
        (ip_packet(Ip(A, B, 1, 0), Icmp(8)), "echo request", "10.0.0.1 > 10.0.0.2 icmp echo request"),
        (ip_packet(Ip(A, B, 1, 0), Icmp(3, 4, mtu=1400)), "fragmentation needed mtu 1400",
         "10.0.0.1 > 10.0.0.2 icmp fragmentation needed mtu 1400"),
        (ip_packet(Ip(A, B, 6, 0), Tcp(1, 80, "SA")), "tcp [S.]", "10.0.0.1 > 10.0.0.2 tcp 1 > 80 [S.]"),
        (ip_packet(Ip(A, B, 17, 0), Udp(5, 53, 8)), "udp", "10.0.0.1 > 10.0.0.2 udp 5 > 53"),
        (ip_packet(Ip(A, B, 17, 0, offset=1480), payload=9), "udp fragment at 1480",
         "10.0.0.1 > 10.0.0.2 proto udp fragment at 1480"),
        (pw.Packet((Arp(ARP_REQUEST, MAC, A, pw.Mac(0), B),)), "arp request", "arp who has 10.0.0.2 tell 10.0.0.1"),
        (pw.Packet((Arp(ARP_REPLY, MAC, A, MAC, B),)), "arp reply", "arp 10.0.0.1 is at 02:00:00:00:00:01"),
        (ip_packet(Ip(pw.IPv4("0.0.0.0"), B, 1, 0), Icmp(8)), "echo request", "to 10.0.0.2 icmp echo request"),
    ],
)  # fmt: skip
def test_a_packet_in_words(packet: pw.Packet, short: str, long: str) -> None:
    assert (brief(packet), packet_words(packet)) == (short, long)


# -- columns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "port", "more"), [("icmp", 0, {}), ("tcp", 8080, {}), ("udp", 8080, {"size": 5000})])
def test_the_right_column_is_a_column(sample: pw.Network, kind: str, port: int, more: dict[str, int]) -> None:
    trace = walk(sample, kind, "a", "10.244.2.2", port, **more)
    ends = {
        len(line) for line in trace.full().splitlines() if re.search(r"  \d+ bytes$|  [\d.]+ us \+ [\d.]+ us$", line)
    }
    assert len(ends) == 1


def test_a_long_line_moves_the_column_but_does_not_break_it() -> None:
    net = pw.Network("long")
    one, two = net.add(Netns("one")), net.add(Netns("two"))
    for n, room in enumerate((one, two), 1):
        room.link_add("abcdefghijklmno", Veth(mac=pw.Mac(0x0200_0000_0000 + n)))
        room.addr_add("abcdefghijklmno", f"10.0.0.{n}/24")
    net.connect(("one", "abcdefghijklmno"), ("two", "abcdefghijklmno"))
    hops = tuple(Nexthop("abcdefghijklmno", pw.IPv4("10.0.0.2"), n) for n in range(1, 4))
    one.route_add("10.9.0.0/16", nexthops=hops, metric=4_000_000_000, mtu=1400)
    lines = walk(net, "icmp", "one", "10.9.0.1").full().splitlines()
    ends = {len(line) for line in lines if line.endswith((" bytes", " us"))}
    assert len(ends) == 1 and max(ends) <= 160
    assert any("abcdefghijklmno  + eth" in line for line in lines)


def test_the_summary_has_straight_columns(sample: pw.Network) -> None:
    rows = [
        line for line in str(walk(sample, "tcp", "a", "203.0.113.10", 80)).splitlines() if line[:3].strip().isdigit()
    ]
    assert len({line.index(" s  " if " s  " in line else " us  ") + (0 if " s  " in line else 1) for line in rows}) == 1


# -- endings -----------------------------------------------------------------------------------------------------------


def without_rules() -> pw.Network:
    """The sample with the rules of its nodes taken out: no address is masqueraded on the way out."""
    net = pw.load_snapshot(pw.SAMPLE)
    for node in ("node-1", "node-2"):
        net[node].netfilter, net[node].conntrack = Ruleset(), False
    return net


def test_a_drop_is_told_where_it_happened_and_again_at_the_end() -> None:
    lines = walk(without_rules(), "icmp", "a", "10.99.0.1").full().splitlines()
    (drop,) = (line for line in lines if line.split()[:1] == ["drop"])
    assert drop.split(maxsplit=2)[1:] == [
        "eth0",
        "IP_INNOROUTES: no route to 10.99.0.1   10.244.1.2 > 10.99.0.1 icmp echo request",
    ]
    assert "dropped at rtr eth0: IP_INNOROUTES: no route to 10.99.0.1" in lines
    assert any(line.startswith("timeout; 4 rooms, no tunnel, 1 ip hop, path mtu") for line in lines)


def test_what_happens_again_and_again_is_counted() -> None:
    text = str(walk(without_rules(), "tcp", "a", "203.0.113.10", 80))
    assert "... again and again: a > node-1 > fabric > rtr > out > rtr > out ... " in text
    assert re.search(r"^dropped at out eth0: NO_SOCKET: nobody listens on 80 \(\d+ times\)$", text, re.MULTILINE)


def test_a_loop_is_shown_as_a_loop() -> None:
    net = without_rules()
    net["rtr"].route_add("10.77.0.0/16", via="192.168.56.11")
    text = str(walk(net, "icmp", "a", "10.77.0.1"))
    assert "round and round: node-1 > fabric > rtr > fabric" in text
    assert text.count("\n") < 30 and "no icmp error: no route to 10.244.1.2" in text


def test_fragments_of_one_cut_are_one_phrase(sample: pw.Network) -> None:
    text = str(walk(sample, "icmp", "a", "10.244.2.2", size=3000))
    assert (
        "fragment by mtu 1480 (3 times)" in text and "hold waits for more fragments, has 1 fragment, 1456 bytes" in text
    )


def test_a_connection_is_shown_in_the_state_it_was_in(sample: pw.Network) -> None:
    states = [line.split()[-1] for line in str(walk(sample, "tcp", "a", "10.244.2.2", 8080)).splitlines()
              if "deliver segment to tcp 10.244.1.2" in line]  # fmt: skip
    assert states == ["ESTABLISHED", "FIN_WAIT2", "TIME_WAIT"]


def test_a_bridge_puts_no_header_on_what_it_forwards(sample: pw.Network) -> None:
    sent = str(walk(sample, "icmp", "a", "10.244.2.2")["fabric"]).splitlines()[-1]
    assert "transmit" in sent and "eth > 52:54:00:00:00:02" in sent and "+ eth" not in sent
