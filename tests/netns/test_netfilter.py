"""How a packet walks a table: jumps, returns, policies, targets that go on."""

from packetwalk.netns.rule import parse_rule
from packetwalk.packet import Icmp, Tcp
from tests.netns.seen import conn, places, ruleset, seen, walk


def test_the_first_rule_that_decides_decides() -> None:
    rules = ruleset("-A FORWARD -s 1.2.3.4 -j DROP", "-A FORWARD -j ACCEPT", "-A FORWARD -j DROP")
    s = seen()
    verdict = walk(rules, s)
    assert (verdict.kind, verdict.chain, places(s)) == ("accept", "FORWARD", ["FORWARD:2"])
    assert verdict.hit is s.hits[0]
    assert str(verdict.hit.rule) == "-A FORWARD -j ACCEPT"


def test_a_policy_decides_where_no_rule_does() -> None:
    verdict = walk(ruleset("-A FORWARD -m mark --mark 1 -j ACCEPT", policy="DROP"), seen())
    assert (verdict.kind, verdict.hit, verdict.chain) == ("drop", None, "FORWARD")


def test_a_user_chain_that_ends_goes_on_where_it_was_called() -> None:
    rules = ruleset("-A FORWARD -j A", "-A FORWARD -j ACCEPT", "-A A -j B", "-A A -p tcp", "-A B -s 10.0.0.2")
    s = seen()
    assert walk(rules, s).kind == "accept"
    assert places(s) == ["FORWARD:1", "A:1", "B:1", "A:2", "FORWARD:2"]
    assert [hit.stack for hit in s.hits] == [(), ("FORWARD",), ("FORWARD", "A"), ("FORWARD",), ()]


def test_return_goes_back_and_in_a_built_in_chain_to_the_policy() -> None:
    rules = ruleset("-A FORWARD -j A", "-A FORWARD -j RETURN", "-A FORWARD -j ACCEPT", "-A A -j RETURN", "-A A -j DROP",
                    policy="DROP")  # fmt: skip
    s = seen()
    verdict = walk(rules, s)
    assert (verdict.kind, verdict.hit) == ("drop", None)
    assert places(s) == ["FORWARD:1", "A:1", "FORWARD:2"]


def test_after_goto_the_end_of_a_chain_returns_to_the_caller_of_the_caller() -> None:
    rules = ruleset("-A FORWARD -j A", "-A FORWARD -j ACCEPT", "-A A -g B", "-A A -j DROP", "-A B -s 10.0.0.2")
    s = seen()
    assert walk(rules, s).kind == "accept"
    assert places(s) == ["FORWARD:1", "A:1", "B:1", "FORWARD:2"]
    assert s.hits[2].stack == ("FORWARD",)


def test_goto_from_a_built_in_chain_ends_in_its_policy() -> None:
    s = seen()
    verdict = walk(ruleset("-A FORWARD -g A", "-A FORWARD -j ACCEPT", "-A A -p tcp", policy="DROP"), s)
    assert (verdict.kind, places(s)) == ("drop", ["FORWARD:1", "A:1"])


def test_a_chain_may_have_the_name_of_a_target() -> None:
    rules = ruleset("-A FORWARD -j LOG", "-A LOG -j DROP")
    assert walk(rules, seen()).kind == "drop"


def test_marks_are_seen_by_the_next_rule() -> None:
    rules = ruleset("-A FORWARD -j MARK --or-mark 0x4000", "-A FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
                    table="mangle", policy="DROP")  # fmt: skip
    s = seen(mark=1)
    assert walk(rules, s, table="mangle").kind == "accept"
    assert s.mark == 0x4001


def test_marks_set_and_or_and_xor() -> None:
    for words, after in (("--set-xmark 0x3/0xf", 0xF3), ("--set-mark 1", 1), ("--and-mark 0x3f", 0x35),
                         ("--or-mark 0x2", 0xF7), ("--xor-mark 0xff", 0xA), ("--set-mark 0x2/0x4", 0xF3)):  # fmt: skip
        s = seen(mark=0xF5)
        walk(ruleset(f"-A FORWARD -j MARK {words}", table="mangle"), s, table="mangle")
        assert s.mark == after, words


def test_connmarks_are_saved_and_restored() -> None:
    flow = conn(mark=0xF0)
    walk(ruleset("-A FORWARD -j CONNMARK --save-mark --nfmask 0xff --ctmask 0x0f", table="mangle"),
         seen(mark=0x103, conn=flow), table="mangle")  # fmt: skip
    assert flow.mark == 0xF3
    s = seen(mark=0x100, conn=flow)
    walk(ruleset("-A FORWARD -j CONNMARK --restore-mark --mask 0xff", table="mangle"), s, table="mangle")
    assert s.mark == 0x1F3
    walk(ruleset("-A FORWARD -j CONNMARK --set-mark 7", table="mangle"), s, table="mangle")
    assert flow.mark == 7
    without = seen(mark=5)
    walk(ruleset("-A FORWARD -j CONNMARK --restore-mark", table="mangle"), without, table="mangle")
    assert without.mark == 5


def test_a_packet_that_is_not_to_be_tracked_goes_on_through_the_table() -> None:
    rules = ruleset("-A PREROUTING -j CT --notrack", "-A PREROUTING -j NOTRACK", "-A PREROUTING -j DROP", table="raw")
    s = seen(ctstate="INVALID")
    assert walk(rules, s, "PREROUTING", "raw").kind == "drop"
    assert (s.ctstate, places(s)) == ("UNTRACKED", ["PREROUTING:1", "PREROUTING:2", "PREROUTING:3"])
    looped = seen(ctstate="ESTABLISHED", conn=conn())  # over lo, its entry is already known
    walk(rules, looped, "PREROUTING", "raw")
    assert looped.ctstate == "ESTABLISHED"


def test_logging_goes_on() -> None:
    s = seen()
    lines = ('-j LOG --log-prefix "x "', "-j NFLOG --nflog-group 1", "-j TRACE", "-j ACCEPT")
    assert walk(ruleset(*(f"-A FORWARD {line}" for line in lines)), s).kind == "accept"
    assert len(s.hits) == 4


def test_what_hooks_must_do_is_a_verdict_with_its_target() -> None:
    for words, kind in (("DNAT --to-destination 10.0.0.9:80", "dnat"), ("SNAT --to-source 10.0.0.9", "snat"),
                        ("MASQUERADE --random-fully", "masquerade"), ("REDIRECT --to-ports 80", "redirect"),
                        ("REJECT", "reject"), ("TPROXY --on-port 80 --tproxy-mark 1", "tproxy")):  # fmt: skip
        verdict = walk(ruleset(f"-A FORWARD -p tcp -j {words}"), seen())
        assert verdict.kind == kind
        assert verdict.target is not None
        assert verdict.target.name == words.split(maxsplit=1)[0]


def test_what_is_not_modelled_is_named_with_its_rule() -> None:
    rules = ruleset("-A FORWARD -s 1.2.3.4 -j NFQUEUE --queue-num 1", "-A FORWARD -j NFQUEUE --queue-num 0")
    s = seen()
    verdict = walk(rules, s)
    assert (verdict.kind, verdict.what) == ("unsupported", "-j NFQUEUE --queue-num 0")
    assert verdict.hit is not None
    assert verdict.hit.number == 2
    unknown = walk(ruleset("-A FORWARD -j A", "-A A -m string --string x --algo bm -j DROP"), seen())
    assert (unknown.kind, unknown.what) == ("unsupported", "match -m string --string x --algo bm")
    assert unknown.hit is not None
    assert (unknown.hit.chain, unknown.hit.stack) == ("A", ("FORWARD",))


def test_a_fragment_at_offset_8_is_dropped_by_the_first_rule_that_wants_ports() -> None:
    rules = ruleset("-A FORWARD -p tcp --dport 80 -j ACCEPT", "-A FORWARD -j ACCEPT")
    verdict = walk(rules, seen(offset=8, payload=100))
    assert verdict.kind == "drop"
    assert verdict.hit is not None
    assert verdict.hit.number == 1
    assert walk(rules, seen(offset=1480, payload=100)).hit.number == 2  # type: ignore[union-attr]


# -- TCPMSS ------------------------------------------------------------------------------------------------------------

CLAMP = "-A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"


def mss_after(line: str, l4: Tcp, **about: object) -> tuple[str, int, int]:
    s = seen(l4=l4, **about)  # type: ignore[arg-type]
    verdict = walk(ruleset(line, table="mangle"), s, table="mangle")
    assert isinstance(s.l4, Tcp)
    return verdict.kind, s.l4.mss, s.ip.len


def test_the_mss_is_lowered_never_raised() -> None:
    syn = Tcp(4000, 80, "S", mss=1460)
    assert mss_after(CLAMP, syn, mtu=1450) == ("accept", 1410, 44)
    assert mss_after(CLAMP, syn, mtu=9000) == ("accept", 1460, 44)
    assert mss_after(CLAMP, syn, mtu=40) == ("drop", 1460, 44)
    assert mss_after(CLAMP.replace("--clamp-mss-to-pmtu", "--set-mss 1000"), syn) == ("accept", 1000, 44)


def test_a_syn_without_an_mss_gets_one_of_536_or_less() -> None:
    assert mss_after(CLAMP, Tcp(4000, 80, "S"), mtu=1450) == ("accept", 536, 44)
    assert mss_after(CLAMP, Tcp(4000, 80, "S"), mtu=500) == ("accept", 460, 44)
    assert mss_after(CLAMP, Tcp(4000, 80, "S"), payload=10) == ("accept", 0, 50)


# -- the ruleset -------------------------------------------------------------------------------------------------------


def test_an_overlay_remembers_on_its_own() -> None:
    rules = ruleset("-A FORWARD -m recent --rcheck -j DROP", "-A FORWARD -m recent --set -j ACCEPT")
    copy = rules.overlay()
    assert walk(copy, seen(state=copy.state)).kind == "accept"
    assert walk(copy, seen(state=copy.state)).kind == "drop"
    assert walk(rules, seen(state=rules.state)).kind == "accept"


def test_connection_tracking_is_wanted_by_rules_that_ask_for_it() -> None:
    for line, wanted in (("-j ACCEPT", False), ("-m conntrack --ctstate NEW", True), ("-j MASQUERADE", True),
                         ("-m state --state NEW", True), ("-j CT --notrack", False), ("-j CT --zone 1", True),
                         ("-j CONNMARK --save-mark", True), ("-m mark --mark 1", False)):  # fmt: skip
        assert ruleset(f"-A FORWARD {line}").needs_conntrack is wanted, line


def test_a_packet_of_another_kind_is_no_reason_to_drop() -> None:
    """A rule for a port sees an ICMP packet and says no; only a header that is missing is one."""
    rules = ruleset("-A FORWARD -p tcp --dport 80 -j DROP", "-A FORWARD -p icmp -j ACCEPT")
    assert walk(rules, seen(l4=Icmp(8))).hit.number == 2  # type: ignore[union-attr]


def test_a_rule_keeps_where_it_came_from() -> None:
    assert parse_rule("-A X -j DROP", "iptables-save.txt:41").where == "iptables-save.txt:41"
