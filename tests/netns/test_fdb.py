"""Forwarding databases: bridge entries and vxlan far ends."""

from __future__ import annotations

import pytest

from packetwalk.addr import ZERO_MAC, IPv4
from packetwalk.netns.fdb import BridgeFdb, FdbEntry, VxlanFdb
from packetwalk.netns.namespace import Netns
from tests.netns.rooms import M1, M2, M3, SECOND, host, switch, vxlan

AGEING = 300 * SECOND
FAR, OTHER = IPv4("10.0.0.2"), IPv4("10.0.0.3")


# -- bridge -----------------------------------------------------------------------------------------------------------


def test_learning_returns_news_only() -> None:
    """br_fdb_update: new and moved addresses notify, a refresh does not."""
    fdb = BridgeFdb()
    assert fdb.learn("br0", M3, "p1", 0) == FdbEntry(M3, "p1", master="br0")
    assert fdb.learn("br0", M3, "p1", 5) is None
    assert fdb.entries["br0", int(M3)].updated == 5
    moved = fdb.learn("br0", M3, "p2", 6)
    assert moved is not None and moved.dev == "p2"


def test_bridges_have_tables_of_their_own() -> None:
    fdb = BridgeFdb()
    fdb.learn("br0", M3, "p1", 0)
    assert fdb.find("br1", M3, 0, AGEING) is None


@pytest.mark.parametrize(("now", "there"), [(AGEING - 1, True), (AGEING, False)])
def test_learned_entries_age(now: int, there: bool) -> None:
    fdb = BridgeFdb()
    fdb.learn("br0", M3, "p1", 0)
    assert (fdb.find("br0", M3, now, AGEING) is not None) is there


@pytest.mark.parametrize("kind", [{"local": True}, {"static": True}])
def test_local_and_static_entries_stay(kind: dict[str, bool]) -> None:
    fdb = BridgeFdb()
    fdb.put(FdbEntry(M3, "p1", master="br0", **kind))  # type: ignore[arg-type]
    assert fdb.find("br0", M3, 10**6 * AGEING, AGEING) is not None


def test_a_local_address_cannot_be_taken() -> None:
    """br_fdb_update on BR_FDB_LOCAL only warns."""
    fdb = BridgeFdb()
    fdb.put(FdbEntry(M3, "p1", master="br0", local=True))
    assert fdb.learn("br0", M3, "p2", 0) is None
    assert fdb.entries["br0", int(M3)].dev == "p1"


def test_a_static_address_moves_but_stays_static() -> None:
    """br_fdb_update: only a sticky entry keeps its port; what moves keeps its flags."""
    fdb = BridgeFdb()
    fdb.put(FdbEntry(M3, "p1", master="br0", static=True))
    moved = fdb.learn("br0", M3, "p2", 0)
    assert moved is not None and (moved.dev, moved.static) == ("p2", True)


def test_a_bridge_knows_its_own_and_its_ports_addresses() -> None:
    """br_fdb_change_mac_address, br_fdb_add_local."""
    room = switch(ports=2)
    local = {(e.mac, e.dev) for e in room.bridge_fdb.entries.values() if e.local}
    assert local == {(room.devices[d].mac, d) for d in ("br0", "p1", "p2")}


def test_a_port_that_leaves_its_bridge_takes_its_entries_along() -> None:
    """del_nbp: br_fdb_delete_by_port, local entries included."""
    room = switch(ports=2)
    room.bridge_fdb.learn("br0", M3, "p1", 0)
    room.link_set("p1", master="")
    assert not [e for e in room.bridge_fdb.entries.values() if e.dev == "p1"]


# -- vxlan ------------------------------------------------------------------------------------------------------------


def far(room: Netns, mac: int, now: int = 0) -> list[IPv4]:
    return [e.dst for e in room.vxlan_fdb.find("vx0", mac, now, AGEING)]


def tunnelled(remote: str = "") -> Netns:
    room = host("a")
    vxlan(room, remote=remote)
    return room


def test_the_default_destination_serves_what_is_unknown() -> None:
    """vxlan_xmit: vxlan_find_mac, else the all-zero entry."""
    room = tunnelled(str(FAR))
    room.fdb_append("vx0", M3, dst=OTHER)
    assert (far(room, M3), far(room, M2)) == ([OTHER], [FAR])
    assert far(tunnelled(), M2) == []


def test_the_default_destination_may_be_many() -> None:
    """`bridge fdb append 00:00:00:00:00:00`: a copy for each, in order."""
    room = tunnelled(str(FAR))
    room.fdb_append("vx0", ZERO_MAC, dst=OTHER)
    assert far(room, M2) == [FAR, OTHER]


def test_vxlan_learns_who_is_behind_whom() -> None:
    """vxlan_snoop: new and moved addresses; static entries stay."""
    room = tunnelled()
    room.vxlan_fdb.learn("vx0", M3, FAR, 0, AGEING)
    assert far(room, M3) == [FAR]
    room.vxlan_fdb.learn("vx0", M3, OTHER, 1, AGEING)
    assert far(room, M3) == [OTHER]
    room.fdb_append("vx0", M2, dst=FAR)
    room.vxlan_fdb.learn("vx0", M2, OTHER, 1, AGEING)
    assert far(room, M2) == [FAR]


def test_what_a_vxlan_learned_ages_unless_it_is_used() -> None:
    """vxlan_cleanup: age_interval after the last look-up; vxlan_find_mac notes each."""
    room = tunnelled(str(FAR))
    room.vxlan_fdb.learn("vx0", M3, OTHER, 0, AGEING)
    assert far(room, M3, AGEING - 1) == far(room, M3, 2 * AGEING - 2) == [OTHER]
    assert far(room, M3, 3 * AGEING) == [FAR]
    room.vxlan_fdb.learn("vx0", M3, OTHER, 3 * AGEING, AGEING)
    room.vxlan_fdb.learn("vx0", M3, OTHER, 4 * AGEING - 1, AGEING)
    assert far(room, M3, 5 * AGEING - 2) == [OTHER]


def test_shared_entries_lie_under_own_ones() -> None:
    shared = VxlanFdb({("vx0", int(M3)): (FdbEntry(M3, "vx0", FAR, static=True),)})
    over = shared.overlay()
    over.append(FdbEntry(M2, "vx0", OTHER))
    assert [e.dst for e in over.find("vx0", M3, 0, AGEING)] == [FAR]
    assert shared.find("vx0", M2, 0, AGEING) == ()
    assert len(over.all()) == 2


def test_an_overlay_of_a_bridge_keeps_to_itself() -> None:
    fdb = BridgeFdb()
    fdb.overlay().learn("br0", M3, "p1", 0)
    assert fdb.entries == {}


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (FdbEntry(M1, "p1", master="br0"), f"{M1} dev p1 master br0"),
        (FdbEntry(M1, "p1", master="br0", static=True), f"{M1} dev p1 master br0 static"),
        (FdbEntry(M1, "p1", master="br0", local=True), f"{M1} dev p1 master br0 permanent"),
        (FdbEntry(M1, "vx0", FAR, static=True), f"{M1} dev vx0 dst {FAR} self permanent"),
        (FdbEntry(M1, "vx0", FAR, "eth0", 4789, 7), f"{M1} dev vx0 dst {FAR} port 4789 vni 7 via eth0 self"),
    ],
)
def test_text_is_what_bridge_fdb_prints(entry: FdbEntry, text: str) -> None:
    assert str(entry) == text
