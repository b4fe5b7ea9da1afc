"""Rules, tables, longest prefix, metric, next hop: the answers of fib_lookup."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packetwalk.addr import ANY, EVERYTHING, MASKS, IPv4, Prefix
from packetwalk.netns.device import SCOPE_HOST, SCOPE_LINK
from packetwalk.netns.fib import Fib
from packetwalk.netns.fib_table import TYPE_ERRNO, Found, Nexthop, Route, Table, pick_nexthop
from packetwalk.netns.policy_rule import Flow, PolicyRule

DST = IPv4("10.1.2.3")


def route(dst: str = "default", dev: str = "eth0", *, via: str = "", **more: object) -> Route:
    hops = (Nexthop(dev, IPv4(via) if via else ANY),) if dev else ()
    return Route(Prefix.parse(dst), hops, **more)  # type: ignore[arg-type]


def fib(*rules: PolicyRule, **tables: Route) -> Fib:
    """A Fib with the kernel's three rules and those given; t100=route puts a route into table 100."""
    made = Fib()
    made.set_rules([*made.rules, *rules])
    for name, entry in tables.items():
        made.table(int(name.lstrip("t").partition("_")[0])).add(entry)
    return made


def out(found: Found) -> str:
    """The device, or the error."""
    return found.error or (found.hop.dev if found.hop else "?")


# -- rules ------------------------------------------------------------------------------------------------------------


def test_the_three_rules_of_a_fresh_host() -> None:
    """fib_default_rules_init: local, main, default, in this order."""
    made = fib(t253=route(dev="d"))
    assert [str(r) for r in made.rules] == [
        "0: from all lookup local",
        "32766: from all lookup main",
        "32767: from all lookup default",
    ]
    assert out(made.lookup(Flow(DST))) == "d"
    made.table(254).add(route(dev="m"))
    assert out(made.lookup(Flow(DST))) == "m"
    made.table(255).add(route("10.1.2.3", "lo", type="local"))
    assert out(made.lookup(Flow(DST))) == "lo"
    assert not made.custom


def test_no_route_is_enetunreach() -> None:
    """fib_lookup ends with -ENETUNREACH."""
    assert fib().lookup(Flow(DST)) == Found("ENETUNREACH", None, None, None)


def test_the_answer_names_the_rule_that_chose_the_table() -> None:
    rule = PolicyRule(100, 100, src=Prefix.parse("10.0.0.0/8"))
    found = fib(rule, t100=route(dev="x")).lookup(Flow(DST, IPv4("10.9.9.9")))
    assert (found.rule, out(found)) == (rule, "x")


TEN = Prefix.parse("10.0.0.0/8")


@pytest.mark.parametrize(
    ("rule", "hit", "miss"),
    [
        (PolicyRule(9, 100, src=TEN), Flow(DST, IPv4("10.0.0.1")), Flow(DST, IPv4("11.0.0.1"))),
        (PolicyRule(9, 100, dst=TEN), Flow(DST), Flow(IPv4("11.0.0.1"))),
        (PolicyRule(9, 100, iif="eth1"), Flow(DST, iif="eth1"), Flow(DST, iif="eth2")),
        (PolicyRule(9, 100, iif="lo"), Flow(DST), Flow(DST, iif="eth1")),
        (PolicyRule(9, 100, fwmark=5, fwmask=0xFFFFFFFF), Flow(DST, mark=5), Flow(DST, mark=0x105)),
        (PolicyRule(9, 100, fwmark=0x10, fwmask=0xF0), Flow(DST, mark=0x1F), Flow(DST, mark=0x2F)),
        (PolicyRule(9, 100, fwmark=0, fwmask=0xFF), Flow(DST, mark=0x100), Flow(DST, mark=1)),
        (PolicyRule(9, 100, tos=0x10), Flow(DST, tos=0x10), Flow(DST)),
        (PolicyRule(9, 100, proto=6), Flow(DST, proto=6), Flow(DST, proto=17)),
        (PolicyRule(9, 100, sport=(5, 7)), Flow(DST, sport=7), Flow(DST, sport=8)),
        (PolicyRule(9, 100, dport=(80, 80)), Flow(DST, dport=80), Flow(DST, dport=79)),
    ],
    ids=["from", "to", "iif", "iif lo", "fwmark", "mask", "mark 0", "tos", "ipproto", "sport", "dport"],
)
@pytest.mark.parametrize("invert", [False, True], ids=["plain", "not"])
def test_selectors(rule: PolicyRule, hit: Flow, miss: Flow, invert: bool) -> None:
    """fib_rule_match, fib4_rule_match; FIB_RULE_INVERT turns the whole answer round."""
    made = fib(rule._replace(invert=invert), t100=route(dev="x"), t254=route(dev="y"))
    assert (out(made.lookup(hit)), out(made.lookup(miss))) == (("y", "x") if invert else ("x", "y"))
    assert made.custom


@pytest.mark.parametrize("invert", [False, True])
def test_a_rule_by_oif_is_for_senders_bound_to_it(invert: bool) -> None:
    """fib_rule_match: oifindex; only a bound socket or a tunnel has one."""
    made = fib(
        PolicyRule(9, 100, oif="eth0", invert=invert),
        t100=route(dev="eth0", via="10.0.0.100"),
        t254=route(dev="eth0", via="10.0.0.254"),
    )
    found = [made.lookup(Flow(DST, oif=oif)).hop for oif in ("eth0", "")]
    assert [str(h.via) for h in found if h] == ["10.0.0.100", "10.0.0.254"][:: -1 if invert else 1]


def test_not_inverts_all_selectors_together() -> None:
    rule = PolicyRule(9, 100, src=TEN, iif="eth1", invert=True)
    made = fib(rule, t100=route(dev="x"), t254=route(dev="y"))
    assert out(made.lookup(Flow(DST, IPv4("10.0.0.1"), "eth1"))) == "y"
    assert out(made.lookup(Flow(DST, IPv4("10.0.0.1"), "eth2"))) == "x"


@pytest.mark.parametrize(
    ("action", "errno"), [("blackhole", "EINVAL"), ("unreachable", "ENETUNREACH"), ("prohibit", "EACCES")]
)
def test_rules_that_refuse(action: str, errno: str) -> None:
    """fib4_rule_action. The local table comes first: what is ours stays ours."""
    made = fib(PolicyRule(9, action), t254=route(), t255_1=route("10.9.9.9", "lo", type="local"))
    found = made.lookup(Flow(DST))
    assert (found.error, found.by) == (errno, made.rules[1])
    assert out(made.lookup(Flow(IPv4("10.9.9.9")))) == "lo"


def test_rules_are_asked_in_order_of_priority() -> None:
    made = fib(PolicyRule(20, "prohibit"), PolicyRule(10, 100), t100=route("10.1.0.0/16", "x"))
    assert out(made.lookup(Flow(DST))) == "x"
    assert out(made.lookup(Flow(IPv4("10.2.0.1")))) == "EACCES"


def test_rules_of_one_priority_keep_their_order() -> None:
    """fib_nl_newrule puts a rule behind those of the same priority."""
    made = fib(PolicyRule(10, 100), PolicyRule(10, 101), t100=route(dev="x"), t101=route(dev="y"))
    assert out(made.lookup(Flow(DST))) == "x"


def test_an_empty_or_missing_table_passes_on() -> None:
    """fib4_rule_action: -EAGAIN."""
    assert out(fib(PolicyRule(10, 9999), t254=route(dev="m")).lookup(Flow(DST))) == "m"


def test_goto_skips_and_nop_does_nothing() -> None:
    """fib_rules_lookup: FR_ACT_GOTO jumps to the first rule of that priority."""
    rules = (PolicyRule(10, "goto", goto=30), PolicyRule(20, "blackhole"), PolicyRule(30, "nop"), PolicyRule(31, 100))
    assert out(fib(*rules, t100=route(dev="x")).lookup(Flow(DST))) == "x"


def test_goto_takes_its_selectors_into_account() -> None:
    rules = (PolicyRule(10, "goto", src=TEN, goto=30), PolicyRule(20, "blackhole"), PolicyRule(30, 100))
    made = fib(*rules, t100=route(dev="x"))
    assert out(made.lookup(Flow(DST, IPv4("10.0.0.1")))) == "x"
    assert out(made.lookup(Flow(DST, IPv4("11.0.0.1")))) == "EINVAL"


def test_an_unresolved_goto_jumps_nowhere() -> None:
    """fib_rules_lookup: no rule has that priority (`[unresolved]`), so the next one is asked (checked on 6.18)."""
    rules = (PolicyRule(10, "goto", goto=500), PolicyRule(20, "blackhole"))
    assert out(fib(*rules, t254=route(dev="m")).lookup(Flow(DST))) == "EINVAL"


@pytest.mark.parametrize(("limit", "dev"), [(0, "x"), (8, "m"), (16, "m"), (-1, "x")])
def test_suppress_prefixlength(limit: int, dev: str) -> None:
    """fib4_rule_suppress: a route whose prefix is that short does not count."""
    rule = PolicyRule(10, 100, suppress_prefixlen=limit)
    assert out(fib(rule, t100=route("10.0.0.0/8", "x"), t254=route(dev="m")).lookup(Flow(DST))) == dev


def test_suppress_prefixlength_0_passes_over_the_default_route() -> None:
    """The WireGuard idiom: main, but not by its default route."""
    made = fib(
        PolicyRule(10, 254, suppress_prefixlen=0), PolicyRule(20, 100), t100=route(dev="wg"), t254=route(dev="m")
    )
    assert out(made.lookup(Flow(DST))) == "wg"
    made.table(254).add(route("10.1.0.0/16", "m"))
    assert out(made.lookup(Flow(DST))) == "m"


def test_a_refusal_is_not_suppressed() -> None:
    """fib_rules_lookup suppresses only where the action had no error (checked on 6.18: a blackhole default stands)."""
    made = fib(PolicyRule(10, 100, suppress_prefixlen=0), t100=route(dev="", type="blackhole"), t254=route(dev="m"))
    assert out(made.lookup(Flow(DST))) == "EINVAL"


# -- tables -----------------------------------------------------------------------------------------------------------


def test_the_longest_prefix_wins_whatever_its_metric() -> None:
    """fib_table_lookup."""
    table = Table()
    for length, metric in ((0, 0), (8, 5), (24, 999), (16, 1)):
        table.add(Route(Prefix.of(DST, length), (Nexthop(f"dev{length}"),), metric=metric))
    found = table.lookup(Flow(DST))
    assert found is not None and out(found) == "dev24"


def test_then_the_smallest_metric_wins_and_then_the_first() -> None:
    """fib_insert_alias sorts by priority; `ip route append` goes behind its equals."""
    table = Table()
    for dev, metric in (("c", 20), ("a", 10), ("b", 10)):
        table.add(route("10.0.0.0/8", dev, metric=metric))
    found = table.lookup(Flow(DST))
    assert found is not None and out(found) == "a"
    table.remove(route("10.0.0.0/8", "a", metric=10))
    found = table.lookup(Flow(DST))
    assert found is not None and out(found) == "b"


def test_a_route_with_tos_is_for_that_tos_only_and_comes_first() -> None:
    """fib_table_lookup: fa_dscp."""
    made = fib(t254_1=route("10.0.0.0/8", "plain"), t254_2=route("10.0.0.0/8", "low", tos=0x10, metric=9))
    assert out(made.lookup(Flow(DST, tos=0x10))) == "low"
    assert out(made.lookup(Flow(DST))) == "plain"


@pytest.mark.parametrize(("kind", "errno"), [(k, e) for k, e in TYPE_ERRNO.items() if k != "throw"])
def test_routes_that_refuse(kind: str, errno: str) -> None:
    """fib_props: the error of each type; shorter prefixes and further tables are not asked."""
    made = fib(t254_1=route("10.1.0.0/16", "", type=kind), t254_2=route(dev="m"), t253=route(dev="d"))
    found = made.lookup(Flow(DST))
    assert (found.error, found.route and found.route.type) == (errno, kind)
    assert {"blackhole": "EINVAL", "unreachable": "EHOSTUNREACH", "prohibit": "EACCES"}[kind] == errno


def test_throw_leaves_the_table_at_once() -> None:
    """RTN_THROW is -EAGAIN: the next rule, not the next shorter prefix."""
    made = fib(
        PolicyRule(10, 100), t100_1=route("10.1.0.0/16", "", type="throw"), t100_2=route(dev="x"), t254=route(dev="m")
    )
    assert out(made.lookup(Flow(DST))) == "m"
    assert out(made.lookup(Flow(IPv4("10.2.0.1")))) == "x"


def test_an_oif_wants_a_next_hop_on_that_device() -> None:
    """fib_lookup_good_nhc: else on to the next route, also a shorter one."""
    made = fib(t254_1=route("10.1.0.0/16", "eth0"), t254_2=route("10.0.0.0/8", "eth1"))
    assert [out(made.lookup(Flow(DST, oif=d))) for d in ("eth0", "eth1", "eth2")] == ["eth0", "eth1", "ENETUNREACH"]


def test_an_oif_picks_among_several_next_hops() -> None:
    hops = (Nexthop("eth0"), Nexthop("eth1"))
    made = fib(t254=Route(EVERYTHING, hops))
    assert [out(made.lookup(Flow(DST, oif=h.dev), choose)) for h in hops for choose in (0, 2**31 - 1)] == [
        "eth0",
        "eth0",
        "eth1",
        "eth1",
    ]


def test_a_narrower_scope_is_asked_for() -> None:
    """fib_table_lookup: fib_scope < flowi4_scope does not count (used when a gateway is checked)."""
    made = fib(t254_1=route("10.1.0.0/16", "far"), t254_2=route("10.0.0.0/8", "link", scope=SCOPE_LINK))
    assert out(made.lookup(Flow(DST))) == "far"
    assert out(made.lookup(Flow(DST, scope=SCOPE_LINK))) == "link"
    assert out(made.lookup(Flow(DST, scope=SCOPE_HOST))) == "ENETUNREACH"


def test_a_dead_next_hop_is_passed_over() -> None:
    """RTNH_F_DEAD; a route all of whose next hops are dead does not count."""
    made = fib(t254_1=Route(Prefix.parse("10.1.0.0/16"), (Nexthop("eth0", dead=True),)), t254_2=route(dev="eth1"))
    assert out(made.lookup(Flow(DST))) == "eth1"
    both = Fib()
    both.table(254).add(Route(EVERYTHING, (Nexthop("eth0", dead=True), Nexthop("eth1"))))
    assert {out(both.lookup(Flow(DST), n << 27)) for n in range(16)} == {"eth1"}


def test_a_link_that_is_down_is_still_used() -> None:
    """RTNH_F_LINKDOWN counts only with ignore_routes_with_linkdown."""
    assert out(fib(t254=Route(EVERYTHING, (Nexthop("eth0", linkdown=True),))).lookup(Flow(DST))) == "eth0"


def test_shared_routes_count_after_own_ones_of_the_same_prefix() -> None:
    base = Table()
    for entry in (route("10.1.0.0/16", "base"), route("10.1.2.0/24", "base24")):
        base.add(entry)
    own = Table(base)
    own.add(route("10.1.0.0/16", "own"))
    assert [r.dev for r in own.covering(DST)] == ["base24", "own", "base"]
    assert [r.dev for r in own.covering(IPv4("10.1.9.9"))] == ["own", "base"]
    assert len(list(own)) == 3 and len(list(base)) == 2


def test_removing_a_route_uncovers_the_shorter_one() -> None:
    table = Table()
    table.add(route("10.1.0.0/16", "long"))
    table.add(route("10.0.0.0/8", "short"))
    table.remove(route("10.1.0.0/16", "long"))
    found = table.lookup(Flow(DST))
    assert found is not None and out(found) == "short"
    table.remove(route("10.0.0.0/8", "short"))
    assert table.lookup(Flow(DST)) is None


def test_what_is_not_modelled_is_named() -> None:
    """An attribute or type nobody knows must not be read over; a longer plain route is not touched by it."""
    odd = route("10.0.0.0/8", "eth0", oddity="encap mpls")
    made = fib(t254_1=odd, t254_2=route("10.1.0.0/16", "eth1"))
    assert out(made.lookup(Flow(DST))) == "eth1"
    found = made.lookup(Flow(IPv4("10.9.0.1")))
    assert (found.error, found.route) == ("unsupported", odd)
    assert fib(t254=route(type="nat")).lookup(Flow(DST)).error == "unsupported"


def test_a_rule_that_is_not_modelled_is_named_where_it_might_match() -> None:
    rule = PolicyRule(9, 100, src=TEN, oddity="uidrange 0-10")
    made = fib(rule, t254=route(dev="m"))
    assert made.lookup(Flow(DST, IPv4("10.0.0.1"))) == Found("unsupported", None, None, rule)
    assert out(made.lookup(Flow(DST, IPv4("11.0.0.1")))) == "m"


def test_an_unknown_action_is_named() -> None:
    assert fib(PolicyRule(9, "nat"), t254=route()).lookup(Flow(DST)).error == "unsupported"


def test_address_types() -> None:
    """inet_addr_type: by the local table alone."""
    made = fib(
        t255_1=route("10.0.0.1", "eth0", type="local"),
        t255_2=route("10.0.0.255", "eth0", type="broadcast"),
        t254=route("10.1.0.0/16", type="local"),
    )
    kinds = [made.addr_type(IPv4(a)) for a in ("10.0.0.1", "10.0.0.255", "10.1.0.1")]
    assert kinds == ["local", "broadcast", "unicast"]


# -- several next hops ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (2, 1, 1), (256, 1)])
def test_the_hash_space_is_shared_out_by_weight(weights: tuple[int, ...]) -> None:
    """fib_rebalance, fib_select_multipath: each next hop up to its upper bound, in order."""
    hops = [Nexthop(f"eth{n}", weight=w) for n, w in enumerate(weights)]
    steps = 4096
    chosen = [hops.index(pick_nexthop(hops, n * (2**31 // steps))) for n in range(steps)]
    assert chosen == sorted(chosen)
    for n, weight in enumerate(weights):
        assert abs(chosen.count(n) / steps - weight / sum(weights)) < 2 / steps
    assert pick_nexthop(hops, 2**31 - 1) == hops[-1]


# -- against a linear scan --------------------------------------------------------------------------------------------

NEAR = st.integers(0, 15).map(lambda n: n << 28 | n << 4)  # few addresses, so that prefixes meet
ROUTES = st.lists(
    st.builds(
        lambda addr, length, kind, metric, tos, devs, scope: Route(
            Prefix.of(addr, length), tuple(Nexthop(d, dead=d == "dead") for d in devs), kind, scope, ANY, metric, tos
        ),
        NEAR,
        st.sampled_from([0, 1, 4, 8, 24, 28, 30, 32]),
        st.sampled_from(["unicast", "unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit", "throw"]),
        st.sampled_from([0, 0, 10, 20]),
        st.sampled_from([0, 0, 0, 0x10]),
        st.lists(st.sampled_from(["eth0", "eth1", "dead"]), min_size=1, max_size=2, unique=True),
        st.sampled_from([0, 0, SCOPE_LINK]),
    ),
    max_size=24,
)
FLOWS = st.builds(
    Flow,
    NEAR,
    oif=st.sampled_from(["", "", "eth0", "eth1"]),
    tos=st.sampled_from([0, 0x10]),
    scope=st.sampled_from([0, 0, SCOPE_LINK]),
)


def scan(routes: list[Route], flow: Flow) -> tuple[str, Route | None]:
    """fib_table_lookup the slow way: look at every route, best first."""
    fits = [
        (-r.dst.length, -r.tos, r.metric, n, r)
        for n, r in enumerate(routes)
        if (flow.dst ^ r.dst.addr) & MASKS[r.dst.length] == 0 and r.tos in (0, flow.tos) and r.scope >= flow.scope
    ]
    for *_, r in sorted(fits, key=lambda f: f[:4]):
        if r.type == "throw":
            return "", None
        if r.type in TYPE_ERRNO:
            return TYPE_ERRNO[r.type], r
        if any(not h.dead and flow.oif in ("", h.dev) for h in r.nexthops):
            return "", r
    return "", None


@given(ROUTES, st.lists(FLOWS, min_size=1, max_size=6))
def test_lookup_is_a_linear_scan(routes: list[Route], flows: list[Flow]) -> None:
    table = Table()
    for r in routes:
        table.add(r)
    for flow in flows:
        found = table.lookup(flow)
        error, best = scan(routes, flow)
        assert (found.error if found else "", found.route if found else None) == (error, best)
        if found and found.hop:
            assert found.hop.dev != "dead" and flow.oif in ("", found.hop.dev)


@given(ROUTES, st.data())
def test_removed_routes_are_as_if_they_had_never_been(routes: list[Route], data: st.DataObject) -> None:
    keep = [data.draw(st.booleans()) for _ in routes]
    table = Table()
    for r in routes:
        table.add(r)
    for r, kept in zip(routes, keep, strict=True):
        if not kept:
            table.remove(r)
    flow = data.draw(FLOWS)
    found = table.lookup(flow)
    left = [r for r, kept in zip(routes, keep, strict=True) if kept]
    assert (found.route if found else None) == scan(left, flow)[1]
