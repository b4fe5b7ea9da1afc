"""Which pods are alike: what no table of any room tells apart, a walk from one of them shows for all.

Pods of a node are alike if

1. the same lines build their own rooms (see `commands`),
2. in every other room the same lines are about them, at the same places among the lines that are about no pod, and the
   chains those lead to hold the same rules,
3. the same networks, ranges and wildcards (`cali+`, `cali*`) of all lines hold their addresses and devices,

once their own name, address, Ethernet address and devices are left out. A line about two pods keeps the other's name,
and so sets its pods apart. Rules that no walk between pods and nodes can meet, by protocol or destination, do not
count.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple

from packetwalk.addr import IPv4, Prefix
from packetwalk.commands import commands
from packetwalk.netns.netfilter import HOOKS, Table
from packetwalk.netns.option import Option
from packetwalk.netns.rule import Rule
from packetwalk.network import Network

ADDRESS = r"\d+(?:\.\d+){3}"
TOKEN = re.compile(rf"(?:[0-9a-f]{{2}}:){{5}}[0-9a-f]{{2}}|{ADDRESS}(?:/\d+|-{ADDRESS})?|[\w-]+[+*]?")
INDEX = re.compile(r" index \d+")
CLIENT_PORT = 40000  # of a Flow
RESTORE = "iptables-restore <<"


class Place(NamedTuple):
    """Where a line about a pod stands: in which room, table and chain, behind how many lines about no pod."""

    room: str
    table: str
    chain: str
    after: int


class Names(NamedTuple):
    """What a pod is told by: the name of its room, and in a room its devices' ends, its addresses of both kinds."""

    room: str
    everywhere: frozenset[str]
    ends: dict[str, frozenset[str]]

    def of(self, room: str) -> frozenset[str]:
        """The names by which lines of that room can mean it."""
        return self.everywhere | self.ends.get(room, frozenset())


def alike(network: Network, pods: Iterable[str], protocol: str = "icmp", port: int = 0) -> list[tuple[str, ...]]:
    """The pods in groups that nothing tells apart for packets of that protocol (icmp, udp or tcp), to that port, among
    pods and nodes, and their answers.

    Groups come in the order of their first pod; all pods of a group are on one node.
    """
    found = _Tables(network, list(pods), protocol, port)
    groups: dict[Hashable, list[str]] = {}
    for pod in found.names:
        groups.setdefault(found.key(pod), []).append(pod)
    return [tuple(group) for group in groups.values()]


class _Tables:
    """All lines of all rooms, sorted by the pods they are about."""

    def __init__(self, network: Network, pods: list[str], protocol: str, port: int) -> None:
        self.network, self.protocol, self.port = network, protocol, port
        self.names = _sole({pod: _names(network, pod) for pod in pods})
        ends = (r for r in network if network.roles.get(r.name) in ("pod", "node"))
        self.targets = sorted({int(a.local) for r in ends for d in r.devices.values() for a in d.addrs})
        self.known = {token: pod for pod, names in self.names.items() for token in names.everywhere}
        self.ends = {(r, end): pod for pod, n in self.names.items() for r, ends in n.ends.items() for end in ends}
        self.about: dict[str, list[Hashable]] = {pod: [] for pod in pods}
        self.prefixes: set[Prefix] = set()
        self.ranges: set[tuple[int, int]] = set()
        self.wildcards: set[str] = set()
        self.lines = {room: commands(network, room) for room in network.rooms}
        for room in network.rooms:
            self._read(room)
        self.lengths = sorted({p.length for p in self.prefixes})

    def key(self, pod: str) -> Hashable:
        """What tells the pod from others."""
        names = self.names[pod]
        built = (line for line in self.lines[pod] if self.protocol != "icmp" or not line.startswith("# "))
        own = tuple(self._renamed(line, names, "") for line in built)
        held: list[Hashable] = []
        for addr in self._addresses(pod):
            held += [p for length in self.lengths if (p := Prefix.of(addr, length)) in self.prefixes]
            held += sorted(r for r in self.ranges if r[0] <= addr <= r[1])
        held += sorted(w for w in self.wildcards for ends in names.ends.values() for e in ends if e.startswith(w))
        return tuple(sorted(names.ends)), own, tuple(self.about[pod]), tuple(held)

    def _addresses(self, pod: str) -> list[IPv4]:
        return [a.local for d in self.network[pod].devices.values() if d.name != "lo" for a in d.addrs]

    # -- a room --------------------------------------------------------------------------------------------------------

    def _read(self, room: str) -> None:
        for block in self.lines[room]:
            if RESTORE in block:
                continue
            many = "\n" in block  # a text for a tool: there the order may matter
            after = 0
            for line in _cut(block):
                pods = self._meant(line, room)
                for pod in pods:
                    place = Place(room, "", "", after if many else 0)
                    self.about[pod].append((place, self._renamed(line, self.names[pod], room)))
                self._hold(line)
                after += not pods
        for table in self.network[room].netfilter.tables.values():
            self._read_rules(room, table)

    def _read_rules(self, room: str, table: Table) -> None:
        """Every chain that rules about no pod lead to; chains behind a rule about one are part of that rule."""
        waiting = [hook for hook in HOOKS[table.name] if hook in table.chains]
        reached = set(waiting)
        while waiting:
            chain, after = waiting.pop(), 0
            for rule in table.chains[chain].rules:
                if not self._may_match(rule):
                    continue
                text, target = _text(rule, table)
                pods = self._meant(text, room)
                for pod in pods:
                    place = Place(room, table.name, chain, after)
                    renamed = self._renamed(text, self.names[pod], room)
                    self.about[pod].append((place, renamed, self._held(room, table, target, pod)))
                self._hold(text)
                after += not pods
                if not pods and target and target not in reached:
                    reached.add(target)
                    waiting.append(target)

    def _held(self, room: str, table: Table, chain: str, pod: str) -> Hashable:
        """The rules of a chain, and of those it leads to, as they are for a pod."""
        if not chain:
            return ()
        rules: list[Hashable] = []
        for rule in table.chains[chain].rules:
            if self._may_match(rule):
                text, target = _text(rule, table)
                self._hold(text)
                renamed = self._renamed(text, self.names[pod], room)
                rules.append((renamed, self._held(room, table, target, pod)))
        return tuple(rules)

    def _may_match(self, rule: Rule) -> bool:
        """Whether a packet of the walks can: of their protocol, or an ICMP error, to a pod or a node."""
        for option in rule.header:
            if option.inverted:
                continue
            if option.name == "-p" and option.text not in (self.protocol, "icmp", "all"):
                return False
            if option.name == "-d" and not self._is_target(option.text):
                return False
        return all(self._may_be_port(option) for match in rule.matches for option in match.options)

    def _may_be_port(self, option: Option) -> bool:
        """A destination port is the one that is asked for, or the client's, for the answers."""
        known = option.name == "--dport" and not option.inverted and option.text.isdecimal()
        return not known or int(option.text) in (self.port, CLIENT_PORT)

    def _is_target(self, text: str) -> bool:
        try:
            prefix = Prefix.parse(text)
        except ValueError:
            return True  # a mask with holes
        at = bisect_left(self.targets, int(prefix.addr))
        return at < len(self.targets) and self.targets[at] in prefix

    # -- lines ---------------------------------------------------------------------------------------------------------

    def _meant(self, line: str, room: str) -> set[str]:
        """The pods that a line of a room is about, but for the room's own."""
        tokens = [_base(token) for token in TOKEN.findall(line)]
        everywhere = {self.known[token] for token in tokens if token in self.known}
        return (everywhere | {self.ends[room, t] for t in tokens if (room, t) in self.ends}) - {room}

    def _renamed(self, line: str, names: Names, room: str) -> str:
        """The line of a room (of the pod's own: "") without what is the pod's, and without the numbers of devices."""
        own = names.of(room) if room else names.everywhere.union(*names.ends.values())

        def rename(found: re.Match[str]) -> str:
            base = _base(found[0]) if room else found[0].partition("/")[0]  # its address has a network's length there
            return found[0].replace(base, _role(base)) if base in own else found[0]

        line = re.sub(rf"(?<![\w/-]){re.escape(names.room)}(?![\w/-])", "@pod", INDEX.sub("", line))
        return TOKEN.sub(rename, line)

    def _hold(self, line: str) -> None:
        """Note what a line says about many."""
        for token in TOKEN.findall(line):
            if token.endswith(("+", "*")):  # of iptables, of nftables
                self.wildcards.add(token[:-1])
            elif "/" in token and not token.endswith("/32"):
                addr, _, length = token.partition("/")
                self.prefixes.add(Prefix.of(IPv4(addr), int(length)))
            elif token.count(".") > 3:
                low, _, high = token.partition("-")
                self.ranges.add((IPv4(low), IPv4(high)))


def _names(network: Network, pod: str) -> Names:
    """A pod's own names, and those of the far ends of its wires."""
    own: set[str] = set()
    ends: dict[str, frozenset[str]] = {}
    for device in network[pod].devices.values():
        if device.name == "lo":
            continue
        own |= {str(device.mac), *(str(a.local) for a in device.addrs)}
        far = network.far((pod, device.name))
        if far is not None:
            ends[far[0]] = ends.get(far[0], frozenset()) | {far[1]}
            own.add(str(network[far[0]].device(far[1]).mac))
    return Names(pod, frozenset(own), ends)


def _sole(names: dict[str, Names]) -> dict[str, Names]:
    """The same without what is a name of several pods, such as the Ethernet address of all of Calico's cali devices."""
    count = Counter(token for one in names.values() for token in one.everywhere)
    return {
        pod: one._replace(everywhere=frozenset(t for t in one.everywhere if count[t] == 1))
        for pod, one in names.items()
    }


def _cut(block: str) -> Iterator[str]:
    """The lines of a command; settings of several sysctls are a line each."""
    for line in block.splitlines():
        head, sysctl, pairs = line.partition(" sysctl ")
        if sysctl:
            yield from (f"{head} {pair}" for pair in pairs.split())
        else:
            yield line


def _text(rule: Rule, table: Table) -> tuple[str, str]:
    """A rule without its comments, and the chain it leads to, if it does."""
    words = [*map(str, rule.header), *(str(m) for m in rule.matches if m.name != "comment")]
    if rule.target is None:
        return " ".join(words), ""
    if rule.target.name in table.chains:
        return " ".join([*words, "-g" if rule.goto else "-j"]), rule.target.name
    return " ".join([*words, str(rule.target)]), ""


def _base(token: str) -> str:
    """An address without the length of its network, where that is the address alone."""
    return token.removesuffix("/32")


def _role(token: str) -> str:
    return "@mac" if ":" in token else "@ip" if token.count(".") == 3 else "@end"
