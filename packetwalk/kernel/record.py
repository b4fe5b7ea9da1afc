"""`packetwalk record`: probes through a real kernel, written down in the layout of `recordings/README.md`."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packetwalk.commands import restores
from packetwalk.kernel.bench import Bench, documents
from packetwalk.kernel.probe import DEFAULTS, TIMEOUT
from packetwalk.kernel.realise import Realised, realise
from packetwalk.netns.namespace import Netns
from packetwalk.netns.tables import CONF_DEFAULTS, SYSCTL_DEFAULTS
from packetwalk.network import Network

SYSCTLS = (*SYSCTL_DEFAULTS, "net.ipv4.ip_forward", "net.ipv4.icmp_ratelimit",
           "net.netfilter.nf_conntrack_tcp_be_liberal")  # fmt: skip
TABLES = {
    "link": ("ip", "-j", "-d", "link"),
    "addr": ("ip", "-j", "-4", "addr"),
    "route": ("ip", "-j", "-4", "route", "show", "table", "all"),
    "rule": ("ip", "-j", "-4", "rule"),
    "neigh": ("ip", "-j", "-4", "neigh"),
    "fdb": ("bridge", "-j", "fdb"),
}
"""The files of a room's state and the command that each one is the output of."""


def record(
    network: Network, probes: Iterable[Mapping[str, Any]], folder: str | Path, *, files: Path | None = None
) -> dict[str, Any]:
    """Realise the network, send the probes and write the recording into `folder`, which is made. Returns it.

    A probe is {"name", "spec"} as in a recording; without a name it is called p1-icmp, p2-udp, ... files: the folder of
    a snapshot with rule files. Raises MissingFeature, Refused, CaptureLost; nothing is written before the last probe is
    over.
    """
    with realise(network, files) as real, Bench(real) as bench:
        states = {room: state(real, room) for room in real.names}
        sent = list(measure(bench, probes))
    recording: dict[str, Any] = {
        "name": Path(folder).name, "kernel": platform.release(), "iptables": "",
        "setup": {"features": [], "ports": _ports(p["spec"] for p in sent)}, "notes": real.remarks, "probes": sent,
    }  # fmt: skip
    write(network, states, recording, Path(folder))
    return recording


def measure(bench: Bench, probes: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Send probes one after another; yields each as a recording has it, and with `at_ns`, which predictions heed: when
    it began, since the first one did."""
    first = 0
    for n, given in enumerate(probes, 1):
        spec = {"timeout": TIMEOUT, **given["spec"]}
        before = bench.settle()
        bench.forget_connections()
        at = time.monotonic_ns()
        first = first or at
        result, frames = bench.run(spec)
        yield {
            "name": given.get("name") or f"p{n}-{spec['kind']}", "spec": _complete(spec), "state": 0,
            "flush_conntrack": True, "at_ns": at - first, "before": before, "result": result,
            "dice": drawn(bench.real.network, spec, frames), "rule_hits": {}, "conntrack": {}, "kernel_drops": [],
            "frames": frames,
        }  # fmt: skip


def drawn(network: Network, spec: Mapping[str, Any], frames: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What a statistic match drew among endpoints: the first of those that rules rewrite to which a frame is for.

    Nothing for a probe that goes to an endpoint by itself.
    """
    targets = {text for room in network for text in room.netfilter.destinations()}
    if f"{spec['dst']}:{spec.get('dport')}" in targets:
        return {}
    for frame in frames:
        layers = frame["layers"]
        dst = next((layer["dst"] for layer in reversed(layers) if layer.get("proto") == "ip"), "")
        backend = f"{dst}:{layers[-1].get('dport')}"
        if backend in targets:
            return {"backend": backend}
    return {}


def _complete(spec: dict[str, Any]) -> dict[str, Any]:
    """Ports and ids that were left to us are written down; sizes stay out, as the reader knows them."""
    given = {key: value for key, value in DEFAULTS[spec["kind"]].items() if key != "size"}
    return {**given, **spec}


def _ports(specs: Iterable[Mapping[str, Any]]) -> list[int]:
    return sorted({spec[key] for spec in specs for key in ("sport", "dport", "id") if spec.get(key)})


RULES = {"ipset restore": "ipset-save.txt", "iptables-restore": "iptables-save.txt", "nft -f -": "nftables.txt"}
"""The file of a recording for what each tool is given."""


def state(real: Realised, room: str) -> dict[str, str]:
    """The tables of a room as files: {name: text}, each what the tool printed, with the rooms' own names. Rules
    and sets are what the tools were given."""
    rules = {RULES[tool]: f"{text}\n" for tool, text in restores(real.network[room]).items()}
    files = rules | {f"{name}.json": _listed(real.output(room, *words)) for name, words in TABLES.items()}
    return files | {"sysctl.conf": "".join(f"{line}\n" for line in _sysctls(real, real.network[room]))}


def _listed(text: str) -> str:
    """One entry a line; an empty table is an empty list, whatever the tool makes of it."""
    entries = next(iter(documents(text)), [])
    return "[\n" + ",\n".join(map(json.dumps, entries)) + "\n]\n"


def _sysctls(real: Realised, room: Netns) -> Iterator[str]:
    for dev in ("all", "default", *(d.replace(".", "/") for d in room.devices)):
        for key in CONF_DEFAULTS:
            value = real.sysctl(room.name, f"net.ipv4.conf.{dev}.{key}")
            if value is not None:
                yield f"net.ipv4.conf.{dev}.{key} = {value}"
    for key in dict.fromkeys(SYSCTLS):
        value = real.sysctl(room.name, key)
        if value is not None:
            yield f"{key} = {value}"


def index(network: Network) -> dict[str, Any]:
    """A network's `snapshot.json`."""
    wires = [[list(wire.a), list(wire.b)] for end, wire in network.wires.items() if end == wire.a]
    listeners = {room.name: sorted({s.port for s in room.sockets.listeners()}) for room in network}
    about = {
        room.name: {"node": room.name, "kind": network.roles.get(room.name, ""), "conntrack": room.conntrack}
        for room in network
    }
    listening = {room: ports for room, ports in listeners.items() if ports}
    return {"netns": about, "pods": {}, "wires": wires, "listeners": listening}


def write(
    network: Network, states: Mapping[str, Mapping[str, str]], recording: Mapping[str, Any], folder: Path
) -> None:
    """Write a recording's folder: snapshot.json, state/0/ROOM/ and recording.json. OSError where it cannot."""
    for room, tables in states.items():
        here = folder / "state" / "0" / room
        here.mkdir(parents=True, exist_ok=True)
        for name, text in tables.items():
            (here / name).write_text(text, encoding="utf-8")
    (folder / "snapshot.json").write_text(json.dumps(index(network), indent=1) + "\n", encoding="utf-8")
    (folder / "recording.json").write_text(json.dumps(recording, indent=1) + "\n", encoding="utf-8")
