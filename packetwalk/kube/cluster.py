"""What a cluster is made of, written down by its user; `build` makes a Network of it.

    cluster = Cluster(nodes=2, cni=Calico("ipip"))
    a = cluster.pod("a", node=1)
    b = cluster.pod("b", node=2, listen=80)
    web = cluster.service("web", port=80, pods=[b])
    shop = cluster.deployment("shop", replicas=3, listen=8080)
    cluster.service("shop", port=80, target_port=8080, selector={"app": "shop"})
    net = build(cluster)
    flannel = build(cluster.using(Flannel("vxlan")))

Everything but the lists of pods and services is frozen. What is left open (addresses, ranges, racks) is filled in by
`layout`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from packetwalk.hint import unknown
from packetwalk.kube.balancer import LoadBalancer
from packetwalk.kube.dns import POLICIES, Dns, DnsConfig
from packetwalk.kube.ingress import Ingress, IngressController
from packetwalk.kube.kubeproxy import KubeProxy
from packetwalk.kube.service import Endpoint, Service, ServicePort
from packetwalk.kube.workload import TEMPLATE_HASH, pod_names, scheduled, template_hash

if TYPE_CHECKING:
    from packetwalk.cni import Cni


@dataclass(frozen=True)
class Link:
    """A cable. rate in bit/s (0: no limit), delay one way in ns, mtu in bytes of the IP packet, queue in packets."""

    rate: int = 0
    delay: int = 0
    mtu: int = 1500
    queue: int = 1000


@dataclass(frozen=True)
class Rack:
    """Nodes of one subnet, on one switch or several.

    subnet and gateway: taken from the node network, and its first address, where empty. switches: joined to each other
    by `cables`, which may not form a loop (nothing here speaks the spanning tree protocol); empty: one.
    """

    name: str
    subnet: str = ""
    gateway: str = ""
    switches: tuple[str, ...] = ()
    cables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Node:
    """A machine that runs pods. Where empty, the rack is the next in turn, and addresses and ranges the next free ones.

    pod_cidr: its range, or its first block; tunnel_ip: the address of its tunnel device (Calico, Geneve); switch: the
    one of its rack that it is plugged into; zone: its topology.kubernetes.io/zone. A control_plane runs an API server.
    """

    name: str
    ip: str = ""
    rack: str = ""
    switch: str = ""
    pod_cidr: str = ""
    tunnel_ip: str = ""
    mac: str = ""
    control_plane: bool = False
    zone: str = ""


@dataclass(frozen=True)
class Pod:
    """Containers that share one network namespace, which the pause container holds.

    node: the name of the node. listen: ports with a UDP and a TCP echo server. mac and hostif (the host's end of the
    veth pair) are what the CNI would choose where empty. host_network: it has no namespace of its own, but shares the
    node's: its addresses, its ports, its tables. labels: what selectors look for. ready: a service leads to it. http:
    ports with a web server that tells whom it saw. sctp: ports that answer SCTP's INIT. subdomain: the headless service
    in which it has its hostname (its name, where empty). dns_policy: as in Kubernetes; dns_config adds to it.
    """

    name: str
    node: str
    namespace: str = "default"
    listen: tuple[int, ...] = ()
    ip: str = ""
    mac: str = ""
    hostif: str = ""
    containers: tuple[str, ...] = ("app",)
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    host_network: bool = False
    ready: bool = True
    http: tuple[int, ...] = ()
    sctp: tuple[int, ...] = ()
    hostname: str = ""
    subdomain: str = ""
    dns_policy: str = "ClusterFirst"
    dns_config: DnsConfig = field(default_factory=DnsConfig)

    def __post_init__(self) -> None:
        if self.dns_policy not in POLICIES:
            raise ValueError(f"pod {self.name!r}: {unknown('dnsPolicy', self.dns_policy, POLICIES)}")

    @property
    def room(self) -> str:
        """What its network namespace is called: its name, after its Kubernetes namespace unless that is `default`.

        A pod on the host's network is found by it, too (`network.programs`)."""
        return self.name if self.namespace == "default" else f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Cluster:
    """Nodes, pods, address ranges, and the fabric that joins the nodes.

    nodes, racks: how many, or which. spines: 0 joins the racks by one router; more make every rack's switch a router
    (a leaf) that is wired to each spine. pod_cidr, node_cidr: the usual ones that are large enough, where empty.
    node_mask: the length of the pod range that a node gets (node-cidr-mask-size), where the CNI has use for such.
    link joins nodes to switches, uplink switches and routers. nic: what a node's network card is called. outside: the
    network of the host `out`, beyond the cluster's router. kube_proxy: its settings, on every node; it writes where
    there are services. load_balancer: who serves services of type LoadBalancer; nobody where it is None.
    api_endpoint: the address by which kubelets reach the API servers (kubeadm's controlPlaneEndpoint): one more of the
    first control-plane node, or that of a load balancer before them all (api_balancer). A walk calls it control-plane.
    dns: the cluster has CoreDNS. ingress_controller: the proxy for `ingresses`, if there are any.
    """

    nodes: int | Sequence[Node]
    cni: Cni
    racks: int | Sequence[Rack] = 1
    spines: int = 0
    pod_cidr: str = ""
    service_cidr: str = "10.96.0.0/12"
    node_cidr: str = ""
    link: Link = Link()
    uplink: Link = Link()
    nic: str = "eth0"
    outside: str = "203.0.113.0/24"
    seed: int = 0
    node_mask: int = field(default=24, kw_only=True)
    pods: list[Pod] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    kube_proxy: KubeProxy = field(default_factory=KubeProxy)
    load_balancer: LoadBalancer | None = None
    api_endpoint: str = ""
    api_balancer: bool = False
    dns: Dns | None = None
    ingresses: list[Ingress] = field(default_factory=list)
    ingress_controller: IngressController = field(default_factory=IngressController)

    def pod(self, name: str, node: int | str, *, listen: int | Iterable[int] = (), namespace: str = "default",
            ip: str = "", mac: str = "", containers: Iterable[str] = ("app",), labels: Mapping[str, str] | None = None,
            host_network: bool = False, http: int | Iterable[int] = (), sctp: int | Iterable[int] = (),
            **options: Any) -> Pod:  # fmt: skip
        """Add a pod on a node, by its name or its number from 1. ValueError for a node that is not there.

        options: all other fields of a Pod.
        """
        ports, web, init = ((p,) if isinstance(p, int) else tuple(p) for p in (listen, http, sctp))
        pod = Pod(name, self._node_name(name, node), namespace, ports, ip, mac, "", tuple(containers),
                  dict(labels or {}), host_network, http=web, sctp=init, **options)  # fmt: skip
        self.pods.append(pod)
        return pod

    def deployment(self, name: str, replicas: int = 1, *, listen: int | Iterable[int] = (), namespace: str = "default",
                   labels: Mapping[str, str] | None = None, **options: Any) -> tuple[Pod, ...]:  # fmt: skip
        """Add the pods of a Deployment, spread over the nodes as the scheduler does; labels: `app: NAME` unless told.

        They are called after its one ReplicaSet: NAME-HASH-xxxxx. options: other fields of a Pod.
        """
        labels = dict({"app": name} if labels is None else labels)
        template = template_hash(self.seed, f"{namespace}/{name}")
        spread = scheduled(numbered(self.nodes), list(self.pods), namespace, labels)
        owner = f"{name}-{template}"
        return self._owned(owner, [node for node, _ in zip(spread, range(replicas), strict=False)], listen, namespace,
                           {**labels, TEMPLATE_HASH: template}, **options)  # fmt: skip

    def daemon_set(self, name: str, *, listen: int | Iterable[int] = (), namespace: str = "default",
                   labels: Mapping[str, str] | None = None, **options: Any) -> tuple[Pod, ...]:  # fmt: skip
        """Add the pods of a DaemonSet that tolerates everything: one on each node, called NAME-xxxxx."""
        labels = {"app": name} if labels is None else labels
        return self._owned(name, [n.name for n in numbered(self.nodes)], listen, namespace, labels, **options)

    def _owned(self, owner: str, nodes: Iterable[str], listen: int | Iterable[int], namespace: str,
               labels: Mapping[str, str], **options: Any) -> tuple[Pod, ...]:  # fmt: skip
        names = pod_names(self.seed, namespace, owner)
        return tuple(self.pod(name, node, listen=listen, namespace=namespace, labels=labels, **options)
                     for name, node in zip(names, nodes, strict=False))  # fmt: skip

    def service(self, name: str, port: int | Iterable[ServicePort] = (), *, pods: Iterable[Pod | Endpoint] = (),
                target_port: int = 0, node_port: int = 0, protocol: str = "TCP", type: str = "", ip: str = "",
                **options: Any) -> Service:  # fmt: skip
        """Add a service on a port, or on several ServicePorts, with pods behind it, or Endpoints, or a selector.

        type: ClusterIP, or NodePort where a node_port is given. ip: its cluster IP, the next free one unless told.
        options: all other fields of a Service.
        """
        ports = (ServicePort(port, "", protocol, target_port, node_port),) if isinstance(port, int) else tuple(port)
        endpoints = tuple(p if isinstance(p, Endpoint) else Endpoint(pod=p.room, ready=p.ready) for p in pods)
        usual = "ExternalName" if "external_name" in options else "ClusterIP"
        type = type or ("NodePort" if any(p.node_port for p in ports) else usual)
        service = Service(name, ports, endpoints, type=type, cluster_ip=ip, **options)
        self.services.append(service)
        return service

    def ingress(self, host: str, service: str | Service, *, path: str = "/", port: int = 0) -> Ingress:
        """Let requests for a host, below a path, lead from the outside to a service's pods, by the ingress controller.

        port: of the service; its first one if 0.
        """
        name = service if isinstance(service, str) else service.full_name
        ingress = Ingress(host, name, path, port)
        self.ingresses.append(ingress)
        return ingress

    def _node_name(self, pod: str, node: int | str) -> str:
        names = [n.name for n in numbered(self.nodes)]
        if isinstance(node, int) and 1 <= node <= len(names):
            return names[node - 1]
        if node in names:
            return str(node)
        raise ValueError(f"pod {pod!r} is on no node: there is no node {node!r}, only {', '.join(names)}")

    def using(self, cni: Cni) -> Cluster:
        """The same cluster with another CNI."""
        return dataclasses.replace(self, cni=cni, pods=list(self.pods), services=list(self.services),
                                   ingresses=list(self.ingresses))  # fmt: skip


def numbered(nodes: int | Sequence[Node]) -> tuple[Node, ...]:
    """The nodes themselves; a number makes node-1, node-2 and so on."""
    return tuple(Node(f"node-{i}") for i in range(1, nodes + 1)) if isinstance(nodes, int) else tuple(nodes)


def default_cluster(cni: Cni, *, nodes: int = 2, racks: int = 1, seed: int = 0, dns: bool = False) -> Cluster:
    """What commands walk on when no file is given: pods a and c on node-1, b on node-2, all listening on 80.

    The service web leads to b and c, also by port 30080 of every node. dns: there is a CoreDNS, and they speak HTTP.
    """
    cluster = Cluster(nodes, cni, racks, seed=seed, dns=Dns() if dns else None)
    echo, web = ((), 80) if dns else (80, ())
    cluster.pod("a", 1, listen=echo, http=web)
    c = cluster.pod("c", 1, listen=echo, http=web)
    b = cluster.pod("b", 2 if nodes > 1 else 1, listen=echo, http=web)
    cluster.service("web", 80, pods=[b, c], node_port=30080)
    return cluster
