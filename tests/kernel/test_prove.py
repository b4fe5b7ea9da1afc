"""prove, record and agree against this machine's own kernel, from the command line to the clean-up."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from packetwalk.addr import IPv4
from packetwalk.cli import main
from packetwalk.kernel.doors import Refused, write_sysctl
from packetwalk.kernel.leftovers import NETNS, OURS
from packetwalk.kernel.realise import MissingFeature, Realised, missing_features, realise
from packetwalk.kernel.record import record
from packetwalk.netns.device import Ipip
from packetwalk.predict import predict
from packetwalk.prove import prove
from packetwalk.trace import Flow
from tests.kernel.lab import Lab, line, probe

pytestmark = pytest.mark.usefixtures("kernel")
Capture = pytest.CaptureFixture[str]


def ours() -> list[str]:
    """Namespaces that this very process has made and not removed; others may be at work beside it."""
    named = (OURS.fullmatch(path.name) for path in (NETNS.iterdir() if NETNS.is_dir() else ()))
    return [name[0] for name in named if name is not None and int(name[1]) == os.getpid()]


def test_a_kernel_agrees_frame_by_frame() -> None:
    before = ours()
    proof = prove(line().network, Flow("icmp", "a", IPv4("10.0.2.2")), timeout=0.15)
    assert str(proof) == "kernel agrees: 8 of 8 frames on 4 interfaces, reply src 10.0.2.2 ttl 63"
    cold = prove(line().network, Flow("icmp", "a", IPv4("10.0.2.2")), timeout=0.15, cold=True)
    assert str(cold) == "kernel agrees: 16 of 16 frames on 4 interfaces, reply src 10.0.2.2 ttl 63"
    assert ours() == before


def test_a_divergence_shows_both_frames_and_the_step_that_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A router that in the kernel, and only there, has been told not to forward."""
    settle = Realised._settle

    def settle_and_spoil(real: Realised) -> None:
        settle(real)
        with real.inside("r"):
            write_sysctl("net.ipv4.conf.eth0.forwarding", 0)

    monkeypatch.setattr(Realised, "_settle", settle_and_spoil)
    proof = prove(line().network, Flow("icmp", "a", IPv4("10.0.2.2")), timeout=0.15, cold=True)
    text = str(proof)
    assert not proof.verdict.agrees
    assert text.startswith("kernel differs: ") and "timeout" in text.splitlines()[0]
    assert "kernel     (nothing)" in text and "predicted  " in text and "by         " in text
    told = proof.to_dict()
    assert told["agrees"] is False and told["results"]["kernel"] == {"outcome": "timeout"}
    assert told["results"]["predicted"]["outcome"] == "reply"


def test_what_the_machine_has_not_is_said_by_name() -> None:
    lab = line()
    lab["a"].link_add("tunl0", Ipip())
    missing = missing_features(lab.network)
    if not missing:
        pytest.skip("this kernel has ipip")
    assert missing == ("ipip",)
    with pytest.raises(MissingFeature, match="missing here: ipip"):
        prove(lab.network, Flow("icmp", "a", IPv4("10.0.2.2")))


def test_a_line_the_kernel_refuses_is_shown_with_its_answer_and_nothing_stays() -> None:
    before = ours()
    lab = Lab()
    lab.wire("a eth0 10.0.1.2/24", "b eth0 10.0.1.3/24", mtu=70000)
    with pytest.raises(Refused, match=r"(?s)mtu 70000.*: .*"), realise(lab.network):
        pytest.fail("a veth cannot have that MTU")
    assert ours() == before


def test_a_recording_holds_what_the_network_says_and_is_judged_as_any_other(shared: Path, tmp_path: Path) -> None:
    lab = line()
    lab["r"].link_set("eth1", mtu=1400)
    lab["b"].link_set("eth0", mtu=1400)
    probes = [
        probe("icmp a 10.0.2.2"), probe("udp a 10.0.2.2:80"), probe("udp a 10.0.2.2:81"), probe("tcp a 10.0.2.2:80"),
        probe("icmp a 10.0.2.2", size=1472, df=True), probe("icmp a 10.0.2.2", size=1472, df=True),
        probe("icmp b 10.0.1.2", ttl=1),
    ]  # fmt: skip
    for n, about in enumerate(probes):
        about["name"] = f"p{n}"
    folder = tmp_path / "mine"
    written = record(lab.network, probes, folder)
    assert [p["name"] for p in written["probes"]] == [p["name"] for p in predict(folder)["probes"]]
    assert main(["agree", str(folder)]) == 0
    done = subprocess.run(
        ["python3", str(shared / "agree.py"), "--cmd", ".venv/bin/packetwalk", str(folder)],
        capture_output=True, text=True, check=False, cwd=shared.parent / Path(__file__).parents[2].name,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1].startswith("7 of 7 probes agree"), done.stdout
    again = json.loads((folder / "recording.json").read_text())
    assert again["probes"][4]["result"]["outcome"] == "icmp_error"
    assert again["probes"][5]["result"] == {"outcome": "send_error", "errno": "EMSGSIZE"}


def test_another_recording_can_be_sent_again(shared: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = shared / "recordings" / "S1-bridge-same-node"
    again = tmp_path / "again"
    assert main(["record", str(again), "--snapshot", str(folder), "--like", str(folder), "--probe", "n1-a n1-b"]) == 0
    capsys.readouterr()
    before = json.loads((folder / "recording.json").read_text())["probes"]
    after = json.loads((again / "recording.json").read_text())["probes"]
    assert [p["result"] for p in after[:-1]] == [p["result"] for p in before]
    assert main(["agree", str(again), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["agree"] == len(after)


def test_prove_from_the_command_line(shared: Path, capsys: Capture) -> None:
    line = f"prove n1-a n1-b --snapshot {shared / 'recordings' / 'S1-bridge-same-node'} --timeout 0.2"
    assert main(line.split()) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("kernel agrees: 8 of 8 frames on 4 interfaces")
    assert main([*line.split(), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["agrees"] is True
