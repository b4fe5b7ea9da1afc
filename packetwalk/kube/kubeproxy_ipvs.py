"""kube-proxy in IPVS mode: virtual services, the addresses on kube-ipvs0, IP sets, and a few rules that ask the sets.

Names, order and comments are those of a real node (pkg/proxy/ipvs). A service's addresses are the node's own, on the
device kube-ipvs0, so a packet to one comes to INPUT, where IPVS takes it. Rules only mark what is to be masqueraded,
drop who is in no source range, and keep the node's other ports from being reached by a service's address.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from packetwalk.addr import IPv4, Prefix
from packetwalk.kube.kubeproxy import (
    LOOPBACK,
    KubeProxy,
    ProxiedNode,
    Rules,
    comment,
    forward_marked,
    keep_localnet_in,
    masquerade_marked,
    node_port_addrs,
)
from packetwalk.kube.service import Endpoint, Service, ServicePort, usable
from packetwalk.netns.ipvs import RealServer, VirtualService
from packetwalk.netns.ipvs_conn import NAMES, Key

DEVICE = "kube-ipvs0"
PROTOCOLS = {name: number for number, name in NAMES.items()}
ADDRESS, PAIR, NETWORK, PORT = "hash:ip,port", "hash:ip,port,ip", "hash:ip,port,net", "bitmap:port"
OPTIONS = {PORT: "range 0-65535"}
HASH = "family inet hashsize 1024 maxelem 65536"
SETS = {
    "KUBE-LOOP-BACK": (PAIR, "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose"),
    "KUBE-CLUSTER-IP": (ADDRESS, "Kubernetes service cluster ip + port for masquerade purpose"),
    "KUBE-EXTERNAL-IP": (ADDRESS, "Kubernetes service external ip + port for masquerade and filter purpose"),
    "KUBE-EXTERNAL-IP-LOCAL": (ADDRESS, "Kubernetes service external ip + port with externalTrafficPolicy=local"),
    "KUBE-LOAD-BALANCER": (ADDRESS, "Kubernetes service lb portal"),
    "KUBE-LOAD-BALANCER-FW": (
        ADDRESS, "Kubernetes service load balancer ip + port for load balancer with sourceRange"),
    "KUBE-LOAD-BALANCER-LOCAL": (
        ADDRESS, "Kubernetes service load balancer ip + port with externalTrafficPolicy=local"),
    "KUBE-LOAD-BALANCER-SOURCE-IP": (
        PAIR, "Kubernetes service load balancer ip + port + source IP for packet filter purpose"),
    "KUBE-LOAD-BALANCER-SOURCE-CIDR": (
        NETWORK, "Kubernetes service load balancer ip + port + source cidr for packet filter purpose"),
    "KUBE-NODE-PORT-TCP": (PORT, "Kubernetes nodeport TCP port for masquerade purpose"),
    "KUBE-NODE-PORT-LOCAL-TCP": (PORT, "Kubernetes nodeport TCP port with externalTrafficPolicy=local"),
    "KUBE-NODE-PORT-UDP": (PORT, "Kubernetes nodeport UDP port for masquerade purpose"),
    "KUBE-NODE-PORT-LOCAL-UDP": (PORT, "Kubernetes nodeport UDP port with externalTrafficPolicy=local"),
    "KUBE-NODE-PORT-SCTP-HASH": (
        ADDRESS, "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'"),
    "KUBE-NODE-PORT-LOCAL-SCTP-HASH": (
        ADDRESS, "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'"),
    "KUBE-HEALTH-CHECK-NODE-PORT": (PORT, "Kubernetes health check node port"),
    "KUBE-IPVS-IPS": ("hash:ip", "Kubernetes IPVS service ips"),
}  # fmt: skip
"""The type of each set and the comment of the rules that ask it."""

ASKING = (
    ("nat", "KUBE-POSTROUTING", "KUBE-LOOP-BACK", "dst,dst,src", "MASQUERADE", ""),
    ("nat", "KUBE-SERVICES", "KUBE-LOAD-BALANCER", "dst,dst", "KUBE-LOAD-BALANCER", ""),
    ("nat", "KUBE-LOAD-BALANCER", "KUBE-LOAD-BALANCER-LOCAL", "dst,dst", "RETURN", ""),
    ("nat", "KUBE-NODE-PORT", "KUBE-NODE-PORT-LOCAL-TCP", "dst", "RETURN", "tcp"),
    ("nat", "KUBE-NODE-PORT", "KUBE-NODE-PORT-TCP", "dst", "KUBE-MARK-MASQ", "tcp"),
    ("nat", "KUBE-NODE-PORT", "KUBE-NODE-PORT-LOCAL-UDP", "dst", "RETURN", "udp"),
    ("nat", "KUBE-NODE-PORT", "KUBE-NODE-PORT-UDP", "dst", "KUBE-MARK-MASQ", "udp"),
    ("nat", "KUBE-NODE-PORT", "KUBE-NODE-PORT-LOCAL-SCTP-HASH", "dst,dst", "RETURN", "sctp"),
    ("nat", "KUBE-NODE-PORT", "KUBE-NODE-PORT-SCTP-HASH", "dst,dst", "KUBE-MARK-MASQ", "sctp"),
    ("filter", "KUBE-PROXY-FIREWALL", "KUBE-LOAD-BALANCER-FW", "dst,dst", "KUBE-SOURCE-RANGES-FIREWALL", ""),
    ("filter", "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-LOAD-BALANCER-SOURCE-CIDR", "dst,dst,src", "RETURN", ""),
    ("filter", "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-LOAD-BALANCER-SOURCE-IP", "dst,dst,src", "RETURN", ""),
)
"""Table, chain, set, what is compared with it, where that leads, protocol: rules that stand unless the set is empty."""

JUMPS = {
    "filter": (
        ("INPUT", "KUBE-IPVS-FILTER", "kubernetes ipvs access filter", False),
        ("INPUT", "KUBE-PROXY-FIREWALL", "kube-proxy firewall rules", False),
        ("INPUT", "KUBE-NODE-PORT", "kubernetes health check rules", False),
        ("INPUT", "KUBE-FIREWALL", "", False),
        ("FORWARD", "KUBE-PROXY-FIREWALL", "kube-proxy firewall rules", False),
        ("FORWARD", "KUBE-FORWARD", "kubernetes forwarding rules", False),
        ("OUTPUT", "KUBE-IPVS-OUT-FILTER", "kubernetes ipvs access filter", False),
        ("OUTPUT", "KUBE-FIREWALL", "", False),
    ),
    "nat": (
        ("PREROUTING", "KUBE-SERVICES", "kubernetes service portals", False),
        ("OUTPUT", "KUBE-SERVICES", "kubernetes service portals", False),
        ("POSTROUTING", "KUBE-POSTROUTING", "kubernetes postrouting rules", False),
    ),
}
OWN = {
    "filter": (
        "KUBE-FIREWALL", "KUBE-FORWARD", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER", "KUBE-NODE-PORT",
        "KUBE-PROXY-FIREWALL", "KUBE-SOURCE-RANGES-FIREWALL",
    ),
    "nat": ("KUBE-LOAD-BALANCER", "KUBE-MARK-MASQ", "KUBE-NODE-PORT", "KUBE-POSTROUTING", "KUBE-SERVICES"),
}  # fmt: skip


class Written(NamedTuple):
    """What kube-proxy writes on a node: iptables-save's text, that of `ipset save`, the virtual services, and the
    addresses of kube-ipvs0."""

    rules: str
    sets: str
    services: tuple[VirtualService, ...]
    addrs: tuple[IPv4, ...]


def ipvs(proxy: KubeProxy, node: ProxiedNode, services: Iterable[Service],
         known: dict[tuple[object, ...], VirtualService] | None = None) -> Written:  # fmt: skip
    """All that kube-proxy writes on a node for services whose addresses are filled in.

    known: virtual services that other nodes have already, which share what is equal.
    """
    tables = _Tables(proxy, node, {} if known is None else known)
    for service in services:
        if not service.headless:
            for port in service.ports:
                _Port(tables, service, port).write()
    addrs = tuple(tables.addrs)
    tables.sets["KUBE-IPVS-IPS"].update(dict.fromkeys(map(str, addrs)))
    return Written(str(tables.rules_of()), tables.sets_text(), tuple(tables.services.values()), addrs)


class _Tables:
    """What is written so far: the elements of each set, virtual services, addresses; each once, in order."""

    def __init__(self, proxy: KubeProxy, node: ProxiedNode, known: dict[tuple[object, ...], VirtualService]) -> None:
        self.proxy, self.node, self.known = proxy, node, known
        self.sets: dict[str, dict[str, None]] = {name: {} for name in SETS}
        self.services: dict[Key, VirtualService] = {}
        self.addrs: dict[IPv4, None] = {}
        self.closed: list[tuple[str, str, int]] = []
        loopback = Prefix.parse(LOOPBACK)
        self.node_ips = [addr for addr in node.addrs if addr not in loopback]
        self.node_port_ips = [addr for addr in node_port_addrs(proxy, node) if addr not in loopback] \
            if proxy.node_port_addresses else self.node_ips  # fmt: skip

    def sets_text(self) -> str:
        lines = []
        for name, elements in self.sets.items():
            kind = SETS[name][0]
            lines.append(f"create {name} {kind} {OPTIONS.get(kind, HASH)}")
            lines += [f"add {name} {element}" for element in elements]
        return "\n".join(lines) + "\n"

    def rules_of(self) -> Rules:
        """The rules, in the order of writeIptablesRules."""
        rules = Rules(OWN, JUMPS)
        rules.add("nat", "KUBE-SERVICES", f"-s {LOOPBACK} -j RETURN")
        for table, chain, name, what, target, proto in ASKING:
            if self.sets[name]:
                match = comment(SETS[name][1]), f"-m set --match-set {name} {what}"
                rules.add(table, chain, f"-p {proto}" if proto else "", *match, f"-j {target}")
        self._cluster_ips(rules)
        self._external_ips(rules)
        rules.add("nat", "KUBE-SERVICES", "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT")
        rules.add("nat", "KUBE-LOAD-BALANCER", "-j KUBE-MARK-MASQ")
        rules.add("filter", "KUBE-SOURCE-RANGES-FIREWALL", "-j DROP")
        for addr, proto, port in self.closed:  # a node's own packets come from the address they go to
            asked = f"-m ipvs --vproto {PROTOCOLS[proto]} --vaddr {addr} --vport {port}"
            rules.add("filter", "KUBE-IPVS-OUT-FILTER", f"-s {addr}/32", asked, "-j DROP")
        for name in ("KUBE-CLUSTER-IP", "KUBE-LOAD-BALANCER"):
            if self.sets[name]:
                rules.add("nat", "KUBE-SERVICES", f"-m set --match-set {name} dst,dst -j ACCEPT")
        self._filter(rules)
        masquerade_marked(rules, self.proxy)
        return rules

    def _cluster_ips(self, rules: Rules) -> None:
        """What no pod sends to a cluster IP is masqueraded; where nothing tells a pod, what comes from a cluster IP."""
        if not self.sets["KUBE-CLUSTER-IP"]:
            return
        text, detector = comment(SETS["KUBE-CLUSTER-IP"][1]), self.node.detector
        ends = "dst,dst" if self.proxy.masquerade_all or detector else "src,dst"
        outside = f"! {detector}" if detector and not self.proxy.masquerade_all else ""
        rules.add("nat", "KUBE-SERVICES", outside, text, f"-m set --match-set KUBE-CLUSTER-IP {ends}",
                  "-j KUBE-MARK-MASQ")  # fmt: skip

    def _external_ips(self, rules: Rules) -> None:
        """External IPs are for who comes from outside, and for who finds them on this node."""
        for name in ("KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL"):
            if self.sets[name]:
                match = f"{comment(SETS[name][1])} -m set --match-set {name} dst,dst"
                if name == "KUBE-EXTERNAL-IP":
                    rules.add("nat", "KUBE-SERVICES", match, "-j KUBE-MARK-MASQ")
                rules.add("nat", "KUBE-SERVICES", match,
                          "-m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT")  # fmt: skip
                rules.add("nat", "KUBE-SERVICES", match, "-m addrtype --dst-type LOCAL -j ACCEPT")

    def _filter(self, rules: Rules) -> None:
        """Marked packets and what follows from them pass; through a service's address nobody comes to other ports."""
        keep_localnet_in(rules)
        forward_marked(rules, self.proxy)
        health = "-m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst"
        rules.add("filter", "KUBE-NODE-PORT", comment(SETS["KUBE-HEALTH-CHECK-NODE-PORT"][1]), health, "-j ACCEPT")
        for name in ("KUBE-LOAD-BALANCER", "KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL"):
            rules.add("filter", "KUBE-IPVS-FILTER", f"-m set --match-set {name} dst,dst -j RETURN")
        rules.add("filter", "KUBE-IPVS-FILTER", health, "-j RETURN")
        rules.add("filter", "KUBE-IPVS-FILTER", "-m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst",
                  "-j REJECT --reject-with icmp-port-unreachable")  # fmt: skip


class _Port:
    """What is written for one port of a service on one node."""

    def __init__(self, tables: _Tables, service: Service, port: ServicePort) -> None:
        self.tables, self.service, self.port = tables, service, port
        self.proto = port.protocol.lower()

    def write(self) -> None:
        tables, service, port = self.tables, self.service, self.port
        for endpoint in service.endpoints:
            if endpoint.node == tables.node.name:
                self._element("KUBE-LOOP-BACK", endpoint.ip, port.target, endpoint.ip)
        self._element("KUBE-CLUSTER-IP", service.cluster_ip, port.port)
        self._serve(IPv4(service.cluster_ip), port.port, local=service.internal_local)
        local = "-LOCAL" if service.external_local else ""
        for ip in service.external_ips:
            self._element(f"KUBE-EXTERNAL-IP{local}", ip, port.port)
            self._serve(IPv4(ip), port.port, local=service.external_local)
        for ip in service.load_balancer_ips:
            self._element("KUBE-LOAD-BALANCER", ip, port.port)
            if local:
                self._element("KUBE-LOAD-BALANCER-LOCAL", ip, port.port)
            self._guard(ip)
            self._serve(IPv4(ip), port.port, local=service.external_local)
        if port.node_port and tables.node_port_ips:
            self._node_port(local)
        if service.health_check_node_port:
            tables.sets["KUBE-HEALTH-CHECK-NODE-PORT"][str(service.health_check_node_port)] = None

    def _node_port(self, local: str) -> None:
        tables, port = self.tables, self.port
        for kind in dict.fromkeys(("", local)):
            if port.protocol == "SCTP":
                for addr in tables.node_port_ips:
                    self._element(f"KUBE-NODE-PORT{kind}-SCTP-HASH", str(addr), port.node_port)
            else:
                tables.sets[f"KUBE-NODE-PORT{kind}-{port.protocol}"][str(port.node_port)] = None
        for addr in tables.node_port_ips:
            self._serve(addr, port.node_port, local=self.service.external_local)

    def _guard(self, ip: str) -> None:
        """Source ranges of a load balancer's address. Where none of them holds the node, its own packets are dropped
        by themselves: no set can tell them."""
        ranges = self.service.load_balancer_source_ranges
        if not ranges:
            return
        self._element("KUBE-LOAD-BALANCER-FW", ip, self.port.port)
        for source in ranges:
            self._element("KUBE-LOAD-BALANCER-SOURCE-CIDR", ip, self.port.port, str(Prefix.parse(source)))
        if any(self.tables.node.ip in Prefix.parse(source) for source in ranges):
            self._element("KUBE-LOAD-BALANCER-SOURCE-IP", ip, self.port.port, ip)
        else:
            self.tables.closed.append((ip, self.port.protocol, self.port.port))

    def _element(self, name: str, ip: str, port: int, other: str = "") -> None:
        self.tables.sets[name][f"{ip},{self.proto}:{port}{',' if other else ''}{other}"] = None

    def _serve(self, addr: IPv4, number: int, *, local: bool) -> None:
        """syncService, syncEndpoint: a virtual service, its address on kube-ipvs0 unless the node has it elsewhere."""
        tables, service, node = self.tables, self.service, self.tables.node
        key = Key(PROTOCOLS[self.port.protocol], addr, number)
        where = (key, node.name if local else "", node.zone)
        if where not in tables.known:
            sticky = service.session_affinity_timeout if service.session_affinity == "ClientIP" else 0
            servers = tuple(RealServer(IPv4(e.ip), self.port.target) for e in self._endpoints(local))
            tables.known[where] = VirtualService(key, tables.proxy.scheduler, servers, sticky)
        tables.services[key] = tables.known[where]
        if addr not in tables.node_ips:
            tables.addrs[addr] = None

    def _endpoints(self, local: bool) -> list[Endpoint]:
        """Under a policy Local the node's own; without any, all the same those of the cluster (unlike in iptables
        mode). Each address once, in the order of texts: a real kube-proxy adds them in no order."""
        found = usable(self.service, self.tables.node.name, self.tables.node.zone)
        chosen = found.local if local and found.local else found.cluster
        return sorted({e.ip: e for e in chosen}.values(), key=lambda e: f"{e.ip}:{self.port.target}")
