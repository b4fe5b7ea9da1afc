"""The flows of kube-proxy's own packet tests, walked: where each goes, and whether it is masqueraded.

A node `test-node` has eth0 towards `outside`, a device towards the client where that is a pod, and one towards the room
that stands for every endpoint. The facts are in ../shared/data/kube-proxy/packet-flow-tests.json.
"""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from packetwalk.addr import IPv4, Mac
from packetwalk.engine.branches import walk_branches
from packetwalk.kube.kubeproxy import MODES, KubeProxy, iptables
from packetwalk.kube.kubeproxy_nft import nftables
from packetwalk.kube.service import Service
from packetwalk.netns.chooser import Scripted
from packetwalk.netns.device import Veth
from packetwalk.netns.hooks import Rewrite
from packetwalk.netns.namespace import Netns
from packetwalk.netns.netfilter import Ruleset
from packetwalk.netns.seen import Hit
from packetwalk.network import Network
from packetwalk.packet import PROTO_TCP, Ip, Tcp, ip_packet
from packetwalk.snapshot.iptables_save import read_iptables
from packetwalk.snapshot.nft_list import read_nft
from packetwalk.trace import Drop, Flow, Step
from tests.kube.proxied import DATA, NODE_ADDRS, node_of, service_of

FACTS = DATA / "packet-flow-tests.json"
GIVEN: dict[str, Any] = json.loads(FACTS.read_text(encoding="utf-8")) if FACTS.exists() else {"cases": []}
NODE, CLIENT, SERVERS, OUTSIDE = "test-node", "client", "servers", "outside"
pytestmark = pytest.mark.skipif(not GIVEN["cases"], reason="../shared/data/kube-proxy is not here")

FLOWS = [
    pytest.param(mode, case, flow, id=f"{mode}: {case['test']}: {case['name']}: {flow['name']}")
    for mode in MODES
    if mode != "ipvs"  # marks, refuses and chooses endpoints elsewhere
    for case in GIVEN["cases"]
    for flow in case["flows"]
]


def proxy_of(mode: str, config: dict[str, Any]) -> KubeProxy:
    detector = config.get("detectLocal", GIVEN["conventions"]["detectLocal"])
    return KubeProxy(
        mode=mode,
        masquerade_all=config.get("masqueradeAll", False),
        detect_local=detector.split()[0] if detector else "",
        localhost_node_ports=config.get("localhostNodePorts", True),
        node_port_addresses=tuple(config.get("nodePortAddresses") or ()),
    )


def rules_of(proxy: KubeProxy, services: list[Service]) -> Ruleset:
    conventions = GIVEN["conventions"]
    if proxy.mode == "iptables":
        return read_iptables(iptables(proxy, node_of(proxy, conventions), services))
    made = Ruleset()
    made.nft = read_nft(nftables(proxy, node_of(proxy, conventions), services, conventions["serviceCIDR"])).tables
    return made


def network_of(mode: str, case: dict[str, Any], client: str) -> Network:
    """The node under the case's services; its client, unless that is the node itself, has the address it sends from."""
    proxy = proxy_of(mode, case["config"])
    services = [service_of(s, case["endpoints"]) for s in case["services"]]
    network = Network(case["name"])
    node = network.add(Netns(NODE), "node")
    node.conntrack = True
    node.sysctl("net.ipv4.ip_forward", 1)
    node.netfilter = rules_of(proxy, services)
    wire(network, "eth0", OUTSIDE, 1)
    for addr in NODE_ADDRS[:3]:
        node.addr_add("eth0", f"{addr}/24")
    outside = network[OUTSIDE]
    outside.addr_add("eth0", "192.168.0.1/24")
    node.route_add("default", via="192.168.0.1", dev="eth0")
    wire(network, "pods0", SERVERS, 2)
    node.addr_add("pods0", "10.255.0.1/8")
    endpoints = {e.ip for s in services for e in s.endpoints}
    for ip in endpoints - {client}:
        network[SERVERS].addr_add("eth0", f"{ip}/8")
    network[SERVERS].route_add("default", via="10.255.0.1", dev="eth0", onlink=True)
    if client.startswith("10."):
        wire(network, "pod0", CLIENT, 3)
        node.route_add(f"{client}/32", dev="pod0")
        network[CLIENT].addr_add("eth0", f"{client}/32")
        network[CLIENT].route_add("default", via="10.255.0.1", dev="eth0", onlink=True)
    elif client not in NODE_ADDRS:
        outside.addr_add("eth0", f"{client}/32")
        outside.route_add("default", via=NODE_ADDRS[0], dev="eth0")
    for port in {p.target for s in services for p in s.ports}:
        for room in network:
            if room.name in (SERVERS, CLIENT):
                room.listen(port, protos=("udp", "tcp", "sctp"))
    for key, value in proxy.sysctls.items():
        node.sysctl(key, value)
    return network


def wire(network: Network, dev: str, room: str, number: int) -> None:
    """A device of the node and the room at its other end."""
    network.add(Netns(room))
    network[NODE].link_add(dev, Veth(mac=Mac(0x020000000000 + number)))
    network[room].link_add("eth0", Veth(mac=Mac(0x020000000100 + number)))
    network.connect((NODE, dev), (room, "eth0"))


def steps_of(mode: str, case: dict[str, Any], flow: dict[str, Any]) -> list[list[Step]]:
    """What the node does with the first packet, once for each draw."""
    src, dst = flow["src"], IPv4(flow["dst"])
    network = network_of(mode, case, src)
    room = NODE if src in NODE_ADDRS else CLIENT if src.startswith("10.") else OUTSIDE
    if src == flow["dst"] and room == OUTSIDE:  # who has the destination's address cannot send to it, only claim it
        node = network[NODE].overlay()
        node.chooser = Scripted()
        packet = ip_packet(Ip(IPv4(src), dst, PROTO_TCP, 0, 64), Tcp(40000, flow["dport"], "S"))
        return [node.receive("eth0", packet, 0)]
    asked = Flow(flow["protocol"].lower(), room, dst, flow["dport"], bind=IPv4(src))
    found = []
    for branch in walk_branches(network, asked):
        visits = [hop for hop in branch.trace if hop.room == NODE]
        found.append(visits[0].steps)
    return found


def outcome(steps: Iterable[Step]) -> tuple[str, bool]:
    """REJECT, DROP, ACCEPT, the endpoint, or nothing; and whether the packet was marked for masquerading."""
    end, masked = "", False
    for step in steps:
        what = step.what
        if isinstance(what, Hit) and what.rule.target is not None:
            name = what.rule.target.name
            masked |= what.chain in ("KUBE-MARK-MASQ", "mark-for-masquerade")
            if what.chain == "KUBE-NODEPORTS" and name == "ACCEPT":
                end = "ACCEPT"
        if isinstance(what, Rewrite) and what.side == "dst" and what.by is not None:
            end = f"{what.conn.reply.src}:{what.conn.reply.sport}"
        if isinstance(what, Drop) and isinstance(what.by, Hit):
            assert what.by.chain.startswith("KUBE-") or what.by.table == "ip kube-proxy"
            end = what.by.rule.target.name if what.by.rule.target is not None else "DROP"  # by the verdict of a map
    return end, masked


def expected(mode: str, case: dict[str, Any], flow: dict[str, Any]) -> tuple[str, bool]:
    """What comes of a flow. nftables mode serves node ports at the node's first address unless told, none on localhost;
    it lets health checks be, and refuses what a cluster IP has no port for."""
    if mode == "nftables":
        elsewhere = flow["dst"] == NODE_ADDRS[1] and not case["config"].get("nodePortAddresses")
        if flow["src"] == "127.0.0.1" or elsewhere or flow["output"] == "ACCEPT":
            return "", False
        if not flow["output"] and flow["dst"] in {s["clusterIP"] for s in case["services"]}:
            return "REJECT", False
    return flow["output"], flow["masquerade"]


@pytest.mark.parametrize(("mode", "case", "flow"), FLOWS)
def test_flow(mode: str, case: dict[str, Any], flow: dict[str, Any]) -> None:
    output, masquerade = expected(mode, case, flow)
    found = [outcome(steps) for steps in steps_of(mode, case, flow)]
    assert sorted({end for end, _ in found}) == sorted(output.split(", "))
    assert {masked for _, masked in found} == {masquerade}
