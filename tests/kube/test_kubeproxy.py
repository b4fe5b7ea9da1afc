"""The rules kube-proxy keeps on a node, against those of its own tests and of recorded nodes."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from packetwalk.addr import IPv4
from packetwalk.kube.kubeproxy import KubeProxy, ProxiedNode, iptables, probability, suffix
from packetwalk.kube.service import Endpoint, Service, ServicePort, usable
from packetwalk.snapshot.iptables_save import read_iptables
from tests.kube.proxied import DATA, node_of, service_of

POD_CIDR = "10.244.0.0/16"
WEB = Service(
    "web",
    (ServicePort(80, "http", target_port=8080),),
    (Endpoint("10.244.1.2", "n1"), Endpoint("10.244.2.2", "n2")),
    cluster_ip="10.96.0.100",
)
PORT, NAMED = ServicePort(80), ServicePort(80, "b")
DEFAULT = KubeProxy()


def rules(*services: Service, proxy: KubeProxy = DEFAULT, node: str = "n1", zone: str = "") -> dict[str, list[str]]:
    """{table/chain: its rules without `-A CHAIN`}, of the chains that have any."""
    detector = proxy.local_detector(POD_CIDR, "10.244.1.0/24")
    addrs = (IPv4("192.168.56.11"), IPv4("127.0.0.1"))
    text = iptables(proxy, ProxiedNode(node, addrs[0], addrs, detector, zone), services)
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A "):
            _, chain, rule = line.split(" ", 2)
            found.setdefault(f"{table}/{chain}", []).append(rule)
    return found


def chain(found: dict[str, list[str]], kind: str, service: Service) -> list[str]:
    return found.get(f"nat/KUBE-{kind}-{suffix(service, service.ports[0])}", [])


def backends(found: dict[str, list[str]], kind: str, service: Service) -> list[str]:
    """Where a balancing chain leads, by the comments of its rules."""
    return re.findall(r"-> (\S+)\"", "\n".join(chain(found, kind, service)))


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/kube-proxy is not here")
def test_the_rules_are_those_of_kube_proxys_own_test() -> None:
    """TestOverallIPTablesRules. Its text has no jumps from built-in chains, and the canary in one table."""
    given = json.loads((DATA / "overall-input.json").read_text(encoding="utf-8"))
    proxy = KubeProxy(random_fully=False)
    services = [service_of(s, given["endpoints"]) for s in given["services"]]
    ours = read_iptables(iptables(proxy, node_of(proxy, given["conventions"]), services))
    theirs = read_iptables((DATA / "overall-iptables-plain.save").read_text(encoding="utf-8"))
    for table in ("filter", "nat"):
        kept = {name: list(map(str, c.rules)) for name, c in theirs.table(table).chains.items()}
        written = {name: list(map(str, c.rules)) for name, c in ours.table(table).chains.items()}
        assert written.keys() - {"KUBE-PROXY-CANARY"} == kept.keys() - {"KUBE-PROXY-CANARY"}
        for name in kept:
            if name.startswith("KUBE-"):
                assert written[name] == kept[name], name
    text = iptables(proxy, node_of(proxy, given["conventions"]), services)
    blocks = text.split("COMMIT\n")
    counted = [len(re.findall(r"^-A KUBE-", block, re.M)) for block in blocks]
    assert counted == [0, 10, 55 - 3, 0]  # mangle, filter, nat less the nfacct rules of localhost node ports


def test_what_is_written_is_what_iptables_save_prints() -> None:
    text = iptables(KubeProxy(), ProxiedNode("n1", IPv4("192.168.56.11"), (), f"-s {POD_CIDR}"), [_full()])
    ruleset = read_iptables(text)
    printed = [str(rule) for t in ruleset.tables.values() for c in t.chains.values() for rule in c.rules]
    assert sorted(printed) == sorted(line for line in text.splitlines() if line.startswith("-A"))


@pytest.mark.skipif(shutil.which("iptables-restore") is None, reason="iptables is not installed")
def test_iptables_takes_it() -> None:
    text = iptables(KubeProxy(), ProxiedNode("n1", IPv4("192.168.56.11"), (), f"-s {POD_CIDR}"), [_full()])
    done = subprocess.run(["iptables-restore", "--test"], input=text, text=True, capture_output=True, check=False)
    if "Permission denied" in done.stderr or "must be root" in done.stderr:
        pytest.skip("root only")
    assert (done.returncode, done.stderr) == (0, "")


def _full() -> Service:
    return replace(
        WEB, type="LoadBalancer", ports=(ServicePort(80, "http", node_port=30080), ServicePort(53, "dns", "UDP")),
        external_ips=("203.0.113.7",), load_balancer_ips=("203.0.113.8",), session_affinity="ClientIP",
        load_balancer_source_ranges=("203.0.113.0/25", "192.168.56.0/24"), external_traffic_policy="Local",
        health_check_node_port=32000,
    )  # fmt: skip


def test_chains_are_called_after_a_hash() -> None:
    """Names seen on real clusters."""
    kubernetes = Service("kubernetes", (ServicePort(443, "https"),))
    dns = Service("kube-dns", (ServicePort(53, "dns", "UDP"), ServicePort(53, "dns-tcp")), namespace="kube-system")
    assert suffix(kubernetes, kubernetes.ports[0]) == "NPX46M4PTMTKRN6Y"
    assert suffix(kubernetes, kubernetes.ports[0], "172.18.0.2:6443") == "V2PECCYPB6X2GSCW"
    assert [suffix(dns, port) for port in dns.ports] == ["TCOU7JCQXEZGVUNU", "ERIFXISQEP7F7OF4"]
    assert suffix(Service("nginx", ()), ServicePort(80)) == "2CMXP7HKUVJN7L6M"


def test_probabilities_are_those_the_kernel_keeps() -> None:
    kept = {2: "0.50000000000", 3: "0.33333333349", 5: "0.20000000019", 6: "0.16666666651", 7: "0.14285714272",
            9: "0.11111111101", 10: "0.10000000009", 11: "0.09090909082", 100: "0.00999999978"}  # fmt: skip
    assert {n: probability(n) for n in kept} == kept


def test_lots_are_drawn_in_the_order_of_address_texts() -> None:
    many = replace(WEB, endpoints=tuple(Endpoint(f"10.244.1.{n}", "n1") for n in (9, 10, 2)))
    found = chain(rules(many), "SVC", many)[1:]
    assert backends(rules(many), "SVC", many) == ["10.244.1.10:8080", "10.244.1.2:8080", "10.244.1.9:8080"]
    assert [re.findall(r"--probability (\S+)", rule) for rule in found] == [["0.33333333349"], ["0.50000000000"], []]


def test_a_client_goes_where_it_went_before() -> None:
    sticky = replace(WEB, session_affinity="ClientIP", session_affinity_timeout=600)
    found = chain(rules(sticky), "SVC", sticky)[1:]
    assert [("recent" in rule, "statistic" in rule) for rule in found] == [(1, 0), (1, 0), (0, 1), (0, 0)]
    assert "--rcheck --seconds 600 --reap --name KUBE-SEP-" in found[0]


@pytest.mark.parametrize(
    ("proxy", "rule"),
    [
        (KubeProxy(), f"! -s {POD_CIDR} -d 10.96.0.100/32 -p tcp"),
        (KubeProxy(detect_local="NodeCIDR"), "! -s 10.244.1.0/24 -d 10.96.0.100/32 -p tcp"),
        (KubeProxy(detect_local="BridgeInterface:cni0"), "-d 10.96.0.100/32 ! -i cni0 -p tcp"),
        (KubeProxy(detect_local="InterfaceNamePrefix:cali"), "-d 10.96.0.100/32 ! -i cali+ -p tcp"),
        (KubeProxy(masquerade_all=True), "-d 10.96.0.100/32 -p tcp"),
    ],
)
def test_who_is_masqueraded_towards_a_cluster_ip(proxy: KubeProxy, rule: str) -> None:
    first = chain(rules(WEB, proxy=proxy), "SVC", WEB)[0]
    assert first.startswith(f"{rule} -m comment")
    assert first.endswith("-j KUBE-MARK-MASQ")


def test_without_a_detector_nobody_is() -> None:
    assert "MARK-MASQ" not in chain(rules(WEB, proxy=KubeProxy(detect_local="")), "SVC", WEB)[0]


def test_the_mark_is_the_bit_asked_for() -> None:
    found = rules(WEB, proxy=KubeProxy(masquerade_bit=20))
    assert found["nat/KUBE-MARK-MASQ"] == ["-j MARK --set-xmark 0x100000/0x100000"]
    assert found["nat/KUBE-POSTROUTING"][1] == "-j MARK --set-xmark 0x100000/0x0"


def test_node_ports_only_on_some_addresses() -> None:
    proxy = KubeProxy(node_port_addresses=("192.168.56.0/24", "127.0.0.0/8"), localhost_node_ports=False)
    assert [rule.split()[1] for rule in rules(WEB, proxy=proxy)["nat/KUBE-SERVICES"][1:]] == ["192.168.56.11/32"]
    assert rules(WEB, proxy=KubeProxy(localhost_node_ports=False))["nat/KUBE-SERVICES"][-1].startswith(
        "! -d 127.0.0.0/8"
    )


def test_policy_local_uses_the_nodes_own_endpoints() -> None:
    outside = replace(
        WEB, type="NodePort", ports=(ServicePort(80, "http", node_port=30080),), external_traffic_policy="Local"
    )
    here, elsewhere = rules(outside, node="n2"), rules(outside, node="n3")
    assert backends(here, "SVL", outside) == ["10.244.2.2:80"]
    assert chain(elsewhere, "SVL", outside) == []
    assert elsewhere["filter/KUBE-EXTERNAL-SERVICES"][0].endswith("--dport 30080 -j DROP")
    inside = replace(WEB, internal_traffic_policy="Local")
    assert backends(rules(inside), "SVL", inside) == ["10.244.1.2:8080"]
    assert chain(rules(inside), "SVC", inside) == []
    assert rules(inside, node="n3")["filter/KUBE-SERVICES"][0].endswith("--dport 80 -j DROP")


def test_a_service_without_endpoints_is_refused() -> None:
    empty = replace(WEB, endpoints=(Endpoint("10.244.1.2", "n1", ready=False),))
    found = rules(empty)
    assert "has no endpoints" in found["filter/KUBE-SERVICES"][0]
    assert not any(name.startswith("nat/KUBE-SVC") for name in found)


def test_headless_services_write_nothing() -> None:
    assert rules(replace(WEB, cluster_ip="None")) == rules()


def test_endpoints_that_terminate_are_used_only_where_none_is_ready() -> None:
    """KEP 1669: and a node's own never fall back to others."""
    ready = Endpoint("10.0.0.1", "n1")
    going = Endpoint("10.0.0.2", "n1", ready=False, serving=True, terminating=True)
    gone = Endpoint("10.0.0.3", "n1", ready=False, terminating=True)
    service = replace(WEB, endpoints=(ready, going, gone))
    assert usable(service, "n1") == ((ready,), (ready,))
    assert usable(replace(WEB, endpoints=(going, gone)), "n1") == ((going,), (going,))
    assert usable(replace(WEB, endpoints=(ready, going)), "n2") == ((ready,), ())


def test_hints_hold_only_if_all_endpoints_have_them() -> None:
    east, west = Endpoint("10.0.0.1", zones=("east",)), Endpoint("10.0.0.2", zones=("west",))
    hinted = replace(WEB, endpoints=(east, west))
    assert usable(hinted, "n1", "east").cluster == (east,)
    assert usable(hinted, "n1", "north").cluster == (east, west)
    assert usable(hinted, "n1").cluster == (east, west)
    partly = replace(WEB, endpoints=(east, Endpoint("10.0.0.3")))
    assert len(usable(partly, "n1", "east").cluster) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ServicePort(80, protocol="tcp"), "there is no protocol 'tcp'; there are TCP, UDP, SCTP"),
        (lambda: replace(WEB, type="Nodeport"), "there is no type 'Nodeport'"),
        (lambda: replace(WEB, session_affinity="Client"), "there is no session affinity 'Client'"),
        (lambda: replace(WEB, ports=(PORT, ServicePort(81))), "service 'web' has several ports, so each needs a name"),
        (lambda: replace(WEB, ports=(ServicePort(80, "a"), NAMED)), "service 'web' has port 80/TCP twice"),
        (lambda: KubeProxy(masquerade_bit=32), "masquerade_bit 32 is out of range: 0 to 31 was expected"),
        (lambda: KubeProxy(detect_local="Bridge"), "there is no detect_local 'Bridge'"),
    ],
)  # fmt: skip
def test_what_cannot_be(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()  # type: ignore[operator]
