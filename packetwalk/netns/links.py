"""Devices and addresses: `ip link` and `ip addr`, and what other tables do when a link comes, goes or changes.

What the kernel refuses is a ValueError of one line; a device that is not there a KeyError.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from packetwalk.addr import ZERO_MAC, IPv4, Prefix
from packetwalk.hint import nearest
from packetwalk.netns import learned
from packetwalk.netns.device import SCOPE_HOST, SCOPE_LINK, SCOPES, Addr, Bridge, Device, Port, Veth, Vxlan
from packetwalk.netns.fdb import FdbEntry
from packetwalk.netns.fib_table import Nexthop, Route
from packetwalk.netns.policy_rule import TABLES
from packetwalk.netns.tables import Tables

D = TypeVar("D", bound=Device)


class HostAddr(NamedTuple):
    """An address of 32 bits on a device, and the route the kernel keeps for it."""

    addr: Addr
    route: Route


def host_addrs(dev: str, addrs: Iterable[IPv4]) -> tuple[HostAddr, ...]:
    """What many addresses of 32 bits become on a device of that name: namespaces that have the same share it."""
    hop = (Nexthop(dev),)
    return tuple(
        HostAddr(
            Addr(local, 32, SCOPES["global"], None, False, dev),
            Route(Prefix.of(local, 32), hop, "local", SCOPE_HOST, local, proto="kernel", table=TABLES["local"]),
        )
        for local in addrs
    )


class Links(Tables):
    """Tables, and the verbs of links and addresses."""

    # -- ip link ---------------------------------------------------------------------------------------------------

    def link_add(self, name: str, device: D, *, index: int = 0) -> D:
        """`ip link add NAME type ...`. Device numbers count up unless one is given."""
        if name in self.devices:
            raise ValueError(f"{self.name} already has a device {name!r}")
        device.name = name
        device.index = index or max((d.index for d in self.devices.values()), default=0) + 1
        self.devices[name] = device
        if device.kind == "bridge":
            self.bridge_fdb.put(FdbEntry(device.mac, name, master=name, local=True))
        if isinstance(device, Vxlan) and device.remote:
            self.vxlan_fdb.append(FdbEntry(ZERO_MAC, name, device.remote, device.link, static=True))
        self.changed()
        return device

    def link_del(self, name: str) -> None:
        """`ip link del NAME`, with all that names it: addresses, routes, FDB entries, a vxlan that is bound to it.

        ValueError for `lo`, and for an end of a wire, which would take its other end along.
        """
        device = self.device(name)
        if device.kind == "loopback" or (isinstance(device, Veth) and device.peer is not None):
            why = "the loopback device" if device.kind == "loopback" else "an end of a wire"
            raise ValueError(f"{self.name}: {name} is {why}, which cannot be deleted; it can be set down")
        for bound in [d.name for d in self.devices.values() if isinstance(d, Vxlan) and d.link == name]:
            self.link_del(bound)
        while device.addrs:
            self.addr_del(name, str(device.addrs[0]))
        self.link_set(name, up=False, master="")
        for port in self.ports(name):
            self.link_set(port.name, master="")
        for entry in self.vxlan_fdb.all():
            if entry.dev == name:
                self.vxlan_fdb.set(name, entry.mac, ())
        self.bridge_fdb.entries = {key: e for key, e in self.bridge_fdb.entries.items() if name not in (key[0], e.dev)}
        self.conf_values.pop(name, None)
        del self.devices[name]
        self.changed()

    def link_set(self, name: str, *, mtu: int | None = None, up: bool | None = None, master: str | None = None,
                 port: dict[str, Any] | None = None) -> None:  # fmt: skip
        """`ip link set NAME ...`: MTU in bytes, up or down, into a bridge (or out of it with ""), port flags."""
        device = self.device(name)
        if mtu is not None and mtu != device.mtu:
            self._resize(device, mtu)
            if isinstance(device, Bridge):
                device.mtu_set = True
            self._bridge_mtu(device.master)
        if up is not None and device.up != up:
            device.up = up
            self._routes_follow(device)
            if not up:
                self._forget(device)
                self.conns.device_gone(name)
            self._port_follows(device)
        if master is not None:
            if master:
                self.device(master)
            self._move(device, master)
        if port is not None:
            device.port = dataclasses.replace(device.port, **port)
        self.changed()

    def _move(self, device: Device, master: str) -> None:
        """br_add_if and del_nbp: into another bridge, or out of its own. What was known behind the port is forgotten; a
        bridge that its last port leaves has no carrier until it gets another."""
        left = device.master
        if left != master:
            fdb = self.bridge_fdb.entries
            for key in [k for k, e in fdb.items() if k[0] == left and e.dev == device.name]:
                del fdb[key]
        device.master = master
        if master:
            number = max((d.port.number for d in self.devices.values() if d.master == master), default=0) + 1
            device.port = Port(number=number)
            self.bridge_fdb.put(FdbEntry(device.mac, device.name, master=master, local=True))
        self.changed()
        for bridge in {left, master} - {""}:
            self._bridge_mtu(bridge)
            self.devices[bridge].carrier &= bool(self.ports(bridge))
            self.carrier_changed(bridge)

    def _resize(self, device: Device, mtu: int) -> None:
        learned.follow_mtu(self.fib, device.name, device.mtu, mtu)
        device.mtu = mtu

    def _bridge_mtu(self, bridge: str) -> None:
        """br_mtu_auto_adjust: a bridge whose own MTU nobody has set takes the smallest of its ports'."""
        device = self.devices.get(bridge)
        if isinstance(device, Bridge) and not device.mtu_set:
            self._resize(device, min((d.mtu for d in self.devices.values() if d.master == bridge), default=1500))

    def _forget(self, device: Device) -> None:
        """neigh_ifdown, vxlan_stop and br_stp_disable_bridge: what a device that goes down does not keep."""
        self.neighbours.forget(device.name)
        for far in self.vxlan_fdb.all():
            if far.dev == device.name and not far.static:
                self.vxlan_fdb.set(far.dev, far.mac, ())
        self.bridge_fdb.forget(bridge=device.name)

    def carrier_changed(self, dev: str) -> None:
        """The far end of a device went down or came up (NETDEV_CHANGE): without a carrier it forgets its neighbours,
        the permanent ones aside (neigh_carrier_down)."""
        device = self.device(dev)
        if not device.running:
            self.neighbours.forget(dev, permanent=False)
        self._port_follows(device)

    def _port_follows(self, device: Device) -> None:
        """br_port_carrier_check: a port without a carrier forgets whom it learned; its bridge may lose its own."""
        if device.master:
            if not device.running:
                self.bridge_fdb.forget(port=device.name)
            self.carrier_changed(device.master)

    def device(self, name: str) -> Device:
        """The device of that name. KeyError, in one line, if there is none."""
        if name not in self.devices:
            raise KeyError(f"{self.name} has no device {name!r}; {nearest(name, self.devices)}")
        return self.devices[name]

    # -- ip addr ---------------------------------------------------------------------------------------------------

    def addr_add(self, dev: str, text: str, *, scope: str = "global", routes: bool = True) -> Addr:
        """`ip addr add A/N dev DEV`, with the routes the kernel adds by itself unless `routes` is off."""
        device = self.device(dev)
        address, slash, bits = text.partition("/")
        local = IPv4(address)
        length = Prefix.parse(f"0.0.0.0/{bits}").length if slash else 32
        if scope not in SCOPES:
            raise ValueError(f"there is no scope called {scope!r}; there are {', '.join(SCOPES)}")
        if any(a.local == local and a.length == length for a in device.addrs):
            raise ValueError(f"{self.name}: {dev} already has the address {text}")
        net = Prefix.of(local, length)
        number = SCOPES[scope]
        secondary = any(a.length == length and a.covers(local) and not a.secondary for a in device.addrs)
        broadcast = net.broadcast if length < 31 and number < SCOPE_HOST else None
        addr = Addr(local, length, number, broadcast, secondary, dev)
        device.addrs.append(addr)
        for route in self._addr_routes(dev, addr) if routes else ():
            self._put(route)
        self.changed()
        return addr

    def addrs_share(self, dev: str, made: Sequence[HostAddr]) -> None:
        """`ip addr add A/32 dev DEV` for many addresses, none of which is there yet (see `host_addrs`)."""
        device = self.device(dev)
        if taken := {a.local for a in device.addrs} & {one.addr.local for one in made}:
            raise ValueError(f"{self.name}: {dev} already has the address {min(taken)}/32")
        device.addrs += [one.addr for one in made]
        for one in made:
            self._put(one.route)
        self.changed()

    def addr_del(self, dev: str, text: str) -> Addr:
        """`ip addr del A/N dev DEV`, as __inet_del_ifa, fib_del_ifaddr and fib_sync_down_addr go about it."""
        device = self.device(dev)
        named = text if "/" in text else f"{text}/32"
        addr = next((a for a in device.addrs if str(a) == named), None)
        if addr is None:
            raise ValueError(f"{self.name}: {dev} has no address {text}; {nearest(text, map(str, device.addrs))}")
        old = [route for a in device.addrs for route in self._addr_routes(dev, a)]
        rest = [a for a in device.addrs if a is not addr]
        gone, device.addrs = device.addrs, rest if addr.secondary else self._without_primary(dev, addr, rest)
        kept = [route for a in device.addrs for route in self._addr_routes(dev, a)]
        for route in (r for r in old if r not in kept and r in self.fib.table(r.table)):
            self.fib.table(route.table).remove(route)
        for route in (r for r in kept if r not in old):
            self._put(route)
        if not device.addrs:  # fib_inetaddr_event: the last address takes the device's routes and neighbours along
            self.fib.link_down(dev, force=True)
            self.neighbours.forget(dev)
        lost = {a.local for a in gone} - {a.local for d in self.devices.values() for a in d.addrs}
        for table in self.fib.tables.values():
            for route in [r for r in table if r.src in lost]:
                table.remove(route)
        learned.free(self.fib)
        self.changed()
        return addr

    def _without_primary(self, dev: str, addr: Addr, rest: list[Addr]) -> list[Addr]:
        """The secondaries of a subnet go with its primary address, or the first of them takes its place (a sysctl
        says)."""
        second = [a for a in rest if a.secondary and a.length == addr.length and a.covers(addr.local)]
        if not any(self.conf_values.get(name, {}).get("promote_secondaries") for name in ("all", dev)):
            return [a for a in rest if a not in second]
        return [dataclasses.replace(a, secondary=False) if a in second[:1] else a for a in rest]

    def _addr_routes(self, dev: str, addr: Addr) -> Iterator[Route]:
        """The routes the kernel keeps for an address (fib_add_ifaddr)."""
        device = self.devices[dev]
        net, hop = Prefix.of(addr.local, addr.length), (Nexthop(dev),)
        first = next((a for a in device.addrs if a.length == addr.length and a.covers(addr.local)), addr)
        connected = Route(net, hop, scope=SCOPE_LINK, src=first.local, proto="kernel")
        local = connected._replace(type="local", scope=SCOPE_HOST, table=TABLES["local"])
        yield local._replace(dst=Prefix.of(addr.local, 32))
        if addr.secondary:
            return
        if addr.length < 32:
            yield local if device.kind == "loopback" else connected
        if addr.length < 31:
            yield connected._replace(dst=Prefix.of(net.broadcast, 32), type="broadcast", table=TABLES["local"])

    def _routes_follow(self, device: Device) -> None:
        """fib_disable_ip, or fib_add_ifaddr and fib_sync_up: routes go with a device that goes down; the kernel's own,
        and shares of those that lived on, come back with it."""
        if not device.up:
            self.fib.link_down(device.name)
            learned.free(self.fib)
            return
        for addr in device.addrs:
            held = {str(r) for table in self.fib.tables.values() for r in table}
            for route in self._addr_routes(device.name, addr):
                if str(route) not in held:
                    self._put(route)
        self.fib.link_up(device.name)

    def _put(self, route: Route) -> None:
        self.fib.add(route)
