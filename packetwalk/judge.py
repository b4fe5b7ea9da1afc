"""Whether a prediction agrees with what a kernel was seen to do: frame by frame on each interface, header by header.

Both sides are frames and results in the form of a recording (see `frames`), so this needs no kernel. Compared are, for
each interface, the frames in their order: direction, length, every field of every header. Left open is what a kernel
chooses freely: times, IP ids, source ports of tunnels, ports and ids that nobody gave, when TCP acknowledges, and when
a known neighbour is asked again. Beyond that nothing may arrive before it left, and the client must see the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Frame = dict[str, Any]
Body = tuple[str, int, list[dict[str, Any]]]
End = tuple[str, str]

TUNNEL_PORTS = frozenset({4789, 8472, 6081})
WELL_KNOWN = frozenset({8080, 53, 80, 9, 179, 51820})
RESULT = ("outcome", "src", "ttl", "mtu", "type", "code", "errno", "errqueue", "peer", "size", "mss", "echoed")
"""What a client can see, in the order in which differences are told."""
KINDS = ("icmp", "udp", "tcp", "sctp")
EVERYONE = "ff:ff:ff:ff:ff:ff"


class Difference(NamedTuple):
    """One place where prediction and kernel part. `kernel` and `predicted` are the frames there, None for none."""

    where: str
    what: str
    kernel: Frame | None = None
    predicted: Frame | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Verdict(NamedTuple):
    """The judgement of one probe. same of total: how many of the kernel's frames were predicted."""

    probe: str
    differences: tuple[Difference, ...]
    same: int
    total: int
    interfaces: int

    @property
    def agrees(self) -> bool:
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON has it."""
        told = [{k: v for k, v in d._asdict().items() if v is not None} for d in self.differences]
        return {
            "name": self.probe, "agrees": self.agrees, "frames": {"same": self.same, "kernel": self.total},
            "interfaces": self.interfaces, "differences": told,
        }  # fmt: skip


def judge_recording(folder: Path, predictions: Iterable[Mapping[str, Any]], *, data: bool = False) -> list[Verdict]:
    """A verdict for each judged probe of a recording. Bulk TCP is judged only with `data`: segmentation offload shapes
    its frames. OSError, ValueError or KeyError for a folder that is no recording."""
    recording = json.loads((folder / "recording.json").read_text(encoding="utf-8"))
    wires = json.loads((folder / "snapshot.json").read_text(encoding="utf-8"))["wires"]
    given = given_ports(recording["setup"])
    found = {p["name"]: p for p in predictions}
    return [
        judge(probe, found.get(probe["name"]), wires, given)
        for probe in recording["probes"]
        if judged(probe["spec"], data)
    ]


def judged(spec: Mapping[str, Any], data: bool = False) -> bool:
    """Whether a probe of that specification is judged."""
    return spec["kind"] in KINDS and (data or spec["kind"] != "tcp" or not spec.get("size"))


def given_ports(setup: Mapping[str, Any]) -> set[int]:
    """The ports of a recording's set-up that no kernel chose."""
    ports = set(setup.get("ports") or ())
    for service in setup.get("services") or ():
        ports |= {service["port"], service.get("nodePort")} | {end[1] for end in service["eps"]}
    return ports


def judge(
    probe: Mapping[str, Any], predicted: Mapping[str, Any] | None, wires: Iterable[Sequence[Sequence[str]]],
    given: Iterable[int] = (),
) -> Verdict:  # fmt: skip
    """Compare a recorded probe with its prediction. `given`: ports that no kernel chose, beside the probe's own."""
    spec = probe["spec"]
    known = {*given, *TUNNEL_PORTS, *WELL_KNOWN, *(spec[k] for k in ("sport", "dport", "id") if k in spec)}
    want = _by_interface(probe["frames"], known)
    total = sum(map(len, want.values()))
    if predicted is None:
        return Verdict(probe["name"], (Difference("prediction", "there is none"),), 0, total, len(want))
    frames = list(predicted.get("frames") or ())
    try:
        have = _by_interface(frames, known)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        return Verdict(probe["name"], (Difference("prediction", f"malformed: {error!r}"),), 0, total, len(want))
    same = 0
    differences: list[Difference] = []
    for end in sorted(want.keys() | have.keys()):
        kernel, ours = want.get(end, []), have.get(end, [])
        same += sum(a.body == b.body for a, b in zip(kernel, ours, strict=False))
        differences += _first_difference(end, kernel, ours)
    differences += _too_early(have, wires)
    differences += _unasked(frames, probe.get("before") or {})
    differences += _results(spec, probe["result"], predicted.get("result"), frames)
    return Verdict(probe["name"], tuple(differences), same, total, len(want.keys() | have.keys()))


# -- frames that can be compared -----------------------------------------------------------------------------------


class _Seen(NamedTuple):
    """A frame with its free fields taken out or renamed, and the frame itself."""

    body: Body
    at: int
    frame: Frame


def _by_interface(frames: Iterable[Frame], known: set[int]) -> dict[End, list[_Seen]]:
    names: dict[int, str] = {}
    found: dict[End, list[_Seen]] = {}
    kept = _without_refreshes(f for f in frames if not _bare_ack(f))
    for f in sorted(kept, key=lambda f: int(f["t_ns"])):
        body = (f["dir"], f["len"], _fixed(f["layers"], known, names))
        found.setdefault((f["netns"], f["dev"]), []).append(_Seen(body, f["t_ns"], f))
    return found


def _fixed(layers: Sequence[Mapping[str, Any]], known: set[int], names: dict[int, str]) -> list[dict[str, Any]]:
    """Layers without what a kernel chooses; a chosen port or id becomes the n-th that came up."""

    def name(number: int) -> int | str:
        return number if number in known else names.setdefault(number, f"free{len(names)}")

    fixed = []
    for i, layer in enumerate(layers):
        own = {key: value for key, value in layer.items() if value is not None}
        proto = own["proto"]
        if proto == "ip":
            own.pop("id", None)
        elif proto in ("udp", "tcp", "sctp"):
            inside = layers[i + 1]["proto"] if i + 1 < len(layers) else ""
            tunnel = proto == "udp" and (own["dport"] in TUNNEL_PORTS or inside in ("vxlan", "geneve"))
            own["sport"] = ("*" if own["sport"] else 0) if tunnel else name(own["sport"])
            own["dport"] = name(own["dport"])
        elif proto == "icmp" and "id" in own:
            own["id"] = name(own["id"])
        if "quoted" in own:
            own["quoted"] = _fixed(own["quoted"], known, names)
        fixed.append(own)
    return fixed


def _bare_ack(frame: Frame) -> bool:
    last = frame["layers"][-1]
    return bool(last["proto"] == "tcp" and last["flags"] == "A" and not last["payload"])


def _arp(frame: Frame) -> dict[str, Any] | None:
    layers = frame["layers"]
    return layers[1] if len(layers) > 1 and layers[1]["proto"] == "arp" else None


def _refreshed(frame: Frame) -> str:
    """The address that a unicast ARP request asks for: the kernel checks a neighbour it knows. Else empty."""
    arp = _arp(frame)
    unicast = arp is not None and arp["op"] == "request" and frame["layers"][0]["dst"] != EVERYONE
    return str(arp["tpa"]) if arp is not None and unicast else ""


def _without_refreshes(frames: Iterable[Frame]) -> Iterator[Frame]:
    asked: set[tuple[str, str]] = set()
    for frame in frames:
        arp = _arp(frame)
        if arp is not None and _refreshed(frame):
            asked.add((arp["tpa"], arp["spa"]))
        elif arp is None or arp["op"] != "reply" or (arp["spa"], arp["tpa"]) not in asked:
            yield frame


# -- what can differ -----------------------------------------------------------------------------------------------


def _first_difference(end: End, kernel: Sequence[_Seen], ours: Sequence[_Seen]) -> Iterator[Difference]:
    for i in range(max(len(kernel), len(ours))):
        a, b = (seen[i] if i < len(seen) else None for seen in (kernel, ours))
        if a is not None and b is not None and a.body == b.body:
            continue
        counts = f"frame {i + 1} (kernel {len(kernel)}, predicted {len(ours)})"
        what = f"; {_field(a.body, b.body)}" if a is not None and b is not None else ""
        yield Difference("/".join(end), counts + what, a.frame if a else None, b.frame if b else None)
        return


def _field(a: Any, b: Any, path: str = "") -> str:
    """The first field in which two compared frames differ, in words."""
    if isinstance(a, dict) and isinstance(b, dict):
        named = a.get("proto") == b.get("proto")
        for key in ["proto", *sorted((a.keys() | b.keys()) - {"proto"})]:
            if a.get(key) != b.get(key):
                return _field(a.get(key), b.get(key), f"{a['proto']} {key}" if named and "proto" in a else key)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        labels = ("direction", "length", "layers") if isinstance(a, tuple) else ()
        for i in range(max(len(a), len(b))):
            x, y = (seq[i] if i < len(seq) else None for seq in (a, b))
            if x != y:
                return _field(x, y, labels[i] if labels else path)
    return f"{path}: kernel {_word(a)}, predicted {_word(b)}"


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("proto", value))
    return "nothing" if value is None else str(value)


def _too_early(have: Mapping[End, Sequence[_Seen]], wires: Iterable[Sequence[Sequence[str]]]) -> Iterator[Difference]:
    """Nothing arrives before it was sent, and nothing from nowhere."""
    for a, b in wires:
        for near, far in (((a[0], a[1]), (b[0], b[1])), ((b[0], b[1]), (a[0], a[1]))):
            left = [s for s in have.get(near, ()) if s.body[0] == "out"]
            came = [s for s in have.get(far, ()) if s.body[0] == "in"]
            early = next((i for o, i in zip(left, came, strict=False) if o.at > i.at), None)
            if early is not None:
                yield Difference("/".join(far), "a frame arrives before it left", None, early.frame)
            if len(came) > len(left):
                yield Difference("/".join(far), f"{len(came)} frames arrive of {len(left)} that left {'/'.join(near)}")


def _unasked(frames: Iterable[Frame], before: Mapping[str, Any]) -> Iterator[Difference]:
    """Only a neighbour that somebody knew can be asked by unicast."""
    known = {entry.get("dst") for tables in before.values() for entry in tables.get("neigh", ())}
    for frame in frames:
        addr = _refreshed(frame)
        if addr and addr not in known:
            where = f"{frame['netns']}/{frame['dev']}"
            yield Difference(where, f"unicast ARP for {addr}, which nobody knew", None, frame)
            return


def _results(
    spec: Mapping[str, Any], want: Mapping[str, Any], got: Any, frames: Iterable[Frame]
) -> Iterator[Difference]:
    result = got if isinstance(got, dict) else {}
    connected = spec["kind"] == "tcp" and want.get("outcome") == "connected"
    if connected and not any(_bare_ack(f) and f["netns"] == spec["src"] and f["dir"] == "out" for f in frames):
        yield Difference("result", "the client never acknowledges: the third packet of the handshake is missing")
    for key in RESULT:
        if want.get(key) is not None and result.get(key) != want[key]:
            yield Difference("result", f"{key}: kernel {want[key]}, predicted {result.get(key)}")


# -- a frame in a line ---------------------------------------------------------------------------------------------


def line(frame: Frame | None) -> str:
    """A frame of a recording in one line: direction, bytes, headers."""
    if frame is None:
        return "(nothing)"
    return f"{frame['dir']:3} {frame['len']:5}  {_headers(frame['layers'])}"


def _headers(layers: Iterable[Mapping[str, Any]]) -> str:
    return "  ".join(map(_header, layers))


def _header(h: Mapping[str, Any]) -> str:
    match h["proto"]:
        case "eth":
            return f"{h['src']} > {h['dst']}"
        case "arp":
            return f"arp {h['op']} {h['spa']} > {h['tpa']}"
        case "ip":
            flags = f"{' df' if h['df'] else ''}{' mf' if h['mf'] else ''}"
            extra = (
                f"{' tos ' + str(h['tos']) if h['tos'] else ''}{' offset ' + str(h['offset']) if h['offset'] else ''}"
            )
            return f"ip {h['src']} > {h['dst']} ttl {h['ttl']}{flags}{extra} len {h['len']}"
        case "icmp":
            rest = [f"{key} {h[key]}" for key in ("id", "seq", "mtu") if h.get(key) is not None]
            about = f" about ({_headers(h['quoted'])})" if h.get("quoted") else ""
            return " ".join([f"icmp {h['type']}/{h['code']}", *rest]) + about
        case "udp" | "tcp":
            flags = f" {h['flags']}" if "flags" in h else ""
            mss = f" mss {h['mss']}" if h.get("mss") else ""
            return f"{h['proto']} {h['sport']} > {h['dport']}{flags}{mss} payload {h['payload']}"
        case _:
            return " ".join(f"{'' if key == 'proto' else key + ' '}{value}" for key, value in h.items())
