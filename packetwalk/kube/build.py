"""`build`: a cluster becomes rooms, wires and tables.

The fabric comes first, then each node with its network card, then the CNI in its three moments: its daemon starts on a
node (`setup_node`), a pod is created (`add_pod`), the daemon hears of another node (`peer`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property, partial

from packetwalk.addr import ANY, IPv4, Mac, Prefix
from packetwalk.collector import collector_paused
from packetwalk.kube.balancer import addressed, announce, serve_api
from packetwalk.kube.chance import hex_of, mac_of
from packetwalk.kube.cidr import Ipam
from packetwalk.kube.cluster import Cluster, Node, Pod
from packetwalk.kube.controlplane import API_PORT, filled, kubernetes, selected
from packetwalk.kube.fabric import Fabric
from packetwalk.kube.kubeproxy import KubeProxy, ProxiedNode, iptables
from packetwalk.kube.kubeproxy_ipvs import DEVICE as KUBE_IPVS
from packetwalk.kube.kubeproxy_ipvs import ipvs
from packetwalk.kube.layout import Layout, Place, layout
from packetwalk.kube.rules import nft_rules, written
from packetwalk.kube.service import Service
from packetwalk.netns.device import Dummy, Veth
from packetwalk.netns.ipvs import VirtualService
from packetwalk.netns.links import HostAddr, host_addrs
from packetwalk.netns.namespace import Netns
from packetwalk.netns.netfilter import Ruleset
from packetwalk.netns.shared import Shared
from packetwalk.network import Network, kubelet
from packetwalk.snapshot.ipset_save import read_ipsets
from packetwalk.snapshot.iptables_save import read_iptables


@dataclass(eq=False)
class Sandbox:
    """A pod's network namespace (the CRI's word), held by the pause container, before and after its CNI was there."""

    pod: Pod
    netns: Netns
    ip: IPv4
    hostif: str = ""  # the node's end of its veth pair

    @property
    def name(self) -> str:
        return self.netns.name


@dataclass(eq=False)
class Host:
    """A node as its CNI meets it: the namespace, the network card, the addresses. ranges: its pod ranges or blocks."""

    node: Node
    place: Place
    ip: IPv4
    netns: Netns
    cluster: Cluster
    plan: Layout
    network: Network = field(repr=False)
    ipam: Ipam = field(repr=False)
    hosts: dict[str, Host] = field(repr=False)
    pods: list[Sandbox] = field(default_factory=list, repr=False)
    tunnel_ip: IPv4 = ANY

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def nic(self) -> str:
        return self.cluster.nic

    @property
    def address_dev(self) -> str:
        """The device that has the node's address: the network card, or a bridge which that is a port of."""
        return next(d.name for d in self.netns.devices.values() if any(a.local == self.ip for a in d.addrs))

    @property
    def mtu(self) -> int:
        return self.netns.device(self.nic).mtu

    @property
    def pod_cidr(self) -> Prefix:
        """The node's pod range, or its first block."""
        return self.ranges[0]

    @property
    def ranges(self) -> tuple[Prefix, ...]:
        return self.ipam.ranges(self.name)

    @cached_property
    def gateway(self) -> IPv4:
        """The first address of the pod range, which a bridge gets."""
        return IPv4(self.pod_cidr.addr + 1)

    def claim(self, wanted: str = "") -> IPv4:
        """The next address of the node's ranges, or the one that is wanted."""
        return self.ipam.claim(self.name, IPv4(wanted) if wanted else None)

    def others(self) -> list[Host]:
        """All other nodes."""
        return [host for host in self.hosts.values() if host is not self]

    def mac(self, dev: str) -> Mac:
        """A random address for a device of this node."""
        return mac_of(self.cluster.seed, f"{self.name}/{dev}")

    def veth(self, pod: Sandbox, *, mtu: int, master: str = "", name: str = "", mac: Mac | None = None,
             hairpin: bool = False) -> str:  # fmt: skip
        """A veth pair into the pod, whose end there is eth0. Returns the name of our end, by default vethXXXXXXXX."""
        seed = self.cluster.seed
        name = pod.pod.hostif or name or f"veth{hex_of(seed, pod.name, 8)}"
        inner = Mac(pod.pod.mac) if pod.pod.mac else mac_of(seed, f"{pod.name}/eth0")
        pod.netns.link_add("eth0", Veth(mtu=mtu, mac=inner))
        self.netns.link_add(name, Veth(mtu=mtu, mac=mac if mac is not None else self.mac(name)))
        self.network.connect((pod.name, "eth0"), (self.name, name))
        pod.hostif = name
        if master:
            self.netns.link_set(name, master=master, port={"hairpin": hairpin} if hairpin else None)
        return name


def build(cluster: Cluster) -> Network:
    """Make the network of a cluster. ValueError, in one line, for a cluster that cannot be."""
    with collector_paused():
        whole = _with_programs(cluster)
        return _built(whole, layout(whole))


def _built(cluster: Cluster, plan: Layout) -> Network:
    network = Network(f"{cluster.cni.name} cluster of {len(plan.seats)} nodes")
    fabric = Fabric(cluster, plan, network)
    ipam = cluster.cni.ipam(plan)
    hosts: dict[str, Host] = {}
    for seat in plan.seats:
        netns = network.add(Netns(seat.node.name, cluster.seed), "node")
        netns.conntrack = True  # kube-proxy's nat table has it on, on every node
        fabric.plug(seat, netns)
        host = Host(seat.node, seat.place, seat.ip, netns, cluster, plan, network, ipam, hosts)
        ipam.join(host.name, _wanted(seat.node))
        hosts[host.name] = host
        network.programs[kubelet(host.name)] = host.name
    for host in hosts.values():
        cluster.cni.setup_node(host)
    _pods(cluster, hosts)
    services = _services(cluster, plan, network, hosts)
    _rules(cluster, hosts, services)
    if cluster.dns is not None or cluster.ingresses or network.published:
        _serve(cluster, network, services)
    _peers(cluster, hosts.values())
    for seat in plan.seats:
        cluster.cni.settle(hosts[seat.node.name])
        for prefix in cluster.cni.announced(hosts[seat.node.name]):
            fabric.learn(prefix, [(seat.place, seat.ip)])
    if cluster.api_endpoint:
        planes = [host for host in hosts.values() if host.node.control_plane]
        serve_api(cluster.api_endpoint, cluster.api_balancer, fabric, planes)
    if services and cluster.kube_proxy.mode == "ipvs":
        _virtual_services(cluster.kube_proxy, hosts.values(), services)
    if cluster.load_balancer is not None:
        announce(cluster.load_balancer, fabric, hosts, services)
    return network


def _wanted(node: Node) -> Prefix | None:
    try:
        return Prefix.parse(node.pod_cidr) if node.pod_cidr else None
    except ValueError as error:
        raise ValueError(f"node {node.name!r}: pod range {error}") from None


def _pods(cluster: Cluster, hosts: dict[str, Host]) -> None:
    """The kubelet's part: a sandbox each, then CNI ADD. Addresses asked for are given out before the others.

    A pod on the host's network gets neither: its containers are programs of the node.
    """
    given = {p.room: hosts[p.node].claim(p.ip) for p in cluster.pods if p.ip}
    for pod in cluster.pods:
        host = hosts[pod.node]
        if pod.host_network:
            host.network.programs[pod.room] = host.name
            _start(host.netns, pod)
            continue
        ip = given[pod.room] if pod.ip else host.claim()
        netns = host.network.add(Netns(pod.room, cluster.seed), "pod")
        sandbox = Sandbox(pod, netns, ip)
        host.pods.append(sandbox)
        cluster.cni.add_pod(host, sandbox)
        _start(netns, pod)


def _start(netns: Netns, pod: Pod) -> None:
    """The pod's containers start."""
    for port in pod.listen:
        netns.listen(port)
    for port in pod.sctp:
        netns.listen(port, protos=("sctp",))
    if pod.http:
        from packetwalk.apps.http import WebServer

        for port in pod.http:
            netns.listen(port, app=WebServer(pod.room), protos=("tcp",))


def _with_programs(cluster: Cluster) -> Cluster:
    """The cluster and the pods of its DNS and its ingress controller; without them nobody imports those."""
    if cluster.dns is None and not cluster.ingresses:
        return cluster
    from packetwalk.kube.coredns import with_dns
    from packetwalk.kube.ingress_nginx import with_ingress

    return with_ingress(with_dns(cluster))


def _serve(cluster: Cluster, network: Network, services: tuple[Service, ...]) -> None:
    """Their programs start."""
    from packetwalk.kube.coredns import serve_dns
    from packetwalk.kube.ingress_nginx import serve_ingress

    public = {name: str(ip) for name, ip in network.published.items()} | serve_ingress(cluster, network, services)
    serve_dns(cluster, network, services, public)


def _services(cluster: Cluster, plan: Layout, network: Network, hosts: dict[str, Host]) -> tuple[Service, ...]:
    """The services with nothing left open; the network learns their names. API servers listen where they are."""
    planes = [host for host in hosts.values() if host.node.control_plane]
    asked = [selected(service, cluster.pods) for service in cluster.services]
    if planes and not any(s.full_name == "default/kubernetes" for s in asked):
        asked.insert(0, kubernetes(((host.name, host.ip) for host in planes), plan.service_cidr))
    for host in planes:
        host.netns.listen(API_PORT)
    if planes:
        network.services["control-plane"] = IPv4(cluster.api_endpoint) if cluster.api_endpoint else planes[0].ip
    where = {pod.name: (pod.ip, host.name) for host in hosts.values() for pod in host.pods}
    where |= {pod.room: (hosts[pod.node].ip, pod.node) for pod in cluster.pods if pod.host_network}
    services = filled(asked, plan.service_cidr, where)
    if cluster.load_balancer is not None:
        services = addressed(cluster.load_balancer, plan, services)
    for service in services:
        if outside := (*service.load_balancer_ips, *service.external_ips):
            network.published.update(dict.fromkeys(names_of(service), IPv4(outside[0])))
        if not service.headless:
            network.services.update(dict.fromkeys(names_of(service), IPv4(service.cluster_ip)))
    return services


def names_of(service: Service) -> tuple[str, ...]:
    """What a walk to it may be told: `name.namespace`, and in `default` the name alone."""
    return (service.room, service.name) if service.namespace == "default" else (service.room,)


def _rules(cluster: Cluster, hosts: dict[str, Host], services: tuple[Service, ...]) -> None:
    """What iptables and nftables hold on each node: the CNI's rules, and kube-proxy's where there are services.

    kube-proxy lets 127.0.0.1 be routed for node ports on localhost, and has conntrack forget connections sooner.
    """
    known: dict[object, Ruleset] = {}
    for host in hosts.values():
        proxied = partial(_proxied, cluster.kube_proxy, host, services, known) if services else None
        texts = partial(cluster.cni.iptables, host), partial(cluster.cni.ipsets, host)
        host.netns.netfilter = written(*texts, proxied, cluster.cni.rules_above)
        if services:
            for key, value in cluster.kube_proxy.sysctls.items():
                host.netns.sysctl(key, value)


def _proxied(proxy: KubeProxy, host: Host, services: tuple[Service, ...], known: dict[object, Ruleset]) -> Ruleset:
    """kube-proxy's rules on a node. Nodes for which it writes the same share them (`known`)."""
    node = _proxied_node(proxy, host)
    if proxy.mode == "nftables":
        return nft_rules(proxy, node, services, str(host.plan.service_cidr), known)
    if proxy.mode == "ipvs":
        written = ipvs(proxy, node, services)
        made = read_iptables(written.rules, "kube-proxy")
        made.sets.update(read_ipsets(written.sets, "kube-proxy"))
        return made
    text = iptables(proxy, node, services)
    if text not in known:
        known[text] = read_iptables(text, "kube-proxy")
    return known[text]


def _proxied_node(proxy: KubeProxy, host: Host) -> ProxiedNode:
    detector = proxy.local_detector(str(host.plan.pod_cidr), str(host.pod_cidr))
    own = (device for device in host.netns.devices.values() if device.name != KUBE_IPVS)
    addrs = tuple(addr.local for device in own for addr in device.addrs)
    return ProxiedNode(host.name, host.ip, addrs, detector, host.node.zone)


def _virtual_services(proxy: KubeProxy, hosts: Collection[Host], services: tuple[Service, ...]) -> None:
    """What IPVS holds on each node, and the device with the addresses. Nodes share what is equal."""
    known: dict[tuple[object, ...], VirtualService] = {}
    bound: dict[tuple[IPv4, ...], tuple[HostAddr, ...]] = {}
    for host in hosts:
        written = ipvs(proxy, _proxied_node(proxy, host), services, known)
        host.netns.link_add(KUBE_IPVS, Dummy(mac=host.mac(KUBE_IPVS), up=False))
        if written.addrs not in bound:
            bound[written.addrs] = host_addrs(KUBE_IPVS, written.addrs)
        host.netns.addrs_share(KUBE_IPVS, bound[written.addrs])
        for service in written.services:
            host.netns.ipvs.add(service)


def _peers(cluster: Cluster, hosts: Collection[Host]) -> None:
    """What daemons write about other nodes, once for each subnet: all of its nodes write the same."""
    groups: dict[Place, list[Host]] = {}
    for host in hosts:
        groups.setdefault(host.place, []).append(host)
    for place, group in groups.items():
        shared = Shared()
        for peer in hosts:
            shared.about = peer.name
            cluster.cni.peer(place, peer, shared)
        for host in group:
            host.netns.share(shared)
