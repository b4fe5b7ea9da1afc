"""Tables that several namespaces share: what the daemon of a CNI writes alike on every node of a group.

Each namespace lays its own entries over them and leaves out what concerns itself (`Netns.share`), so a cluster of n
nodes holds n entries for a group, not n times n.
"""

from __future__ import annotations

from packetwalk.addr import ANY, IPv4, Mac, Prefix
from packetwalk.netns.device import SCOPE_GLOBAL, SCOPE_LINK
from packetwalk.netns.fdb import FdbEntry
from packetwalk.netns.fib_table import Nexthop, Route, Table
from packetwalk.netns.neighbour import Neighbour

Key = tuple[str, int]


class Shared:
    """Routes of table main, permanent neighbours and vxlan FDB entries. `about` is whom the next entries lead to."""

    def __init__(self) -> None:
        self.about = ""
        self.routes = Table()
        self.neighbours: dict[Key, Neighbour] = {}
        self.fdb: dict[Key, tuple[FdbEntry, ...]] = {}
        self.routes_to: dict[str, list[Route]] = {}
        self.neighbours_to: dict[str, list[Key]] = {}
        self.fdb_to: dict[str, list[Key]] = {}

    def route_add(self, dst: Prefix, *, dev: str, via: IPv4 = ANY, onlink: bool = False, proto: str = "boot",
                  mtu: int = 0, metric: int = 0) -> None:  # fmt: skip
        """`ip route add`, unchecked: each namespace has the device."""
        scope = SCOPE_GLOBAL if via else SCOPE_LINK
        hop = Nexthop(dev, via, onlink=onlink)
        route = Route(dst, (hop,), scope=scope, metric=metric, proto=proto, mtu=mtu)
        self.routes.add(route)
        self.routes_to.setdefault(self.about, []).append(route)

    def neigh_add(self, dst: IPv4, lladdr: Mac, dev: str) -> None:
        """`ip neigh add ... nud permanent`."""
        self.neighbours[dev, int(dst)] = Neighbour(dst, dev, lladdr, "PERMANENT", confirmed=-(10**12))
        self.neighbours_to.setdefault(self.about, []).append((dev, int(dst)))

    def fdb_append(self, dev: str, mac: Mac, *, dst: IPv4) -> None:
        """`bridge fdb append` on a vxlan device."""
        key = (dev, int(mac))
        self.fdb[key] = (*self.fdb.get(key, ()), FdbEntry(mac, dev, dst, static=True))
        self.fdb_to.setdefault(self.about, []).append(key)
