"""How pods are attached: to a bridge that is their gateway, or by a route of their own with proxy ARP."""

from __future__ import annotations

from hashlib import sha1
from typing import TYPE_CHECKING

from packetwalk.addr import IPv4, Mac, Prefix
from packetwalk.netns.device import Bridge

if TYPE_CHECKING:
    from packetwalk.kube.build import Host, Sandbox

GATEWAY = IPv4("169.254.1.1")  # what Calico's pods take for their gateway; no device has it
HOST_MAC = Mac("ee:ee:ee:ee:ee:ee")


def bridge_add(host: Host, name: str, mtu: int, length: int | None = None) -> None:
    """The plugin `bridge` with isGateway: a bridge with the range's first address, its own MAC pinned."""
    host.netns.sysctl("net.ipv4.ip_forward", 1)
    host.netns.sysctl("net.bridge.bridge-nf-call-iptables", 1)
    host.netns.link_add(name, Bridge(mtu=mtu, mac=host.mac(name)))
    host.netns.addr_add(name, f"{host.gateway}/{length or host.pod_cidr.length}")


def bridge_pod(host: Host, pod: Sandbox, bridge: str, mtu: int, *, hairpin: bool, network: Prefix | None = None,
               length: int | None = None) -> None:  # fmt: skip
    """CNI ADD of the plugin `bridge`: a port, an address with the range's length, a default route by the bridge.

    network: a range the IPAM configuration has a route to, besides the default.
    """
    host.veth(pod, mtu=mtu, master=bridge, hairpin=hairpin)
    pod.netns.addr_add("eth0", f"{pod.ip}/{length or host.pod_cidr.length}")
    pod.netns.route_add("default", via=host.gateway, dev="eth0")
    if network is not None:
        pod.netns.route_add(network, via=host.gateway, dev="eth0")


def routed_pod(host: Host, pod: Sandbox, mtu: int, *, metric: int = 0) -> None:
    """CNI ADD of Calico's plugin: a /32, a gateway that proxy ARP answers for, a host route by the cali device.

    The device is called after the SHA-1 of NAMESPACE.POD (workload_endpoint_default.go).
    """
    name = f"cali{sha1(f'{pod.pod.namespace}.{pod.pod.name}'.encode(), usedforsecurity=False).hexdigest()[:11]}"
    name = host.veth(pod, mtu=mtu, name=name, mac=HOST_MAC)
    for key in ("proxy_arp", "forwarding", "route_localnet"):
        host.netns.sysctl(f"net.ipv4.conf.{name}.{key}", 1)
    host.netns.route_add(Prefix(pod.ip, 32), dev=name, metric=metric)
    pod.netns.addr_add("eth0", f"{pod.ip}/32")
    pod.netns.route_add(Prefix(GATEWAY, 32), dev="eth0")
    pod.netns.route_add("default", via=GATEWAY, dev="eth0")
