"""Every kind of traffic in every mode: who the receiver sees, which way it goes; and the README's table says the same.

What is expected is that of the references: services-policy A8 and B5, cni-datapaths 15.1.
"""

from pathlib import Path

import pytest

from packetwalk.cni import MODES
from packetwalk.engine.walk import walk
from packetwalk.kube.kubeproxy import MODES as PROXIES
from tests.walks import KINDS, Kind, cell, network, table, way

TUNNELS = {
    "flannel-vxlan": "flannel.1", "flannel-ipip": "flannel.ipip", "calico-ipip": "tunl0",
    "calico-vxlan": "vxlan.calico", "geneve": "genev0",
}  # fmt: skip
BRIDGES = {"flat-bridge", "flannel-host-gw", "flannel-vxlan", "flannel-ipip"}
BARE = {"flat-bridge", "geneve"}  # they leave masquerading to others
BEGIN, END = "<!-- walks: python -m tests.walks -->\n", "<!-- end of walks -->"


def expected(kind: Kind, mode: str, proxy: str) -> str:
    """What the receiver is to see as source.

    In IPVS mode a node without a pod of a service with the policy Local leads to others (proxier.go, syncEndpoint: a
    client outside discards the answer); flannel's masquerading of what comes from outside lets it through. What a pod
    sends to itself is dropped on its way back only, as the way there was routed.
    """
    if proxy == "ipvs" and kind.words == "same, Local, pod elsewhere":
        return TUNNELS.get(mode, "node") if mode.startswith("flannel") else "client, no answer"
    if (proxy, kind.words, mode) == ("ipvs", "pod to its own service", "flat-bridge"):
        return "cni0, no answer"
    remote, local = TUNNELS.get(mode, "node"), "cni0" if mode in BRIDGES else "node"
    hides = mode not in BARE
    return {
        "pod to its own service": "dropped (BRIDGE_NON_FORWARDING)" if mode == "flat-bridge" else local,
        "node to ClusterIP": remote,
        "outside to NodePort, pod elsewhere": remote,
        "same, Local, pod elsewhere": "dropped (NETFILTER_DROP)",
        "same, Local, pod on that node": "client",
        "LoadBalancer in layer 2": remote,
        "LoadBalancer of a cloud": remote,
        "same, policy Local": "client",
        "pod to outside": "node" if hides else "pod, no answer",
        "same, without masquerade": "pod, no answer",
        "pod to another node": "node" if hides else "pod",
        "kubelet to a pod of its node": local,
        "host-network pod to pod elsewhere": remote,
        "pod to host-network pod elsewhere": "node" if hides else "pod",
        "pod to ClusterIP of host-network pod": "node" if hides else "pod",
    }.get(kind.words, "pod")


CASES = [(kind, proxy) for proxy in PROXIES for kind in KINDS if kind.proxied or proxy == PROXIES[0]]


@pytest.mark.parametrize(("kind", "proxy"), CASES, ids=lambda one: getattr(one, "words", one))
@pytest.mark.parametrize("mode", MODES)
def test_a_kind_of_traffic_in_a_mode(mode: str, kind: Kind, proxy: str) -> None:
    """With kube-proxy in every mode of its own, where it has a part in it: the README's table holds for all."""
    where = network(kind, mode, proxy)
    trace = walk(where, kind.src, kind.dst)
    assert cell(trace, where) == expected(kind, mode, proxy)
    found = way(trace, where)
    if (proxy, kind.words) == ("ipvs", "same, Local, pod elsewhere"):
        assert found.startswith("out node-1 node-2 b node-2 ")
        return
    assert found.startswith(kind.way) or (not trace.delivered and kind.way.startswith(found))


def test_the_readme_has_the_table(root: Path, request: pytest.FixtureRequest) -> None:
    """`pytest --update-golden` writes it anew."""
    path = root / "README.md"
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    shown, end, after = rest.partition(END)
    assert begin and end, "the README has lost the marks around the table"
    made = "\n".join(["", *table(), "", ""])
    if request.config.getoption("--update-golden"):
        path.write_text(before + begin + made + end + after, encoding="utf-8")
    else:
        assert shown == made
