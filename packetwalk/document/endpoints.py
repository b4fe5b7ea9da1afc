"""Services of a dump, and what is behind them: by EndpointSlices, by Endpoints, or by a selector."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from packetwalk.document.kinds import (
    EndpointAddress,
    EndpointSliceObject,
    EndpointsObject,
    PodObject,
    Reference,
    ServiceObject,
    ServicePortObject,
    SliceEndpoint,
    SlicePort,
)
from packetwalk.document.objects import Objects, v4
from packetwalk.kube.controlplane import selected
from packetwalk.kube.service import Endpoint, Service, ServicePort

if TYPE_CHECKING:
    from packetwalk.kube.cluster import Cluster, Pod

SERVICE_NAME = "kubernetes.io/service-name"


class Behind(NamedTuple):
    """What the control plane says is behind a service: endpoints, and the ports they have."""

    endpoints: tuple[Endpoint, ...]
    ports: tuple[SlicePort, ...]


def services(objects: Objects, pods: Iterable[Pod]) -> Iterator[Service]:
    """The services, with endpoints where the dump has them and with a selector where it has not."""
    rooms = {pod.room for pod in pods}
    behind = _behind(objects, rooms)
    for _, it in objects.services:
        known = behind.get((it.metadata.namespace, it.metadata.name))
        if known is None and (it.metadata.namespace, it.metadata.name) == ("default", "kubernetes"):
            continue  # it has no selector: `build` knows who is behind it
        ports = tuple(_port(objects, it, port, known) for port in it.spec.ports)
        yield _service(it, ports, known)


def _service(it: ServiceObject, ports: tuple[ServicePort, ...], known: Behind | None) -> Service:
    spec, ingress = it.spec, it.status.loadBalancer.ingress
    return Service(
        it.metadata.name, ports, known.endpoints if known else (), it.metadata.namespace, spec.type,
        next((ip for ip in (spec.clusterIP, *spec.clusterIPs) if v4(ip)), ""),
        tuple(filter(v4, spec.externalIPs)),
        tuple(i.ip for i in ingress if v4(i.ip) and i.ipMode != "Proxy"),
        tuple(filter(v4, spec.loadBalancerSourceRanges)), spec.externalTrafficPolicy, spec.internalTrafficPolicy,
        spec.sessionAffinity, spec.sessionAffinityConfig.clientIP.timeoutSeconds, spec.healthCheckNodePort,
        {} if known else spec.selector, spec.externalName, spec.publishNotReadyAddresses,
    )  # fmt: skip


def _behind(objects: Objects, rooms: set[str]) -> dict[tuple[str, str], Behind]:
    """By namespace and name of the service: its slices, or else its Endpoints."""
    found: dict[tuple[str, str], Behind] = {}
    for _, it in objects.of(EndpointSliceObject):
        key = (it.metadata.namespace, it.metadata.labels.get(SERVICE_NAME, ""))
        if it.addressType == "IPv4" and key[1]:
            before = found.get(key, Behind((), ()))
            ends = (_endpoint(e, it.metadata.namespace, rooms) for e in it.endpoints)
            found[key] = Behind((*before.endpoints, *ends), (*before.ports, *it.ports))
        elif it.addressType != "IPv6":
            objects.left_out[f"EndpointSlice {it.metadata.name}"] += 1
    for _, old in objects.of(EndpointsObject):
        key = (old.metadata.namespace, old.metadata.name)
        if key not in found:
            ports = tuple(port for subset in old.subsets for port in subset.ports)
            found[key] = Behind(tuple(_addresses(old, rooms)), ports)
    return found


def _endpoint(it: SliceEndpoint, namespace: str, rooms: set[str]) -> Endpoint:
    conditions = it.conditions
    zones = tuple(zone.name for zone in it.hints.forZones)
    pod = _room(it.targetRef, namespace, rooms)
    return Endpoint(it.addresses[0] if it.addresses else "", it.nodeName, pod, conditions.ready, conditions.serving,
                    conditions.terminating, zones)  # fmt: skip


def _addresses(it: EndpointsObject, rooms: set[str]) -> Iterator[Endpoint]:
    def made(address: EndpointAddress, ready: bool) -> Endpoint:
        pod = _room(address.targetRef, it.metadata.namespace, rooms)
        return Endpoint(address.ip, address.nodeName, pod, ready)

    for subset in it.subsets:
        yield from (made(a, True) for a in subset.addresses if v4(a.ip))
        yield from (made(a, False) for a in subset.notReadyAddresses if v4(a.ip))


def _room(target: Reference, namespace: str, rooms: set[str]) -> str:
    """The room of the pod that an endpoint stands for, if that is there."""
    space = target.namespace or namespace
    room = target.name if space == "default" else f"{space}/{target.name}"
    return room if target.kind == "Pod" and room in rooms else ""


def _port(objects: Objects, it: ServiceObject, port: ServicePortObject, known: Behind | None) -> ServicePort:
    """A port; it leads where the endpoints' ports of that name say, else to a number, else to a container's name."""
    named = {p.port for p in known.ports if p.name == port.name and p.port} if known else set()
    if not named and port.targetPort and not port.targetPort.isdecimal():
        named = set(_containers(objects, it, port))
    if len(named) > 1:
        text = f"port {port.name or port.port} leads to {', '.join(map(str, sorted(named)))}; one was expected"
        found = next(f for f, other in objects.services if other is it)
        objects.problems.append(found.problem(text, "spec", "ports"))
    target = int(port.targetPort) if port.targetPort.isdecimal() else 0
    return ServicePort(port.port, port.name, port.protocol, min(named, default=target), port.nodePort)


def _containers(objects: Objects, it: ServiceObject, port: ServicePortObject) -> Iterator[int]:
    """The numbers of the ports that containers of the selected pods call so."""
    for _, pod in objects.of(PodObject):
        if pod.metadata.namespace == it.metadata.namespace and it.spec.selector.items() <= pod.metadata.labels.items():
            for container in pod.spec.containers:
                yield from (p.containerPort for p in container.ports if p.name == port.targetPort)


def listening(cluster: Cluster) -> None:
    """Pods that declare no port listen where a service leads to them."""
    wanted: dict[str, list[int]] = {}
    for service in cluster.services:
        for endpoint in selected(service, cluster.pods).endpoints:
            wanted.setdefault(endpoint.pod, []).extend(port.target for port in service.ports)
    cluster.pods[:] = [
        pod if pod.listen or pod.room not in wanted
        else dataclasses.replace(pod, listen=tuple(dict.fromkeys(wanted[pod.room])))
        for pod in cluster.pods
    ]  # fmt: skip
