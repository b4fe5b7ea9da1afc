"""Random networks: routers in a ring or a chain, hosts in four manners, vxlan overlays, odd routes, rules, sysctls.

One seed, one plan, always. The networks mostly work, and are then spoilt in places: a packet that dies on the first hop
says little about the tenth.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from packetwalk.addr import IPv4, Mac
from tests.kernel.lab import TIMEOUT
from tests.kernel.plan import Plan, Statement

PROBES = 8
PORTS = (7, 53, 80, 8080)
MTUS = (1500, 1500, 1500, 1500, 1450, 1400, 1280, 1006, 600)
PER_DEVICE = {
    "rp_filter": (0, 1, 2), "arp_ignore": (0, 1, 2, 8), "arp_announce": (0, 1, 2), "proxy_arp": (0, 1),
    "arp_filter": (0, 1), "accept_local": (0, 1), "send_redirects": (0, 1), "accept_redirects": (0, 1),
    "shared_media": (0, 1), "forwarding": (0, 1), "route_localnet": (0, 1), "drop_gratuitous_arp": (0, 1),
    "arp_accept": (0, 1), "ignore_routes_with_linkdown": (0, 1), "bc_forwarding": (0, 1),
    "drop_unicast_in_l2_multicast": (0, 1),
}  # fmt: skip
PER_ROOM = {
    "net.ipv4.ip_default_ttl": (1, 3, 32, 128, 255), "net.ipv4.ip_no_pmtu_disc": (0, 1),
    "net.ipv4.ip_forward_use_pmtu": (0, 1), "net.ipv4.icmp_errors_use_inbound_ifaddr": (0, 1),
    "net.ipv4.icmp_echo_ignore_all": (0, 1), "net.ipv4.icmp_echo_ignore_broadcasts": (0, 1),
}  # fmt: skip
LINK_LOCAL = "169.254.1.1"


def generate(seed: int) -> Plan:
    """The plan of a seed."""
    return Maker(seed).plan()


class Maker:
    """A network in the making: what was said, and what must be remembered to say more."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.said: list[Statement] = []
        self.devices: dict[str, int] = {}  # the next free number of a room's ethN
        self.used: dict[str, list[str]] = {}  # the devices of a room
        self.routers = [f"r{n}" for n in range(1, self.chance.choice((1, 2, 2, 3, 3, 4)) + 1)]
        self.hosts: dict[str, str] = {}  # host: its address
        self.at: dict[str, str] = {}  # subnet: the router it is behind
        self.links: dict[str, dict[str, tuple[str, str]]] = {r: {} for r in self.routers}  # router: {next: (via, dev)}
        self.own: dict[str, list[str]] = {}  # room: its addresses
        self.connected: set[tuple[str, str]] = set()  # routers with an address in a subnet
        self.nets = self._subnets()

    def plan(self) -> Plan:
        self._underlay()
        for n in range(1, self.chance.randint(2, 4) + 1):
            self._host(f"h{n}", self.chance.choice(self.routers))
        self._routes()
        if len(self.routers) > 1 and self.chance.random() < 0.5:
            self._overlay()
        self._sysctls()
        for _ in range(self.chance.choice((0, 0, 1, 1, 2, 3))):
            self.chance.choice((self._odd_route, self._rules, self._fault, self._odd_neighbour))()
        for room in (*self.routers, *self.hosts):
            for port in self.chance.sample(PORTS, self.chance.choice((0, 1, 2))):
                self.say("listen", room, port)
        return Plan(tuple(self.said), tuple(self._probe(n) for n in range(1, PROBES + 1)))

    def say(self, verb: str, *words: Any) -> None:
        self.said.append([verb, *words])

    # -- names and numbers -----------------------------------------------------------------------------------------

    def _subnets(self) -> Iterator[tuple[str, int]]:
        """Subnets that do not overlap: their address and length."""
        for n in self.chance.sample(range(1, 250), 60):
            length = self.chance.choice((24, 24, 25, 26, 28, 29, 30))
            family = self.chance.choice(("10.{}.{}.0", "172.16.{1}.0", "192.168.{1}.0", "10.{0}.{1}.128"))
            base = family.format(self.chance.randint(1, 250), n)
            if base.endswith(".128") and length == 24:
                length = 25
            yield base, length

    def net(self, length: int = 0) -> tuple[str, int]:
        base, own = next(self.nets)
        return base, length or own

    def dev(self, room: str) -> str:
        """The next ethN of a room."""
        n = self.devices[room] = self.devices.get(room, -1) + 1
        self.used.setdefault(room, []).append(f"eth{n}")
        return f"eth{n}"

    def nth(self, base: str, n: int) -> str:
        return str(IPv4(int(IPv4(base)) + n))

    # -- the underlay ----------------------------------------------------------------------------------------------

    def _underlay(self) -> None:
        """Routers in a chain, a ring, or on one switch."""
        for router in self.routers:
            self.say("sysctl", router, "net.ipv4.icmp_ratemask", 0)
            self.say("sysctl", router, "net.ipv4.ip_forward", 1)
        if len(self.routers) > 2 and self.chance.random() < 0.35:
            self._switch()
            return
        pairs = list(zip(self.routers, self.routers[1:], strict=False))
        if len(self.routers) > 2 and self.chance.random() < 0.5:
            pairs.append((self.routers[-1], self.routers[0]))
        for a, b in pairs:
            base, length = self.net(self.chance.choice((24, 29, 30, 30)))
            ends = (self.nth(base, 1), self.nth(base, 2))
            adev, bdev = self.dev(a), self.dev(b)
            mtu = self.chance.choice(MTUS)
            self.say("wire", {"a": f"{a} {adev} {ends[0]}/{length}", "b": f"{b} {bdev} {ends[1]}/{length}", "mtu": mtu})
            self.links[a][b], self.links[b][a] = (ends[1], adev), (ends[0], bdev)
            self.own.setdefault(a, []).append(ends[0])
            self.own.setdefault(b, []).append(ends[1])
            self.at[f"{base}/{length}"] = a
            self.connected |= {(a, f"{base}/{length}"), (b, f"{base}/{length}")}

    def _switch(self) -> None:
        base, length = self.net(24)
        for n, router in enumerate(self.routers, 1):
            dev = self.dev(router)
            self.say("wire", {"a": f"{router} {dev} {self.nth(base, n)}/{length}", "b": f"sw1 {self.dev('sw1')}"})
            self.own.setdefault(router, []).append(self.nth(base, n))
            for m, other in enumerate(self.routers, 1):
                if other != router:
                    self.links[router][other] = (self.nth(base, m), dev)
        flags = self._port_flags()
        self.say("bridge", "sw1", {"ports": " ".join(self.used["sw1"]), **flags})
        self.at[f"{base}/{length}"] = self.routers[0]
        self.connected |= {(router, f"{base}/{length}") for router in self.routers}

    def _port_flags(self) -> dict[str, bool]:
        flag = self.chance.choice(("", "", "", "hairpin", "learning", "flood", "isolated", "bcast_flood"))
        return {flag: flag in ("hairpin", "isolated")} if flag else {}

    # -- hosts -----------------------------------------------------------------------------------------------------

    def _host(self, host: str, router: str) -> None:
        self.say("sysctl", host, "net.ipv4.icmp_ratemask", 0)
        self.chance.choice((self._plain, self._plain, self._onlink, self._bridged, self._switched))(host, router)

    def _plain(self, host: str, router: str) -> None:
        """A subnet on a wire of its own."""
        base, length = self.net()
        mtu = self.chance.choice(MTUS)
        gateway, addr, dev = self.nth(base, 1), self.nth(base, 2), self.dev(router)
        self.say(
            "wire",
            {"a": f"{host} {self.dev(host)} {addr}/{length}", "b": f"{router} {dev} {gateway}/{length}", "mtu": mtu},
        )
        self._home(host, addr, f"{base}/{length}", router, gateway)

    def _onlink(self, host: str, router: str) -> None:
        """Calico's manner: a /32, a gateway that only proxy ARP answers for, a host route behind the router's end."""
        base, _ = self.net()
        addr = self.nth(base, self.chance.randint(2, 3))
        dev = self.dev(router)
        self.say(
            "wire", {"a": f"{host} {self.dev(host)} {addr}/32", "b": f"{router} {dev}", "mtu": self.chance.choice(MTUS)}
        )
        self.say("route", host, {"dst": LINK_LOCAL, "dev": "eth0", "scope": "link"})
        self.say("route", host, {"dst": "default", "via": LINK_LOCAL, "dev": "eth0"})
        self.say("sysctl", router, f"net.ipv4.conf.{dev}.proxy_arp", 1)
        self.say("route", router, {"dst": addr, "dev": dev, "scope": "link"})
        if self.chance.random() < 0.6:
            self.say("neigh", host, {"dst": LINK_LOCAL, "lladdr": "ee:ee:ee:ee:ee:ee", "dev": "eth0"})
        self.hosts[host], self.at[f"{addr}/32"] = addr, router
        self.own[host] = [addr]

    def _bridged(self, host: str, router: str) -> None:
        """Flannel's manner: a bridge on the router that is the gateway of all hosts on it."""
        name = f"br-{router}"
        known = next((s[2] for s in self.said if s[0] == "bridge" and s[1] == router), None)
        dev = self.dev(router)
        if known is None:
            base, _ = self.net(24)
            addr, gateway = self.nth(base, 2), self.nth(base, 1)
            self.say("wire", {"a": f"{host} {self.dev(host)} {addr}/24", "b": f"{router} {dev}", "mtu": 1500})
            self.say("bridge", router, {"ports": dev, "addr": f"{gateway}/24", "name": name, **self._port_flags()})
            self.used[router].append(name)
        else:
            gateway = known["addr"].partition("/")[0]
            base = self.nth(gateway, -1)
            addr = self.nth(base, 2 + self.chance.randint(1, 100))
            self.say("wire", {"a": f"{host} {self.dev(host)} {addr}/24", "b": f"{router} {dev}", "mtu": 1500})
            self.say("port", router, dev, name, self._port_flags())
        self._home(host, addr, f"{base}/24", router, gateway)

    def _switched(self, host: str, router: str) -> None:
        """A switch between host and router."""
        base, length = self.net(24)
        switch, dev = f"sw-{host}", self.dev(router)
        addr, gateway = self.nth(base, 2), self.nth(base, 1)
        self.say("wire", {"a": f"{host} {self.dev(host)} {addr}/{length}", "b": f"{switch} {self.dev(switch)}"})
        self.say("wire", {"a": f"{router} {dev} {gateway}/{length}", "b": f"{switch} {self.dev(switch)}"})
        self.say("bridge", switch, {"ports": " ".join(self.used[switch]), **self._port_flags()})
        self._home(host, addr, f"{base}/{length}", router, gateway)

    def _home(self, host: str, addr: str, subnet: str, router: str, gateway: str) -> None:
        self.hosts[host], self.at[subnet] = addr, router
        self.own[host] = [addr]
        self.own.setdefault(router, []).append(gateway)
        if self.chance.random() < 0.95:
            extra = {"src": addr} if self.chance.random() < 0.2 else {}
            self.say("route", host, {"dst": "default", "via": gateway, "dev": "eth0", **extra})

    # -- routes ----------------------------------------------------------------------------------------------------

    def _routes(self) -> None:
        """Every router gets a route to every subnet, mostly by the shortest way, sometimes with a metric or onlink."""
        for router in self.routers:
            for subnet, home in self.at.items():
                step = self._toward(router, home)
                if step is None or (router, subnet) in self.connected:
                    continue
                via, dev = self.links[router][step]
                extra: dict[str, Any] = {}
                if self.chance.random() < 0.2:
                    extra["metric"] = self.chance.choice((10, 100, 512))
                if self.chance.random() < 0.15:
                    extra["onlink"] = True
                if self.chance.random() < 0.1:
                    extra["mtu"] = self.chance.choice((1300, 1000))
                self.say("route", router, {"dst": subnet, "via": via, "dev": dev, **extra})
            if self.links[router] and self.chance.random() < 0.3:
                via, dev = self.chance.choice(sorted(self.links[router].values()))
                self.say("route", router, {"dst": "default", "via": via, "dev": dev})

    def _toward(self, start: str, goal: str) -> str | None:
        """The first step of a shortest way between routers."""
        first: dict[str, str | None] = {start: None}
        queue = [start]
        while queue:
            here = queue.pop(0)
            for there in self.links[here]:
                if there not in first:
                    first[there] = there if here == start else first[here]
                    queue.append(there)
        return first.get(goal)

    def _overlay(self) -> None:
        """A vxlan between two routers: with static entries, or flooding to a default remote and learning."""
        a, b = self.chance.sample(self.routers, 2)
        if not self.own.get(a) or not self.own.get(b):
            return
        ends = {a: self.own[a][0], b: self.own[b][0]}
        base, _ = self.net(24)
        inner = {a: self.nth(base, 1), b: self.nth(base, 2)}
        vni, port = self.chance.randint(1, 4000), self.chance.choice((4789, 8472))
        macs = {r: f"02:aa:00:00:00:{n:02x}" for n, r in enumerate((a, b), 1)}
        about: dict[str, Any] = {
            "vni": vni,
            "dport": port,
            "df": self.chance.choice(("unset", "unset", "set", "inherit")),
        }
        about |= self.chance.choice(({}, {}, {"ttl": 64}, {"ttl": 3}, {"ttl_inherit": True}))
        about |= self.chance.choice(({}, {}, {"tos": 16}, {"tos_inherit": True}))
        static = self.chance.random() < 0.6
        mtu = self.chance.choice((1450, 1450, 1400, 1500))
        for here, far in ((a, b), (b, a)):
            own = {**about, "local": ends[here], "learning": not static, "mtu": mtu, "mac": macs[here]}
            if not static:
                own["remote"] = ends[far]
            self.say("vxlan", here, {"addr": f"{inner[here]}/24", **own})
            self.used[here].append("vx0")
            if static:
                self.say("fdb", here, {"dev": "vx0", "mac": macs[far], "dst": ends[far]})
                self.say("neigh", here, {"dst": inner[far], "lladdr": macs[far], "dev": "vx0"})
            for subnet, home in self.at.items():
                if home == far and "/32" not in subnet and self.chance.random() < 0.8:
                    base, length = subnet.split("/")
                    half = f"{base}/{int(length) + 1}"
                    way = {"via": inner[far], "dev": "vx0", "onlink": True, "metric": self.chance.choice((0, 0, 5))}
                    self.say("route", here, {"dst": self.chance.choice((half, subnet)), **way})
            self.own[here].append(inner[here])

    # -- oddities --------------------------------------------------------------------------------------------------

    def _sysctls(self) -> None:
        for room in (*self.routers, *self.hosts):
            for key, values in PER_ROOM.items():
                if self.chance.random() < 0.06:
                    self.say("sysctl", room, key, self.chance.choice(values))
            for dev in ("all", *self.used[room]):
                for key, values in PER_DEVICE.items():
                    if self.chance.random() < (0.08 if key == "rp_filter" else 0.02):
                        if dev != "all" or key != "forwarding":
                            self.say("sysctl", room, f"net.ipv4.conf.{dev}.{key}", self.chance.choice(values))

    def _odd_route(self) -> None:
        """A route that is more specific than another, or of another type, or to the wrong neighbour."""
        router = self.chance.choice(self.routers)
        addr = self.chance.choice(sorted(self.hosts.values()))
        length = self.chance.choice((32, 32, 30, 24, 16, 8))
        dst = f"{IPv4(int(IPv4(addr)) >> (32 - length) << (32 - length))}/{length}"
        kind = self.chance.choice(("blackhole", "unreachable", "prohibit", "throw", "unicast", "unicast", "local"))
        about: dict[str, Any] = {"dst": dst, "type": kind, "metric": self.chance.choice((0, 0, 7))}
        if kind == "unicast":
            if not self.links[router]:
                return
            via, dev = self.chance.choice(sorted(self.links[router].values()))
            about |= {"via": via, "dev": dev} if self.chance.random() < 0.7 else {"dev": dev}
        elif kind == "local":
            about |= {"dev": "lo", "table": "local"}
        self.say("route", router, about)

    def _rules(self) -> None:
        """Policy routing: a table of its own, or an answer."""
        room = self.chance.choice([*self.routers, *self.hosts])
        table = self.chance.choice((100, 101))
        addr = self.chance.choice(sorted(self.hosts.values()))
        prefix = f"{addr}/32" if self.chance.random() < 0.5 else f"{IPv4(int(IPv4(addr)) & 0xFFFFFF00)}/24"
        dev = self.chance.choice(self.used[room])
        selector = self.chance.choice(
            ({"src": prefix}, {"dst": prefix}, {"iif": dev}, {"iif": "lo"}, {"oif": dev}, {"tos": 16}, {"proto": 17},
             {"proto": 6, "dport": [80, 80]}, {"proto": 17, "sport": [40000, 40000]}, {"dst": prefix, "invert": True})
        )  # fmt: skip
        priority = self.chance.choice((100, 1000, 32000))
        action = self.chance.choice((table, table, table, "blackhole", "unreachable", "prohibit", 254))
        if action == 254:
            selector = {**selector, "suppress_prefixlen": 0}
        self.say("rule", room, {"priority": priority, "action": action, **selector})
        if action == table:
            kind = self.chance.choice(("unicast", "unicast", "unicast", "blackhole", "throw", "unreachable"))
            about: dict[str, Any] = {"dst": "default", "table": table, "type": kind}
            hops = sorted(self.links.get(room, {}).values())
            if kind == "unicast":
                if hops:
                    via, dev = self.chance.choice(hops)
                    about |= {"via": via, "dev": dev}
                else:
                    about |= {"dev": self.chance.choice(self.used[room])}
            self.say("route", room, about)

    def _fault(self) -> None:
        """Something a person gets wrong: a link down, a MTU, an address twice, a route gone."""
        room = self.chance.choice([*self.routers, *self.hosts])
        dev = self.chance.choice(self.used[room])
        match self.chance.choice(("down", "mtu", "mtu", "twice", "gone", "secondary")):
            case "down":
                self.say("link", room, dev, {"up": False})
            case "mtu":
                self.say("link", room, dev, {"mtu": self.chance.choice((1280, 1000, 576, 1492))})
            case "twice":
                self.say("addr", room, dev, f"{self.chance.choice(sorted(self.hosts.values()))}/32")
            case "gone":
                self.say("unroute", room, "default" if room in self.hosts else self.chance.choice(sorted(self.at)))
            case "secondary":
                addr = self.chance.choice(self.own[room])
                self.say("addr", room, dev, f"{self.nth(addr, 77)}/24")

    def _odd_neighbour(self) -> None:
        """A neighbour entry that is wrong, or a proxy entry."""
        room = self.chance.choice([*self.routers, *self.hosts])
        dev = self.chance.choice(self.used[room])
        addr = self.chance.choice(sorted(self.hosts.values()))
        if self.chance.random() < 0.5:
            self.say("proxy", room, {"dev": dev, "dst": addr})
        else:
            self.say(
                "neigh", room, {"dst": addr, "lladdr": str(Mac(0x02BB00000000 + self.chance.randint(1, 9))), "dev": dev}
            )

    # -- probes ----------------------------------------------------------------------------------------------------

    def _probe(self, n: int) -> dict[str, Any]:
        chance = self.chance
        kind = chance.choice(("icmp", "icmp", "udp", "tcp"))
        src = chance.choice(sorted(self.hosts) if chance.random() < 0.85 else self.routers)
        spec: dict[str, Any] = {"kind": kind, "src": src, "dst": self._target(src), "timeout": TIMEOUT}
        if kind == "icmp":
            spec |= {"id": chance.randint(1, 65535), "seq": chance.randint(1, 100)}
        else:
            spec |= {"dport": chance.choice(PORTS), "sport": chance.randint(20000, 60000)}
        if kind != "tcp" and chance.random() < 0.4:
            spec["size"] = chance.choice((0, 1, 500, 972, 1300, 1400, 1472, 1473, 2000, 4000, 8000))
            df = chance.choice((None, None, True, False, "probe"))
            if df is not None:
                spec["df"] = df
        if chance.random() < 0.25:
            spec["ttl"] = chance.choice((1, 2, 3, 4, 5, 64, 255))
        if chance.random() < 0.08:
            spec["bind"] = chance.choice(self.own[src])
        if chance.random() < 0.06:
            spec["timeout"] = 3.4
        return {"name": f"p{n}-{kind}", "spec": spec}

    def _target(self, src: str) -> str:
        chance = self.chance
        what = chance.random()
        others = [addr for host, addr in sorted(self.hosts.items()) if host != src]
        if what < 0.7:
            return chance.choice(others)
        if what < 0.86:
            return chance.choice([addr for room in sorted(self.own) for addr in self.own[room]])
        if what < 0.93:
            return self.nth(chance.choice(others), chance.choice((1, 3, -1)))
        return chance.choice(("192.0.2.1", "127.0.0.1", "10.255.255.255", self.own[src][0], "198.51.100.7", "0.0.0.0"))
