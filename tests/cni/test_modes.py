"""Every mode: found by its name, and a pod reaches a pod under it."""

import pytest

from packetwalk.cni import MODES, FlatBridge, find, modes, parse
from packetwalk.engine.walk import address_of, walk
from packetwalk.kube.build import build
from packetwalk.kube.cluster import default_cluster
from packetwalk.trace import Flow

PLAIN = "a > node-1 > fabric > node-2 > b > node-2 > fabric > node-1 > a : reply ttl 62"
SPLIT = "a > node-1 > tor-1 > router [drop IP_INNOROUTES] : timeout"


def tunnelled(kind: str) -> str:
    """The walk through a tunnel of that kind."""
    there, back = f"node-1 [+{kind}] > fabric > node-2 [-{kind}]", f"node-2 [+{kind}] > fabric > node-1 [-{kind}]"
    return f"a > {there} > b > {back} > a : reply ttl 62"


WALKS = {
    "flat-bridge": PLAIN,
    "flannel-host-gw": PLAIN,
    "flannel-vxlan": tunnelled("vxlan"),
    "flannel-ipip": tunnelled("ipip"),
    "calico-bgp": PLAIN,
    "calico-ipip": tunnelled("ipip"),
    "calico-ipip-crosssubnet": PLAIN,
    "calico-vxlan": tunnelled("vxlan"),
    "calico-vxlan-crosssubnet": PLAIN,
    "geneve": tunnelled("geneve"),
}
ROUTED = {"calico-bgp", "calico-ipip", "calico-ipip-crosssubnet", "calico-vxlan", "calico-vxlan-crosssubnet", "geneve"}
SAME_NODE = {mode: f"a > node-1 > c > node-1 > a : reply ttl {63 if mode in ROUTED else 64}" for mode in WALKS}
ACROSS = {"flat-bridge": "", "flannel-host-gw": "", "calico-bgp": "", "flannel-vxlan": "vxlan", "flannel-ipip": "ipip",
          "calico-ipip": "ipip", "calico-ipip-crosssubnet": "ipip", "calico-vxlan": "vxlan",
          "calico-vxlan-crosssubnet": "vxlan", "geneve": "geneve"}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_the_walk_between_nodes_and_on_one(mode: str) -> None:
    network = build(default_cluster(find(mode)))
    for dst, expected in (("b", WALKS[mode]), ("c", SAME_NODE[mode])):
        trace = walk(network, Flow("icmp", "a", address_of(network, dst)))
        assert trace.minimal() == expected


@pytest.mark.parametrize("mode", MODES)
def test_the_walk_between_two_subnets(mode: str) -> None:
    """Without a tunnel the router has to know the pods' ranges, and here nobody tells it."""
    network = build(default_cluster(find(mode), racks=2))
    trace = walk(network, Flow("icmp", "a", address_of(network, "b")))
    kind = ACROSS[mode]
    expected = SPLIT if not kind else tunnelled(kind).replace(" fabric ", " tor-1 > router > tor-2 ", 1).replace(
        " fabric ", " tor-2 > router > tor-1 ")  # fmt: skip
    assert trace.minimal() == expected


@pytest.mark.parametrize("mode", MODES)
def test_tcp_to_the_port_that_listens(mode: str) -> None:
    network = build(default_cluster(find(mode), nodes=3, racks=1))
    trace = walk(network, Flow("tcp", "a", address_of(network, "b"), 80, size=100))
    assert (trace.result.outcome, trace.result.echoed) == ("connected", 100)


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_is_called_what_its_cni_calls_itself(mode: str) -> None:
    assert find(mode).name == mode and modes()[mode] == MODES[mode].about


def test_the_same_cluster_is_built_alike_and_another_seed_draws_anew() -> None:
    def macs(seed: int) -> list[str]:
        network = build(default_cluster(find("flannel-host-gw"), seed=seed))
        return [str(d.mac) for d in network["node-1"].devices.values()]

    assert macs(0) == macs(0) != macs(1)


def test_options_on_a_command_line() -> None:
    assert parse("flat-bridge:mtu=1400:hairpin:bridge=cnio0") == FlatBridge("cnio0", 1400, hairpin=True)
    assert parse("flat-bridge:hairpin=false:ip-masq") == FlatBridge(ip_masq=True)


def test_unknown_words_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="no CNI 'flat-brige'; did you mean 'flat-bridge'"):
        find("flat-brige")
    with pytest.raises(ValueError, match="flat-bridge: there is no option 'mtuu'; did you mean 'mtu'"):
        parse("flat-bridge:mtuu=1")


class Outside:
    """An entry point as importlib.metadata gives it, of somebody else's package."""

    name, value = "tidy-bridge", "tidy.cni:make"

    @staticmethod
    def load() -> object:
        return lambda **options: FlatBridge(bridge="tidy0", **options)


def test_a_package_of_someone_else_s_adds_a_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packetwalk.cni.entry_points", lambda group: [Outside] if group == "packetwalk.cni" else [])
    assert list(modes())[-1] == "tidy-bridge" and modes()["tidy-bridge"] == "from tidy.cni:make"
    network = build(default_cluster(parse("tidy-bridge:mtu=1400")))
    assert network["node-1"].device("tidy0").mtu == 1400
    with pytest.raises(ValueError, match="no CNI 'tidy-bride'; did you mean 'tidy-bridge'"):
        find("tidy-bride")


BAD = [
    ("flannel-vxlan:mtu=big", "flannel-vxlan: mtu: a number was expected, not 'big'"),
    ("flannel-vxlan:mtu=60", "flannel-vxlan: mtu 60 is out of range: 68 to 65535 was expected"),
    ("flannel-vxlan:direct_routing=maybe", "flannel-vxlan: direct_routing: true or false was expected, not 'maybe'"),
    ("flannel-vxlan:vni=16777216", "flannel-vxlan: vni 16777216 is out of range"),
    ("calico-ipip:version=next", "calico-ipip: version 'next': one of Calico's, such as 3.30, was expected"),
    ("calico-ipip:block_size=33", "calico-ipip: block_size 33 is out of range: 20 to 32"),
    ("calico-bgp:cross_subnet", "calico-bgp: cross_subnet says when to encapsulate"),
    ("geneve:vni=abc", "geneve: vni: a number was expected, not 'abc'"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[text for text, _ in BAD])
def test_options_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(text)
    assert message in str(error.value) and "\n" not in str(error.value)


EGRESS = {
    "flannel-vxlan": {"ip_masq": False}, "flannel-host-gw": {"ip_masq": False}, "calico-ipip": {"nat_outgoing": False},
    "calico-bgp": {"nat_outgoing": False}, "calico-vxlan": {"nat_outgoing": False},
}  # fmt: skip


@pytest.mark.parametrize("mode", EGRESS)
def test_egress_with_and_without_masquerading(mode: str) -> None:
    """Without it the answer finds no way back: the router beyond the nodes knows no pod."""
    hidden = walk(build(default_cluster(find(mode))), "a", "out")
    assert hidden.delivered and hidden.nat
    bare = walk(build(default_cluster(find(mode, **EGRESS[mode]))), "a", "out")
    assert not bare.delivered and not bare.nat
    assert "out > router [drop IP_INNOROUTES, icmp net unreachable] > out" in bare.minimal()
    assert walk(build(default_cluster(find(mode, **EGRESS[mode]))), "a", "b").delivered


def test_a_router_that_knows_the_pods_needs_no_masquerading() -> None:
    trace = walk(build(default_cluster(find("calico-bgp", nat_outgoing=False, peer_fabric=True))), "a", "out")
    assert trace.delivered and not trace.nat
