"""Small networks for the kernel tests, written with the netns verbs in a few lines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from packetwalk.addr import IPv4, Mac
from packetwalk.netns.device import Bridge, Veth, Vxlan
from packetwalk.netns.namespace import Netns
from packetwalk.network import Network
from packetwalk.prove import examine
from packetwalk.snapshot.ipset_save import read_ipsets
from packetwalk.snapshot.iptables_save import read_iptables

TIMEOUT = 0.15
"""Seconds a client waits in most probes: an answer takes far less than a millisecond."""


@dataclass
class Rules:
    """What a room's iptables-save and ipset save would say: policies and user chains, rules by table, sets."""

    chains: dict[tuple[str, str], str] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)
    sets: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        tables = dict.fromkeys([*(table for table, _ in self.chains), *self.lines])
        parts = []
        for table in tables:
            chains = [f":{name} {policy} [0:0]" for (t, name), policy in self.chains.items() if t == table]
            parts += [f"*{table}", *chains, *self.lines.get(table, ()), "COMMIT"]
        return "\n".join(parts)


class Lab:
    """A network in the making. Rooms appear when they are first named; MAC addresses count up."""

    def __init__(self) -> None:
        self.network = Network("lab")
        self._macs = 0
        self._rules: dict[str, Rules] = {}

    def rules_of(self, room: str) -> Rules:
        """The rules that `load_rules` will give to a room. KeyError for one that is not there."""
        if room not in self.network:
            raise KeyError(room)
        return self._rules.setdefault(room, Rules())

    def load_rules(self) -> None:
        """Give the rooms their rules. Connections are tracked where a rule asks for it."""
        for name, rules in self._rules.items():
            room = self[name]
            room.netfilter = read_iptables(str(rules))
            room.netfilter.sets = read_ipsets("\n".join(rules.sets))
            room.conntrack = room.netfilter.needs_conntrack

    def __getitem__(self, room: str) -> Netns:
        if room not in self.network:
            self.network.add(Netns(room))
        return self.network[room]

    def mac(self) -> Mac:
        self._macs += 1
        return Mac(f"02:00:00:00:{self._macs >> 8:02x}:{self._macs & 255:02x}")

    def wire(self, a: str, b: str, mtu: int = 1500) -> None:
        """A veth pair between two ends, each `ROOM DEVICE [ADDRESS...]`."""
        ends = []
        for text in (a, b):
            room, dev, *addrs = text.split()
            self[room].link_add(dev, Veth(mac=self.mac(), mtu=mtu))
            ends.append((room, dev))
            for addr in addrs:
                self[room].addr_add(dev, addr)
        self.network.connect(*ends)

    def bridge(self, room: str, ports: str, addr: str = "", name: str = "br0", **port: Any) -> None:
        """A bridge with ports that are there already; `port` are settings of every port."""
        self[room].link_add(name, Bridge(mac=self.mac()))
        for dev in ports.split():
            self[room].link_set(dev, master=name, port=port or None)
        if addr:
            self[room].addr_add(name, addr)

    def vxlan(self, room: str, addr: str = "", name: str = "vx0", **about: Any) -> None:
        """A vxlan device with an address."""
        own = {key: IPv4(value) if key in ("local", "remote") else value for key, value in about.items()}
        own["mac"] = Mac(own["mac"]) if "mac" in own else self.mac()
        self[room].link_add(name, Vxlan(**own))
        if addr:
            self[room].addr_add(name, addr)

    def router(self, *rooms: str) -> None:
        for room in rooms:
            self[room].sysctl("net.ipv4.ip_forward", 1)


def line() -> Lab:
    """a - r - b: two hosts and a router between them."""
    lab = Lab()
    lab.wire("a eth0 10.0.1.2/24", "r eth0 10.0.1.1/24")
    lab.wire("r eth1 10.0.2.1/24", "b eth0 10.0.2.2/24")
    lab.router("r")
    lab["a"].route_add("default", via="10.0.1.1")
    lab["b"].route_add("default", via="10.0.2.1")
    lab["b"].listen(80)
    return lab


def probe(text: str, **spec: Any) -> dict[str, Any]:
    """`icmp a 10.0.2.2` or `udp a 10.0.2.2:80`, and whatever else a recording's probe has."""
    kind, src, dst = text.split()
    addr, _, port = dst.partition(":")
    about = {"dport": int(port)} if port else {}
    return {"name": text, "spec": {"kind": kind, "src": src, "dst": addr, **about, "timeout": TIMEOUT, **spec}}


Asked = tuple[Lab, list[dict[str, Any]]]
"""A network and what to send through it."""


def disagreements(network: Network, probes: list[dict[str, Any]]) -> dict[int, str]:
    """Which probes, counted from 1, this kernel answers otherwise than predicted, and how.

    Where one does, all are sent once more in namespaces made anew, and only what differs both times counts: on a
    machine that is busy with other things an answer may come after a probe of 150 ms has ended.
    """
    wrong = _once(network, probes)
    again = _once(network, probes) if wrong else {}
    return {n: text for n, text in again.items() if n in wrong}


def _once(network: Network, probes: list[dict[str, Any]]) -> dict[int, str]:
    proofs = examine(network, probes)
    assert len(proofs) == len(probes)
    assert not proofs[0].remarks, proofs[0].remarks
    return {n: f"{p.probe['spec']}\n{p}" for n, p in enumerate(proofs, 1) if not p.verdict.agrees}


def known() -> dict[str, Any]:
    """The list of known differences, known.yaml."""
    text = (Path(__file__).parent / "known.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return {section: found[section] or {} for section in ("behaviours", "found", "seeds")}


def why_not() -> str:
    """Why no kernel can be asked here, or nothing."""
    if not sys.platform.startswith("linux"):
        return "asking a real kernel takes Linux"
    if os.geteuid() != 0:
        return "asking a real kernel takes root"
    if not shutil.which("ip") or not shutil.which("bridge"):
        return "asking a real kernel takes iproute2"
    name = f"pwtry{os.getpid()}"  # `ip -n` also wants a root file system it may mount in, which a bare chroot is not
    tried = [
        subprocess.run(["ip", *words.split()], capture_output=True, check=False).returncode
        for words in (f"netns add {name}", f"-n {name} link", f"netns del {name}")
    ]
    return "network namespaces cannot be made here" if any(tried) else ""
