"""The kernel's own word, anywhere: the recordings in tests/recordings, judged as those beside the project are."""

import json
import shutil
from pathlib import Path

import pytest

from packetwalk.predict import predict

FOLDERS = sorted(p.parent for p in (Path(__file__).parent / "recordings").glob("*/recording.json"))
ANSWERS = ("frames", "result", "rule_hits", "conntrack", "kernel_drops")


def questions(folder: Path, where: Path) -> Path:
    """A copy of the recording without what the kernel answered."""
    copy = Path(shutil.copytree(folder, where / folder.name))
    recording = json.loads((copy / "recording.json").read_text())
    for probe in recording["probes"]:
        for answer in ANSWERS:
            probe.pop(answer, None)
    (copy / "recording.json").write_text(json.dumps(recording))
    return copy


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_every_probe_agrees_with_the_kernel(folder: Path, tmp_path: Path) -> None:
    judge = pytest.importorskip("packetwalk.judge")
    verdicts = judge.judge_recording(folder, predict(questions(folder, tmp_path))["probes"])
    assert len(verdicts) >= 8
    assert {v.probe: list(map(str, v.differences)) for v in verdicts if not v.agrees} == {}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_a_walk_comes_to_what_the_kernel_said(folder: Path, tmp_path: Path) -> None:
    """The client's result, probe by probe; frames are the judge's business."""
    told = {p["name"]: p["result"]["outcome"] for p in json.loads((folder / "recording.json").read_text())["probes"]}
    found = {p["name"]: p["result"]["outcome"] for p in predict(questions(folder, tmp_path))["probes"]}
    assert found == told


def test_there_are_recordings() -> None:
    assert len(FOLDERS) >= 4
