"""Exercises of notebook 3, routes and BGP: the longest prefix, routes a router lacks, a route that is withdrawn."""

from __future__ import annotations

from typing import Any

import packetwalk as pw
from packetwalk.network import Network
from packetwalk.teach.verdict import Verdict, ending, exercises, lines, text


def _longest(net: Network, answer: object) -> Verdict:
    """node-1 has a /26 to one node and a /24 to another: which next hop does a packet for b take?"""
    hop = text(answer, "An address, in quotes,")
    via: Any = pw.walk(net, "a", "b")["node-1"].step("route_in").what
    if hop == str(via.nexthops[0].via):
        return Verdict(True, "Both prefixes hold b's address; the longer one decides, whatever the order in the table.")
    if f" via {hop} " in net["node-1"].routes:
        return Verdict(
            False, "That is the next hop of a route in the table, but not of the longest prefix that holds b."
        )
    return Verdict(False, "No route of node-1 has that next hop.")


def _missing(net: Network, answer: object) -> Verdict:
    """Which lines give the router what it lacks?"""
    given = lines(answer, "A line for pw.whatif, or a list of them,")
    if elsewhere := [line for line in given if not line.startswith("router route ")]:
        return Verdict(False, f"Only the router's routes may change, but here is {elsewhere[0]!r}.")
    trace = pw.walk(pw.whatif(net, *given), "a", "b")
    if trace.delivered:
        return Verdict(True, "Peering with the router would have told it just that.")
    if any(hop.room == "b" for hop in trace):
        return Verdict(False, f"The request gets to b now, but the answer has to come back. {ending(trace)}")
    return Verdict(False, f"The request does not get to b. {ending(trace)}")


def _withdrawn(net: Network, answer: object) -> Verdict:
    """node-2's route is withdrawn: in which room does the ping die, and for what reason?"""
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise ValueError(f"A room and a reason in parentheses were expected, not {answer!r}.")
    block: Any = pw.walk(net, "a", "b")["node-1"].step("route_in").what
    trace = pw.walk(pw.whatif(net, f"node-1 route del {block.dst}"), "a", "b")
    room, step = trace.drops[0]
    drop: Any = step.what
    if answer == (room, drop.reason):
        return Verdict(True, "Without the block's route the default route decides, and leads to a router without one.")
    if answer[0] == "node-1":
        return Verdict(False, "node-1 still has a route for every address there is: which one?")
    if answer[0] == room:
        return Verdict(False, "That is the room. What does the kernel call it when a packet that came in has no route?")
    return Verdict(False, f"The packet is not dropped in {answer[0]}: follow node-1's routing table without the block.")


check = exercises(_longest, _missing, _withdrawn)
