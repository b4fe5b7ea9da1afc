"""kube-proxy in nftables mode: the table it keeps on a node, as `nft list table ip kube-proxy` prints it.

A packet to a service is found by one look-up of address, protocol and port in a map (service-ips, service-nodeports),
which leads to a chain for the port; there a number is drawn that leads to an endpoint's chain. What must not get that
far is found in maps of the same kind, before DNAT (firewall-ips) or after it (no-endpoint-services). Names, order and
comments are those of pkg/proxy/nftables.
"""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Iterable, Sequence
from hashlib import sha256

from packetwalk.addr import IPv4, Prefix
from packetwalk.kube.kubeproxy import LOOPBACK, KubeProxy, ProxiedNode, node_port_addrs, port_name, reachable
from packetwalk.kube.service import Endpoint, Service, ServicePort

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
NAME_LENGTH = 240
PORT = "inet_proto . inet_service"
MAPS = {
    "firewall-ips": (f"ipv4_addr . {PORT}", "destinations that are subject to LoadBalancerSourceRanges"),
    "no-endpoint-nodeports": (PORT, "vmap to drop or reject packets to service nodeports with no endpoints"),
    "no-endpoint-services": (f"ipv4_addr . {PORT}", "vmap to drop or reject packets to services with no endpoints"),
    "service-ips": (f"ipv4_addr . {PORT}", "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
    "service-nodeports": (PORT, "NodePort traffic"),
}
"""The verdict maps, what their keys are made of, and their comments."""

BASES = {
    "filter-prerouting-pre-dnat": "filter hook prerouting priority dstnat - 10",
    "filter-output-pre-dnat": "filter hook output priority -110",
    "filter-forward": "filter hook forward priority filter",
    "filter-input": "filter hook input priority filter",
    "filter-output": "filter hook output priority filter",
    "nat-output": "nat hook output priority -100",
    "nat-postrouting": "nat hook postrouting priority srcnat",
    "nat-prerouting": "nat hook prerouting priority dstnat",
}
"""The base chains; nft has names for some priorities, not at every hook."""

SERVICE = "ip daddr . meta l4proto . th dport vmap"
NEW = "ct state new jump"


def nftables(proxy: KubeProxy, node: ProxiedNode, services: Iterable[Service], service_cidr: str = "") -> str:
    """nft's text of all that kube-proxy writes on a node for services whose addresses are filled in.

    service_cidr: the range cluster IPs come from; addresses of it that no service has are then dropped.
    """
    table = _Table(proxy, node)
    for service in services:
        if not service.headless:
            table.addresses.add(IPv4(service.cluster_ip))
            for port in service.ports:
                _Port(table, service, port).write()
    _frame(table, service_cidr)
    return str(table)


def distinction(node: ProxiedNode, services: Iterable[Service]) -> tuple[str, ...]:
    """What of a node its table depends on, but for the addresses of node ports: nodes for which that is the same have
    the same table."""
    found = list(services)
    local = any(s.internal_local or s.external_local for s in found)
    near = any(e.zones for s in found for e in s.endpoints)
    ranged = any(s.load_balancer_source_ranges for s in found)
    return node.detector, node.name if local else "", node.zone if near else "", str(node.ip) if ranged else ""


def node_ports(proxy: KubeProxy, node: ProxiedNode) -> str:
    """The table with nothing but its set of addresses that serve node ports, if it has one."""
    return _listed(_Table(proxy, node).node_port_set())


class _Table:
    """What is written so far: elements of sets and maps by their numbers (as nft sorts them), rules by chain."""

    def __init__(self, proxy: KubeProxy, node: ProxiedNode) -> None:
        self.proxy, self.node = proxy, node
        self.addresses: set[IPv4] = set()
        self.affinities: dict[str, int] = {}
        self.maps: dict[str, dict[bytes, str]] = {name: {} for name in MAPS}
        self.chains: dict[str, list[str]] = {}

    def element(self, name: str, addr: str, proto: str, port: int, verdict: str, comment: str = "") -> None:
        """An element of a map. addr: "" for a map of ports."""
        key = bytes([PROTOCOLS[proto]]) + port.to_bytes(2, "big")
        text = f"{proto} . {port}"
        if addr:
            key, text = IPv4(addr).to_bytes(4, "big") + key, f"{addr} . {text}"
        note = f' comment "{comment}"' if comment else ""
        self.maps[name][key[::-1]] = f"{text}{note} : {verdict}"  # concat_expr_msort_value: the last byte counts most

    def add(self, chain: str, *words: str) -> None:
        """Append a rule; empty words are left out."""
        self.chains.setdefault(chain, []).append(" ".join(filter(None, words)))

    @property
    def everywhere(self) -> bool:
        """Whether node ports are served on all addresses."""
        return any(text == "0.0.0.0/0" for text in self.proxy.node_port_addresses)

    def __str__(self) -> str:
        blocks = [_set("cluster-ips", "Active ClusterIPs", sorted(self.addresses))]
        blocks += self.node_port_set()
        for name, seconds in self.affinities.items():
            lines = ["type ipv4_addr", "size 65535", "flags dynamic,timeout", f"timeout {_time(seconds)}"]
            blocks.append(_block(f"set {name}", lines))
        for name, (keys, text) in MAPS.items():
            lines = [f"type {keys} : verdict", f'comment "{text}"']
            found = [text for _, text in sorted(self.maps[name].items())]
            blocks.append(_block(f"map {name}", [*lines, *_elements(found, 1)]))
        for chain, rules in self.chains.items():
            head = [f"type {BASES[chain]}; policy accept;"] if chain in BASES else []
            blocks.append(_block(f"chain {chain}", [*head, *rules]))
        return _listed(blocks)

    def node_port_set(self) -> list[str]:
        """The set of addresses that serve node ports, unless all do."""
        comment = "IPs that accept NodePort traffic"
        return [] if self.everywhere else [_set("nodeport-ips", comment, self._node_port_ips())]

    def _node_port_ips(self) -> list[IPv4]:
        """Of the networks asked for, else the node's own address; never of localhost."""
        if not self.proxy.node_port_addresses:
            return [self.node.ip]
        return sorted(a for a in node_port_addrs(self.proxy, self.node) if a not in Prefix.parse(LOOPBACK))


def _listed(blocks: Iterable[str]) -> str:
    return 'table ip kube-proxy {\n\tcomment "rules for kube-proxy"\n' + "\n\n".join(blocks) + "\n}\n"


def _block(head: str, lines: Iterable[str]) -> str:
    return "\n".join([f"\t{head} {{", *(f"\t\t{line}" for line in lines), "\t}"])


def _set(name: str, comment: str, addrs: Iterable[IPv4]) -> str:
    return _block(f"set {name}", ["type ipv4_addr", f'comment "{comment}"', *_elements([*map(str, addrs)], 2)])


def _elements(texts: Sequence[str], wide: int) -> list[str]:
    """The elements, so many a line."""
    rows = [", ".join(texts[i : i + wide]) for i in range(0, len(texts), wide)]
    return ["elements = { " + ",\n\t\t\t     ".join(rows) + " }"] if rows else []


def _time(seconds: int) -> str:
    """A time as nft prints it: 10800 s are `3h`."""
    text = ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def chain_base(service: Service, port: ServicePort, endpoint: str = "") -> str:
    """What the names of a port's chains have after `service-`, `external-` and so on. endpoint: `ip/port`."""
    name = f"{service.full_name}/{port.protocol.lower()}/{port.name}" + (f"__{endpoint}" if endpoint else "")
    text = f"{b32encode(sha256(name.encode()).digest()).decode()[:8]}-{name}"
    return text if len(text) <= NAME_LENGTH else f"{text[: NAME_LENGTH - 3]}..."


def _frame(table: _Table, service_cidr: str) -> None:
    """What does not depend on services; it stands before what does."""
    mark = f"0x{1 << table.proxy.masquerade_bit:08x}"
    ours, table.chains = table.chains, {}
    add = table.add
    at_node = ("fib daddr type local", f"ip daddr != {LOOPBACK}") if table.everywhere else ("ip daddr @nodeport-ips",)
    add("cluster-ips-check", 'ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"')
    if service_cidr:
        add("cluster-ips-check", f'ip daddr {service_cidr} drop comment "Drop traffic to unallocated ClusterIPs"')
    for chain in ("filter-prerouting-pre-dnat", "filter-output-pre-dnat"):
        add(chain, NEW, "firewall-check")
    for chain, first in (("filter-forward", ""), ("filter-input", "nodeport-endpoints-check"), ("filter-output", "")):
        if first:
            add(chain, NEW, first)
        add(chain, NEW, "service-endpoints-check")
        if not first:
            add(chain, NEW, "cluster-ips-check")
    add("firewall-check", SERVICE, "@firewall-ips")
    add("mark-for-masquerade", f"meta mark set meta mark | {mark}")
    add("masquerading", f"meta mark & {mark} == 0x00000000 return")
    add("masquerading", f"meta mark set meta mark ^ {mark}")
    add("masquerading", "masquerade", "fully-random" if table.proxy.random_fully else "")
    add("nat-output", "jump services")
    add("nat-postrouting", "jump masquerading")
    add("nat-prerouting", "jump services")
    add("nodeport-endpoints-check", *at_node, "meta l4proto . th dport vmap @no-endpoint-nodeports")
    add("reject-chain", 'comment "helper for @no-endpoint-services / @no-endpoint-nodeports"')
    add("reject-chain", "reject")
    add("services", SERVICE, "@service-ips")
    add("services", *at_node, "meta l4proto . th dport vmap @service-nodeports")
    add("service-endpoints-check", SERVICE, "@no-endpoint-services")
    table.chains.update(ours)


class _Port:
    """What is written for one port of a service on one node."""

    def __init__(self, table: _Table, service: Service, port: ServicePort) -> None:
        self.table, self.service, self.port = table, service, port
        self.proto = port.protocol.lower()
        base = chain_base(service, port)
        self.svc, self.svl, self.ext, self.fw = (f"{k}-{base}" for k in ("service", "local", "external", "firewall"))
        self.reach = reachable(table.node, service, port)
        self.sticky = service.session_affinity == "ClientIP"

    def write(self) -> None:
        reach = self.reach
        self._inside()
        if reach.outside:
            self._outside()
        if reach.cluster:
            self._balance(self.svc, reach.cluster)
        if reach.local:
            self._balance(self.svl, reach.local)
        if reach.outside and reach.any:
            self._external()
        for endpoint in {self._at(e): e for e in (*reach.cluster, *reach.local)}.values():
            self._endpoint(endpoint)
        if self.service.load_balancer_ips and self.service.load_balancer_source_ranges:
            self._firewall()

    @property
    def _refusal(self) -> str:
        """The verdict for traffic that no endpoint is there for: without any, or without one of the node's."""
        return "drop" if self.reach.any else "goto reject-chain"

    def _map(self, name: str, addr: str, verdict: str, comment: str = "") -> None:
        port = self.port.port if addr else self.port.node_port
        self.table.element(name, addr, self.proto, port, verdict, comment)

    def _refuse(self, addr: str) -> None:
        name = "no-endpoint-services" if addr else "no-endpoint-nodeports"
        self._map(name, addr, self._refusal, port_name(self.service, self.port))

    def _inside(self) -> None:
        """The cluster IP."""
        local = self.service.internal_local
        chain, endpoints = (self.svl, self.reach.local) if local else (self.svc, self.reach.cluster)
        addr = self.service.cluster_ip
        if not endpoints:
            self._refuse(addr)
            return
        self._map("service-ips", addr, f"goto {chain}")
        if self.table.proxy.masquerade_all:
            self.table.add(chain, f"ip daddr {addr} jump mark-for-masquerade")
        elif self.table.node.detector:
            self.table.add(chain, f"ip daddr {addr}", _detected(self.table.node.detector, "!= "),
                           "jump mark-for-masquerade")  # fmt: skip

    def _outside(self) -> None:
        """External IPs, load balancers' IPs and the node port; of these the balancers' are guarded by source ranges."""
        service = self.service
        addrs = [*service.external_ips, *service.load_balancer_ips, *([""] if self.port.node_port else [])]
        for addr in addrs:
            if self.reach.any:
                self._map("service-ips" if addr else "service-nodeports", addr, f"goto {self.ext}")
            if not self.reach.any or (service.external_local and not self.reach.local):
                self._refuse(addr)
        if service.load_balancer_source_ranges:
            for addr in service.load_balancer_ips:
                self._map("firewall-ips", addr, f"goto {self.fw}")

    def _external(self) -> None:
        """From outside, so masqueraded; under the policy Local the client's address is kept."""
        add = self.table.add
        if not self.service.external_local:
            add(self.ext, "jump mark-for-masquerade")
            add(self.ext, f"goto {self.svc}")
            return
        if self.table.node.detector:
            add(self.ext, _detected(self.table.node.detector), f'goto {self.svc} comment "short-circuit pod traffic"')
        add(self.ext, 'fib saddr type local jump mark-for-masquerade comment "masquerade local traffic"')
        add(self.ext, f'fib saddr type local goto {self.svc} comment "short-circuit local traffic"')
        if self.reach.local:
            add(self.ext, f"goto {self.svl}")

    def _firewall(self) -> None:
        """Who is in no source range; the node's own packets may come from the load balancer's address."""
        ranges = [Prefix.parse(text) for text in self.service.load_balancer_source_ranges]
        allowed = set(ranges)
        if any(self.table.node.ip in one for one in ranges):
            allowed |= {Prefix.parse(ip) for ip in self.service.load_balancer_ips}
        texts = [str(one).removesuffix("/32") for one in sorted(allowed)]
        sources = texts[0] if len(texts) == 1 else "{ " + ", ".join(texts) + " }"
        self.table.add(self.fw, f"ip saddr != {sources} drop")

    def _balance(self, chain: str, endpoints: Sequence[Endpoint]) -> None:
        """A client that was here before goes where it went; for others a number is drawn."""
        ordered = sorted(endpoints, key=self._at)
        for endpoint in ordered if self.sticky else ():
            base = self._base(endpoint)
            self.table.affinities[f"affinity-{base}"] = self.service.session_affinity_timeout
            self.table.add(chain, f"ip saddr @affinity-{base} goto endpoint-{base}")
        lots = ", ".join(f"{i} : goto endpoint-{self._base(endpoint)}" for i, endpoint in enumerate(ordered))
        self.table.add(chain, f"numgen random mod {len(ordered)} vmap {{ {lots} }}")

    def _endpoint(self, endpoint: Endpoint) -> None:
        """A pod that reaches itself must not see its own address as the client's; then the rewrite."""
        chain = f"endpoint-{self._base(endpoint)}"
        self.table.add(chain, f"ip saddr {endpoint.ip} jump mark-for-masquerade")
        if self.sticky:
            self.table.add(chain, f"update @affinity-{self._base(endpoint)} {{ ip saddr }}")
        self.table.add(chain, f"meta l4proto {self.proto} dnat to {endpoint.ip}:{self.port.target}")

    def _at(self, endpoint: Endpoint) -> str:
        return f"{endpoint.ip}:{self.port.target}"

    def _base(self, endpoint: Endpoint) -> str:
        return chain_base(self.service, self.port, f"{endpoint.ip}/{self.port.target}")


def _detected(detector: str, sign: str = "") -> str:
    """iptables' match for a pod of this cluster, in the words of nft."""
    way, _, what = detector.partition(" ")
    if way == "-s":
        return f"ip saddr {sign}{what}"
    name = f"{what[:-1]}*" if what.endswith("+") else what
    return f'iifname {sign}"{name}"'
