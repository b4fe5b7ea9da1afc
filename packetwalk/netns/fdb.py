"""Forwarding databases: which port of a bridge, or which end of a vxlan, a MAC address is behind."""

from __future__ import annotations

from typing import NamedTuple

from packetwalk.addr import ANY, ZERO_MAC, IPv4, Mac


class FdbEntry(NamedTuple):
    """One line of `bridge fdb`. On a bridge `dev` is the port; on a vxlan
    it is the device and `dst` the tunnel's far end.

    `local`: the bridge's or port's own address. `static` never ages; `updated` is when it was last learned, in ns.
    """

    mac: Mac
    dev: str
    dst: IPv4 = ANY
    via: str = ""
    port: int = 0
    vni: int = -1
    master: str = ""
    local: bool = False
    static: bool = False
    updated: int = 0
    oddity: str = ""

    def __str__(self) -> str:
        words = [str(self.mac), "dev", self.dev]
        if self.dst:
            words += ["dst", str(self.dst)]
        if self.port:
            words += ["port", str(self.port)]
        if self.vni >= 0:
            words += ["vni", str(self.vni)]
        if self.via:
            words += ["via", self.via]
        if self.master:
            words += ["master", self.master]
        if not self.master:
            words.append("self")
        if self.local:
            words.append("permanent")
        elif self.static:
            words.append("permanent" if not self.master else "static")
        return " ".join(words)


class BridgeFdb:
    """{(bridge, mac): entry}; entries older than the bridge's ageing time count as absent."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: dict[tuple[str, int], FdbEntry] = {}

    def overlay(self) -> BridgeFdb:
        copy = BridgeFdb()
        copy.entries = dict(self.entries)
        return copy

    def find(self, bridge: str, mac: int, now: int, ageing: int) -> FdbEntry | None:
        entry = self.entries.get((bridge, mac))
        if entry is None or entry.local or entry.static or now - entry.updated < ageing:
            return entry
        return None

    def learn(self, bridge: str, mac: Mac, port: str, now: int) -> FdbEntry | None:
        """br_fdb_update: the new entry where the address is new or moved; own addresses are never learned."""
        old = self.entries.get((bridge, mac))
        if old is not None and (old.local or (old.static and old.dev == port)):
            return None
        entry = FdbEntry(mac, port, master=bridge, updated=now, static=old is not None and old.static)
        self.entries[bridge, mac] = entry
        return None if old is not None and old.dev == port else entry

    def forget(self, *, bridge: str = "", port: str = "") -> None:
        """br_fdb_delete_by_port: drop what was learned on that port, or on all ports of that bridge."""
        gone = [k for k, e in self.entries.items() if (k[0] == bridge or e.dev == port) and not (e.local or e.static)]
        for key in gone:
            del self.entries[key]

    def put(self, entry: FdbEntry) -> None:
        self.entries[entry.master, int(entry.mac)] = entry


class VxlanFdb:
    """{(vxlan device, mac): far ends}. The all-zero MAC is the default destination and gets a copy each. What was
    learned and not used for the device's ageing time counts as absent.

    `base` is shared with other rooms (the peers' daemon-written entries); our own win, and `hidden` are not ours.
    """

    __slots__ = ("base", "entries", "hidden")

    def __init__(self, base: dict[tuple[str, int], tuple[FdbEntry, ...]] | None = None) -> None:
        self.base = base or {}
        self.hidden: frozenset[tuple[str, int]] = frozenset()
        self.entries: dict[tuple[str, int], tuple[FdbEntry, ...]] = {}

    def overlay(self) -> VxlanFdb:
        copy = VxlanFdb(self.base)
        copy.hidden, copy.entries = self.hidden, dict(self.entries)
        return copy

    def find(self, dev: str, mac: int, now: int, ageing: int) -> tuple[FdbEntry, ...]:
        """vxlan_find_mac, and the default destination where nothing is known (vxlan_xmit)."""
        return self._used((dev, mac), now, ageing) or self.exact(dev, int(ZERO_MAC))

    def _used(self, key: tuple[str, int], now: int, ageing: int) -> tuple[FdbEntry, ...]:
        """What is known of an address. A look-up keeps a learned entry young; an old one is gone (vxlan_cleanup)."""
        far = self.entries.get(key) or self._shared(key)
        if not far or far[0].static:
            return far
        if now - far[0].updated >= ageing:
            self.entries.pop(key, None)
            return ()
        self.entries[key] = far = (far[0]._replace(updated=now),)
        return far

    def exact(self, dev: str, mac: int) -> tuple[FdbEntry, ...]:
        """What is known of just that address."""
        return self.entries.get((dev, mac)) or self._shared((dev, mac))

    def _shared(self, key: tuple[str, int]) -> tuple[FdbEntry, ...]:
        return () if key in self.hidden else self.base.get(key, ())

    def set(self, dev: str, mac: int, far: tuple[FdbEntry, ...]) -> None:
        """These far ends in the place of all that were known; none takes the address out."""
        key = (dev, int(mac))
        self.entries.pop(key, None)
        if key in self.base:
            self.hidden |= {key}
        if far:
            self.entries[key] = far

    def append(self, entry: FdbEntry) -> None:
        key = (entry.dev, int(entry.mac))
        self.entries[key] = (*self.entries.get(key, ()), entry)

    def learn(self, dev: str, mac: Mac, dst: IPv4, now: int, ageing: int) -> FdbEntry | None:
        """vxlan_snoop: an inner source address was seen behind that outer source address. Returns the static entry that
        says otherwise, if there is one: then the frame is not believed."""
        old = self._used((dev, int(mac)), now, ageing)
        if not old or old[0].dst != dst:
            if old and old[0].static:
                return old[0]
            self.entries[dev, mac] = (FdbEntry(mac, dev, dst=dst, updated=now),)
        return None

    def all(self) -> list[FdbEntry]:
        shared = {key: far for key, far in self.base.items() if key not in self.hidden}
        return [entry for far in {**shared, **self.entries}.values() for entry in far]
