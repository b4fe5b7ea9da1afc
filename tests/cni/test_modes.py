"""Every mode: found by its name, and a pod reaches a pod under it."""

import pytest

from packetwalk.cni import MODES, find, modes, parse
from packetwalk.engine.walk import address_of, walk
from packetwalk.kube.build import build
from packetwalk.kube.cluster import default_cluster
from packetwalk.trace import Flow

WALKS = {
    "flat-bridge": "a > node-1 > fabric > node-2 > b > node-2 > fabric > node-1 > a : reply ttl 62",
    "flannel-host-gw": "a > node-1 > fabric > node-2 > b > node-2 > fabric > node-1 > a : reply ttl 62",
}
SAME_NODE = {
    "flat-bridge": "a > node-1 > c > node-1 > a : reply ttl 64",
    "flannel-host-gw": "a > node-1 > c > node-1 > a : reply ttl 64",
}


@pytest.mark.parametrize("mode", MODES)
def test_the_walk_between_nodes_and_on_one(mode: str) -> None:
    network = build(default_cluster(find(mode)))
    for dst, expected in (("b", WALKS[mode]), ("c", SAME_NODE[mode])):
        trace = walk(network, Flow("icmp", "a", address_of(network, dst)))
        assert trace.minimal() == expected


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_is_called_what_its_cni_calls_itself(mode: str) -> None:
    assert find(mode).name == mode and modes()[mode] == MODES[mode].about


def test_the_same_cluster_is_built_alike_and_another_seed_draws_anew() -> None:
    def macs(seed: int) -> list[str]:
        network = build(default_cluster(find("flannel-host-gw"), seed=seed))
        return [str(d.mac) for d in network["node-1"].devices.values()]

    assert macs(0) == macs(0) != macs(1)


def test_options_on_a_command_line() -> None:
    cni = parse("flat-bridge:mtu=1400:hairpin:bridge=cnio0")
    assert repr(cni) == "FlatBridge(bridge='cnio0', mtu=1400, hairpin=True)"
    assert repr(parse("flat-bridge:hairpin=false")) == "FlatBridge(bridge='cni0', mtu=1500, hairpin=False)"


def test_unknown_words_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="no CNI 'flat-brige'; did you mean 'flat-bridge'"):
        find("flat-brige")
    with pytest.raises(ValueError, match="flat-bridge: there is no option 'mtuu'; did you mean 'mtu'"):
        parse("flat-bridge:mtuu=1")
