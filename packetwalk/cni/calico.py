"""Calico: Felix and BIRD write what they hear from the datastore and over BGP; pods are routed, none is bridged."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha1
from typing import TYPE_CHECKING

from packetwalk.addr import Mac, Prefix
from packetwalk.cni import felix
from packetwalk.cni.attach import routed_pod
from packetwalk.cni.base import BGP, BLOCK_ROUTES, POD_ADDRESSES, Cni, Need, Share, check_mtu, tunnel, within
from packetwalk.cni.ipam import Blocks
from packetwalk.netns.device import Ipip, Vxlan

if TYPE_CHECKING:
    from packetwalk.kube.build import Host, Sandbox
    from packetwalk.kube.layout import Layout, Place
    from packetwalk.netns.shared import Shared

DEVICES = {"none": "", "ipip": "tunl0", "vxlan": "vxlan.calico"}
OVERHEADS = {"none": 0, "ipip": Ipip.overhead, "vxlan": Vxlan.overhead}
VNI, PORT = 4096, 4789
FELIX = "80"  # the route protocol of Felix; BIRD's has a name
LOCAL_METRIC = 1024  # of routes to pods and from BGP, from 3.32 on


@dataclass(frozen=True)
class Calico(Cni):
    """encap: none, ipip or vxlan; cross_subnet: only to nodes of other subnets.

    mesh: every node speaks BGP with every other. reflectors: nodes that spread all routes instead of the mesh.
    peer_fabric: nodes speak BGP with the router of their rack, too. version: of Calico, as routes differ.
    nat_outgoing: of the pool: pods are masqueraded towards what is in no pool.
    """

    encap: str = "ipip"
    cross_subnet: bool = False
    mesh: bool = True
    reflectors: str | tuple[str, ...] = ()
    peer_fabric: bool = False
    block_size: int = 26
    mtu: int = 0
    version: str = "3.30"
    nat_outgoing: bool = True

    def __post_init__(self) -> None:
        if self.encap not in DEVICES:
            raise ValueError(f"there is no encap {self.encap!r}; there are {', '.join(DEVICES)}")
        if self.cross_subnet and self.encap == "none":
            raise ValueError("cross_subnet says when to encapsulate: it needs encap ipip or vxlan")
        check_mtu(self.mtu)
        within("block_size", self.block_size, 20, 32)
        if not re.fullmatch(r"3\.\d+(\.\d+)?", self.version):
            raise ValueError(f"version {self.version!r}: one of Calico's, such as 3.30, was expected")
        if isinstance(self.reflectors, str):
            object.__setattr__(self, "reflectors", (self.reflectors,))

    @property
    def name(self) -> str:
        return f"calico-{'bgp' if self.encap == 'none' else self.encap}{'-crosssubnet' if self.cross_subnet else ''}"

    @property
    def device(self) -> str:
        """The tunnel device; empty without one."""
        return DEVICES[self.encap]

    def _since(self, minor: int) -> bool:
        return int(self.version.split(".")[1]) >= minor

    @property
    def needs(self) -> tuple[Need, ...]:
        plain = (POD_ADDRESSES,) if self.cross_subnet or self.encap == "none" else ()
        if self.encap == "vxlan":
            return (*tunnel(f"UDP {PORT}", OVERHEADS[self.encap]), *plain)
        if self.encap == "ipip":
            return (*tunnel("IP protocol 4", OVERHEADS[self.encap]), BGP, *plain)
        return BGP, BLOCK_ROUTES, *plain

    def ipam(self, plan: Layout) -> Blocks:
        names = {seat.node.name for seat in plan.seats}
        if missing := next((r for r in self.reflectors if r not in names), None):
            raise ValueError(f"route reflector {missing!r} is no node; there are {', '.join(sorted(names))}")
        return Blocks(plan.pod_cidr, self.block_size)

    def share(self, node_mask: int) -> Share:
        """Blocks as a node needs them; the controller manager's ranges are not used."""
        return Share(self.block_size, 0, 1 if self.device else 0, Blocks.MOST, "block")

    def settings(self, pods: Prefix) -> tuple[str, ...]:
        """The environment of calico-node, from which it makes the first pool."""
        when = "CrossSubnet" if self.cross_subnet else "Always"
        encaps = {name: when if self.encap == name else "Never" for name in ("ipip", "vxlan")}
        return (
            f"calico-node: CALICO_IPV4POOL_CIDR={pods} CALICO_IPV4POOL_BLOCK_SIZE={self.block_size}",
            f"calico-node: CALICO_IPV4POOL_IPIP={encaps['ipip']} CALICO_IPV4POOL_VXLAN={encaps['vxlan']} "
            f"CALICO_IPV4POOL_NAT_OUTGOING={str(self.nat_outgoing).lower()}",
        )

    @property
    def masquerades(self) -> str:
        return "cali-nat-outgoing" if self.nat_outgoing else ""

    def _mtu(self, host: Host) -> int:
        """Set once for the worst case: crossing a subnet counts as enabled (int_dataplane.go)."""
        return self.mtu or host.mtu - OVERHEADS[self.encap]

    def setup_node(self, host: Host) -> None:
        """Felix brings the tunnel device up with an address of the node's block, which is claimed first."""
        host.netns.sysctl("net.ipv4.ip_forward", 1)
        if self.encap == "ipip":
            host.netns.link_add(self.device, Ipip(mtu=self._mtu(host)))
        elif self.encap == "vxlan":
            host.netns.link_add(self.device, self._vxlan(host))
        if self.device:
            host.tunnel_ip = host.claim(host.node.tunnel_ip)
            host.netns.addr_add(self.device, f"{host.tunnel_ip}/32")

    def _vxlan(self, host: Host) -> Vxlan:
        """The MAC is 66 and five bytes of the SHA-1 of the node's name (felix/calc/vxlan_resolver.go)."""
        digest = sha1(host.name.encode(), usedforsecurity=False).digest()
        mac = Mac(int.from_bytes(b"\x66" + digest[:5], "big"))
        return Vxlan(mtu=self._mtu(host), mac=mac, vni=VNI, dport=PORT, local=host.ip, link=host.nic, learning=False)

    def add_pod(self, host: Host, pod: Sandbox) -> None:
        routed_pod(host, pod, self._mtu(host), metric=LOCAL_METRIC if self._since(32) else 0)

    def settle(self, host: Host) -> None:
        """What stays in the node's own blocks is never to leave by the default route: a blackhole under the /32s."""
        felix_owns = self.encap == "vxlan" or (self.encap == "ipip" and self._since(33))
        for block in host.ranges:
            if block.length < 32:
                host.netns.route_add(block, type="blackhole", proto=FELIX if felix_owns else "bird")

    def peer(self, place: Place, peer: Host, tables: Shared) -> None:
        """The peer's tunnel end, then a route to each of its blocks."""
        on_link = peer.ip in place.subnet
        if self.encap == "vxlan":
            mac = peer.netns.device(self.device).mac
            tables.neigh_add(peer.tunnel_ip, mac, self.device)
            tables.fdb_append(self.device, mac, dst=peer.ip)
        elif not (self.mesh or self.reflectors or self.peer_fabric):
            return  # nobody told BIRD; vxlan needs no BGP
        for block in peer.ranges:
            self._route(place, peer, block, tables, tunnel=bool(self.device) and not (self.cross_subnet and on_link))

    def _route(self, place: Place, peer: Host, block: Prefix, tables: Shared, *, tunnel: bool) -> None:
        """A route as `ip route` prints it on 3.30: Felix's through the vxlan has no protocol of its own."""
        metric = LOCAL_METRIC if self._since(32) else 0
        if self.encap == "vxlan" and tunnel:
            mtu = self._mtu(peer) if self._since(31) else 0
            tables.route_add(block, via=peer.tunnel_ip, dev=self.device, onlink=True, mtu=mtu)
        elif self.encap == "vxlan":
            tables.route_add(block, via=peer.ip, dev=peer.nic, onlink=True, proto=FELIX)
        elif tunnel and self._since(33):
            tables.route_add(block, via=peer.ip, dev=self.device, onlink=True, proto=FELIX, mtu=self._mtu(peer))
        elif tunnel:
            tables.route_add(block, via=peer.ip, dev=self.device, onlink=True, proto="bird", metric=metric)
        else:  # gateway recursive: a next hop of another subnet is reached by this subnet's gateway
            via = peer.ip if peer.ip in place.subnet else place.gateway
            tables.route_add(block, via=via, dev=peer.nic, proto="bird", metric=metric)

    def rules_above(self, chain: str) -> int:
        """ChainInsertMode is Insert; but in POSTROUTING Felix appends, and in FORWARD two rules come last."""
        return 0 if chain == "POSTROUTING" else 1

    def iptables(self, host: Host) -> str:
        interfaces = [pod.hostif for pod in host.pods]
        return felix.iptables(self.encap, self.device, interfaces, outgoing=self.nat_outgoing)

    def ipsets(self, host: Host) -> str:
        nodes = [seat.ip for seat in host.plan.seats]
        return felix.ipsets(self.encap, host.plan.pod_cidr, nodes, outgoing=self.nat_outgoing)

    def announced(self, host: Host) -> tuple[Prefix, ...]:
        return host.ranges if self.peer_fabric else ()
