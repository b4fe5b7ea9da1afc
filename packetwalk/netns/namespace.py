"""A network namespace: the tables, the verbs of iproute2 that fill them, and the three doors a packet may come by.

n = Netns("r1")
n.link_add("eth0", Veth(mac=Mac("02:00:00:00:00:01")))
n.addr_add("eth0", "10.0.0.1/24")
n.route_add("default", via="10.0.0.254")
steps = n.receive("eth0", packet, now=0)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any, TypeVar

from packetwalk.addr import ANY, ZERO_MAC, IPv4, Mac, Prefix
from packetwalk.netns import arp, fragment
from packetwalk.netns.device import SCOPE_GLOBAL, SCOPE_HOST, SCOPE_LINK, SCOPES, Addr, Device, Loopback, Port, Vxlan
from packetwalk.netns.fdb import FdbEntry
from packetwalk.netns.fib import KNOWN_TYPES, Nexthop, Route
from packetwalk.netns.local import prepare, tcp_app, tcp_send, tcp_timeout, udp_echo
from packetwalk.netns.neighbour import VALID, Neighbour
from packetwalk.netns.policy_rule import RULE_ERRNO, TABLES, PolicyRule
from packetwalk.netns.socket import Readable, Socket
from packetwalk.netns.stack import STAGES
from packetwalk.netns.tables import Tables
from packetwalk.netns.tcp import Connection
from packetwalk.netns.visit import Skb, Visit
from packetwalk.packet import PROTO_TCP, PROTO_UDP, Ip, Packet
from packetwalk.trace import TASK, Reason, Step, Timer

D = TypeVar("D", bound=Device)


class Netns(Tables):
    """One Linux network namespace. It knows no other room and no clock; times are nanoseconds and come from outside."""

    def __init__(self, name: str, seed: int = 0) -> None:
        super().__init__(name, seed)
        self.link_add("lo", Loopback())
        self.addr_add("lo", "127.0.0.1/8", scope="host")

    def __repr__(self) -> str:
        return f"<Netns {self.name}: {', '.join(self.devices)}>"

    def overlay(self) -> Netns:
        """A namespace with the same configuration that learns into tables of its own, so that a walk changes
        nothing."""
        copy = Netns.__new__(Netns)
        self.learn_into(copy)
        return copy

    # -- the three doors -------------------------------------------------------------------------------------------

    def receive(self, dev: str, packet: Packet, now: int) -> list[Step]:
        """A frame arrives on a device. Returns everything that happened to it and because of it."""
        v = Visit(self, STAGES, now)
        v.go("receive", Skb(packet, dev))
        return v.finish()

    def send(self, packet: Packet, now: int, socket: Socket | None = None) -> list[Step]:
        """A program sends an IP packet; source, TTL and DF that it leaves open are filled in as the socket says."""
        v = Visit(self, STAGES, now, task=True)
        skb = Skb(packet)
        skb.socket = socket
        ip = packet.headers[0]
        assert isinstance(ip, Ip)
        if socket is not None and socket.addr:
            if not self.is_own(socket.addr):
                v.drop(
                    skb, Reason.IP_OUTNOROUTES, f"{socket.addr} is not an address of {self.name}", errno="EADDRNOTAVAIL"
                )
                return v.finish()
            skb.packet = packet.swap(ip._replace(src=socket.addr))
        v.go("route_out", skb)
        return v.finish()

    def connect(self, conn: Connection, now: int) -> list[Step]:
        """A program opens a TCP connection; a zero local address is chosen by the route."""
        v = Visit(self, STAGES, now, task=True)
        about = Packet((Ip(conn.laddr, conn.raddr, PROTO_TCP, 60),))
        self.sockets.connections[conn.key] = conn
        unbound = conn.laddr and not self.is_own(conn.laddr)
        errno = "EADDRNOTAVAIL" if unbound else prepare(v, conn)
        if errno == "unsupported":
            v.go("route_out", Skb(about))
        elif errno:
            conn.state, conn.error = "CLOSED", errno
            v.drop(Skb(about), Reason.IP_OUTNOROUTES, None, errno=errno)
        else:
            tcp_send(v, conn, conn.open())
        return v.finish()

    def wake(self, timer: Timer, now: int) -> list[Step]:
        """A timer this room asked for is due."""
        v = Visit(self, STAGES, now, task=timer.context == TASK)
        key: Any = timer.key
        if timer.kind == "arp":
            arp.on_timer(v, *key)
        elif timer.kind == "napi":
            v.batch([Skb(packet, key) for packet in self.cells.pop(key, ())])
        elif timer.kind == "frag":
            fragment.expire(v, key)
        elif timer.kind == "tcp":
            tcp_timeout(v, key)
        elif timer.kind == "resume":
            stage, pieces = key
            v.go(stage, pieces[0])
            if len(pieces) > 1:
                v.timer(Timer(now, "resume", (stage, pieces[1:]), context=TASK), pieces[1].packet)
        elif isinstance(key, Readable):
            udp_echo(v, key)
        elif isinstance(key, Connection):
            tcp_app(v, key)
        return v.finish()

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
            self.fdb_append(name, ZERO_MAC, dst=device.remote, via=device.link)
        self.changed()
        return device

    def link_set(self, name: str, *, mtu: int | None = None, up: bool | None = None, master: str | None = None,
                 port: dict[str, Any] | None = None) -> None:  # fmt: skip
        """`ip link set NAME ...`: MTU in bytes, up or down, into a bridge (or out of it with ""), port flags."""
        device = self.device(name)
        if mtu is not None:
            device.mtu = mtu
        if up is not None and device.up != up:
            device.up = up
            self._routes_follow(device)
        if master is not None:
            if master:
                self.device(master)
            if device.master != master:  # del_nbp: what was known behind the port is forgotten
                fdb = self.bridge_fdb.entries
                for key in [k for k, e in fdb.items() if k[0] == device.master and e.dev == name]:
                    del fdb[key]
            device.master = master
            if master:
                number = max((d.port.number for d in self.devices.values() if d.master == master), default=0) + 1
                device.port = Port(number=number)
                self.bridge_fdb.put(FdbEntry(device.mac, name, master=master, local=True))
        if port is not None:
            device.port = dataclasses.replace(device.port, **port)
        self.changed()

    def device(self, name: str) -> Device:
        """The device of that name. KeyError, in one line, if there is none."""
        if name not in self.devices:
            raise KeyError(f"{self.name} has no device {name!r}; it has {', '.join(self.devices)}")
        return self.devices[name]

    # -- ip addr ---------------------------------------------------------------------------------------------------

    def addr_add(self, dev: str, text: str, *, scope: str = "global", routes: bool = True) -> Addr:
        """`ip addr add A/N dev DEV`, with the routes the kernel adds by itself (fib_add_ifaddr) unless `routes` is
        off."""
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
        if routes:
            self._addr_routes(dev, addr, net)
        self.changed()
        return addr

    def _addr_routes(self, dev: str, addr: Addr, net: Prefix, held: Collection[str] = ()) -> None:
        hop = (Nexthop(dev),)
        first = next((a for a in self.devices[dev].addrs if a.length == addr.length and a.covers(addr.local)), addr)
        connected = Route(net, hop, scope=SCOPE_LINK, src=first.local, proto="kernel")
        local = connected._replace(type="local", scope=SCOPE_HOST, table=TABLES["local"])
        broadcast = connected._replace(type="broadcast", table=TABLES["local"])
        wanted = [local._replace(dst=Prefix.of(addr.local, 32))]
        if self.devices[dev].kind == "loopback":
            if addr.length < 32 and not addr.secondary:
                wanted.append(local)
        elif addr.length < 32 and not addr.secondary:
            wanted.append(connected)
        if addr.length < 31 and not addr.secondary:
            wanted.append(broadcast._replace(dst=Prefix.of(net.broadcast, 32)))
        for route in wanted:
            if str(route) not in held:
                self._put(route)

    # -- ip route, ip rule -----------------------------------------------------------------------------------------

    def route_add(
        self,
        dst: str | Prefix,
        *,
        via: str | IPv4 = "",
        dev: str = "",
        type: str = "unicast",
        src: str | IPv4 = "",
        metric: int = 0,
        table: str | int = "main",
        onlink: bool = False,
        scope: str = "",
        proto: str = "boot",
        mtu: int = 0,
        nexthops: tuple[Nexthop, ...] = (),
    ) -> Route:
        """`ip route add`. Without `dev` the gateway's own route says which; the gateway must be on a link unless
        onlink."""
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
        number = TABLES[table] if isinstance(table, str) and table in TABLES else int(table)
        default_scope = {"local": SCOPE_HOST, "broadcast": SCOPE_LINK}.get(type, SCOPE_GLOBAL)
        if type == "unicast" and nexthops and not any(h.via for h in nexthops):
            default_scope = SCOPE_LINK
        route = Route(
            prefix,
            nexthops,
            type,
            SCOPES[scope] if scope else default_scope,
            IPv4(src) if src else ANY,
            metric,
            proto=proto,
            table=number,
            mtu=mtu,
        )
        same = (r for r in self.fib.table(number).covering(prefix.addr) if r.dst == prefix)
        if any((r.tos, r.metric) == (route.tos, route.metric) for r in same):
            raise ValueError(f"{self.name}: there is a route to {prefix} with metric {metric} already")
        self._put(route)
        return route

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

    def _routes_follow(self, device: Device) -> None:
        """fib_disable_ip, or fib_add_ifaddr and fib_sync_up: routes go with a device that goes down; the kernel's own,
        and shares of those that lived on, come back with it."""
        if not device.up:
            self.fib.link_down(device.name)
            return
        for addr in device.addrs:
            held = {str(r) for table in self.fib.tables.values() for r in table}
            self._addr_routes(device.name, addr, Prefix.of(addr.local, addr.length), held)
        self.fib.link_up(device.name)

    def _put(self, route: Route) -> None:
        self.fib.table(route.table).add(route)

    def route_del(self, dst: str, *, table: str | int = "main") -> Route:
        """`ip route del`: the first route to exactly that prefix. ValueError if there is none."""
        prefix = Prefix.parse(dst)
        number = TABLES[table] if isinstance(table, str) and table in TABLES else int(table)
        for route in self.fib.routes(number):
            if route.dst == prefix:
                self.fib.table(number).remove(route)
                return route
        raise ValueError(f"{self.name} has no route to {dst} in table {table}")

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

    def fdb_append(
        self, dev: str, mac: str | Mac, *, dst: str | IPv4 = "", via: str = "", port: int = 0, vni: int = -1
    ) -> FdbEntry:
        """`bridge fdb append`: on a vxlan with `dst` a tunnel end, on a bridge port a static entry."""
        device = self.device(dev)
        if device.kind == "vxlan" and dst:
            entry = FdbEntry(Mac(mac), dev, IPv4(dst), via, port, vni, static=True)
            self.vxlan_fdb.append(entry)
        else:
            entry = FdbEntry(Mac(mac), dev, master=device.master or dev, static=True)
            self.bridge_fdb.put(entry)
        return entry

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
        self.conf_values.setdefault(dev, {})[key] = value
        if dev == "all" and key == "forwarding":  # inet_forward_change: all sets every device and the default
            for other in {"default", *self.devices, *self.conf_values}:
                self.conf_values.setdefault(other, {})[key] = value

    def listen(self, port: int, *, addr: str | IPv4 = "") -> None:
        """A UDP echo and a TCP echo server on that port."""
        where = IPv4(addr) if addr else ANY
        for proto in (PROTO_UDP, PROTO_TCP):
            self.sockets.bind(Socket(proto, port, where, listening=True, app="echo"))

    # -- what ip prints --------------------------------------------------------------------------------------------

    @property
    def routes(self) -> str:
        """What `ip route` prints."""
        return "\n".join(map(str, self.listed_routes()))
