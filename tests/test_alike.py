"""Which pods are alike, and that a walk from one of them shows what walks from all of them do."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import packetwalk as pw
from packetwalk.alike import alike
from packetwalk.cni import MODES, parse
from packetwalk.engine.walk import address_of
from packetwalk.network import Network
from packetwalk.promises import ADDRESS, PODS, Case, Conformance, conformance
from packetwalk.snapshot.nft_list import read_nft

PODS_HERE = ("p1", "p2", "p3", "p4", "q1", "q2")


def cluster(mode: str) -> pw.Cluster:
    made = pw.Cluster(2, parse(mode))
    for name in PODS_HERE:
        made.pod(name, 1 if name[0] == "p" else 2, listen=80)
    return made


def network(mode: str = "flannel-vxlan", *lines: str) -> Network:
    return pw.whatif(pw.build(cluster(mode)), *lines)


@pytest.mark.parametrize("mode", [*MODES, "flat-bridge:ip_masq"])
def test_the_pods_of_a_node_are_alike_under_every_mode(mode: str) -> None:
    assert alike(network(mode), PODS_HERE) == [PODS_HERE[:4], PODS_HERE[4:]]


def test_endpoints_of_a_service_differ_only_where_its_rules_are_met() -> None:
    made = cluster("flannel-vxlan")
    made.service("web", 80, pods=made.pods[:2], node_port=30080)
    net = pw.build(made)
    assert alike(net, PODS_HERE) == [PODS_HERE[:4], PODS_HERE[4:]]
    assert alike(net, PODS_HERE, "tcp", 80) == [PODS_HERE[:4], PODS_HERE[4:]]
    assert len(alike(net, PODS_HERE, "tcp", 30080)) > 2


def test_who_listens_counts_for_connections_only() -> None:
    made = cluster("flat-bridge")
    made.pod("p5", 1)
    net = pw.build(made)
    assert alike(net, ("p1", "p5")) == [("p1", "p5")]
    assert alike(net, ("p1", "p5"), "tcp", 80) == [("p1",), ("p5",)]


HOSTIF = pw.build(cluster("flannel-vxlan")).far(("p2", "eth0"))[1]  # type: ignore[index]
P = {name: str(address_of(pw.build(cluster("flannel-vxlan")), name)) for name in PODS_HERE}
TELLING = {
    "a rule about one": [f"node-1 iptables -I FORWARD 1 -s {P['p2']} -j DROP"],
    "a network that holds some": [f"node-1 iptables -I FORWARD 1 -s {P['p1']}/31 -j DROP"],
    "a range that holds some": [f"node-1 iptables -I FORWARD 1 -m iprange --dst-range {P['p2']}-{P['p3']} -j DROP"],
    "the same rule before and behind another": [
        f"node-1 iptables -I FORWARD 1 -s {P['p1']} -j ACCEPT", "node-1 iptables -I FORWARD 2 -s 10.244.1.0/24 -j DROP",
        f"node-1 iptables -I FORWARD 3 -s {P['p2']} -j ACCEPT",
    ],
    "a chain of its own": [
        "node-1 iptables -N ONE", "node-1 iptables -N TWO", "node-1 iptables -A TWO -j DROP",
        f"node-1 iptables -I FORWARD 1 -s {P['p1']} -j ONE", f"node-1 iptables -I FORWARD 2 -s {P['p2']} -j TWO",
    ],
    "its own rules the other way round": [
        f"node-1 iptables -I FORWARD 1 -s {P['p1']} -j DROP", f"node-1 iptables -I FORWARD 2 -s {P['p1']} -j ACCEPT",
        f"node-1 iptables -I FORWARD 3 -s {P['p2']} -j ACCEPT", f"node-1 iptables -I FORWARD 4 -s {P['p2']} -j DROP",
    ],
    "a wildcard that some devices match": [
        f"node-1 iptables -I FORWARD 1 -m physdev --physdev-in {HOSTIF[:6]}+ -j DROP",
    ],
    "a rule on another node": [f"node-2 iptables -t nat -I POSTROUTING 1 -s {P['p3']} -j MASQUERADE"],
    "a rule about two": [f"node-1 iptables -I FORWARD 1 -s {P['p1']} -d {P['q2']} -j DROP"],
    "a neighbour that one pod knows": [f"p1 ip neigh add {P['p2']} lladdr 02:00:00:00:00:99 dev eth0"],
    "a route of its own": [f"node-2 ip route add blackhole {P['p4']}"],
    "a port of its own": ["link p3 mtu 1400"],
}  # fmt: skip


def check(net: Network, report: Conformance) -> None:
    """Walk every pair by itself: what its class is said to break it breaks, and nothing else."""
    broken = {promise: [b.case for b in report.breaches if b.promise == promise] for promise in (PODS, ADDRESS)}
    for case in report.cases[PODS]:
        for src, dst in ((s, d) for s in case.sources for d in case.destinations if s != d):
            trace = pw.walk(net, src, dst)
            assert (not trace.delivered or bool(trace.nat)) == (case in broken[PODS]), f"{src} > {dst}"
            seen = trace.source_seen(dst)
            assert (seen not in (None, address_of(net, src))) == (case in broken[ADDRESS]), f"{src} > {dst}"


@pytest.mark.parametrize("lines", TELLING.values(), ids=TELLING)
def test_a_walk_shows_what_all_walks_of_its_class_do(lines: list[str]) -> None:
    net = network("flannel-vxlan", *lines)
    report = conformance(net)
    assert report.kinds > 2, "nothing tells them apart"
    assert report.pairs(PODS) == len(PODS_HERE) * (len(PODS_HERE) - 1)
    check(net, report)


ENDS = [*P.values(), f"{P['p1']}/31", "10.244.1.4/30", "10.244.2.2/31", "10.244.1.0/24", "10.244.0.0/16"]
RULES = st.builds(
    "{} iptables {} 1 {} {} -j {}".format,
    st.sampled_from(["node-1", "node-2"]),
    st.sampled_from(["-I FORWARD", "-t raw -I PREROUTING", "-t mangle -I POSTROUTING"]),
    st.sampled_from(["", *(f"-s {end}" for end in ENDS), *(f"! -s {end}" for end in ENDS)]),
    st.sampled_from(["", *(f"-d {end}" for end in ENDS), "-i cni0", "-o veth+"]),
    st.sampled_from(["ACCEPT", "ACCEPT", "DROP"]),
)
NATS = st.builds("node-1 iptables -t nat -I POSTROUTING 1 -s {} -j MASQUERADE".format, st.sampled_from(ENDS))
ROUTES = st.builds(
    "{} ip route add blackhole {}".format, st.sampled_from(["node-1", "node-2"]), st.sampled_from(ENDS[:6])
)


@settings(max_examples=25)
@given(st.lists(st.one_of(RULES, RULES, NATS, ROUTES), min_size=1, max_size=5))
def test_the_same_with_random_rules(lines: list[str]) -> None:
    try:
        net = network("flannel-vxlan", *lines)
    except ValueError:  # the same route twice, for one
        assume(False)
    check(net, conformance(net))


NFT = "table ip t {{\n\tchain c {{\n\t\ttype filter hook forward priority filter; policy accept;\n\t\t{}\n\t}}\n}}\n"
NFT_RULES = [("counter accept", 2), (f"ip saddr {P['p3']} drop", 3), (f'iifname "{HOSTIF[:6]}*" drop', 3),
             (f"ip daddr {P['p1']}/31 drop", 3)]  # fmt: skip


@pytest.mark.parametrize(("rule", "groups"), NFT_RULES, ids=[rule for rule, _ in NFT_RULES])
def test_rules_of_nftables_tell_pods_apart_too(rule: str, groups: int) -> None:
    net = network()
    net["node-1"].netfilter.nft = read_nft(NFT.format(rule), "rules").tables
    assert len(alike(net, PODS_HERE)) == groups


def test_classes_hold_each_pair_once() -> None:
    def pairs(case: Case) -> list[tuple[str, str]]:
        return [(s, d) for s in case.sources for d in case.destinations if s != d]

    found = [pair for case in conformance(network()).cases[PODS] for pair in pairs(case)]
    assert sorted(found) == [(s, d) for s in PODS_HERE for d in PODS_HERE if s != d]
