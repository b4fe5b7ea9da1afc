"""prove, record and agree on the command line, as far as no kernel is asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from packetwalk.cli import main, prove
from packetwalk.predict import predict
from packetwalk.source import SAMPLE

Capture = pytest.CaptureFixture[str]


def recording(folder: Path, **wrong: object) -> Path:
    """The sample with one probe, whose answer is our own prediction but for what is given."""
    shutil.copytree(SAMPLE, folder)
    spec = {"kind": "icmp", "src": "a", "dst": "10.244.2.2", "id": 4660, "seq": 1}
    about = {"name": folder.name, "setup": {}, "probes": [{"name": "p1", "spec": spec}]}
    (folder / "recording.json").write_text(json.dumps(about))
    answer = predict(folder)["probes"][0]
    about["probes"] = [{"spec": spec, **answer, "before": {}, **wrong}]
    (folder / "recording.json").write_text(json.dumps(about))
    return folder


def test_agree_prints_a_table_and_is_content(tmp_path: Path, capsys: Capture) -> None:
    one, two = recording(tmp_path / "one"), recording(tmp_path / "two")
    assert main(["agree", str(one), str(two)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in out[:2]] == [["one", "1", "of", "1"], ["two", "1", "of", "1"]]
    assert out[-1].startswith("2 of 2 probes agree; ")


def test_agree_shows_where_a_kernel_differs(tmp_path: Path, capsys: Capture) -> None:
    wrong = recording(tmp_path / "wrong", result={"outcome": "reply", "src": "10.244.2.2", "ttl": 61})
    assert main(["agree", str(wrong)]) == 1
    assert "p1: result: ttl: kernel 61, predicted 62" in capsys.readouterr().out
    assert main(["agree", str(wrong), "-o", "json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["probes"], told["agree"]) == (1, 0)
    assert told["recordings"][0]["probes"][0]["differences"][0]["where"] == "result"
    assert main(["agree", str(wrong), "--probe", "other"]) == 0


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("agree nowhere", "nowhere: no such folder"),
        (f"agree {SAMPLE}", "recording.json: this file is missing"),
        (f"agree {SAMPLE} -o yaml", "there is no output format 'yaml'; there are text, json"),
        ("prove a nobody", "there is no room or service 'nobody'"),
        ("prove a b --ttl 0", "--ttl 0 is out of range: 1 to 255 was expected"),
        ("prove a b --timeout 0", "--timeout 0 is out of range: 0.1 to 60 was expected"),
        ("prove a b -o jsn", "did you mean 'json'?"),
        ("record DIR --probe x", "Missing argument 'DST'"),
        ("record DIR", "nothing to send: give --probe 'SRC DST ...' or --like RECORDING"),
        (f"record {SAMPLE}", "is there already; a new or an empty folder was expected"),
        ("record DIR --like nowhere", "recording.json: this file is missing"),
    ],
)
def test_bad_input_is_one_line_and_status_2(line: str, complaint: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(line.replace("DIR", str(tmp_path / "new")).split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and complaint in err
    assert not (tmp_path / "new").exists()


def test_a_recording_without_answers_is_bad_input(tmp_path: Path, capsys: Capture) -> None:
    folder = recording(tmp_path / "cut")
    about = json.loads((folder / "recording.json").read_text())
    del about["probes"][0]["frames"]
    (folder / "recording.json").write_text(json.dumps(about))
    assert main(["agree", str(folder)]) == 2
    assert "not a recording with answers: KeyError('frames')" in capsys.readouterr().err


def test_what_this_machine_has_not_is_status_3(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    pytest.importorskip("fcntl")
    monkeypatch.setattr("packetwalk.kernel.realise.missing_features", lambda network: ("ipip", "geneve"))
    assert main(["prove", "a", "b"]) == prove.MISSING == 3
    assert capsys.readouterr().err == "packetwalk: missing here: ipip, geneve\n"


def test_without_root_nothing_is_tried(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    pytest.importorskip("fcntl")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main(["prove", "a", "b"]) == 3
    assert capsys.readouterr().err == "packetwalk: missing here: root\n"
