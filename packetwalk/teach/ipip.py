"""Exercises of notebook 4, IP-in-IP: bytes on the wire, the two TTLs, who is encapsulated across subnets only."""

from __future__ import annotations

from itertools import combinations

import packetwalk as pw
from packetwalk.network import Network
from packetwalk.packet import Ip, innermost, size
from packetwalk.teach.verdict import Verdict, exercises, number

ETHERNET, IP = 14, 20


def _frame(net: Network, answer: object) -> Verdict:
    """How long is the frame of `ping -s 1000` between the nodes?"""
    right = size(pw.walk(net, "a", "b", size=1000)["node-1"].steps[-1].packet)
    return number(
        answer,
        right,
        "1000 of payload, 8 ICMP, 20 inner IP, 20 outer IP, 14 Ethernet.",
        known={
            right - IP: "That is the frame without a tunnel.",
            right - ETHERNET: "That is the packet. A frame has an Ethernet header, too.",
            right - IP - ETHERNET: "That is what the pod's IP header says: the inner packet alone.",
            1000: "That is the payload; now add the headers, one by one.",
        },
        otherwise="Add up: payload, ICMP (8), an IP header (20) for each address pair, Ethernet (14).",
    )


def _ttl(net: Network, answer: object) -> Verdict:
    """With which TTL does the request come to b, though a router stands between the nodes?"""
    ip = innermost(pw.walk(net, "a", "b")["b"].steps[0].packet)
    assert isinstance(ip, Ip)
    return number(
        answer,
        ip.ttl,
        "node-1 and node-2 took one each. The router took its one from the outer header, which node-2 threw away.",
        known={
            ip.ttl - 1: "The router does forward the packet, but which of the two IP headers does it see?",
            ip.ttl + 1: "Two hosts forward the inner packet: one before the tunnel, one behind it.",
            ip.ttl + 2: "Nodes are routers for their pods: they take one each.",
        },
        otherwise="Start with 64 and take one for each room that forwards the inner packet.",
    )


def _cross_subnet(net: Network, answer: object) -> Verdict:
    """Which pairs of pods does a tunnel join, with CrossSubnet?"""
    pairs = list(combinations("abd", 2))
    if not isinstance(answer, dict) or {tuple(sorted(pair)) for pair in answer} != set(pairs):
        raise ValueError("A True or False for each of a-b, a-d and b-d was expected.")
    for pair, tunnelled in answer.items():
        there, back = sorted(pair)
        if bool(pw.walk(net, there, back).totals.tunnels) != tunnelled:
            nodes = "on nodes of one subnet" if tunnelled else "on nodes of two subnets"
            return Verdict(False, f"{there} and {back} are {nodes}. When does CrossSubnet encapsulate?")
    return Verdict(True, "A tunnel where a router is between, which knows no pods; plain routes where none is.")


check = exercises(_frame, _ttl, _cross_subnet)
