"""The judge: the same verdicts as ../shared/agree.py, on predictions that are right and on ones that were spoilt."""

from __future__ import annotations

import copy
import importlib.util
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from packetwalk.judge import given_ports, judge, judge_recording, judged, line
from packetwalk.predict import predict

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
RECORDINGS = sorted(d.name for d in (SHARED / "recordings").glob("*") if (d / "recording.json").exists())


def eth(src: int = 1, dst: int = 2, kind: str = "0x0800") -> dict[str, Any]:
    return {"proto": "eth", "src": f"02:00:00:00:00:{src:02x}", "dst": f"02:00:00:00:00:{dst:02x}", "type": kind}


def ip(**other: Any) -> dict[str, Any]:
    usual = {"src": "10.0.0.1", "dst": "10.0.0.2", "ttl": 64, "tos": 0, "id": 7, "df": True, "mf": False, "offset": 0}
    return {"proto": "ip", **usual, "protocol": 1, "len": 84, **other}


def icmp(**other: Any) -> dict[str, Any]:
    return {"proto": "icmp", "type": 8, "code": 0, "id": 4660, "seq": 1, **other}


def frame(at: int, room: str, way: str, *layers: dict[str, Any], dev: str = "eth0") -> dict[str, Any]:
    return {"t_ns": at, "netns": room, "dev": dev, "dir": way, "len": 98, "layers": list(layers)}


def ping() -> list[dict[str, Any]]:
    return [frame(0, "a", "out", eth(), ip(), icmp()), frame(5, "b", "in", eth(), ip(), icmp())]


def probe(frames: list[dict[str, Any]], **result: Any) -> dict[str, Any]:
    spec = {"kind": "icmp", "src": "a", "dst": "10.0.0.2", "id": 4660, "seq": 1}
    return {"name": "p1", "spec": spec, "before": {}, "result": result or {"outcome": "timeout"}, "frames": frames}


WIRES = [[["a", "eth0"], ["b", "eth0"]]]


def differences(kernel: dict[str, Any], frames: list[dict[str, Any]], **result: Any) -> list[str]:
    predicted = {"frames": frames, "result": result or {"outcome": "timeout"}}
    return list(map(str, judge(kernel, predicted, WIRES).differences))


def test_what_a_kernel_chooses_freely_is_not_compared() -> None:
    """Times and IP ids."""
    ours = [frame(100, "a", "out", eth(), ip(id=1), icmp()), frame(101, "b", "in", eth(), ip(id=1), icmp())]
    verdict = judge(probe(ping()), {"frames": ours, "result": {"outcome": "timeout"}}, WIRES)
    assert verdict.agrees
    assert (verdict.same, verdict.total, verdict.interfaces) == (2, 2, 2)


def test_a_header_field_that_differs_is_named_with_both_values() -> None:
    ours = [*ping()[:1], frame(5, "b", "in", eth(), ip(ttl=63), icmp())]
    assert differences(probe(ping()), ours) == [
        "b/eth0: frame 1 (kernel 1, predicted 1); ip ttl: kernel 64, predicted 63"
    ]


def test_a_missing_frame_and_one_too_many_are_told_apart() -> None:
    assert differences(probe(ping()), ping()[:1]) == ["b/eth0: frame 1 (kernel 1, predicted 0)"]
    assert differences(probe(ping()[:1]), ping()) == ["b/eth0: frame 1 (kernel 0, predicted 1)"]


def test_nothing_arrives_before_it_left() -> None:
    early = [frame(5, "a", "out", eth(), ip(), icmp()), frame(4, "b", "in", eth(), ip(), icmp())]
    assert differences(probe(ping()), early) == ["b/eth0: a frame arrives before it left"]


def test_a_free_port_is_renamed_alike_everywhere_and_a_given_one_is_not() -> None:
    """The id of an echo that MASQUERADE rewrote: the same name at every interface."""

    def rewritten(number: int, last: int) -> list[dict[str, Any]]:
        return [frame(0, "a", "out", eth(), ip(), icmp(id=number)), frame(5, "b", "in", eth(), ip(), icmp(id=last))]

    assert not differences(probe(rewritten(999, 999)), rewritten(555, 555))
    assert differences(probe(rewritten(999, 999)), rewritten(555, 556))
    assert differences(probe(rewritten(999, 999)), rewritten(4660, 4660))


def test_the_source_port_of_a_tunnel_is_free_but_not_zero() -> None:
    def outer(sport: int) -> list[dict[str, Any]]:
        udp = {"proto": "udp", "sport": sport, "dport": 4789, "payload": 106}
        return [frame(0, "a", "out", eth(), ip(protocol=17), udp, {"proto": "vxlan", "vni": 1})]

    assert not differences(probe(outer(40001)), outer(50001))
    assert differences(probe(outer(40001)), outer(0))


def test_a_known_neighbour_may_be_asked_again_and_an_unknown_one_may_not() -> None:
    ask = {"proto": "arp", "op": "request", "sha": "x", "spa": "10.0.0.1", "tha": "y", "tpa": "10.0.0.2"}
    refresh = frame(0, "a", "out", eth(kind="0x0806"), ask)
    kernel = probe(ping())
    assert differences(kernel, [refresh, *ping()]) == ["a/eth0: unicast ARP for 10.0.0.2, which nobody knew"]
    kernel["before"] = {"a": {"neigh": [{"dst": "10.0.0.2"}]}}
    assert not differences(kernel, [refresh, *ping()])


def test_what_the_client_saw_is_compared_key_by_key() -> None:
    kernel = probe(ping(), outcome="reply", src="10.0.0.2", ttl=64)
    assert not differences(kernel, ping(), outcome="reply", src="10.0.0.2", ttl=64, size=84)
    assert differences(kernel, ping(), outcome="reply", src="10.0.0.2", ttl=63) == [
        "result: ttl: kernel 64, predicted 63"
    ]


def test_no_prediction_and_a_malformed_one_are_differences() -> None:
    assert [d.what for d in judge(probe(ping()), None, WIRES).differences] == ["there is none"]
    assert "malformed" in differences(probe(ping()), [{"netns": "a"}])[0]


def test_a_frame_reads_in_one_line() -> None:
    about = icmp(type=3, code=4, id=None, seq=None, mtu=1400, quoted=[ip(), icmp()])
    text = line(frame(0, "a", "out", eth(), ip(tos=192, df=False), about))
    assert text == (
        "out    98  02:00:00:00:00:01 > 02:00:00:00:00:02  ip 10.0.0.1 > 10.0.0.2 ttl 64 tos 192 len 84  "
        "icmp 3/4 mtu 1400 about (ip 10.0.0.1 > 10.0.0.2 ttl 64 df len 84  icmp 8/0 id 4660 seq 1)"
    )


# -- the same verdicts as the judge that is given to us ------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("agree", SHARED / "agree.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def other(value: Any) -> Any:
    """Another value of the same type."""
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else f"{value}x"


def spoilt(frames: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """A prediction with one thing wrong, or nothing."""
    frames = copy.deepcopy(frames)
    if not frames:
        return frames
    i = chance.randrange(len(frames))
    layer = chance.choice(frames[i]["layers"])
    key = chance.choice(sorted(layer.keys() - {"proto", "quoted"}))
    wrongs: list[Callable[[], object]] = [
        lambda: frames.pop(i),
        lambda: frames.insert(i, copy.deepcopy(frames[i])),
        lambda: layer.update({key: other(layer[key])}),
        lambda: frames[i].update(dir="in" if frames[i]["dir"] == "out" else "out"),
        lambda: frames[i].update(t_ns=frames[i]["t_ns"] + 10_000_000),
        lambda: frames[i].update(len=frames[i]["len"] + 1),
        lambda: frames[i]["layers"].pop() if len(frames[i]["layers"]) > 1 else None,
        frames.reverse,
    ]
    chance.choice(wrongs)()
    return frames


@pytest.mark.skipif(not RECORDINGS, reason="../shared/recordings is absent")
@pytest.mark.parametrize("name", RECORDINGS or ["none"])
def test_the_verdicts_are_those_of_agree_py(theirs: ModuleType, name: str) -> None:
    folder = SHARED / "recordings" / name
    recording = json.loads((folder / "recording.json").read_text())
    snapshot = json.loads((folder / "snapshot.json").read_text())
    predictions = predict(folder)["probes"]
    verdicts = {v.probe: v for v in judge_recording(folder, predictions, data=True)}
    found = {p["name"]: p for p in predictions}
    chance = random.Random(name)
    for asked in recording["probes"]:
        if not judged(asked["spec"], data=True):
            assert asked["name"] not in verdicts
            continue
        diffs, same, total = theirs.compare(recording, snapshot, asked, found[asked["name"]])
        ours = verdicts[asked["name"]]
        assert (ours.agrees, ours.same, ours.total) == (not diffs, same, total), (ours, diffs)
        for _ in range(3):
            wrong = {**found[asked["name"]], "frames": spoilt(found[asked["name"]]["frames"], chance)}
            diffs, same, total = theirs.compare(recording, snapshot, asked, wrong)
            ours = judge(asked, wrong, snapshot["wires"], given_ports(recording["setup"]))
            assert (ours.agrees, ours.same, ours.total) == (not diffs, same, total), (ours, diffs)
