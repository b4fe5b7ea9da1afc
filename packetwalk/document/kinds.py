"""Kubernetes' own objects, as `kubectl get -o yaml` prints them: the fields that say where packets go, by their names.

All other fields are left alone (but see `slips`).
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from packetwalk.document.model import Affinity, DnsPolicy, Policy, PortNumber, Protocol, ServiceType


class Part(BaseModel):
    """What all parts have in common: what is null is not there."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data


class Meta(Part):
    """ObjectMeta."""

    name: str = ""
    namespace: str = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletionTimestamp: str = ""


class Object(Part):
    """Any object."""

    kind: str
    metadata: Meta


class NodeAddress(Part):
    """One of a node's addresses."""

    type: str
    address: str


class NodeSpec(Part):
    """What is wanted of a node."""

    podCIDR: str = ""
    podCIDRs: list[str] = []


class NodeStatus(Part):
    """What a node is."""

    addresses: list[NodeAddress] = []


class NodeObject(Object):
    """v1 Node."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ContainerPort(Part):
    """A port of a container."""

    containerPort: PortNumber
    name: str = ""
    protocol: Protocol = "TCP"
    hostPort: int = 0


class Container(Part):
    """A container; the words of its command are the API server's flags."""

    name: str
    command: list[str] = []
    args: list[str] = []
    ports: list[ContainerPort] = []


class DnsOption(Part):
    """A line of resolv.conf's options."""

    name: str = ""
    value: str = ""


class DnsConfigObject(Part):
    """What a pod adds to its resolv.conf."""

    nameservers: list[str] = []
    searches: list[str] = []
    options: list[DnsOption] = []


class PodSpec(Part):
    """What is wanted of a pod."""

    nodeName: str = ""
    hostNetwork: bool = False
    hostname: str = ""
    subdomain: str = ""
    dnsPolicy: DnsPolicy = "ClusterFirst"
    dnsConfig: DnsConfigObject = DnsConfigObject()
    containers: list[Container] = []


class PodIp(Part):
    """One of a pod's addresses."""

    ip: str


class Condition(Part):
    """A condition of a pod."""

    type: str
    status: str


class PodStatus(Part):
    """What a pod is."""

    phase: str = ""
    podIP: str = ""
    podIPs: list[PodIp] = []
    conditions: list[Condition] = []


class PodObject(Object):
    """v1 Pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ready(self) -> bool:
        """Its condition Ready; a pod whose status says nothing is."""
        return all(c.status == "True" for c in self.status.conditions if c.type == "Ready")


class ServicePortObject(Part):
    """A port of a service; targetPort is a number or the name of a container's port."""

    port: PortNumber
    name: str = ""
    protocol: Protocol = "TCP"
    targetPort: str = ""
    nodePort: int = 0


class ClientIp(Part):
    """How long a client stays with its endpoint, in seconds."""

    timeoutSeconds: int = 10800


class AffinityConfig(Part):
    """sessionAffinityConfig."""

    clientIP: ClientIp = ClientIp()


class ServiceSpec(Part):
    """What is wanted of a service."""

    type: ServiceType = "ClusterIP"
    clusterIP: str = ""
    clusterIPs: list[str] = []
    ports: list[ServicePortObject] = []
    selector: dict[str, str] = {}
    externalIPs: list[str] = []
    loadBalancerSourceRanges: list[str] = []
    externalTrafficPolicy: Policy = "Cluster"
    internalTrafficPolicy: Policy = "Cluster"
    sessionAffinity: Affinity = "None"
    sessionAffinityConfig: AffinityConfig = AffinityConfig()
    healthCheckNodePort: int = 0
    externalName: str = ""
    publishNotReadyAddresses: bool = False


class Ingress(Part):
    """An address of a load balancer; kube-proxy leaves those of the mode Proxy alone (KEP 1860)."""

    ip: str = ""
    ipMode: str = "VIP"


class LoadBalancerStatus(Part):
    """What the load balancer's controller has filled in."""

    ingress: list[Ingress] = []


class ServiceStatus(Part):
    """What a service is."""

    loadBalancer: LoadBalancerStatus = LoadBalancerStatus()


class ServiceObject(Object):
    """v1 Service."""

    spec: ServiceSpec
    status: ServiceStatus = ServiceStatus()


class Reference(Part):
    """Which object an endpoint stands for."""

    kind: str = ""
    name: str = ""
    namespace: str = ""


class Conditions(Part):
    """Conditions of an endpoint; ready unless told."""

    ready: bool = True
    serving: bool | None = None
    terminating: bool = False


class Zone(Part):
    """A zone that an endpoint is hinted to."""

    name: str


class Hints(Part):
    """Where an endpoint should be used."""

    forZones: list[Zone] = []


class SliceEndpoint(Part):
    """An endpoint of a slice."""

    addresses: list[str]
    conditions: Conditions = Conditions()
    nodeName: str = ""
    targetRef: Reference = Reference()
    hints: Hints = Hints()


class SlicePort(Part):
    """A port that all endpoints of a slice have."""

    port: int = 0
    name: str = ""
    protocol: Protocol = "TCP"


class EndpointSliceObject(Object):
    """discovery.k8s.io/v1 EndpointSlice."""

    addressType: str
    endpoints: list[SliceEndpoint] = []
    ports: list[SlicePort] = []


class EndpointAddress(Part):
    """An address of Endpoints."""

    ip: str
    nodeName: str = ""
    targetRef: Reference = Reference()


class Subset(Part):
    """Addresses with the same ports."""

    addresses: list[EndpointAddress] = []
    notReadyAddresses: list[EndpointAddress] = []
    ports: list[SlicePort] = []


class EndpointsObject(Object):
    """v1 Endpoints, read where a service has no EndpointSlice."""

    subsets: list[Subset] = []


class Template(Part):
    """The pods of a workload."""

    metadata: Meta = Meta()
    spec: PodSpec = PodSpec()


class Selector(Part):
    """Which pods belong to a workload."""

    matchLabels: dict[str, str] = {}


class WorkloadSpec(Part):
    """What is wanted of a workload."""

    replicas: int = Field(default=1, ge=0, le=100_000)
    selector: Selector = Selector()
    template: Template


class WorkloadObject(Object):
    """apps/v1 Deployment or DaemonSet; makes pods where none of its own are there."""

    spec: WorkloadSpec


class IngressServicePort(Part):
    """A service's port, by number or name."""

    number: int = 0
    name: str = ""


class IngressService(Part):
    """A service behind an ingress."""

    name: str
    port: IngressServicePort = IngressServicePort()


class IngressBackend(Part):
    """What is behind a path."""

    service: IngressService | None = None


class IngressPath(Part):
    """A path and what is behind it."""

    path: str = "/"
    backend: IngressBackend


class IngressHttp(Part):
    """The paths of a rule."""

    paths: list[IngressPath] = []


class IngressRule(Part):
    """A host and its paths."""

    host: str = ""
    http: IngressHttp = IngressHttp()


class IngressSpec(Part):
    """What is wanted of an ingress."""

    rules: list[IngressRule] = []
    defaultBackend: IngressBackend = IngressBackend()


class IngressObject(Object):
    """networking.k8s.io/v1 Ingress."""

    spec: IngressSpec = IngressSpec()


class PoolSpec(Part):
    """Addresses that MetalLB gives out: ranges `a-b` or in CIDR form."""

    addresses: list[str] = []


class PoolObject(Object):
    """metallb.io IPAddressPool."""

    spec: PoolSpec = PoolSpec()


KINDS: dict[str, type[Object]] = {
    "Node": NodeObject, "Pod": PodObject, "Service": ServiceObject, "EndpointSlice": EndpointSliceObject,
    "Endpoints": EndpointsObject, "Deployment": WorkloadObject, "DaemonSet": WorkloadObject, "Namespace": Object,
    "Ingress": IngressObject,
    "IPAddressPool": PoolObject, "L2Advertisement": Object, "BGPAdvertisement": Object,
}  # fmt: skip
"""What is read; a List holds others. All else is left out, by name."""
