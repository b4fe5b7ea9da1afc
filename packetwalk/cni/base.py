"""What `build` asks of a CNI: its moments on a node, which are those of the real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from packetwalk.addr import Prefix
    from packetwalk.kube.build import Host, Sandbox
    from packetwalk.kube.cidr import Ipam
    from packetwalk.kube.layout import Layout, Place
    from packetwalk.netns.shared import Shared


class Cni(Protocol):
    """A CNI. Those who inherit from it need to write the first five only."""

    @property
    def name(self) -> str:
        """Its mode's name, such as flannel-vxlan."""

    def ipam(self, plan: Layout) -> Ipam:
        """Who gives out pod ranges and addresses."""

    def setup_node(self, host: Host) -> None:
        """The daemon starts on a node."""

    def add_pod(self, host: Host, pod: Sandbox) -> None:
        """CNI ADD: wire the pod's namespace in."""

    def peer(self, place: Place, peer: Host, tables: Shared) -> None:
        """The daemons of all nodes in one place (a subnet) hear of a peer, which may be one of them.

        What is written here each of them has, but for what the peer itself would have about itself.
        """

    def settle(self, host: Host) -> None:
        """All nodes and pods are there: what the daemon writes about its own node's ranges."""
        return None

    def iptables(self, host: Host) -> str:
        """What iptables-save shows of the CNI on a node that has all its pods."""
        return ""

    def ipsets(self, host: Host) -> str:
        """The sets its rules ask, as ipset save shows them."""
        return ""

    def announced(self, host: Host) -> tuple[Prefix, ...]:
        """The pod ranges that the node's BGP speaker tells the fabric's routers; none where it does not peer."""
        return ()
