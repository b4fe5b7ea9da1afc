"""What each match says of a packet, after the kernel function it is named for."""

import pytest

from packetwalk.addr import Mac
from packetwalk.netns.seen import HotDrop, Seen, Undecided
from packetwalk.packet import Ethernet, Icmp, Tcp
from tests.netns.seen import Dice, conn, matches, seen

UDP = {"proto": 17}
LATER = {"offset": 1480, "payload": 100}
SECOND = 10**9


def synack() -> Tcp:
    return Tcp(80, 4000, "SA", mss=1460, wscale=7)


CASES: list[tuple[str, Seen, bool]] = [
    # the header
    ("-s 10.0.0.0/24", seen(), True),
    ("! -s 10.0.0.0/24", seen(), False),
    ("-d 10.96.0.1", seen(), True),
    ("-d 10.96.0.2", seen(), False),
    ("! -d 10.96.0.2", seen(), True),
    ("! -d 0.0.0.0/0", seen(), False),
    ("-s 10.0.0.0/255.0.255.0", seen(), True),
    ("-i eth+ -o cali+", seen(oif="cali1"), True),
    ("-i eth0 ! -o eth0", seen(oif="cali1"), True),
    ("! -i eth+", seen(), False),
    ("-o eth0", seen(), False),
    ("! -o eth0", seen(), True),
    ("-p tcp", seen(), True),
    ("! -p tcp", seen(**UDP), True),
    ("-p udp", seen(), False),
    ("-f", seen(), False),
    ("! -f", seen(), True),
    ("-f", seen(**LATER), True),
    ("-p tcp -f", seen(**LATER), True),
    # ports: a later fragment has none, and never matches, not even inverted
    ("-p tcp --dport 80", seen(), True),
    ("-p tcp --dport 80", seen(**UDP), False),
    ("-p tcp --dport 1:79", seen(), False),
    ("-p tcp ! --dport 1:79", seen(), True),
    ("-p tcp ! --dport 80", seen(), False),
    ("-p tcp --sport 4000 --dport 80", seen(), True),
    ("-p tcp --sport 4001 --dport 80", seen(), False),
    ("-p tcp ! --sport 4001 --dport 80", seen(), True),
    ("-p udp --dport 80", seen(**UDP), True),
    ("-p tcp --dport 80", seen(**LATER), False),
    ("-p tcp ! --dport 80", seen(**LATER), False),
    ("-p tcp -m tcp", seen(**LATER), False),
    ("-p tcp --dport 80", seen(l4=Icmp(8)), False),
    ("-p tcp -m multiport --dports 22,80", seen(), True),
    ("-p tcp -m multiport --dports 22,70:90", seen(), True),
    ("-p tcp -m multiport ! --dports 22,80", seen(), False),
    ("-p tcp -m multiport --sports 80", seen(), False),
    ("-p tcp -m multiport --ports 4000", seen(), True),
    ("-p tcp -m multiport ! --ports 81", seen(**LATER), False),
    # tcp flags and options
    ("-p tcp --syn", seen(), True),
    ("-p tcp --syn", seen(l4=synack()), False),
    ("-p tcp ! --syn", seen(l4=synack()), True),
    ("-p tcp --tcp-flags SYN,RST SYN", seen(l4=synack()), True),
    ("-p tcp --tcp-flags ALL SYN,ACK", seen(l4=synack()), True),
    ("-p tcp --tcp-flags ALL NONE", seen(), False),
    ("-p tcp --tcp-option 2", seen(), True),
    ("-p tcp --tcp-option 8", seen(), False),
    ("-p tcp ! --tcp-option 3", seen(), True),
    # icmp
    ("-p icmp --icmp-type 8", seen(l4=Icmp(8)), True),
    ("-p icmp --icmp-type echo-reply", seen(l4=Icmp(8)), False),
    ("-p icmp ! --icmp-type 0", seen(l4=Icmp(8)), True),
    ("-p icmp --icmp-type 3/4", seen(l4=Icmp(3, 4)), True),
    ("-p icmp --icmp-type 3/4", seen(l4=Icmp(3, 1)), False),
    ("-p icmp --icmp-type 3", seen(l4=Icmp(3, 1)), True),
    ("-p icmp --icmp-type any", seen(l4=Icmp(3, 1)), True),
    ("-p icmp --icmp-type 8", seen(proto=1, **LATER), False),
    ("-p icmp --icmp-type any", seen(), False),
    # marks
    ("-m mark --mark 0x4000/0x4000", seen(mark=0x4001), True),
    ("-m mark --mark 0x4000", seen(mark=0x4001), False),
    ("-m mark ! --mark 0x4000/0x4000", seen(mark=1), True),
    ("-m connmark --mark 1", seen(mark=1), False),
    ("-m connmark ! --mark 1", seen(), False),
    ("-m connmark --mark 1/3", seen(conn=conn(mark=5)), True),
    # conntrack
    ("-m conntrack --ctstate NEW", seen(), True),
    ("-m conntrack ! --ctstate RELATED,ESTABLISHED", seen(), True),
    ("-m conntrack --ctstate INVALID", seen(ctstate="INVALID"), True),
    ("-m state --state UNTRACKED", seen(ctstate="UNTRACKED"), True),
    ("-m conntrack --ctstate DNAT", seen(ctstate="ESTABLISHED", conn=conn(status=32)), True),
    ("-m conntrack --ctstate DNAT", seen(ctstate="ESTABLISHED", conn=conn(status=16)), False),
    ("-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT", seen(conn=conn(status=32)), False),
    ("-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT", seen(conn=conn()), True),
    ("-m conntrack --ctorigdst 10.96.0.0/12 --ctorigdstport 80", seen(conn=conn()), True),
    ("-m conntrack --ctorigdst 10.96.0.0/12 --ctorigdstport 81:90", seen(conn=conn()), False),
    ("-m conntrack --ctreplsrc 10.0.1.3 --ctreplsrcport 8080", seen(conn=conn()), True),
    ("-m conntrack ! --ctrepldst 10.0.0.2", seen(conn=conn()), False),
    ("-m conntrack --ctdir REPLY", seen(conn=conn(), ctdir="REPLY"), True),
    ("-m conntrack --ctdir REPLY", seen(conn=conn()), False),
    ("-m conntrack --ctdir ORIGINAL", seen(), False),
    ("-m conntrack --ctproto tcp", seen(conn=conn()), True),
    ("-m conntrack --ctstatus ASSURED", seen(conn=conn(status=6)), True),
    ("-m conntrack ! --ctstatus ASSURED", seen(conn=conn(status=2)), True),
    ("-m conntrack --ctexpire 10:20", seen(conn=conn(expires=15 * SECOND)), True),
    ("-m conntrack --ctexpire 10:20", seen(conn=conn(expires=5 * SECOND)), False),
    # without a connection only the state counts (conntrack_mt)
    ("-m conntrack --ctstate INVALID --ctorigdst 1.2.3.4", seen(ctstate="INVALID"), True),
    ("-m conntrack ! --ctorigdst 1.2.3.4", seen(ctstate="INVALID"), False),
    # the local table
    ("-m addrtype --dst-type LOCAL", seen(dst="10.0.0.1"), True),
    ("-m addrtype --dst-type LOCAL", seen(), False),
    ("-m addrtype --dst-type UNICAST", seen(), True),
    ("-m addrtype ! --dst-type LOCAL,BROADCAST", seen(dst="10.0.0.255"), False),
    ("-m addrtype --dst-type MULTICAST", seen(dst="224.0.0.5"), True),
    ("-m addrtype --dst-type BROADCAST", seen(dst="255.255.255.255"), True),
    ("-m addrtype --src-type LOCAL", seen(src="127.0.0.1"), True),
    ("-m addrtype --dst-type LOCAL --limit-iface-in", seen(dst="10.0.0.1"), True),
    ("-m addrtype --dst-type LOCAL --limit-iface-in", seen("eth1", dst="10.0.0.1"), False),
    ("-m addrtype ! --src-type LOCAL --limit-iface-out", seen("", "eth1", src="10.0.0.1"), True),
    # rpfilter: the way back
    ("-m rpfilter", seen(), True),
    ("-m rpfilter", seen("eth1"), False),
    ("-m rpfilter --invert", seen("eth1"), True),
    ("-m rpfilter --loose", seen("eth1"), True),
    ("-m rpfilter", seen(src="10.0.0.1"), False),
    ("-m rpfilter --accept-local", seen(src="10.0.0.1"), True),
    ("-m rpfilter", seen("lo", src="10.0.0.1"), True),
    ("-m rpfilter --validmark --invert", seen("eth1", src="8.8.8.8"), False),
    # a bridge's ports
    ("-m physdev --physdev-in p1", seen(physin="p1"), True),
    ("-m physdev --physdev-in p+ --physdev-out p2", seen(physin="p1", physout="p2"), True),
    ("-m physdev ! --physdev-in p1", seen(physin="p1"), False),
    ("-m physdev --physdev-is-bridged", seen(physin="p1", physout="p2"), True),
    ("-m physdev --physdev-is-bridged", seen(), False),
    ("-m physdev ! --physdev-is-bridged", seen(), True),
    ("-m physdev --physdev-in p1", seen(), False),
    ("-m physdev ! --physdev-in p1", seen(), True),
    ("-m physdev --physdev-in p1", seen(physout="p2"), True),
    ("-m physdev ! --physdev-in p1", seen(physout="p2"), True),
    ("-m physdev ! --physdev-out p1", seen(physin="p2"), False),
    ("-m physdev ! --physdev-out p1", seen(), True),
    ("-m physdev --physdev-is-in", seen(physin="p1"), True),
    ("-m physdev ! --physdev-is-out", seen(physin="p1"), True),
    # the rest
    ("-m socket --transparent", seen(), False),
    ("-m length --length 44", seen(), True),
    ("-m length ! --length 0:43", seen(), True),
    ("-m ttl --ttl-eq 64", seen(), True),
    ("-m ttl ! --ttl-eq 64", seen(), False),
    ("-m ttl --ttl-lt 64", seen(), False),
    ("-m ttl --ttl-gt 63", seen(), True),
    ("-m dscp --dscp-class AF11", seen(tos=0x28), True),
    ("-m dscp ! --dscp 0x0a", seen(tos=0x28), False),
    ("-m iprange --src-range 10.0.0.1-10.0.0.9 ! --dst-range 10.0.0.1-10.0.0.9", seen(), True),
    ("-m mac --mac-source 02:00:00:00:00:0a", seen(eth=Ethernet(Mac(0x02000000000A), Mac(1))), True),
    ("-m mac ! --mac-source 02:00:00:00:00:0a", seen(eth=Ethernet(Mac(0x02000000000A), Mac(1))), False),
    ("-m mac ! --mac-source 02:00:00:00:00:0a", seen(), False),
    ('-m comment --comment "a b"', seen(), True),
    ("-m nfacct --nfacct-name x", seen(), True),
]


@pytest.mark.parametrize(("words", "packet", "expected"), CASES, ids=[f"{i}:{c[0]}" for i, c in enumerate(CASES)])
def test_match(words: str, packet: Seen, expected: bool) -> None:
    assert matches(words, packet) is expected


@pytest.mark.parametrize(
    ("words", "about"),
    [
        ("-p tcp --dport 80", {"offset": 8, "payload": 100}),
        ("-p tcp --dport 80", {"l4": Icmp(8), "proto": 6, "offset": 8}),
        ("-p udp --dport 80", {"proto": 17, "cut": True}),
        ("-p icmp --icmp-type 8", {"proto": 1, "cut": True}),
    ],
)
def test_an_attack_or_a_header_cut_short_is_dropped_at_once(words: str, about: dict[str, object]) -> None:
    about = dict(about)
    cut = about.pop("cut", False)
    s = seen(**about)  # type: ignore[arg-type]
    if cut:
        s.look_at(s.packet._replace(headers=s.packet.headers[:1]))
    with pytest.raises(HotDrop):
        matches(words, s)


def test_ports_of_a_protocol_that_is_not_modelled_are_undecided() -> None:
    with pytest.raises(Undecided, match="ports of protocol 33"):
        matches("-p 33 -m multiport --dports 80", seen(proto=33))


@pytest.mark.parametrize("words", ["-m string --string x --algo bm", "-m socket"])
def test_an_unknown_match_is_undecided_only_if_the_rest_of_the_rule_holds(words: str) -> None:
    assert not matches(f"-s 1.2.3.4 {words}", seen())
    assert not matches(f"{words} -m mark --mark 1", seen())
    with pytest.raises(Undecided):
        matches(words, seen())


def test_a_set_that_is_nowhere_is_undecided() -> None:
    assert not matches("-s 1.2.3.4 -m set --match-set gone src", seen())
    with pytest.raises(Undecided, match="set gone that is nowhere"):
        matches("-m set --match-set gone src", seen())


# -- what remembers or draws -------------------------------------------------------------------------------------------


def test_statistic_random_asks_the_chooser() -> None:
    dice = Dice(True, False)
    assert matches("-m statistic --mode random --probability 0.5", seen(choose=dice))
    assert not matches("-m statistic --mode random --probability 0.5", seen(choose=dice))
    assert matches("-m statistic --mode random ! --probability 0.25", seen(choose=Dice(False)))
    assert dice.asked == [0.5, 0.5]


def results(words: str, times: list[float], **about: object) -> list[bool]:
    """What a rule says of the same packet at several times (seconds), with one memory."""
    from packetwalk.netns.rule import chained, parse_rule

    check, state = chained(parse_rule(f"-A X {words}").conditions()), {}
    return [check(seen(state=state, now=int(t * SECOND), **about)) for t in times]  # type: ignore[arg-type]


def test_statistic_nth_counts() -> None:
    assert results("-m statistic --mode nth --every 3 --packet 0", [0] * 5) == [True, False, False, True, False]
    assert results("-m statistic --mode nth --every 3 --packet 1", [0] * 5) == [False, True, False, False, True]
    assert results("-m statistic --mode nth ! --every 2 --packet 0", [0] * 3) == [False, True, False]


def test_statistic_nth_counts_only_what_the_tests_before_it_let_through() -> None:
    words = "-m mark --mark 1 -m statistic --mode nth --every 2 --packet 0"
    assert results(words, [0, 0], mark=0) == [False, False]
    assert results(words, [0, 0], mark=1) == [True, False]


def test_limit_is_a_bucket_that_fills_up_again() -> None:
    words = "-m limit --limit 1/sec --limit-burst 2"
    assert results(words, [0, 0, 0, 0.5, 1, 1.5]) == [True, True, False, False, True, False]
    assert results(words, [0, 0, 0, 9, 9, 9]) == [True, True, False, True, True, False]


def recent(*asked: tuple[str, float, str]) -> list[bool]:
    """What a sequence of recent matches on one list says: (words, seconds, source)."""
    state: dict[object, object] = {}
    return [matches(f"-m recent {words}", seen(state=state, now=int(t * SECOND), src=src)) for words, t, src in asked]


A, B = "10.1.1.1", "10.1.1.2"


def test_recent_remembers_an_address() -> None:
    asked = [("--rcheck", 0, A), ("--set", 0, A), ("--rcheck", 1, A), ("--rcheck", 1, B)]
    assert recent(*asked) == [False, True, True, False]
    assert recent(("! --rcheck", 0, A), ("! --set", 0, A)) == [True, False]
    assert recent(("--set", 0, A), ("--remove", 0, A), ("--remove", 0, A)) == [True, True, False]
    assert recent(("--set --name x", 0, A), ("--rcheck --name y", 0, A)) == [True, False]
    assert recent(("--set --mask 255.255.255.0", 0, A), ("--rcheck --mask 255.255.255.0", 0, B)) == [True, True]
    assert recent(("--set --rdest", 0, A), ("--rcheck --rdest", 0, B)) == [True, True]


def test_recent_within_seconds_and_hits() -> None:
    within = [("--set", 0, A), ("--rcheck --seconds 10", 10, A), ("--rcheck --seconds 10", 10.1, A)]
    assert recent(*within) == [True, True, False]
    thrice = [("--set", 0, A), ("--set", 1, A), ("--rcheck --hitcount 3", 2, A), ("--set", 2, A)]
    assert recent(*thrice, ("--rcheck --hitcount 3", 2, A), ("--rcheck --hitcount 3 --seconds 1", 2, A)) == [
        True, True, False, True, True, False,
    ]  # fmt: skip


def test_recent_update_keeps_an_address_alive_and_reap_forgets() -> None:
    alive = [("--set", 0, A), ("--update --seconds 10", 9, A), ("--rcheck --seconds 10", 18, A)]
    assert recent(*alive) == [True, True, True]
    forgotten = [("--set", 0, A), ("--rcheck --seconds 10 --reap", 20, A), ("--rcheck", 21, A)]
    assert recent(*forgotten) == [True, False, False]
    kubernetes = [("--set", 0, A), ("--rcheck --seconds 10800 --reap", 10800, A), ("--rcheck", 10801, A)]
    assert recent(*kubernetes) == [True, True, True]


def test_recent_remembers_a_hundred_addresses() -> None:
    first = [("--set", n, f"10.2.0.{n}") for n in range(101)]
    assert recent(*first, ("--rcheck", 200, "10.2.0.0"), ("--rcheck", 200, "10.2.0.1"))[-2:] == [False, True]
