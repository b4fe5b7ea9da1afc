"""A point-to-point Geneve overlay: routed pods, and on each node one geneve device to each other node.

No project ships just this; it is what the kernel's own geneve device can do without OVS and its flow-based tunnels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packetwalk.cni.attach import routed_pod
from packetwalk.cni.base import Cni, Need, Share, check_mtu, tunnel, within
from packetwalk.cni.ipam import Blocks
from packetwalk.netns.device import Geneve as Device

if TYPE_CHECKING:
    from packetwalk.kube.build import Host, Sandbox
    from packetwalk.kube.layout import Layout, Place
    from packetwalk.netns.shared import Shared

MOST_NODES = 100
PORT = 6081  # RFC 8926, which the kernel takes where nobody says


@dataclass(frozen=True)
class Geneve(Cni):
    """vni: of every tunnel. mtu: of pods and tunnels; 0 is the network card's less the header."""

    vni: int = 100
    mtu: int = 0
    block_size: int = 26

    def __post_init__(self) -> None:
        check_mtu(self.mtu)
        within("vni", self.vni, 0, 0xFFFFFF)
        within("block_size", self.block_size, 20, 32)

    @property
    def name(self) -> str:
        return "geneve"

    @property
    def needs(self) -> tuple[Need, ...]:
        return tunnel(f"UDP {PORT}", Device.overhead)

    def ipam(self, plan: Layout) -> Blocks:
        """A device for each pair of nodes: the one mode here that grows with the square of them."""
        if len(plan.seats) > MOST_NODES:
            raise ValueError(
                f"geneve: {len(plan.seats)} nodes; it takes a device on each node for every other one, "
                f"so {MOST_NODES} are the most"
            )
        return Blocks(plan.pod_cidr, self.block_size)

    def share(self, node_mask: int) -> Share:
        return Share(self.block_size, 0, 1, Blocks.MOST, "block")

    def setup_node(self, host: Host) -> None:
        host.netns.sysctl("net.ipv4.ip_forward", 1)
        host.tunnel_ip = host.claim(host.node.tunnel_ip)
        others = [seat.ip for seat in host.plan.seats if seat.node.name != host.name]
        for number, ip in enumerate(others):
            name = f"genev{number}"
            mtu = host.mtu - Device.overhead
            host.netns.link_add(name, Device(mtu=mtu, mac=host.mac("genev"), vni=self.vni, remote=ip))
            if not number:
                host.netns.addr_add(name, f"{host.tunnel_ip}/32")

    def add_pod(self, host: Host, pod: Sandbox) -> None:
        routed_pod(host, pod, self.mtu or host.mtu - Device.overhead)

    def settle(self, host: Host) -> None:
        """Routes and neighbours behind the tunnels: they are each node's own, as its devices are."""
        for block in host.ranges:
            if block.length < 32:
                host.netns.route_add(block, type="blackhole", proto="80")
        ends = {d.remote: d.name for d in host.netns.devices.values() if isinstance(d, Device)}
        for peer in host.others():
            dev = ends[peer.ip]
            host.netns.neigh_add(peer.tunnel_ip, peer.mac("genev"), dev)
            for block in peer.ranges:
                host.netns.route_add(block, via=peer.tunnel_ip, dev=dev, onlink=True)

    def peer(self, place: Place, peer: Host, tables: Shared) -> None:
        """Nothing is alike on two nodes."""
