"""The packetwalk document: what may stand in a cluster.yaml, field by field. `packetwalk schema` prints it.

The fields are those of `packetwalk.kube.cluster`, with rates and delays in the words of tc.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from packetwalk.addr import IPv4, Mac, Prefix
from packetwalk.edit import RATES, TIMES, quantity
from packetwalk.hint import unknown
from packetwalk.kube.balancer import MODES
from packetwalk.kube.dns import POLICIES as POLICIES_OF_DNS
from packetwalk.kube.kubeproxy import MODES as PROXY_MODES
from packetwalk.kube.kubeproxy import SCHEDULERS
from packetwalk.kube.service import AFFINITIES, HEADLESS, POLICIES, PROTOCOLS, TYPES

VERSION = 1
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
DEVICE_MAX = 15  # IFNAMSIZ without its zero
MTU_MIN, MTU_MAX = 68, 65535


def _name(text: str) -> str:
    if not LABEL.fullmatch(text) or len(text) > 63:
        raise ValueError(f"a name of lower-case letters, digits, - and . was expected (RFC 1123), not {text!r}")
    return text


def _device(text: str) -> str:
    if not text or len(text) > DEVICE_MAX or re.search(r"[\s/:]", text):
        raise ValueError(f"a device name of at most {DEVICE_MAX} characters was expected, not {text!r}")
    return text


def _ip(text: str) -> str:
    return str(IPv4(text))


def _mac(text: str) -> str:
    return str(Mac(text))


def _cidr(text: str) -> str:
    if "/" not in text:
        raise ValueError(f"a range such as 10.0.0.0/16 was expected, not {text!r}")
    return str(Prefix.parse(text))


def _cluster_ip(text: str) -> str:
    return text if text == HEADLESS else _ip(text)


def _one_of(what: str, words: tuple[str, ...]) -> tuple[AfterValidator, WithJsonSchema]:
    def check(text: str) -> str:
        if text not in words:
            raise ValueError(unknown(what, text, words))
        return text

    return AfterValidator(check), WithJsonSchema({"type": "string", "enum": list(words)})


def _measured(units: Mapping[str, int]) -> Callable[[Any], int]:
    return lambda value: quantity(units)(value if isinstance(value, str) else "")


def _text(form: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "format": form, "examples": [example]})


def _shape(value: Any) -> str:
    """Which kind of a field that may be a list or a mapping it is."""
    return "list" if isinstance(value, list) else "mapping" if isinstance(value, dict) else "word"


Name = Annotated[str, AfterValidator(_name)]
DeviceName = Annotated[str, AfterValidator(_device)]
Address = Annotated[str, AfterValidator(_ip), _text("ipv4", "192.168.56.11")]
Ethernet = Annotated[str, AfterValidator(_mac), _text("mac", "02:00:00:00:00:01")]
Cidr = Annotated[str, AfterValidator(_cidr), _text("cidr", "10.244.0.0/16")]
Rate = Annotated[int, BeforeValidator(_measured(RATES)), _text("rate", "10gbit")]
Delay = Annotated[int, BeforeValidator(_measured(TIMES)), _text("delay", "5us")]
ClusterIp = Annotated[str, AfterValidator(_cluster_ip), _text("ipv4", "10.96.0.10")]
Protocol = Annotated[str, *_one_of("protocol", PROTOCOLS)]
ServiceType = Annotated[str, *_one_of("type", TYPES)]
DnsPolicy = Annotated[str, *_one_of("dns_policy", POLICIES_OF_DNS)]
Policy = Annotated[str, *_one_of("traffic policy", POLICIES)]
Affinity = Annotated[str, *_one_of("session affinity", AFFINITIES)]
ProxyMode = Annotated[str, *_one_of("mode of kube-proxy", PROXY_MODES)]
Scheduler = Annotated[str, *_one_of("scheduler of IPVS", SCHEDULERS)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1, le=100_000)]


class Part(BaseModel):
    """What all parts of a document have in common: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LinkPart(Part):
    """A cable."""

    rate: Rate = Field(default=0, description="Bits per second, as tc writes them; no limit if left out.")
    delay: Delay = Field(default=0, description="One way; none if left out.")
    mtu: int = Field(default=1500, ge=MTU_MIN, le=MTU_MAX, description="Bytes of the largest IP packet.")
    queue: int = Field(default=1000, ge=1, description="Packets that wait for their turn.")


class RackPart(Part):
    """Nodes of one subnet, on one switch or several."""

    name: Name
    subnet: Cidr = Field(default="", description="Taken from node_cidr if left out.")
    gateway: Address = Field(default="", description="The subnet's first address if left out.")
    switches: list[Name] = Field(default=[], description="One if left out.")
    cables: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = Field(
        default=[], description="Pairs of switches; they may not form a loop."
    )


class NodePart(Part):
    """A machine that runs pods."""

    name: Name
    ip: Address = Field(default="", description="The next free one of its rack if left out.")
    rack: str = Field(default="", description="The next rack in turn if left out.")
    switch: str = Field(default="", description="Which of its rack's switches it is plugged into.")
    pod_cidr: Cidr = Field(default="", description="Its range, or its first block.")
    tunnel_ip: Address = Field(default="", description="The address of its tunnel device.")
    mac: Ethernet = Field(default="", description="Of its network card; drawn from the seed if left out.")
    control_plane: bool = Field(default=False, description="It runs an API server.")
    zone: str = Field(default="", description="Its topology zone, for the hints of endpoints.")


class DnsConfigPart(Part):
    """What a pod adds to its resolv.conf."""

    nameservers: list[Address] = []
    searches: list[str] = []
    ndots: int = Field(default=0, ge=0, le=15, description="As dns_policy has it if left out.")


class PodPart(Part):
    """Containers that share one network namespace."""

    name: Name
    node: str = Field(description="Its node, by name or by number from 1.")
    namespace: Name = "default"
    listen: list[PortNumber] = Field(default=[], description="Ports with a UDP and a TCP echo server.")
    ip: Address = Field(default="", description="The next free one of its node if left out.")
    mac: Ethernet = Field(default="", description="Drawn from the seed if left out.")
    hostif: DeviceName = Field(default="", description="The host's end of the veth pair.")
    containers: list[Name] = ["app"]
    labels: dict[str, str] = Field(default={}, description="What the selectors of services look for.")
    host_network: bool = Field(default=False, description="It shares the node's network namespace.")
    ready: bool = Field(default=True, description="Whether services lead to it.")
    http: list[PortNumber] = Field(default=[], description="Ports with a web server that tells whom it saw.")
    sctp: list[PortNumber] = Field(default=[], description="Ports that answer SCTP's INIT.")
    hostname: str = Field(default="", description="Its name if left out.")
    subdomain: str = Field(default="", description="The headless service in which its hostname is known.")
    dns_policy: DnsPolicy = "ClusterFirst"
    dns_config: DnsConfigPart = DnsConfigPart()


class DaemonSetPart(Part):
    """A pod on each node."""

    name: Name
    namespace: Name = "default"
    listen: list[PortNumber] = Field(default=[], description="Ports with a UDP and a TCP echo server.")
    http: list[PortNumber] = Field(default=[], description="Ports with a web server that tells whom it saw.")
    labels: dict[str, str] | None = Field(default=None, description="`app: NAME` if left out.")
    host_network: bool = Field(default=False, description="They share their nodes' network namespaces.")


class DeploymentPart(DaemonSetPart):
    """Pods that are spread over the nodes."""

    replicas: int = Field(default=1, ge=0, le=100_000)


class ServicePortPart(Part):
    """A port of a service."""

    port: PortNumber
    name: str = Field(default="", description="Needed where there are several.")
    protocol: Protocol = "TCP"
    target_port: int = Field(default=0, ge=0, le=65535, description="The pods' own port; the same if left out.")
    node_port: int = Field(default=0, ge=0, le=65535, description="Drawn if left out and the type wants one.")


class EndpointPart(Part):
    """A pod, by the name of its room, or an address behind a service, and its conditions."""

    ip: Address = ""
    node: str = ""
    pod: str = ""
    ready: bool = True
    serving: bool | None = Field(default=None, description="As ready if left out.")
    terminating: bool = False
    zones: list[str] = Field(default=[], description="Its topology hints.")


class ServicePart(Part):
    """A Kubernetes service. Either `port` or `ports`; `pods` are endpoints, as ready as they are."""

    name: Name
    namespace: Name = "default"
    type: ServiceType = Field(default="", description="ClusterIP, or NodePort with node_port.")
    port: int = Field(default=0, ge=0, le=65535)
    target_port: int = Field(default=0, ge=0, le=65535)
    node_port: int = Field(default=0, ge=0, le=65535)
    protocol: Protocol = "TCP"
    ports: list[ServicePortPart] = []
    pods: list[str] = Field(default=[], description="Pods of its namespace.")
    endpoints: list[EndpointPart] = []
    selector: dict[str, str] = Field(default={}, description="Labels; pods that have them are endpoints, too.")
    cluster_ip: ClusterIp = Field(default="", description="The next free one if left out; None makes it headless.")
    external_ips: list[Address] = []
    load_balancer_ips: list[Address] = []
    load_balancer_source_ranges: list[Cidr] = []
    external_traffic_policy: Policy = "Cluster"
    internal_traffic_policy: Policy = "Cluster"
    session_affinity: Affinity = "None"
    session_affinity_timeout: int = Field(default=10800, ge=1, le=86400, description="Seconds.")
    health_check_node_port: int = Field(default=0, ge=0, le=65535)
    external_name: str = Field(default="", description="What it is another name for; makes it an ExternalName.")
    publish_not_ready_addresses: bool = False

    @model_validator(mode="after")
    def _has_ports(self) -> ServicePart:
        if bool(self.port) == bool(self.ports) and not (self.external_name and not self.ports):
            raise ValueError(f"service {self.name!r} needs port or ports, and not both")
        return self


class KubeProxyPart(Part):
    """Settings of kube-proxy on every node."""

    mode: ProxyMode = Field(default="iptables", description="In what it writes its rules.")
    masquerade_all: bool = False
    masquerade_bit: int = Field(default=14, ge=0, le=31)
    detect_local: str = Field(
        default="ClusterCIDR",
        description="Who counts as a pod: ClusterCIDR, NodeCIDR, BridgeInterface:NAME or InterfaceNamePrefix:PREFIX.",
    )
    localhost_node_ports: bool = True
    node_port_addresses: list[Cidr] = Field(
        default=[], description="Networks that serve node ports; if empty, all; with nftables the node's own address."
    )
    random_fully: bool = True
    scheduler: Scheduler = Field(default="rr", description="IPVS mode: who gets the next connection.")
    strict_arp: bool = Field(default=False, description="IPVS mode: no node answers ARP for service addresses.")


class LoadBalancerPart(Part):
    """Who serves services of type LoadBalancer."""

    mode: Annotated[str, *_one_of("load balancer", MODES)] = "l2"
    pool: Cidr = Field(default="", description="Addresses for services that ask for none.")
    direct_return: bool = Field(default=False, description="In a cloud: packets go on as they are, and nodes answer.")


class DnsPart(Part):
    """The cluster's DNS: CoreDNS behind the tenth address of service_cidr."""

    domain: Name = "cluster.local"
    replicas: int = Field(default=2, ge=1, le=100)
    node_local: bool = Field(default=False, description="Also a cache on each node (NodeLocal DNSCache).")
    upstream: dict[str, str] = Field(
        default={}, description="What the resolver outside, the host `out`, knows: an address or another name for each."
    )


class IngressPart(Part):
    """Requests from the outside for a host, below a path, that lead to a service's pods."""

    host: str = Field(default="", description="Any if left out.")
    service: str = Field(description="Its name, after its namespace and a slash unless that is default.")
    path: str = "/"
    port: int = Field(default=0, ge=0, le=65535, description="Of the service; its first one if left out.")


class IngressControllerPart(Part):
    """The proxy for ingresses: a pod behind a NodePort service, or on its node's network."""

    node: str = Field(default="", description="Its node, by name or by number from 1; the first if left out.")
    host_network: bool = Field(default=False, description="It listens on port 80 of its node.")
    load_balancer: bool = Field(default=False, description="Its service is of type LoadBalancer.")
    node_port: int = Field(default=0, ge=0, le=65535, description="Drawn if left out.")
    external_traffic_policy: Policy = "Cluster"


class Document(Part):
    """A cluster: nodes, pods, address ranges, the fabric below, and the CNI that fills the nodes."""

    packetwalk: int = Field(default=VERSION, ge=VERSION, le=VERSION, description="Version of this form.")
    cni: Annotated[Annotated[str, Tag("word")] | Annotated[dict[str, Any], Tag("mapping")], Discriminator(_shape)] = (
        Field(description="A mode (`packetwalk modes`), or a mapping of `mode` and its options.")
    )
    nodes: Annotated[Annotated[Count, Tag("word")] | Annotated[list[NodePart], Tag("list")], Discriminator(_shape)] = (
        Field(description="How many (node-1, node-2 and so on), or which.")
    )
    pods: list[PodPart] = []
    deployments: list[DeploymentPart] = []
    daemon_sets: list[DaemonSetPart] = []
    services: list[ServicePart] = []
    kube_proxy: KubeProxyPart = KubeProxyPart()
    load_balancer: LoadBalancerPart | None = Field(default=None, description="Nobody serves them if left out.")
    api_endpoint: Address = Field(default="", description="The address of the API servers; a walk says control-plane.")
    api_balancer: bool = Field(default=False, description="A machine of its own has that address.")
    dns: Annotated[Annotated[bool, Tag("word")] | Annotated[DnsPart, Tag("mapping")], Discriminator(_shape)] = Field(
        default=False, description="true, or its settings."
    )
    ingresses: list[IngressPart] = []
    ingress_controller: IngressControllerPart = IngressControllerPart()
    racks: Annotated[Annotated[Count, Tag("word")] | Annotated[list[RackPart], Tag("list")], Discriminator(_shape)] = (
        Field(default=1, description="How many, or which; each is a subnet.")
    )
    spines: int = Field(default=0, ge=0, le=64, description="0: one router joins the racks; more: leaf and spine.")
    pod_cidr: Cidr = Field(default="", description="10.244.0.0/16 if left out and large enough.")
    service_cidr: Cidr = "10.96.0.0/12"
    node_cidr: Cidr = Field(default="", description="192.168.56.0/21 if left out and large enough.")
    node_mask: int = Field(default=24, ge=8, le=30, description="The length of a node's pod range.")
    outside: Cidr = Field(default="203.0.113.0/24", description="The network of the host `out` behind the router.")
    link: LinkPart = Field(default=LinkPart(), description="Joins nodes to switches.")
    uplink: LinkPart = Field(default=LinkPart(), description="Joins switches and routers.")
    nic: DeviceName = Field(default="eth0", description="What a node's network card is called.")
    seed: int = Field(default=0, ge=0, description="Decides what a real cluster draws at random.")
    set: list[str] = Field(default=[], description="Lines of --set: what is changed once the cluster stands.")


PARTS: dict[Any, type[Part]] = {
    (): Document, ("nodes",): NodePart, ("racks",): RackPart, ("pods",): PodPart,
    ("deployments",): DeploymentPart, ("daemon_sets",): DaemonSetPart,
    ("link",): LinkPart, ("uplink",): LinkPart, ("kube_proxy",): KubeProxyPart,
    ("load_balancer",): LoadBalancerPart,
    ("services",): ServicePart, ("services", "ports"): ServicePortPart, ("services", "endpoints"): EndpointPart,
    ("pods", "dns_config"): DnsConfigPart, ("dns",): DnsPart, ("ingresses",): IngressPart,
    ("ingress_controller",): IngressControllerPart,
}  # fmt: skip
"""Which part stands where, by the names on the way to it."""


def schema() -> dict[str, Any]:
    """The JSON schema of a document, for editors."""
    return Document.model_json_schema()
