"""The neighbour (ARP) table: who has which MAC on which device, and the packets that wait for an answer.

States and their changes follow net/core/neighbour.c. Ageing is computed from `now` when an entry is looked at.
"""

from __future__ import annotations

from typing import NamedTuple

from packetwalk.addr import IPv4, Mac

SECOND = 1_000_000_000
RETRANS_TIME = SECOND  # net.ipv4.neigh.*.retrans_time_ms
MCAST_SOLICIT = 3  # broadcast tries before giving up
UCAST_SOLICIT = 3
DELAY_FIRST_PROBE = 5 * SECOND
REACHABLE_TIME = 30 * SECOND  # the kernel draws 0.5 to 1.5 of it
LOCKTIME = SECOND  # an answer this young is not overruled by another
UNRES_QLEN_BYTES = 212_992  # net.ipv4.neigh.*.unres_qlen_bytes

VALID = frozenset({"PERMANENT", "NOARP", "REACHABLE", "PROBE", "STALE", "DELAY"})
CONNECTED = frozenset({"PERMANENT", "NOARP", "REACHABLE"})


class Neighbour(NamedTuple):
    """One line of `ip neigh`. `probes` counts the tries so far, `waiting` holds the packets queued meanwhile."""

    dst: IPv4
    dev: str
    lladdr: Mac | None = None
    state: str = "NONE"
    updated: int = -REACHABLE_TIME
    confirmed: int = 0
    probes: int = 0
    waiting: tuple[object, ...] = ()
    proxy: bool = False

    def __str__(self) -> str:
        lladdr = f" lladdr {self.lladdr}" if self.lladdr is not None else ""
        return f"{self.dst} dev {self.dev}{lladdr} {self.state}"

    def seen_at(self, now: int) -> Neighbour:
        """The entry as ageing leaves it at `now`: REACHABLE turns STALE once its confirmation is too old."""
        if self.state == "REACHABLE" and now - self.confirmed > REACHABLE_TIME:
            return self._replace(state="STALE")
        return self


class Neighbours:
    """The table, by device and address. `base` entries are shared with
    other rooms; our own win, and `hidden` are not ours."""

    __slots__ = ("base", "entries", "hidden", "proxies")

    def __init__(self, base: dict[tuple[str, int], Neighbour] | None = None) -> None:
        self.base = base or {}
        self.hidden: frozenset[tuple[str, int]] = frozenset()
        self.entries: dict[tuple[str, int], Neighbour] = {}
        self.proxies: set[tuple[str, int]] = set()

    def overlay(self) -> Neighbours:
        copy = Neighbours.__new__(Neighbours)
        copy.base, copy.hidden, copy.proxies = self.base, self.hidden, self.proxies
        copy.entries = dict(self.entries)
        return copy

    def get(self, dev: str, dst: int) -> Neighbour | None:
        key = (dev, dst)
        return self.entries.get(key) or (None if key in self.hidden else self.base.get(key))

    def put(self, entry: Neighbour) -> None:
        self.entries[entry.dev, int(entry.dst)] = entry

    def remove(self, dev: str, dst: int) -> None:
        """Take our own entry out; where there is none, the shared one does not count here any more."""
        if self.entries.pop((dev, dst), None) is None and (dev, dst) in self.base:
            self.hidden |= {(dev, dst)}

    def forget(self, dev: str, *, permanent: bool = True) -> None:
        """neigh_ifdown, neigh_carrier_down: take out a device's entries, permanent ones too or not."""
        for entry in self.all():
            if entry.dev == dev and (permanent or entry.state != "PERMANENT"):
                self.remove(dev, entry.dst)

    def all(self) -> list[Neighbour]:
        shared = {key: n for key, n in self.base.items() if key not in self.hidden}
        return sorted({**shared, **self.entries}.values(), key=lambda n: (n.dev, n.dst))


def update(old: Neighbour, lladdr: Mac, state: str, now: int, *, override: bool) -> tuple[Neighbour, bool]:
    """neigh_update for what the network says (never for an administrator): the new entry, and whether it changed.

    A permanent entry does not learn. Another address than the known one needs `override`.
    """
    if old.state in ("PERMANENT", "NOARP"):
        return old, False
    if old.state in VALID:
        if old.lladdr != lladdr and not override:
            return old, False
        if old.lladdr == lladdr and state == "STALE":
            state = old.state
    confirmed = now if state == "REACHABLE" else old.confirmed
    updated = now if old.lladdr != lladdr or old.state != state else old.updated
    return old._replace(lladdr=lladdr, state=state, updated=updated, confirmed=confirmed, probes=0), True
