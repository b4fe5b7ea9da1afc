"""What a cluster's user left open: which rack a node stands in, subnets, gateways, node addresses; and what must hold.

Every error is a ValueError of one line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from packetwalk.addr import IPv4, Prefix
from packetwalk.hint import unknown
from packetwalk.kube.cidr import check_apart, split
from packetwalk.kube.cluster import Cluster, Node, Pod, Rack, numbered

NODE_CIDRS = ("192.168.56.0/21", "172.16.0.0/12")
POD_CIDRS = ("10.244.0.0/16", "10.128.0.0/9")
POINT_TO_POINT = Prefix.parse("100.64.0.0/16")  # /31s between leaves and spines (shared address space, RFC 6598)
FIRST_HOST = 11  # nodes count from here; below it is room for gateways and virtual addresses


class Place(NamedTuple):
    """A rack with everything filled in."""

    name: str
    subnet: Prefix
    gateway: IPv4
    switches: tuple[str, ...]
    cables: tuple[tuple[str, str], ...]


class Seat(NamedTuple):
    """A node with its rack and address filled in."""

    node: Node
    place: Place
    ip: IPv4


class Layout(NamedTuple):
    """The cluster's ground plan."""

    places: tuple[Place, ...]
    seats: tuple[Seat, ...]
    pod_cidr: Prefix
    service_cidr: Prefix
    outside: Prefix
    node_mask: int


def layout(cluster: Cluster) -> Layout:
    """Fill in what is open and check the whole. ValueError for what cannot be: overlaps, names used twice, no room."""
    nodes = numbered(cluster.nodes)
    if not nodes:
        raise ValueError("a cluster needs a node")
    racks = _racks(cluster)
    _once("node", (n.name for n in nodes))
    _once("rack", (r.name for r in racks))
    _once("pod", (p.room for p in cluster.pods))
    seats = _seated(nodes, racks)
    places = _places(cluster, racks, Counter(seats.values()))
    placed = _addressed(nodes, seats, places)
    pod_cidr = _pod_cidr(cluster, len(nodes))
    services, outside = _network("service CIDR", cluster.service_cidr), _network("outside network", cluster.outside)
    found = Layout(tuple(places.values()), placed, pod_cidr, services, outside, cluster.node_mask)
    check_apart({
        **_elsewhere(cluster, found),
        "pod CIDR": found.pod_cidr, "service CIDR": found.service_cidr, "outside network": found.outside,
        **{f"subnet of {p.name}": p.subnet for p in found.places},
        **({"links between leaves and spines": POINT_TO_POINT} if cluster.spines else {}),
    })  # fmt: skip
    known = {n.name for n in nodes}
    for pod in cluster.pods:
        if pod.node not in known:
            raise ValueError(f"pod {pod.room!r} is on no node: {unknown('node', pod.node, known)}")
    switches = [s for p in found.places for s in p.switches]
    _check_api_endpoint(cluster, placed)
    _check_host_network(cluster.pods)
    _once("room", [*(n.name for n in nodes), *(p.room for p in cluster.pods), *switches])
    return found


def _elsewhere(cluster: Cluster, found: Layout) -> dict[str, Prefix]:
    """The load balancer's pool, where it is no part of a node subnet."""
    if cluster.load_balancer is None or cluster.load_balancer.mode == "l2":
        return {}
    return {"load balancer pool": cluster.load_balancer.addresses(found)}


def _racks(cluster: Cluster) -> tuple[Rack, ...]:
    """The racks themselves; a number makes one switch `fabric`, or rack-1, rack-2 and so on with a switch each."""
    if not isinstance(cluster.racks, int):
        given = tuple(cluster.racks)
        if not given:
            raise ValueError("a cluster needs a rack")
        kind = "leaf" if cluster.spines else "tor"
        return tuple(r if r.switches else replace(r, switches=(f"{kind}-{i}",)) for i, r in enumerate(given, 1))
    if cluster.racks < 1:
        raise ValueError(f"{cluster.racks} racks: 1 or more was expected")
    if cluster.racks == 1 and not cluster.spines:
        return (Rack("rack-1", switches=("fabric",)),)
    kind = "leaf" if cluster.spines else "tor"
    return tuple(Rack(f"rack-{i}", switches=(f"{kind}-{i}",)) for i in range(1, cluster.racks + 1))


def _seated(nodes: Sequence[Node], racks: Sequence[Rack]) -> dict[str, str]:
    """{node: rack}: the rack it names, or the next in turn."""
    known = {r.name: r for r in racks}
    seats: dict[str, str] = {}
    for number, node in enumerate(nodes):
        if node.rack and node.rack not in known:
            raise ValueError(f"node {node.name!r} stands in no rack: {unknown('rack', node.rack, known)}")
        rack = known[node.rack] if node.rack else racks[number % len(racks)]
        if node.switch and node.switch not in rack.switches:
            raise ValueError(f"node {node.name!r}: {unknown(f'switch in {rack.name}', node.switch, rack.switches)}")
        seats[node.name] = rack.name
    return seats


def _places(cluster: Cluster, racks: Sequence[Rack], crowd: Counter[str]) -> dict[str, Place]:
    """Give each rack its subnet: its own, or the next free one of the node network."""
    most = max(crowd.values())
    bits = min(24, 32 - (most + FIRST_HOST).bit_length())
    wanted = [r for r in racks if not r.subnet]
    pools = (cluster.node_cidr,) if cluster.node_cidr else NODE_CIDRS
    given = [_network(f"subnet of {r.name}", r.subnet) for r in racks if r.subnet]
    free: list[Prefix] = []
    for pool in (_network("node CIDR", text) for text in pools):
        fits = split(pool, bits) if bits >= pool.length else iter(())
        free = [s for s, _ in zip((n for n in fits if n not in given), wanted, strict=False)]
        if len(free) == len(wanted):
            break
    else:
        raise ValueError(
            f"node CIDR {pools[-1]} is too small: {len(wanted)} subnets of /{bits} for {most} nodes each were wanted"
        )
    places: dict[str, Place] = {}
    for rack in racks:
        subnet = _network(f"subnet of {rack.name}", rack.subnet) if rack.subnet else free.pop(0)
        gateway = IPv4(rack.gateway) if rack.gateway else IPv4(subnet.addr + 1)
        if gateway not in subnet:
            raise ValueError(f"{rack.name}: gateway {gateway} is not in its subnet {subnet}")
        places[rack.name] = Place(rack.name, subnet, gateway, rack.switches, rack.cables)
    return places


def _addressed(nodes: Sequence[Node], seats: dict[str, str], places: dict[str, Place]) -> tuple[Seat, ...]:
    """Give each node its address: its own, or the next free one of its subnet."""
    taken: dict[int, str] = {int(p.gateway): f"the gateway of {p.name}" for p in places.values()}
    for node in nodes:
        if node.ip:
            place, ip = places[seats[node.name]], IPv4(node.ip)
            if ip not in place.subnet:
                raise ValueError(f"node {node.name!r}: address {ip} is not in {place.name}, which is {place.subnet}")
            if ip in taken:
                raise ValueError(f"node {node.name!r}: address {ip} is taken by {taken[ip]}")
            taken[int(ip)] = f"node {node.name!r}"
    nexts = {name: int(p.subnet.addr) + min(FIRST_HOST, 1 << (31 - p.subnet.length)) for name, p in places.items()}
    seated = []
    for node in nodes:
        place = places[seats[node.name]]
        addr = int(IPv4(node.ip)) if node.ip else nexts[place.name]
        while not node.ip and addr in taken:
            addr += 1
        if not node.ip:
            nexts[place.name] = addr + 1
        if addr not in place.subnet or addr == place.subnet.broadcast:
            raise ValueError(f"the subnet of {place.name}, {place.subnet}, is too small for its nodes")
        seated.append(Seat(node, place, IPv4(addr)))
    return tuple(seated)


def _pod_cidr(cluster: Cluster, nodes: int) -> Prefix:
    """The pod CIDR given, or the first of the usual ones that has a range for each node and one to spare."""
    if not 8 <= cluster.node_mask <= 30:
        raise ValueError(f"node_mask {cluster.node_mask} is out of range: 8 to 30 was expected")
    if cluster.pod_cidr:
        return _network("pod CIDR", cluster.pod_cidr)
    usual = [Prefix.parse(text) for text in POD_CIDRS]
    return next((p for p in usual if nodes < 1 << max(cluster.node_mask - p.length, 0)), usual[-1])


def _check_api_endpoint(cluster: Cluster, seats: Sequence[Seat]) -> None:
    """It must be a free address in the subnet of a control-plane node; a machine for it stands in the first rack."""
    if not cluster.api_endpoint:
        return
    ip = IPv4(cluster.api_endpoint)
    planes = [seat for seat in seats if seat.node.control_plane]
    if not planes:
        raise ValueError(f"API endpoint {ip} leads nowhere: no node is a control_plane")
    if other := next((s.node.name for s in seats if s.ip == ip), ""):
        raise ValueError(f"API endpoint {ip} is the address of node {other!r}; one of its own was expected")
    places = [seats[0].place] if cluster.api_balancer else [seat.place for seat in planes]
    if not any(ip in place.subnet and ip not in (place.gateway, place.subnet.broadcast) for place in places):
        raise ValueError(f"API endpoint {ip} is no free address of {' or '.join(str(p.subnet) for p in places)}")


def _check_host_network(pods: Iterable[Pod]) -> None:
    """On the host's network a pod has no address and no device of its own, and a port is for one of them only."""
    taken: dict[tuple[str, int], str] = {}
    for pod in (p for p in pods if p.host_network):
        if own := next((field for field in ("ip", "mac", "hostif") if getattr(pod, field)), ""):
            raise ValueError(f"pod {pod.room!r} is on the host's network, so it has no {own} of its own")
        for port in (*pod.listen, *pod.http):
            other = taken.setdefault((pod.node, port), pod.room)
            if other != pod.room:
                raise ValueError(f"pod {pod.room!r}: port {port} of {pod.node} is taken by pod {other!r}")


def _network(what: str, text: str) -> Prefix:
    try:
        return Prefix.parse(text)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _once(what: str, names: Iterable[str]) -> None:
    name, count = Counter(names).most_common(1)[0] if (names := list(names)) else ("", 0)
    if count > 1:
        raise ValueError(f"two {what}s are called {name!r}")
