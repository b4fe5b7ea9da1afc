"""Exercises of notebook 1, one packet: the TTL, the deciding route, a packet that dies where it should."""

from __future__ import annotations

import packetwalk as pw
from packetwalk.network import Network
from packetwalk.teach.verdict import Verdict, ending, exercises, lines, number, text


def _ttl(net: Network, answer: object) -> Verdict:
    """With which TTL does the reply of c, on the same node, arrive at a?"""
    right = pw.walk(net, "a", "c").result.ttl
    far = pw.walk(net, "a", "b").result.ttl
    return number(
        answer,
        right,
        "node-1 is a bridge between its own pods: it looks at the Ethernet header and leaves the IP header alone.",
        known={
            far: "That is the reply of b, which two nodes have routed. Does node-1 route between its own pods?",
            right
            - 1: "One less would mean that node-1 routed the packet. a and c are in one subnet: look at a's routes.",
        },
        otherwise="A sender starts with a TTL of 64, and each router on the way takes one off.",
    )


def _route(net: Network, answer: object) -> Verdict:
    """Which line of node-2's routing table sends the request on to b?"""
    line = text(answer, "A line of node-2's routing table, in quotes,")
    decided = str(pw.walk(net, "a", "b")["node-2"].step("route_in").what)
    if line == decided:
        return Verdict(True, "It is the longest prefix in the table that holds b's address.")
    if line not in net["node-2"].routes.splitlines():
        return Verdict(False, "node-2 has no such route. Copy a whole line of print(net['node-2'].routes).")
    if line.startswith("default"):
        return Verdict(False, "The default route holds every address, but a longer prefix goes first.")
    return Verdict(False, "That route is there, but b's address is not in its prefix. Which one is b's address in?")


def _dies_in_node_2(net: Network, answer: object) -> Verdict:
    """Which line makes the request die in node-2, and not before?"""
    trace = pw.walk(pw.whatif(net, *lines(answer, "A line for pw.whatif, in quotes,")), "a", "b")
    visited = [hop.room for hop in trace]
    if trace.delivered:
        return Verdict(False, "b still answers. What makes a Linux host a router?")
    if "b" in visited:
        return Verdict(False, f"The request still gets to b; you stopped the answer. {ending(trace)}")
    if trace.drops and trace.drops[0][0] == "node-2":
        return Verdict(True, ending(trace))
    return Verdict(False, f"It should die in node-2, but {ending(trace)}")


check = exercises(_ttl, _route, _dies_in_node_2)
