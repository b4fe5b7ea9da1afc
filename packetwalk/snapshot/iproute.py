"""`ip -j`, `bridge -j`, sysctl.conf and the layout of a recording -> Network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from packetwalk.addr import ANY, EVERYTHING, IPv4, Mac, Prefix
from packetwalk.netns.device import Vxlan
from packetwalk.netns.fdb import FdbEntry
from packetwalk.netns.fib_table import Nexthop, Route
from packetwalk.netns.namespace import Netns
from packetwalk.netns.neighbour import Neighbour
from packetwalk.netns.policy_rule import TABLES, PolicyRule
from packetwalk.network import Network
from packetwalk.snapshot.ipset_save import load_ipsets
from packetwalk.snapshot.iptables_save import load_iptables
from packetwalk.snapshot.ipvsadm_save import load_ipvs
from packetwalk.snapshot.links import device_of, load_addrs, load_link, load_ports, scope_of
from packetwalk.snapshot.nft_list import load_nft
from packetwalk.snapshot.reader import (
    U8,
    U16,
    U24,
    U32,
    Record,
    SnapshotError,
    flag,
    number,
    read_json,
    read_text,
    records,
    shown,
    whole,
)

LONG_AGO = -(10**15)

# attributes that the datapath knows, or that have no meaning for it
DULL_ROUTE = {
    "dst", "gateway", "dev", "type", "table", "protocol", "scope", "prefsrc", "metric", "flags", "nexthops", "metrics",
    "tos", "pref", "weight", "via", "cache",
}  # fmt: skip
DULL_RULE = {
    "priority", "src", "srclen", "dst", "dstlen", "iif", "oif", "fwmark", "fwmask", "table", "action", "not", "tos",
    "protocol", "ipproto", "sport", "sport_start", "sport_end", "dport", "dport_start", "dport_end",
    "suppress_prefixlen", "goto", "nop", "proto", "iif_detached", "oif_detached", "unresolved",
}  # fmt: skip


def load_snapshot(
    folder: str | Path, *, state: int = 0, seed: int = 0, sysctls: Mapping[str, int] = MappingProxyType({})
) -> Network:
    """Read a snapshot folder: snapshot.json and state/K/NETNS/*. State K > 0 lies over state 0.

    sysctls: values to take where a file does not say, in the place of the kernel's defaults.

    SnapshotError, in one line with file and place, for anything missing, cut off or malformed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SnapshotError(f"{folder}: no such folder; a snapshot folder has snapshot.json and state/0/")
    index = read_json(folder / "snapshot.json", dict)
    network = Network(folder.name)
    top = Record(index, folder / "snapshot.json", "top")
    for name, about in top.sub("netns").values.items():
        record = Record(about, top.path, f"netns {name}")
        here = folder / "state" / str(state) / name
        room = load_netns(name, here if here.is_dir() else folder / "state" / "0" / name, seed, sysctls)
        room.conntrack = record.get("conntrack", False, flag)
        network.add(room, record.get("kind", "", str))
    for i, wire in enumerate(top.items("wires")):
        _connect(network, wire, top.path, i)
    listeners = top.sub("listeners")
    for name in listeners.values:
        if name not in network:
            raise SnapshotError(f"{listeners.path}: listeners: there is no netns {name!r}")
        for port in listeners.numbers(name, 1, 65535):
            network[name].listen(port)
    return network


def _connect(network: Network, wire: Any, path: Path, i: int) -> None:
    try:
        (a, adev), (b, bdev) = wire
        network.connect((a, adev), (b, bdev))
    except (ValueError, TypeError, KeyError) as error:
        if not isinstance(error, KeyError) and "already" not in str(error):
            error = ValueError(f"two ends [netns, device] were expected, not {shown(wire)}")
        raise SnapshotError(f"{path}: wires[{i}]: {error.args[0]}") from None


def load_netns(name: str, folder: Path, seed: int = 0, sysctls: Mapping[str, int] = MappingProxyType({})) -> Netns:
    """One namespace from its folder of tool output; `sysctls` where its sysctl.conf does not say."""
    if not folder.is_dir():
        raise SnapshotError(f"{folder}: the tables of netns {name!r} are missing")
    room = Netns(name, seed)
    del room.devices["lo"]
    room.fib.tables = {254: type(room.fib.tables[254])(), 255: type(room.fib.tables[255])()}
    links = records(folder / "link.json")
    for link in links:
        load_link(room, link)
    load_ports(room, links)
    for entry in records(folder / "addr.json"):
        load_addrs(room, entry)
    for entry in records(folder / "route.json"):
        route = read_route(entry)
        for hop in route.nexthops:
            device_of(room, entry, hop.dev)
        room.fib.add(route)
    room.fib.set_rules([read_rule(entry) for entry in records(folder / "rule.json")])
    room.sysctls.update(sysctls)
    _load_sysctls(room, folder / "sysctl.conf")
    load_neighbours(room, records(folder / "neigh.json"), records(folder / "fdb.json"))
    if (folder / "iptables-save.txt").exists():
        room.netfilter = load_iptables(folder / "iptables-save.txt")
    if (folder / "ipset-save.txt").exists():
        room.netfilter.sets = load_ipsets(folder / "ipset-save.txt")
    if (folder / "nftables.txt").exists():
        listed = load_nft(folder / "nftables.txt")
        room.netfilter.nft = listed.tables
        room.unevaluated = listed.unevaluated
    if (folder / "ipvsadm-save.txt").exists():
        room.ipvs = load_ipvs(folder / "ipvsadm-save.txt")
    room.changed()
    return room


# -- ip -j route, rule -------------------------------------------------------------------------------------------------


def _table(value: Any) -> int:
    return TABLES[value] if isinstance(value, str) and value in TABLES else U32(value)


def _prefix(value: Any) -> Prefix:
    if not isinstance(value, str):
        raise ValueError(f"text was expected, not {shown(value)}")
    return Prefix.parse(value)


def read_route(entry: Record) -> Route:
    """One object of `ip -j route show table all`."""
    kind = entry.get("type", "unicast", str)
    hops = tuple(_hop(n) for n in entry.subs("nexthops"))
    if not hops and kind in ("unicast", "local", "broadcast", "multicast") and "nhid" not in entry:
        hops = (_hop(entry),)
    metrics = entry.subs("metrics")
    metric = metrics[0] if metrics else None
    locked = metric is not None and "mtu" in metric.words("lock")
    return Route(
        entry.need("dst", _prefix),
        hops,
        kind,
        entry.get("scope", 0, scope_of),
        entry.get("prefsrc", ANY, IPv4),
        entry.get("metric", 0, U32),
        entry.get("tos", 0, U8),
        entry.get("protocol", "boot", str),
        entry.get("table", 254, _table),
        metric.get("mtu", 0, U32) if metric is not None else 0,
        locked,
        metric.get("advmss", 0, U32) if metric is not None else 0,
        next((f"{k} {shown(entry.values[k])}" for k in entry.values if k not in DULL_ROUTE), ""),
    )


def _hop(entry: Record) -> Nexthop:
    flags = entry.words("flags")
    via = entry.get("gateway", ANY, IPv4)
    weight = entry.get("weight", 1, whole(1, 256))
    return Nexthop(entry.need("dev", str), via, weight, "onlink" in flags, "dead" in flags, "linkdown" in flags)


def read_rule(entry: Record) -> PolicyRule:
    """One object of `ip -j rule`."""
    action: int | str = entry.get("action", "", str) or ("goto" if "goto" in entry else "nop" if "nop" in entry else "")
    if not action:
        action = entry.need("table", _table)
    mark = entry.get("fwmark", 0, U32)
    return PolicyRule(
        entry.need("priority", U32),
        action,
        _selector(entry, "src"),
        _selector(entry, "dst"),
        entry.get("iif", "", str),
        entry.get("oif", "", str),
        mark,
        entry.get("fwmask", 0xFFFFFFFF if "fwmark" in entry else 0, U32),
        entry.get("tos", 0, U8),
        "not" in entry,
        entry.get("ipproto", 0, _proto),
        _range(entry, "sport"),
        _range(entry, "dport"),
        entry.get("suppress_prefixlen", -1, whole(0, 32)),
        entry.get("goto", 0, U32),
        next((f"{k} {shown(entry.values[k])}" for k in entry.values if k not in DULL_RULE), ""),
    )


def _selector(entry: Record, side: str) -> Prefix:
    if entry.get(side, "all", str) == "all":
        return EVERYTHING
    return Prefix.of(entry.need(side, IPv4), entry.get(f"{side}len", 32, whole(0, 32)))


def _proto(value: Any) -> int:
    known = {"icmp": 1, "ipencap": 4, "tcp": 6, "udp": 17, "gre": 47, "ipv6-icmp": 58, "sctp": 132}
    return known[value] if isinstance(value, str) and value in known else U8(value)


def _range(entry: Record, side: str) -> tuple[int, int] | None:
    if side in entry:
        return entry.need(side, U16), entry.need(side, U16)
    if f"{side}_start" in entry:
        return entry.need(f"{side}_start", U16), entry.need(f"{side}_end", U16)
    return None


# -- sysctl, neighbours, fdb -------------------------------------------------------------------------------------------


def _load_sysctls(room: Netns, path: Path) -> None:
    for n, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(("#", ";")):
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise SnapshotError(f"{path}:{n}: `key = value` was expected")
        parts = key.split(".")
        try:
            if parts[:3] == ["net", "ipv4", "conf"] and len(parts) == 5:
                room.conf_values.setdefault(parts[3].replace("/", "."), {})[parts[4]] = int(value)
            else:
                room.sysctls[key] = int(value)
        except ValueError:
            raise SnapshotError(f"{path}:{n}: {key}: a number was expected, not {value!r}") from None


def load_neighbours(room: Netns, neigh: list[Record], fdb: list[Record]) -> None:
    """Replace a namespace's neighbours and FDBs by what `ip -j neigh` and `bridge -j fdb` list."""
    room.neighbours.entries.clear()
    room.bridge_fdb.entries.clear()
    room.vxlan_fdb.entries.clear()
    for entry in neigh:
        dst, dev = entry.need("dst", IPv4), entry.need("dev", str)
        states = entry.words("state")
        device_of(room, entry, dev)
        lladdr = entry.get("lladdr", None, Mac)
        state = states[0] if states else "NONE"
        if state == "INCOMPLETE":  # its question is no longer on the way: the next packet asks again
            state = "FAILED"
        room.neighbours.put(Neighbour(dst, dev, lladdr, state, LONG_AGO, confirmed=0))
    for entry in fdb:
        _load_fdb_entry(room, entry)
    for device in room.devices.values():  # a bridge knows its own and its ports' addresses whatever the list shows
        bridge = device.name if device.kind == "bridge" else device.master
        if bridge and (bridge, int(device.mac)) not in room.bridge_fdb.entries:
            room.bridge_fdb.put(FdbEntry(device.mac, device.name, master=bridge, local=True))


def _load_fdb_entry(room: Netns, entry: Record) -> None:
    name, mac = entry.need("ifname", str), entry.need("mac", Mac)
    device = device_of(room, entry, name)
    permanent = entry.get("state", "", str) in ("permanent", "static", "noarp")
    master = entry.get("master", "", str)
    if isinstance(device, Vxlan) and not master:
        oddity = next((f"{k} {shown(entry.values[k])}" for k in ("nhid", "nh_id", "src_vni") if k in entry), "")
        via, port, vni = entry.get("viaIf", "", str), entry.get("port", 0, U16), entry.get("vni", -1, U24)
        dst = entry.get("dst", ANY, IPv4)
        room.vxlan_fdb.append(FdbEntry(mac, name, dst, via, port, vni, static=permanent, oddity=oddity))
    elif master:
        if entry.get("vlan", 0, number) and (master, int(mac)) in room.bridge_fdb.entries:
            return  # the same address once more for a VLAN; the plain entry decides without filtering
        local = entry.get("state", "", str) == "permanent"
        room.bridge_fdb.put(FdbEntry(mac, name, master=master, local=local, static=permanent, updated=0))
