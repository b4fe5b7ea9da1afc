"""Everything one namespace knows: devices, sysctls, routes, neighbours, FDBs, sockets, waiting fragments.

The stages read these tables and write the learned ones. Questions that need several tables at once (which source
address, which MTU, is this address ours) are answered here, each after the kernel function it is named for.
"""

from __future__ import annotations

from typing import NamedTuple

from packetwalk.addr import ANY, IPv4, is_multicast
from packetwalk.netns.chooser import RoomChooser, Seeded
from packetwalk.netns.conntrack import Conns
from packetwalk.netns.device import SCOPE_HOST, SCOPE_LINK, Bridge, Device, DeviceConf
from packetwalk.netns.fdb import BridgeFdb, VxlanFdb
from packetwalk.netns.fib import Fib
from packetwalk.netns.fib_table import Found, Nexthop, Route
from packetwalk.netns.ipvs import Ipvs
from packetwalk.netns.learned import Learned, exception_key
from packetwalk.netns.neighbour import Neighbours
from packetwalk.netns.netfilter import Ruleset
from packetwalk.netns.policy_rule import TABLES
from packetwalk.netns.shared import Shared
from packetwalk.netns.socket import Sockets
from packetwalk.packet import Packet

SECOND = 1_000_000_000
MTU_EXPIRES = 600 * SECOND  # net.ipv4.route.mtu_expires
REDIRECT_EXPIRES = 300 * SECOND  # net.ipv4.route.gc_timeout
MIN_PMTU = 552  # net.ipv4.route.min_pmtu
IP_MAX_MTU = 0xFFFF

SYSCTL_DEFAULTS = {
    "net.ipv4.ip_default_ttl": 64,
    "net.ipv4.ip_forward_use_pmtu": 0,
    "net.ipv4.ip_no_pmtu_disc": 0,
    "net.ipv4.icmp_errors_use_inbound_ifaddr": 0,
    "net.ipv4.icmp_ratelimit": 1000,  # ms
    "net.ipv4.icmp_ratemask": 6168,  # a bit per type: unreachable, source quench, time exceeded, parameter problem
    "net.ipv4.icmp_msgs_per_sec": 1000,
    "net.ipv4.icmp_msgs_burst": 50,
    "net.ipv4.icmp_echo_ignore_all": 0,
    "net.ipv4.icmp_echo_ignore_broadcasts": 1,
    "net.bridge.bridge-nf-call-iptables": 0,
}
CONF_DEFAULTS = {
    "forwarding": 0, "rp_filter": 0, "accept_local": 0, "route_localnet": 0, "src_valid_mark": 0, "proxy_arp": 0,
    "arp_ignore": 0, "arp_announce": 0, "arp_filter": 0, "arp_accept": 0, "drop_gratuitous_arp": 0, "send_redirects": 1,
    "accept_redirects": 1, "secure_redirects": 1, "shared_media": 1, "bc_forwarding": 0,
    "drop_unicast_in_l2_multicast": 0, "ignore_routes_with_linkdown": 0,
}  # fmt: skip


class Rt(NamedTuple):
    """A routing decision (struct rtable). kind: unicast, local, broadcast, multicast or error; `via` zero = on the
    link."""

    kind: str
    dev: str
    via: IPv4 = ANY
    src: IPv4 = ANY
    found: Found | None = None
    learned: Learned | None = None
    error: str = ""
    input: bool = False

    @property
    def route(self) -> Route | None:
        return self.found.route if self.found is not None else None

    @property
    def told(self) -> str:
        """What decided, with whatever about it is not modelled."""
        by = self.found.by if self.found is not None else None
        return f"{by} {by.oddity}".rstrip() if by is not None else "to a multicast address"


class Peer(NamedTuple):
    """What is remembered about an address we sent ICMP errors or redirects to (struct inet_peer). Tokens are ns."""

    tokens: int = 0
    last: int = -60 * SECOND
    redirects: int = 0

    def spend(self, cost: int, burst: int, now: int) -> tuple[Peer, bool]:
        """The token bucket of inet_peer_xrlim_allow and ip_error: it fills
        with time up to `burst`; whether there was enough for one more."""
        tokens = min(self.tokens + now - self.last, burst)
        enough = tokens >= cost
        return Peer(tokens - cost if enough else tokens, now, self.redirects), enough


class Credit(NamedTuple):
    """How many ICMP messages a namespace may send to anybody (net->ipv4.icmp_global_credit), and when it last grew."""

    left: int = 0
    grown: int = -SECOND


class Tables:
    """The state of one namespace. `seed` stands for the kernel's per-boot hash secret."""

    def __init__(self, name: str, seed: int = 0) -> None:
        self.name = name
        self.seed = seed
        self.devices: dict[str, Device] = {}
        self.sysctls = dict(SYSCTL_DEFAULTS)
        self.conf_values: dict[str, dict[str, int]] = {"all": {}, "default": {}}
        self.fib = Fib()
        self.neighbours = Neighbours()
        self.bridge_fdb = BridgeFdb()
        self.vxlan_fdb = VxlanFdb()
        self.sockets = Sockets()
        self.netfilter = Ruleset()
        self.conntrack = False
        self.conns = Conns()
        self.ipvs = Ipvs()
        self.chooser: RoomChooser = Seeded(seed)
        self.reassembly: dict[object, object] = {}
        self.cells: dict[str, tuple[tuple[Packet, int], ...]] = {}  # decapsulated, with their marks, not yet received
        self.peers: dict[int, Peer] = {}
        self.icmp_credit = Credit()
        self.ident = 0
        self.unevaluated: tuple[str, ...] = ()
        self._confs: dict[str, DeviceConf] = {}
        self._ports: dict[str, tuple[Device, ...]] = {}
        self._locals: frozenset[int] | None = None
        self._tunnel_ports: dict[int, list[Device]] | None = None

    def changed(self) -> None:
        """Forget what was derived from devices and sysctls."""
        self._confs, self._ports, self._locals, self._tunnel_ports = {}, {}, None, None
        for device in self.devices.values():
            if isinstance(device, Bridge):
                device.ports = self.ports(device.name)
        self.fib.linked = {}
        if any(values.get("ignore_routes_with_linkdown") for values in self.conf_values.values()):
            self.fib.linked = {n: d for n, d in self.devices.items() if self.conf(n).ignore_routes_with_linkdown}
        self.fib.attach_rules(self.devices)

    def learn_into(self, copy: Tables) -> None:
        """Make `copy` share our configuration and learn into tables of its own (a walk's overlay)."""
        copy.__dict__.update(self.__dict__)
        copy.fib = self.fib.overlay()
        copy.neighbours = self.neighbours.overlay()
        copy.bridge_fdb = self.bridge_fdb.overlay()
        copy.vxlan_fdb = self.vxlan_fdb.overlay()
        copy.sockets = self.sockets.overlay()
        copy.netfilter = self.netfilter.overlay()
        copy.conns = self.conns.overlay()
        copy.ipvs = self.ipvs.overlay()
        copy.chooser = self.chooser.overlay()
        copy.reassembly = dict(self.reassembly)
        copy.peers = dict(self.peers)
        copy.cells = dict(self.cells)

    def share(self, tables: Shared) -> None:
        """Lay our own entries over tables that other namespaces share, without what they say about this one."""
        main = self.fib.table(TABLES["main"])
        main.base, main.hidden = tables.routes, set(tables.routes_to.get(self.name, ()))
        self.neighbours.base = tables.neighbours
        self.neighbours.hidden = frozenset(tables.neighbours_to.get(self.name, ()))
        self.vxlan_fdb.base = tables.fdb
        self.vxlan_fdb.hidden = frozenset(tables.fdb_to.get(self.name, ()))

    # -- devices and sysctls ---------------------------------------------------------------------------------------

    def conf(self, dev: str) -> DeviceConf:
        """net.ipv4.conf for a device, combined with `all` by the kernel's rule for each key (inetdevice.h)."""
        conf = self._confs.get(dev)
        if conf is None:
            conf = self._confs[dev] = self._combine(dev)
        return conf

    def _combine(self, dev: str) -> DeviceConf:
        everyone = {**CONF_DEFAULTS, "send_redirects": 1, **self.conf_values["all"]}
        own = {**CONF_DEFAULTS, **self.conf_values["default"], **self.conf_values.get(dev, {})}
        forwarding = bool(own["forwarding"])
        either = {k: bool(everyone[k] or own[k]) for k in CONF_DEFAULTS}
        highest = {k: max(everyone[k], own[k]) for k in CONF_DEFAULTS}
        both = everyone["accept_redirects"] and own["accept_redirects"]
        return DeviceConf(
            forwarding=forwarding,
            rp_filter=highest["rp_filter"],
            accept_local=either["accept_local"],
            route_localnet=either["route_localnet"],
            src_valid_mark=either["src_valid_mark"],
            proxy_arp=either["proxy_arp"],
            arp_ignore=highest["arp_ignore"],
            arp_announce=highest["arp_announce"],
            arp_filter=either["arp_filter"],
            arp_accept=highest["arp_accept"],
            drop_gratuitous_arp=either["drop_gratuitous_arp"],
            send_redirects=either["send_redirects"],
            accept_redirects=bool(both) if forwarding else either["accept_redirects"],
            secure_redirects=either["secure_redirects"],
            shared_media=either["shared_media"],
            bc_forwarding=bool(everyone["bc_forwarding"] and own["bc_forwarding"]),
            ignore_routes_with_linkdown=either["ignore_routes_with_linkdown"],
            drop_unicast_in_l2_multicast=either["drop_unicast_in_l2_multicast"],
        )

    def ports(self, bridge: str) -> tuple[Device, ...]:
        """A bridge's ports, the last one added first: the order of its port list, hence of flooding (br_add_if)."""
        ports = self._ports.get(bridge)
        if ports is None:
            mine = [d for d in self.devices.values() if d.master == bridge]
            ports = self._ports[bridge] = tuple(sorted(mine, key=lambda d: (d.port.number, d.index), reverse=True))
        return ports

    def tunnels_at(self, port: int) -> list[Device]:
        """The vxlan and geneve devices that listen on a UDP port."""
        if self._tunnel_ports is None:
            self._tunnel_ports = {}
            for dev in self.devices.values():
                dport = getattr(dev, "dport", 0)
                if dport and dev.up:
                    self._tunnel_ports.setdefault(dport, []).append(dev)
        return self._tunnel_ports.get(port, [])

    # -- addresses -------------------------------------------------------------------------------------------------

    @property
    def locals(self) -> frozenset[int]:
        """Every address configured on a device (the inet_addr hash)."""
        if self._locals is None:
            self._locals = frozenset(int(a.local) for d in self.devices.values() for a in d.addrs)
        return self._locals

    def is_own(self, addr: int) -> bool:
        """__ip_dev_find: an address of ours, or one the local table claims (127.0.0.0/8)."""
        return addr in self.locals or self.fib.is_local(addr)

    def select_addr(self, dev: str, dst: int, scope: int) -> IPv4:
        """inet_select_addr: an address of `dev` in the subnet of `dst`,
        else its first, else the first suitable elsewhere."""
        first = ANY
        device = self.devices.get(dev)
        highest = SCOPE_LINK if device is not None and self.conf(dev).route_localnet else SCOPE_HOST
        for addr in device.addrs if device is not None else ():
            if addr.secondary or min(addr.scope, highest) > scope:
                continue
            if not dst or addr.covers(dst):
                return addr.local
            first = first or addr.local
        if first:
            return first
        for device in sorted(self.devices.values(), key=lambda d: d.index):
            for addr in device.addrs:
                if not addr.secondary and addr.scope != SCOPE_LINK and addr.scope <= scope:
                    return addr.local
        return ANY

    # -- routes ----------------------------------------------------------------------------------------------------

    def listed_routes(self, table: int = 254) -> list[Route]:
        """What `ip route show table N` lists: each next hop with the state its link has now (fib_nexthop_info)."""
        return [r._replace(nexthops=tuple(self._as_now(r, h) for h in r.nexthops)) for r in self.fib.routes(table)]

    def _as_now(self, route: Route, hop: Nexthop) -> Nexthop:
        device = self.devices.get(hop.dev)
        if device is None or route.scope == SCOPE_HOST:
            return hop
        linkdown = hop.dead or not device.running
        return hop._replace(linkdown=linkdown, dead=hop.dead or (linkdown and hop.dev in self.fib.linked))

    def source_for(self, found: Found) -> IPv4:
        """fib_result_prefsrc: the route's `src`, else an address of its device by the route's scope."""
        route, hop = found.route, found.hop
        assert route is not None and hop is not None
        return route.src or self.select_addr(hop.dev, hop.via, min(route.scope, SCOPE_HOST))

    def learned(self, found: Found, dst: int, now: int) -> Learned | None:
        """find_exception: what was learned for this destination behind this next hop, unless it has expired."""
        if not self.fib.exceptions:
            return None
        entry = self.fib.exceptions.get(exception_key(found, dst))
        return entry if entry is not None and entry.expires > now else None

    def mtu(self, rt: Rt, now: int, *, forwarding: bool = False) -> int:
        """ipv4_mtu, or ip_dst_mtu_maybe_forward: learned path MTU, then the route's, then the device's."""
        learned, found = rt.learned, rt.found
        if learned is not None and learned.mtu and learned.expires > now:
            if not forwarding or self.sysctls["net.ipv4.ip_forward_use_pmtu"] or self.locked(rt, now):
                return learned.mtu
        if found is not None and found.route is not None and found.route.mtu:
            return found.route.mtu
        mtu = self.devices[rt.dev].mtu
        return mtu if mtu < IP_MAX_MTU else IP_MAX_MTU

    def locked(self, rt: Rt, now: int) -> bool:
        """ip_mtu_locked: the path MTU must not be probed with DF (it fell below min_pmtu, or the route says so)."""
        if rt.learned is not None and rt.learned.mtu and rt.learned.expires > now:
            return rt.learned.mtu_locked
        return rt.route is not None and rt.route.mtu_locked

    def learn_mtu(self, rt: Rt, dst: int, mtu: int, now: int) -> Learned | None:
        """__ip_rt_update_pmtu: remember a smaller path MTU towards `dst` for ten minutes. None where nothing is new."""
        if rt.kind != "unicast" or rt.found is None or rt.found.hop is None or self.locked(rt, now):
            return None
        old = self.mtu(rt, now)
        if old < mtu:
            return None
        lock = mtu < MIN_PMTU
        key = exception_key(rt.found, dst)
        before = self.learned(rt.found, dst, now) or Learned()
        mtu = min(old, MIN_PMTU) if lock else mtu
        entry = before._replace(mtu=mtu, mtu_locked=lock, expires=now + MTU_EXPIRES)
        self.fib.exceptions[key] = entry
        return entry

    def learn_gateway(self, rt: Rt, dst: int, gateway: IPv4, now: int) -> None:
        """update_or_create_fnhe after a redirect: a nearer router for one destination."""
        assert rt.found is not None
        before = self.learned(rt.found, dst, now) or Learned()
        entry = before._replace(gateway=gateway, expires=now + REDIRECT_EXPIRES)
        self.fib.exceptions[exception_key(rt.found, dst)] = entry

    def neighbour_type(self, addr: int) -> str:
        return "multicast" if is_multicast(addr) else self.fib.addr_type(addr)

    def next_ident(self) -> int:
        """An IP id that is not zero. The kernel's choice is a keyed hash; nobody may depend on it."""
        self.ident = self.ident % 0xFFFF + 1
        return self.ident
