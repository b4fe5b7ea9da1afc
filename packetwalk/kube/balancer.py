"""Load balancers: who gives a service its outside address, and who leads the traffic for that address to a node.

A bare cluster has MetalLB: a speaker on one node answers ARP for the address (l2), or all nodes tell the routers about
it (bgp). A cloud has a machine of its own before the nodes, which translates to node ports or hands packets on as they
are. All of it is tables: kube-proxy's rules on the nodes take the address where it arrives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from packetwalk.addr import IPv4, Prefix
from packetwalk.kube.controlplane import API_PORT
from packetwalk.kube.kubeproxy import BUILT_IN, comment, port_name, probability
from packetwalk.kube.service import Endpoint, Service
from packetwalk.netns.fib_table import Nexthop
from packetwalk.snapshot.iptables_save import read_iptables

if TYPE_CHECKING:
    from packetwalk.kube.build import Host
    from packetwalk.kube.fabric import Fabric
    from packetwalk.kube.layout import Layout, Place
    from packetwalk.netns.namespace import Netns

MODES = ("l2", "bgp", "cloud")
ELSEWHERE = "198.51.100.0/24"  # TEST-NET-2 (RFC 5737): addresses that only routes lead to
ROOM = "lb"


@dataclass(frozen=True)
class LoadBalancer:
    """mode: l2 (one elected node answers ARP for the address), bgp (routers spread traffic over the nodes) or cloud (a
    machine `lb` before them). pool: addresses for services that ask for none; in l2 part of a node subnet.

    direct_return: the machine of a cloud changes nothing, and nodes answer the client themselves.
    """

    mode: str = "l2"
    pool: str = ""
    direct_return: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"there is no load balancer {self.mode!r}; there are {', '.join(MODES)}")
        if self.direct_return and self.mode != "cloud":
            raise ValueError(f"direct_return is for a cloud; with {self.mode} nodes answer clients themselves anyway")

    def addresses(self, plan: Layout) -> Prefix:
        """The pool, or a usual one: the last sixteenth of the first node subnet (l2), or addresses from nowhere."""
        if self.pool:
            return Prefix.parse(self.pool)
        if self.mode != "l2":
            return Prefix.parse(ELSEWHERE)
        subnet = plan.places[0].subnet
        length = min(subnet.length + 4, 30)
        return Prefix(IPv4((int(subnet.broadcast) >> (32 - length)) << (32 - length)), length)


def addressed(balancer: LoadBalancer, plan: Layout, services: Iterable[Service]) -> tuple[Service, ...]:
    """The services, each of type LoadBalancer with an address: those it asks for, or the next free one of the pool.

    ValueError, in one line, for a pool that is used up.
    """
    services = tuple(services)
    pool = balancer.addresses(plan)
    taken = {int(IPv4(ip)) for s in services for ip in s.load_balancer_ips}
    taken |= {int(seat.ip) for seat in plan.seats} | {int(place.gateway) for place in plan.places}
    taken |= {int(place.subnet.broadcast) for place in plan.places}
    free = (n for n in range(int(pool.addr), int(pool.broadcast) + 1) if n not in taken)
    return tuple(_addressed(s, free, pool) for s in services)


def _addressed(service: Service, free: Iterator[int], pool: Prefix) -> Service:
    if service.type != "LoadBalancer" or service.load_balancer_ips:
        return service
    number = next(free, None)
    if number is None:
        raise ValueError(f"service {service.name!r}: no address is left in the load balancer's pool {pool}")
    return replace(service, load_balancer_ips=(str(IPv4(number)),))


def announce(balancer: LoadBalancer, fabric: Fabric, hosts: Mapping[str, Host], services: Iterable[Service]) -> None:
    """Lead traffic for each address of the services to the nodes that may have it. ValueError for what cannot be."""
    asked = [s for s in services if s.type == "LoadBalancer" and s.load_balancer_ips]
    if balancer.mode == "cloud" and asked:
        _cloud(balancer, fabric, hosts, asked)
        return
    for service in asked:
        names = speakers(service, hosts)
        for ip in map(IPv4, service.load_balancer_ips):
            if balancer.mode == "bgp":
                fabric.learn(Prefix(ip, 32), ((hosts[name].place, hosts[name].ip) for name in names))
            else:
                _answer(service, ip, [hosts[name] for name in names])


def speakers(service: Service, hosts: Iterable[str]) -> list[str]:
    """The nodes that may have the traffic: with the policy Local those with an endpoint that serves, else all of them
    while there is one at all (ShouldAnnounce in MetalLB's speaker)."""
    serving = [e for e in service.endpoints if _serves(e)]
    local = {e.node for e in serving}
    return [name for name in hosts if (name in local if service.external_local else serving)]


def _serves(endpoint: Endpoint) -> bool:
    return endpoint.ready if endpoint.serving is None else endpoint.serving


def _answer(service: Service, ip: IPv4, candidates: Sequence[Host]) -> None:
    """The node whose name hashes lowest with the address answers ARP for it, on the device that has its own address."""
    near = [host for host in candidates if ip in host.place.subnet]
    if candidates and not near:
        raise ValueError(f"service {service.name!r}: {ip} is in no subnet of a node that could answer ARP for it")
    if near:
        host = min(near, key=lambda h: sha256(f"{h.name}#{ip}".encode()).digest())
        host.netns.arp_respond(ip, host.address_dev)


def serve_api(endpoint: str, balancer: bool, fabric: Fabric, planes: Sequence[Host]) -> None:
    """Lead the control plane's endpoint to API servers: it is an address more of the first node (as kube-vip's leader
    has it), or that of a machine `api-lb` before all of them."""
    if not balancer:
        leader = next(host for host in planes if IPv4(endpoint) in host.place.subnet)
        leader.netns.addr_add(leader.address_dev, f"{endpoint}/32")
        return
    room, _, _ = machine(fabric, "api-lb", endpoint)
    room.conntrack = True
    front = Front("control-plane", endpoint, API_PORT, tuple((host.ip, API_PORT) for host in planes))
    room.netfilter = read_iptables(translation([front]), "api-lb")


# -- a machine of its own ----------------------------------------------------------------------------------------------


def _cloud(balancer: LoadBalancer, fabric: Fabric, hosts: Mapping[str, Host], services: Sequence[Service]) -> None:
    """The machine `lb` on the first rack's switch: the fabric routes the addresses to it.

    Its health checks leave out nodes: with the policy Local those whose healthCheckNodePort says that they have no
    endpoint that is ready.
    """
    room, place, address = machine(fabric, ROOM)
    room.conntrack = not balancer.direct_return
    healthy = {s.full_name: [hosts[n] for n in hosts if not s.external_local or _ready_on(s, n)] for s in services}
    for service in services:
        for ip in map(IPv4, service.load_balancer_ips):
            fabric.learn(Prefix(ip, 32), [(place, address)])
            if balancer.direct_return:
                _hand_on(room, service, ip, healthy[service.full_name])
            else:
                room.addr_add("lo", f"{ip}/32")
    if not balancer.direct_return:
        room.netfilter = read_iptables(translation(_fronts(services, healthy)), ROOM)


def _fronts(services: Iterable[Service], healthy: Mapping[str, Sequence[Host]]) -> Iterator[Front]:
    for service in services:
        for port, ip in product(service.ports, service.load_balancer_ips):
            backs = tuple((host.ip, port.node_port) for host in healthy[service.full_name])
            sources = service.load_balancer_source_ranges
            yield Front(port_name(service, port), ip, port.port, backs, port.protocol.lower(), sources)


def machine(fabric: Fabric, name: str, ip: str = "") -> tuple[Netns, Place, IPv4]:
    """A machine before the nodes, on the switch of the first rack; it tells no client that packets leave it by the
    device they came by."""
    room, place, address = fabric.machine(name, ip)
    room.sysctl("net.ipv4.ip_forward", 1)
    for dev in ("all", "eth0"):
        room.sysctl(f"net.ipv4.conf.{dev}.send_redirects", 0)
    return room, place, address


def _ready_on(service: Service, node: str) -> bool:
    return any(e.ready and e.node == node for e in service.endpoints)


def _hand_on(room: Netns, service: Service, ip: IPv4, hosts: Sequence[Host]) -> None:
    """Packets go on to a node as they are."""
    if len({host.place.name for host in hosts}) > 1:
        raise ValueError(f"service {service.name!r}: direct_return hands frames to nodes, so all must be in one rack")
    if hosts:
        room.route_add(Prefix(ip, 32), nexthops=tuple(Nexthop("eth0", host.ip) for host in hosts))
    else:
        room.route_add(Prefix(ip, 32), type="unreachable")


class Front(NamedTuple):
    """An address and port of the machine, and those behind it; sources: whom it lets in, all if empty."""

    name: str
    ip: str
    port: int
    backs: tuple[tuple[IPv4, int], ...]
    proto: str = "tcp"
    sources: tuple[str, ...] = ()

    @property
    def match(self) -> str:
        return f"-d {self.ip}/32 -p {self.proto} {comment(self.name)} -m {self.proto} --dport {self.port}"

    @property
    def chain(self) -> str:
        return f"LB-{sha256(f'{self.name} {self.ip}'.encode()).hexdigest()[:16].upper()}"


def translation(fronts: Iterable[Front]) -> str:
    """iptables-save's text of a machine that translates to whom lots are drawn for, and to its own address as source.

    Source ranges hold here, since node ports know none.
    """
    fronts = tuple(fronts)
    lines = ["*filter", *(f":{name} ACCEPT [0:0]" for name in BUILT_IN["filter"])]
    lines += [f"-A INPUT {front.match} -j DROP" for front in fronts if front.sources]
    lines += ["COMMIT", "*nat", *(f":{name} ACCEPT [0:0]" for name in BUILT_IN["nat"])]
    lines += [f":{front.chain} - [0:0]" for front in fronts]
    for front in fronts:
        sources = [f"-s {Prefix.parse(text)} " for text in front.sources]
        lines += [f"-A PREROUTING {source}{front.match} -j {front.chain}" for source in sources or ("",)]
    lines.append("-A POSTROUTING -m conntrack --ctstate DNAT -j MASQUERADE")
    for front in fronts:
        for left, (ip, port) in zip(range(len(front.backs), 0, -1), front.backs, strict=True):
            draw = f"-m statistic --mode random --probability {probability(left)} " if left > 1 else ""
            lines.append(f"-A {front.chain} -p {front.proto} {draw}-j DNAT --to-destination {ip}:{port}")
    return "\n".join([*lines, "COMMIT", ""])
