"""packetwalk.kube.coredns: a cluster's DNS, asked over real packets from its rooms."""

from dataclasses import replace

import pytest

from packetwalk.addr import IPv4
from packetwalk.cni import find, modes
from packetwalk.edit import whatif
from packetwalk.engine.fetch import fetch
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, default_cluster
from packetwalk.kube.coredns import node_local_rules
from packetwalk.kube.dns import Dns, DnsConfig
from packetwalk.kube.kubeproxy import KubeProxy
from packetwalk.kube.service import Endpoint, ServicePort
from packetwalk.network import Network
from packetwalk.packet import Tcp, Udp
from packetwalk.snapshot.iptables_save import read_iptables

SERVER, OUTSIDE = IPv4("10.96.0.10"), IPv4("203.0.113.10")


def town(dns: Dns | None = Dns(), cni: str = "flannel-vxlan") -> Cluster:  # noqa: B008 - frozen
    """Two namespaces: shop asks for what is in prod."""
    cluster = Cluster(2, find(cni), dns=dns)
    cluster.pod("a", 1, namespace="shop")
    b = cluster.pod("b", 2, namespace="prod", http=8080)
    db = [cluster.pod(f"db-{i}", i + 1, namespace="prod", subdomain="db", listen=5432) for i in range(2)]
    cluster.service("web", 80, pods=[b], target_port=8080, namespace="prod")
    cluster.service("db", [ServicePort(5432, "sql")], pods=db, namespace="prod", ip="None")
    cluster.service("mail", namespace="prod", external_name="mail.example.com")
    return cluster


@pytest.fixture(scope="module")
def network() -> Network:
    return build(town(Dns(upstream={"mail.example.com": "203.0.113.25", "example.com": "203.0.113.10"})))


def asked(network: Network, url: str, room: str = "shop/a") -> tuple[list[str], str]:
    found = fetch(network, room, url)
    return [about.partition(" ")[0] for about, _ in found.queries], found.words


@pytest.mark.parametrize(("name", "queries"), [
    ("web.prod", ["web.prod.shop.svc.cluster.local", "web.prod.svc.cluster.local"]),
    ("web.prod.svc", ["web.prod.svc.shop.svc.cluster.local", "web.prod.svc.svc.cluster.local",
                      "web.prod.svc.cluster.local"]),
    ("web.prod.svc.cluster.local", ["web.prod.svc.cluster.local.shop.svc.cluster.local",
                                    "web.prod.svc.cluster.local.svc.cluster.local",
                                    "web.prod.svc.cluster.local.cluster.local", "web.prod.svc.cluster.local"]),
    ("web.prod.svc.cluster.local.", ["web.prod.svc.cluster.local"]),
])  # fmt: skip
def test_the_queries_that_a_name_costs(network: Network, name: str, queries: list[str]) -> None:
    assert asked(network, f"http://{name}") == (queries, "200 OK: prod/b saw 10.244.1.2:32768")


def test_an_outside_name_costs_four_pairs(network: Network) -> None:
    queries, words = asked(network, "dns:example.com")
    assert len(queries) == 4 and words == "A 203.0.113.10, AAAA no data"


@pytest.mark.parametrize(("url", "words"), [
    ("dns:db.prod", "A 10.244.1.3 10.244.2.3, AAAA no data"),
    ("dns:db-1.db.prod", "A 10.244.2.3, AAAA no data"),
    ("dns:10-244-1-3.prod.pod", "A 10.244.1.3, AAAA no data"),
    ("dns:_sql._tcp.db.prod?type=SRV",
     "SRV 0 50 5432 db-0.db.prod.svc.cluster.local. 0 50 5432 db-1.db.prod.svc.cluster.local."),
    ("dns:mail.prod", "A CNAME mail.example.com. 203.0.113.25, AAAA CNAME mail.example.com. no data"),
    ("dns:10.96.0.10?type=PTR", "PTR kube-dns.kube-system.svc.cluster.local."),
    ("dns:10.244.2.3?type=PTR", "PTR db-1.db.prod.svc.cluster.local."),
    ("dns:nope.prod", "nope.prod: NXDOMAIN"),
    ("dns:kubernetes.default", "kubernetes.default: NXDOMAIN"),
])  # fmt: skip
def test_answers(network: Network, url: str, words: str) -> None:
    assert asked(network, url)[1] == words


def test_an_alias_to_nowhere_has_no_address() -> None:
    """CoreDNS gives the alias alone, so the client gets no data, and asks for the next name."""
    found = fetch(build(town()), "shop/a", "http://mail.prod")
    assert (found.words, found.delivered) == ("mail.prod: no data", False)
    assert [answer for _, answer in found.queries] == ["NXDOMAIN", "CNAME mail.example.com. no data", "NXDOMAIN",
                                                       "NXDOMAIN"]  # fmt: skip


def test_who_asks_whom(network: Network) -> None:
    conf = network.resolvers["shop/a"]
    assert str(conf).splitlines() == [
        "search shop.svc.cluster.local svc.cluster.local cluster.local", "nameserver 10.96.0.10", "options ndots:5",
    ]  # fmt: skip
    for room in ("node-1", "kube-system/coredns-1", "out"):
        assert str(network.resolvers[room]) == f"nameserver {OUTSIDE}"
    assert asked(network, "dns:web.prod", "node-1")[1] == "web.prod: NXDOMAIN", "a node does not know services"


@pytest.mark.parametrize(("policy", "host_network", "servers", "ndots"), [
    ("ClusterFirst", False, [SERVER], 5),
    ("ClusterFirst", True, [OUTSIDE], 1),
    ("ClusterFirstWithHostNet", True, [SERVER], 5),
    ("Default", False, [OUTSIDE], 1),
    ("None", False, [], 1),
])  # fmt: skip
def test_policies(policy: str, host_network: bool, servers: list[IPv4], ndots: int) -> None:
    cluster = town()
    cluster.pod("p", 1, dns_policy=policy, host_network=host_network)
    cluster.pod("q", 1, dns_policy=policy, host_network=host_network,
                dns_config=DnsConfig(("192.0.2.53",), ("corp.example", "cluster.local"), 2))  # fmt: skip
    net = build(cluster)
    p, q = net.resolvers["p"], net.resolvers["q"]
    assert (list(p.nameservers), p.ndots) == (servers, ndots)
    assert (list(q.nameservers), q.ndots) == ([*servers, IPv4("192.0.2.53")], 2)
    assert list(dict.fromkeys(q.search)) == list(q.search) and "corp.example" in q.search


def test_a_policy_that_is_none() -> None:
    with pytest.raises(ValueError, match="did you mean 'ClusterFirst'"):
        town().pod("p", 1, dns_policy="clusterfirst")


def test_a_pod_knows_itself_and_its_hostname(network: Network) -> None:
    assert asked(network, "dns:a") == ([], "10.244.1.2 in /etc/hosts")


def test_endpoints_that_are_not_ready() -> None:
    cluster = town()
    for name, more in (("plain", {}), ("all", {"publish_not_ready_addresses": True})):
        cluster.service(name, 80, pods=[Endpoint(pod="prod/b", ready=False)], namespace="prod", ip="None", **more)
    net = build(cluster)
    assert asked(net, "dns:plain.prod")[1] == "plain.prod: NXDOMAIN"
    assert asked(net, "dns:all.prod")[1] == "A 10.244.2.2, AAAA no data"


def test_many_endpoints_are_asked_for_over_tcp() -> None:
    cluster = town()
    cluster.service("many", 80, pods=[Endpoint(f"192.0.2.{n}") for n in range(1, 61)], namespace="prod", ip="None")
    found = fetch(build(cluster), "shop/a", "dns:many.prod")
    assert [trace.flow.kind for trace in found] == ["udp", "udp", "tcp"]
    assert found[1].result.said == "A truncated, AAAA no data" and found[2].result.said.count("192.0.2.") == 60


def test_the_five_seconds() -> None:
    """A and AAAA leave at once by one port; without ARP entries they are translated to different endpoints before the
    first is confirmed, so the second loses (nf_conntrack_confirm), and the client waits for it."""
    cluster = default_cluster(find("flannel-vxlan"), dns=True)
    slow = fetch(build(cluster), "a", "http://web", cold=True)
    assert slow[0].result.said == "A timeout, AAAA no data" and slow.delivered
    assert [str(step.what.reason) for _, step in slow[0].drops] == ["NETFILTER_DROP"]
    assert 5_000_000_000 < slow.at < 5_001_000_000
    quick = fetch(build(replace(cluster, dns=Dns(node_local=True))), "a", "http://web", cold=True)
    assert quick.delivered and quick.at < 1_000_000 and not quick[0].drops


def test_node_local_takes_the_questions_on_the_node() -> None:
    net = build(town(Dns(node_local=True)))
    device = net["node-1"].devices["nodelocaldns"]
    assert ([str(a) for a in device.addrs], device.up) == (["169.254.20.10/32", "10.96.0.10/32"], False)
    found = fetch(net, "shop/a", "dns:web.prod.svc.cluster.local.")
    rooms = [hop.room for hop in found[0]]
    assert rooms[:2] == ["shop/a", "node-1"] and "answers" not in found.words
    stages = {
        step.stage for hop in found[0] if hop.room == "node-1" for step in hop.steps
        if any(isinstance(h, Udp) and h.dport == 53 for h in step.packet.headers)
    }  # fmt: skip
    assert "conntrack" not in stages and "nat" not in stages, "kube-proxy never sees the pod's question"
    assert any(isinstance(h, Tcp) and h.dport == 53 for _, step in found[0].steps for h in step.packet.headers)
    again = fetch(found.after, "shop/a", "dns:web.prod.svc.cluster.local.")  # type: ignore[arg-type]
    assert {hop.room for hop in again[0]} == {"shop/a", "node-1"} and again.words == found.words, "it remembers"


def test_the_rules_of_node_local() -> None:
    rules = read_iptables(node_local_rules(("169.254.20.10",)), "node-local-dns")
    assert {t: {c: len(chain.rules) for c, chain in table.chains.items() if chain.rules}
            for t, table in rules.tables.items()} == {"raw": {"PREROUTING": 2, "OUTPUT": 6},
                                                      "filter": {"INPUT": 2, "OUTPUT": 2}}  # fmt: skip
    net = build(town(Dns(node_local=True), "calico-ipip"))
    first = net["node-1"].netfilter.tables["raw"].chains["PREROUTING"].rules[0]
    assert str(first) == ('-A PREROUTING -d 10.96.0.10/32 -p udp -m udp --dport 53 -m comment --comment '
                          '"NodeLocal DNS Cache: skip conntrack" -j NOTRACK')  # fmt: skip


@pytest.mark.parametrize("mode", modes())
def test_every_mode_walks_the_look_ups_and_the_connection(mode: str) -> None:
    for dns in (Dns(), Dns(node_local=True)):
        found = fetch(build(town(dns, mode)), "shop/a", "http://web.prod")
        assert found.delivered, f"{mode} {dns}: {found.minimal()}"
        assert found.words.startswith("200 OK: prod/b saw ")


def test_another_domain_and_more_servers() -> None:
    cluster = town(Dns("corp.internal", replicas=3))
    net = build(cluster)
    assert "kube-system/coredns-3" in net and net.services["kube-dns.kube-system"] == SERVER
    assert asked(net, "http://web.prod")[0][-1] == "web.prod.svc.corp.internal"


def test_without_dns_nothing_is_added() -> None:
    net = build(town(None))
    assert not any("coredns" in room for room in net.rooms) and not net.resolvers
    with pytest.raises(ValueError, match="the network has no DNS"):
        fetch(net, "shop/a", "http://web.prod")


def test_a_changed_copy_leaves_the_original_alone() -> None:
    net = build(town(Dns(node_local=True), "calico-ipip"))
    before = str(net["node-1"].netfilter)
    deaf = whatif(net, "node-1 iptables -I INPUT -p udp --dport 53 -j DROP", "node-1 iptables -I cali-FORWARD -j DROP")
    assert fetch(deaf, "shop/a", "dns:web.prod").words == "web.prod: timeout"
    assert fetch(net, "shop/a", "dns:web.prod").delivered and str(net["node-1"].netfilter) == before


def test_a_pod_on_the_hosts_network_asks_as_its_policy_says() -> None:
    cluster = town()
    cluster.pod("agent", 1, host_network=True, dns_policy="ClusterFirstWithHostNet")
    found = fetch(build(cluster), "agent", "http://web.prod")
    assert (found.src, found.delivered) == ("agent", True) and found[0].hops[0].room == "node-1"


@pytest.mark.parametrize("node_local", [False, True])
def test_pods_ask_the_same_under_ipvs_or_the_cache_by_its_own_address(node_local: bool) -> None:
    net = build(replace(town(Dns(node_local=node_local)), kube_proxy=KubeProxy(mode="ipvs")))
    assert net.resolvers["shop/a"].nameservers == ((IPv4("169.254.20.10"),) if node_local else (SERVER,))
    assert fetch(net, "shop/a", "http://web.prod").words == "200 OK: prod/b saw 10.244.1.2:32768"


@pytest.mark.parametrize("node_local", [False, True])
def test_kube_proxy_may_write_nftables(node_local: bool) -> None:
    cluster = replace(town(Dns(node_local=node_local)), kube_proxy=KubeProxy(mode="nftables"))
    found = fetch(build(cluster), "shop/a", "http://web.prod")
    assert found.words == "200 OK: prod/b saw 10.244.1.2:32768"
    translated = {step.what.conn.original.dport for room, step in found[1].nat if room == "node-1"}
    assert translated == {53}, "by the pod's question, or by the one of the cache upstream"
