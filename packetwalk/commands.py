"""A network as the shell lines that would build it.

The lines want root and iproute2 (5.0 or newer). What the kernel makes by itself is left out: table local, routes of
`proto kernel`, a bridge's own addresses, whatever was only learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from shlex import quote

from packetwalk.addr import ANY, ZERO_MAC, Prefix
from packetwalk.netns.device import SCOPE_GLOBAL, Addr, Bridge, Device, Dummy, Geneve, Ipip, Port, Tunnel, Veth, Vxlan
from packetwalk.netns.fib_table import SCOPE_NAMES, Route
from packetwalk.netns.namespace import Netns
from packetwalk.netns.policy_rule import PolicyRule
from packetwalk.network import Network, Wire

LO = "lo"
LOOPBACK = Prefix.parse("127.0.0.0/8")
DEFAULT_RULES = (PolicyRule(0, 255), PolicyRule(32766, 254), PolicyRule(32767, 253))
# there only while their module is loaded, or only since Linux 6.13 outside the first namespace
OPTIONAL_SYSCTLS = ("net.bridge.", "net.netfilter.", "net.ipv4.vs.", "net.ipv4.icmp_msgs_")
END = "END"  # no line of sets or rules is that
PORT_STATES = {"listening": 1, "learning": 2, "blocking": 4}  # `disabled` and `forwarding` follow from the link


def commands(network: Network, room: str | None = None) -> list[str]:
    """The shell lines that build the network, or one of its rooms with the wires that end there. Run them in order.

    A line that begins with `#` says what no command can build. KeyError, in one line, for a room that is not there.
    """
    if room is not None and room not in network:
        raise KeyError(f"there is no room {room!r}")
    rooms = [network[name] for name in network.rooms if room in (None, name)]
    lines = [*_host(rooms), *(f"ip netns add {quote(r.name)}" for r in rooms)]
    for end in network.in_making_order([r.name for r in rooms]):
        lines += _wire(network, network.wires[end]) if end in network.wires else _lone(network[end[0]], end[1])
    for r in rooms:
        lines += [*_bridging(r), *_sysctls(r), *_addresses(r), *_up(r)]
    for end, wire in network.wires.items():
        if end == wire.a and room in (None, wire.a[0], wire.b[0]):
            lines += _shaping(wire)
    for r in rooms:
        lines += [*_routes(r), *_rules(r), *_neighbours(r), *_fdb(r), *_rest(r)]
    return lines


def _host(rooms: Iterable[Netns]) -> Iterator[str]:
    if any(isinstance(d, Ipip) for r in rooms for d in r.devices.values()):
        yield "modprobe ipip"
        yield "sysctl -qw net.core.fb_tunnels_only_for_init_net=1"  # or every new namespace would have a tunl0 already
    if any(r.ipvs.services for r in rooms):
        yield "modprobe ip_vs"  # or a namespace has no sysctls of it yet


# -- links ------------------------------------------------------------------------------------------------------------


def _ip(room: Netns, rest: str) -> str:
    return f"ip -n {quote(room.name)} {rest}"


def _identity(device: Device, mtu: int = 0) -> str:
    """What `ip link add` says of any device. The number is given: it decides which device's address comes first."""
    mac = f" address {device.mac}" if device.ether else ""
    return f"index {device.index} mtu {mtu or device.mtu}{mac}"


def _roomy(room: Netns, device: Device) -> int:
    """The MTU a device starts with: a vxlan is made no larger than what it is bound to has room for
    (vxlan_config_apply), and stays as it is when that device's MTU falls later."""
    bound = (d.mtu + d.overhead for d in room.devices.values() if isinstance(d, Vxlan) and d.link == device.name)
    return max([device.mtu, *bound])


def _wire(network: Network, wire: Wire) -> Iterator[str]:
    (a, adev), (b, bdev) = wire.a, wire.b
    near, far = network[a].device(adev), network[b].device(bdev)
    yield (
        f"ip link add name {quote(adev)} netns {quote(a)} {_identity(near, _roomy(network[a], near))} type veth "
        f"peer name {quote(bdev)} netns {quote(b)} {_identity(far, _roomy(network[b], far))}"
    )


def _shaping(wire: Wire) -> Iterator[str]:
    if wire.rate or wire.delay:
        words = [f"delay {wire.delay / 1000:.10g}us"] if wire.delay else []  # the smallest unit that tc reads
        words += [f"rate {wire.rate}bit"] if wire.rate else []
        for room, dev in (wire.a, wire.b):
            yield f"tc -n {quote(room)} qdisc add dev {quote(dev)} root netem limit {wire.queue} {' '.join(words)}"


def _lone(room: Netns, dev: str) -> Iterator[str]:
    """A device that is no end of a wire."""
    device = room.devices[dev]
    kind = _kind(device)
    if kind is None:
        yield f"# {room.name}: {dev} is not built: {getattr(device, 'what', f'a real {device.kind}')}"
        return
    if isinstance(device, Veth):
        yield f"# {room.name}: the other end of {dev} is in no room; a dummy stands in for it"
    yield _ip(room, f"link add name {quote(dev)} {_identity(device)} type {kind}")


def _kind(device: Device) -> str | None:
    """The words after `type`, or None for what `ip link add` cannot make (a real card, an unknown kind)."""
    if isinstance(device, Bridge):
        oddity = f" {device.oddity} 1" if device.oddity else ""
        call = int(device.nf_call_iptables)
        return f"bridge ageing_time {device.ageing // 10_000_000} nf_call_iptables {call}{oddity}"
    if isinstance(device, Dummy | Veth):
        return "dummy"
    return f"{device.kind} {' '.join(_tunnel(device))}" if isinstance(device, Tunnel) else None


def _tunnel(device: Tunnel) -> Iterator[str]:
    if isinstance(device, Vxlan | Geneve):
        yield f"id {device.vni}"
    if isinstance(device, Ipip):
        yield f"local {device.local if device.local else 'any'} remote {device.remote if device.remote else 'any'}"
    else:
        yield from (f"{side} {at}" for side, at in (("local", device.local), ("remote", device.remote)) if at)
    if device.link:
        yield f"dev {quote(device.link)}"
    if isinstance(device, Vxlan | Geneve):
        yield f"dstport {device.dport}"
        yield "udpcsum" if device.udp_csum else "noudpcsum"
        yield f"df {device.df}"
    if isinstance(device, Vxlan):
        yield "learning" if device.learning else "nolearning"
        if device.ageing != Vxlan().ageing:
            yield f"ageing {device.ageing // 1_000_000_000}"
        if device.sport_range != Vxlan().sport_range:
            yield "srcport {} {}".format(*device.sport_range)
    if device.ttl or device.ttl_inherit:
        yield f"ttl {'inherit' if device.ttl_inherit else device.ttl}"
    if device.tos or device.tos_inherit:
        yield f"tos {'inherit' if device.tos_inherit else hex(device.tos)}"
    if isinstance(device, Ipip):
        yield "pmtudisc" if device.df == "set" else "nopmtudisc"


def _bridging(room: Netns) -> Iterator[str]:
    """Ports join in the order of their numbers, the order of flooding; MTUs come last: joining may change them."""
    ports = sorted((d for d in room.devices.values() if d.master), key=lambda d: (d.master, d.port.number))
    for device in ports:
        yield _ip(room, f"link set dev {quote(device.name)} master {quote(device.master)}")
        flags = " ".join(_port(device.port))
        if flags:
            yield f"bridge -n {quote(room.name)} link set dev {quote(device.name)} {flags}"
    for device in room.devices.values():
        if isinstance(device, Bridge) and any(d.master == device.name for d in ports):
            yield _ip(room, f"link set dev {quote(device.name)} mtu {device.mtu}")
    for device in room.devices.values():
        if _roomy(room, device) != device.mtu and device.kind == "veth":
            yield _ip(room, f"link set dev {quote(device.name)} mtu {device.mtu}")
    for device in room.devices.values():
        if isinstance(device, Tunnel) and getattr(room.devices.get(device.link), "kind", "") == "bridge":
            yield _ip(room, f"link set dev {quote(device.name)} mtu {device.mtu}")


def _port(port: Port) -> Iterator[str]:
    usual = Port()
    for flag in ("hairpin", "learning", "flood", "bcast_flood", "isolated"):
        value = getattr(port, flag)
        if value != getattr(usual, flag):
            yield f"{flag} {'on' if value else 'off'}"
    if port.state in PORT_STATES:
        yield f"state {PORT_STATES[port.state]}"
    if port.oddity:
        yield f"{port.oddity} on"


def _up(room: Netns) -> Iterator[str]:
    """A device that comes up brings its subnets' routes (fib_add_ifaddr); of two to one subnet the first decides."""
    brought: dict[str, int] = {}
    for n, route in enumerate(room.fib.routes()):
        if route.proto == "kernel":
            brought.setdefault(route.dev, n)
    for device in sorted(room.devices.values(), key=lambda d: (brought.get(d.name, -1), d.index)):
        words = ["mtu", str(device.mtu)] if device.name == LO and device.mtu != type(device)().mtu else []
        if device.noarp != type(device)().noarp:
            words += ["arp", "off" if device.noarp else "on"]
        if device.up:
            words.append("up")
        if words and (_kind(device) or device.kind in ("nic", "loopback")):
            yield _ip(room, f"link set dev {quote(device.name)} {' '.join(words)}")


# -- sysctls, addresses -----------------------------------------------------------------------------------------------


def _sysctls(room: Netns) -> Iterator[str]:
    """First what sets other values along with its own: ip_forward all devices, `all` and `default` what they lead."""
    known = room.conf_values
    plain = {k: v for k, v in room.sysctls.items() if not k.startswith(OPTIONAL_SYSCTLS)}
    yield from _sysctl(room, sorted(plain.items(), key=lambda kv: kv[0] != "net.ipv4.ip_forward"))
    optional = [kv for kv in room.sysctls.items() if kv[0].startswith(OPTIONAL_SYSCTLS)]
    yield from _sysctl(room, optional, "-eqw")
    default = known.get("default", {})
    for group in ("all", "default"):
        first = sorted(known.get(group, {}).items(), key=lambda kv: kv[0] != "forwarding")
        yield from _sysctl(room, [(f"net.ipv4.conf.{group}.{key}", value) for key, value in first])
    own = [
        (f"net.ipv4.conf.{dev.replace('.', '/')}.{key}", value)
        for dev in room.devices
        for key, value in known.get(dev, {}).items()
        if key == "forwarding"
        or default.get(key) != value  # forwarding never follows `default` (devinet_sysctl_forward)
    ]
    yield from _sysctl(room, own)


def _sysctl(room: Netns, pairs: list[tuple[str, int]], how: str = "-qw") -> Iterator[str]:
    if pairs:
        yield f"ip netns exec {quote(room.name)} sysctl {how} {' '.join(quote(f'{k}={v}') for k, v in pairs)}"


def _addresses(room: Netns) -> Iterator[str]:
    connected = {(r.dst, r.dev): r for r in room.fib.tables.get(254, ()) if r.proto == "kernel"}
    for device in room.devices.values():
        for addr in device.addrs:
            if device.name == LO and str(addr) == "127.0.0.1/8":
                continue
            net = Prefix.of(addr.peer or addr.local, addr.length)
            route = connected.get((net, device.name))
            words = [*address(addr), f"dev {quote(device.name)}"]
            if route is None and addr.length < 32 and not addr.secondary and addr.local not in LOOPBACK and device.up:
                words.append("noprefixroute")
            if route is not None and route.metric:
                words.append(f"metric {route.metric}")
            yield _ip(room, f"addr add {' '.join(words)}")


def address(addr: Addr) -> Iterator[str]:
    """The words of an address that `ip addr add` takes and `ip addr` prints alike."""
    if addr.peer is not None and addr.peer != addr.local:
        yield f"{addr.local} peer {addr.peer}/{addr.length}"
    else:
        yield str(addr)
    if addr.broadcast is not None:
        yield f"brd {addr.broadcast}"
    yield f"scope {SCOPE_NAMES.get(addr.scope, addr.scope)}"


# -- rules, routes, neighbours, fdb -----------------------------------------------------------------------------------


def _rules(room: Netns) -> Iterator[str]:
    for usual in DEFAULT_RULES:
        if usual not in room.fib.rules:
            yield _ip(room, f"rule del pref {usual.priority}")
    for rule in room.fib.rules:
        if rule not in DEFAULT_RULES:
            words = str(rule._replace(detached=frozenset(), unresolved=False))
            yield _ip(room, f"rule add pref {rule.priority} {words.partition(': ')[2]}")
        if rule.oddity:
            yield f"# {room.name}: the rule above also has {rule.oddity}, which is not modelled"


def _routes(room: Netns) -> Iterator[str]:
    """A gateway must be on a link already (fib_check_nh): plain routes first, main before other tables, rules later.

    `append` is for an equal prefix that is there already, perhaps put there by the kernel.
    """
    for number in sorted(room.fib.tables, reverse=True):
        routes = room.fib.routes(number)
        rank: dict[object, int] = {}
        for route in routes:
            key = (route.dst, route.tos, route.metric)
            rank[key] = max(rank.get(key, 0), int(any(h.via for h in route.nexthops)))
        seen = {(r.dst, r.tos, r.metric) for r in routes if r.proto == "kernel"}
        for route in sorted(routes, key=lambda r: rank[r.dst, r.tos, r.metric]):
            if route.proto == "kernel":
                continue
            key = (route.dst, route.tos, route.metric)
            yield _ip(room, f"route {'append' if key in seen else 'add'} {_route(route)}")
            seen.add(key)
            if route.oddity:
                yield f"# {room.name}: the route above also has {route.oddity}, which is not modelled"


def _route(route: Route) -> str:
    """What `ip route` prints is what it takes, but for flags only the kernel sets, and a scope it guesses otherwise."""
    hops = tuple(h._replace(dead=False, linkdown=False) for h in route.nexthops)
    text = str(route._replace(nexthops=hops))
    bare = len(hops) == 1 and not hops[0].via
    return f"{text} scope global" if bare and route.type == "unicast" and route.scope == SCOPE_GLOBAL else text


def _neighbours(room: Netns) -> Iterator[str]:
    for n in room.neighbours.all():
        if n.state in ("PERMANENT", "NOARP"):
            lladdr = f" lladdr {n.lladdr}" if n.lladdr is not None else ""
            yield _ip(room, f"neigh replace {n.dst}{lladdr} dev {quote(n.dev)} nud {n.state.lower()}")
    for dev, dst in sorted(room.neighbours.proxies):
        yield _ip(room, f"neigh replace proxy {type(ANY)(dst)} dev {quote(dev)}")


def _fdb(room: Netns) -> Iterator[str]:
    own = {int(d.mac) for d in room.devices.values()}
    for entry in sorted(room.bridge_fdb.entries.values(), key=lambda e: (e.dev, e.mac)):
        if entry.static and not (entry.local and int(entry.mac) in own):
            state = "permanent" if entry.local else "static"
            yield f"bridge -n {quote(room.name)} fdb replace {entry.mac} dev {quote(entry.dev)} master {state}"
    for entry in sorted(room.vxlan_fdb.all(), key=lambda e: (e.dev, e.mac)):  # far ends of one address keep their order
        device = room.devices.get(entry.dev)
        made_by_link = entry.mac == ZERO_MAC and isinstance(device, Tunnel) and entry.dst == device.remote
        if entry.static and not made_by_link:
            via = f" via {quote(entry.via)}" if entry.via else ""
            port = f" port {entry.port}" if entry.port else ""
            vni = f" vni {entry.vni}" if entry.vni >= 0 else ""
            words = f"{entry.mac} dev {quote(entry.dev)} dst {entry.dst}{port}{vni}{via} self permanent"
            yield f"bridge -n {quote(room.name)} fdb append {words}"


def restores(room: Netns) -> dict[str, str]:
    """What loads a room's IP sets, rules and virtual services: {tool: its input}, to be run in that order."""
    sets = "\n".join(map(str, room.netfilter.sets.values()))
    nft = "\n".join(map(str, room.netfilter.nft.values()))
    found = {"ipset restore": sets, "iptables-restore": str(room.netfilter), "nft -f -": nft}
    found["ipvsadm -R"] = str(room.ipvs)
    return {tool: text for tool, text in found.items() if text}


def _rest(room: Netns) -> Iterator[str]:
    """Sets, rules and virtual services, and the programs that answer in packetwalk."""
    for tool, text in restores(room).items():
        yield f"ip netns exec {quote(room.name)} {tool} <<'{END}'\n{text}\n{END}"
    for socket in room.sockets.servers():
        yield f"# {room.name}: {socket}"
