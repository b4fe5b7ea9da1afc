"""A network as a list of statements, each one netns verb: what can be generated, written down, and shrunk.

["wire", {"a": "r1 eth0", "b": "h1 eth0", "mtu": 1500}]     ["route", "r1", {"dst": "10.1.0.0/24", "via": "10.0.0.2"}]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from packetwalk.addr import IPv4, Prefix
from packetwalk.network import Network
from packetwalk.prove import Proof, examine
from tests.kernel.lab import Lab

Statement = Sequence[Any]
PREFIXES = ("src", "dst")


class Plan(NamedTuple):
    """Statements in order, and the probes to send through what they build."""

    statements: tuple[Statement, ...]
    probes: tuple[dict[str, Any], ...]

    def build(self) -> Network:
        """Play the statements. One that cannot be played any more, since another was taken out, is passed over."""
        lab = Lab()
        for verb, *words in self.statements:
            try:
                VERBS[verb](lab, *words)
            except (ValueError, KeyError):
                continue
        lab.load_rules()
        return lab.network

    def dump(self) -> str:
        """One statement or probe a line."""
        lists = []
        for key, rows in (("statements", self.statements), ("probes", self.probes)):
            lines = ",\n".join(f" {json.dumps(row)}" for row in rows)
            lists.append(f'"{key}": [\n{lines}\n]')
        return "{\n" + ",\n".join(lists) + "\n}\n"


def load(path: Path) -> Plan:
    """Read what `dump` wrote."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return Plan(tuple(data["statements"]), tuple(data["probes"]))


def ask(plan: Plan) -> list[Proof]:
    """Build the plan in this kernel and compare every probe whose sender is there."""
    network = plan.build()
    return examine(network, [p for p in plan.probes if p["spec"]["src"] in network])


def _wire(lab: Lab, about: dict[str, Any]) -> None:
    for end in (about["a"], about["b"]):
        room, dev = end.split()[:2]
        if room in lab.network and dev in lab[room].devices:
            raise ValueError(f"{end}: taken")
    lab.wire(about["a"], about["b"], about.get("mtu", 1500))


def _rule(lab: Lab, room: str, about: dict[str, Any]) -> None:
    words = {k: Prefix.parse(v) if k in PREFIXES else tuple(v) if isinstance(v, list) else v for k, v in about.items()}
    lab[room].rule_add(words.pop("priority"), words.pop("action"), **words)


def _there(lab: Lab, room: str, about: dict[str, Any]) -> None:
    if about.get("dev"):
        lab[room].device(about["dev"])


def _fdb(lab: Lab, room: str, about: dict[str, Any]) -> None:
    lab[room].fdb_append(about["dev"], about["mac"], dst=about.get("dst", ""))


def _neigh(lab: Lab, room: str, about: dict[str, Any]) -> None:
    lab[room].neigh_add(about["dst"], about["lladdr"], about["dev"])


def _proxy(lab: Lab, room: str, about: dict[str, Any]) -> None:
    _there(lab, room, about)
    lab[room].neighbours.proxies.add((about["dev"], int(IPv4(about["dst"]))))


def _chain(lab: Lab, room: str, table: str, name: str) -> None:
    lab.rules_of(room).chains[table, name] = "-"


def _policy(lab: Lab, room: str, table: str, name: str, policy: str) -> None:
    lab.rules_of(room).chains[table, name] = policy


def _rule_add(lab: Lab, room: str, table: str, text: str) -> None:
    rules, words = lab.rules_of(room), text.split()
    named = [words[words.index(flag) + 1] for flag in ("-A", "-j", "-g") if flag in words]
    if any(name.islower() and (table, name) not in rules.chains for name in named):
        raise KeyError(f"{text}: a chain is missing")
    if "--match-set" in words and not any(
        line.split()[1] == words[words.index("--match-set") + 1] for line in rules.sets
    ):
        raise KeyError(f"{text}: a set is missing")
    rules.lines.setdefault(table, []).append(text)


def _set(lab: Lab, room: str, text: str) -> None:
    lines = lab.rules_of(room).sets
    if text.startswith("add ") and not any(line.split()[1] == text.split()[1] for line in lines):
        raise KeyError(f"{text}: the set is missing")
    lines.append(text)


def _listen(lab: Lab, room: str, port: int) -> None:
    lab[room].listen(port)


VERBS: dict[str, Callable[..., object]] = {
    "wire": _wire,
    "bridge": lambda lab, room, about: lab.bridge(room, **about),
    "port": lambda lab, room, dev, master, flags: lab[room].link_set(dev, master=master, port=flags or None),
    "vxlan": lambda lab, room, about: lab.vxlan(room, **about),
    "link": lambda lab, room, dev, about: lab[room].link_set(dev, **about),
    "addr": lambda lab, room, dev, addr: lab[room].addr_add(dev, addr),
    "route": lambda lab, room, about: lab[room].route_add(**about),
    "unroute": lambda lab, room, dst: lab[room].route_del(dst),
    "rule": _rule,
    "neigh": _neigh,
    "proxy": _proxy,
    "fdb": _fdb,
    "sysctl": lambda lab, room, key, value: lab[room].sysctl(key, value),
    "listen": _listen,
    "chain": _chain,
    "policy": _policy,
    "rule_add": _rule_add,
    "set": _set,
}
"""What a statement may say: {verb: player}."""
