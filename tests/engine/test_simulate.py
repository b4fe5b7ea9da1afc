"""Traffic: counted to the packet, with the delays queueing theory asks for, the same every time, and within bounds."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest

import packetwalk as pw
from packetwalk.engine import simulate as module
from packetwalk.engine.load import Load
from packetwalk.engine.sim import Simulation
from packetwalk.network import Network
from packetwalk.packet import size
from packetwalk.trace import Reason
from tests.engine.test_sim import FREE, line
from tests.netns.rooms import iptables

MS, SECOND = 1_000_000, 1_000_000_000
FRAME = 14 + 20 + 8  # bytes around a datagram


def pair(**link: Any) -> tuple[pw.Pod, pw.Pod, Network]:
    """Pods a and b on two nodes under Flannel's VXLAN."""
    cluster = pw.Cluster(nodes=2, cni=pw.Flannel("vxlan"), link=pw.Link(**link))
    a, b = cluster.pod("a", node=1), cluster.pod("b", node=2, listen=80)
    cluster.service("web", 80, pods=[b], protocol="UDP")
    return a, b, pw.build(cluster)


def waits(load: Load) -> float:
    """Mean ns that frames waited for the wire of the line, beside their own bits."""
    link = load.links["a", "eth0"]
    return link.wait.total / link.frames - link.bytes / link.frames * 8 * 1000


# -- counting ----------------------------------------------------------------------------------------------------------


def test_every_packet_is_counted_where_it_ends() -> None:
    a, b, net = pair()
    load = pw.simulate(net, pw.constant(a, b, rate=1000, size=100), until="50ms")
    flow = load.flow("a > b")
    assert (flow.sent, flow.delivered, flow.delivered_bytes, load.lost, load.drops) == (50, 50, 5000, 0, {})
    assert load.links["node-1", "eth0"].frames == 50 and load.links["node-1", "eth0"].bytes == 50 * (FRAME + 50 + 100)
    assert load.rooms["node-2"].visits >= 50 and not load.deaths


def test_an_idle_network_takes_what_a_walk_takes() -> None:
    a, b, net = pair(rate=10**9, delay=5000)
    walked = pw.walk(net, a, b, udp=9, size=1000)
    there = next(h for h in walked if h.room == "b")
    load = pw.simulate(net, pw.constant(a, b, rate=100, size=1000), until="100ms")
    latency = there.times[[s.stage for s in there.steps].index("drop")] + 500  # a walk finds no program there
    assert load.latency.min == load.latency.max == latency


def test_an_echo_comes_back_and_is_timed() -> None:
    a, _, net = pair()
    load = pw.simulate(net, pw.constant(a, "b:80", rate=100), pw.constant(a, "b", rate=100, icmp=True), until="50ms")
    udp, icmp = load.flows
    assert (udp.delivered, udp.answers, icmp.delivered, icmp.answers) == (5, 5, 5, 5)
    assert udp.rtt.min > udp.latency.max + 20_000, "the echo server is a program, which is woken first"
    assert icmp.latency.max < icmp.rtt.min < 2 * icmp.latency.max + 10_000


def test_connections_take_turns() -> None:
    a, _, net = pair()
    load = pw.simulate(net, pw.constant(a, "web:80", rate=1000, conns=5), until="12ms")
    tracked = [c.original for c in load.after["node-1"].conns.all()]
    assert {t.sport for t in tracked if t.dport == 80} == set(range(40000, 40005))
    assert (load.flows[0].delivered, load.flows[0].answers) == (12, 12), "through the service, and back"


def test_a_pod_on_the_hosts_network_sends_from_its_node() -> None:
    cluster = pw.Cluster(nodes=2, cni=pw.Flannel("vxlan"))
    agent, b = cluster.pod("agent", node=1, host_network=True), cluster.pod("b", node=2)
    net = pw.build(cluster)
    sources = pw.constant(agent, b, rate=100), pw.constant("node-2/kubelet", agent, rate=100)
    load = pw.simulate(net, *sources, until="20ms")
    assert [f.delivered for f in load.flows] == [2, 2] and set(load.rooms) == {"node-1", "fabric", "node-2", "b"}


def test_what_it_met_and_does_not_know_is_said() -> None:
    a, b, net = pair()
    iptables(net["node-1"], "raw", "-A PREROUTING -m nonsense --foo -j DROP")
    load = pw.simulate(net, pw.constant(a, b, rate=100), until="20ms")
    assert load.delivered == 0 and sum(load.unsupported.values()) == 2
    assert "nonsense" in str(load)


def test_tables_that_nobody_evaluates_are_named() -> None:
    a, b, net = pair()
    net["node-1"].unevaluated = ("ipvs",)
    net["out"].unevaluated = ("nftables",)
    load = pw.simulate(net, pw.constant(a, b, rate=100), until="20ms")
    assert load.note == "not evaluated: node-1 ipvs" and str(load).endswith(load.note), "out saw no packet"


def test_the_network_is_left_as_it_was() -> None:
    a, b, net = pair()
    before = pw.walk(net, a, b, cold=True).full()
    pw.simulate(net, pw.constant(a, b, rate=1000), until="10ms", faults=["at 5ms link node-2 down"])
    pw.simulate(net, pw.transfer(a, b, total=5000), until="10ms")
    assert pw.walk(net, a, b, cold=True).full() == before


# -- queues ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_a_queue_is_as_long_as_theory_says(share: float) -> None:
    """M/D/1: Poisson arrivals at a wire that takes the same time for each wait share / (2 (1 - share)) of it."""
    bits = (FRAME + 1400) * 8
    load = pw.simulate(line(rate=10**6), pw.poisson("a", "b", rate=share * 1e6 / bits), until="60s", costs=FREE, seed=4)
    assert waits(load) == pytest.approx(share / (2 * (1 - share)) * bits * 1000, rel=0.12)
    assert not load.drops


def test_a_full_queue_drops_what_does_not_fit() -> None:
    """Twice what the wire takes: half is lost, and what arrives has waited for the whole queue."""
    bits = (FRAME + 1400) * 8
    load = pw.simulate(line(rate=10**6, queue=20), pw.constant("a", "b", rate=2e6 / bits), until="10s", costs=FREE)
    assert load.lost / load.sent == pytest.approx(0.5, abs=0.02)
    assert load.drops == {Reason.QDISC_DROP: load.lost} and load.links["a", "eth0"].drops == load.lost
    assert load.latency.percentile(50) == pytest.approx(21 * bits * 1000, rel=0.05)


def test_flows_share_a_wire() -> None:
    """One that sends three times as much gets three times as much of what there is."""
    sources = pw.poisson("a", "b", rate=150, name="big"), pw.poisson("a", "b", rate=50, name="small")
    load = pw.simulate(line(rate=10**6, queue=5), *sources, until="20s", costs=FREE, seed=2)
    big, small = load.flow("big").delivered, load.flow("small").delivered
    assert big / small == pytest.approx(3, rel=0.1)
    assert big + small == pytest.approx(20 * 10**6 / ((FRAME + 1400) * 8), rel=0.02), "the wire is never idle"


def test_a_processor_is_a_queue_as_well() -> None:
    """A room that needs a millisecond for a packet keeps a thousand waiting, and drops what comes after them."""
    load = pw.simulate(line(), pw.constant("a", "b", rate=10_000), until="300ms", costs={"receive": MS})
    assert load.drops == {Reason.CPU_BACKLOG: load.lost} and load.delivered + load.lost == 3000
    assert load.rooms["b"].drops == load.lost and load.rooms["b"].busy == load.delivered * MS
    assert load.latency.max == pytest.approx(1001 * MS, rel=0.01)


# -- the same every time, and bounded ----------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_numbers() -> None:
    a, b, net = pair(rate=10**8, queue=10)

    def once(seed: int) -> dict[str, Any]:
        bursts = pw.on_off(b, a, rate=5000, on="3ms", off="4ms")
        sources = pw.poisson(a, b, rate=9000), bursts, pw.transfer(b, a, total=99_999)
        return pw.simulate(net, *sources, until="40ms", seed=seed, faults=["at 20ms link node-1 rate 50mbit"]).to_dict()

    assert once(1) == once(1)
    assert once(1) != once(2)


def test_nothing_is_kept_per_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the packets leave no more behind, neither in the run nor for the collector."""
    monkeypatch.setattr(module, "KEEP", 100)
    kept = []
    run = Simulation.run
    monkeypatch.setattr(Simulation, "run", lambda sim, *a, **k: (run(sim, *a, **k), kept.append(len(sim.hops)))[0])
    a, b, net = pair(rate=10**7, queue=10)

    def left(until: str) -> int:
        gc.collect()
        gc.disable()  # as it is during a run: what waits for it would pile up
        load = pw.simulate(net, pw.poisson(a, b, rate=2000), until=until)
        found = gc.collect()
        gc.enable()
        assert load.drops
        return found

    few, many = left("50ms"), left("500ms")
    assert many < few + 200 and max(kept) <= 201


def test_a_run_ends_though_the_far_end_is_gone() -> None:
    """TCP tries for many minutes; two seconds after the sources have stopped nobody waits any more."""
    a, b, net = pair()
    load = pw.simulate(net, pw.transfer(a, b), until="100ms", faults=["at 10ms link node-2 down"])
    assert load.end <= 100 * MS + 2 * SECOND and load.flows[0].lost


# -- what it says ------------------------------------------------------------------------------------------------------


def test_the_first_packet_that_died_is_shown() -> None:
    a, b, net = pair(rate=10**7, queue=3)
    load = pw.simulate(net, pw.constant(a, b, rate=2000), until="50ms")
    sample = load.samples[Reason.QDISC_DROP]
    assert sample.minimal() == "a > node-1 [+vxlan, drop QDISC_DROP] : timeout"
    assert [h.cause for h in sample.hops] == [None, (0, 2)] and size(sample.hops[0].steps[-1].packet) == FRAME + 1400
    death, count = next(iter(load.deaths.items()))
    assert (death.room, death.dev, death.flow, count) == ("node-1", "eth0", "a > b", load.lost)


def test_the_timeline_shows_when() -> None:
    a, b, net = pair()
    faults = ["at 20ms node-2 sysctl net.ipv4.ip_forward=0", "at 30ms node-2 sysctl net.ipv4.ip_forward=1"]
    load = pw.simulate(net, pw.constant(a, b, rate=1000), until="50ms", every="10ms", faults=faults)
    assert [(r["sent"], r["delivered"], r["dropped"]) for r in load.rows("time")] == [
        (10, 10, 0), (10, 10, 0), (10, 0, 10), (10, 10, 0), (10, 10, 0),
    ]  # fmt: skip
    assert load.drops == {Reason.IP_INADDRERRORS: 10}


@pytest.mark.parametrize("make", [pw.transfer, lambda *ends, **o: pw.constant(*ends, rate=1000, **o)])
def test_a_source_sends_between_its_start_and_its_stop(make: Callable[..., pw.Source]) -> None:
    sources = make("a", "b", start="10ms", stop="30ms"), make("a", "b", start="60ms", name="late")
    load = pw.simulate(line(rate=10**7), *sources, until="50ms", every="10ms")
    sent = [r["sent"] for r in load.rows("time") if r["flow"] == "a > b"]
    assert sent[0] == 0 and sent[1] and sent[2] and not any(sent[3:])
    assert load.flow("late").sent == 0 and not load.drops


def test_progress_rises_to_one() -> None:
    told: list[float] = []
    pw.simulate(line(), pw.constant("a", "b", rate=100), until="50ms", progress=told.append)
    assert told == sorted(told) and told[-1] == 1.0 and len(told) > 10


def test_rows_are_frames_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    load = pw.simulate(line(rate=10**6, queue=2), pw.constant("a", "b", rate=200), until="50ms")
    flows = load.to_frame()
    assert list(flows["lost"]) == [load.lost] and list(flows["QDISC_DROP"]) == [load.lost]
    assert list(load.to_frame("time")["sent"]) == [r["sent"] for r in load.rows("time")]
    with pytest.raises(ValueError, match="there is no table 'flow', only flows, hops, rooms, drops, time"):
        load.rows("flow")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_frame\\(\\) needs pandas: pip install 'packetwalk\\[frame\\]'"):
        load.to_frame()


# -- what is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "words", "said"),
    [
        ((), {}, "at least one source"),
        ((pw.constant("aa", "b", rate=1),), {}, "there is no room 'aa'; did you mean 'a'"),
        ((pw.constant("a", "bb", rate=1),), {}, "there is no room 'bb'"),
        ((pw.constant("a", "b", rate=1),), {"until": 0}, "until: a time after the start was expected, not 0"),
        ((pw.constant("a", "b", rate=1),), {"until": "1 s"}, "a number with one of ns, us, ms, s"),
        ((pw.constant("a", "b", rate=1, conns=10_000),) * 3, {}, "conns: 30000 ports are wanted"),
    ],
)  # fmt: skip
def test_what_cannot_be_simulated(sources: tuple[pw.Source, ...], words: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, KeyError), match=said):
        pw.simulate(line(), *sources, **words)
