"""Exercises of notebook 6, NAT and services: what a backend sees, the dice of a chain, what a node port changes."""

from __future__ import annotations

from typing import Any

import packetwalk as pw
from packetwalk.network import Network
from packetwalk.packet import Ip, innermost
from packetwalk.show import rules
from packetwalk.teach.verdict import Verdict, exercises, text
from packetwalk.trace import Trace


def _source(trace: Trace, pods: set[str]) -> str:
    """The source address of the first packet that comes to one of the pods."""
    arrived = next(hop for hop in trace if hop.room in pods)
    ip = innermost(arrived.steps[0].packet)
    assert isinstance(ip, Ip)
    return str(ip.src)


def _backend_sees(net: Network, answer: object) -> Verdict:
    """a calls the service: which source address does the backend see?"""
    address = text(answer, "An address, in quotes,")
    if address == _source(pw.walk(net, "a", "web:80"), {"b", "d", "e"}):
        return Verdict(True, "kube-proxy changes the destination only. The backend knows who called.")
    if address == str(net.services["web"]):
        return Verdict(False, "The service's address is what a sends to; nobody ever sends from it to a backend.")
    owner = net.owner(pw.IPv4(address))
    if owner is not None and owner.startswith("node"):
        return Verdict(False, "That is a node's. A source is hidden where the answer would not come back otherwise.")
    return Verdict(False, "Look at the request in the trace: which of its addresses does the nat step change?")


def _dice(net: Network, answer: object) -> Verdict:
    """With which probability does each rule of the chain match?"""
    service = next(r for r in rules(net, "node-1", "nat", "KUBE-SERVICES") if "default/web cluster IP" in r).split()[-1]
    ends = sum("-j KUBE-SEP" in rule for rule in rules(net, "node-1", "nat", service))
    right = [1 / n for n in range(ends, 0, -1)]
    if not isinstance(answer, list | tuple) or len(answer) != ends:
        raise ValueError(f"A list of {ends} probabilities was expected, not {answer!r}.")
    given = [float(p) for p in answer]
    if all(abs(p - q) < 0.005 for p, q in zip(given, right, strict=True)):
        return Verdict(True, "A rule sees only what the rules before it let by, so its share of the rest grows.")
    left = 1.0
    shares = []
    for p in given:
        shares.append(f"{left * p:.3f}")
        left *= 1 - p
    return Verdict(
        False, f"Then the endpoints would get {', '.join(shares)} of the connections, and nobody {left:.3f}."
    )


def _node_port(net: Network, answer: object) -> Verdict:
    """A client outside calls node-1's port, the backend is on node-2: which source address does it see?"""
    address = text(answer, "An address, in quotes,")
    trace = pw.walk(net, "out", "node-1:30081")
    if address == _source(trace, {"b"}):
        return Verdict(
            True, "node-1 puts its own address on the device it sends by, so that the answer comes back to it."
        )
    if address == str(pw.address_of(net, "out")):
        return Verdict(False, "Then b would answer the client directly, from an address that the client never called.")
    step: Any = next((s for room, s in trace.nat if room == "node-1" and s.dev == "postrouting"), None)
    own = net.owner(pw.IPv4(address)) == "node-1"
    if own and step is not None:
        return Verdict(False, "That is node-1's, but MASQUERADE takes the address of the device the packet leaves by.")
    return Verdict(False, "Who has to see b's answer first, for the client to take it? Look at node-1's nat steps.")


check = exercises(_backend_sees, _dice, _node_port)
