"""The network below the cluster: switches, and what joins them to each other and to the outside.

One rack is a switch `fabric` behind a router. Several racks are subnets behind one router, or, with spines, each rack's
switch is a leaf that routes and is wired to every spine; a border leads outside.
"""

from __future__ import annotations

from collections.abc import Iterable

from packetwalk.addr import IPv4, Mac, Prefix
from packetwalk.kube.chance import mac_of
from packetwalk.kube.cluster import Cluster, Link
from packetwalk.kube.layout import POINT_TO_POINT, Layout, Place, Seat
from packetwalk.netns.device import Bridge, Device, Veth
from packetwalk.netns.fib_table import Nexthop
from packetwalk.netns.namespace import Netns
from packetwalk.network import Network

BRIDGE = "br0"
OUT = "out"


class Fabric:
    """The rooms between the nodes. `plug` wires a node in; `learn` is what BGP speakers tell their routers."""

    def __init__(self, cluster: Cluster, plan: Layout, network: Network) -> None:
        self.cluster, self.plan, self.network = cluster, plan, network
        self.spines: list[Netns] = []
        self.routers: dict[str, Netns] = {}  # by rack: where its gateway address is
        self._legs: dict[str, str] = {}  # by rack: the device of that router which has it
        self._machines: set[int] = set()
        self._links = 0
        for place in plan.places:
            self._switches(place)
        if cluster.spines:
            self._leaf_and_spine()
        else:
            self._router()

    # -- nodes -----------------------------------------------------------------------------------------------------

    def plug(self, seat: Seat, node: Netns) -> None:
        """Give the node its network card, wired to its rack's switch, its address and its default route."""
        nic = self.cluster.nic
        mac = Mac(seat.node.mac) if seat.node.mac else mac_of(self.cluster.seed, seat.node.name)
        self._wire_in(node, nic, seat.node.switch or seat.place.switches[0], mac)
        node.addr_add(nic, f"{seat.ip}/{seat.place.subnet.length}")
        node.route_add("default", via=seat.place.gateway, dev=nic)

    def machine(self, name: str, ip: str = "") -> tuple[Netns, Place, IPv4]:
        """One more machine in the first rack, which is no node: wired as one, at that address or the first free one."""
        place = self.plan.places[0]
        taken = {int(place.gateway), *(int(seat.ip) for seat in self.plan.seats), *self._machines}
        taken |= {int(IPv4(self.cluster.api_endpoint))} if self.cluster.api_endpoint else set()
        free = (n for n in range(int(place.subnet.addr) + 1, int(place.subnet.broadcast)) if n not in taken)
        addr = int(IPv4(ip)) if ip else next(free, 0)
        if addr not in place.subnet:
            raise ValueError(f"machine {name!r}: {place.subnet} of {place.name} has no room for it, or not at {ip!r}")
        self._machines.add(addr)
        room = self.network.add(Netns(name, self.cluster.seed), "host")
        self._wire_in(room, "eth0", place.switches[0], mac_of(self.cluster.seed, name))
        room.addr_add("eth0", f"{IPv4(addr)}/{place.subnet.length}")
        room.route_add("default", via=place.gateway, dev="eth0")
        return room, place, IPv4(addr)

    def learn(self, prefix: Prefix, ways: Iterable[tuple[Place, IPv4]]) -> None:
        """A route by machines of the racks, as BGP spreads it: a rack's router goes by its own of them, all others by
        such a router. Where there are several, they share the traffic."""
        homes: dict[str, list[Nexthop]] = {}
        for place, ip in ways:
            homes.setdefault(self.routers[place.name].name, []).append(Nexthop(self._legs[place.name], ip))
        for name, hops in homes.items():
            self.network[name].route_add(prefix, nexthops=tuple(hops), proto="bird")
        if self.spines and homes:
            for spine in self.spines:
                hops = [Nexthop(name, self._far(spine.name, name)) for name in homes]
                spine.route_add(prefix, nexthops=tuple(hops), proto="bird")
            self.network["border"].route_add(prefix, nexthops=self._spine_hops("border"), proto="bird")

    def _wire_in(self, room: Netns, nic: str, switch: str, mac: Mac) -> None:
        room.link_add(nic, Veth(mtu=self.cluster.link.mtu, mac=mac))
        self._port(switch, f"p-{room.name}", (room.name, nic), self.cluster.link)

    # -- switches --------------------------------------------------------------------------------------------------

    def _switches(self, place: Place) -> None:
        """The switches of a rack and the cables between them; a loop would carry a broadcast round for ever."""
        if len(place.switches) > 1 or place.cables:
            check_cabling(place)
        for name in place.switches:
            switch = self.network.add(Netns(name, self.cluster.seed), "switch")
            switch.link_add(BRIDGE, Bridge(mtu=self.cluster.link.mtu, mac=mac_of(self.cluster.seed, name)))
        for a, b in place.cables:
            self.network[a].link_add(f"p-{b}", self._veth(a, b, self.cluster.uplink))
            self.network[a].link_set(f"p-{b}", master=BRIDGE)
            self._port(b, f"p-{a}", (a, f"p-{b}"), self.cluster.uplink)

    def _port(self, switch: str, name: str, far: tuple[str, str], link: Link) -> None:
        """A switch port with a cable to the device at the far end."""
        room = self.network[switch]
        room.link_add(name, self._veth(switch, name, link))
        room.link_set(name, master=BRIDGE)
        self.network.connect(far, (switch, name), rate=link.rate, delay=link.delay, queue=link.queue)

    def _veth(self, room: str, dev: str, link: Link) -> Veth:
        return Veth(mtu=link.mtu, mac=mac_of(self.cluster.seed, f"{room}/{dev}"))

    # -- one router ------------------------------------------------------------------------------------------------

    def _router(self) -> None:
        """One router with a leg in every rack and one outside."""
        router = self._forwarding("router")
        for number, place in enumerate(self.plan.places):
            self._leg(router, f"eth{number}", place)
            self.routers[place.name], self._legs[place.name] = router, f"eth{number}"
        self._outside(router)

    def _forwarding(self, name: str) -> Netns:
        router = self.network.add(Netns(name, self.cluster.seed), "router")
        router.sysctl("net.ipv4.ip_forward", 1)
        return router

    def _leg(self, router: Netns, dev: str, place: Place) -> None:
        router.link_add(dev, self._veth(router.name, dev, self.cluster.uplink))
        self._port(place.switches[0], f"p-{router.name}", (router.name, dev), self.cluster.uplink)
        router.addr_add(dev, f"{place.gateway}/{place.subnet.length}")

    def _outside(self, router: Netns) -> None:
        """The host `out` on a network of its own behind the router."""
        net, link = self.plan.outside, self.cluster.uplink
        out = self.network.add(Netns(OUT, self.cluster.seed), "host")
        router.link_add("ext0", self._veth(router.name, "ext0", link))
        out.link_add("eth0", self._veth(OUT, "eth0", link))
        self.network.connect((router.name, "ext0"), (OUT, "eth0"), rate=link.rate, delay=link.delay, queue=link.queue)
        router.addr_add("ext0", f"{IPv4(net.addr + 1)}/{net.length}")
        out.addr_add("eth0", f"{IPv4(net.addr + 10)}/{net.length}")
        out.route_add("default", via=IPv4(net.addr + 1), dev="eth0")

    # -- leaf and spine --------------------------------------------------------------------------------------------

    def _leaf_and_spine(self) -> None:
        """Every leaf has a wire of its own to every spine, and shares traffic among them."""
        border = self._forwarding("border")
        self.spines = [self._forwarding(f"spine-{i}") for i in range(1, self.cluster.spines + 1)]
        for place in self.plan.places:
            leaf = self.network[place.switches[0]]
            leaf.sysctl("net.ipv4.ip_forward", 1)
            self.network.roles[leaf.name] = "router"
            leaf.addr_add(BRIDGE, f"{place.gateway}/{place.subnet.length}")
            self.routers[place.name], self._legs[place.name] = leaf, BRIDGE
            for spine in self.spines:
                self._point_to_point(leaf, spine)
        for spine in self.spines:
            self._point_to_point(border, spine)
        self._outside(border)
        for place in self.plan.places:
            leaf = self.routers[place.name]
            leaf.route_add("default", nexthops=self._spine_hops(leaf.name), proto="bird")
            border.route_add(place.subnet, nexthops=self._spine_hops("border"), proto="bird")
            for spine in self.spines:
                spine.route_add(place.subnet, via=self._far(spine.name, leaf.name), dev=leaf.name, proto="bird")
        for spine in self.spines:
            spine.route_add("default", via=self._far(spine.name, "border"), dev="border", proto="bird")

    def _point_to_point(self, leaf: Netns, spine: Netns) -> None:
        """A wire with a /31 (RFC 3021); each end's device is named after the other end."""
        link, base = self.cluster.uplink, POINT_TO_POINT.addr + 2 * self._links
        self._links += 1
        for room, far, addr in ((leaf, spine, base), (spine, leaf, base + 1)):
            room.link_add(far.name, self._veth(room.name, far.name, link))
            room.addr_add(far.name, f"{IPv4(addr)}/31")
        ends = (leaf.name, spine.name), (spine.name, leaf.name)
        self.network.connect(*ends, rate=link.rate, delay=link.delay, queue=link.queue)

    def _far(self, room: str, neighbour: str) -> IPv4:
        """The neighbour's address on the wire between the two."""
        device: Device = self.network[neighbour].device(room)
        return device.addrs[0].local

    def _spine_hops(self, leaf: str) -> tuple[Nexthop, ...]:
        return tuple(Nexthop(s.name, self._far(leaf, s.name)) for s in self.spines)


def check_cabling(place: Place) -> None:
    """Cables must join all switches of a rack without a loop. ValueError, in one line, where they do not."""
    import networkx as nx  # only here: it takes longer to import than most walks take

    graph: nx.MultiGraph[object] = nx.MultiGraph()
    graph.add_nodes_from(place.switches)
    for cable in place.cables:
        if unknown := next((end for end in cable if end not in place.switches), None):
            raise ValueError(f"{place.name}: a cable ends at {unknown!r}, which is none of its switches")
        graph.add_edge(*cable)
    if not nx.is_forest(graph):
        loop = nx.find_cycle(graph)
        names = " - ".join(str(edge[0]) for edge in loop)
        raise ValueError(f"{place.name}: the switches {names} form a loop without a router in it")
    if not nx.is_connected(graph):
        apart = sorted(set(place.switches) - nx.node_connected_component(graph, place.switches[0]))
        raise ValueError(f"{place.name}: no cable joins {apart[0]!r} to {place.switches[0]!r}")
