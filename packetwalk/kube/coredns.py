"""Who serves the cluster's DNS, and whom each room asks: CoreDNS pods, caches on the nodes, resolv.conf.

What lies outside of the cluster is answered by the host `out`, the resolver that nodes have in their resolv.conf.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from packetwalk.addr import IPv4, Prefix
from packetwalk.apps.nameserver import Forward, NameServer
from packetwalk.apps.resolver import ResolvConf
from packetwalk.kube.cluster import Cluster, Pod, numbered
from packetwalk.kube.dns import Dns
from packetwalk.kube.fabric import OUT
from packetwalk.kube.rules import Deferred, beside
from packetwalk.kube.service import Endpoint, Service, ServicePort
from packetwalk.kube.zone import REVERSE, ClusterZone, PublicZone, namespaces
from packetwalk.netns.device import Dummy
from packetwalk.netns.namespace import Netns
from packetwalk.network import Network
from packetwalk.snapshot.iptables_save import read_iptables

SYSTEM, UPSTREAM = "kube-system", "kube-dns-upstream"
KUBE_DNS = f"{SYSTEM}/kube-dns"
TENTH = 10
PORT = 53
HEALTH_PORT = 8080
NODE_LOCAL_IP = "169.254.20.10"
NODE_LOCAL_DEV = "nodelocaldns"
CACHE, DENIAL = 30, 5  # seconds


def with_dns(cluster: Cluster) -> Cluster:
    """The cluster and its CoreDNS: pods spread over the nodes, the service kube-dns in front of them.

    One that has that service already has its pods, too.
    """
    dns = cluster.dns
    if dns is None:
        return cluster
    known = next((s for s in cluster.services if s.full_name == KUBE_DNS), None)
    if known is not None:
        upstream = replace(known, name=UPSTREAM, cluster_ip="") if dns.node_local else None
        return replace(cluster, services=[*cluster.services, *([upstream] if upstream is not None else [])])
    nodes = [node.name for node in numbered(cluster.nodes)]
    pods = [
        Pod(f"coredns-{i + 1}", nodes[i % len(nodes)], SYSTEM, dns_policy="Default") for i in range(dns.replicas)
    ]
    ports = (ServicePort(PORT, "dns", "UDP"), ServicePort(PORT, "dns-tcp"), ServicePort(9153, "metrics"))
    behind = tuple(Endpoint(pod=pod.room) for pod in pods)
    services = [Service("kube-dns", ports, behind, SYSTEM, cluster_ip=str(address(cluster)))]
    if dns.node_local:
        services.append(Service(UPSTREAM, ports[:2], behind, SYSTEM))
    return replace(cluster, pods=[*cluster.pods, *pods], services=[*cluster.services, *services])


def address(cluster: Cluster) -> IPv4:
    """The cluster IP of kube-dns: the tenth of its range (kubeadm's GetDNSIP)."""
    try:
        return IPv4(Prefix.parse(cluster.service_cidr).addr + TENTH)
    except ValueError as error:
        raise ValueError(f"service CIDR: {error}") from None


def serve_dns(cluster: Cluster, network: Network, services: Iterable[Service], public: Mapping[str, str]) -> None:
    """Start the servers, and write each room's resolv.conf. public: names that the resolver outside knows, too."""
    dns = cluster.dns
    if dns is None:
        if public:  # the outside has it in its hosts file
            network.resolvers[OUT] = ResolvConf(hosts={name: IPv4(addr) for name, addr in public.items()})
        return
    outside = network[OUT].device("eth0").addrs[0].local
    network[OUT].listen(PORT, app=NameServer("resolver", (PublicZone({**public, **dns.upstream}),)))
    services = tuple(services)
    zone = ClusterZone(dns.domain, services, namespaces(services, (p.namespace for p in cluster.pods)),
                       _hostnames(cluster.pods, services))  # fmt: skip
    server = NameServer("coredns", (zone,), (Forward("", (outside,)),), CACHE, CACHE)
    kube_dns = next(s for s in services if s.full_name == KUBE_DNS)
    for endpoint in kube_dns.endpoints:
        if endpoint.pod:
            network[network.room_of(endpoint.pod)].listen(PORT, app=server)
    node = ResolvConf((outside,))
    network.resolvers.update({room: node for room, role in network.roles.items() if role in ("node", "host")})
    listens = _node_local_addresses(cluster, kube_dns)
    for pod in cluster.pods:
        conf = resolv_conf(pod, dns, IPv4(listens[-1] if dns.node_local else kube_dns.cluster_ip), node)
        if not pod.host_network:  # its /etc/hosts is the kubelet's work, too, and has its own name
            own = network[pod.room].device("eth0").addrs[0].local
            conf = replace(conf, hosts={pod.hostname or pod.name: own})
        network.resolvers[pod.room] = conf
    if dns.node_local:
        upstream = next(s for s in services if s.full_name == f"{SYSTEM}/{UPSTREAM}")
        for room in (name for name, role in network.roles.items() if role == "node"):
            _node_local(network[room], dns, listens, IPv4(upstream.cluster_ip), outside)


def resolv_conf(pod: Pod, dns: Dns, server: IPv4, node: ResolvConf) -> ResolvConf:
    """What the kubelet writes for a pod, by its dnsPolicy and dnsConfig (pkg/kubelet/network/dns). node: the node's."""
    domain, config = dns.domain, pod.dns_config
    conf = ResolvConf()
    if pod.dns_policy == "Default" or (pod.dns_policy == "ClusterFirst" and pod.host_network):
        conf = node
    elif pod.dns_policy != "None":
        search = (f"{pod.namespace}.svc.{domain}", f"svc.{domain}", domain, *node.search)
        conf = ResolvConf((server,), search, 5)
    servers = dict.fromkeys((*conf.nameservers, *map(IPv4, config.nameservers)))
    search = tuple(dict.fromkeys((*conf.search, *config.searches)))
    return replace(conf, nameservers=tuple(servers), search=search, ndots=config.ndots or conf.ndots)


def _hostnames(pods: Iterable[Pod], services: Iterable[Service]) -> dict[tuple[str, str], str]:
    """{(room, service): hostname} of pods whose subdomain is a headless service of their namespace."""
    headless = {s.full_name for s in services if s.headless}
    named = ((p, f"{p.namespace}/{p.subdomain}") for p in pods if p.subdomain)
    return {(p.room, service): p.hostname or p.name for p, service in named if service in headless}


# -- NodeLocal DNSCache (kubernetes/dns, cmd/node-cache) ---------------------------------------------------------------


def _node_local_addresses(cluster: Cluster, kube_dns: Service) -> tuple[str, ...]:
    """Where the cache listens, the last one being what pods ask. It takes kube-dns' address, so that pods need not know
    of it; in IPVS mode kube-proxy holds that one on each node, and pods are told of the cache."""
    if cluster.kube_proxy.mode == "ipvs":
        return (NODE_LOCAL_IP,)
    return NODE_LOCAL_IP, kube_dns.cluster_ip


def _node_local(netns: Netns, dns: Dns, listens: tuple[str, ...], upstream: IPv4, outside: IPv4) -> None:
    """A cache on a node; its device stays down, which its addresses do not mind."""
    netns.link_add(NODE_LOCAL_DEV, Dummy(up=False))
    forwards = tuple(Forward(zone, (upstream,), "tcp") for zone in (dns.domain, REVERSE))
    app = NameServer("node-local-dns", (), (*forwards, Forward("", (outside,))), CACHE, DENIAL)
    for addr in listens:
        netns.addr_add(NODE_LOCAL_DEV, f"{addr}/32")
        netns.listen(PORT, addr=addr, app=app)
    before, text = netns.netfilter, node_local_rules(listens)
    netns.netfilter = Deferred(lambda: beside(read_iptables(text, "node-local-dns"), before, lambda chain: 0))


def node_local_rules(addrs: Iterable[str]) -> str:
    """What it inserts, each rule at the top of its chain, so that the last one is first (setupNetworking).

    Its packets are tracked as no connection, so kube-proxy never translates them.
    """
    raw: dict[str, list[str]] = {"PREROUTING": [], "OUTPUT": []}
    accept: dict[str, list[str]] = {"INPUT": [], "OUTPUT": []}
    for addr in addrs:
        for chain, to, port in (("PREROUTING", "-d", f"--dport {PORT}"), ("OUTPUT", "-s", f"--sport {PORT}"),
                                ("OUTPUT", "-d", f"--dport {PORT}")):  # fmt: skip
            raw[chain] += [f"{to} {addr}/32 -p {p} -m {p} {port}" for p in ("tcp", "udp")]
        raw["OUTPUT"] += [f"{to} {addr}/32 -p tcp -m tcp {port} {HEALTH_PORT}" for to, port in
                          (("-d", "--dport"), ("-s", "--sport"))]  # fmt: skip
        accept["INPUT"] += [f"-d {addr}/32 -p {p} -m {p} --dport {PORT}" for p in ("tcp", "udp")]
        accept["OUTPUT"] += [f"-s {addr}/32 -p {p} -m {p} --sport {PORT}" for p in ("tcp", "udp")]
    lines = []
    for table, chains, comment, target in (
        ("raw", raw, "skip conntrack", "NOTRACK"), ("filter", accept, "allow DNS traffic", "ACCEPT"),
    ):  # fmt: skip
        lines += [f"*{table}", *(f":{chain} ACCEPT [0:0]" for chain in chains)]
        for chain, matches in chains.items():
            note = f'-m comment --comment "NodeLocal DNS Cache: {comment}"'
            lines += [f"-A {chain} {match} {note} -j {target}" for match in reversed(matches)]
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"
