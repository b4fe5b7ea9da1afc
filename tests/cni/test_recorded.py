"""The tables our CNIs write against those that were recorded: each set-up is built with `Cluster` and compared fact by
fact. Every difference is listed below with the reason why it is one; a reason that explains nothing fails, too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from packetwalk.cni import Calico, Cni, Flannel, FlatBridge, Geneve
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, Node, Pod, Rack
from packetwalk.kube.kubeproxy import KubeProxy
from packetwalk.kube.service import Endpoint, Service, ServicePort
from packetwalk.netns.device import Bridge, Device, Tunnel, Veth
from packetwalk.netns.namespace import Netns
from packetwalk.network import Network
from packetwalk.snapshot import load_snapshot


class Case(NamedTuple):
    """A recorded set-up: our CNI, how many nodes and racks, what its fabric's rooms are called there, kube-proxy."""

    cni: Cni
    nodes: int = 2
    racks: int = 1
    range: str = "/26"
    proxy: KubeProxy = KubeProxy()


CASES = {
    "S1-bridge-same-node": Case(FlatBridge(hairpin=True), nodes=1, range="/24"),
    "S2-flannel-hostgw": Case(Flannel("host-gw"), range="/24"),
    "S3-flannel-vxlan": Case(Flannel("vxlan"), range="/24"),
    "S4-calico-bgp": Case(Calico("none")),
    "S4b-calico-bgp-two-subnets": Case(Calico("none", peer_fabric=True), racks=2),
    "S5-calico-ipip": Case(Calico("ipip")),
    "S6b-calico-vxlan-crosssubnet": Case(Calico("vxlan", cross_subnet=True), nodes=3, racks=2),
    "X3-geneve-p2p": Case(Geneve(mtu=1500)),
    "S9-clusterip-flannel-vxlan": Case(Flannel("vxlan"), range="/24"),
    "S9-clusterip-calico-ipip": Case(Calico("ipip")),
    "S10-hairpin-flannel-vxlan": Case(Flannel("vxlan"), range="/24"),
    "S10-hairpin-calico-bgp": Case(Calico("none")),
    "S11-nodeport-flannel-vxlan": Case(Flannel("vxlan"), range="/24"),
    "S11-nodeport-calico-ipip": Case(Calico("ipip")),
    "S12-egress-flannel-vxlan": Case(Flannel("vxlan"), range="/24"),
    "S12-egress-calico-bgp": Case(Calico("none")),
    "S15-fail-flannel-vxlan": Case(Flannel("vxlan"), range="/24"),
    "X2-ipvs-flannel-vxlan": Case(Flannel("vxlan"), range="/24", proxy=KubeProxy(mode="ipvs", strict_arp=True)),
}
THEIRS = {"fabric": "fab", "tor-1": "fab", "tor-2": "fab2", "router": "rtr", "out": "ext"}


class Reason(NamedTuple):
    """Why a fact may differ: set-ups and facts by pattern, the words in which it may, and why."""

    case: str
    fact: str
    words: str
    why: str


RANGE = r"n\d route main 10\.244\.\d\.0/26$"
FILTERS = r"KUBE-(FIREWALL|IPVS-FILTER|IPVS-OUT-FILTER|NODE-PORT|PROXY-FIREWALL|SOURCE-RANGES-FIREWALL)$"
NO_FILTERS = "the recorder wrote IPVS mode's filters not; with them a ping to a cluster IP is refused"
REASONS = [
    Reason(".", r"(n\d|rtr|ext) addr e", r"None|\d+\.\d+\.\d+\.255", "the recorder set no broadcast address"),
    Reason(r"S([45]|.*calico-(ipip|bgp))", RANGE, r" proto (80|bird)", "on 3.30 these blackholes are BIRD's"),
    Reason("S6b", RANGE, r" proto (80|bird)| onlink", "on 3.30: no protocol through the vxlan, else `proto 80 onlink`"),
    Reason("S6b", r"n[13] (neigh|vxlan fdb)", r".*", "Felix keeps entries for every VTEP, the own subnet's too"),
    Reason(r"S(4|1[02]-.*calico)", r"n\d set cali40all-hosts-net", r".*", "no tunnel, so no rule asks for them"),
    Reason("S6b", r"n\d set cali40all-(hosts|vxlan)-net", r".*", "VXLAN is let in by the set of hosts with a VTEP"),
    Reason("S6b", r"n\d chain filter cali-INPUT", r"cali40\S+", "VXLAN is let in by the set of hosts with a VTEP"),
    Reason(r"S(5|.*calico-ipip)", r"\w+(-\w+)? (link|conf) tunl0", r".*", "the recorder's kernel put one everywhere"),
    Reason(r"S(9|1[015])", r"n\d chain \w+ KUBE-PROXY-CANARY", "", "the recorder left the empty canaries out"),
    Reason(r"S(9|1[015]).*flannel", r"n\d chain mangle [A-Z]+$", "ACCEPT", "there is no table for a canary alone"),
    Reason(r"S(9|1[015]).*calico", r"n\d chain nat POSTROUTING", r"\s|-A.*", "Felix appends; the recorder inserted"),
    Reason("X2", r"n\d chain filter (INPUT|FORWARD|OUTPUT)", rf"(?m)\n-A \w+ .*-j {FILTERS}", NO_FILTERS),
    Reason("X2", rf"n\d chain filter {FILTERS}", r"(?s).*", NO_FILTERS),
    Reason("X2", r"n\d chain nat KUBE-SERVICES", r"\n.* -s 127\.0\.0\.0/8 -j RETURN", "an older kube-proxy has it not"),
    Reason("X2", r"n\d chain nat KUBE-LOAD-BALANCER", r"\n.*", "no service has a load balancer's address"),
    Reason("X2", r"n\d set KUBE-(?!IPVS-IPS)", "", "the recorder left empty sets out"),
    Reason("X2", r"n\d set KUBE-IPVS-IPS", r".*", NO_FILTERS),
    Reason(".", r"[\w-]+ sysctl net\.bridge\.", r"[01]", "br_netfilter has it on everywhere; only a node needs it"),
]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_our_tables_are_those_recorded(shared: Path, name: str) -> None:
    recorded = load_snapshot(shared / "recordings" / name)
    theirs = facts(recorded, {})
    setup = json.loads((shared / "recordings" / name / "recording.json").read_text(encoding="utf-8"))["setup"]
    ours = facts(build(cluster_of(CASES[name], recorded, services_of(setup))), THEIRS)
    reasons = [r for r in REASONS if re.match(r.case, name)]
    used: set[Reason] = set()
    unexplained = []
    for fact in sorted(ours.keys() | theirs.keys()):
        if ours.get(fact) == theirs.get(fact):
            continue
        one, other = ours.get(fact, ""), theirs.get(fact, "")
        reason = next((r for r in reasons if re.match(r.fact, fact) and alike(r, one, other)), None)
        used |= {reason} if reason else set()
        if reason is None:
            unexplained.append(f"{fact}\n    ours   {one}\n    theirs {other}")
    assert not unexplained, "\n" + "\n".join(unexplained)
    assert not {r.why for r in reasons} - {r.why for r in used}, "this explains nothing"


def alike(reason: Reason, ours: str, theirs: str) -> bool:
    """Whether nothing differs but the words that may."""
    return re.sub(reason.words, "", ours) == re.sub(reason.words, "", theirs)


def services_of(setup: dict[str, Any]) -> list[Service]:
    """The services of a set-up; an endpoint is [address, port, node]."""
    services = []
    for given in setup.get("services", ()):
        name, port = given["name"].split("/")[1].split(":")
        target = given["eps"][0][1] if given["eps"] else 0
        ports = (ServicePort(given["port"], port, given["proto"].upper(), target, given["nodePort"] or 0),)
        endpoints = tuple(Endpoint(ip, node) for ip, _, node in given["eps"])
        kind = "NodePort" if given["nodePort"] else "ClusterIP"
        services.append(Service(name, ports, endpoints, "default", kind, given["ip"],
                                external_traffic_policy=given["etp"]))  # fmt: skip
    return services


def cluster_of(case: Case, recorded: Network, services: list[Service]) -> Cluster:
    """The set-up as a user would write it; pods and their veths are called and addressed as they were there."""
    racks = [Rack(f"rack-{i + 1}", f"192.168.{56 + i}.0/24") for i in range(case.racks)]
    if case.racks == 1:
        racks = [Rack("rack-1", "192.168.56.0/24", switches=("fabric",))]
    nodes, pods = [], []
    for i in range(1, case.nodes + 1):
        rack = racks[1] if i == 2 and case.racks == 2 else racks[0]
        ip = f"{rack.subnet.rpartition('.')[0]}.{10 + i}"
        block = f"10.244.{i}.0{case.range}"
        nodes.append(Node(f"n{i}", ip, rack.name, pod_cidr=block, tunnel_ip=f"10.244.{i}.1"))
        for letter, number in (("a", 2), ("b", 3)):
            name = f"n{i}-{letter}"
            hostif = next(d.peer.name for d in recorded[name].devices.values() if isinstance(d, Veth) and d.peer)
            mac = str(recorded[name].device("eth0").mac)
            pods.append(Pod(name, f"n{i}", ip=f"10.244.{i}.{number}", mac=mac, hostif=hostif))
    return Cluster(nodes, case.cni, racks, pods=pods, services=services, kube_proxy=case.proxy)


# -- what is compared --------------------------------------------------------------------------------------------------


def facts(network: Network, names: dict[str, str]) -> dict[str, str]:
    """Everything the tables say, as {what: how}. An address of a device is written as whose it is."""
    owners: dict[int, str] = {}
    for room in network:
        for device in room.devices.values():
            owner = f"{names.get(room.name, room.name)}/{wording(device.name)}"
            owners[int(device.mac)] = "many" if int(device.mac) in owners else owner
    found = {}
    for room in network:
        name = names.get(room.name, room.name)
        for what, how in room_facts(room):
            found[f"{name} {wording(what)}"] = macs_named(how, owners)
    return found


def wording(text: str) -> str:
    """A port towards the router is called after it."""
    return text.replace("p-router", "p-rtr")


def macs_named(text: str, owners: dict[int, str]) -> str:
    pattern = r"\b([0-9a-f]{2}(:[0-9a-f]{2}){5})\b"
    return re.sub(pattern, lambda m: f"<{owners.get(int(m[1].replace(':', ''), 16), m[1])}>", text)


def room_facts(room: Netns) -> Iterator[tuple[str, str]]:
    for device in room.devices.values():
        yield f"link {device.name}", link(device)
        for addr in device.addrs:
            yield f"addr {device.name} {addr}", f"{addr.scope} {addr.broadcast} {addr.secondary}"
        conf = room.conf(device.name)
        on = {f: getattr(conf, f) for f in conf.__slots__ if getattr(conf, f)}
        yield f"conf {device.name}", " ".join(f"{key}={int(value)}" for key, value in on.items())
    tables = {254: "main", 255: "local"}
    for number, table in tables.items():
        for route in room.fib.routes(number):
            if route.type != "local" or route.dst.addr >> 24 != 127:
                yield f"route {table} {route.dst}", str(route)
    yield "rules", "; ".join(map(str, room.fib.rules))
    for entry in room.neighbours.all():
        yield f"neigh {entry.dst}", str(entry)
    for far in room.vxlan_fdb.all():
        yield f"vxlan fdb {far.dst}", wording(str(far))
    for own in room.bridge_fdb.entries.values():
        yield f"bridge fdb {own.dev}", wording(str(own))
    for table in room.netfilter.tables.values():
        for chain in table.chains.values():
            yield f"chain {table.name} {chain.name}", "\n".join([chain.policy, *map(str, chain.rules)])
    for one in room.netfilter.sets.values():
        yield f"set {one.name}", " ".join(sorted(entry.text for entry in one.entries.values()))
    for service in room.ipvs.services.values():
        yield f"ipvs {service.key.words}", "\n".join(service.saved)
    for key, value in {"net.ipv4.ip_forward": 0, **room.sysctls}.items():
        if not key.startswith(("net.netfilter.", "net.ipv4.vs.", "net.ipv4.icmp_")):
            yield f"sysctl {key}", str(value)


def link(device: Device) -> str:
    """What `ip -d link` says of a device, but for its number and its address."""
    words = [device.kind, f"mtu {device.mtu}", "up" if device.up else "down", f"master {device.master or '-'}"]
    if device.master:
        flags = ("hairpin", "learning", "flood", "bcast_flood", "isolated", "state")
        words += [f"{name} {getattr(device.port, name)}" for name in flags]
    if isinstance(device, Tunnel):
        fields = ("local", "remote", "link", "ttl", "ttl_inherit", "tos", "tos_inherit", "df", "vni", "dport",
                  "sport_range", "learning", "udp_csum")  # fmt: skip
        words += [f"{name} {getattr(device, name, '')}" for name in fields]
    if isinstance(device, Bridge):
        words.append(f"ageing {device.ageing} nf {device.nf_call_iptables}")
    return " ".join(words)
