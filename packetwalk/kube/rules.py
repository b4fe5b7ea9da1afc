"""The rules of a node, made when somebody first looks: a cluster has many nodes, a walk meets few."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from packetwalk.kube.kubeproxy import KubeProxy, ProxiedNode
from packetwalk.kube.kubeproxy_nft import distinction, nftables, node_ports
from packetwalk.kube.service import Service
from packetwalk.netns.netfilter import Ruleset
from packetwalk.snapshot.ipset_save import read_ipsets
from packetwalk.snapshot.iptables_save import read_iptables
from packetwalk.snapshot.nft_list import read_nft


class Deferred(Ruleset):
    """A Ruleset that is made on the first access to what it holds."""

    def __init__(self, make: Callable[[], Ruleset]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> object:
        """Asked only for what is not there yet."""
        if name not in ("tables", "sets", "state", "nft", "_orders"):
            raise AttributeError(name)
        for key, value in vars(self._make()).items():
            self.__dict__.setdefault(key, value)  # what somebody has set meanwhile stays
        return self.__dict__[name]

    def overlay(self) -> Ruleset:
        """As for any Ruleset; a room that a broadcast merely passes makes none."""
        return Deferred(lambda: Ruleset.overlay(self))


def written(iptables: Callable[[], str], ipsets: Callable[[], str], proxied: Callable[[], Ruleset] | None = None,
            above: Callable[[str], int] = lambda chain: 0) -> Ruleset:  # fmt: skip
    """The rules and sets that iptables-restore and ipset restore would make of these texts, which are a CNI's.

    proxied: kube-proxy's rules, and above: see `beside`.
    """

    def make() -> Ruleset:
        ruleset = read_iptables(iptables(), "iptables")
        ruleset.sets.update(read_ipsets(ipsets(), "ipset"))
        return ruleset if proxied is None else beside(proxied(), ruleset, above)

    return Deferred(make)


def beside(proxied: Ruleset, ruleset: Ruleset, above: Callable[[str], int]) -> Ruleset:
    """kube-proxy's rules and a CNI's in one; nodes share kube-proxy's own chains.

    In a built-in chain the first `above(chain)` rules of the CNI come before kube-proxy's, the others after them.
    """
    both = Ruleset()
    both.sets, both.nft = {**ruleset.sets, **proxied.sets}, {**ruleset.nft, **proxied.nft}
    for name in dict.fromkeys((*ruleset.tables, *proxied.tables)):
        table = both.table(name)
        theirs, ours = (r.tables[name].chains if name in r.tables else {} for r in (ruleset, proxied))
        built_in = set(table.chains)
        table.chains.update({n: chain for n, chain in (*ours.items(), *theirs.items()) if n not in built_in})
        for chain in built_in:
            first, middle = (r[chain].rules if chain in r else [] for r in (theirs, ours))
            if chain in theirs:
                table.chains[chain].policy = theirs[chain].policy
            cut = above(chain)
            for rule in (*first[:cut], *middle, *first[cut:]):
                table.append(rule)
    return both


def nft_rules(proxy: KubeProxy, node: ProxiedNode, services: Sequence[Service], service_cidr: str,
              known: dict[object, Ruleset]) -> Ruleset:  # fmt: skip
    """kube-proxy's table on a node. Nodes that differ in nothing but their addresses share its chains (`known`)."""
    key = distinction(node, services)
    if key not in known:
        known[key] = Ruleset()
        known[key].nft = read_nft(nftables(proxy, node, services, service_cidr), "kube-proxy", trusted=True).tables
    ruleset = Ruleset()
    for name, table in known[key].nft.items():
        own = read_nft(node_ports(proxy, node), "kube-proxy").tables[name].sets
        ruleset.nft[name] = table.with_set(own["nodeport-ips"]) if own else table
    return ruleset
