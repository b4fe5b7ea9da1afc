"""Plan the address ranges of a cluster: what fits, what overlaps, what comes of it, what to tell kubeadm and the CNI.

    made = plan(Wanted(nodes=50, pods=110), Flannel("vxlan"))
    made.pods, made.conflicts                        # 10.244.0.0/16, ()

The limits are those of kubeadm's validation, the controller manager's range allocator and each CNI's own allocation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from packetwalk.addr import IPv4, Prefix

if TYPE_CHECKING:
    from packetwalk.cni import Cni

PODS, SERVICES, NODES, OUTSIDE = "pods", "services", "nodes", "outside"
DOCKER, LINK_LOCAL, LOOPBACK, MULTICAST = "docker0", "link-local", "loopback", "multicast"
FIXED = {
    DOCKER: Prefix.parse("172.17.0.0/16"), LINK_LOCAL: Prefix.parse("169.254.0.0/16"),
    LOOPBACK: Prefix.parse("127.0.0.0/8"), MULTICAST: Prefix.parse("224.0.0.0/3"),
}  # fmt: skip
"""Ranges that are what they are wherever a cluster stands; 240.0.0.0/4, reserved, is counted to multicast."""
PRIVATE = tuple(map(Prefix.parse, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
PREFERRED = {
    PODS: Prefix.parse("10.244.0.0/16"), SERVICES: Prefix.parse("10.96.0.0/12"), NODES: Prefix.parse("192.168.56.0/24")
}  # fmt: skip
SPARE = {PODS: 16, SERVICES: 12, NODES: 24}  # no range that is suggested is smaller, if there is room
NODE_MASK, MAX_PODS = 24, 110  # node-cidr-mask-size and maxPods where nobody says
LARGEST_SERVICES, MOST_RANGES, FEWEST_SERVICES = 12, 16, 10  # kubeadm's validation.go: /12, 2^16 ranges, 10 addresses
BELOW_NODES = 11  # addresses for the network, gateways and virtual addresses
TESTED_NODES, TESTED_PODS = 5000, 150_000

CONSEQUENCES = {
    (PODS, SERVICES): "where a pod has the address of a service, kube-proxy takes what is sent to the service's ports",
    (PODS, NODES): "a route to pods there leads to nodes as well: packets to nodes, tunnels' own among them, go astray",
    (SERVICES, NODES): "a node that has the address of a service is out of reach at the service's ports",
    (PODS, DOCKER): "Docker masquerades what pods send, as if its containers did: others see the node's address",
    (SERVICES, DOCKER): "containers of Docker ask for cluster IPs by ARP on docker0, where nobody answers",
    (NODES, DOCKER): "where no longer prefix leads to a node, packets for it end at docker0",
    (PODS, OUTSIDE): "what pods send to hosts there goes to pods, and what these hosts send passes for a pod's",
    (SERVICES, OUTSIDE): "a host that has the address of a service is out of reach at the service's ports",
    (NODES, OUTSIDE): "nodes ask for hosts there by ARP on their own network, where others have those addresses",
    (DOCKER, OUTSIDE): "a node with Docker sends what is for hosts there to docker0",
    (OUTSIDE, OUTSIDE): "two networks with the same addresses: the edge can lead to one of them only",
}
"""What comes of an overlap, in one line: which packets go wrong."""
NEVER = {
    LINK_LOCAL: "no router forwards it (RFC 3927); metadata servers, NodeLocal DNSCache, Calico's gateway are in it",
    LOOPBACK: "no packet to it leaves a host (RFC 1122)",
    MULTICAST: "no host may have such an address",
}


class Wanted(NamedTuple):
    """What is asked for. pods: of each node; services: how many. Ranges are suggested where None; node_mask 0: what the
    pods need. outside: networks beyond the edge that are to be reached, by name."""

    nodes: int
    pods: int = MAX_PODS
    services: int = 1000
    pod_cidr: Prefix | None = None
    service_cidr: Prefix | None = None
    node_cidr: Prefix | None = None
    node_mask: int = 0
    outside: tuple[tuple[str, Prefix], ...] = ()


class Range(NamedTuple):
    """A range and what it is for. kind: pods, services, nodes, outside, or one of FIXED."""

    kind: str
    name: str
    prefix: Prefix
    use: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.prefix}"


class Conflict(NamedTuple):
    """Two ranges that overlap, or a range (`other` None) that is too small or not allowed; what comes of it."""

    one: Range
    other: Range | None
    what: str

    @property
    def overlap(self) -> Prefix:
        """The addresses in both: the smaller of the two."""
        return max(self.one, self.other or self.one, key=lambda r: r.prefix.length).prefix

    def __str__(self) -> str:
        what = self.one.name if self.other is None else f"{self.one} overlaps {self.other}"
        return f"{what}: {self.what}"


class Plan(NamedTuple):
    """Ranges, what fits into them, what is wrong with them (and `notes`: what nobody can help), what follows."""

    wanted: Wanted
    node_mask: int
    ranges: tuple[Range, ...]
    fits: tuple[str, ...]
    conflicts: tuple[Conflict, ...]
    notes: tuple[str, ...]
    edge: tuple[str, ...]
    kubeadm: tuple[str, ...]
    settings: tuple[str, ...]

    def prefix(self, kind: str) -> Prefix:
        """The range of that kind: pods, services or nodes."""
        return next(r.prefix for r in self.ranges if r.kind == kind)


def plan(wanted: Wanted, cni: Cni) -> Plan:
    """Fill in what is open, check the whole, say what follows. ValueError where no private range is left to suggest."""
    mask = wanted.node_mask or _mask_for(wanted.pods)
    share = cni.share(mask)
    by_controller = share.most == 1  # the controller manager's ranges are those of the pods
    each = 1 << (32 - share.length)
    per_node = ceil((wanted.pods + share.own) / (each - share.lost)) if each > share.lost else 1
    needed = {
        NODES: _length_for(wanted.nodes + BELOW_NODES),
        SERVICES: min(_length_for(wanted.services + 2), 28),
        PODS: share.length - (wanted.nodes * per_node - 1).bit_length(),
    }
    chosen = _chosen(wanted, needed)
    pods, services, nodes = chosen[PODS], chosen[SERVICES], chosen[NODES]
    if not by_controller and not wanted.node_mask:
        mask = max(NODE_MASK, pods.length)
    usable = _ranges_in(pods, share.length, services if by_controller else None)
    most = min(share.most, usable) * (each - share.lost) - share.own
    ranges = (
        Range(NODES, NODES, nodes, f"{wanted.nodes} wanted, {_hosts(nodes)} fit"),
        Range(PODS, PODS, pods, f"{usable} {share.unit}s of /{share.length}, {per_node} for each node"),
        Range(SERVICES, SERVICES, services,
              f"kubernetes {IPv4(services.addr + 1)}, DNS {IPv4(services.addr + 10)}, {_size(services) - 2} in all"),
        *(Range(OUTSIDE, name, prefix) for name, prefix in wanted.outside),
        *(Range(kind, kind, prefix) for kind, prefix in FIXED.items() if kind in (DOCKER, LINK_LOCAL)),
    )  # fmt: skip
    fits = (
        f"{usable // per_node} nodes with {wanted.pods} pods each ({share.unit}s of /{share.length}: "
        f"{each - share.lost} pods in each, {per_node} for each node{_own(share.own)})",
        f"{max(most, 0)} pods on one node at most",
    )
    problems = [
        *_too_small(wanted, ranges, usable // per_node, max(most, 0)),
        *_refused(ranges, mask),
        *_overlaps(ranges),
    ]
    conflicts = tuple(c for c in problems if {c.one.kind, getattr(c.other, "kind", "")} & {PODS, SERVICES, NODES})
    notes = tuple(str(c) for c in problems if c not in conflicts)
    return Plan(wanted, mask, ranges, fits, conflicts, (*notes, *_notes(wanted, ranges)), tuple(_edge(ranges, cni)),
                tuple(_kubeadm(wanted, pods, services, mask, by_controller)), cni.settings(pods))  # fmt: skip


def _own(own: int) -> str:
    return f", {own} address of each node's for its tunnel" if own else ""


# -- sizes -------------------------------------------------------------------------------------------------------------


def _size(prefix: Prefix) -> int:
    return 1 << (32 - prefix.length)


def _hosts(prefix: Prefix) -> int:
    """Nodes that a network holds."""
    return max(_size(prefix) - BELOW_NODES - 1, 0)


def _length_for(addresses: int) -> int:
    """The longest prefix with so many addresses."""
    return 32 - max(addresses - 1, 1).bit_length()


def _mask_for(pods: int) -> int:
    """/24, or what so many pods need beside the network, the gateway and the broadcast address (host-local)."""
    return min(NODE_MASK, _length_for(pods + 3))


def _ranges_in(pods: Prefix, length: int, services: Prefix | None) -> int:
    """Ranges of that length in the pod CIDR. The range allocator leaves out those in the service CIDR."""
    if length < pods.length:
        return 0
    count = 1 << (length - pods.length)
    if services is None or not services.overlaps(pods):
        return count
    overlap = max(pods, services, key=lambda prefix: prefix.length)
    return count - max(_size(overlap) >> (32 - length), 1)


def _chosen(wanted: Wanted, needed: dict[str, int]) -> dict[str, Prefix]:
    """The ranges asked for, and free ones for the others."""
    given = {PODS: wanted.pod_cidr, SERVICES: wanted.service_cidr, NODES: wanted.node_cidr}
    taken = [*FIXED.values(), *(prefix for _, prefix in wanted.outside), *filter(None, given.values())]
    chosen: dict[str, Prefix] = {}
    for kind, prefix in given.items():
        chosen[kind] = prefix if prefix is not None else suggest(kind, needed[kind], taken)
        taken.append(chosen[kind])
    return chosen


def suggest(kind: str, length: int, taken: Sequence[Prefix]) -> Prefix:
    """A free private range of that length, or of the usual one where that is larger and free.

    ValueError, in one line, where there is none.
    """
    usual = PREFERRED[kind]
    if usual.length <= length and not any(usual.overlaps(other) for other in taken):
        return usual
    for wide in range(min(SPARE[kind], length), length + 1):
        for pool in PRIVATE:
            found = next((p for p in _networks(pool, wide, taken)), None)
            if found is not None:
                return found
    raise ValueError(f"no private range of /{length} is left for {kind}: give one, or fewer networks outside")


def _networks(pool: Prefix, length: int, taken: Sequence[Prefix]) -> Iterator[Prefix]:
    """The free networks of that length in a pool, in order; a taken network is stepped over as a whole."""
    size, at, end = 1 << (32 - length), int(pool.addr), int(pool.broadcast)
    while length >= pool.length and at <= end:
        prefix = Prefix(IPv4(at), length)
        hit = next((other for other in taken if other.overlaps(prefix)), None)
        if hit is None:
            yield prefix
            at += size
        else:
            at = (max(int(hit.broadcast), int(prefix.broadcast)) + size) // size * size


# -- what is wrong -----------------------------------------------------------------------------------------------------


def _too_small(wanted: Wanted, ranges: Iterable[Range], nodes: int, pods: int) -> Iterator[Conflict]:
    """Ranges that do not hold what is wanted."""
    by_kind = {r.kind: r for r in ranges}
    hosts, services = _hosts(by_kind[NODES].prefix), _size(by_kind[SERVICES].prefix) - 2
    if hosts < wanted.nodes:
        yield Conflict(by_kind[NODES], None, f"{by_kind[NODES].prefix} holds {hosts} nodes, {wanted.nodes} were wanted")
    if pods < wanted.pods:
        why = "the CNI has no address for the others, which stay in ContainerCreating"
        yield Conflict(by_kind[PODS], None, f"a node holds {pods} pods, {wanted.pods} were wanted: {why}")
    elif nodes < wanted.nodes:
        why = "the others get no pod range and stay NotReady"
        yield Conflict(by_kind[PODS], None,
                       f"{by_kind[PODS].prefix} holds {nodes} nodes, {wanted.nodes} were wanted: {why}")  # fmt: skip
    if services < wanted.services:
        what = f"{by_kind[SERVICES].prefix} holds {services} services, {wanted.services} were wanted"
        yield Conflict(by_kind[SERVICES], None, what)


def _refused(ranges: Iterable[Range], mask: int) -> Iterator[Conflict]:
    """What kubeadm's validation (validation.go) does not let through."""
    by_kind = {r.kind: r for r in ranges}
    pods, services = by_kind[PODS], by_kind[SERVICES]
    if services.prefix.length < LARGEST_SERVICES:
        yield Conflict(services, None, f"kubeadm refuses {services.prefix}: /{LARGEST_SERVICES} is the largest")
    if _size(services.prefix) < FEWEST_SERVICES:
        yield Conflict(services, None, f"kubeadm refuses {services.prefix}: {FEWEST_SERVICES} addresses are the fewest")
    if mask < pods.prefix.length:
        yield Conflict(pods, None, f"kubeadm refuses {pods.prefix} with node ranges of /{mask}, which are larger")
    if mask - pods.prefix.length > MOST_RANGES:
        what = f"kubeadm refuses {pods.prefix} with node ranges of /{mask}: they may be {MOST_RANGES} bits longer"
        yield Conflict(pods, None, what)


def _overlaps(ranges: Iterable[Range]) -> Iterator[Conflict]:
    """Every two ranges that share addresses."""
    fixed = [Range(kind, kind, FIXED[kind]) for kind in (LOOPBACK, MULTICAST)]
    for one, other in combinations((*ranges, *fixed), 2):
        if not one.prefix.overlaps(other.prefix) or {one.kind, other.kind} <= FIXED.keys():
            continue
        known = (one.kind, other.kind) in CONSEQUENCES or other.kind in NEVER
        first, second = (one, other) if known else (other, one)
        what = NEVER.get(second.kind) or CONSEQUENCES[first.kind, second.kind]
        yield Conflict(first, second, what)


def _notes(wanted: Wanted, ranges: Iterable[Range]) -> Iterator[str]:
    for one in ranges:
        public = not any(pool.length <= one.prefix.length and one.prefix.overlaps(pool) for pool in PRIVATE)
        if public and one.kind in (PODS, SERVICES, NODES) and not any(one.prefix.overlaps(f) for f in FIXED.values()):
            yield f"{one} is not private: whoever has these addresses on the internet is out of reach"
    if wanted.nodes > TESTED_NODES:
        yield f"{wanted.nodes} nodes: Kubernetes is tested with {TESTED_NODES}"
    if wanted.nodes * wanted.pods > TESTED_PODS:
        yield f"{wanted.nodes * wanted.pods} pods: Kubernetes is tested with {TESTED_PODS}"
    if wanted.pods > MAX_PODS:
        yield f"{wanted.pods} pods on a node: Kubernetes is tested with {MAX_PODS}"


# -- what follows ------------------------------------------------------------------------------------------------------


def _edge(ranges: Sequence[Range], cni: Cni) -> Iterator[str]:
    """Which addresses change where packets leave the cluster or come in."""
    by_kind = {r.kind: r for r in ranges}
    pods, nodes = by_kind[PODS].prefix, by_kind[NODES].prefix
    if cni.masquerades:
        yield f"pods to outside: SNAT on the node ({cni.masquerades}); outside sees {nodes}"
    else:
        yield f"pods to outside: no SNAT on the node; the edge needs routes to {pods} by the nodes, or SNAT of its own"
    yield "outside to services: DNAT on the node that is asked; SNAT there, too, unless externalTrafficPolicy is Local"
    taken = [*FIXED.values(), *(r.prefix for r in ranges)]
    for one in (r for r in ranges if r.kind == OUTSIDE):
        reused = [str(by_kind[k]) for k in (PODS, SERVICES, NODES) if by_kind[k].prefix.overlaps(one.prefix)]
        if not reused:
            continue
        alias = next((p for pool in reversed(PRIVATE) for p in _networks(pool, one.prefix.length, taken)), None)
        known = f"as {alias}" if alias is not None else "by other addresses, for which no private range is free"
        taken += [alias] if alias is not None else []
        yield f"{one} reuses {', '.join(reused)}: the edge must show it {known} (DNAT there, SNAT back)"


def _kubeadm(wanted: Wanted, pods: Prefix, services: Prefix, mask: int, by_controller: bool) -> Iterator[str]:
    """The flags, and what only a configuration file can say. mask: of node ranges."""
    yield f"kubeadm init --pod-network-cidr={pods} --service-cidr={services}"
    arguments = {"node-cidr-mask-size": str(mask)} if mask != NODE_MASK else {}
    if not by_controller and _ranges_in(pods, mask, services) < wanted.nodes:
        arguments["allocate-node-cidrs"] = "false"
    if arguments:
        listed = ", ".join(f'{{name: {name}, value: "{value}"}}' for name, value in arguments.items())
        yield f"ClusterConfiguration (v1beta4): controllerManager: {{extraArgs: [{listed}]}}"
    if wanted.pods != MAX_PODS:
        yield f"KubeletConfiguration: maxPods: {wanted.pods}"
