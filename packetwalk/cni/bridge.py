"""The plugins `bridge` and host-local, with a static route to each node's range, as in Kubernetes The Hard Way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packetwalk.cni.attach import bridge_add, bridge_pod
from packetwalk.cni.base import ONE_SUBNET, POD_ADDRESSES, Cni, Need
from packetwalk.cni.ipam import HostLocal

if TYPE_CHECKING:
    from packetwalk.kube.build import Host, Sandbox
    from packetwalk.kube.layout import Layout, Place
    from packetwalk.netns.shared import Shared


@dataclass(frozen=True)
class FlatBridge(Cni):
    """Pods on a bridge; whoever set the cluster up routes each range to its node (`ip route add RANGE via NODE`).

    mtu: of the bridge and the pods; the plugin does not look at the network card. hairpin: hairpinMode of the plugin.
    """

    bridge: str = "cni0"
    mtu: int = 1500
    hairpin: bool = False

    @property
    def name(self) -> str:
        return "flat-bridge"

    @property
    def needs(self) -> tuple[Need, ...]:
        return ONE_SUBNET, POD_ADDRESSES

    def ipam(self, plan: Layout) -> HostLocal:
        return HostLocal(plan.pod_cidr)

    def setup_node(self, host: Host) -> None:
        bridge_add(host, self.bridge, self.mtu)

    def add_pod(self, host: Host, pod: Sandbox) -> None:
        bridge_pod(host, pod, self.bridge, self.mtu, hairpin=self.hairpin)

    def peer(self, place: Place, peer: Host, tables: Shared) -> None:
        """A gateway must be on the link: a node of another subnet is reached by nothing but the default route."""
        if peer.ip in place.subnet:
            tables.route_add(peer.pod_cidr, via=peer.ip, dev=peer.nic)
