"""Fields of Kubernetes' objects that are no fields: nearly called like one that is read, they are slips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from packetwalk.document.tree import Place

REAL = frozenset({
    "activeDeadlineSeconds", "address", "addresses", "addressType", "affinity", "allocatable", "allocatedResources",
    "allocateLoadBalancerNodePorts", "annotations", "apiVersion", "appProtocol", "args",
    "automountServiceAccountToken", "availableReplicas", "capacity", "clientIP", "clusterIP", "clusterIPs",
    "backend", "collisionCount", "command", "conditions", "config", "configSource", "containerPort", "containers",
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
"""The names that Kubernetes itself gives to fields of the parts that are read: none of them is a slip, read or not."""


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
