"""Rules and chains in words: one sentence for a rule, the purpose of a chain that Kubernetes' own programs make.

Purposes are those that kube-proxy, the kubelet, Calico, flannel, the CNI plugins and Docker give their chains.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeAlias

from packetwalk.netns.match import Match
from packetwalk.netns.netfilter import HOOKS
from packetwalk.netns.nft_rule import NftRule
from packetwalk.netns.option import Option, masked, unquote
from packetwalk.netns.rule import Rule
from packetwalk.netns.target import Target

PURPOSES = (
    # the hooks
    (r"PREROUTING", "every packet that comes in, before it is routed"),
    (r"INPUT", "packets for this host itself"),
    (r"FORWARD", "packets that pass through this host"),
    (r"OUTPUT", "packets that programs of this host send"),
    (r"POSTROUTING", "every packet that leaves, after it is routed"),
    # kube-proxy and the kubelet (pkg/proxy/iptables/proxier.go)
    (r"KUBE-SERVICES", "kube-proxy: the list of service addresses; a packet for one goes to that service's chain"),
    (r"KUBE-EXTERNAL-SERVICES", "kube-proxy: outside addresses of services that have no endpoint to answer"),
    (r"KUBE-NODEPORTS", "kube-proxy: the list of node ports; a packet for one goes to that service's chain"),
    (r"KUBE-NODE-PORT", "kube-proxy (ipvs): marks packets for node ports that are to be masqueraded"),
    (r"KUBE-IPVS-FILTER", "kube-proxy (ipvs): keeps a service's address from leading to other ports of the node"),
    (r"KUBE-IPVS-OUT-FILTER", "kube-proxy (ipvs): drops the node's own packets to a load balancer that shuts it out"),
    (r"KUBE-SOURCE-RANGES-FIREWALL", "kube-proxy (ipvs): drops what a load balancer's source ranges left out"),
    (r"KUBE-LOAD-BALANCER", "kube-proxy (ipvs): marks packets for load balancer addresses that are to be masqueraded"),
    (r"KUBE-SVC-.+", "kube-proxy: one port of a service; picks one of all its endpoints, each as likely as the others"),
    (r"KUBE-SVL-.+", "kube-proxy: one port of a service; picks one of its endpoints on this node"),
    (r"KUBE-(EXT|XLB)-.+", "kube-proxy: traffic from outside for one port of a service; decides whether to masquerade"),
    (r"KUBE-FW-.+", "kube-proxy: who may reach one port of a load balancer (loadBalancerSourceRanges)"),
    (r"KUBE-SEP-.+", "kube-proxy: one endpoint of a service; rewrites the destination to it"),
    (r"KUBE-MARK-MASQ", "kube-proxy: marks a packet (bit 0x4000) so that KUBE-POSTROUTING masquerades it"),
    (r"KUBE-MARK-DROP", "kube-proxy, older: marks a packet (bit 0x8000) so that KUBE-FIREWALL drops it"),
    (r"KUBE-POSTROUTING", "kube-proxy: masquerades what KUBE-MARK-MASQ has marked"),
    (r"KUBE-FORWARD", "kube-proxy: lets service traffic and its answers pass, drops what belongs to no connection"),
    (r"KUBE-FIREWALL", "the kubelet: drops what comes for 127.0.0.0/8 from elsewhere"),
    (r"KUBE-PROXY-FIREWALL", "kube-proxy: drops what a load balancer's source ranges left out"),
    (r"KUBE-(PROXY|KUBELET)-CANARY", "empty: its loss tells kube-proxy or the kubelet that the tables were flushed"),
    (r"KUBE-IPTABLES-HINT", "empty: tells other programs which iptables the kubelet uses, nft or legacy"),
    # kube-proxy in nftables mode (pkg/proxy/nftables/proxier.go)
    (r"services", "kube-proxy (nftables): one look-up finds the service of an address and port"),
    (r"firewall-check", "kube-proxy (nftables): one look-up finds the source ranges of a load balancer's address"),
    (r"(service|nodeport)-endpoints-check", "kube-proxy (nftables): one look-up finds services without an endpoint"),
    (r"cluster-ips-check", "kube-proxy (nftables): refuses ports that a cluster IP does not have"),
    (r"mark-for-masquerade", "kube-proxy (nftables): marks a packet so that masquerading does it"),
    (r"masquerading", "kube-proxy (nftables): masquerades what mark-for-masquerade has marked"),
    (r"reject-chain", "kube-proxy (nftables): refuses what no endpoint is there for"),
    (r"service-[A-Z2-7]{8}-.+", "kube-proxy (nftables): one port of a service; picks one of all its endpoints"),
    (r"local-[A-Z2-7]{8}-.+", "kube-proxy (nftables): one port of a service; picks one of its endpoints on this node"),
    (r"external-[A-Z2-7]{8}-.+", "kube-proxy (nftables): traffic from outside for one port of a service"),
    (r"endpoint-[A-Z2-7]{8}-.+", "kube-proxy (nftables): one endpoint of a service; rewrites the destination to it"),
    (r"firewall-[A-Z2-7]{8}-.+", "kube-proxy (nftables): who may reach one port of a load balancer"),
    (r"(nat|filter)-(prerouting|input|forward|output|postrouting)(-pre-dnat)?",
     "kube-proxy (nftables): where its table begins at a hook"),
    (r"LB-.+", "a load balancer's machine: one port of a service; picks one of its nodes, all as likely"),
    # Calico (felix/rules)
    (r"cali-(PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING)", "Calico's part of that hook"),
    (r"cali-from-wl-dispatch.*", "Calico: what comes from a workload goes to the chain of the device it came by"),
    (r"cali-to-wl-dispatch.*", "Calico: what is for a workload goes to the chain of the device it leaves by"),
    (r"cali-fw-.+", "Calico: what one workload may send (its egress policies and profiles)"),
    (r"cali-tw-.+", "Calico: what one workload may receive (its ingress policies and profiles)"),
    (r"cali-pi-.+", "Calico: the ingress rules of one policy; sets the accept mark where one allows the packet"),
    (r"cali-po-.+", "Calico: the egress rules of one policy; sets the accept mark where one allows the packet"),
    (r"cali-pri-.+", "Calico: the ingress rules of one profile (a namespace's or service account's default)"),
    (r"cali-pro-.+", "Calico: the egress rules of one profile (a namespace's or service account's default)"),
    (r"cali-g[io]-.+", "Calico: a group of policies that select the same workloads"),
    (r"cali-wl-to-host", "Calico: what workloads may send to the host itself"),
    (r"cali-(from|to)-host-endpoint", "Calico: policies of the host's own devices (host endpoints)"),
    (r"cali-(from|to)-hep-forward", "Calico: policies of host endpoints for traffic that passes through"),
    (r"cali-rpf-skip", "Calico: workloads that may send from addresses that are not theirs"),
    (r"cali-cidr-block", "Calico: drops what is for service address ranges that no service answers for"),
    (r"cali-fip-(dnat|snat)", "Calico: floating addresses of workloads, translated"),
    (r"cali-nat-outgoing", "Calico: masquerades what pods send outside all pools (natOutgoing)"),
    (r"cali-failsafe-(in|out)", "Calico: ports of the host that no policy can shut"),
    (r"cali-.+", "a chain of Calico"),
    # flannel, CNI plugins, Docker
    (r"FLANNEL-FWD", "flannel: lets traffic of the pod network pass"),
    (r"FLANNEL-POSTRTG", "flannel: masquerades what pods send outside the pod network"),
    (r"CNI-HOSTPORT-DNAT", "the portmap plugin: the list of host ports; a packet for one goes to that pod's chain"),
    (r"CNI-HOSTPORT-(SETMARK|MASQ)", "the portmap plugin: marks or masquerades what comes back to its own host port"),
    (r"CNI-(DN|SN)-.+", "the portmap plugin: the host ports of one pod"),
    (r"CNI-(FORWARD|ADMIN)", "the firewall plugin: lets pods' traffic pass, after the administrator's own rules"),
    (r"CNI-.+", "a CNI plugin (ipMasq): masquerades what one pod sends outside the pod network"),
    (r"DOCKER-USER", "the administrator's own rules, before Docker's"),
    (r"DOCKER-ISOLATION-.+", "Docker: keeps its networks apart"),
    (r"DOCKER(-.+)?", "Docker: what may reach containers, and their published ports"),
    (r"CILIUM_.+", "a chain of Cilium"),
    (r"IP-MASQ(-AGENT)?", "the ip-masq-agent: what is not masqueraded, then everything else is"),
)  # fmt: skip
"""What a chain is for, by its name; the first that fits."""


def purpose(chain: str) -> str:
    """What a chain is for, or "" where its name does not tell."""
    return next((text for name, text in PURPOSES if re.fullmatch(name, chain)), "")


def explain_chain(table: str, chain: str, rules: Iterable[Rule]) -> list[str]:
    """A chain in words: what it is for, then a sentence for each of its rules."""
    what = purpose(chain) or "a chain that no program known here makes"
    lines = [f"{chain} ({table}): {what}."]
    lines += [f"{n:>4}  {explain_rule(rule)}" for n, rule in enumerate(rules, 1)]
    return lines if len(lines) > 1 else [*lines, "      It has no rule: a packet goes back to where it came from."]


def explain_nft_chain(table: str, chain: str, rules: Iterable[NftRule]) -> list[str]:
    """A chain of nftables: what it is for, then its rules, which are words already."""
    lines = [f"{chain} ({table}): {purpose(chain) or 'a chain that no program known here makes'}."]
    return [*lines, *(f"{n:>4}  {rule}" for n, rule in enumerate(rules, 1))]


def explain_rule(rule: Rule) -> str:
    """One sentence that says which packets a rule is about and what becomes of them."""
    words = [_subject(next((o for o in rule.header if o.name == "-p"), None))]
    words += [HEADER[option.name](option) for option in rule.header if option.name != "-p"]
    for match in sorted(rule.matches, key=lambda match: match.name not in ("tcp", "udp", "multiport")):
        words += _match(match)
    notes = [text for text in rule.comment.split("; ") if text and not text.startswith("cali:")]
    comment = f': "{"; ".join(notes)}"' if notes else ""
    sentence = f"{' '.join(words)} {_action(rule)}{comment}."
    return sentence[0].upper() + sentence[1:]


# -- which packets -----------------------------------------------------------------------------------------------------

NAMES = {"tcp": "TCP", "udp": "UDP", "icmp": "ICMP", "sctp": "SCTP", "ipencap": "IP-in-IP", "gre": "GRE", "esp": "ESP"}


def _subject(proto: Option | None) -> str:
    if proto is None:
        return "packets"
    name = NAMES.get(proto.text, f"protocol {proto.text}")
    if proto.inverted:
        return f"packets that are not {name}"
    return f"{name} packets" if proto.text in NAMES else f"packets of {name}"


def _not(option: Option, text: str) -> str:
    return f"not {text}" if option.inverted else text


def _device(option: Option) -> str:
    name = f"a device named {option.text[:-1]}..." if option.text.endswith("+") else option.text
    way = "that came in" if option.name == "-i" else "that leave"
    return f"{way} by {'any device but ' if option.inverted else ''}{name}"


Phrase: TypeAlias = Callable[[Option], str]

HEADER: dict[str, Phrase] = {
    "-s": lambda o: _not(o, f"from {o.text.removesuffix('/32')}"),
    "-d": lambda o: _not(o, f"to {o.text.removesuffix('/32')}"),
    "-i": _device,
    "-o": _device,
    "-f": lambda o: "that are no later fragments" if o.inverted else "that are later fragments",
}


def _ports(way: str) -> Phrase:
    def phrase(option: Option) -> str:
        many = "ports" if any(c in option.text for c in ",:") else "port"
        return _not(option, f"{way} {many} {option.text.replace(':', ' to ').replace(',', ', ')}")

    return phrase


def _mark(option: Option) -> str:
    """Of one bit, or of none of several, "with" and "without" say it all."""
    value, mask = masked(option.text)
    if mask.bit_count() == 1:
        return f"{'with' if (value == mask) is not option.inverted else 'without'} mark {mask:#x}"
    if not value and not option.inverted:
        return f"without any mark in {mask:#x}" if mask != 0xFFFFFFFF else "without a mark"
    bits = f" in the bits {mask:#x}" if mask not in (value, 0xFFFFFFFF) else ""
    return f"{'without' if option.inverted else 'with'} mark {value:#x}{bits}"


STATES = {
    "NEW": "open a connection", "ESTABLISHED": "belong to an answered connection",
    "RELATED": "are about a known connection", "INVALID": "belong to no connection",
    "UNTRACKED": "are not tracked", "SNAT": "had their source rewritten", "DNAT": "had their destination rewritten",
}  # fmt: skip


def _states(option: Option) -> str:
    words = [STATES[state] for state in option.text.split(",")]
    if option.inverted:
        return f"except those that {' or '.join(words)}"
    return f"that {' or '.join(words)}"


def _type(side: str) -> Phrase:
    def phrase(option: Option) -> str:
        kinds = {"LOCAL": "this host's own", "BROADCAST": "a broadcast address", "MULTICAST": "a multicast address"}
        words = [kinds.get(kind, f"of type {kind.lower()}") for kind in option.text.split(",")]
        return f"whose {side} is {'not ' if option.inverted else ''}{' or '.join(words)}"

    return phrase


def _in_set(option: Option) -> str:
    name, dims = unquote(option.args[0]), option.args[1].split(",")
    sides = " and ".join({"src": "source", "dst": "destination"}[dim] for dim in dict.fromkeys(dims))
    return f"whose {sides} is {'not ' if option.inverted else ''}in the set {name}"


PHRASES: dict[tuple[str, str], Phrase] = {
    **{(proto, f"--{way}port"): _ports(word) for proto in ("tcp", "udp") for way, word in (("s", "from"), ("d", "to"))},
    ("multiport", "--sports"): _ports("from"),
    ("multiport", "--dports"): _ports("to"),
    ("multiport", "--ports"): _ports("from or to"),
    ("tcp", "--tcp-flags"): lambda o: _not(
        o, "that open a connection (SYN)" if o.args[1] == "SYN" else f"with, of the flags {o.args[0]}, only {o.args[1]}"
    ),
    ("icmp", "--icmp-type"): lambda o: _not(o, f"of ICMP type {o.text}"),
    ("mark", "--mark"): _mark,
    ("connmark", "--mark"): lambda o: f"of a connection {_mark(o)}",
    ("conntrack", "--ctstate"): _states,
    ("state", "--state"): _states,
    ("conntrack", "--ctdir"): lambda o: f"in the {o.text.lower()} direction of their connection",
    ("addrtype", "--src-type"): _type("source"),
    ("addrtype", "--dst-type"): _type("destination"),
    ("addrtype", "--limit-iface-in"): lambda o: "(on the device they came in by)",
    ("addrtype", "--limit-iface-out"): lambda o: "(on the device they leave by)",
    ("set", "--match-set"): _in_set,
    ("statistic", "--probability"): lambda o: (
        f"in {100 * (1 - float(o.text) if o.inverted else float(o.text)):.4g} % of cases, at random,"
    ),
    ("statistic", "--every"): lambda o: f"one in {o.text}{' left out' if o.inverted else ''}, in turn,",
    ("limit", "--limit"): lambda o: f"at most {o.text} on average",
    ("mac", "--mac-source"): lambda o: _not(o, f"from the Ethernet address {o.text}"),
    ("ipvs", "--ipvs"): lambda o: "that IPVS had nothing to do with" if o.inverted else "that IPVS sent on",
    ("ipvs", "--vaddr"): lambda o: _not(o, f"that asked IPVS for {o.text}"),
    ("ipvs", "--vport"): lambda o: _not(o, f"at port {o.text} of it"),
    ("ipvs", "--vproto"): lambda o: _not(o, f"of protocol {o.text}"),
    ("physdev", "--physdev-in"): lambda o: _not(o, f"that came in by the bridge port {o.text}"),
    ("physdev", "--physdev-out"): lambda o: _not(o, f"that leave by the bridge port {o.text}"),
    ("physdev", "--physdev-is-bridged"): lambda o: "that are not bridged" if o.inverted else "that are bridged",
    ("length", "--length"): lambda o: _not(o, f"of {o.text.replace(':', ' to ')} bytes"),
}
SILENT = {("statistic", "--mode"), ("statistic", "--packet"), ("limit", "--limit-burst")}


def _match(match: Match) -> list[str]:
    if match.name == "comment":
        return []
    if match.words:
        return [f"that fit `{match}`, which is not modelled,"]
    if match.name == "rpfilter":
        way = "no route back" if match.has("--invert") else "a route back"
        return [f"whose source has {way}{'' if match.has('--loose') else ' by the device they came in by'}"]
    if match.name == "recent":
        return [_recent(match)]
    if match.name in ("tcp", "udp") and not match.options:
        return []
    options = [o for o in match.options if (match.name, o.name) not in SILENT]
    if not all((match.name, o.name) in PHRASES for o in options) or not options:
        return [f"that fit `{match}`"]
    return [PHRASES[match.name, o.name](o) for o in options]


def _recent(match: Match) -> str:
    name = unquote(match.text("--name"))
    side = "source" if match.has("--rsource") else "destination"
    if match.has("--set"):
        return f"(their {side} is noted on the list {name})"
    if match.has("--remove"):
        return f"whose {side} is on the list {name}, and leaves it,"
    within = f" within {match.text('--seconds')} s" if match.has("--seconds") else ""
    seen = "was not seen" if match.options[0].inverted else "was seen"
    return f"whose {side} {seen}{within} on the list {name}"


# -- what becomes of them ----------------------------------------------------------------------------------------------

ACTIONS: dict[str, Callable[[Target], str]] = {
    "ACCEPT": lambda t: "are accepted",
    "DROP": lambda t: "are dropped without a word",
    "REJECT": lambda t: f"are refused: the sender gets {t.text('--reject-with', 'icmp-port-unreachable')}",
    "DNAT": lambda t: f"are sent on to {t.text('--to-destination')} instead (DNAT, for the whole connection)",
    "SNAT": lambda t: f"get the source {t.text('--to-source')} (SNAT, for the whole connection)",
    "MASQUERADE": lambda t: "get an address of the device they leave by as their source, for the whole connection",
    "REDIRECT": lambda t: f"are sent to this host itself{_to_port(t)} instead",
    "NOTRACK": lambda t: "are not tracked as a connection",
    "CONNMARK": lambda t: f"exchange marks with their connection ({' '.join(map(str, t.options))})",
    "LOG": lambda t: "are logged",
    "NFLOG": lambda t: "are logged (nflog)",
    "TRACE": lambda t: "are traced, rule by rule",
    "TCPMSS": lambda t: f"get a TCP segment size of at most {t.text('--set-mss') or 'what fits the path MTU'}",
    "TPROXY": lambda t: f"are handed to a local proxy on port {t.text('--on-port')}",
    "SET": lambda t: f"change an IP set ({' '.join(map(str, t.options))})",
}


def _to_port(target: Target) -> str:
    return f", port {target.text('--to-ports')}," if target.has("--to-ports") else ""


def _set_mark(target: Target) -> str:
    """skb->mark = mark & ~mask ^ value: which bits that sets, clears or flips."""
    value, mask = masked(target.text("--set-xmark"))
    if mask == 0xFFFFFFFF:
        return f"get the mark {value:#x}"
    done = {"get mark {:#x} set": value & mask, "have mark {:#x} cleared": mask & ~value,
            "have mark {:#x} flipped": value & ~mask}  # fmt: skip
    return " and ".join(text.format(bits) for text, bits in done.items() if bits) or "keep their mark"


def _action(rule: Rule) -> str:
    target = rule.target
    if target is None:
        return "are only counted"
    if target.words:
        return f"meet `{target}`, which is not modelled"
    if target.name == "RETURN":
        return (
            "meet the policy of this chain" if rule.chain in HOOKS["mangle"] else "go back to the chain they came from"
        )
    if target.name == "MARK":
        return _set_mark(target)
    if target.name == "CT":
        return ACTIONS["NOTRACK"](target) if target.has("--notrack") else f"meet `{target}`, which is not modelled"
    if target.name in ACTIONS and not rule.goto:
        return ACTIONS[target.name](target)
    aim = purpose(target.name)
    what = f" ({aim.partition(': ')[2] or aim})" if aim else ""
    return f"go to {target.name}{what}{' and do not come back here' if rule.goto else ''}"
