"""A fault on a walk, and the same fault in this machine's kernel."""

from __future__ import annotations

import pytest

from packetwalk.edit import whatif
from packetwalk.engine.walk import address_of
from packetwalk.kernel.realise import missing_features
from packetwalk.prove import prove
from packetwalk.source import from_mode
from packetwalk.trace import Flow

pytestmark = pytest.mark.usefixtures("kernel")

FAR = "02:00:00:00:00:99"
FAULTS: list[tuple[str, tuple[str, ...], int, str]] = [
    ("flat-bridge", ("node-2 sysctl net.ipv4.ip_forward=0",), -1, "timeout"),
    ("flat-bridge", ("node-1 route replace 10.244.2.0/24 via 192.168.56.1",), -1, "timeout"),
    ("flat-bridge", ("node-1 link set cni0 mtu 600",), 1400, "reply"),
    ("flat-bridge", ("link node-2 down",), -1, "timeout"),
    ("flat-bridge", ("node-1 addr del 192.168.56.11/24 dev eth0",), -1, "icmp_error"),
    ("flannel-vxlan", ("link node-1 mtu 1400",), 1400, "timeout"),  # the vxlan keeps its MTU and does not know
    ("flannel-vxlan", ("node-1 link set flannel.1 down",), -1, "timeout"),
    ("flannel-vxlan", ("node-1 link del flannel.1",), -1, "timeout"),
    ("flat-bridge", ("node-1 link del cni0",), -1, "timeout"),
    ("flannel-vxlan", ("node-1 neigh del 10.244.2.0 dev flannel.1",), -1, "timeout"),
    ("flannel-vxlan", (f"node-1 neigh replace 10.244.2.0 lladdr {FAR} dev flannel.1",), -1, "timeout"),
    ("flannel-vxlan", (f"node-1 neigh replace 10.244.2.0 lladdr {FAR} dev flannel.1",
                       f"node-1 fdb append {FAR} dev flannel.1 dst 192.168.56.12"), -1, "timeout"),
    ("flat-bridge", ("node-1 iptables -I FORWARD -s 10.244.1.2 -j REJECT",), -1, "icmp_error"),
    ("flat-bridge", ("node-1 iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE",), -1, "reply"),
    ("flat-bridge", ("node-2 iptables -N mine", "node-2 iptables -A FORWARD -d 10.244.2.2 -j mine",
                     "node-2 iptables -A mine -m conntrack --ctstate NEW -j DROP"), -1, "timeout"),
    ("flannel-vxlan", ("node-2 iptables -P INPUT DROP",), -1, "timeout"),
    ("calico-vxlan", ("node-1 rule add to 10.244.0.0/16 prohibit",), -1, "timeout"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "lines", "size", "outcome"), FAULTS, ids=[lines[-1] for _, lines, _, _ in FAULTS])
def test_a_kernel_agrees_about_a_fault(mode: str, lines: tuple[str, ...], size: int, outcome: str) -> None:
    network = whatif(from_mode(mode), *lines)
    if missing := missing_features(network):
        pytest.skip(f"missing here: {', '.join(missing)}")
    flow = Flow("icmp", "a", address_of(network, "b"), size=size, to="b")
    proof = prove(network, flow, timeout=0.15, cold=True)
    assert proof.verdict.agrees, str(proof)
    assert proof.probe["result"]["outcome"] == outcome
