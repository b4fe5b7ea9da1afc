"""The plugins `bridge` and host-local: with a static route to each node's range, as in Kubernetes The Hard Way, or with
all nodes' bridges on one flat segment."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha512
from typing import TYPE_CHECKING

from packetwalk.cni.attach import bridge_add, bridge_pod
from packetwalk.cni.base import ONE_SEGMENT, ONE_SUBNET, POD_ADDRESSES, Cni, Need, check_mtu
from packetwalk.cni.ipam import HostLocal

if TYPE_CHECKING:
    from packetwalk.addr import Prefix
    from packetwalk.kube.build import Host, Sandbox
    from packetwalk.kube.layout import Layout, Place
    from packetwalk.netns.shared import Shared

NETWORK = "bridge"  # the name of the CNI network, part of what ipMasq's chains are called after
NAT = ":PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n"


@dataclass(frozen=True)
class FlatBridge(Cni):
    """Pods on a bridge; whoever set the cluster up routes each range to its node (`ip route add RANGE via NODE`).

    mtu: of the bridge and the pods; the plugin does not look at the network card. hairpin: hairpinMode of the plugin.
    ip_masq: its ipMasq, which hides pods behind their node, from pods of other nodes too. segment: instead of routes,
    the network card is a port of the bridge and all pods share one subnet.
    """

    bridge: str = "cni0"
    mtu: int = 1500
    hairpin: bool = False
    ip_masq: bool = False
    segment: bool = False

    def __post_init__(self) -> None:
        check_mtu(self.mtu)
        if not self.bridge:
            raise ValueError("bridge: the name of a device was expected")

    @property
    def name(self) -> str:
        return "flat-bridge"

    @property
    def needs(self) -> tuple[Need, ...]:
        return (ONE_SEGMENT if self.segment else ONE_SUBNET), POD_ADDRESSES

    def ipam(self, plan: Layout) -> HostLocal:
        return HostLocal(plan.pod_cidr, plan.node_mask)

    def settings(self, pods: Prefix) -> tuple[str, ...]:
        """The plugin's file on each node, and who routes."""
        each = "ip route add RANGE via NODE for each other node"
        routes = "all nodes on one segment" if self.segment else f"on every node: {each}"
        return "/etc/cni/net.d/10-bridge.conf: ipam: host-local, subnet: the node's spec.podCIDR", routes

    @property
    def masquerades(self) -> str:
        return "ipMasq of the bridge plugin" if self.ip_masq else ""

    def _length(self, host: Host) -> int:
        """The prefix length of the pods' addresses and the bridge's."""
        return host.plan.pod_cidr.length if self.segment else host.pod_cidr.length

    def setup_node(self, host: Host) -> None:
        bridge_add(host, self.bridge, self.mtu, self._length(host))
        if self.segment:  # the node's address moves from the card to the bridge, and its default route with it
            address = f"{host.ip}/{host.place.subnet.length}"
            host.netns.link_set(host.nic, master=self.bridge)
            host.netns.addr_del(host.nic, address)
            host.netns.addr_add(self.bridge, address)
            host.netns.route_add("default", via=host.place.gateway, dev=self.bridge)

    def add_pod(self, host: Host, pod: Sandbox) -> None:
        bridge_pod(host, pod, self.bridge, self.mtu, hairpin=self.hairpin, length=self._length(host))

    def peer(self, place: Place, peer: Host, tables: Shared) -> None:
        """A gateway must be on the link: a node of another subnet is reached by nothing but the default route."""
        if not self.segment and peer.ip in place.subnet:
            tables.route_add(peer.pod_cidr, via=peer.ip, dev=peer.nic)

    def iptables(self, host: Host) -> str:
        """ipMasq's chain for each pod, which spares only the node's own range (pkg/ip/ipmasq_iptables_linux.go)."""
        if not self.ip_masq:
            return ""
        chains, jumps, rules = [], [], []
        for pod in host.pods:
            container = sha512(pod.name.encode()).hexdigest()[:64]
            chain = f"CNI-{sha512(f'{NETWORK}{container}'.encode()).hexdigest()[:24]}"
            why = f'-m comment --comment "name: \\"{NETWORK}\\" id: \\"{container}\\""'
            chains.append(f":{chain} - [0:0]\n")
            jumps.append(f"-A POSTROUTING -s {pod.ip}/32 {why} -j {chain}\n")
            rules.append(f"-A {chain} -d {host.pod_cidr} {why} -j ACCEPT\n")
            rules.append(f"-A {chain} ! -d 224.0.0.0/4 {why} -j MASQUERADE\n")
        return "".join(["*nat\n", NAT, *chains, *jumps, *rules, "COMMIT\n"])
