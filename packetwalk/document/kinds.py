"""Kubernetes' own objects, as `kubectl get -o yaml` prints them: the fields that say where packets go, by their names.

All other fields are left alone, but one that is nearly called like one of these is a slip.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from packetwalk.document.model import Affinity, Policy, PortNumber, Protocol, ServiceType
from packetwalk.document.tree import Place


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


class PodSpec(Part):
    """What is wanted of a pod."""

    nodeName: str = ""
    hostNetwork: bool = False
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


KINDS: dict[str, type[Object]] = {
    "Node": NodeObject, "Pod": PodObject, "Service": ServiceObject, "EndpointSlice": EndpointSliceObject,
    "Endpoints": EndpointsObject, "Deployment": WorkloadObject, "DaemonSet": WorkloadObject, "Namespace": Object,
}  # fmt: skip
"""What is read; a List holds others. All else is left out, by name."""

REAL = frozenset({
    "activeDeadlineSeconds", "address", "addresses", "addressType", "affinity", "allocatable", "allocatedResources",
    "allocateLoadBalancerNodePorts", "annotations", "apiVersion", "appProtocol", "args",
    "automountServiceAccountToken", "availableReplicas", "capacity", "clientIP", "clusterIP", "clusterIPs",
    "collisionCount", "command", "conditions", "config", "configSource", "containerPort", "containers",
    "containerStatuses", "creationTimestamp", "currentNumberScheduled", "daemonEndpoints", "data", "declaredFeatures",
    "deletionGracePeriodSeconds", "deletionTimestamp", "deprecatedTopology", "desiredNumberScheduled", "dnsConfig",
    "dnsPolicy", "enableServiceLinks", "endpoints", "env", "envFrom", "ephemeralContainers",
    "ephemeralContainerStatuses", "error", "extendedResourceClaimStatus", "externalID", "externalIPs", "externalName",
    "externalTrafficPolicy", "features", "fieldPath", "finalizers", "forNodes", "forZones", "generateName",
    "generation", "healthCheckNodePort", "hints", "hostAliases", "hostIP", "hostIPC", "hostIPs", "hostname",
    "hostnameOverride", "hostNetwork", "hostPID", "hostPort", "hostUsers", "image", "imagePullPolicy",
    "imagePullSecrets", "images", "ingress", "initContainers", "initContainerStatuses", "internalTrafficPolicy", "ip",
    "ipFamilies", "ipFamilyPolicy", "ipMode", "items", "kind", "labels", "lastHeartbeatTime", "lastProbeTime",
    "lastTransitionTime", "lastUpdateTime", "lifecycle", "livenessProbe", "loadBalancer", "loadBalancerClass",
    "loadBalancerIP", "loadBalancerSourceRanges", "managedFields", "matchExpressions", "matchLabels", "message",
    "metadata", "minReadySeconds", "name", "namespace", "nodeInfo", "nodeName", "nodePort", "nodeSelector",
    "nominatedNodeName", "notReadyAddresses", "numberAvailable", "numberMisscheduled", "numberReady",
    "numberUnavailable", "observedGeneration", "os", "overhead", "ownerReferences", "paused", "phase", "podCIDR",
    "podCIDRs", "podIP", "podIPs", "port", "ports", "preemptionPolicy", "priority", "priorityClassName",
    "progressDeadlineSeconds", "protocol", "providerID", "publishNotReadyAddresses", "qosClass", "readinessGates",
    "readinessProbe", "ready", "readyReplicas", "reason", "replicas", "resize", "resizePolicy", "resourceClaims",
    "resourceClaimStatuses", "resources", "resourceVersion", "restartPolicy", "restartPolicyRules",
    "revisionHistoryLimit", "runtimeClassName", "runtimeHandlers", "schedulerName", "schedulingGates",
    "securityContext", "selector", "selfLink", "serviceAccount", "serviceAccountName", "serving", "sessionAffinity",
    "sessionAffinityConfig", "setHostnameAsFQDN", "shareProcessNamespace", "spec", "startTime", "startupProbe",
    "status", "stdin", "stdinOnce", "strategy", "subdomain", "subsets", "taints", "targetPort", "targetRef",
    "template", "terminating", "terminatingReplicas", "terminationGracePeriodSeconds", "terminationMessagePath",
    "terminationMessagePolicy", "timeoutSeconds", "tolerations", "topologySpreadConstraints", "trafficDistribution",
    "tty", "type", "uid", "unavailableReplicas", "unschedulable", "updatedNumberScheduled", "updatedReplicas",
    "updateStrategy", "volumeDevices", "volumeMounts", "volumes", "volumesAttached", "volumesInUse", "workingDir",
    "zone",
})  # fmt: skip
"""The names that Kubernetes itself gives to fields of the parts above: none of them is a slip, read or not."""


def slips(model: type[BaseModel], data: Any, path: Place = ()) -> Iterator[tuple[Place, str]]:
    """Fields that are nearly called like one that is read: the place of each, and the word that was meant."""
    from difflib import get_close_matches

    if not isinstance(data, dict):
        return
    for name, value in data.items():
        field = model.model_fields.get(name)
        if field is None:
            near = get_close_matches(str(name), model.model_fields, 1, 0.8)
            if near and name not in REAL and near[0] not in data:
                yield (*path, name), near[0]
            continue
        inner = _model_in(field.annotation)
        if inner is not None:
            entries = enumerate(value) if isinstance(value, list) else [(None, value)]
            for i, entry in entries:
                yield from slips(inner, entry, (*path, name) if i is None else (*path, name, i))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The part that a field holds, or that the entries of its list are."""
    inner = getattr(annotation, "__args__", (annotation,))[0] if annotation is not None else None
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
