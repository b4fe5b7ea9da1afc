"""`simulate`: many packets at once, over shared wires and processors, counted.

    load = simulate(net, poisson(a, b, rate=20_000), until="1s", seed=7, faults=["at 200ms link node-1 down"])
    print(load)

Every packet goes through the same rooms as a walk does; nothing is kept of it but counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

from packetwalk.collector import collector_paused
from packetwalk.engine.costs import DEFAULT_COSTS
from packetwalk.engine.faults import Faults
from packetwalk.engine.load import Load
from packetwalk.engine.sender import Sender, Transfer
from packetwalk.engine.sim import Simulation
from packetwalk.engine.sources import Source, nanoseconds
from packetwalk.engine.stats import FlowStats, Recorder
from packetwalk.engine.walk import between, walk, warm_up
from packetwalk.hint import unknown
from packetwalk.netns.socket import Socket
from packetwalk.network import Network
from packetwalk.packet import PROTO_TCP, PROTO_UDP
from packetwalk.trace import Flow, Result, Trace

SECOND = 1_000_000_000
KEEP = 8192  # visits that are remembered, to tell how a packet came to where it died
DRAIN = 2 * SECOND  # for what is under way when the sources stop
WARM = 5 * SECOND
PARTS = 20  # of the timeline
PROGRESS = 200  # so often it is told
SPORT = 40000
NO_BOUND = 1 << 62


def simulate(network: Network, *sources: Source, until: str | int = "1s", seed: int = 0,
             faults: Iterable[str | tuple[str | int, str]] = (), every: str | int = 0, cold: bool = False,
             costs: Mapping[str, int] = DEFAULT_COSTS,
             progress: Callable[[float], None] | None = None) -> Load:  # fmt: skip
    """Send traffic through a network until a time (ns, or text with a unit); the network itself is not changed.

    seed: of what the sources draw. faults: what goes wrong when (`packetwalk.engine.faults`). every: how long the
    slices of the timeline are, a twentieth of the run unless told. cold: neighbours and FDBs as they are; otherwise an
    unseen packet of each source has filled them. progress: told the share of the run that is done.

    Packets that are under way when the sources stop still arrive. ValueError or KeyError, in one line, for a source or
    a fault that cannot be.
    """
    if not sources:
        raise ValueError("simulate() needs at least one source, such as constant(a, b, rate=1000)")
    end, trouble = nanoseconds(until), Faults(faults)
    if end <= 0:
        raise ValueError(f"until: a time after the start was expected, not {until!r}")
    flows = _flows(network, sources)
    trouble.check(network)
    own = network.clone() if trouble.all else network.overlay()
    if not cold:
        for flow in flows:
            seen: Any = walk(own, flow, cold=True, costs=costs, until=WARM).after
            warm_up(own, seen)
    sim = Simulation(own, costs=costs, keep=KEEP)
    recorder = Recorder(sim, nanoseconds(every) or -(-end // PARTS))
    sim.watch(recorder.visit)
    stats = [FlowStats(source) for source in sources]
    for number, (flow, stat) in enumerate(zip(flows, stats, strict=True)):
        _listen(own, flow)
        stop = stat.source.stop or end
        if flow.kind == "tcp":
            Transfer(sim, recorder, stat, flow, stop).start()
        else:
            Sender(sim, recorder, stat, flow, stop, Random(f"{seed} {number}")).start()
    for fault in trouble.all:
        sim.at(fault.at, partial(trouble.strike, own, fault))
    with collector_paused():
        _run(sim, end, progress)
    samples = {
        reason: Trace(flows[stats.index(stat)], Result("timeout"), hops, own.name, "one packet of many")
        for reason, (stat, hops) in recorder.samples.items()
    }
    note = _note(own, recorder.rooms)
    return Load(network.name, end, sim.now, seed, recorder.every, stats, recorder.links, recorder.rooms,
                recorder.deaths, recorder.unsupported, samples, trouble.all, own, note)  # fmt: skip


def _note(network: Network, rooms: Iterable[str]) -> str:
    """Tables of these rooms that were read, and that nothing here evaluates."""
    left = {name: network[name].unevaluated for name in rooms if network[name].unevaluated}
    return "\n".join(f"not evaluated: {room} {', '.join(names)}" for room, names in left.items())


def _flows(network: Network, sources: Sequence[Source]) -> list[Flow]:
    """The flow of each source, from ports of its own. ValueError or KeyError, in one line, for what leads nowhere."""
    flows: list[Flow] = []
    sport = SPORT
    for source in sources:
        if network.room_of(source.src) not in network:
            raise ValueError(unknown("room", source.src, (*network.rooms, *network.programs)))
        udp, tcp = (source.port if source.proto == kind else 0 for kind in ("udp", "tcp"))
        flow = between(network, source.src, source.dst, udp=udp, tcp=tcp)
        flows.append(replace(flow, sport=sport, ident=sport))
        sport += source.conns
    if sport > 1 << 16:
        raise ValueError(f"conns: {sport - SPORT} ports are wanted, and there are {(1 << 16) - SPORT}")
    return flows


def _listen(network: Network, flow: Flow) -> None:
    """Where the flow ends at a room with nobody on that port, put a program there that reads and says nothing."""
    room = network.owner(flow.dst)
    proto = {"udp": PROTO_UDP, "tcp": PROTO_TCP}.get(flow.kind)
    if room is not None and proto is not None and network[room].sockets.find(proto, flow.dport, flow.dst) is None:
        network[room].sockets.bind(Socket(proto, flow.dport, listening=True, app="sink" if proto == PROTO_TCP else ""))


def _run(sim: Simulation, end: int, progress: Callable[[float], None] | None) -> None:
    """Play until all is quiet, or for two seconds after the sources have stopped."""
    for part in range(1, PROGRESS + 1):
        sim.run(end * part // PROGRESS, max_events=NO_BOUND)
        if progress is not None:
            progress(part / PROGRESS)
    sim.run(end + DRAIN, max_events=NO_BOUND)
    sim.close()
