"""A room that balances: clients behind eth0 (10.0.0.2), real servers behind eth1 (10.0.1.2, ...), and virtual
addresses 10.96.0.1 and 10.96.0.2 of its own."""

from __future__ import annotations

from packetwalk.addr import IPv4
from packetwalk.netns.device import Dummy
from packetwalk.netns.ipvs import RealServer, VirtualService
from packetwalk.netns.ipvs_conn import Key
from packetwalk.netns.namespace import Netns
from packetwalk.packet import PROTO_TCP, PROTO_UDP, Ip, Packet, Tcp, Udp
from packetwalk.trace import Step
from tests.netns.rooms import M3, frame, router, sent

VIP = "10.96.0.1"
WEB = Key(PROTO_TCP, IPv4(VIP), 80)
DNS = Key(PROTO_UDP, IPv4(VIP), 53)
FIRST, SECOND_ONE = RealServer(IPv4("10.0.1.2"), 8080), RealServer(IPv4("10.0.1.3"), 8080)


def service(key: Key = WEB, *servers: RealServer, scheduler: str = "rr", **options: object) -> VirtualService:
    return VirtualService(key, scheduler, servers or (FIRST,), **options)  # type: ignore[arg-type]


def balancer(*services: VirtualService, conntrack: bool = True) -> Netns:
    """The room with those services, tracked by conntrack as kube-proxy wants it (or not at all)."""
    room = router("lvs", "10.0.0.1/24", "10.0.1.1/24", known=True)
    room.neigh_add("10.0.1.3", M3, "eth1")
    room.link_add("kube-ipvs0", Dummy())
    room.addr_add("kube-ipvs0", f"{VIP}/32")
    for one in services or (service(),):
        room.ipvs.add(one)
    room.conntrack = conntrack
    room.sysctl("net.ipv4.vs.conntrack", int(conntrack))
    return room


def came(room: Netns, packet: Packet, now: int = 0, dev: str = "eth0") -> list[Step]:
    """A packet arrives from a neighbour on a device."""
    return room.receive(dev, frame(packet, dst=room.devices[dev].mac), now)


def ends(packet: Packet) -> str:
    """`10.0.0.2:40000 > 10.0.1.2:8080` of an IP packet, perhaps in a frame."""
    ip = next(h for h in packet.headers if isinstance(h, Ip))
    l4 = next(h for h in packet.headers if isinstance(h, Tcp | Udp))
    return f"{ip.src}:{l4.sport} > {ip.dst}:{l4.dport}"


def went(steps: list[Step], dev: str = "") -> list[str]:
    """`ends` of everything transmitted."""
    return [ends(packet) for packet in sent(steps, dev)]
