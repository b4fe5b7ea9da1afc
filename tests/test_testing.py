"""Assertions about paths: what holds, what does not, and what a failure says."""

import re

import pytest

import packetwalk as pw
from packetwalk.source import from_mode
from packetwalk.testing import assert_delivered, assert_dropped_by, assert_no_nat, assert_path, parse_path

VXLAN = "a > node-1 [+vxlan] > node-2 [-vxlan] > b"
BACK = " > node-2 [+vxlan] > node-1 [-vxlan] > a"


@pytest.fixture(scope="module")
def net() -> pw.Network:
    return from_mode("flannel-vxlan", nodes=2, racks=1, seed=0)


@pytest.fixture(scope="module")
def racks() -> pw.Network:
    return from_mode("flannel-vxlan", nodes=2, racks=2, seed=0)


@pytest.mark.parametrize(
    "path",
    [
        VXLAN,
        VXLAN + BACK,
        VXLAN + BACK + " : reply ttl 62",
        VXLAN + " : reply ttl 62",
        "a > node-1 [+vxlan] > fabric > node-2 [-vxlan] > b",
        "a>node-1 [ +vxlan ]>node-2[-vxlan]>b",
        "a > ... > b",
        "... > node-2 [-vxlan] > ...",
        "...",
        "a > ... > node-2 [-vxlan] > ... > b",
    ],
)
def test_a_path_holds(net: pw.Network, path: str) -> None:
    assert assert_path(net, "a", "b", path).delivered


def test_a_path_that_leaves_out_the_fabric_holds_on_any_cabling(net: pw.Network, racks: pw.Network) -> None:
    for cabled in (net, racks):
        assert_path(cabled, "a", "b:80", VXLAN)
    assert_path(racks, "a", "b:80", "a > node-1 [+vxlan] > tor-1 > router > node-2 [-vxlan] > b")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("a > node-1 > node-2 > b", "node-1 was expected, node-1 [+vxlan] found"),
        ("a > node-1 [+vxlan] > b", "b was expected, node-2 [-vxlan] found"),
        ("a > node-1 [+vxlan]", "the path ends at node-1 [+vxlan], the way goes on to"),
        ("a > node-1 [+vxlan] > spine-1 > node-2 [-vxlan] > b", "spine-1 was expected, node-2 [-vxlan] found"),
        ("node-1 [+vxlan] > node-2 [-vxlan] > b", "node-1 [+vxlan] was expected, a found"),
        (VXLAN + " > node-2 [+vxlan]", "the path ends at node-2 [+vxlan], the way goes on to"),
        (VXLAN + BACK + " > a > b", "a was expected, the way ends before it"),
        ("a > ... > node-1", "behind ...: node-1 was expected"),
        (VXLAN + " : timeout", "timeout was expected, reply ttl 62 found"),
    ],
)
def test_another_path_fails_and_says_where(net: pw.Network, path: str, why: str) -> None:
    with pytest.raises(AssertionError) as failed:
        assert_path(net, "a", "b", path)
    said = str(failed.value)
    assert f"\n  expected  {path}\n  found     a > node-1 [+vxlan] > fabric >" in said
    assert why in said and re.search(r"1 a +0\.0 us +echo request", said), "the walk stands below"


def test_a_drop_ends_a_path_and_is_never_left_out(racks: pw.Network) -> None:
    lost = from_mode("calico-bgp", nodes=2, racks=2, seed=0)
    assert_path(lost, "a", "b", "a > node-1 > router [drop IP_INNOROUTES] : timeout")
    with pytest.raises(AssertionError, match="the way goes on to router"):
        assert_path(lost, "a", "b", "a > node-1")


def test_an_answer_may_be_an_error(net: pw.Network) -> None:
    rejecting = pw.whatif(net, "node-1 iptables -I FORWARD -s 10.244.0.0/16 -j REJECT")
    path = "a > node-1 [icmp port unreachable, drop NETFILTER_DROP]"
    assert_path(rejecting, "a", "b", path)
    assert_path(rejecting, "a", "b", f"{path} > a : icmp port unreachable from 10.244.1.1")


@pytest.mark.parametrize("path", ["", "a > > b", "a > node-1 [+vxlan > b", "a b > c", "a > [x]"])
def test_what_is_no_path_is_said(net: pw.Network, path: str) -> None:
    with pytest.raises(ValueError, match="is no room with what it does in brackets"):
        assert_path(net, "a", "b", path)


def test_marks_with_an_arrow_in_them_are_one_mark() -> None:
    places, outcome = parse_path("a [unsupported x > y, nat dst] > b : reply ttl 62")
    assert [p.marks for p in places] == [("unsupported x > y", "nat dst"), ()] and outcome == "reply ttl 62"


def test_no_nat(net: pw.Network) -> None:
    assert_no_nat(net, "a", "b:80")
    with pytest.raises(
        AssertionError, match=r"node-1: nat dst by -A KUBE-SEP-\w+ .* -j DNAT --to-destination"
    ) as failed:
        assert_no_nat(net, "a", "web:80")
    assert "expected  no nat" in str(failed.value)


def test_dropped_by(net: pw.Network) -> None:
    rule = "-A FORWARD -s 10.244.0.0/16 -p tcp -j DROP"
    closed = pw.whatif(net, f"node-1 iptables {rule.replace('-A FORWARD', '-I FORWARD')}")
    for words in (rule, "FORWARD", "NETFILTER_DROP", "-j DROP"):
        assert_dropped_by(closed, "a", "b:80", words)
    with pytest.raises(AssertionError, match="something else dropped it") as failed:
        assert_dropped_by(closed, "a", "b:80", "-j REJECT")
    assert f"dropped at node-1 by NETFILTER_DROP by FORWARD 1: -s 10.244.0.0/16 -p tcp -j DROP | {rule}" in str(
        failed.value
    )
    with pytest.raises(AssertionError, match="nothing was dropped"):
        assert_dropped_by(closed, "a", "b", "FORWARD")


def test_delivered(net: pw.Network) -> None:
    assert assert_delivered(net, "a", "b", size=4000, df="dont").flow.size == 4000
    with pytest.raises(AssertionError, match="there was no answer"):
        assert_delivered(net, "a", "10.244.1.99", cold=True)
