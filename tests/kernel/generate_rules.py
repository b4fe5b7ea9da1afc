"""Random iptables rules and IP sets for the rooms of a random network: filter, nat, mangle, raw, user chains."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.kernel.plan import Plan, Statement

BRIDGE_CALLS = "net.bridge.bridge-nf-call-iptables"
PORTS = (7, 53, 80, 8080)
STATES = ("NEW", "ESTABLISHED,RELATED", "RELATED,ESTABLISHED", "INVALID", "NEW,RELATED")
REJECTS = (
    "icmp-port-unreachable",
    "icmp-host-prohibited",
    "icmp-admin-prohibited",
    "icmp-net-unreachable",
    "tcp-reset",
)


class Rules:
    """The rules of one room. devices and addresses are what a rule may name."""

    def __init__(self, chance: random.Random, room: str, devices: Sequence[str], addresses: Sequence[str]) -> None:
        self.chance, self.room = chance, room
        self.devices, self.addresses = devices, addresses
        self.sets: dict[str, str] = {}
        self.said: list[Statement] = []

    def all(self, what: int) -> list[Statement]:
        """Statements for so many groups of rules."""
        groups: list[Callable[[], None]] = [
            self._filter, self._filter, self._filter, self._chain, self._stateful, self._dnat, self._snat,
            self._masquerade, self._redirect, self._mark, self._notrack, self._mss, self._policy,
        ]  # fmt: skip
        for group in self.chance.choices(groups, k=what):
            group()
        return self.said

    def rule(self, table: str, text: str) -> None:
        self.said.append(["rule_add", self.room, table, " ".join(text.split())])

    # -- words of a rule -------------------------------------------------------------------------------------------

    def _match(self, hook: str) -> str:
        """Matches that the hook allows, in the order iptables-save prints them."""
        words = [self._addresses(), self._devices(hook), *self._protocol()]
        if self.chance.random() < 0.2:
            words.append(f"-m conntrack --ctstate {self.chance.choice(STATES)}")
        if self.chance.random() < 0.12:
            words.append(self._set())
        if self.chance.random() < 0.08:
            words.append(f"-m addrtype --dst-type {self.chance.choice(('LOCAL', 'UNICAST', 'BROADCAST'))}")
        if self.chance.random() < 0.08:
            words.append(f"-m mark {self._not()}--mark 0x{self.chance.choice((1, 16)):x}")
        return " ".join(words)

    def _not(self) -> str:
        return "! " if self.chance.random() < 0.2 else ""

    def _addresses(self) -> str:
        words = []
        for flag in ("-s", "-d"):
            if self.chance.random() < 0.3:
                addr = self.chance.choice(self.addresses)
                base = addr.rpartition(".")[0] + ".0"
                words.append(f"{self._not()}{flag} {self.chance.choice((f'{addr}/32', f'{base}/24'))}")
        return " ".join(words)

    def _devices(self, hook: str) -> str:
        words = []
        if hook in ("PREROUTING", "INPUT", "FORWARD") and self.chance.random() < 0.2:
            words.append(f"{self._not()}-i {self.chance.choice(self.devices)}")
        if hook in ("FORWARD", "OUTPUT", "POSTROUTING") and self.chance.random() < 0.2:
            words.append(f"{self._not()}-o {self.chance.choice(self.devices)}")
        return " ".join(words)

    def _protocol(self) -> Iterator[str]:
        proto = self.chance.choice(("", "", "icmp", "tcp", "udp"))
        if not proto:
            return
        yield f"-p {proto}"
        what = self.chance.random()
        if proto == "icmp":
            if what < 0.3:
                yield f"-m icmp --icmp-type {self.chance.choice((0, 3, 8, 11))}"
        elif what < 0.3:
            yield f"-m {proto} {self._not()}--dport {self.chance.choice(PORTS)}"
        elif what < 0.4:
            yield f"-m multiport --dports {','.join(map(str, sorted(self.chance.sample(PORTS, 2))))}"
        elif what < 0.5 and proto == "tcp":
            yield "-m tcp --tcp-flags FIN,SYN,RST,ACK SYN"

    def _set(self) -> str:
        kind = self.chance.choice(("hash:ip", "hash:net"))
        name = f"set-{kind[5:]}"
        if name not in self.sets:
            self.sets[name] = kind
            self.said.append(["set", self.room, f"create {name} {kind} family inet hashsize 1024 maxelem 65536"])
            for addr in self.chance.sample(self.addresses, min(2, len(self.addresses))):
                member = addr if kind == "hash:ip" else addr.rpartition(".")[0] + ".0/24"
                self.said.append(["set", self.room, f"add {name} {member}"])
        return f"-m set {self._not()}--match-set {name} {self.chance.choice(('src', 'dst'))}"

    # -- groups of rules -------------------------------------------------------------------------------------------

    def _verdict(self) -> str:
        return self.chance.choice(("-j ACCEPT", "-j DROP", "-j REJECT --reject-with {}", "-j RETURN"))

    def _reject(self, match: str, verdict: str) -> str:
        """A REJECT by TCP reset wants -p tcp."""
        kinds = REJECTS if "-p tcp" in match else REJECTS[:-1]
        return f"{match} {verdict.format(self.chance.choice(kinds))}"

    def _filter(self) -> None:
        hook = self.chance.choice(("INPUT", "FORWARD", "FORWARD", "OUTPUT"))
        self.rule("filter", f"-A {hook} {self._reject(self._match(hook), self._verdict())}")

    def _chain(self) -> None:
        hook, name = self.chance.choice(("INPUT", "FORWARD", "OUTPUT")), f"mine-{len(self.said)}"
        self.said.append(["chain", self.room, "filter", name])
        for _ in range(self.chance.randint(1, 3)):
            self.rule("filter", f"-A {name} {self._reject(self._match(''), self._verdict())}")
        self.rule("filter", f"-A {hook} {self._match(hook)} {self.chance.choice(('-j', '-j', '-g'))} {name}")

    def _stateful(self) -> None:
        hook = self.chance.choice(("INPUT", "FORWARD"))
        self.rule("filter", f"-A {hook} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
        self.rule("filter", f"-A {hook} {self._match(hook)} -j {self.chance.choice(('DROP', 'ACCEPT'))}")

    def _policy(self) -> None:
        self.said.append(["policy", self.room, "filter", self.chance.choice(("INPUT", "FORWARD", "OUTPUT")), "DROP"])

    def _dnat(self) -> None:
        proto = self.chance.choice(("tcp", "udp"))
        hook = self.chance.choice(("PREROUTING", "PREROUTING", "OUTPUT"))
        port = self.chance.choice(("", f":{self.chance.choice(PORTS)}"))
        to = f"{self.chance.choice(self.addresses)}{port}"
        at = f"-d {self.chance.choice(self.addresses)}/32" if self.chance.random() < 0.6 else ""
        self.rule(
            "nat",
            f"-A {hook} {at} -p {proto} -m {proto} --dport {self.chance.choice(PORTS)} -j DNAT --to-destination {to}",
        )

    def _redirect(self) -> None:
        proto = self.chance.choice(("tcp", "udp"))
        ports = self.chance.sample(PORTS, 2)
        self.rule("nat", f"-A PREROUTING -p {proto} -m {proto} --dport {ports[0]} -j REDIRECT --to-ports {ports[1]}")

    def _snat(self) -> None:
        self.rule("nat", f"-A POSTROUTING {self._addresses()} {self._devices('POSTROUTING')} -j SNAT --to-source "
                         f"{self.chance.choice(self.addresses)}")  # fmt: skip

    def _masquerade(self) -> None:
        self.rule("nat", f"-A POSTROUTING {self._addresses()} {self._devices('POSTROUTING')} -j MASQUERADE")

    def _mark(self) -> None:
        hook, mark = self.chance.choice(("PREROUTING", "OUTPUT")), self.chance.choice((1, 16))
        self.rule(
            "mangle",
            f"-A {hook} {self._addresses()} {' '.join(self._protocol())} -j MARK --set-xmark 0x{mark:x}/0xffffffff",
        )
        if self.chance.random() < 0.7:
            about: dict[str, Any] = {
                "priority": 500 + len(self.said),
                "action": 100,
                "fwmark": mark,
                "fwmask": 0xFFFFFFFF,
            }
            self.said.append(["rule", self.room, about])
            way = {"dst": "default", "table": 100, "dev": self.chance.choice(self.devices)}
            self.said += [["link", self.room, way["dev"], {"up": True}], ["route", self.room, way]]

    def _notrack(self) -> None:
        hook = self.chance.choice(("PREROUTING", "OUTPUT"))
        target = self.chance.choice(("-j CT --notrack", "-j DROP"))
        self.rule("raw", f"-A {hook} {self._addresses()} {' '.join(self._protocol())} {target}")

    def _mss(self) -> None:
        how = self.chance.choice(("--clamp-mss-to-pmtu", "--set-mss 900"))
        self.rule("mangle", f"-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS {how}")


def with_rules(plan: Plan, seed: int) -> Plan:
    """The plan with rules in one to three of its rooms."""
    chance = random.Random(seed)
    network = plan.build()
    rooms = list(network)
    addresses = sorted(
        {str(a.local) for r in rooms for d in r.devices.values() if d.kind != "loopback" for a in d.addrs}
    )
    said: list[Statement] = []
    for room in chance.sample(rooms, min(len(rooms), chance.randint(1, 3))):
        devices = [d.name for d in room.devices.values() if d.kind != "loopback"]
        if any(d.kind == "bridge" for d in room.devices.values()) and chance.random() < 0.7:
            said.append(["sysctl", room.name, BRIDGE_CALLS, 1])
        said += Rules(chance, room.name, devices, addresses).all(chance.randint(1, 4))
    return plan._replace(statements=(*plan.statements, *said))
