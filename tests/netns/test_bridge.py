"""The bridge: learning, forwarding, flooding, passing up, and what each port setting does."""

from __future__ import annotations

from typing import Any

import pytest

from packetwalk.addr import BROADCAST_MAC, Mac
from packetwalk.netns.device import Bridge
from packetwalk.netns.namespace import Netns
from packetwalk.packet import Packet
from packetwalk.trace import Reason, Step
from tests.netns.rooms import (
    M1,
    M2,
    M3,
    M4,
    SECOND,
    echo,
    eth_of,
    frame,
    ip_of,
    of,
    one,
    pinger,
    reasons,
    sent,
    stages,
    switch,
    terminals,
    unsupported,
    who_has,
)

MULTICAST = Mac("01:00:5e:00:00:05")


def between(src: Mac, dst: Mac, size: int = 56, **ip: Any) -> Packet:
    return frame(echo("10.0.0.3", "10.0.0.4", size=size, **ip), dst=dst, src=src)


def ports(steps: list[Step]) -> list[str]:
    """By which ports frames left, in order."""
    return [s.dev for s in of(steps, "transmit")]


def taught(**settings: Any) -> Netns:
    """A switch of three ports that knows M3 at p1 and M4 at p2; the settings hold for every port."""
    room = switch(ports=3)
    room.receive("p1", between(M3, BROADCAST_MAC), 0)
    room.receive("p2", between(M4, BROADCAST_MAC), 0)
    for port in ("p1", "p2", "p3"):
        room.link_set(port, port=settings)
    return room


# -- learning and looking up ------------------------------------------------------------------------------------------


def test_an_unknown_address_is_flooded_to_all_other_ports_last_added_first() -> None:
    """br_flood walks the port list, to whose head br_add_if adds."""
    room = switch(ports=4)
    steps = room.receive("p2", between(M3, M4), 0)
    assert ports(steps) == ["p4", "p3", "p1"]
    assert "receive" not in stages(steps)[1:]  # unknown unicast is not passed up


def test_a_learned_address_gets_its_frames_alone() -> None:
    """br_fdb_update, br_fdb_find_rcu."""
    room = switch(ports=3)
    learned = one(room.receive("p1", between(M3, M4), 0), "learn")
    assert str(learned.what) == f"{M3} dev p1 master br0"
    assert ports(room.receive("p3", between(M4, M3), 1)) == ["p1"]
    assert ports(room.receive("p1", between(M3, M4), 2)) == ["p3"]


def test_who_moves_is_learned_anew() -> None:
    room = taught()
    room.receive("p3", between(M3, BROADCAST_MAC), 1)
    assert ports(room.receive("p2", between(M4, M3), 2)) == ["p3"]


def test_learning_the_same_again_is_no_news() -> None:
    assert not of(taught().receive("p1", between(M3, M4), 1), "learn")


@pytest.mark.parametrize(("age", "out"), [(299, ["p1"]), (300, ["p3", "p1"])])
def test_an_address_is_forgotten_after_the_ageing_time(age: int, out: list[str]) -> None:
    """has_expired: time_before_eq(updated + hold_time, now)."""
    assert ports(taught().receive("p2", between(M4, M3), age * SECOND)) == out


def test_every_frame_refreshes_its_sender() -> None:
    room = taught()
    room.receive("p1", between(M3, M4), 200 * SECOND)
    assert ports(room.receive("p2", between(M4, M3), 400 * SECOND)) == ["p1"]


def test_a_static_entry_does_not_age() -> None:
    room = switch(ports=3)
    room.fdb_append("p2", M4)
    assert ports(room.receive("p1", between(M3, M4), 10**4 * SECOND)) == ["p2"]


def test_an_own_address_as_sender_is_not_learned() -> None:
    """br_fdb_update: "received packet with own address as source address"."""
    room = switch(ports=3)
    port_mac = room.devices["p2"].mac
    assert not of(room.receive("p1", between(port_mac, M4), 0), "learn")
    assert room.bridge_fdb.entries["br0", int(port_mac)].dev == "p2"


def test_a_multicast_sender_is_dropped() -> None:
    """br_handle_frame: is_valid_ether_addr(h_source), MAC_INVALID_SOURCE."""
    room = switch()
    assert reasons(room.receive("p1", between(MULTICAST, M4), 0)) == [Reason.MAC_INVALID_SOURCE]
    assert ("br0", int(MULTICAST)) not in room.bridge_fdb.entries


# -- flooding and passing up ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dst", [BROADCAST_MAC, MULTICAST])
def test_broadcast_and_multicast_are_flooded_and_passed_up(dst: Mac) -> None:
    """br_handle_frame_finish: copies first, then br_pass_frame_up."""
    steps = switch(ports=3, addr="10.0.0.1/24").receive("p1", between(M3, dst), 0)
    assert ports(steps)[:2] == ["p3", "p2"]
    assert [s.dev for s in of(steps, "receive")] == ["p1", "br0"]


def test_a_frame_for_the_bridge_is_passed_up_and_routed() -> None:
    """br_pass_frame_up: the host sees it on the bridge device."""
    room = switch(ports=2, addr="10.0.0.1/24")
    steps = room.receive("p1", frame(echo("10.0.0.2", "10.0.0.1"), dst=M1), 0)
    assert [s.dev for s in of(steps, "receive")] == ["p1", "br0"]
    assert one(steps, "deliver").dev == "br0"


def test_a_frame_for_the_bridge_is_forwarded_by_the_host_between_subnets() -> None:
    room = switch(ports=2, addr="10.0.0.1/24")
    room.addr_add("br0", "10.1.0.1/24")
    room.neigh_add("10.1.0.2", M4, "br0")
    room.sysctl("net.ipv4.ip_forward", 1)
    room.sysctl("net.ipv4.conf.all.send_redirects", 0)
    room.sysctl("net.ipv4.conf.br0.send_redirects", 0)
    room.fdb_append("p2", M4)
    steps = room.receive("p1", frame(echo("10.0.0.2", "10.1.0.2"), dst=M1), 0)
    assert ports(steps) == ["br0", "p2"]
    assert [(eth_of(p)[:2], ip_of(p).ttl) for p in sent(steps, "p2")] == [((M1, M4), 63)]


@pytest.mark.parametrize(("by", "outcome"), [("p2", "deliver"), ("p1", "drop")])
def test_a_ports_own_address_is_local_but_only_there_for_the_host(by: str, outcome: str) -> None:
    """A port's MAC is a local FDB entry; eth_type_trans compared with the port the frame came by, else OTHERHOST."""
    room = switch(ports=2, addr="10.0.0.1/24")
    steps = room.receive(by, frame(echo("10.0.0.2", "10.0.0.1"), dst=room.devices["p2"].mac), 0)
    assert [s.dev for s in of(steps, "receive")] == [by, "br0"]
    assert outcome in stages(steps)
    assert reasons(steps) == ([Reason.OTHERHOST] if outcome == "drop" else [])


def test_a_bridge_without_address_still_answers_nothing() -> None:
    """Passed up, looked at by ARP, of no interest."""
    steps = switch(ports=2).receive("p1", who_has("10.0.0.1", "10.0.0.2"), 0)
    assert terminals(steps) == [("transmit", "p2"), ("consume", "br0")]


def test_a_frame_for_the_host_itself_does_not_loop_through_its_bridge() -> None:
    """br_dev_xmit to the bridge's own address: br_forward finds no port."""
    room = switch(ports=2, addr="10.0.0.1/24")
    room.neigh_add("10.0.0.9", M1, "br0")
    steps = room.send(echo("0.0.0.0", "10.0.0.9"), 0, pinger(room))
    assert ports(steps) == ["br0"] and len(reasons(steps)) == 1


# -- port settings ----------------------------------------------------------------------------------------------------


def test_never_back_out_of_the_port_it_came_by() -> None:
    """should_deliver: skb->dev != p->dev, unless hairpin."""
    room = taught()
    room.receive("p1", between(M4, BROADCAST_MAC), 1)  # both behind p1 now
    steps = room.receive("p1", between(M3, M4), 2)
    assert not sent(steps) and reasons(steps) == [Reason.BRIDGE_NON_FORWARDING]


def test_hairpin_lets_it_back_out() -> None:
    """BR_HAIRPIN_MODE: the frame returns unchanged, source MAC and all."""
    room = taught(hairpin=True)
    steps = room.receive("p1", between(M3, M3), 1)
    assert ports(steps) == ["p1"] and sent(steps) == [between(M3, M3)]


def test_a_hairpin_port_reflects_broadcasts() -> None:
    """A pod receives its own ARP question (real-kernel.md, fact 4)."""
    room = switch(ports=2)
    room.link_set("p1", port={"hairpin": True})
    assert sorted(ports(room.receive("p1", who_has("10.0.0.9", "10.0.0.2"), 0))) == ["p1", "p2"]


def test_isolated_ports_do_not_see_one_another() -> None:
    """br_skb_isolated: both must be isolated."""
    room = taught()
    for port in ("p1", "p2"):
        room.link_set(port, port={"isolated": True})
    assert reasons(room.receive("p1", between(M3, M4), 1)) == [Reason.BRIDGE_NON_FORWARDING]
    assert ports(room.receive("p1", between(M3, BROADCAST_MAC), 1)) == ["p3"]
    assert ports(room.receive("p3", between(M2, M4), 1)) == ["p2"]


def test_learning_off_teaches_nothing() -> None:
    """BR_LEARNING."""
    room = switch(ports=3)
    room.link_set("p1", port={"learning": False})
    assert not of(room.receive("p1", between(M3, M4), 0), "learn")
    assert ports(room.receive("p2", between(M4, M3), 1)) == ["p3", "p1"]


def test_flood_off_spares_a_port_unknown_unicast_only() -> None:
    """br_flood: BR_FLOOD for unicast, BR_BCAST_FLOOD for broadcast."""
    room = switch(ports=3)
    room.link_set("p3", port={"flood": False})
    assert ports(room.receive("p1", between(M3, M4), 0)) == ["p2"]
    assert ports(room.receive("p1", between(M3, BROADCAST_MAC), 0)) == ["p3", "p2"]


def test_bcast_flood_off_spares_a_port_broadcasts_only() -> None:
    room = switch(ports=3)
    room.link_set("p3", port={"bcast_flood": False})
    assert ports(room.receive("p1", between(M3, BROADCAST_MAC), 0)) == ["p2"]
    assert ports(room.receive("p1", between(M3, M4), 0)) == ["p3", "p2"]


def test_the_hosts_own_broadcast_goes_out_of_every_port() -> None:
    """br_flood: BR_BCAST_FLOOD does not bind what the bridge device itself sends (skb->dev == br->dev)."""
    room = switch(ports=2, addr="10.0.0.1/24")
    room.link_set("p2", port={"bcast_flood": False})
    assert ports(room.send(echo("0.0.0.0", "10.0.0.2"), 0, pinger(room))) == ["br0", "p2", "p1"]


def test_multicast_floods_by_a_setting_of_its_own() -> None:
    """br_flood: BR_MCAST_FLOOD for multicast, whatever bcast_flood says."""
    room = switch(ports=3)
    room.link_set("p3", port={"bcast_flood": False})
    assert ports(room.receive("p1", between(M3, MULTICAST), 0)) == ["p3", "p2"]


def test_an_unknown_address_that_no_port_takes_is_dropped() -> None:
    """br_flood with nobody to send to: NO_TX_TARGET."""
    assert reasons(switch(ports=1).receive("p1", between(M3, M4), 0)) == [Reason.NO_TX_TARGET]


@pytest.mark.parametrize("state", ["disabled", "blocking", "listening", "learning"])
def test_a_port_that_does_not_forward_takes_nothing_in(state: str) -> None:
    """br_handle_frame, br_handle_frame_finish: BRIDGE_INGRESS_STP_STATE; a learning port learns first."""
    room = switch(ports=2)
    room.link_set("p1", port={"state": state})
    steps = room.receive("p1", between(M3, M4), 0)
    assert reasons(steps) == [Reason.BRIDGE_INGRESS_STP_STATE] and not sent(steps)
    assert bool(of(steps, "learn")) is (state == "learning")


@pytest.mark.parametrize("state", ["disabled", "blocking", "listening", "learning"])
def test_a_port_that_does_not_forward_lets_nothing_out(state: str) -> None:
    """should_deliver: p->state == BR_STATE_FORWARDING."""
    room = taught()
    room.link_set("p2", port={"state": state})
    assert reasons(room.receive("p1", between(M3, M4), 1)) == [Reason.BRIDGE_NON_FORWARDING]
    assert ports(room.receive("p1", between(M3, BROADCAST_MAC), 1)) == ["p3"]


def test_a_port_that_is_down_gets_no_copy() -> None:
    """br_stp_disable_port when its device goes down (br_device_event)."""
    room = switch(ports=3)
    room.link_set("p2", up=False)
    assert ports(room.receive("p1", between(M3, M4), 0)) == ["p3"]


@pytest.mark.parametrize(("size", "fits"), [(1376, True), (1377, False)])
def test_a_frame_too_big_for_the_port_is_dropped_in_silence(size: int, fits: bool) -> None:
    """br_dev_queue_push_xmit: is_skb_forwardable (a VLAN tag is allowed for); a bridge sends no ICMP."""
    room = taught()
    room.link_set("p2", mtu=1400)
    steps = room.receive("p1", between(M3, M4, size), 1)
    assert ports(steps) == (["p2"] if fits else [])
    assert reasons(steps) == ([] if fits else [Reason.NOT_SPECIFIED])


@pytest.mark.parametrize("setting", ["stp_state", "vlan_filtering"])
def test_a_bridge_setting_that_is_not_modelled_is_named(setting: str) -> None:
    room = switch(ports=2)
    bridge = room.devices["br0"]
    assert isinstance(bridge, Bridge)
    bridge.oddity = setting
    assert unsupported(room.receive("p1", between(M3, M4), 0)) == [f"bridge setting {setting}"]


def test_a_port_setting_that_is_not_modelled_is_named() -> None:
    room = switch(ports=2)
    room.link_set("p1", port={"oddity": "neigh_suppress"})
    assert unsupported(room.receive("p1", between(M3, M4), 0)) == ["bridge setting neigh_suppress"]


@pytest.mark.parametrize("who", ["bridge", "the port it leaves by"])
def test_what_the_host_sends_minds_settings_that_are_not_modelled_too(who: str) -> None:
    """br_dev_xmit and br_forward read the same VLAN and port settings as br_handle_frame."""
    room = switch(ports=2, addr="10.0.0.1/24")
    bridge = room.devices["br0"]
    assert isinstance(bridge, Bridge)
    if who == "bridge":
        bridge.oddity = "vlan_filtering"
        assert unsupported(room.send(echo("0.0.0.0", "10.0.0.2"), 0, pinger(room))) == ["bridge setting vlan_filtering"]
    else:
        room.link_set("p2", port={"oddity": "vlan_tunnel"})
        assert unsupported(room.receive("p1", between(M3, M4), 0)) == ["bridge setting vlan_tunnel"]


def test_link_local_frames_are_not_forwarded() -> None:
    """br_handle_frame: 01:80:c2:00:00:0x (STP, pause, LLDP) stays on its link unless group_fwd_mask says otherwise."""
    steps = switch(ports=3).receive("p1", between(M3, Mac("01:80:c2:00:00:0e")), 0)
    assert not sent(steps)
