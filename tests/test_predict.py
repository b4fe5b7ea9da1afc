"""The judge: predictions against recordings of a real kernel, by the rules of ../shared/agree.py."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from packetwalk.predict import predict

JUDGED = re.compile(r"S1-|S2-|S3-|S4-|S4b-|S5-|S6b-|X3-|S13-|S14-S3|G\d")
SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
RECORDINGS = sorted(d.name for d in (SHARED / "recordings").glob("*") if JUDGED.match(d.name))


@pytest.fixture(scope="module")
def judge() -> ModuleType:
    spec = importlib.util.spec_from_file_location("agree", SHARED / "agree.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not RECORDINGS, reason="../shared/recordings is absent")
@pytest.mark.parametrize("name", RECORDINGS or ["none"])
def test_every_probe_agrees_with_the_kernel(judge: ModuleType, name: str, tmp_path: Path) -> None:
    folder = SHARED / "recordings" / name
    recording = json.loads((folder / "recording.json").read_text())
    snapshot = json.loads((folder / "snapshot.json").read_text())
    found = {p["name"]: p for p in predict(judge.stripped(folder, tmp_path))["probes"]}
    assert recording["probes"]
    for probe in recording["probes"]:
        if probe["spec"]["kind"] == "tcp" and probe["spec"].get("size"):
            continue  # bulk TCP is not judged: segmentation offload shapes its frames
        differences, _, _ = judge.compare(recording, snapshot, probe, found[probe["name"]])
        assert not differences, f"{probe['name']}: {differences[0]}"
