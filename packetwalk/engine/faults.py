"""What goes wrong at a given time, in the words of `--set`, and what BGP makes of it.

    at 200ms link node-1 down
    at 290ms bgp withdraw node-1
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from packetwalk.edit import TIMES, apply, quantity
from packetwalk.hint import unknown
from packetwalk.netns.fib_table import Route
from packetwalk.network import Network

BGP = ("withdraw", "announce")


class Fault(NamedTuple):
    """A line of `packetwalk.edit`, or `bgp withdraw|announce NODE`, and when it strikes in ns."""

    at: int
    line: str

    def __str__(self) -> str:
        return f"at {self.at / 1e6:g} ms {self.line}"


class Faults:
    """Faults and the network they strike. `withdrawn` are the routes that BGP took away, by node and room."""

    def __init__(self, lines: Iterable[str | tuple[str | int, str]]) -> None:
        self.all = tuple(map(parse, lines))
        self.withdrawn: dict[str, list[tuple[str, Route]]] = {}

    def check(self, network: Network) -> None:
        """ValueError, in one line, for a fault that cannot strike when its time has come."""
        if not self.all:
            return
        rehearsal, scratch = Faults(self.all), network.clone()
        for fault in sorted(rehearsal.all, key=lambda f: f.at):
            rehearsal.strike(scratch, fault)

    def strike(self, network: Network, fault: Fault) -> None:
        """Change the network."""
        first, *words = fault.line.split()
        if first != "bgp":
            apply(network, fault.line)
            return
        if len(words) != 2 or words[0] not in BGP:
            raise ValueError(f"{fault.line!r}: `bgp withdraw NODE` or `bgp announce NODE` was expected")
        verb, node = words
        if node not in network:
            raise ValueError(f"{fault.line!r}: {unknown('room', node, network.rooms)}")
        if verb == "withdraw":
            self.withdrawn[node] = withdraw(network, node)
        elif node not in self.withdrawn:
            raise ValueError(f"{fault.line!r}: nothing of {node} was withdrawn before")
        for room, route in self.withdrawn.pop(node) if verb == "announce" else ():
            network[room].fib.table(route.table).add(route)


def parse(fault: str | tuple[str | int, str]) -> Fault:
    """`at TIME LINE`, or (time, line). ValueError, in one line, for what is neither."""
    if not isinstance(fault, str):
        when, line = fault
        return Fault(when if isinstance(when, int) else quantity(TIMES)(when), line)
    words = fault.split(maxsplit=2)
    if len(words) < 3 or words[0] != "at":
        raise ValueError(f"{fault!r}: `at TIME LINE` was expected, such as 'at 200ms link node-1 down'")
    try:
        return Fault(quantity(TIMES)(words[1]), words[2])
    except ValueError as error:
        raise ValueError(f"{fault!r}: {error}") from None


def withdraw(network: Network, node: str) -> list[tuple[str, Route]]:
    """Take every route to the node's blocks out of all other rooms, as BGP does once its sessions are gone.

    The blocks are those that the node itself announces: `blackhole ... proto bird`. Returns the routes with their
    rooms. ValueError for a node that announces none.
    """
    blocks = {r.dst for r in network[node].fib.routes() if r.type == "blackhole" and r.proto == "bird"}
    if not blocks:
        raise ValueError(f"{node} announces nothing by BGP: it has no route `blackhole ... proto bird`")
    gone = [
        (room.name, route)
        for room in network
        if room.name != node
        for route in room.fib.routes()
        if route.dst in blocks and route.proto == "bird" and route.type == "unicast"
    ]
    for name, route in gone:
        network[name].fib.table(route.table).remove(route)
    return gone
