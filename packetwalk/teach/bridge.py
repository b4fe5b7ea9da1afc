"""Exercises of notebook 2, bridge and ARP: copies of a broadcast, a learned FDB entry, a neighbour set by hand."""

from __future__ import annotations

import packetwalk as pw
from packetwalk.network import Network
from packetwalk.packet import Arp
from packetwalk.show import show
from packetwalk.teach.verdict import Verdict, ending, exercises, lines, number, text
from packetwalk.trace import Trace

PODS = 30


def _copies(net: Network, answer: object) -> Verdict:
    """Thirty pods on a node: how many ports does the bridge send a pod's ARP request out of?"""
    cluster = pw.Cluster(nodes=1, cni=pw.FlatBridge())
    first, second = [cluster.pod(f"pod-{n}", node=1) for n in range(PODS)][:2]
    trace = pw.walk(pw.build(cluster), first, second, cold=True)
    flooded = sum(step.stage == "transmit" for step in trace["node-1"].steps)
    return number(
        answer,
        flooded,
        "A broadcast leaves by every port but the one it came by.",
        known={
            PODS: "Nearly: a bridge never sends a frame back out of the port it came by.",
            1: "The bridge may know where that pod is, but the question is a broadcast, and that goes everywhere.",
        },
        otherwise=f"Count the ports of a bridge with {PODS} pods, and ask which of them need the question.",
    )


def _learned(net: Network, answer: object) -> Verdict:
    """After a cold walk from a to c, which FDB entry leads frames to c?"""
    line = text(answer, "A line of node-1's FDB, in quotes,")
    after = pw.walk(net, "a", "c", cold=True).after
    assert isinstance(after, Network)
    table, macs = show(after, "node-1", "fdb").splitlines(), {pod: str(_card(net, pod)) for pod in "ac"}
    if line not in table:
        return Verdict(False, "There is no such line in show(trace.after, 'node-1', 'fdb'). Copy a whole one.")
    if line.startswith(macs["c"]):
        return Verdict(True, "The bridge learned it from the source address of c's answer.")
    if line.startswith(macs["a"]):
        return Verdict(False, "That one leads to a: it was learned from the question.")
    if line.endswith("permanent"):
        return Verdict(False, "A permanent entry is the bridge's own or its port's; it was there before any frame.")
    return Verdict(False, "That address is not c's. What does `ip link` in c show?")


def _no_question(net: Network, answer: object) -> Verdict:
    """Which line spares a its ARP request for c?"""
    changed = pw.whatif(net, *lines(answer, "A line for pw.whatif, in quotes,"))
    trace = pw.walk(changed, "a", "c", cold=True)
    if not trace.delivered:
        entry = trace["a"].step("neigh").what if _steps(trace, "neigh") else "none"
        return Verdict(
            False, f"c does not answer. a's neighbour: {entry}; c's card: {_card(net, 'c')}. {ending(trace)}"
        )
    asked = [step for step in trace["a"].steps if step.stage == "transmit" and isinstance(step.packet.headers[-1], Arp)]
    if asked:
        return Verdict(False, "a still has to ask who has c's address: look at the first hop of the cold walk.")
    return Verdict(True, "a knows its neighbour, so its first frame is the ping. (c still asked for a.)")


def _steps(trace: Trace, stage: str) -> bool:
    return any(step.stage == stage for step in trace["a"].steps)


def _card(net: Network, pod: str) -> pw.Mac:
    return net[pod].device("eth0").mac


check = exercises(_copies, _learned, _no_question)
