"""The cluster's DNS, and what a pod has of its own in resolv.conf, as a user writes them down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from packetwalk.addr import IPv4

POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")


@dataclass(frozen=True)
class Dns:
    """The cluster's DNS: CoreDNS as pods behind the service kube-dns, the tenth address of the service CIDR.

    node_local: also a cache on each node (NodeLocal DNSCache). upstream: what the resolver outside, which answers
    everything else, knows: {name: its address, or another name}.
    """

    domain: str = "cluster.local"
    replicas: int = 2
    node_local: bool = False
    upstream: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, value in self.upstream.items():
            if is_address(value):
                try:
                    IPv4(value)
                except ValueError:
                    text = f"dns upstream {name!r}: an address or a name was expected, not {value!r}"
                    raise ValueError(text) from None


def is_address(text: str) -> bool:
    """Whether a text can only be meant as an IPv4 address."""
    return text.replace(".", "").isdecimal()


@dataclass(frozen=True)
class DnsConfig:
    """A pod's dnsConfig: what is added to what its dnsPolicy gives, or all there is under the policy None."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    ndots: int = 0
