"""Exercises of notebook 7, MTU: the largest ping, the segment size, a black hole."""

from __future__ import annotations

import packetwalk as pw
from packetwalk.network import Network
from packetwalk.packet import Tcp
from packetwalk.teach.verdict import Verdict, ending, exercises, lines, number

IP, TCP, TIMESTAMPS, LARGEST = 20, 20, 12, 65507


def _largest_ping(net: Network, answer: object) -> Verdict:
    """The largest -s of a ping with DF that gets through."""
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer <= LARGEST:
        raise ValueError(f"A whole number from 0 to {LARGEST} was expected, not {answer!r}.")
    trace = pw.walk(net, "a", "b", size=answer, df="do")
    if not trace.delivered:
        return Verdict(False, f"A packet with {answer} bytes of payload is too large. {ending(trace)}")
    if pw.walk(net, "a", "b", size=answer + 1, df="do").delivered:
        return Verdict(False, f"{answer} get through, but so does a larger one.")
    return Verdict(True, "The MTU less 20 bytes of IP and 8 of ICMP.")


def _segment(net: Network, answer: object) -> Verdict:
    """Which segment size does a announce in its SYN?"""
    tcp = pw.walk(net, "a", "b", tcp=80)["a"].steps[-1].packet.headers[-1]
    assert isinstance(tcp, Tcp)
    mtu = net["a"].device("eth0").mtu
    return number(
        answer,
        tcp.mss,
        "The MTU of a's card less 20 bytes of IP and 20 of TCP.",
        known={
            mtu: "That is the MTU: a packet. A segment is what is left in it behind the IP and the TCP header.",
            mtu - IP: "TCP has a header, too.",
            tcp.mss
            - TIMESTAMPS: "That is what is left once each segment carries timestamps; the SYN does not subtract them.",
            1460: "That is an Ethernet of 1500 bytes. What is the MTU of a's card?",
        },
        otherwise="Begin with the MTU of a's card: show(net, 'a', 'links').",
    )


def _black_hole(net: Network, answer: object) -> Verdict:
    """One line that lets 4000 bytes through the black hole."""
    given = lines(answer, "A line for pw.whatif, in quotes,")
    if len(given) != 1:
        return Verdict(False, "One line is enough.")
    result = pw.walk(pw.whatif(net, *given), "a", "b", tcp=80, size=4000, until=5 * 10**9).result
    if result.answered and result.echoed == 4000:
        return Verdict(True, f"All 4000 bytes came back, in segments of at most {result.mss}.")
    return Verdict(
        False, f"a gets as far as: {result.outcome}, {result.echoed} bytes echoed. What is too large, and who knows?"
    )


check = exercises(_largest_ping, _segment, _black_hole)
