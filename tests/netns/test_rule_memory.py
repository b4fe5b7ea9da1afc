"""Which policy rules a packet asks is remembered by device, mark and source: that never changes an answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packetwalk.addr import IPv4, Prefix
from packetwalk.netns import fib as fib_module
from packetwalk.netns.fib import Fib
from packetwalk.netns.fib_table import Nexthop, Route
from packetwalk.netns.policy_rule import Flow, PolicyRule

ADDRS = st.sampled_from([IPv4("10.0.0.1"), IPv4("10.1.0.1"), IPv4("11.0.0.1")])
PREFIXES = st.sampled_from([Prefix.parse(p) for p in ("default", "10.0.0.0/8", "10.1.0.0/16")])
DEVICES = st.sampled_from(["", "eth0", "eth1"])
RULES = st.tuples(
    st.integers(1, 9), st.just(100), PREFIXES, PREFIXES, DEVICES, DEVICES, st.integers(0, 3),
    st.integers(0, 3), st.sampled_from([0, 8]), st.booleans(), st.sampled_from([0, 6, 17]),
    st.sampled_from([None, (5, 9)]), st.sampled_from([None, (5, 9)]),
).map(lambda fields: PolicyRule(*fields))  # fmt: skip
FLOWS = st.tuples(
    ADDRS, ADDRS, st.sampled_from(["lo", "eth0"]), DEVICES, st.integers(0, 3), st.sampled_from([0, 8]),
    st.sampled_from([6, 17]), st.integers(4, 10), st.integers(4, 10),
).map(lambda fields: Flow(*fields))  # fmt: skip


def matches(rule: PolicyRule, flow: Flow) -> bool:
    """fib_rule_match, selector by selector."""
    hit = (
        rule.iif in ("", flow.iif)
        and rule.oif in ("", flow.oif)
        and (flow.mark & rule.fwmask) == (rule.fwmark & rule.fwmask)
        and flow.src in rule.src
        and flow.dst in rule.dst
        and rule.tos in (0, flow.tos)
        and rule.proto in (0, flow.proto)
        and (rule.sport is None or rule.sport[0] <= flow.sport <= rule.sport[1])
        and (rule.dport is None or rule.dport[0] <= flow.dport <= rule.dport[1])
    )
    return hit != rule.invert


@given(RULES, FLOWS)
def test_a_compiled_rule_matches_as_its_selectors_say(rule: PolicyRule, flow: Flow) -> None:
    test = rule.compiled()
    assert (test is None or test(flow)) == matches(rule, flow)


@given(st.lists(RULES, max_size=6), st.lists(FLOWS, min_size=1, max_size=6))
def test_the_first_rule_that_matches_answers_whoever_asked_before(rules: list[PolicyRule], flows: list[Flow]) -> None:
    fib = Fib()
    fib.set_rules([*fib.rules, *rules])
    fib.table(100).add(Route(Prefix.parse("default"), (Nexthop("eth0"), Nexthop("eth1"), Nexthop("lo"))))
    for flow in [*flows, *flows]:
        first = next((r for r in fib.rules if r.action == 100 and matches(r, flow)), None)
        assert fib.lookup(flow).rule == first


def test_memory_is_bounded() -> None:
    fib = Fib()
    for src in range(fib_module.REMEMBERED + 10):
        fib.lookup(Flow(IPv4("10.0.0.1"), src))
    assert len(fib._asked) <= fib_module.REMEMBERED
