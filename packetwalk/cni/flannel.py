"""Flannel: flanneld writes what it reads from the other nodes' annotations; the plugin `bridge` attaches the pods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packetwalk.cni.attach import bridge_add, bridge_pod
from packetwalk.cni.base import ONE_SUBNET, POD_ADDRESSES, Cni, Need, check_mtu, tunnel, within
from packetwalk.cni.ipam import HostLocal
from packetwalk.netns.device import Ipip, Vxlan

if TYPE_CHECKING:
    from packetwalk.addr import Prefix
    from packetwalk.kube.build import Host, Sandbox
    from packetwalk.kube.layout import Layout, Place
    from packetwalk.netns.shared import Shared

BACKENDS = {"host-gw": 0, "vxlan": Vxlan.overhead, "ipip": Ipip.overhead}
"""The backends, and the bytes each adds to a packet."""
BRIDGE = "cni0"
IPIP_DEVICE = "flannel.ipip"
VXLAN_PORT = 8472  # of the kernel, where nobody says


@dataclass(frozen=True)
class Flannel(Cni):
    """backend: host-gw, vxlan or ipip. direct_routing: without a tunnel to nodes of the own subnet. mtu: 0 leaves it to
    flanneld (the network card's less the tunnel's header). vni, port: of the vxlan; port 0 is the kernel's default.
    ip_masq: flanneld's --ip-masq, which hides pods behind their node from what is no pod."""

    backend: str = "vxlan"
    direct_routing: bool = False
    mtu: int = 0
    vni: int = 1
    port: int = 0
    ip_masq: bool = True

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(f"there is no backend {self.backend!r}; there are {', '.join(BACKENDS)}")
        check_mtu(self.mtu)
        within("vni", self.vni, 0, 0xFFFFFF)
        within("port", self.port, 0, 65535)

    @property
    def name(self) -> str:
        return f"flannel-{self.backend}"

    @property
    def device(self) -> str:
        """The tunnel device; empty for host-gw."""
        return {"vxlan": f"flannel.{self.vni}", "ipip": IPIP_DEVICE}.get(self.backend, "")

    @property
    def needs(self) -> tuple[Need, ...]:
        if self.backend == "host-gw":
            return ONE_SUBNET, POD_ADDRESSES
        what = "IP protocol 4" if self.backend == "ipip" else f"UDP {self.port or VXLAN_PORT}"
        return (*tunnel(what, BACKENDS[self.backend]), *((POD_ADDRESSES,) if self.direct_routing else ()))

    def ipam(self, plan: Layout) -> HostLocal:
        return HostLocal(plan.pod_cidr, plan.node_mask)

    def settings(self, pods: Prefix) -> tuple[str, ...]:
        """net-conf.json of its ConfigMap."""
        return (f'kube-flannel-cfg: net-conf.json: {{"Network": "{pods}", "Backend": {{"Type": "{self.backend}"}}}}',)

    @property
    def masquerades(self) -> str:
        return "FLANNEL-POSTRTG" if self.ip_masq else ""

    def _mtu(self, host: Host) -> int:
        return self.mtu or host.mtu - BACKENDS[self.backend]

    def setup_node(self, host: Host) -> None:
        """The tunnel gets the range's network address as a /32, which makes no route (vxlan_network.go, ipip.go)."""
        if self.backend == "vxlan":
            host.netns.link_add(self.device, self._vxlan(host))
        elif self.backend == "ipip":
            host.netns.link_add(self.device, Ipip(mtu=self._mtu(host), local=host.ip, df="inherit", ttl_inherit=True))
        if self.device:
            host.tunnel_ip = host.pod_cidr.addr
            host.netns.addr_add(self.device, f"{host.tunnel_ip}/32")
        bridge_add(host, BRIDGE, self._mtu(host))

    def _vxlan(self, host: Host) -> Vxlan:
        """Made through netlink without `Learning`, hence nolearning; the MAC goes into the node's annotation."""
        mac = host.mac(self.device)
        return Vxlan(mtu=self._mtu(host), mac=mac, vni=self.vni, dport=self.port or VXLAN_PORT, local=host.ip,
                     link=host.nic, learning=False)  # fmt: skip

    def add_pod(self, host: Host, pod: Sandbox) -> None:
        bridge_pod(host, pod, BRIDGE, self._mtu(host), hairpin=True, network=host.plan.pod_cidr)

    def peer(self, place: Place, peer: Host, tables: Shared) -> None:
        """host-gw and direct routing: a route by the peer's address; the kernel refuses one that is not on the link.

        vxlan: neighbour, FDB entry, then the route, in this order (vxlan_network.go). ipip: the route's gateway is the
        tunnel's far end (ipip.go); with direct routing it keeps its onlink flag.
        """
        on_link = peer.ip in place.subnet
        if self.backend == "ipip":
            dev = peer.nic if self.direct_routing and on_link else self.device
            tables.route_add(peer.pod_cidr, via=peer.ip, dev=dev, onlink=True)
        elif self.backend == "vxlan" and not (self.direct_routing and on_link):
            mac = peer.netns.device(self.device).mac
            tables.neigh_add(peer.tunnel_ip, mac, self.device)
            tables.fdb_append(self.device, mac, dst=peer.ip)
            tables.route_add(peer.pod_cidr, via=peer.tunnel_ip, dev=self.device, onlink=True)
        elif on_link:
            tables.route_add(peer.pod_cidr, via=peer.ip, dev=peer.nic)

    def iptables(self, host: Host) -> str:
        """What flanneld keeps (pkg/trafficmngr/iptables/iptables.go)."""
        cluster, own = host.plan.pod_cidr, host.pod_cidr
        masq, forward = '-m comment --comment "flanneld masq"', '-m comment --comment "flanneld forward"'
        filters = f"""*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:FLANNEL-FWD - [0:0]
-A FORWARD {forward} -j FLANNEL-FWD
-A FLANNEL-FWD -s {cluster} {forward} -j ACCEPT
-A FLANNEL-FWD -d {cluster} {forward} -j ACCEPT
COMMIT
"""
        if not self.ip_masq:
            return filters
        return f"""{filters}*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING {masq} -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 {masq} -j RETURN
-A FLANNEL-POSTRTG -s {own} -d {cluster} {masq} -j RETURN
-A FLANNEL-POSTRTG -s {cluster} -d {own} {masq} -j RETURN
-A FLANNEL-POSTRTG ! -s {cluster} -d {own} {masq} -j RETURN
-A FLANNEL-POSTRTG -s {cluster} ! -d 224.0.0.0/4 {masq} -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s {cluster} -d {cluster} {masq} -j MASQUERADE --random-fully
COMMIT
"""
