"""What was learned of single destinations, path MTUs and redirects, and what ends it before its time."""

from __future__ import annotations

from typing import NamedTuple

from packetwalk.addr import ANY, IPv4
from packetwalk.netns.fib import Fib
from packetwalk.netns.fib_table import Found, Nexthop, Route


class Learned(NamedTuple):
    """What was learned about one destination behind one next hop (struct fib_nh_exception). `expires` in ns."""

    mtu: int = 0
    mtu_locked: bool = False
    expires: int = 0
    gateway: IPv4 = ANY


class Behind(NamedTuple):
    """One next hop of a fib_info, which routes alike in all but their prefix share."""

    table: int
    proto: str
    scope: int
    src: IPv4
    metric: int
    hop: Nexthop


def exception_key(found: Found, dst: int) -> tuple[Behind, int]:
    """Where an exception of a routed destination is kept."""
    assert found.route is not None and found.hop is not None
    return behind(found.route, found.hop), int(dst)


def behind(route: Route, hop: Nexthop) -> Behind:
    """The next hop as exceptions know it: they stay with it while it is dead."""
    return Behind(route.table, route.proto, route.scope, route.src, route.metric, hop._replace(dead=False))


def free(fib: Fib) -> None:
    """fib_release_info: what was learned behind a next hop goes with the last route that leads there."""
    if fib.exceptions:
        alive = {behind(r, h) for table in fib.tables.values() for r in table for h in r.nexthops}
        fib.exceptions = {key: entry for key, entry in fib.exceptions.items() if key[0] in alive}


def follow_mtu(fib: Fib, dev: str, before: int, mtu: int) -> None:
    """fib_nhc_update_mtu: a learned path MTU follows its device's down, and up if it was all of the device's."""
    for key, entry in fib.exceptions.items():
        if not entry.mtu or key[0].hop.dev != dev:
            continue
        if mtu <= entry.mtu if entry.mtu_locked else mtu < entry.mtu or before == entry.mtu:
            fib.exceptions[key] = entry._replace(mtu=mtu, mtu_locked=False)
