"""Exercises of notebook 8, compare CNIs: bytes of two tunnels, a strict firewall, the best there is behind a router."""

from __future__ import annotations

from collections.abc import Iterable

import packetwalk as pw
from packetwalk.cni import find, modes
from packetwalk.network import Network
from packetwalk.packet import size
from packetwalk.teach.verdict import Verdict, exercises, number
from packetwalk.trace import Trace

NO_TUNNELS = [
    f"{node} iptables -t raw -I PREROUTING -i eth0 -p {proto} -j DROP"
    for node in ("node-1", "node-2")
    for proto in ("udp", "4")
]
"""A firewall in front of each node that lets neither UDP nor IP-in-IP in."""


def _walked(mode: str, racks: int, *changes: str) -> Trace:
    cluster = pw.Cluster(nodes=2, cni=find(mode), racks=racks)
    a, b = cluster.pod("a", node=1), cluster.pod("b", node=2)
    return pw.walk(pw.whatif(pw.build(cluster), *changes), a, b)


def _saved(net: Network, answer: object) -> Verdict:
    """How many bytes a packet does IP-in-IP save over VXLAN?"""
    vxlan, ipip = (size(_walked(mode, 1)["node-1"].steps[-1].packet) for mode in ("flannel-vxlan", "calico-ipip"))
    return number(
        answer,
        vxlan - ipip,
        "VXLAN carries a whole frame (14) behind a UDP (8) and a VXLAN header (8); IP-in-IP does without.",
        known={50: "That is what VXLAN adds. What does IP-in-IP add?", 20: "That is what IP-in-IP adds."},
        otherwise="Compare the column `frame` of the two walks.",
    )


def _named(answer: object) -> set[str]:
    """The modes of the answer. ValueError, in one line, for what is none."""
    if isinstance(answer, str) or not isinstance(answer, Iterable):
        raise ValueError(f"A set of modes in braces was expected, not {answer!r}.")
    found = set(answer)
    for mode in found:
        if mode not in modes():
            find(str(mode))
    return found


def _judged(given: set[str], right: set[str], praise: str, too_much: str) -> Verdict:
    if wrong := sorted(given - right):
        return Verdict(False, f"{wrong[0]} is not one of them: {too_much}")
    if missing := len(right - given):
        return Verdict(False, f"All of these, but {missing} more.")
    return Verdict(True, praise)


def _no_tunnels(net: Network, answer: object) -> Verdict:
    """A firewall between the nodes of one subnet lets no tunnel through: which modes still work?"""
    right = {mode for mode in modes() if _walked(mode, 1, *NO_TUNNELS).delivered}
    return _judged(_named(answer), right, "They send plain packets inside a subnet.", "it sends UDP or IP-in-IP here.")


def _best(net: Network, answer: object) -> Verdict:
    """Two racks behind a router that knows no pods: which modes work with the largest path MTU?"""
    given = _named(answer)
    working = {mode: trace.totals.path_mtu for mode in modes() if (trace := _walked(mode, 2)).delivered}
    for mode in sorted(given - set(working)):
        return Verdict(False, f"{mode} does not connect the racks: the router has no route to pods.")
    right = {mode for mode, mtu in working.items() if mtu == max(working.values())}
    return _judged(given, right, "Only 20 bytes in front of each packet.", "it connects them, but adds more bytes.")


check = exercises(_saved, _no_tunnels, _best)
