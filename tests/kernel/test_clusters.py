"""Traffic of clusters beside that from pod to pod, in a kernel: on a node, out, to a node and from one, with NAT."""

from __future__ import annotations

import pytest

from packetwalk.cli import main
from packetwalk.cni import MODES, parse
from packetwalk.engine.walk import between
from packetwalk.kernel.probe import spec_of
from packetwalk.kernel.realise import missing_features
from packetwalk.kube.build import build
from packetwalk.kube.cluster import default_cluster
from packetwalk.prove import examine

pytestmark = pytest.mark.usefixtures("kernel")


PLACES = [*MODES, "flat-bridge:ip_masq", "flat-bridge:segment"]


@pytest.mark.parametrize("mode", PLACES)
def test_the_kernel_agrees_under_every_mode(mode: str) -> None:
    network = build(default_cluster(parse(mode)))
    if missing := missing_features(network):
        pytest.skip(f"this kernel has no {', '.join(missing)}")
    ends = (("a", "c"), ("a", "out"), ("a", "node-2"), ("node-1", "b"))  # on the node, out, to a node, from one
    flows = [between(network, src, dst) for src, dst in ends]
    for proof in examine(network, [{"spec": spec_of(flow, 0.2)} for flow in flows]):
        assert proof.verdict.agrees, str(proof)


def test_all_prints_a_line_for_each_mode(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packetwalk.cni.MODES", {name: MODES[name] for name in ("flat-bridge", "geneve")})
    assert main(["prove", "a", "b", "--all", "--timeout", "0.2"]) == 0
    bridge, geneve = capsys.readouterr().out.splitlines()
    assert bridge == "flat-bridge  kernel agrees: 20 of 20 frames on 10 interfaces, reply src 10.244.2.2 ttl 62"
    assert geneve.startswith("geneve       ") and ("kernel agrees" in geneve or geneve.endswith("missing here: geneve"))
