"""The verbs of iproute2, bridge and sysctl, which fill and change the tables of a namespace as the kernel does.

What the kernel refuses is a ValueError of one line; a device that is not there a KeyError.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from packetwalk.addr import ANY, ZERO_MAC, IPv4, Mac, Prefix
from packetwalk.apps.program import App
from packetwalk.hint import nearest
from packetwalk.netns import learned
from packetwalk.netns.device import SCOPE_GLOBAL, SCOPE_HOST, SCOPE_LINK, SCOPES
from packetwalk.netns.fdb import FdbEntry
from packetwalk.netns.fib_table import KNOWN_TYPES, Nexthop, Route
from packetwalk.netns.links import Links
from packetwalk.netns.neighbour import VALID, Neighbour
from packetwalk.netns.policy_rule import RULE_ERRNO, TABLES, PolicyRule
from packetwalk.netns.socket import Socket
from packetwalk.packet import ETH_ARP, PROTO_SCTP, PROTO_TCP, PROTO_UDP


class Verbs(Links):
    """Tables, and what may be done to them."""

    # -- ip route, ip rule -----------------------------------------------------------------------------------------

    def route_add(self, dst: str | Prefix, **words: Any) -> Route:
        """`ip route add`, with the words of `route`. ValueError where one of that prefix and metric is there."""
        route = self.route(dst, **words)
        if self._alike(route):
            raise ValueError(f"{self.name}: there is a route to {route.dst} with metric {route.metric} already")
        self._put(route)
        return route

    def route_append(self, dst: str | Prefix, **words: Any) -> Route:
        """`ip route append`: behind those of the same prefix and metric."""
        route = self.route(dst, **words)
        self._put(route)
        return route

    def route_replace(self, dst: str | Prefix, **words: Any) -> Route:
        """`ip route replace`: in the place of the first one of that prefix and metric, if there is one."""
        route = self.route(dst, **words)
        if old := self._alike(route):
            self.fib.replace(old, route)
            learned.free(self.fib)
        else:
            self._put(route)
        return route

    def _alike(self, route: Route) -> Route | None:
        """fib_find_alias: the first route of the same prefix, TOS and metric."""
        same = (r for r in self.fib.table(route.table).covering(route.dst.addr) if r.dst == route.dst)
        return next((r for r in same if (r.tos, r.metric) == (route.tos, route.metric)), None)

    def route(self, dst: str | Prefix, *, via: str | IPv4 = "", dev: str = "", type: str = "unicast",
              src: str | IPv4 = "", metric: int = 0, table: str | int = "main", onlink: bool = False, scope: str = "",
              proto: str = "boot", mtu: int = 0, nexthops: tuple[Nexthop, ...] = ()) -> Route:  # fmt: skip
        """The route that words of `ip route` describe, put nowhere. Without `dev` the gateway's own route says which;
        the gateway must be on a link unless onlink."""
        prefix = dst if isinstance(dst, Prefix) else Prefix.parse(dst)
        if type not in KNOWN_TYPES:
            raise ValueError(f"there is no route type called {type!r}; there are {', '.join(sorted(KNOWN_TYPES))}")
        if scope and scope not in SCOPES:
            raise ValueError(f"there is no scope called {scope!r}; there are {', '.join(SCOPES)}")
        if src and not self.is_own(IPv4(src)):
            raise ValueError(f"{self.name}: src {src} is not an address of this namespace")
        gateway = IPv4(via) if via else ANY
        if not nexthops and type in ("unicast", "local", "broadcast"):
            nexthops = (self._nexthop(gateway, dev, onlink),)
        default_scope = {"local": SCOPE_HOST, "broadcast": SCOPE_LINK}.get(type, SCOPE_GLOBAL)
        if type == "unicast" and nexthops and not any(h.via for h in nexthops):
            default_scope = SCOPE_LINK
        return Route(
            prefix,
            nexthops,
            type,
            SCOPES[scope] if scope else default_scope,
            IPv4(src) if src else ANY,
            metric,
            proto=proto,
            table=_table(table),
            mtu=mtu,
        )

    def _nexthop(self, gateway: IPv4, dev: str, onlink: bool) -> Nexthop:
        if dev:
            self.device(dev)
        if gateway and self.fib.is_local(gateway):
            raise ValueError(f"{self.name}: nexthop {gateway} is an address of this namespace itself")
        if gateway and not onlink:
            found = next((r for r in self.fib.table(254).covering(gateway)), None)
            if found is None or found.scope < SCOPE_LINK or (dev and found.dev != dev):
                raise ValueError(
                    f"{self.name}: nexthop {gateway} is not on a link{' of ' + dev if dev else ''}; give `onlink`"
                )
            dev = dev or found.dev
        if not dev:
            raise ValueError(f"{self.name}: a route needs `via` or `dev`")
        return Nexthop(dev, gateway, onlink=onlink)

    def route_del(self, dst: str | Prefix, *, table: str | int = "main", via: str | IPv4 = "", **fields: Any) -> Route:
        """`ip route del`: the first route to exactly that prefix, with that gateway and those fields of a Route if any
        (`dev`, `type`, `metric`, `proto`, `src`). ValueError if there is none."""
        prefix = dst if isinstance(dst, Prefix) else Prefix.parse(dst)
        number, gateway = _table(table), IPv4(via) if via else None
        for route in self.fib.routes(number):
            if route.dst != prefix or (gateway is not None and all(h.via != gateway for h in route.nexthops)):
                continue
            if all(getattr(route, name) == value for name, value in fields.items()):
                self.fib.table(number).remove(route)
                learned.free(self.fib)
                return route
        wanted = " ".join([str(prefix), *([f"via {via}"] if via else []), *(f"{k} {v}" for k, v in fields.items())])
        routes = self.fib.routes(number)
        same = ", ".join(str(r) for r in routes if r.dst == prefix)
        there = f"there is {same}" if same else nearest(wanted, (str(r.dst) for r in routes))
        raise ValueError(f"{self.name} has no route {wanted} in table {table}; {there}")

    def rule_add(self, priority: int, action: int | str, **selectors: Any) -> PolicyRule:
        """`ip rule add`: `action` is a table (name or number) or blackhole, unreachable, prohibit."""
        number = TABLES.get(action, action) if isinstance(action, str) else action
        if isinstance(number, str) and number not in (*RULE_ERRNO, "goto", "nop"):
            raise ValueError(
                f"{self.name}: a rule leads to a table, {', '.join(RULE_ERRNO)}, goto or nop, not to {action!r}"
            )
        rule = PolicyRule(priority, number, **selectors)
        self.fib.set_rules([*self.fib.rules, rule])
        self.fib.attach_rules(self.devices)
        return rule

    def rule_del(self, **fields: Any) -> PolicyRule:
        """`ip rule del`: the first rule with all of those fields of a PolicyRule. ValueError if there is none."""
        for rule in self.fib.rules:
            if all(getattr(rule, name) == value for name, value in fields.items()):
                self.fib.set_rules([r for r in self.fib.rules if r is not rule])
                self.fib.attach_rules(self.devices)
                return rule
        raise ValueError(f"{self.name} has no such rule; there are {', '.join(map(str, self.fib.rules))}")

    # -- ip neigh, bridge fdb --------------------------------------------------------------------------------------

    def neigh_add(self, dst: str | IPv4, lladdr: str | Mac, dev: str, *, state: str = "PERMANENT") -> Neighbour:
        """`ip neigh add`. State is one of `ip neigh`'s words in capitals."""
        self.device(dev)
        if state not in VALID | {"FAILED", "INCOMPLETE", "NONE"}:
            raise ValueError(
                f"there is no neighbour state called {state!r}; there are {', '.join(sorted(VALID))}, FAILED"
            )
        entry = Neighbour(IPv4(dst), dev, Mac(lladdr), state, confirmed=0 if state == "REACHABLE" else -(10**12))
        self.neighbours.put(entry)
        return entry

    def neigh_del(self, dst: str | IPv4, dev: str) -> None:
        """`ip neigh del`. ValueError if there is none."""
        self.device(dev)
        if self.neighbours.get(dev, IPv4(dst)) is None:
            there = nearest(str(dst), (str(n.dst) for n in self.neighbours.all() if n.dev == dev))
            raise ValueError(f"{self.name} has no neighbour {dst} on {dev}; {there}")
        while self.neighbours.get(dev, IPv4(dst)) is not None:  # our own entry, and then a shared one below it
            self.neighbours.remove(dev, IPv4(dst))

    def fdb_append(
        self, dev: str, mac: str | Mac, *, dst: str | IPv4 = "", via: str = "", port: int = 0, vni: int = -1
    ) -> FdbEntry:
        """`bridge fdb append`: on a vxlan with `dst` a tunnel end, on a bridge port a static entry.

        Only the all-zero address has several ends; with another that is there already nothing changes
        (vxlan_fdb_update_existing).
        """
        device = self.device(dev)
        if device.kind != "vxlan" or not dst:
            entry = FdbEntry(Mac(mac), dev, master=device.master or dev, static=True)
            self.bridge_fdb.put(entry)
            return entry
        entry = FdbEntry(Mac(mac), dev, IPv4(dst), via, port, vni, static=True)
        old = self.vxlan_fdb.exact(dev, entry.mac)
        if not old or (entry.mac == ZERO_MAC and entry not in old):
            self.vxlan_fdb.set(dev, entry.mac, (*old, entry))
        return entry

    def fdb_replace(self, dev: str, mac: str | Mac, *, dst: str | IPv4, via: str = "", port: int = 0, vni: int = -1
                    ) -> FdbEntry:  # fmt: skip
        """`bridge fdb replace` on a vxlan: one tunnel end in the place of what was known. Not for the all-zero one."""
        if Mac(mac) == ZERO_MAC:
            raise ValueError(f"{self.name}: the kernel replaces no entry of {ZERO_MAC}; del the end, then append one")
        self.device(dev)
        entry = FdbEntry(Mac(mac), dev, IPv4(dst), via, port, vni, static=True)
        self.vxlan_fdb.set(dev, entry.mac, (entry,))
        return entry

    def fdb_del(self, dev: str, mac: str | Mac, *, dst: str | IPv4 = "", master: bool = False) -> None:
        """`bridge fdb del`: a tunnel end of a vxlan (all of them without `dst`), or of its bridge with `master`.

        ValueError if there is none.
        """
        device, key = self.device(dev), Mac(mac)
        if master:
            entry = self.bridge_fdb.entries.get((device.master or dev, key))
            if entry is None or entry.dev != dev:
                there = nearest(str(key), (str(e.mac) for e in self.bridge_fdb.entries.values() if e.dev == dev))
                raise ValueError(f"{self.name} has no bridge FDB entry {key} on {dev}; {there}")
            del self.bridge_fdb.entries[entry.master, key]
            return
        old = self.vxlan_fdb.exact(dev, key)
        rest = tuple(e for e in old if dst and e.dst != IPv4(dst))
        if len(rest) == len(old):
            end = f" dst {dst}" if dst else ""
            there = nearest(f"{key}{end}", (f"{e.mac} dst {e.dst}" for e in self.vxlan_fdb.all() if e.dev == dev))
            raise ValueError(f"{self.name} has no FDB entry {key}{end} on {dev}; {there}")
        self.vxlan_fdb.set(dev, key, rest)

    # -- sysctl, sockets -------------------------------------------------------------------------------------------

    def sysctl(self, key: str, value: int | str) -> None:
        """`sysctl -w KEY=VALUE`. A dot in a device's name is written as a slash; ip_forward sets every device."""
        number = int(value)
        parts = key.split(".")
        if parts[:3] == ["net", "ipv4", "conf"] and len(parts) == 5:
            self._conf_set(parts[3].replace("/", "."), parts[4], number)
        else:
            self.sysctls[key] = number
            if key == "net.ipv4.ip_forward":
                self._conf_set("all", "forwarding", number)
        self.changed()

    def _conf_set(self, dev: str, key: str, value: int) -> None:
        before = self.conf_values.setdefault(dev, {}).get(key, 0)
        self.conf_values[dev][key] = value
        if dev == "all" and key == "forwarding" and value != before:  # inet_forward_change: every device follows
            self.conf_values["all"]["accept_redirects"] = int(not value)
            for other in {"default", *self.devices, *self.conf_values}:
                self.conf_values.setdefault(other, {})[key] = value

    def listen(
        self, port: int, *, addr: str | IPv4 = "", app: App | str = "echo", protos: Iterable[str] = ("udp", "tcp")
    ) -> None:
        """A UDP echo and a TCP echo server on that port, or another program."""
        where = IPv4(addr) if addr else ANY
        for proto in protos:
            number = {"udp": PROTO_UDP, "tcp": PROTO_TCP, "sctp": PROTO_SCTP}[proto]
            self.sockets.bind(Socket(number, port, where, listening=True, app=app))

    def arp_respond(self, addr: str | IPv4, dev: str) -> None:
        """A program that answers ARP for an address which no device has, through a packet socket: MetalLB's speaker."""
        self.device(dev)
        socket = Socket(ETH_ARP, 0, IPv4(addr), app="responder", dev=dev)
        self.sockets.responders[dev, int(socket.addr)] = socket


def _table(name: str | int) -> int:
    """A routing table by name or number. ValueError for what is neither."""
    if isinstance(name, str) and not name.isdecimal() and name not in TABLES:
        raise ValueError(f"there is no routing table {name!r}: a number or one of {', '.join(TABLES)} was expected")
    return TABLES[name] if isinstance(name, str) and name in TABLES else int(name)
