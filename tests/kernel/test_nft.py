"""Random rules of nftables on a router, at all its hooks, against this machine's kernel."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from packetwalk.kernel.realise import missing_features
from packetwalk.snapshot.nft_list import read_nft
from tests.kernel.lab import Lab, disagreements, line, probe

pytestmark = pytest.mark.usefixtures("kernel")

ADDRS = ("10.0.1.2", "10.0.2.2", "10.0.1.1", "10.0.2.1", "10.0.2.3")
PORTS = (80, 81, 8080)
BASES = {
    "raw": ("filter", "prerouting", "raw"), "early": ("filter", "prerouting", "dstnat - 10"),
    "dnats": ("nat", "prerouting", "dstnat"), "inside": ("filter", "input", "filter"),
    "through": ("filter", "forward", "filter"), "again": ("filter", "forward", "filter + 10"),
    "sent": ("filter", "output", "filter"), "rerouted": ("route", "output", "mangle"),
    "dnats-sent": ("nat", "output", "-100"), "snats": ("nat", "postrouting", "srcnat"),
    "late": ("filter", "postrouting", "300"),
}  # fmt: skip
"""Base chains: type, hook, priority."""

PLAIN = (
    "ip saddr {addr}", "ip daddr {addr}", "ip saddr != {addr}", "ip saddr 10.0.1.0/24", "ip daddr @hosts",
    "ip daddr {{ 10.0.1.2, 10.0.2.2 }}", "ip saddr != @hosts", "ct state {state}", "ct state new", "ct mark 0x00000002",
    "ct state established,related", "ct status {status}", "ct direction reply", 'iifname "eth0"', 'oifname "eth1"',
    'iifname {{ "eth0", "lo" }}', "fib daddr type local", "fib saddr type {{ local, unicast }}", "ip ttl > 63",
    "meta mark & 0x000000ff == 0x00000001", "ip length > 80", "ip saddr @noted",
)  # fmt: skip
OF_A_PROTOCOL = (
    "meta l4proto {proto}", "meta l4proto {{ tcp, udp }}", "th dport {port}", "tcp dport {port}", "udp dport != {port}",
    "tcp dport {{ 80, 8080-8090 }}", "tcp dport > 80", "icmp type echo-request",
    "icmp type {{ echo-reply, destination-unreachable }}",
    "ip daddr . meta l4proto . th dport {{ 10.0.2.2 . tcp . 80, 10.0.2.2 . udp . 80 }}",
    "meta l4proto tcp reject with tcp reset",
)  # fmt: skip
"""A rule has at most one of these: nft refuses what contradicts itself."""

DEEDS = (
    "counter packets 0 bytes 0", "meta mark set 0x00000001", "meta mark set meta mark | 0x00000001", "continue",
    "ct mark set 0x00000002", "update @noted {{ ip saddr }}", "add @noted {{ ip daddr }}",
)  # fmt: skip
MAPS = (
    "ip daddr vmap {{ 10.0.2.2 : {verdict}, 10.0.1.2 : {verdict} }}", "ip daddr . meta l4proto . th dport vmap @ways",
    "ct state vmap {{ new : {verdict}, established : {verdict} }}",
    "meta l4proto vmap {{ icmp : {verdict}, tcp : {verdict} }}",
)  # fmt: skip
ENDS = ("accept", "drop", "return", "jump {chain}", "goto {chain}", "")
MILD = ("accept", "return", "jump {chain}", "")
REJECTS = ("reject", "reject with icmp admin-prohibited", "reject with icmp net-unreachable")
NATS = {
    "dnats": ("ip daddr 10.0.2.3 dnat to 10.0.2.2", "ip daddr 10.0.2.1 meta l4proto {{ tcp, udp }} dnat to 10.0.2.2:80",
              "tcp dport 81 redirect to :80", "ip daddr 10.0.2.2 tcp dport 8080 dnat to 10.0.2.2:80"),
    "dnats-sent": ("ip daddr 10.0.2.3 dnat to 10.0.2.2", "tcp dport 8080 dnat to 10.0.2.2:80"),
    "snats": ("masquerade", 'oifname "eth1" snat to 10.0.2.1', "ip saddr 10.0.1.2 masquerade fully-random"),
}  # fmt: skip


class Draw:
    """Draws the rules of one table."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.users = ["one", "two"]

    def fill(self, text: str, below: list[str]) -> str:
        """A text with its blanks filled in; verdicts lead to chains that are below."""
        pick = self.random.choice
        chain = pick(below) if below else ""
        verdicts = [
            "accept",
            "drop",
            "continue",
            "return",
            *(f"goto {name}" for name in below),
            *(f"jump {name}" for name in below),
        ]
        while "{verdict}" in text:
            text = text.replace("{verdict}", pick(verdicts), 1)
        return text.format(addr=pick(ADDRS), proto=pick(("tcp", "udp", "icmp")), port=pick(PORTS), chain=chain,
                           state=pick(("established", "related", "untracked", "invalid")),
                           status=pick(("dnat", "snat", "confirmed", "seen-reply")))  # fmt: skip

    def rule(self, below: list[str], ends: tuple[str, ...], hook: str) -> str:
        pick, chance = self.random.choice, self.random.random
        words = [pick(PLAIN) for _ in range(pick((0, 1, 1, 2)))]
        if chance() < 0.4:
            words.append(pick(OF_A_PROTOCOL[:-1] if hook not in ("input", "forward", "output") else OF_A_PROTOCOL))
        if words[-1:] == [OF_A_PROTOCOL[-1]]:
            return self.fill(" ".join(words), below)
        if chance() < 0.3:
            words.append(pick(DEEDS))
        end = pick(MAPS) if chance() < 0.2 and below else pick(ends)
        words.append(end if below or "{chain}" not in end else "return")
        return self.fill(" ".join(filter(None, words)) or "accept", below)

    def chain(self, name: str, below: list[str]) -> Iterator[str]:
        type, hook, priority = BASES.get(name, ("", "", ""))
        yield f"chain {name} {{"
        if type:
            yield f"type {type} hook {hook} priority {priority}; policy accept;"
        ends = ENDS if self.random.random() < 0.5 else MILD
        ends = (*ends, *REJECTS) if hook in ("input", "forward", "output") and type == "filter" else ends
        for _ in range(self.random.randrange(3)):
            yield self.rule(below, ends if type != "nat" else ("accept", ""), hook)
        for nat in NATS.get(name, ()):
            if self.random.random() < 0.4:
                yield self.fill(nat, [])
        yield "}"

    def table(self) -> str:
        lines = [
            "table ip lab {",
            "set hosts {", "type ipv4_addr", "flags interval", "elements = { 10.0.1.0/24, 10.0.2.3 }", "}",
            "set noted {", "type ipv4_addr", "size 65535", "flags dynamic,timeout", "timeout 1m", "}",
            "map ways {", "type ipv4_addr . inet_proto . inet_service : verdict",
            "elements = { 10.0.2.2 . tcp . 80 : goto two, 10.0.2.2 . udp . 80 : goto two }", "}",
        ]  # fmt: skip
        lines += self.chain("two", [])
        lines += self.chain("one", ["two"])
        for name in BASES:
            if self.random.random() < 0.6:
                lines += self.chain(name, ["one", "two"])
        return "\n".join([*lines, "}"])


def lab_of(seed: int) -> Lab:
    lab = line()
    lab["r"].listen(80)
    lab["r"].netfilter.nft = read_nft(Draw(seed).table()).tables
    lab["r"].conntrack = True
    return lab


PROBES = (
    "icmp a 10.0.2.2", "tcp a 10.0.2.2:80", "udp a 10.0.2.2:80", "tcp a 10.0.2.1:80", "tcp a 10.0.2.2:8080",
    "icmp a 10.0.1.1", "icmp b 10.0.1.2", "udp r 10.0.2.2:81", "tcp r 10.0.2.2:80", "tcp a 10.0.2.2:81",
    "icmp a 10.0.2.3",
)  # fmt: skip


@pytest.mark.parametrize("seed", [s if s < 4 else pytest.param(s, marks=pytest.mark.long) for s in (*range(24), 120)])
def test_random_rules(seed: int) -> None:
    """In 120 a chain of NAT refuses."""
    lab = lab_of(seed)
    if missing := missing_features(lab.network):
        pytest.skip(f"this machine has no {', '.join(missing)}")
    probes = [probe(text, **({} if text.startswith("icmp") else {"sport": 41000 + n})) for n, text in enumerate(PROBES)]
    wrong = disagreements(lab.network, probes)
    assert not wrong, "\n".join([*wrong.values(), *map(str, lab["r"].netfilter.nft.values())])
