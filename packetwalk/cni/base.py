"""What `build` asks of a CNI: its moments on a node, which are those of the real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from packetwalk.addr import Prefix
    from packetwalk.kube.build import Host, Sandbox
    from packetwalk.kube.cidr import Ipam
    from packetwalk.kube.layout import Layout, Place
    from packetwalk.netns.shared import Shared


class Need(NamedTuple):
    """What a CNI asks of the network below the nodes, and what breaks without it."""

    what: str
    without: str


class Share(NamedTuple):
    """How pod addresses come to nodes: in ranges (`unit`: what they are called) of `length` bits, of which `lost`
    addresses each go to no pod. own: addresses a node takes for itself; most: ranges that a node may hold."""

    length: int
    lost: int = 3  # host-local: the network, the gateway, the broadcast address
    own: int = 0
    most: int = 1
    unit: str = "node range"


POD_ADDRESSES = Need(
    "let frames with pod addresses through (clouds check sources and destinations)",
    "pods on other nodes are out of reach",
)
ONE_SUBNET = Need(
    "keep the nodes in one subnet, or route each pod range to its node on every router between",
    "between subnets a packet takes the node's default route, and the router has none for it",
)
ONE_SEGMENT = Need("keep the nodes on one layer 2 segment", "pods elsewhere are asked for by ARP, which nobody hears")
BLOCK_ROUTES = Need(
    "on routers between subnets, have routes to the pods' blocks (peer with the nodes)",
    "between subnets every packet dies at the first router",
)
BGP = Need("let TCP 179 through between nodes", "no BGP, hence no route to pods on other nodes")


def tunnel(what: str, overhead: int) -> tuple[Need, ...]:
    """What a tunnel asks. what: how its packets are told; overhead: bytes it puts in front of each."""
    return (
        Need(f"let {what} through between nodes", "pods on other nodes are out of reach"),
        Need(f"carry packets {overhead} bytes larger than the pods' MTU", "large packets are lost, small ones pass"),
    )


def within(what: str, value: int, low: int, high: int) -> None:
    """ValueError, in one line, for an option that is out of its range."""
    if not low <= value <= high:
        raise ValueError(f"{what} {value} is out of range: {low} to {high} was expected")


def check_mtu(mtu: int) -> None:
    """ValueError for what no device takes; 0 leaves it to the CNI."""
    if mtu:
        within("mtu", mtu, 68, 65535)


class Cni(Protocol):
    """A CNI. Those who inherit from it need to write name, ipam, setup_node, add_pod and peer only."""

    @property
    def name(self) -> str:
        """Its mode's name, such as flannel-vxlan."""

    @property
    def needs(self) -> tuple[Need, ...]:
        """What the network below the nodes must do."""
        return ()

    def ipam(self, plan: Layout) -> Ipam:
        """Who gives out pod ranges and addresses."""

    def share(self, node_mask: int) -> Share:
        """How that goes where the controller manager's node-cidr-mask-size is `node_mask`."""
        return Share(node_mask)

    def settings(self, pods: Prefix) -> tuple[str, ...]:
        """What its own configuration says about a pod range."""
        return ()

    @property
    def masquerades(self) -> str:
        """What hides pods behind their node from the outside; empty where nothing does."""
        return ""

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

    def rules_above(self, chain: str) -> int:
        """How many of its rules in a built-in chain stand above those of kube-proxy; the others stand below."""
        return 0

    def ipsets(self, host: Host) -> str:
        """The sets its rules ask, as ipset save shows them."""
        return ""

    def announced(self, host: Host) -> tuple[Prefix, ...]:
        """The pod ranges that the node's BGP speaker tells the fabric's routers; none where it does not peer."""
        return ()
