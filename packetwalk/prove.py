"""`packetwalk prove`: the same packet through our rooms and through a real kernel, and every frame compared.

    proof = prove(network, Flow("icmp", "a", IPv4("10.244.2.2")))
    print(proof)                                     # kernel agrees: 24 of 24 frames on 12 interfaces

It needs Linux, root and iproute2; `packetwalk.judge` alone does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from packetwalk.frames import seen
from packetwalk.judge import Difference, Verdict, judge, line
from packetwalk.network import Network
from packetwalk.predict import Replay
from packetwalk.snapshot.reader import Record
from packetwalk.trace import Flow, Hop, Step

TIMEOUT = 1.0
"""Seconds that a client waits for an answer."""


class Proof(NamedTuple):
    """What the judge said, and the steps behind it. `wires` as in a recording's snapshot.json.

    probe: what was sent and what the kernel did, as a recording has it. predicted: the same by our rooms. origins: the
    visit and the step of each predicted frame. remarks: what of the network could not be built.
    """

    verdict: Verdict
    probe: dict[str, Any]
    predicted: dict[str, Any]
    origins: list[tuple[Hop, Step]]
    remarks: list[str]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        v = self.verdict
        word = "agrees" if v.agrees else "differs"
        drew = self.probe["dice"].get("backend")
        saw = _outcome(self.probe["result"]) + (f", drew {drew}" if drew else "")
        yield f"kernel {word}: {v.same} of {v.total} frames on {v.interfaces} interfaces, {saw}"
        for d in v.differences[:1]:
            yield f"  {d}"
            if d.kernel is not None or d.predicted is not None:
                yield f"    kernel     {line(d.kernel)}"
                yield f"    predicted  {line(d.predicted)}"
            if (origin := self.origin(d)) is not None:
                yield f"    by         {origin}"
        if len(v.differences) > 1:
            yield f"  and at {', '.join(d.where for d in v.differences[1:])}"
        yield from (f"  not built: {remark}" for remark in self.remarks)

    def origin(self, difference: Difference) -> str | None:
        """The step that made the predicted frame, and the one that decided before it: what to read first."""
        index = next((i for i, f in enumerate(self.predicted["frames"]) if f is difference.predicted), None)
        if index is None:
            return None
        hop, step = self.origins[index]
        at = next(i for i, s in enumerate(hop.steps) if s is step)
        why = next((s for s in reversed(hop.steps[:at]) if s.what is not None), None)
        decided = f", after {why.stage} {why.dev} {why.what}" if why is not None else ""
        return f"{hop.room} {step.stage} {step.dev}{decided}"

    def to_dict(self) -> dict[str, Any]:
        """The proof as JSON has it."""
        verdict = self.verdict.to_dict()
        for told, d in zip(verdict["differences"], self.verdict.differences, strict=True):
            if (origin := self.origin(d)) is not None:
                told["by"] = origin
        results = {"kernel": self.probe["result"], "predicted": self.predicted["result"]}
        return {**verdict, "spec": self.probe["spec"], "results": results, "not_built": self.remarks}


def prove(
    network: Network, flow: Flow, *, cold: bool = False, timeout: float = TIMEOUT, files: Path | None = None
) -> Proof:
    """Build the network in this kernel, send the flow, and compare every frame with what our rooms say.

    cold: from the tables as they are; otherwise an unseen run before lets everybody learn, in the kernel as here.
    timeout: seconds the client waits. files: the folder of a snapshot with rule files. The network is not changed.
    Raises kernel.realise.MissingFeature for what this machine has not, kernel.doors.Refused for a line that fails.
    """
    from packetwalk.kernel.probe import spec_of

    sent = [{"name": name, "spec": spec_of(flow, timeout)} for name in ("first", *(() if cold else ("again",)))]
    return examine(network, sent, files=files)[-1]


def examine(network: Network, probes: Iterable[Mapping[str, Any]], *, files: Path | None = None) -> list[Proof]:
    """The same for several probes, one after another through one kernel; each is {"name", "spec"} as in a recording."""
    from packetwalk.kernel.bench import Bench
    from packetwalk.kernel.realise import realise
    from packetwalk.kernel.record import index, measure

    with realise(network, files) as real, Bench(real) as bench:
        measured = list(measure(bench, probes))
    wires = index(network)["wires"]
    ports = {s.port for room in network for s in room.sockets.listeners()}
    replay = Replay(lambda _: network.overlay())
    proofs = []
    for probe in measured:
        predicted = replay.probe(Record(probe, Path("kernel"), probe["name"]))
        origins = [(hop, step) for hop, step, _ in seen(replay.hops)]
        proofs.append(Proof(judge(probe, predicted, wires, ports), probe, predicted, origins, real.remarks))
    return proofs


def _outcome(result: dict[str, Any]) -> str:
    """What the client saw, in a few words."""
    word = str(result["outcome"])
    told = " ".join(f"{key} {result[key]}" for key in ("src", "peer", "ttl", "errno") if result.get(key) is not None)
    return f"{word.replace('_', ' ')} {told}".strip()
