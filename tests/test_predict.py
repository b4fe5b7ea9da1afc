"""The judge: predictions against recordings of a real kernel, by the rules of ../shared/agree.py.

Beyond frames and results, the rules that matched and the connections that are left are compared, too.
"""

import importlib.util
import json
from collections import Counter
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest

from packetwalk.predict import predict

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
RECORDINGS = sorted(d.name for d in (SHARED / "recordings").glob("*") if d.is_dir())
TUNNEL_PORTS = {4789, 8472, 6081}

IGMP = "the kernel's own IGMP reports were counted, too (recordings/README.md)"
DIFFERS = {
    ("F002", "p2-tcp"): "the kernel puts the acknowledgement of a FIN onto its own FIN; r2, which sees only one"
    " direction, would take up the connection at a bare one",
    ("F042", "p2-udp"): IGMP,
    ("S10-hairpin-flannel-vxlan", "hairpin-tcp-hairpin-off"): IGMP,
    ("S12-egress-flannel-vxlan", "pod-to-other-node-icmp"): "of two rules that every packet meets one after the"
    " other the kernel counted only the second, for a packet that no capture shows; not explained",
    ("S15-fail-flannel-vxlan", "unknown-pod-same-node"): IGMP,
}
"""(recording, probe) whose rules or connections differ, and why."""


@cache
def judge() -> ModuleType:
    spec = importlib.util.spec_from_file_location("agree", SHARED / "agree.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=2)
def asked(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A recording, and what is predicted for each of its probes by name."""
    folder = SHARED / "recordings" / name
    with TemporaryDirectory() as where:
        found = {p["name"]: p for p in predict(judge().stripped(folder, where))["probes"]}
    return json.loads((folder / "recording.json").read_text()), found


def known_ports(recording: dict[str, Any], probe: dict[str, Any]) -> set[int]:
    ports: set[int] = judge().known_ports(recording, probe)
    return ports


@pytest.mark.skipif(not RECORDINGS, reason="../shared/recordings is absent")
@pytest.mark.parametrize("name", RECORDINGS or ["none"])
def test_every_probe_agrees_with_the_kernel(name: str) -> None:
    recording, found = asked(name)
    snapshot = json.loads((SHARED / "recordings" / name / "snapshot.json").read_text())
    assert recording["probes"]
    for probe in recording["probes"]:
        if probe["spec"]["kind"] == "tcp" and probe["spec"].get("size"):
            continue  # bulk TCP is not judged: segmentation offload shapes its frames
        differences, _, _ = judge().compare(recording, snapshot, probe, found[probe["name"]])
        assert not differences, f"{probe['name']}: {differences[0]}"


@pytest.mark.skipif(not RECORDINGS, reason="../shared/recordings is absent")
@pytest.mark.parametrize("name", RECORDINGS or ["none"])
def test_the_same_rules_match_and_the_same_connections_are_left(name: str) -> None:
    recording, found = asked(name)
    for probe in recording["probes"]:
        ours, ports = found[probe["name"]], known_ports(recording, probe)
        told = {
            "rules": (matched(probe["rule_hits"]), matched(ours["rule_hits"])),
            "connections": (connections(probe["conntrack"], ports), connections(ours["conntrack"], ports)),
        }
        differing = [what for what, (kernel, predicted) in told.items() if kernel != predicted]
        if (name, probe["name"]) in DIFFERS:
            assert differing, f"{probe['name']} agrees now: it no longer belongs into DIFFERS"
            continue
        for what in differing:
            kernel, predicted = told[what]
            assert kernel - predicted == predicted - kernel, f"{probe['name']}: {what}"


def matched(hits: dict[str, list[dict[str, Any]]]) -> Counter[tuple[str, ...]]:
    """(node, table, rule) of every rule that counted a packet; policies of chains aside."""
    rules = ((node, hit["table"], hit["rule"]) for node, listed in hits.items() for hit in listed)
    return Counter(rule for rule in rules if not rule[2].startswith("policy "))


def connections(listed: dict[str, list[str]], ports: set[int]) -> Counter[tuple[str, ...]]:
    """(node, connection) of every entry: protocol, state, both tuples and flags; ports a kernel chose have no name."""
    return Counter((node, words(line, ports)) for node, lines in listed.items() for line in lines)


def words(line: str, ports: set[int]) -> str:
    """An entry without what two kernels never share: timeout, use count, chosen ports; and without a zero mark."""
    found: Iterable[str] = line.removeprefix("ipv4 2 ").split()
    proto, number, _, *rest = found
    tunnel = any(f"dport={port}" in rest for port in TUNNEL_PORTS)
    kept = [proto, number]
    for word in rest:
        key, equals, value = word.partition("=")
        if key == "use" or word == "mark=0":
            continue
        chosen = key in ("sport", "dport", "id") and int(value) not in (ports if not tunnel else TUNNEL_PORTS)
        kept.append(f"{key}=free" if equals and chosen else word)
    return " ".join(kept)
