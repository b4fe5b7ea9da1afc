"""Plans of address ranges: what fits, what overlaps, what is suggested, what kubeadm and each CNI are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packetwalk.addr import Prefix
from packetwalk.cni import MODES, parse
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster
from packetwalk.kube.plan import FIXED, NODES, OUTSIDE, PODS, PRIVATE, SERVICES, Plan, Wanted, plan, suggest

P = Prefix.parse


def made(mode: str = "flannel-vxlan", nodes: int = 3, pods: int = 110, **given: object) -> Plan:
    words = {k: P(v) if isinstance(v, str) else v for k, v in given.items()}
    return plan(Wanted(nodes, pods, **words), parse(mode))  # type: ignore[arg-type]


def problems(found: Plan) -> list[str]:
    return [str(conflict) for conflict in found.conflicts]


def test_what_everybody_has_where_nothing_is_given() -> None:
    found = made()
    assert [str(found.prefix(kind)) for kind in (NODES, PODS, SERVICES)] == [
        "192.168.56.0/24", "10.244.0.0/16", "10.96.0.0/12"]  # fmt: skip
    assert found.kubeadm == ("kubeadm init --pod-network-cidr=10.244.0.0/16 --service-cidr=10.96.0.0/12",)
    assert not found.conflicts and not found.notes
    services = next(r for r in found.ranges if r.kind == SERVICES)
    assert services.use == "kubernetes 10.96.0.1, DNS 10.96.0.10, 1048574 in all"


@pytest.mark.parametrize(
    ("mode", "nodes", "most"),
    [
        ("flannel-vxlan", 256, 253),  # .0, .1 and .255 of a /24 go to no pod
        ("flat-bridge", 256, 253),
        ("calico-bgp", 512, 1280),  # two blocks of 64 for 110 pods; 20 blocks at most
        ("calico-ipip", 512, 1279),  # and one address of each node's for tunl0
        ("calico-ipip:block_size=28", 585, 319),  # 111 addresses are 7 blocks of 16
    ],
)
def test_how_many_nodes_and_pods_fit(mode: str, nodes: int, most: int) -> None:
    found = made(mode, pod_cidr="10.244.0.0/16")
    assert found.fits[0].startswith(f"{nodes} nodes with 110 pods each")
    assert found.fits[1] == f"{most} pods on one node at most"


@pytest.mark.parametrize("mode", ["flannel-host-gw", "calico-bgp:block_size=29", "calico-ipip:block_size=29"])
def test_what_fits_is_what_a_cluster_can_be_built_with(mode: str) -> None:
    """The plan's arithmetic against the allocators themselves, in a small pool."""
    found = made(mode, nodes=3, pods=5, pod_cidr="10.244.0.0/26", node_mask=29)
    assert ("host" in mode) == (found.fits[1] == "5 pods on one node at most")
    fit = int(found.fits[0].split()[0]) - (1 if "host" in mode else 0)  # the first range is a node's that is not drawn
    for nodes, holds in ((fit, True), (fit + 1, False)):
        cluster = Cluster(nodes, parse(mode), pod_cidr=str(found.prefix(PODS)), node_mask=found.node_mask)
        for number in range(nodes * 5):
            cluster.pod(f"p{number}", number % nodes + 1)
        if holds:
            build(cluster)
        elif mode == "flannel-host-gw":  # Calico borrows addresses of other nodes' blocks first
            with pytest.raises(ValueError, match="is too small"):
                build(cluster)


def test_the_node_mask_follows_the_pods() -> None:
    assert [made(pods=n).node_mask for n in (110, 253, 254, 509, 510)] == [24, 24, 23, 23, 22]
    found = made(pods=500)
    assert found.kubeadm[1:] == (
        'ClusterConfiguration (v1beta4): controllerManager: {extraArgs: [{name: node-cidr-mask-size, value: "23"}]}',
        "KubeletConfiguration: maxPods: 500",
    )
    assert "500 pods on a node: Kubernetes is tested with 110" in found.notes


def test_a_pool_smaller_than_node_ranges_turns_the_controllers_off() -> None:
    """Calico has no use for node ranges; kubeadm checks them all the same, and the controller would run out."""
    found = made("calico-bgp", nodes=8, pods=50, pod_cidr="10.244.0.0/22")
    assert not found.conflicts
    assert 'name: allocate-node-cidrs, value: "false"' in found.kubeadm[1]
    small = made("calico-bgp", nodes=1, pods=50, pod_cidr="10.244.0.0/26")
    assert small.node_mask == 26 and not small.conflicts


TOO_SMALL = [
    ({"nodes": 50, "pod_cidr": "10.244.0.0/20"}, "pods: 10.244.0.0/20 holds 16 nodes, 50 were wanted"),
    ({"pods": 110, "node_mask": 26}, "pods: a node holds 61 pods, 110 were wanted"),
    ({"nodes": 50, "node_cidr": "192.168.56.0/27"}, "nodes: 192.168.56.0/27 holds 20 nodes, 50 were wanted"),
    ({"service_cidr": "10.96.0.0/24"}, "services: 10.96.0.0/24 holds 254 services, 1000 were wanted"),
    ({"service_cidr": "10.64.0.0/11"}, "services: kubeadm refuses 10.64.0.0/11: /12 is the largest"),
    ({"service_cidr": "10.96.0.0/29", "services": 3}, "kubeadm refuses 10.96.0.0/29: 10 addresses are the fewest"),
    ({"pod_cidr": "10.244.0.0/25", "nodes": 1}, "kubeadm refuses 10.244.0.0/25 with node ranges of /24"),
    ({"pod_cidr": "10.0.0.0/8", "node_mask": 25, "service_cidr": "172.20.0.0/16"}, "they may be 16 bits longer"),
    ({"nodes": 250, "pod_cidr": "10.244.0.0/16", "service_cidr": "10.244.128.0/20"}, "holds 240 nodes, 250 were"),
]


@pytest.mark.parametrize(("given", "message"), TOO_SMALL, ids=[message for _, message in TOO_SMALL])
def test_what_is_too_small_or_refused(given: dict[str, object], message: str) -> None:
    assert any(message in problem for problem in problems(made(**given)))  # type: ignore[arg-type]


OVERLAPS = [
    ({"pod_cidr": "10.96.0.0/16"}, "pods 10.96.0.0/16 overlaps services 10.96.0.0/12", "kube-proxy takes"),
    ({"pod_cidr": "192.168.0.0/16", "node_cidr": "192.168.56.0/24"}, "pods 192.168.0.0/16 overlaps nodes", "go astray"),
    ({"service_cidr": "192.168.0.0/16", "node_cidr": "192.168.56.0/24"}, "services 192.168.0.0/16 overlaps nodes", ""),
    ({"pod_cidr": "172.16.0.0/12"}, "pods 172.16.0.0/12 overlaps docker0 172.17.0.0/16", "Docker masquerades"),
    ({"service_cidr": "172.17.0.0/16"}, "services 172.17.0.0/16 overlaps docker0", "by ARP on docker0"),
    ({"node_cidr": "172.17.4.0/24"}, "nodes 172.17.4.0/24 overlaps docker0", "end at docker0"),
    ({"pod_cidr": "169.254.0.0/16"}, "pods 169.254.0.0/16 overlaps link-local 169.254.0.0/16", "no router forwards"),
    ({"node_cidr": "127.0.0.0/24"}, "nodes 127.0.0.0/24 overlaps loopback 127.0.0.0/8", "leaves a host"),
    ({"pod_cidr": "240.0.0.0/8"}, "pods 240.0.0.0/8 overlaps multicast 224.0.0.0/3", "no host"),
]


@pytest.mark.parametrize(("given", "which", "what"), OVERLAPS, ids=[which for _, which, _ in OVERLAPS])
def test_overlaps_and_what_comes_of_them(given: dict[str, object], which: str, what: str) -> None:
    wanted = {"service_cidr": "10.96.0.0/12", **given}
    assert any(problem.startswith(which) and what in problem for problem in problems(made(**wanted)))  # type: ignore[arg-type]


def test_what_overlaps_outside() -> None:
    office = (("office", P("10.0.0.0/8")),)
    found = made(pod_cidr="10.244.0.0/16", node_cidr="10.1.0.0/24", service_cidr="10.96.0.0/12", outside=office)
    assert [(c.one.kind, c.other.kind, str(c.overlap)) for c in found.conflicts if c.other] == [
        (NODES, OUTSIDE, "10.1.0.0/24"), (PODS, OUTSIDE, "10.244.0.0/16"), (SERVICES, OUTSIDE, "10.96.0.0/12"),
    ]  # fmt: skip
    reused = "office 10.0.0.0/8 reuses pods 10.244.0.0/16, services 10.96.0.0/12, nodes 10.1.0.0/24: "
    assert any(line.startswith(reused) for line in found.edge)


def test_a_reused_network_gets_other_addresses_at_the_edge() -> None:
    branch = (("branch", P("10.244.3.0/24")), ("other", P("10.244.4.0/24")))
    found = made(pod_cidr="10.244.0.0/16", outside=branch)
    shown = [line.partition(" as ")[2].split()[0] for line in found.edge if "reuses" in line]
    assert shown == ["100.64.0.0/24", "100.64.1.0/24"]


def test_what_nobody_can_help_is_a_note_and_no_conflict() -> None:
    found = made(outside=(("a", P("172.16.0.0/12")), ("b", P("172.31.0.0/16"))))
    assert not found.conflicts
    assert [note.partition(":")[0] for note in found.notes] == [
        "a 172.16.0.0/12 overlaps b 172.31.0.0/16", "docker0 172.17.0.0/16 overlaps a 172.16.0.0/12"]  # fmt: skip


def test_public_addresses_are_noted() -> None:
    assert made(node_cidr="8.8.8.0/24").notes == (
        "nodes 8.8.8.0/24 is not private: whoever has these addresses on the internet is out of reach",)  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_snat_at_the_edge_is_said_as_the_mode_does_it(mode: str) -> None:
    """What the plan says of masquerading is what a walk to the outside meets."""
    from packetwalk.engine.walk import walk
    from packetwalk.kube.cluster import default_cluster

    said = made(mode).edge[0]
    hidden = bool(walk(build(default_cluster(parse(mode))), "a", "out").nat)
    assert hidden == said.startswith("pods to outside: SNAT on the node (")


def test_settings_of_each_cni() -> None:
    assert made("flannel-vxlan").settings == (
        'kube-flannel-cfg: net-conf.json: {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}',)  # fmt: skip
    assert made("calico-vxlan-crosssubnet:block_size=27").settings == (
        "calico-node: CALICO_IPV4POOL_CIDR=10.244.0.0/16 CALICO_IPV4POOL_BLOCK_SIZE=27",
        "calico-node: CALICO_IPV4POOL_IPIP=Never CALICO_IPV4POOL_VXLAN=CrossSubnet CALICO_IPV4POOL_NAT_OUTGOING=true",
    )
    assert "ip route add RANGE via NODE" in made("flat-bridge").settings[1]


networks = st.builds(Prefix.of, st.sampled_from([int(p.addr) for p in PRIVATE]).flatmap(
    lambda base: st.integers(base, base + 0xFFFFF)), st.integers(9, 28))  # fmt: skip


@given(st.integers(1, 400), st.integers(1, 600), st.lists(networks, max_size=4), st.sampled_from(sorted(MODES)))
def test_a_suggested_plan_has_no_conflicts(nodes: int, pods: int, outside: list[Prefix], mode: str) -> None:
    try:
        found = plan(Wanted(nodes, pods, outside=tuple((f"o{i}", p) for i, p in enumerate(outside))), parse(mode))
    except ValueError as error:
        assert "no private range" in str(error)
        return
    assert not found.conflicts, problems(found)


def test_there_may_be_no_range_left() -> None:
    with pytest.raises(ValueError, match=r"no private range of /16 is left for pods: give one, or fewer"):
        suggest(PODS, 16, PRIVATE)
    assert suggest(NODES, 26, [*FIXED.values(), P("192.168.0.0/16"), P("10.0.0.0/8")]) == P("172.16.0.0/24")
