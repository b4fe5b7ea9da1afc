"""IP sets: what they hold, how they are asked, how they change."""

import pytest

from packetwalk.netns.ipset import IpSet, parse_create
from packetwalk.netns.seen import Seen, Undecided
from packetwalk.packet import Icmp
from packetwalk.snapshot.ipset_save import read_ipsets
from tests.netns.seen import ruleset, seen, walk

SECOND = 10**9


def sets(*lines: str) -> dict[str, IpSet]:
    return read_ipsets("\n".join(lines))


def asked(made: dict[str, IpSet], words: str, s: Seen) -> bool:
    rules = ruleset(f"-A FORWARD -m set {words} -j DROP")
    rules.sets = made
    verdict = walk(rules, s)
    if verdict.kind == "unsupported":
        raise Undecided("", verdict.what)
    return verdict.kind == "drop"


NETS = sets(
    "create n hash:net", "add n 10.0.0.0/8", "add n 10.96.0.0/16 nomatch", "add n 10.96.7.0/24", "add n 9.9.9.9"
)  # fmt: skip
UDP = {"proto": 17}


@pytest.mark.parametrize(
    ("lines", "words", "packet", "expected"),
    [
        (["create s hash:ip", "add s 10.0.0.2"], "--match-set s src", seen(), True),
        (["create s hash:ip", "add s 10.0.0.2"], "--match-set s dst", seen(), False),
        (["create s hash:ip", "add s 10.0.0.2"], "! --match-set s dst", seen(), True),
        (["create s hash:ip netmask 24", "add s 10.0.0.0"], "--match-set s src", seen(), True),
        (["create s hash:ip", "add s 0.0.0.0"], "--match-set s src", seen(src="0.0.0.0"), False),
        (["create s hash:ip,port", "add s 10.96.0.1,tcp:80"], "--match-set s dst,dst", seen(), True),
        (["create s hash:ip,port", "add s 10.96.0.1,80"], "--match-set s dst,dst", seen(), True),
        (["create s hash:ip,port", "add s 10.96.0.1,udp:80"], "--match-set s dst,dst", seen(), False),
        (["create s hash:ip,port", "add s 10.96.0.1,udp:80"], "--match-set s dst,dst", seen(**UDP), True),
        (["create s hash:ip,port", "add s 10.0.0.2,tcp:80"], "--match-set s src,dst", seen(), True),
        (["create s hash:ip,port", "add s 10.0.0.2,tcp:4000"], "--match-set s src,src", seen(), True),
        (["create s hash:ip,port", "add s 10.96.0.1,icmp:8/0"], "--match-set s dst,dst", seen(l4=Icmp(8)), True),
        (["create s hash:ip,port", "add s 10.96.0.1,icmp:echo-request"], "--match-set s dst,src", seen(l4=Icmp(8)),
         True),
        (["create s hash:ip,port", "add s 10.96.0.1,gre:0"], "--match-set s dst,dst", seen(proto=47), True),
        # a later fragment has no port, a set of more dimensions than asked for holds nothing
        (["create s hash:ip,port", "add s 10.96.0.1,tcp:80"], "--match-set s dst,dst",
         seen(offset=1480, payload=8), False),
        (["create s hash:ip,port", "add s 10.96.0.1,tcp:80"], "--match-set s dst", seen(), False),
        (["create s hash:ip,port", "add s 10.96.0.1,tcp:80"], "! --match-set s dst", seen(), True),
        (["create s hash:ip", "add s 10.96.0.1"], "--match-set s dst,src", seen(), True),
        (["create s hash:ip,port,ip", "add s 10.0.0.2,tcp:80,10.96.0.1"], "--match-set s src,dst,dst", seen(), True),
        (["create s hash:ip,port,ip", "add s 10.0.0.2,tcp:80,10.0.0.2"], "--match-set s src,dst,dst", seen(), False),
        (["create s hash:net,port", "add s 10.96.0.0/12,tcp:80"], "--match-set s dst,dst", seen(), True),
        (["create s hash:net,port", "add s 10.96.0.0/12,tcp:81"], "--match-set s dst,dst", seen(), False),
        (["create s hash:net,net", "add s 10.0.0.0/24,10.96.0.0/16"], "--match-set s src,dst", seen(), True),
        (["create s hash:ip,port,net", "add s 10.0.0.2,tcp:80,10.96.0.0/16"], "--match-set s src,dst,dst", seen(),
         True),
        (["create s hash:net,iface", "add s 10.0.0.0/8,eth0"], "--match-set s src,src", seen(), True),
        (["create s hash:ip,mark", "add s 10.0.0.2,0x5"], "--match-set s src,src", seen(mark=5), True),
        (["create s bitmap:port range 0-65535", "add s 80"], "--match-set s dst", seen(), True),
        (["create s bitmap:port range 0-65535", "add s 80"], "--match-set s dst", seen(l4=Icmp(8)), False),
        (["create s bitmap:ip range 10.0.0.0-10.0.0.255", "add s 10.0.0.2"], "--match-set s src", seen(), True),
        (["create s hash:ip family inet6", "add s 2001:db8::1"], "--match-set s src", seen(), False),
        (["create a hash:ip", "add a 10.0.0.2", "create b hash:ip", "create s list:set size 8", "add s b", "add s a"],
         "--match-set s src", seen(), True),
        (["create a hash:ip", "create s list:set size 8", "add s a"], "--match-set s src", seen(), False),
    ],
)  # fmt: skip
def test_a_packet_is_in_a_set(lines: list[str], words: str, packet: Seen, expected: bool) -> None:
    assert asked(sets(*lines), words, packet) is expected


def test_the_longest_prefix_decides_and_nomatch_is_an_exception() -> None:
    for dst, expected in (("10.1.1.1", True), ("10.96.0.1", False), ("10.96.7.9", True), ("9.9.9.9", True),
                          ("9.9.9.8", False)):  # fmt: skip
        assert asked(NETS, "--match-set n dst", seen(dst=dst)) is expected, dst
    assert asked(NETS, "--match-set n dst --return-nomatch", seen(dst="10.96.0.1"))
    assert not asked(NETS, "--match-set n dst --return-nomatch", seen(dst="10.1.1.1"))


def test_elements_leave_when_their_time_is_up() -> None:
    made = sets("create s hash:ip timeout 300", "add s 10.0.0.2 timeout 10", "add s 10.96.0.1 timeout 0")
    assert asked(made, "--match-set s src", seen(now=9 * SECOND))
    assert not asked(made, "--match-set s src", seen(now=10 * SECOND))
    assert asked(made, "--match-set s dst", seen(now=1000 * SECOND))


def test_a_set_of_an_unknown_kind_is_undecided() -> None:
    with pytest.raises(Undecided, match="s of type hash:mac"):
        asked(sets("create s hash:mac", "add s 02:00:00:00:00:01"), "--match-set s src", seen())
    with pytest.raises(Undecided, match="with counters"):
        asked(sets("create s hash:ip counters"), "--match-set s src --packets-gt 5", seen())


def test_the_target_set_adds_and_deletes_in_the_overlay_only() -> None:
    rules = ruleset("-A FORWARD -m set --match-set s src,dst -j DROP",
                    "-A FORWARD -p tcp -j SET --add-set s src,dst --exist --timeout 10")  # fmt: skip
    rules.sets = sets("create s hash:ip,port timeout 0")
    copy = rules.overlay()
    assert [walk(copy, seen(now=t * SECOND)).kind for t in (0, 1, 11, 12)] == ["accept", "drop", "accept", "drop"]
    assert str(copy.sets["s"]).splitlines()[1:] == ["add s 10.0.0.2,tcp:80 timeout 10"]
    assert walk(rules, seen()).kind == "accept"
    gone = ruleset("-A FORWARD -j SET --del-set s src,dst")
    gone.sets = copy.sets
    walk(gone, seen())
    assert not gone.sets["s"].entries


def test_an_icmp_type_prints_by_its_name() -> None:
    made = parse_create(["s", "hash:ip,port"])
    assert str(made.plus_key((1, (1, 0x0800)), "0", 0)).endswith("add s 0.0.0.1,icmp:echo-request")
    assert str(made.plus_key((1, (1, 0x0304)), "0", 0)).endswith("add s 0.0.0.1,icmp:fragmentation-needed")
    assert str(made.plus_key((1, (1, 0xFE02)), "0", 0)).endswith("add s 0.0.0.1,icmp:254/2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["1.2.3"], "'1.2.3' is not an IPv4 address"),
        (["1.2.3.4,tcp:80,5"], "an element like ip,port was expected"),
        (["1.2.3.4,tcp:eighty"], "a number of 0 to 65535 was expected, not 'eighty'"),
    ],
)
def test_an_element_that_does_not_fit_is_refused(words: list[str], message: str) -> None:
    kind = "hash:ip,port" if "," in words[0] else "hash:ip"
    with pytest.raises(ValueError, match=r"expected|not an IPv4") as error:
        parse_create(["s", kind]).plus(words)
    assert str(error.value).startswith(message)
