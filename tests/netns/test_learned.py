"""What was learned of a destination, and what ends it before its time. Every line was seen on a 6.18 kernel."""

from __future__ import annotations

import pytest

from packetwalk.addr import IPv4
from packetwalk.netns.namespace import Netns
from packetwalk.netns.route import output_route
from tests.netns.rooms import host

FAR = IPv4("10.2.0.2")


def taught(mtu: int = 1300, *, proto: str = "boot") -> Netns:
    """A host that knows the path MTU to FAR, which a route of its own leads to."""
    room = host("a", "10.0.0.1/24")
    room.route_add("10.2.0.0/24", via="10.0.0.2", proto=proto)
    assert room.learn_mtu(output_route(room, FAR, 0), FAR, mtu, 0) is not None
    return room


def path_mtu(room: Netns) -> int:
    return room.mtu(output_route(room, FAR, 0), 0)


@pytest.mark.parametrize(
    ("sizes", "learned"),
    [
        ([1400], 1300),
        ([1400, 1300], 1300),
        ([1200], 1200),
        ([1200, 1500], 1500),  # it was all of the device's, and grows with it
        ([1200, 1250, 1500], 1500),
    ],
)
def test_a_path_mtu_follows_its_device(sizes: list[int], learned: int) -> None:
    """fib_nhc_update_mtu."""
    room = taught()
    for mtu in sizes:
        room.link_set("eth0", mtu=mtu)
    assert path_mtu(room) == learned


def test_a_locked_path_mtu_is_unlocked_by_its_device() -> None:
    """fib_nhc_update_mtu, fnhe_mtu_locked."""
    room = taught(500)
    for mtu, learned, locked in ((600, 552, True), (552, 552, False), (1500, 1500, False)):
        room.link_set("eth0", mtu=mtu)
        rt = output_route(room, FAR, 0)
        assert (room.mtu(rt, 0), room.locked(rt, 0)) == (learned, locked)


def test_it_goes_with_the_last_route_that_leads_there() -> None:
    """fib_release_info: routes alike in all but their prefix share it."""
    room = taught()
    room.route_add("10.3.0.0/24", via="10.0.0.2")
    room.route_del("10.2.0.0/24")
    room.route_add("10.2.0.0/24", via="10.0.0.2")
    assert path_mtu(room) == 1300
    for dst in ("10.2.0.0/24", "10.3.0.0/24"):
        room.route_del(dst)
    room.route_add("10.2.0.0/24", via="10.0.0.2")
    assert path_mtu(room) == 1500


def test_it_outlives_a_replacement_of_the_same_kind_only() -> None:
    """fib_create_info finds the old fib_info before it is released."""
    room = taught()
    room.route_replace("10.2.0.0/24", via="10.0.0.2")
    assert path_mtu(room) == 1300
    room.route_replace("10.2.0.0/24", via="10.0.0.2", proto="static")
    room.route_replace("10.2.0.0/24", via="10.0.0.2")
    assert path_mtu(room) == 1500


def test_it_goes_with_the_link() -> None:
    room = taught()
    room.link_set("eth0", up=False)
    room.link_set("eth0", up=True)
    room.route_add("10.2.0.0/24", via="10.0.0.2")
    assert path_mtu(room) == 1500
