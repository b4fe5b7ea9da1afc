"""Exercises of notebook 5, VXLAN and the FDB: which table says what, a repair, a frame for somebody else."""

from __future__ import annotations

import packetwalk as pw
from packetwalk.network import Network
from packetwalk.teach.verdict import Verdict, ending, exercises, lines, text

SAYS = {
    "device": ("route", "A packet has not chosen a device before it was routed."),
    "inner mac": ("neigh", "Which table turns an IP address into an Ethernet address?"),
    "outer ip": ("fdb", "The tunnel knows only the frame's Ethernet address. Which table is keyed by it?"),
}
EVIDENCE = {"route": "route_in", "neigh": "neigh", "fdb": "fdb"}


def _tables(net: Network, answer: object) -> Verdict:
    """Which of the tables route, neigh and fdb says the device, the inner MAC and the outer IP address?"""
    if not isinstance(answer, dict) or set(answer) != set(SAYS):
        raise ValueError(f"One of route, neigh, fdb for each of {', '.join(SAYS)} was expected, not {answer!r}.")
    visit = pw.walk(net, "a", "b")["node-1"]
    for what, table in answer.items():
        right, hint = SAYS[what]
        if table not in EVIDENCE:
            raise ValueError(f"{table!r} is none of the tables route, neigh, fdb.")
        if table != right:
            return Verdict(False, f"{table} said {str(visit.step(EVIDENCE[table]).what)!r}, not the {what}. {hint}")
    return Verdict(True, "Three look-ups in a row, each with what the one before has found.")


def _repair(net: Network, answer: object) -> Verdict:
    """One line that makes b answer again."""
    given = lines(answer, "A line for pw.whatif, in quotes,")
    if len(given) != 1:
        return Verdict(False, "One line is enough.")
    trace = pw.walk(pw.whatif(net, *given), "a", "b")
    if trace.delivered:
        return Verdict(True, "flanneld writes this entry when it hears of the node's new address.")
    return Verdict(False, f"b does not answer yet. {ending(trace)}")


def _somebody_else(net: Network, answer: object) -> Verdict:
    """The entry for node-2's MAC leads to node-3: where does the packet die?"""
    room = text(answer, "The name of a room, in quotes,")
    mac, far = net["node-2"].device("flannel.1").mac, pw.address_of(net, "node-3")
    trace = pw.walk(pw.whatif(net, f"node-1 fdb replace {mac} dev flannel.1 dst {far}"), "a", "b")
    if room == trace.drops[0][0]:
        return Verdict(
            True, f"It takes the frame out of the tunnel and sees an address that is not its own. {ending(trace)}"
        )
    if room not in net:
        return Verdict(False, f"There is no room {room!r}.")
    if room == "node-2":
        return Verdict(False, "node-2 never sees it: the outer address leads elsewhere.")
    return Verdict(False, f"{room} does not drop it. Follow the outer address, then the inner MAC.")


check = exercises(_tables, _repair, _somebody_else)
