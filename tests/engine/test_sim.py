"""The engine: wires with rate, delay and a queue; timers; several flows at once; the same every time; always an end."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable

import pytest

from packetwalk.addr import IPv4
from packetwalk.engine.costs import DEFAULT_COSTS
from packetwalk.engine.sim import Simulation
from packetwalk.engine.walk import Client, walk
from packetwalk.netns.namespace import Netns
from packetwalk.netns.stack import STAGES
from packetwalk.network import Network
from packetwalk.packet import PROTO_UDP
from packetwalk.trace import Drop, Flow, Reason, Result, Step, Trace
from tests.netns.rooms import M1, M2, SECOND, echo, pinger, udp, veth_pair

US, MS = 1_000, 1_000_000
FREE: dict[str, int] = {}
"""No stage costs anything: only wires take time."""


def line(*, rate: int = 0, delay: int = 0, queue: int = 1000, known: bool = True) -> Network:
    """a (10.0.0.1) and b (10.0.0.2, listening on 80), wired."""
    a, b = Netns("a"), Netns("b")
    network = veth_pair(a, b)
    wire = network.wires["a", "eth0"]._replace(rate=rate, delay=delay, queue=queue)
    network.wires[wire.a] = network.wires[wire.b] = wire
    for room, addr, far, mac in ((a, "10.0.0.1", "10.0.0.2", M2), (b, "10.0.0.2", "10.0.0.1", M1)):
        room.addr_add("eth0", f"{addr}/24")
        if known:
            room.neigh_add(far, mac, "eth0")
    b.listen(80)
    return network


def pings(count: int, *, size: int = 56, every: int = 0) -> Callable[[Simulation], None]:
    """A program in a that sends so many pings, all at once or one every so many ns."""

    def send(room: Netns, now: int) -> list[Step]:
        return room.send(echo("0.0.0.0", "10.0.0.2", size=size), now, pinger(room))

    def start(sim: Simulation) -> None:
        for n in range(count):
            sim.program("a", send, at=n * every)

    return start


def run(network: Network, *starts: Callable[[Simulation], None], until: int | None = None) -> Simulation:
    sim = Simulation(network, costs=FREE)
    for start in starts:
        start(sim)
    sim.run(until)
    return sim


def received(sim: Simulation, room: str) -> list[int]:
    """When frames came in by the wire of that room."""
    return [h.at for h in sim.hops if h.room == room and h.dev]


def drops(sim: Simulation) -> list[Reason]:
    return [s.what.reason for h in sim.hops for s in h.steps if isinstance(s.what, Drop)]


# -- wires -------------------------------------------------------------------------------------------------------------


def test_a_frame_takes_its_bits_and_its_distance() -> None:
    """98 bytes at 1 Mbit/s are 784 us; 5 us away."""
    assert received(run(line(rate=1_000_000, delay=5 * US), pings(1)), "b") == [789 * US]


def test_frames_follow_one_another() -> None:
    """The second waits until the first has left; distance is not waited for."""
    assert received(run(line(rate=1_000_000, delay=5 * MS), pings(3)), "b") == [
        5 * MS + n * 784 * US for n in (1, 2, 3)
    ]


def test_both_directions_are_free_at_once() -> None:
    """Full duplex: the reply does not wait for the next request."""
    sim = run(line(rate=1_000_000), pings(3))
    assert received(sim, "a") == [n * 784 * US for n in (2, 3, 4)]


def test_without_a_rate_only_distance_counts() -> None:
    assert received(run(line(delay=5 * US), pings(3)), "b") == [5 * US] * 3


@pytest.mark.parametrize(("queue", "lost"), [(0, 4), (1, 3), (3, 1), (4, 0)])
def test_a_queue_holds_so_many_packets_besides_the_one_that_leaves(queue: int, lost: int) -> None:
    """A pfifo qdisc of that limit."""
    sim = run(line(rate=1_000_000, queue=queue), pings(5))
    assert drops(sim) == [Reason.QDISC_DROP] * lost and len(received(sim, "b")) == 5 - lost


def test_a_queue_counts_packets_not_bytes() -> None:
    """Two long packets leave room for a short one, if the queue takes three."""
    long, short = pings(2, size=1400), pings(1, size=0)
    assert not drops(run(line(rate=1_000_000, queue=2), long, short))
    assert drops(run(line(rate=1_000_000, queue=1), long, short)) == [Reason.QDISC_DROP]


def test_a_queue_empties_with_time() -> None:
    assert not drops(run(line(rate=1_000_000, queue=1), pings(20, every=784 * US)))
    assert drops(run(line(rate=1_000_000, queue=1), pings(20, every=700 * US)))


# -- timers and turns --------------------------------------------------------------------------------------------------


def test_timers_come_when_they_are_due() -> None:
    """ARP asks at 0, 1 and 2 s, and gives up at 3."""
    network = line(known=False)
    network["b"].link_set("eth0", up=False)
    network["b"].devices["eth0"].up = True
    network["b"].devices["eth0"].addrs = []
    network["b"].fib.tables.clear()
    sim = run(network, pings(1))
    asked = [h.at for h in sim.hops if h.room == "a" and any(s.stage == "transmit" for s in h.steps if s.dev == "eth0")]
    assert asked == [0, SECOND, 2 * SECOND] and drops(sim)[-1] is Reason.NEIGH_FAILED and sim.now == 3 * SECOND


def test_housekeeping_does_not_keep_a_run_alive() -> None:
    """A stale neighbour is to be checked in five seconds; nobody waits for that."""
    network = line()
    network["a"].neigh_add("10.0.0.2", M2, "eth0", state="STALE")
    assert run(network, pings(1)).now < SECOND


def test_a_room_does_one_thing_at_a_time() -> None:
    """Its processor is busy for the cost of the steps; what arrives meanwhile waits."""
    sim = Simulation(line(), costs={"receive": 1000})
    pings(3)(sim)
    sim.run()
    assert received(sim, "b") == [0, 1000, 2000]


def test_each_visit_names_what_led_to_it() -> None:
    """Hop.cause is the (hop, step) of the transmit; None for what a room did by itself."""
    sim = run(line(), pings(1))
    for hop in sim.hops:
        if hop.dev:
            assert hop.cause is not None
            came = sim.hops[hop.cause[0]].steps[hop.cause[1]]
            assert came.stage == "transmit" and came.packet == hop.steps[0].packet
    assert [h.cause for h in sim.hops if not h.dev] == [None]


# -- several flows -----------------------------------------------------------------------------------------------------


def flows(network: Network) -> tuple[Simulation, list[Client]]:
    """A ping, a datagram and a connection at once, over one slow wire."""
    sim = Simulation(network)
    far = IPv4("10.0.0.2")
    clients = [Client(Flow(kind, "a", far, 80, size=2000)) for kind in ("icmp", "udp", "tcp")]
    for client in clients:
        sim.watch(client.watch)
        sim.program("a", client.act)
    sim.run(60 * SECOND)
    return sim, clients


def test_several_flows_at_once() -> None:
    _, clients = flows(line(rate=10_000_000, delay=10 * US))
    assert [c.result.outcome for c in clients if c.result] == ["reply", "reply", "connected"]


def test_the_same_again_to_the_byte() -> None:
    """Same network, same seed: the same visits at the same times."""

    def told() -> str:
        sim, clients = flows(line(rate=10_000_000, delay=10 * US))
        return "\n".join(json.dumps(Trace(c.flow, c.result or Result("timeout"), sim.hops).to_dict()) for c in clients)

    assert told() == told()


# -- bounds ------------------------------------------------------------------------------------------------------------


def for_ever(room: Netns, now: int) -> list[Step]:
    """Two echo servers that answer each other."""
    return room.send(udp("0.0.0.0", "10.0.0.2", sport=80, dport=80), now, room.sockets.find(PROTO_UDP, 80, 0))


def test_what_never_ends_is_stopped_and_said() -> None:
    network = line(delay=US)
    network["a"].listen(80)
    sim = Simulation(network)
    sim.program("a", for_ever)
    sim.run(max_events=1000)
    assert sim.note.startswith("stopped after 1000 events") and "for ever" in sim.note


def test_a_run_ends_at_its_time() -> None:
    network = line(delay=MS)
    network["a"].listen(80)
    sim = Simulation(network, costs=FREE)
    sim.program("a", for_ever)
    sim.run(10 * MS)
    assert sim.now == 10 * MS and not sim.note
    sim.run(20 * MS)  # and can go on
    assert sim.now == 20 * MS


def test_a_walk_says_that_its_time_was_up() -> None:
    """Nobody answers the SYN, and connect() would still be waiting."""
    network = line()
    network["b"].fib.tables.clear()
    network["b"].devices["eth0"].addrs = []
    trace = walk(network, Flow("tcp", "a", IPv4("10.0.0.2"), 80), until=5 * SECOND)
    assert trace.note == "stopped at the bound of 5 s" and trace.result.outcome == "timeout"


# -- costs -------------------------------------------------------------------------------------------------------------


def test_time_is_the_sum_of_what_stages_cost() -> None:
    sim = Simulation(line(), costs={"receive": 3, "route_in": 5, "deliver": 7})
    sim.program("a", lambda room, now: room.send(echo("0.0.0.0", "10.0.0.2"), now, pinger(room)))
    sim.run()
    hop = next(h for h in sim.hops if h.room == "b")
    at = {s.stage: t for s, t in zip(hop.steps, hop.times, strict=True)}
    assert (at["receive"], at["route_in"], at["deliver"]) == (3, 8, 15)
    assert hop.end == 15


def test_a_program_takes_its_time_to_be_woken() -> None:
    """`app`: between delivery and what the server sends."""
    trace = walk(line(), Flow("udp", "a", IPv4("10.0.0.2"), 80), costs={"app": DEFAULT_COSTS["app"]})
    assert trace.result.at == DEFAULT_COSTS["app"]


def test_every_stage_that_costs_is_one() -> None:
    """A cost for a stage that no longer exists would be silently ignored."""
    others = {"conntrack", "flood", "learn", "fdb", "defrag", "fragment", "deliver", "app"}
    assert set(DEFAULT_COSTS) - set(STAGES) <= others


# -- long runs ---------------------------------------------------------------------------------------------------------


def test_a_long_run_remembers_its_last_visits_by_their_numbers() -> None:
    whole, short = Simulation(line(), costs=FREE), Simulation(line(), costs=FREE, keep=20)
    for sim in (whole, short):
        pings(40)(sim)
        sim.run()
    assert len(whole.hops) > 100 and 20 <= len(short.hops) <= 40
    last = len(whole.hops) - 1
    assert short.visit(last) == short.hops[-1] and short.visit(0) is None
    assert [h.cause for h in short.hops] == [h.cause for h in whole.hops[-len(short.hops) :]]


def test_something_else_happens_at_its_time() -> None:
    """A fault: it keeps a run alive, and comes between the packets."""
    sim = Simulation(line(), costs=FREE)
    sim.at(50 * US, lambda: sim.network.link_set("b", "eth0", up=False))
    pings(3, every=30 * US)(sim)
    sim.run()
    assert received(sim, "b") == [0, 30 * US] and sim.now == 60 * US
    sim.at(90 * US, lambda: None)
    sim.run()
    assert sim.now == 90 * US


def test_a_closed_run_leaves_nothing_for_the_collector() -> None:
    """Each pending event holds the environment, which holds the events."""
    sim = Simulation(line(known=False), costs=FREE)
    pings(1)(sim)
    sim.run(until=10 * US)
    gone = weakref.ref(sim)
    sim.close()
    gc.disable()
    del sim
    alive = gone()
    gc.enable()
    assert alive is None
