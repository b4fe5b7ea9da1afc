"""Walks that show what a plan's conflicts do, and conflicts that no small cluster can show."""

import pytest

from packetwalk.addr import Prefix
from packetwalk.cni import MODES, parse
from packetwalk.kube.plan import DOCKER, OUTSIDE, PODS, Wanted, plan
from packetwalk.planned import show

P = Prefix.parse


def shown(mode: str, **given: object) -> dict[tuple[str, str], str]:
    """{(range, the other): the walk} for each conflict of a plan."""
    made = plan(Wanted(3, **given), parse(mode))  # type: ignore[arg-type]
    return {(c.one.kind, c.other.kind if c.other else ""): show(made, c, parse(mode)) for c in made.conflicts}


@pytest.mark.parametrize("mode", MODES)
def test_docker_masquerades_pods_of_its_range_in_every_mode(mode: str) -> None:
    """Flannel's and Calico's own rules let pods be; Docker's stands behind them and does not."""
    words = shown(mode, pod_cidr=P("172.16.0.0/12"), service_cidr=P("10.96.0.0/12"))[PODS, DOCKER]
    sees, _, own = words.partition("; b sees ")[2].partition(", a is ")
    assert own.startswith("172.17.") and sees != own
    assert words.startswith("with Docker on node-1: a > node-1 [nat src")


@pytest.mark.parametrize("mode", MODES)
def test_a_pod_answers_for_an_outside_host_in_every_mode(mode: str) -> None:
    words = shown(mode, pod_cidr=P("10.244.0.0/16"), outside=(("office", P("10.0.0.0/8")),))[PODS, OUTSIDE]
    assert words.startswith("to an outside host 10.244.") and " > b > " in words and words.endswith("reply ttl 62")


def test_a_part_of_a_range_is_shown_by_a_cluster_in_that_part() -> None:
    words = shown("flannel-host-gw", pod_cidr=P("10.244.0.0/16"), outside=(("office", P("10.244.128.0/20")),))
    assert words[PODS, OUTSIDE].startswith("to an outside host 10.244.130.2: a > node-1 > fabric > node-2 > b > ")


def test_what_no_small_cluster_can_show() -> None:
    small = shown("flannel-vxlan", pod_cidr=P("10.244.0.0/16"), outside=(("host", P("10.244.200.7/32")),))
    assert small == {(PODS, OUTSIDE): ""}
    both = shown("flannel-vxlan", pod_cidr=P("192.168.0.0/16"), node_cidr=P("192.168.56.0/24"))
    assert set(both.values()) == {""}
    assert shown("flannel-vxlan", pods=500, node_mask=24)[PODS, ""] == ""
