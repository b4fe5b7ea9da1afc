"""kube-proxy in iptables mode: the rules it keeps on a node, as iptables-save prints them.

Names, order and comments are those of a real node (pkg/proxy/iptables); kubelet's KUBE-FIREWALL is among them. A
packet to a service meets KUBE-SERVICES in the nat table, which leads by a chain for each kind of address (KUBE-FW,
KUBE-EXT) to one for the port (KUBE-SVC, or KUBE-SVL for the node's own endpoints), where lots are drawn for an endpoint
(KUBE-SEP). What must not get that far is refused in the filter table.
"""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from packetwalk.addr import IPv4, Prefix
from packetwalk.hint import unknown
from packetwalk.kube.service import Endpoint, Service, ServicePort, usable

LOOPBACK = "127.0.0.0/8"
MODES = ("iptables", "ipvs", "nftables")
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "ovf", "fo", "mh")
"""The kernel's; IPVS here knows rr, wrr, lc, wlc and sh."""

Jumps = Mapping[str, Sequence[tuple[str, str, str, bool]]]
JUMPS: Jumps = {
    "filter": (
        ("INPUT", "KUBE-PROXY-FIREWALL", "kubernetes load balancer firewall", True),
        ("INPUT", "KUBE-NODEPORTS", "kubernetes health check service ports", False),
        ("INPUT", "KUBE-EXTERNAL-SERVICES", "kubernetes externally-visible service portals", True),
        ("INPUT", "KUBE-FIREWALL", "", False),
        ("FORWARD", "KUBE-PROXY-FIREWALL", "kubernetes load balancer firewall", True),
        ("FORWARD", "KUBE-FORWARD", "kubernetes forwarding rules", False),
        ("FORWARD", "KUBE-SERVICES", "kubernetes service portals", True),
        ("FORWARD", "KUBE-EXTERNAL-SERVICES", "kubernetes externally-visible service portals", True),
        ("OUTPUT", "KUBE-PROXY-FIREWALL", "kubernetes load balancer firewall", True),
        ("OUTPUT", "KUBE-SERVICES", "kubernetes service portals", True),
        ("OUTPUT", "KUBE-FIREWALL", "", False),
    ),
    "nat": (
        ("PREROUTING", "KUBE-SERVICES", "kubernetes service portals", False),
        ("OUTPUT", "KUBE-SERVICES", "kubernetes service portals", False),
        ("POSTROUTING", "KUBE-POSTROUTING", "kubernetes postrouting rules", False),
    ),
}
"""From which built-in chain to which of kube-proxy's own, with what comment, and whether for NEW connections only."""

BUILT_IN = {
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}
CANARY = "KUBE-PROXY-CANARY"  # empty; when it is gone, somebody has flushed the table
OWN = {
    "mangle": (CANARY,),
    "filter": (
        "KUBE-EXTERNAL-SERVICES", "KUBE-FIREWALL", "KUBE-FORWARD", "KUBE-NODEPORTS", CANARY, "KUBE-PROXY-FIREWALL",
        "KUBE-SERVICES",
    ),
    "nat": ("KUBE-MARK-MASQ", "KUBE-NODEPORTS", "KUBE-POSTROUTING", CANARY, "KUBE-SERVICES"),
}  # fmt: skip


@dataclass(frozen=True)
class KubeProxy:
    """Its settings (KubeProxyConfiguration). mode: in what it writes its rules (MODES). masquerade_bit: the bit of the
    mark; masquerade_all: also what pods send.

    detect_local: how it knows that a pod of this cluster sends: ClusterCIDR, NodeCIDR, BridgeInterface:NAME,
    InterfaceNamePrefix:PREFIX, or nothing. node_port_addresses: networks whose addresses of a node serve node ports; if
    empty all do, in nftables mode the node's own. localhost_node_ports counts in iptables mode only. scheduler and
    strict_arp (a node answers no ARP for service addresses) are those of IPVS mode.
    """

    masquerade_all: bool = False
    masquerade_bit: int = 14
    detect_local: str = "ClusterCIDR"
    localhost_node_ports: bool = True
    node_port_addresses: tuple[str, ...] = ()
    random_fully: bool = True
    mode: str = "iptables"
    scheduler: str = "rr"
    strict_arp: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(unknown("mode of kube-proxy", self.mode, MODES))
        if not 0 <= self.masquerade_bit <= 31:
            raise ValueError(f"masquerade_bit {self.masquerade_bit} is out of range: 0 to 31 was expected")
        if self.scheduler not in SCHEDULERS:
            raise ValueError(unknown("scheduler of IPVS", self.scheduler, SCHEDULERS))
        self.local_detector("", "")

    @property
    def mark(self) -> str:
        return f"{1 << self.masquerade_bit:#x}"

    @property
    def sysctls(self) -> dict[str, int]:
        """What it sets on a node: route_localnet for node ports on localhost, and its own timeouts of connections."""
        timeout = "net.netfilter.nf_conntrack_tcp_timeout"
        both = {f"{timeout}_established": 86400, f"{timeout}_close_wait": 3600}
        if self.mode == "ipvs":
            vs = {"conntrack": 1, "expire_nodest_conn": 1, "expire_quiescent_template": 1}
            arp = {"net.ipv4.conf.all.arp_ignore": 1, "net.ipv4.conf.all.arp_announce": 2} if self.strict_arp else {}
            return {**{f"net.ipv4.vs.{name}": value for name, value in vs.items()}, **arp, **both}
        on_localhost = self.localhost_node_ports and self.mode == "iptables"
        localhost = {"net.ipv4.conf.all.route_localnet": 1} if on_localhost else {}
        return {**localhost, **both}

    def local_detector(self, cluster_cidr: str, node_cidr: str) -> str:
        """The match that says a pod has sent a packet, such as `-s 10.244.0.0/16`; empty where there is none."""
        mode, _, name = self.detect_local.partition(":")
        match = {"": "", "ClusterCIDR": f"-s {cluster_cidr}", "NodeCIDR": f"-s {node_cidr}",
                 "BridgeInterface": f"-i {name}", "InterfaceNamePrefix": f"-i {name}+"}  # fmt: skip
        if mode not in match or bool(name) != match[mode].startswith("-i"):
            raise ValueError(
                f"there is no detect_local {self.detect_local!r}; there are ClusterCIDR, NodeCIDR, "
                "BridgeInterface:NAME, InterfaceNamePrefix:PREFIX, or an empty text"
            )
        return match[mode]


class Reachable(NamedTuple):
    """The endpoints of a port that a node's rules lead to: of the cluster, and the node's own for a policy Local.

    outside: whether it has other addresses than the cluster IP; any: whether there are endpoints at all.
    """

    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]
    outside: bool
    any: bool


class ProxiedNode(NamedTuple):
    """What kube-proxy knows of the node it runs on. addrs: all of its addresses; detector: `local_detector`'s match."""

    name: str
    ip: IPv4
    addrs: tuple[IPv4, ...]
    detector: str
    zone: str = ""


def iptables(proxy: KubeProxy, node: ProxiedNode, services: Iterable[Service]) -> str:
    """iptables-save's text of all that kube-proxy writes on a node for services whose addresses are filled in."""
    rules = Rules()
    for service in services:
        if not service.headless:
            for port in service.ports:
                _PortRules(rules, proxy, node, service, port).write()
    _frame(rules, proxy, node)
    return str(rules)


def reachable(node: ProxiedNode, service: Service, port: ServicePort) -> Reachable:
    """What rules are written for. Traffic from outside needs the others' endpoints, too: pods take a short cut to
    them."""
    cluster, local = usable(service, node.name, node.zone)
    outside = service.reached_from_outside(port)
    return Reachable(cluster if outside or not service.internal_local else (),
                     local if service.internal_local or (service.external_local and outside) else (),
                     outside, bool(cluster or local))  # fmt: skip


class Rules:
    """Lines by table and chain, in the order written; printed with the chains sorted, as iptables-save does."""

    def __init__(self, own: Mapping[str, Sequence[str]] = OWN, jumps: Jumps = JUMPS) -> None:
        self.chains: dict[tuple[str, str], list[str]] = {(t, c): [] for t, names in own.items() for c in names}
        self.own, self.jumps = own, jumps

    def add(self, table: str, chain: str, *words: str) -> None:
        """Append a rule: its words in the order in which iptables-save prints them, empty ones left out."""
        self.chains.setdefault((table, chain), []).append(" ".join([f"-A {chain}", *filter(None, words)]))

    def __str__(self) -> str:
        return "".join(self._table(name) for name in BUILT_IN if name in self.own)

    def _table(self, table: str) -> str:
        own = sorted(chain for t, chain in self.chains if t == table)
        lines = [f"*{table}", *(f":{c} ACCEPT [0:0]" for c in BUILT_IN[table]), *(f":{c} - [0:0]" for c in own)]
        for chain, target, text, new in self.jumps.get(table, ()):
            state = "-m conntrack --ctstate NEW" if new else ""
            lines.append(" ".join(filter(None, (f"-A {chain}", state, text and comment(text), f"-j {target}"))))
        for chain in own:
            lines += self.chains[table, chain]
        return "\n".join([*lines, "COMMIT", ""])


def comment(text: str) -> str:
    """The match that says what a rule is for."""
    return f'-m comment --comment "{text}"'


def suffix(service: Service, port: ServicePort, endpoint: str = "") -> str:
    """The hash at the end of a chain's name; endpoint is `ip:port`."""
    text = f"{port_name(service, port)}{port.protocol.lower()}{endpoint}"
    return b32encode(sha256(text.encode()).digest()).decode()[:16]


def port_name(service: Service, port: ServicePort) -> str:
    """`namespace/service:port`, as comments and hashes have it."""
    return f"{service.full_name}:{port.name}" if port.name else service.full_name


def probability(left: int) -> str:
    """1/left as iptables-save prints it: written with ten decimals, kept as a fraction of 2^31 (libxt_statistic.c)."""
    return f"{round(float(f'{1 / left:.10f}') * (1 << 31)) / (1 << 31):.11f}"


def keep_localnet_in(rules: Rules) -> None:
    """KUBE-FIREWALL, which is kubelet's: nobody outside comes to 127.0.0.0/8."""
    rules.add("filter", "KUBE-FIREWALL", f"! -s {LOOPBACK} -d {LOOPBACK}",
              comment("block incoming localnet connections"),
              "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT", "-j DROP")  # fmt: skip


def forward_marked(rules: Rules, proxy: KubeProxy) -> None:
    """KUBE-FORWARD: marked packets pass, and what follows from them."""
    rules.add("filter", "KUBE-FORWARD", comment("kubernetes forwarding rules"),
              f"-m mark --mark {proxy.mark}/{proxy.mark} -j ACCEPT")  # fmt: skip
    rules.add("filter", "KUBE-FORWARD", comment("kubernetes forwarding conntrack rule"),
              "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")  # fmt: skip


def masquerade_marked(rules: Rules, proxy: KubeProxy) -> None:
    """KUBE-MARK-MASQ sets the mark, KUBE-POSTROUTING takes it off and masquerades."""
    mark = f"{proxy.mark}/{proxy.mark}"
    rules.add("nat", "KUBE-MARK-MASQ", f"-j MARK --set-xmark {mark}")
    rules.add("nat", "KUBE-POSTROUTING", f"-m mark ! --mark {mark} -j RETURN")
    rules.add("nat", "KUBE-POSTROUTING", f"-j MARK --set-xmark {proxy.mark}/0x0")
    rules.add("nat", "KUBE-POSTROUTING", comment("kubernetes service traffic requiring SNAT"),
              "-j MASQUERADE", "--random-fully" if proxy.random_fully else "")  # fmt: skip


def _frame(rules: Rules, proxy: KubeProxy, node: ProxiedNode) -> None:
    """What does not depend on services, and what comes last in KUBE-SERVICES."""
    keep_localnet_in(rules)
    rules.add("filter", "KUBE-FORWARD", "-m conntrack --ctstate INVALID -j DROP")
    forward_marked(rules, proxy)
    masquerade_marked(rules, proxy)
    last = comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
    if proxy.node_port_addresses:
        for addr in node_port_addrs(proxy, node):
            rules.add("nat", "KUBE-SERVICES", f"-d {addr}/32", last, "-j KUBE-NODEPORTS")
    else:
        outside = "" if proxy.localhost_node_ports else f"! -d {LOOPBACK}"
        rules.add("nat", "KUBE-SERVICES", outside, last, "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS")


def node_port_addrs(proxy: KubeProxy, node: ProxiedNode) -> Iterator[IPv4]:
    """The node's addresses in the networks asked for; those of IPv6 networks are another proxy's."""
    networks = [Prefix.parse(text) for text in proxy.node_port_addresses if ":" not in text]
    loopback = Prefix.parse(LOOPBACK)
    for addr in node.addrs:
        if any(addr in net for net in networks) and (proxy.localhost_node_ports or addr not in loopback):
            yield addr


class _PortRules:
    """The rules of one port of a service on one node."""

    def __init__(self, rules: Rules, proxy: KubeProxy, node: ProxiedNode, service: Service, port: ServicePort) -> None:
        self.rules, self.proxy, self.node, self.service, self.port = rules, proxy, node, service, port
        self.name = port_name(service, port)
        self.proto = port.protocol.lower()
        name = suffix(service, port)
        self.svc, self.svl, self.ext, self.fw = (f"KUBE-{kind}-{name}" for kind in ("SVC", "SVL", "EXT", "FW"))
        self.cluster, self.local, self.outside, self.any = reachable(node, service, port)

    def write(self) -> None:
        self._inside()
        if self.outside:
            self._outside()
        if self.service.health_check_node_port and self.service.external_local:
            self._filter("KUBE-NODEPORTS", "", self.service.health_check_node_port, "health check node port",
                         "-j ACCEPT", proto="tcp")  # fmt: skip
        if self.cluster:
            self._balance(self.svc, self.cluster)
        if self.local:
            self._balance(self.svl, self.local)
        for endpoint in {self._at(e): e for e in (*self.cluster, *self.local)}.values():
            self._endpoint(endpoint)

    def _inside(self) -> None:
        """The cluster IP."""
        chain, endpoints = (self.svl, self.local) if self.service.internal_local else (self.svc, self.cluster)
        address = f"-d {self.service.cluster_ip}/32"
        if not endpoints:
            self._filter("KUBE-SERVICES", address, self.port.port, *self._refusal)
            return
        self._nat("KUBE-SERVICES", address, self.port.port, "cluster IP", f"-j {chain}")
        if self.proxy.masquerade_all:
            self._nat(chain, address, self.port.port, "cluster IP", "-j KUBE-MARK-MASQ")
        elif self.node.detector.startswith("-s"):
            self._nat(chain, f"! {self.node.detector} {address}", self.port.port, "cluster IP", "-j KUBE-MARK-MASQ")
        elif self.node.detector:
            self._nat(chain, f"{address} ! {self.node.detector}", self.port.port, "cluster IP", "-j KUBE-MARK-MASQ")

    def _outside(self) -> None:
        """External IPs, load balancers' IPs and the node port."""
        service = self.service
        guarded = bool(self.any and service.load_balancer_ips and service.load_balancer_source_ranges)
        ways = [(ip, "external IP", self.ext) for ip in service.external_ips]
        ways += [(ip, "loadbalancer IP", self.fw if guarded else self.ext) for ip in service.load_balancer_ips]
        if self.any:
            for ip, what, chain in ways:
                self._nat("KUBE-SERVICES", f"-d {ip}/32", self.port.port, what, f"-j {chain}")
            if self.port.node_port:
                self._nat("KUBE-NODEPORTS", "", self.port.node_port, "", f"-j {self.ext}")
            self._external()
        if guarded:
            self._firewall()
        if not self.any or (service.external_local and not self.local):
            for ip, _, _ in ways:
                self._filter("KUBE-EXTERNAL-SERVICES", f"-d {ip}/32", self.port.port, *self._refusal)
            if self.port.node_port:
                what, target = self._refusal
                self._filter("KUBE-EXTERNAL-SERVICES", "", self.port.node_port, what, target,
                             match="-m addrtype --dst-type LOCAL")  # fmt: skip

    @property
    def _refusal(self) -> tuple[str, str]:
        """Comment and target for traffic that no endpoint is there for: without any, or without one of the node's."""
        if self.any:
            return "has no local endpoints", "-j DROP"
        return "has no endpoints", "-j REJECT --reject-with icmp-port-unreachable"

    def _external(self) -> None:
        """KUBE-EXT: from outside, so masqueraded; under the policy Local the client's address is kept."""
        to = f"{self.name} external destinations"
        if not self.service.external_local:
            self.rules.add("nat", self.ext, comment(f"masquerade traffic for {to}"), "-j KUBE-MARK-MASQ")
            self.rules.add("nat", self.ext, f"-j {self.svc}")
            return
        if self.node.detector:
            self.rules.add("nat", self.ext, self.node.detector, comment(f"pod traffic for {to}"), f"-j {self.svc}")
        own = "-m addrtype --src-type LOCAL"
        self.rules.add("nat", self.ext, comment(f"masquerade LOCAL traffic for {to}"), own, "-j KUBE-MARK-MASQ")
        self.rules.add("nat", self.ext, comment(f"route LOCAL traffic for {to}"), own, f"-j {self.svc}")
        if self.local:
            self.rules.add("nat", self.ext, f"-j {self.svl}")

    def _firewall(self) -> None:
        """KUBE-FW: who is in no source range comes back from it un-NATed, and the filter table drops that."""
        service, what = self.service, comment(f"{self.name} loadbalancer IP")
        for source in service.load_balancer_source_ranges:
            self.rules.add("nat", self.fw, f"-s {Prefix.parse(source)}", what, f"-j {self.ext}")
        if any(self.node.ip in Prefix.parse(source) for source in service.load_balancer_source_ranges):
            for ip in service.load_balancer_ips:  # the node's own packets may come from the load balancer's address
                self.rules.add("nat", self.fw, f"-s {ip}/32", what, f"-j {self.ext}")
        self.rules.add("nat", self.fw, comment(f"other traffic to {self.name} will be dropped by KUBE-PROXY-FIREWALL"))
        for ip in service.load_balancer_ips:
            self._filter("KUBE-PROXY-FIREWALL", f"-d {ip}/32", self.port.port,
                         f"traffic not accepted by {self.fw}", "-j DROP")  # fmt: skip

    def _balance(self, chain: str, endpoints: Sequence[Endpoint]) -> None:
        """A client that was here before goes where it went; for others lots are drawn, fair among all endpoints."""
        ordered = sorted(endpoints, key=self._at)
        for endpoint in ordered if self.service.session_affinity == "ClientIP" else ():
            back = (f"-m recent --rcheck --seconds {self.service.session_affinity_timeout} --reap "
                    f"--name {self._sep(endpoint)} --mask 255.255.255.255 --rsource")  # fmt: skip
            self.rules.add("nat", chain, self._towards(endpoint), back, f"-j {self._sep(endpoint)}")
        for left, endpoint in zip(range(len(ordered), 0, -1), ordered, strict=True):
            lots = f"-m statistic --mode random --probability {probability(left)}" if left > 1 else ""
            self.rules.add("nat", chain, self._towards(endpoint), lots, f"-j {self._sep(endpoint)}")

    def _endpoint(self, endpoint: Endpoint) -> None:
        """KUBE-SEP: a pod that reaches itself must not see its own address as the client's; then the rewrite."""
        sep, what = self._sep(endpoint), comment(self.name)
        known = self.service.session_affinity == "ClientIP"
        self.rules.add("nat", sep, f"-s {endpoint.ip}/32", what, "-j KUBE-MARK-MASQ")
        self.rules.add("nat", sep, f"-p {self.proto}", what,
                       f"-m recent --set --name {sep} --mask 255.255.255.255 --rsource" if known else "",
                       f"-m {self.proto} -j DNAT --to-destination {self._at(endpoint)}")  # fmt: skip

    def _at(self, endpoint: Endpoint) -> str:
        return f"{endpoint.ip}:{self.port.target}"

    def _sep(self, endpoint: Endpoint) -> str:
        return f"KUBE-SEP-{suffix(self.service, self.port, self._at(endpoint))}"

    def _towards(self, endpoint: Endpoint) -> str:
        return comment(f"{self.name} -> {self._at(endpoint)}")

    def _nat(self, chain: str, address: str, port: int, what: str, target: str) -> None:
        self._rule("nat", chain, address, port, what, target)

    def _filter(self, chain: str, address: str, port: int, what: str, target: str, *, match: str = "",
                proto: str = "") -> None:  # fmt: skip
        self._rule("filter", chain, address, port, what, target, match=match, proto=proto)

    def _rule(self, table: str, chain: str, address: str, port: int, what: str, target: str, *, match: str = "",
              proto: str = "") -> None:  # fmt: skip
        """A rule for one address and port of the service."""
        proto = proto or self.proto
        text = comment(f"{self.name} {what}".rstrip())
        self.rules.add(table, chain, address, f"-p {proto}", text, match, f"-m {proto} --dport {port}", target)
