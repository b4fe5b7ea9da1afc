"""Rules of nftables: what they match, what they do, and how a packet walks their chains."""

import pytest

from packetwalk.netns.hooks import ORDER
from packetwalk.netns.namespace import Netns
from packetwalk.netns.netfilter import Ruleset, Verdict
from packetwalk.netns.nft import NftTable
from packetwalk.netns.seen import Seen
from packetwalk.netns.socket import Socket
from packetwalk.packet import PROTO_UDP, Icmp, Ip, Udp
from packetwalk.snapshot.nft_list import read_nft
from packetwalk.trace import Reason
from tests.netns.rooms import M2, frame, icmp_of, reasons, router, sent, udp
from tests.netns.seen import Dice, conn, places, seen

SETS = """
    set nets {
        type ipv4_addr
        flags interval
        elements = { 10.0.0.0/24, 172.16.0.1-172.16.0.9 }
    }
    set known {
        type ipv4_addr
        flags dynamic,timeout
        timeout 3s
    }
    set devs {
        type ifname
        elements = { "eth0", "cali*" }
    }
    map ways {
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = { 10.96.0.1 . tcp . 80 : goto other,
                     10.96.0.1 . udp . 53 : drop }
    }
    map ports {
        type inet_service : inet_service
        elements = { 80 : 8080 }
    }
"""


def table(
    *rules: str, head: str = "type filter hook forward priority filter; policy accept;", **chains: str
) -> NftTable:
    """A table with a base chain `base` of these rules, and other chains, their rules separated by `;`."""
    made = {"base": "\n".join((head, *rules)), **{name: text.replace(";", "\n") for name, text in chains.items()}}
    blocks = "".join(f"chain {name} {{\n{text}\n}}\n" for name, text in made.items())
    (one,) = read_nft(f"table ip t {{\n{SETS}\n{blocks}}}", "t").tables.values()
    return one


def walk(one: NftTable, s: Seen | None = None) -> Verdict:
    (base,) = one.bases()
    return base.traverse(s if s is not None else seen())


@pytest.mark.parametrize(("words", "matches"), [
    ("ip saddr 10.0.0.2", True), ("ip saddr 10.0.0.0/24", True), ("ip saddr != 10.0.0.0/24", False),
    ("ip saddr 10.0.0.3-10.0.0.9", False), ("ip saddr @nets", True), ("ip daddr @nets", False),
    ("ip daddr != @nets", True), ("tcp dport 80", True), ("udp dport 80", False), ("th dport { 22, 80-90 }", True),
    ("tcp dport != { 80, 443 }", False), ("tcp dport > 79", True), ("tcp dport >= 81", False),
    ("tcp sport < 4001", True),
    ("tcp dport <= 80", True), ("ip ttl 64", True), ("meta l4proto { tcp, udp }", True),
    ("icmp type echo-request", False),
    ("ct state new", True), ("ct state established,new", True), ("ct state established,related", False),
    ("ct state { established, related }", False), ("ct status dnat", True), ("ct direction reply", False),
    ("iifname \"eth0\"", True), ("iifname \"eth*\"", True), ("iif \"lo\"", False), ("oifname != \"eth9\"", True),
    ("iifname @devs", True), ("fib daddr type unicast", True), ("fib saddr type local", False),
    ("fib saddr type { local, unicast }", True), ("meta mark 0x00000007", True),
    ("meta mark & 0x00000003 == 0x00000003", True),
    ("meta mark & 0x00000008 != 0x00000000", False), ("ct mark 0x00000005", True),
    ("ip daddr . meta l4proto . th dport vmap @ways", True), ("ip daddr . th dport { 10.96.0.1 . 80 }", True),
    ("ip daddr . th dport { 10.96.0.1 . 81 }", False), ("ip saddr vmap { * : accept }", True),
])  # fmt: skip
def test_questions(words: str, matches: bool) -> None:
    end = "" if "vmap" in words else " drop"
    s = seen(mark=7, conn=conn(status=1 << 5, mark=5))
    verdict = walk(table(f"{words}{end}", other="drop"), s)
    assert (verdict.kind == "drop") is matches or (matches and s.hits)


def test_a_map_leads_on_and_is_told_with_its_element() -> None:
    s = seen()
    verdict = walk(table("ip daddr . meta l4proto . th dport vmap @ways", other="counter packets 0 bytes 0; drop"), s)
    assert (verdict.kind, verdict.chain, places(s)) == ("drop", "other", ["base:1", "other:1", "other:2"])
    assert [hit.stack for hit in s.hits] == [(), ("base",), ("base",)]
    assert "10.96.0.1 . tcp . 80 : goto other" in str(s.hits[0])
    one = table("ip daddr . meta l4proto . th dport vmap @ways", other="accept")
    assert walk(one, seen(l4=Udp(4000, 53, 8))).kind == "drop"


def test_jump_comes_back_and_goto_does_not() -> None:
    drop = "type filter hook forward priority filter; policy drop;"
    s = seen()
    verdict = walk(table("jump one", "accept", one="goto two; accept", two="continue", head=drop), s)
    assert (verdict.kind, places(s)) == ("accept", ["base:1", "one:1", "two:1", "base:2"])
    s = seen()
    verdict = walk(table("goto one", "accept", one="return; accept", head=drop), s)
    assert (verdict.kind, verdict.hit, verdict.chain, places(s)) == ("drop", None, "base", ["base:1", "one:1"])
    s = seen()
    assert walk(table("jump one", "drop", one="return"), s).kind == "drop"
    assert places(s) == ["base:1", "one:1", "base:2"]


def test_marks() -> None:
    s = seen(mark=0xF0, conn=conn(mark=1))
    walk(
        table("meta mark set meta mark | 0x00004000", "meta mark set meta mark ^ 0x00000010", "ct mark set meta mark"),
        s,
    )
    assert (s.mark, s.conn.mark) == (0x40E0, 0x40E0)  # type: ignore[union-attr]
    walk(
        table("meta mark set ct mark", "meta mark set meta mark & 0x0000ffff | 0x00010000", "ct mark set 0x00000002"), s
    )
    assert (s.mark, s.conn.mark) == (0x140E0, 2)  # type: ignore[union-attr]
    s = seen()
    assert (
        walk(table("meta mark set ct mark drop"), s).kind == "accept"
    )  # without a connection there is no mark to take


def test_a_rule_that_stops_matching_has_done_what_stood_before() -> None:
    s = seen()
    assert walk(table("meta mark set 0x00000001 udp dport 80 drop", "meta mark 0x00000001 drop"), s).kind == "drop"
    assert places(s) == ["base:2"]


def test_a_set_learns_and_forgets() -> None:
    """nft_dynset_eval: `update` winds the clock, `add` does not."""
    one, state = table("ip saddr @known drop", "update @known { ip saddr }"), {}
    second = 1_000_000_000
    assert walk(one, seen(state=state)).kind == "accept"
    assert walk(one, seen(state=state, src="10.0.0.3", now=second)).kind == "accept"
    assert walk(one, seen(state=state, now=2 * second)).kind == "drop"
    assert walk(one, seen(state=state, now=3 * second)).kind == "accept"
    assert walk(one, seen(state=state, now=5 * second)).kind == "drop"
    added: dict[object, object] = {}
    one = table("ip saddr @known drop", "add @known { ip saddr timeout 1s }", "delete @known { ip daddr }")
    assert [walk(one, seen(state=added, now=t * second // 2)).kind for t in range(3)] == ["accept", "drop", "accept"]


def test_a_walk_learns_for_itself() -> None:
    rules = Ruleset()
    rules.nft["ip t"] = table("update @known { ip saddr }")
    overlay = rules.overlay()
    (base,) = (b for b in overlay.order("FORWARD", ORDER["FORWARD"]) if not isinstance(b, str))
    overlay.traverse(base, "FORWARD", seen(state=overlay.state))
    assert overlay.state and not rules.state


def test_numgen_draws_fairly() -> None:
    one = table("numgen random mod 3 vmap { 0 : goto a, 1 : goto b, 2 : goto c }", a="drop", b="drop", c="drop")
    drawn = []
    for answers in ((True,), (False, True), (False, False)):
        dice = Dice(*answers)
        drawn.append((walk(one, seen(choose=dice)).chain, dice.asked))
    assert drawn == [("a", [1 / 3]), ("b", [1 / 3, 1 / 2]), ("c", [1 / 3, 1 / 2])]
    assert walk(table("numgen random mod 2 vmap { 0 : drop }"), seen(choose=Dice(False))).kind == "accept"


@pytest.mark.parametrize(("words", "kind", "target"), [
    ("reject", "reject", "-j REJECT --reject-with icmp-port-unreachable"),
    ("reject with tcp reset", "reject", "-j REJECT --reject-with tcp-reset"),
    ("reject with icmp prot-unreachable", "reject", "-j REJECT --reject-with icmp-proto-unreachable"),
    ("reject with icmpx admin-prohibited", "reject", "-j REJECT --reject-with icmp-admin-prohibited"),
    ("tcp dport 80 dnat to 10.0.0.9:8080", "dnat", "-j DNAT --to-destination 10.0.0.9:8080"),
    ("dnat to 10.0.0.9-10.0.0.12", "dnat", "-j DNAT --to-destination 10.0.0.9-10.0.0.12"),
    ("snat to 10.0.0.9 fully-random", "snat", "-j SNAT --to-source 10.0.0.9 --random-fully"),
    ("masquerade random,persistent", "masquerade", "-j MASQUERADE --random --persistent"),
    ("masquerade to :1024-2000", "masquerade", "-j MASQUERADE --to-ports 1024-2000"),
    ("redirect to :8080", "redirect", "-j REDIRECT --to-ports 8080"),
])  # fmt: skip
def test_ends_are_those_of_iptables(words: str, kind: str, target: str) -> None:
    verdict = walk(table(words))
    assert (verdict.kind, str(verdict.target)) == (kind, target)


def test_notrack_log_and_counters() -> None:
    s = seen()
    verdict = walk(table("notrack", 'log prefix "hello" level info', "counter packets 3 bytes 7 drop"), s)
    assert (verdict.kind, s.ctstate, places(s)) == ("drop", "UNTRACKED", ["base:1", "base:2", "base:3"])


@pytest.mark.parametrize(("words", "named"), [
    ("limit rate 5/second drop", "limit rate 5/second drop"),
    ("tcp dport 80 tcp flags syn drop comment \"new\"", "tcp flags syn drop"),
    ("quota 10 mbytes", "quota 10 mbytes"),
    ("dnat to tcp dport map @ports", "dnat to tcp dport map @ports"),
    ("reject with icmpx something", "reject with icmpx something"),
    ("tcp dport @ports accept", "set ports, which has a map to inet_service"),
])  # fmt: skip
def test_what_is_not_modelled_is_named_where_it_decides(words: str, named: str) -> None:
    one = table(words)
    verdict = walk(one)
    assert verdict.kind == "unsupported" and named in verdict.what and "(t:" in verdict.what
    assert walk(table(f"udp dport 1 {words}")).kind == "accept"


def test_a_later_fragment_has_no_ports() -> None:
    assert walk(table("th dport != 80 drop", "meta l4proto tcp drop"), seen(offset=185)).kind == "drop"
    assert walk(table("th dport != 80 drop"), seen(offset=185)).kind == "accept"
    assert walk(table("th dport 80 drop"), seen(l4=Icmp(8))).kind == "accept"


# -- the order of hooks ------------------------------------------------------------------------------------------------


def test_base_chains_take_their_place_by_priority() -> None:
    text = """table ip t {
        chain early { type filter hook prerouting priority -301; policy accept;
        }
        chain before { type filter hook prerouting priority dstnat - 10; policy accept;
        }
        chain late { type filter hook prerouting priority 5; policy accept;
        }
        chain nat1 { type nat hook prerouting priority -90; policy accept;
        }
        chain nat2 { type nat hook prerouting priority -110; policy accept;
        }
    }"""
    text = text.replace("{ type", "{\ntype")
    rules = Ruleset()
    rules.nft = read_nft(text, "t").tables
    order = [b if isinstance(b, str) else b.chain.name for b in rules.order("PREROUTING", ORDER["PREROUTING"])]
    assert order == ["early", "raw", "conntrack", "mangle", "before", "nat", "late"]
    nat = [b if isinstance(b, str) else b.chain.name for b in rules.order("PREROUTING", ("nat",))]
    assert nat == ["nat2", "nat", "nat1"] and rules.translates
    assert rules.order("FORWARD", ORDER["FORWARD"]) == ORDER["FORWARD"]


# -- in a room ---------------------------------------------------------------------------------------------------------


def tracked(text: str) -> Netns:
    """A router with a table; it tracks connections."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24", known=True)
    room.netfilter.nft = read_nft(f"table ip t {{\nchain c {{\n{text}\n}}\n}}", "t").tables
    room.conntrack = True
    return room


@pytest.mark.parametrize("head", ["nat hook prerouting priority dstnat", "filter hook prerouting priority dstnat - 10"])
def test_a_packet_is_refused_at_any_hook(head: str) -> None:
    steps = tracked(f"type {head}; policy accept;\nreject").receive("eth0", frame(udp("10.0.0.2", "10.0.1.2")), 0)
    assert reasons(steps) == [Reason.NETFILTER_DROP]
    (answer,) = [icmp_of(packet) for packet in sent(steps)]
    assert (answer.type, answer.code) == (3, 3)


def test_nat_of_nftables_is_undone_at_every_hook_of_nat() -> None:
    """nf_nat_register_fn: also where no chain of NAT is."""
    room = tracked("type nat hook output priority -100; policy accept;\nudp dport 53 dnat to 10.0.1.2:5353")
    socket = room.sockets.bind(Socket(PROTO_UDP, 4000))
    (request,) = sent(room.send(udp("0.0.0.0", "10.0.0.2", sport=4000, dport=53), 0, socket))
    _, ip, header = request.headers
    assert isinstance(ip, Ip) and isinstance(header, Udp) and (str(ip.dst), header.dport) == ("10.0.1.2", 5353)
    steps = room.receive("eth1", frame(udp("10.0.1.2", "10.0.0.1", sport=5353, dport=4000), M2), 0)
    assert any(step.stage == "deliver" and step.packet.headers[1].sport == 53 for step in steps)  # type: ignore[union-attr]


@pytest.mark.parametrize("hook", ["prerouting", "input", "forward", "postrouting"])
def test_a_policy_of_a_base_chain_drops(hook: str) -> None:
    room = tracked(f"type filter hook {hook} priority 7; policy drop;")
    dst = "10.0.0.1" if hook == "input" else "10.0.1.2"
    steps = room.receive("eth0", frame(udp("10.0.0.2", dst)), 0)
    (drop,) = [step for step in steps if step.stage == "drop"]
    assert drop.dev == f"{hook}/t" and str(drop.what.by) == "policy of t c"  # type: ignore[attr-defined]
