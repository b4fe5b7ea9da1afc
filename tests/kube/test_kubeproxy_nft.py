"""kube-proxy's nftables mode, against the table of its own test."""

import json
import os
import shutil
import subprocess
from dataclasses import replace

import pytest

from packetwalk.addr import IPv4
from packetwalk.kube.kubeproxy import KubeProxy, ProxiedNode
from packetwalk.kube.kubeproxy_nft import chain_base, nftables
from packetwalk.kube.service import Endpoint, Service, ServicePort
from packetwalk.netns.nft import NftTable
from packetwalk.snapshot.nft_list import read_nft
from tests.kube.proxied import DATA, node_of, service_of

NFT = KubeProxy(mode="nftables")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/kube-proxy is not here")


def table_of(text: str) -> NftTable:
    (table,) = read_nft(text, "kube-proxy").tables.values()
    return table


def overall(proxy: KubeProxy = NFT) -> str:
    given = json.loads((DATA / "overall-input.json").read_text(encoding="utf-8"))
    services = [service_of(s, given["endpoints"]) for s in given["services"]]
    return nftables(proxy, node_of(proxy, given["conventions"]), services, "172.30.0.0/16")


@needs_data
def test_the_table_is_that_of_kube_proxys_own_test() -> None:
    """TestOverallNFTablesRules: sets and maps as printed, chains by name (nft lists them as they were made)."""
    theirs = (DATA / "overall-nftables.list").read_text(encoding="utf-8")
    ours, kept = table_of(overall()), table_of(theirs)
    assert [str(one) for one in ours.sets.values()] == [str(one) for one in kept.sets.values()]
    assert {name: str(chain) for name, chain in ours.chains.items()} == {n: str(c) for n, c in kept.chains.items()}


@needs_data
def test_what_is_read_prints_as_it_was() -> None:
    for text in ((DATA / "overall-nftables.list").read_text(encoding="utf-8"), overall()):
        assert str(table_of(text)) == text.rstrip("\n")


def test_names_are_those_of_kube_proxy() -> None:
    """Vectors of servicePortChainNameBase and servicePortEndpointChainNameBase; long names are cut."""
    https, dns = ServicePort(443, "https"), ServicePort(53, "dns", "UDP")
    assert chain_base(Service("kubernetes", (https,)), https) == "2QRHZV4L-default/kubernetes/tcp/https"
    kube_dns = Service("kube-dns", (dns,), namespace="kube-system")
    assert chain_base(kube_dns, dns) == "FY5PMXPG-kube-system/kube-dns/udp/dns"
    svc1 = Service("svc1", (ServicePort(80, "p80"),), namespace="ns1")
    assert chain_base(svc1, svc1.ports[0], "10.180.0.1/80") == "5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80"
    long = Service("s" * 63, (ServicePort(80, "p" * 15),), namespace="n" * 200)
    assert len(chain_base(long, long.ports[0])) == 240 and chain_base(long, long.ports[0]).endswith("...")


SERVICE = Service(
    "web",
    (ServicePort(80, "http", target_port=8080, node_port=30080),),
    (Endpoint("10.244.1.2", "n1"), Endpoint("10.244.2.2", "n2")),
    type="LoadBalancer",
    cluster_ip="10.96.0.100",
    load_balancer_ips=("198.51.100.7",),
    load_balancer_source_ranges=("203.0.113.0/24", "192.168.56.0/24"),
)


def written(service: Service = SERVICE, proxy: KubeProxy = NFT, node: str = "n1") -> NftTable:
    detector = proxy.local_detector("10.244.0.0/16", "10.244.1.0/24")
    addrs = tuple(map(IPv4, ("192.168.56.11", "192.168.57.11", "127.0.0.1")))
    return table_of(nftables(proxy, ProxiedNode(node, addrs[0], addrs, detector), [service]))


def rules(table: NftTable, prefix: str) -> list[str]:
    """The rules of the chain whose name begins so."""
    (found,) = (chain for name, chain in table.chains.items() if name.startswith(prefix))
    return list(map(str, found.rules))


def test_source_ranges_name_the_balancer_where_the_node_is_in_one() -> None:
    base = chain_base(SERVICE, SERVICE.ports[0])
    assert rules(written(), f"firewall-{base}") == [
        "ip saddr != { 192.168.56.0/24, 198.51.100.7, 203.0.113.0/24 } drop"
    ]
    one = replace(SERVICE, load_balancer_source_ranges=("203.0.113.0/24",))
    assert rules(written(one), f"firewall-{base}") == ["ip saddr != 203.0.113.0/24 drop"]
    assert str(written().sets["firewall-ips"]).endswith(f"198.51.100.7 . tcp . 80 : goto firewall-{base} }}\n\t}}")


def test_node_ports_are_served_where_they_are_asked_for() -> None:
    assert "192.168.56.11 }" in str(written().sets["nodeport-ips"])
    some = replace(NFT, node_port_addresses=("192.168.0.0/16", "127.0.0.0/8"))
    assert "192.168.56.11, 192.168.57.11 }" in str(written(proxy=some).sets["nodeport-ips"])
    everywhere = written(proxy=replace(NFT, node_port_addresses=("0.0.0.0/0",)))
    assert "nodeport-ips" not in everywhere.sets
    assert rules(everywhere, "services")[1] == (
        "fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports"
    )


@pytest.mark.parametrize(("changes", "marks"), [
    ({}, ["ip daddr 10.96.0.100 ip saddr != 10.244.0.0/16"]),
    ({"masquerade_all": True}, ["ip daddr 10.96.0.100"]),
    ({"detect_local": ""}, []),
    ({"detect_local": "BridgeInterface:cni0"}, ['ip daddr 10.96.0.100 iifname != "cni0"']),
    ({"detect_local": "InterfaceNamePrefix:cali"}, ['ip daddr 10.96.0.100 iifname != "cali*"']),
])  # fmt: skip
def test_who_is_masqueraded(changes: dict[str, object], marks: list[str]) -> None:
    proxy = replace(NFT, **changes)  # type: ignore[arg-type]
    *first, _ = rules(written(proxy=proxy), f"service-{chain_base(SERVICE, SERVICE.ports[0])}")
    assert first == [f"{words} jump mark-for-masquerade" for words in marks]


def test_policies_and_affinity() -> None:
    local = replace(SERVICE, external_traffic_policy="Local", internal_traffic_policy="Local",
                    session_affinity="ClientIP", session_affinity_timeout=90)  # fmt: skip
    base = chain_base(local, local.ports[0])
    table = written(local)
    assert f"10.96.0.100 . tcp . 80 : goto local-{base}" in str(table.sets["service-ips"])
    assert rules(table, "external-") == [
        f'ip saddr 10.244.0.0/16 goto service-{base} comment "short-circuit pod traffic"',
        'fib saddr type local jump mark-for-masquerade comment "masquerade local traffic"',
        f'fib saddr type local goto service-{base} comment "short-circuit local traffic"',
        f"goto local-{base}",
    ]
    own = chain_base(local, local.ports[0], "10.244.1.2/8080")
    assert rules(table, f"local-{base}")[1:] == [
        f"ip saddr @affinity-{own} goto endpoint-{own}", f"numgen random mod 1 vmap {{ 0 : goto endpoint-{own} }}",
    ]  # fmt: skip
    assert "timeout 1m30s" in str(table.sets[f"affinity-{own}"])
    assert f"update @affinity-{own} {{ ip saddr }}" in rules(table, f"endpoint-{own}")
    nobody = written(local, node="n3")
    assert '10.96.0.100 . tcp . 80 comment "default/web:http" : drop' in str(nobody.sets["no-endpoint-services"])
    assert 'tcp . 30080 comment "default/web:http" : drop' in str(nobody.sets["no-endpoint-nodeports"])


def test_settings() -> None:
    assert "net.ipv4.conf.all.route_localnet" not in NFT.sysctls
    with pytest.raises(ValueError, match=r"there is no mode of kube-proxy 'nftable'; did you mean 'nftables'\?"):
        KubeProxy(mode="nftable")
    marked = written(proxy=replace(NFT, masquerade_bit=15, random_fully=False))
    assert rules(marked, "mark-for") == ["meta mark set meta mark | 0x00008000"]
    assert rules(marked, "masquerading")[2] == "masquerade"


@needs_data
@pytest.mark.skipif(not shutil.which("nft") or not shutil.which("unshare") or os.name != "posix" or os.geteuid() != 0,
                    reason="root and nft are needed")  # fmt: skip
def test_nft_prints_the_table_as_we_write_it() -> None:
    """Whatever the order of chains, which nft lists as they were made."""
    script = ["unshare", "-n", "sh", "-c", "nft -f - && nft list ruleset"]
    for text in (overall(), str(written())):
        done = subprocess.run(script, input=text, capture_output=True, text=True, check=False)
        if "Operation not" in done.stderr:
            pytest.skip(done.stderr.splitlines()[0])
        assert done.returncode == 0, done.stderr
        assert sorted(done.stdout.splitlines()) == sorted(text.splitlines())
