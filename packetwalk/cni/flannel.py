"""Flannel: flanneld writes what it reads from the other nodes' annotations; the plugin `bridge` attaches the pods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packetwalk.cni.attach import bridge_add, bridge_pod
from packetwalk.cni.ipam import HostLocal

if TYPE_CHECKING:
    from packetwalk.addr import Prefix
    from packetwalk.kube.build import Host, Sandbox
    from packetwalk.kube.layout import Layout, Place
    from packetwalk.netns.shared import Shared

BRIDGE = "cni0"


@dataclass(frozen=True)
class Flannel:
    """backend: host-gw, vxlan or ipip."""

    backend: str = "vxlan"

    @property
    def name(self) -> str:
        return f"flannel-{self.backend}"

    def ipam(self, plan: Layout) -> HostLocal:
        return HostLocal(plan.pod_cidr)

    def setup_node(self, host: Host) -> None:
        bridge_add(host, BRIDGE, host.mtu)

    def add_pod(self, host: Host, pod: Sandbox) -> None:
        bridge_pod(host, pod, BRIDGE, host.mtu, hairpin=True, network=host.plan.pod_cidr)

    def peer(self, place: Place, peer: Host, tables: Shared) -> None:
        """host-gw: a route by the peer's address, which the kernel refuses for a peer of another subnet."""
        if peer.ip in place.subnet:
            tables.route_add(peer.pod_cidr, via=peer.ip, dev=peer.nic)

    def announced(self, host: Host) -> tuple[Prefix, ...]:
        return ()
