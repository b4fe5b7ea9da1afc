"""The stage graph: the table is the whole control flow, and every stage of it is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from packetwalk.addr import IPv4
from packetwalk.netns import namespace
from packetwalk.netns.device import Ipip
from packetwalk.netns.stack import FOLLOWS, STAGES
from packetwalk.netns.visit import Skb, Stage, Visit
from packetwalk.predict import predict
from tests.netns.rooms import (
    M1,
    M3,
    M4,
    echo,
    frame,
    host,
    pinger,
    router,
    switch,
    tell,
    udp,
    vxlan,
    who_has,
)

# -- the stage graph --------------------------------------------------------------------------------------------------


def test_both_tables_have_the_same_stages() -> None:
    assert FOLLOWS.keys() == STAGES.keys()
    assert {s for after in FOLLOWS.values() for s in after if s is not None} <= STAGES.keys()


@pytest.fixture
def edges(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str | None]]:
    """(stage, what it returned) of every stage that runs in any room from now on."""
    seen: set[tuple[str, str | None]] = set()

    def watched(name: str, stage: Stage) -> Stage:
        def run(v: Visit, skb: Skb) -> str | None:
            after = stage(v, skb)
            seen.add((name, after))
            return after

        return run

    table: Mapping[str, Stage] = MappingProxyType({name: watched(name, stage) for name, stage in STAGES.items()})
    monkeypatch.setattr(namespace, "STAGES", table)
    return seen


def many_packets() -> None:
    """Packets of every kind through rooms of every kind; what comes of them is other tests' business."""
    room = router("r", "10.0.0.1/24", "10.0.1.1/24", known=True)
    room.link_set("eth1", mtu=1400)
    room.link_add("ipip0", Ipip(local=IPv4("10.0.0.1"), remote=IPv4("10.0.0.2"), mtu=1480))
    room.route_add("10.7.0.0/16", dev="ipip0")
    vxlan(room, remote="10.0.0.2")
    room.addr_add("vx0", "10.5.0.1/24")
    room.route_add("10.8.0.0/16", type="prohibit")
    room.listen(80)
    for packet in (
        *(echo("10.0.0.2", f"10.{n}.{m}.2", ttl=t) for n in (0, 5, 7, 8, 9) for m in (0, 1) for t in (1, 64)),
        echo("10.0.0.2", "10.0.1.2", size=1440, df=True),
        echo("10.0.0.2", "10.0.1.2", size=1440),
        echo("10.0.0.2", "10.7.0.1", size=1470, df=True),
        udp("10.0.0.2", "10.0.0.1"),
        udp("10.0.0.2", "10.0.0.1", dport=80),
        udp("10.0.0.2", "10.0.0.1", dport=8472),
    ):
        tell(room, room.receive("eth0", frame(packet), 0))
    for question in (who_has("10.0.0.1", "10.0.0.2"), who_has("10.0.0.9", "10.0.0.2")):
        room.receive("eth0", question, 0)
    host_room = host("a", gateway="10.0.0.254")
    for dst in ("10.0.0.2", "8.8.8.8", "127.0.0.1", "10.0.0.1"):
        tell(host_room, host_room.send(echo("0.0.0.0", dst), 0, pinger(host_room)))
    bridge = switch(ports=2, addr="10.0.0.1/24")
    for dst_mac in (M1, M3, M4):
        bridge.receive("p1", frame(echo("10.0.0.2", "10.0.0.1"), dst=dst_mac), 0)
    bridge.send(echo("0.0.0.0", "10.0.0.9"), 0, pinger(bridge))


RECORDINGS = ("S5-calico-ipip", "S13-mtu-flannel-vxlan-pod1500", "S13-mtu-calico-ipip-pod1500", "X2-ipvs-flannel-vxlan",
              "X3-geneve-p2p", "G330")  # fmt: skip


@pytest.mark.parametrize("name", ["", *RECORDINGS])
def test_a_stage_returns_only_what_may_follow(edges: set[tuple[str, str | None]], name: str, request: Any) -> None:
    """The table is the whole control flow."""
    if name:
        predict(request.getfixturevalue("shared") / "recordings" / name)
    else:
        many_packets()
    assert edges
    assert [(stage, after) for stage, after in edges if after not in FOLLOWS[stage]] == []


def test_every_stage_is_visited(edges: set[tuple[str, str | None]], shared: Path) -> None:
    """A graph that is checked on too few packets is not checked."""
    many_packets()
    for name in RECORDINGS:
        predict(shared / "recordings" / name)
    # a segment that has become too big is the business of test_tcp, a redirect to a stranger that of test_icmp
    assert STAGES.keys() - {stage for stage, _ in edges} <= {"tcp_shrink", "arp_ask"}
