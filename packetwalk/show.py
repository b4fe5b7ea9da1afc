"""A room's tables as the tools print them: `ip`, `bridge`, iptables-save, ipset, nft."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from packetwalk.addr import ZERO_MAC
from packetwalk.commands import address
from packetwalk.netns.device import Bridge, Device, Ipip
from packetwalk.netns.fdb import FdbEntry
from packetwalk.netns.namespace import Netns
from packetwalk.netns.netfilter import Table
from packetwalk.netns.nft import NftTable
from packetwalk.network import Network


def show(network: Network, room: str, table: str) -> str:
    """A room's table as iproute2 prints it: `table` is a key of SHOWN. KeyError for a room or a table it has not."""
    if room not in network:
        raise KeyError(f"there is no room {room!r}")
    return "\n".join(SHOWN[table](network, room))


def _show_routes(network: Network, room: str) -> Iterator[str]:
    yield from map(str, network[room].listed_routes())


def _show_ip_rules(network: Network, room: str) -> Iterator[str]:
    yield from (str(rule).replace(": ", ":\t", 1) for rule in network[room].fib.rules)


def _show_rules(network: Network, room: str) -> Iterator[str]:
    yield from rules(network, room)


def _show_sets(network: Network, room: str) -> Iterator[str]:
    yield from map(str, network[room].netfilter.sets.values())


def rules(network: Network, room: str, table: str = "", chain: str = "") -> list[str]:
    """The lines iptables-save and `nft list` print: of all tables or of one, of all chains or of those with that name.

    KeyError, in one line, for a table or chain that is nowhere in what was asked for.
    """
    netfilter = network[room].netfilter
    tables: dict[str, Table | NftTable] = {**netfilter.tables, **{t.title: t for t in netfilter.nft.values()}}
    if table and table not in tables:
        raise KeyError(f"{room} has no table {table!r}; it has {', '.join(tables) or 'none'}")
    chosen = [tables[table]] if table else list(tables.values())
    if not chain:
        return [line for one in chosen for line in str(one).splitlines()]
    lines: list[str] = []
    for one in chosen:
        if chain in one.chains:
            lines += _chain(one, chain)
    if not lines:
        names = {name for one in chosen for name in one.chains}
        near = get_close_matches(chain, names, 1)
        where = f"table {table} of {room}" if table else room
        raise KeyError(f"{where} has no chain {chain!r}{f'; did you mean {near[0]!r}?' if near else ''}")
    return lines


def _show_resolv_conf(network: Network, room: str) -> Iterator[str]:
    yield from str(network.resolvers.get(room, "")).splitlines()


def _chain(table: Table | NftTable, name: str) -> list[str]:
    if isinstance(table, NftTable):
        return [f"table {table.family} {table.name} {{", *str(table.chains[name]).splitlines(), "}"]
    chain = table.chains[name]
    return [f"*{table.name}", f":{name} {chain.policy or '-'} [0:0]", *map(str, chain.rules)]


def _show_neighbours(network: Network, room: str) -> Iterator[str]:
    yield from map(str, network[room].neighbours.all())


def _show_fdb(network: Network, room: str) -> Iterator[str]:
    entries: list[FdbEntry] = [*network[room].bridge_fdb.entries.values(), *network[room].vxlan_fdb.all()]
    index = {d.name: d.index for d in network[room].devices.values()}
    yield from map(str, sorted(entries, key=lambda e: index.get(e.dev, 0)))


def _show_links(network: Network, room: str) -> Iterator[str]:
    for device in sorted(network[room].devices.values(), key=lambda d: d.index):
        yield from _link(network, room, device, " mode DEFAULT")


def _show_addrs(network: Network, room: str) -> Iterator[str]:
    for device in sorted(network[room].devices.values(), key=lambda d: d.index):
        yield from _link(network, room, device, "")
        for addr in device.addrs:
            secondary = " secondary" if addr.secondary else ""
            yield f"    inet {' '.join(address(addr))}{secondary} {addr.label or device.name}"
            yield "       valid_lft forever preferred_lft forever"


def _link(network: Network, room: str, device: Device, mode: str) -> Iterator[str]:
    """The two lines of print_linkinfo (iproute2, ip/ipaddress.c), with the queueing discipline a virtual device has."""
    far = network.far((room, device.name))
    peer = network[far[0]].device(far[1]) if far is not None else None
    here = far is not None and far[0] == room
    name = device.name
    if peer is not None:
        name += f"@{peer.name}" if here else f"@if{peer.index}"
    elif isinstance(device, Ipip):
        name += f"@{device.link or 'NONE'}"
    carrier = device.up and _carrier(network[room], device)
    state = "DOWN" if not carrier else "UP" if device.kind in ("veth", "bridge", "nic") else "UNKNOWN"
    master = f" master {device.master}" if device.master else ""
    qdisc = "noqueue" if device.up or device.kind == "veth" else "noop"
    yield (
        f"{device.index}: {name}: <{','.join(_flags(device, carrier))}> mtu {device.mtu} qdisc {qdisc}{master} "
        f"state {state}{mode} group default qlen 1000"
    )
    netns = f" link-netns {far[0]}" if far is not None and not here else ""
    if isinstance(device, Ipip):
        yield f"    link/ipip {device.local} {'peer' if device.remote else 'brd'} {device.remote}"
    elif device.kind == "loopback":
        yield f"    link/loopback {ZERO_MAC} brd {ZERO_MAC}"
    else:
        yield f"    link/ether {device.mac} brd ff:ff:ff:ff:ff:ff{netns}"


def _carrier(room: Netns, device: Device) -> bool:
    """A bridge has a carrier while one of its ports runs; everything else says so itself."""
    return any(p.running for p in room.ports(device.name)) if isinstance(device, Bridge) else device.running


def _flags(device: Device, carrier: bool) -> Iterator[str]:
    if device.up and not carrier:
        yield "NO-CARRIER"
    if device.kind == "loopback":
        yield "LOOPBACK"
    elif isinstance(device, Ipip):
        yield from ("POINTOPOINT", "NOARP") if device.remote else ("NOARP",)
    else:
        yield "BROADCAST"
        yield from () if device.kind == "dummy" else ("MULTICAST",)
        yield from ("NOARP",) if device.noarp else ()
    if device.up:
        yield "UP"
        yield from ("LOWER_UP",) if carrier else ()


def _show_ipvs(network: Network, room: str) -> Iterator[str]:
    ipvs = network[room].ipvs
    yield from ipvs.listing() if ipvs.services else ()


SHOWN = {
    "addrs": _show_addrs,
    "fdb": _show_fdb,
    "ip-rules": _show_ip_rules,
    "ipvs": _show_ipvs,
    "links": _show_links,
    "neigh": _show_neighbours,
    "resolv.conf": _show_resolv_conf,
    "routes": _show_routes,
    "rules": _show_rules,
    "sets": _show_sets,
}
"""What `show` can print: {word: printer}."""
