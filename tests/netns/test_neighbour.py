"""The neighbour table: what an update changes, ageing, and the two layers of the table."""

from __future__ import annotations

import pytest

from packetwalk.addr import IPv4, Mac
from packetwalk.netns.neighbour import REACHABLE_TIME, Neighbour, Neighbours, update
from tests.netns.rooms import M1, M2, M3, SECOND

A = IPv4("10.0.0.2")


def entry(state: str, lladdr: Mac | None = M1, *, updated: int = 0, confirmed: int = 0, probes: int = 0) -> Neighbour:
    return Neighbour(A, "eth0", lladdr, state, updated, confirmed, probes)


@pytest.mark.parametrize("state", ["PERMANENT", "NOARP"])
@pytest.mark.parametrize("new", ["REACHABLE", "STALE"])
def test_what_an_administrator_set_does_not_learn(state: str, new: str) -> None:
    """__neigh_update: only an administrator may change a PERMANENT or NOARP entry."""
    old = entry(state)
    assert update(old, M2, new, SECOND, override=True) == (old, False)


@pytest.mark.parametrize("state", ["NONE", "INCOMPLETE", "FAILED"])
@pytest.mark.parametrize("new", ["REACHABLE", "STALE"])
@pytest.mark.parametrize("override", [True, False])
def test_an_entry_without_a_valid_address_takes_any(state: str, new: str, override: bool) -> None:
    """__neigh_update: the override flag matters only to an entry that is valid."""
    changed, did = update(entry(state, None), M2, new, SECOND, override=override)
    assert did and (changed.lladdr, changed.state, changed.updated) == (M2, new, SECOND)


@pytest.mark.parametrize("state", ["REACHABLE", "STALE", "DELAY", "PROBE"])
def test_a_valid_entry_changes_its_address_only_with_override(state: str) -> None:
    """__neigh_update, NEIGH_UPDATE_F_OVERRIDE."""
    assert not update(entry(state), M2, "STALE", SECOND, override=False)[1]
    changed, _ = update(entry(state), M2, "STALE", SECOND, override=True)
    assert (changed.lladdr, changed.state) == (M2, "STALE")


@pytest.mark.parametrize("state", ["REACHABLE", "STALE", "DELAY", "PROBE"])
def test_the_same_address_said_by_a_request_changes_no_state(state: str) -> None:
    """__neigh_update: "do not change entry state, if new one is STALE"; nor does that move the lock window."""
    changed, _ = update(entry(state, updated=5), M1, "STALE", SECOND, override=True)
    assert (changed.state, changed.updated) == (state, 5)


@pytest.mark.parametrize("state", ["REACHABLE", "STALE", "DELAY", "PROBE"])
def test_an_answer_confirms(state: str) -> None:
    """__neigh_update: NUD_REACHABLE sets `confirmed`, and `updated` only if something changed."""
    changed, _ = update(entry(state, updated=5), M1, "REACHABLE", SECOND, override=False)
    assert (changed.state, changed.confirmed) == ("REACHABLE", SECOND)
    assert changed.updated == (5 if state == "REACHABLE" else SECOND)


def test_an_update_starts_counting_tries_afresh() -> None:
    assert update(entry("PROBE", probes=2), M1, "REACHABLE", SECOND, override=False)[0].probes == 0


@pytest.mark.parametrize(("age", "state"), [(REACHABLE_TIME, "REACHABLE"), (REACHABLE_TIME + 1, "STALE")])
def test_a_confirmation_grows_old(age: int, state: str) -> None:
    """neigh_timer_handler: REACHABLE becomes STALE when it was not confirmed for the reachable time."""
    assert entry("REACHABLE", confirmed=SECOND).seen_at(SECOND + age).state == state


@pytest.mark.parametrize("state", ["PERMANENT", "NOARP", "STALE", "FAILED"])
def test_other_states_do_not_age(state: str) -> None:
    assert entry(state).seen_at(10**6 * SECOND).state == state


def test_text_is_what_ip_neigh_prints() -> None:
    assert str(entry("STALE")) == f"{A} dev eth0 lladdr {M1} STALE"
    assert str(entry("FAILED", None)) == f"{A} dev eth0 FAILED"


def test_own_entries_win_over_shared_ones_and_an_overlay_keeps_to_itself() -> None:
    shared = {("eth0", int(A)): entry("PERMANENT", M1), ("eth0", int(A) + 1): entry("PERMANENT", M1)}
    table = Neighbours(shared)
    table.put(entry("STALE", M2))
    assert [table.get("eth0", int(A) + n) for n in (0, 1, 2)] == [entry("STALE", M2), entry("PERMANENT", M1), None]
    over = table.overlay()
    over.put(entry("STALE", M3))
    assert (over.get("eth0", A), table.get("eth0", A)) == (entry("STALE", M3), entry("STALE", M2))
    table.remove("eth0", A)
    assert table.get("eth0", A) == entry("PERMANENT", M1)
    assert over.get("eth0", A) == entry("STALE", M3)


def test_one_address_on_two_devices_is_two_neighbours() -> None:
    table = Neighbours()
    table.put(entry("STALE", M1))
    table.put(entry("STALE", M2)._replace(dev="eth1"))
    assert [n.lladdr for n in table.all()] == [M1, M2]
