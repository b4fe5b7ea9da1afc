"""The network: rooms and the wires between them. Only it knows which device is plugged into which."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from packetwalk.collector import collector_paused
from packetwalk.netns.device import Device, Tunnel, Veth
from packetwalk.netns.namespace import Netns

if TYPE_CHECKING:
    import networkx

    from packetwalk.addr import IPv4
    from packetwalk.apps.resolver import ResolvConf
    from packetwalk.netns.chooser import RoomChooser

End = tuple[str, str]
"""(room, device)"""


def kubelet(node: str) -> str:
    """What the kubelet of a node is called, where a walk begins: the one who probes the node's pods."""
    return f"{node}/kubelet"


class Wire(NamedTuple):
    """A veth pair or a cable. rate in bit/s (0: no limit), delay in ns, queue in packets that wait
    while another leaves (a pfifo's limit)."""

    a: End
    b: End
    rate: int = 0
    delay: int = 0
    queue: int = 1000


class Network:
    """Rooms by name and the wires that join their devices."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.rooms: dict[str, Netns] = {}
        self.wires: dict[End, Wire] = {}
        self.roles: dict[str, str] = {}
        self.programs: dict[str, str] = {}  # who has no room of its own: {kubelet, pod on the host's network: room}
        self.services: dict[str, IPv4] = {}  # what a DNS would know: names that lead to an address of no room
        self.resolvers: dict[str, ResolvConf] = {}  # the /etc/resolv.conf of rooms that have one
        self.published: dict[str, IPv4] = {}  # what DNS says outside: names of services that have an address there
        self.chooser: RoomChooser | None = None  # draws for all rooms of an overlay; None: each draws for itself

    def __getitem__(self, room: str) -> Netns:
        return self.rooms[room]

    def __iter__(self) -> Iterator[Netns]:
        return (self.rooms[name] for name in self.rooms)

    def __contains__(self, room: object) -> bool:
        return room in self.rooms

    def add(self, room: Netns, role: str = "") -> Netns:
        """Put a room in. `role` says what it stands for: pod, node, router, switch, host."""
        if room.name in self.rooms:
            raise ValueError(f"two rooms are called {room.name!r}")
        self.rooms[room.name] = room
        self.roles[room.name] = role
        return room

    def room_of(self, name: str) -> str:
        """The room of that name, or the one that the program of that name runs in; the name itself for neither."""
        return name if name in self else self.programs.get(name, name)

    def host_pods(self) -> dict[str, str]:
        """Those of the programs that are pods on the host's network: {pod: node}."""
        return {name: room for name, room in self.programs.items() if name != kubelet(room)}

    def connect(self, a: End, b: End, *, rate: int = 0, delay: int = 0, queue: int = 1000) -> Wire:
        """Join two devices by a wire. Each end learns its peer's state and MTU; ValueError if one is taken."""
        wire = Wire(a, b, rate, delay, queue)
        near, other = self._device(a), self._device(b)
        for end in (a, b):
            if end in self.wires:
                raise ValueError(f"{end[0]}/{end[1]} is already wired to {self.far(end)}")
        self.wires[a] = self.wires[b] = wire
        if isinstance(near, Veth) and isinstance(other, Veth):
            near.peer, other.peer = other, near
        return wire

    def _device(self, end: End) -> Device:
        room, dev = end
        if room not in self.rooms:
            raise KeyError(f"no room {room!r}")
        return self.rooms[room].device(dev)

    def far(self, end: End) -> End | None:
        """The other end of the wire, None where nothing is plugged in."""
        wire = self.wires.get(end)
        if wire is None:
            return None
        return wire.b if wire.a == end else wire.a

    def in_making_order(self, rooms: Iterable[str]) -> Iterator[End]:
        """The devices of some rooms (but `lo`, and one end for a wire) so that each room gets its own by their numbers:
        in the order they were made, a kernel looks through them for a source address (inet_select_addr).

        A wire makes two at once, so it waits for both rooms; where they wait for one another, one goes ahead.
        """
        waiting = {name: deque(_numbered(self.rooms[name])) for name in rooms}
        stuck = False
        while any(waiting.values()):
            moved = False
            for room, queue in waiting.items():
                while queue:
                    far = self.far((room, queue[0]))
                    others = waiting.get(far[0]) if far is not None else None
                    if far is not None and others and others[0] != far[1] and not stuck:
                        break
                    end = (room, queue.popleft())
                    if far is not None and others:
                        others.remove(far[1])
                    yield end
                    moved, stuck = True, False
            stuck = not moved

    def link_set(self, room: str, dev: str, **words: Any) -> None:
        """`ip link set` in a room, with its words (Netns.link_set), and what the far end of a veth notices of it."""
        self[room].link_set(dev, **words)
        far = self.far((room, dev))
        if far is not None and words.get("up") is not None:
            self[far[0]].carrier_changed(far[1])

    def clone(self) -> Network:
        """A network of its own that shares nothing, to be changed."""
        with collector_paused():
            return copy.deepcopy(self)

    def overlay(self) -> Network:
        """A network to learn into: rooms are copied when first entered, configuration and wires are shared."""
        new = Network(self.name)
        new.rooms = Overlay(self.rooms, new)
        new.wires, new.roles, new.programs = self.wires, self.roles, self.programs
        new.services, new.published = self.services, self.published
        new.resolvers = self.resolvers
        return new

    def visited(self) -> list[str]:
        """In an overlay: the rooms that were entered. Otherwise all."""
        return list(dict.keys(self.rooms))

    def owner(self, addr: int) -> str | None:
        """The first room that has the address on a device other than loopback."""
        for name, room in self.rooms.items():
            if any(a.local == addr for d in room.devices.values() if d.name != "lo" for a in d.addrs):
                return name
        return None

    def graph(self) -> networkx.MultiGraph[str]:
        """A frozen networkx view: rooms, their devices, wires and tunnels, with attributes. Never read by a walk."""
        import networkx as nx

        g: networkx.MultiGraph[str] = nx.MultiGraph(name=self.name)
        for name, room in self.rooms.items():
            g.add_node(name, kind="room", role=self.roles.get(name, ""))
            for dev in room.devices.values():
                node = f"{name}/{dev.name}"
                g.add_node(
                    node, kind=dev.kind, mtu=dev.mtu, mac=str(dev.mac), up=dev.up, addrs=tuple(map(str, dev.addrs))
                )
                g.add_edge(name, node, kind="device")
                if dev.master:
                    g.add_edge(f"{name}/{dev.master}", node, kind="port")
        for end, wire in self.wires.items():
            if end == wire.a:
                g.add_edge("/".join(wire.a), "/".join(wire.b), kind="wire", rate=wire.rate, delay=wire.delay)
        for a, b, kind in self._tunnels():
            g.add_edge(a, b, kind=kind)
        frozen: networkx.MultiGraph[str] = nx.freeze(g)
        return frozen

    def _tunnels(self) -> Iterator[tuple[str, str, str]]:
        """Pairs of tunnel devices of which one names the other's address (remote, FDB entry, or a route through it)."""
        owners = {
            int(a.local): n
            for n, r in self.rooms.items()
            for d in r.devices.values()
            for a in d.addrs
            if d.name != "lo"
        }
        seen: set[tuple[str, str]] = set()
        for name, room in self.rooms.items():
            for dev in room.devices.values():
                if not isinstance(dev, Tunnel):
                    continue
                ends = {int(e.dst) for e in room.vxlan_fdb.all() if e.dev == dev.name} | {int(dev.remote)}
                ends |= {
                    int(h.via) for r in room.fib.tables[254] for h in r.nexthops if h.dev == dev.name and not dev.ether
                }
                for far in sorted(owners[e] for e in ends if e in owners and owners[e] != name):
                    twin = next((d.name for d in self.rooms[far].devices.values() if d.kind == dev.kind), None)
                    pair = (f"{name}/{dev.name}", f"{far}/{twin}")
                    if twin and pair not in seen:
                        seen |= {pair, (pair[1], pair[0])}
                        yield (*pair, dev.kind)


def _numbered(room: Netns) -> list[str]:
    """The names of the devices but `lo`, by number; a tunnel comes after the device it is bound to."""

    def rank(device: Device) -> tuple[int, int]:
        under = room.devices.get(device.link) if isinstance(device, Tunnel) else None
        return max(device.index, under.index if under is not None else 0), device.index

    return [d.name for d in sorted(room.devices.values(), key=rank) if d.kind != "loopback"]


class Overlay(dict[str, Netns]):
    """Rooms that copy themselves when first looked at."""

    def __init__(self, base: dict[str, Netns], network: Network) -> None:
        super().__init__()
        self.base, self.network = base, network

    def __missing__(self, name: str) -> Netns:
        room = self[name] = self.base[name].overlay()
        if self.network.chooser is not None:
            room.chooser = self.network.chooser
        return room

    def __contains__(self, name: object) -> bool:
        return name in self.base

    def __iter__(self) -> Iterator[str]:
        return iter(self.base)
