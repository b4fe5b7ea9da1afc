"""Ingress as a user writes it down: names of the outside that lead to services, and the proxy that takes requests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ingress:
    """Requests for a host, below a path, go to a service: its name, after its namespace unless that is `default`.

    port: of the service; its first one if 0.
    """

    host: str
    service: str
    path: str = "/"
    port: int = 0

    @property
    def full_name(self) -> str:
        """The service as `namespace/name`."""
        return self.service if "/" in self.service else f"default/{self.service}"


@dataclass(frozen=True)
class IngressController:
    """The proxy: one pod. It listens on port 80 of its node, or in the pod network behind a service of type NodePort or
    LoadBalancer. Where a cluster has pods with the labels of ingress-nginx' controller, those are it.

    node: the first one if empty. node_port: drawn if 0.
    """

    node: str = ""
    host_network: bool = False
    load_balancer: bool = False
    node_port: int = 0
    external_traffic_policy: str = "Cluster"
