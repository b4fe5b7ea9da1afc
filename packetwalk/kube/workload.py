"""Pods that nobody names one by one: where a scheduler puts them, and what their controllers call them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from math import log
from typing import TYPE_CHECKING

from packetwalk.kube.chance import hex_of

if TYPE_CHECKING:
    from packetwalk.kube.cluster import Node, Pod

SAFE = "bcdfghjklmnpqrstvwxz2456789"  # util/rand: no vowels, nothing that looks alike
TEMPLATE_HASH = "pod-template-hash"


def scheduled(nodes: Sequence[Node], pods: Iterable[Pod], namespace: str, labels: Mapping[str, str]) -> Iterator[str]:
    """One node after another for pods with those labels, next to the pods that are there: the name of each.

    Spread over nodes and zones by PodTopologySpread's default constraints (scoring.go: matching pods, weighed by the
    logarithm of the number of domains), then to the node with the fewest pods, then in order. Control-plane nodes are
    tainted: they are taken only where there are no others.
    """
    open_to_all = [n for n in nodes if not n.control_plane] or list(nodes)
    zone = {n.name: n.zone for n in nodes}
    zones = {n.zone for n in open_to_all if n.zone}
    by_node, by_zone, all_pods = Counter[str](), Counter[str](), Counter[str]()
    for pod in pods:
        all_pods[pod.node] += 1
        if pod.namespace == namespace and labels.items() <= pod.labels.items():
            by_node[pod.node] += 1
            by_zone[zone.get(pod.node, "")] += 1

    def score(node: Node) -> tuple[float, int]:
        near = by_zone[node.zone] * log(len(zones) + 2) if node.zone else 0
        return near + by_node[node.name] * log(len(open_to_all) + 2), all_pods[node.name]

    while True:
        name = min(open_to_all, key=score).name
        yield name
        by_node[name] += 1
        by_zone[zone[name]] += 1
        all_pods[name] += 1


def template_hash(seed: int, owner: str) -> str:
    """What stands for a pod template in a ReplicaSet's name: the digits of a 32 bit hash as safe characters."""
    return "".join(SAFE[ord(digit) % len(SAFE)] for digit in str(int(hex_of(seed, owner, 8), 16)))


def pod_names(seed: int, namespace: str, owner: str) -> Iterator[str]:
    """OWNER-xxxxx, one for each pod of an owner (names.SimpleNameGenerator); none comes twice."""
    seen: set[str] = set()
    for number in count():
        drawn = int(hex_of(seed, f"{namespace}/{owner}/{number}", 16), 16)
        name = f"{owner}-{''.join(SAFE[drawn // len(SAFE) ** i % len(SAFE)] for i in range(5))}"
        if name not in seen:
            yield name
        seen.add(name)
