"""The engine: it owns the clock, carries packets over wires, gives rooms their turn, and runs the timers they ask for.

Rooms know neither time nor each other; what they return is played out here on a SimPy
Environment. One engine serves a single walk with empty queues and heavy traffic alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import simpy

from packetwalk.collector import collector_paused
from packetwalk.engine.costs import DEFAULT_COSTS
from packetwalk.netns.namespace import Netns
from packetwalk.network import End, Network, Wire
from packetwalk.packet import Packet, size
from packetwalk.trace import NAPI, SOFTIRQ, TASK, TIMER, Drop, Hop, Reason, Step, Timer

MAX_EVENTS = 1_000_000
WHEEL_SLOT = 32_000_000  # eight jiffies at HZ=250: the second level of the timer wheel, where timers of a second live
WHEEL_FROM = 256_000_000
BACKLOG = 1000  # net.core.netdev_max_backlog
Cause = tuple[int, int] | None
T = TypeVar("T")


class Work(NamedTuple):
    """A room's turn: what to do there, why, what led to it, and in which context."""

    room: str
    dev: str
    do: Callable[[Netns, int], list[Step]]
    cause: Cause = None
    why: str = ""
    context: str = SOFTIRQ
    packet: Packet | None = None  # what arrives, if something does


class Cpu:
    """Work waiting for one processor, by context: timers, arrivals, what tunnels queued, programs."""

    __slots__ = ("busy", "queues")

    def __init__(self) -> None:
        self.queues: dict[str, deque[Work]] = {TIMER: deque(), SOFTIRQ: deque(), NAPI: deque(), TASK: deque()}
        self.busy = False

    def next(self) -> Work | None:
        for queue in self.queues.values():
            if queue:
                return queue.popleft()
        return None


class Simulation:
    """A run of a network. Times are nanoseconds since the start.

    costs: ns per stage. shared_cpu: all rooms share one processor and its timer wheel, as namespaces of
    one kernel pinned to a core do; otherwise each room has its own and timers are exact. keep: how many
    visits `hops` remembers at least, 0 for all of them. The network given is learned into: hand in an overlay
    to keep the original as it is.
    """

    def __init__(self, network: Network, *, costs: Mapping[str, int] = DEFAULT_COSTS, shared_cpu: bool = False,
                 keep: int = 0) -> None:  # fmt: skip
        self.network = network
        self.costs = costs
        self.env = simpy.Environment()
        self.hops: list[Hop] = []
        self._keep, self._forgotten = keep, 0
        self.note = ""
        self._shared = Cpu() if shared_cpu else None
        self._cpus: dict[str, Cpu] = {}
        self._leaving: dict[End, deque[int]] = {}  # when each frame that was given to a wire's end will have left
        self._wheel: dict[int, list[Callable[[], None]]] = {}
        self._pending = 0
        self._watchers: list[Callable[[Hop], None]] = []

    @property
    def now(self) -> int:
        return int(self.env.now)

    def watch(self, watcher: Callable[[Hop], None]) -> None:
        """Call `watcher` with every visit as it happens."""
        self._watchers.append(watcher)

    def program(self, room: str, do: Callable[[Netns, int], list[Step]], *, at: int = 0, why: str = "") -> None:
        """A program in a room acts at a time: `do` gets the room and the time, and returns its steps."""
        self._pending += 1
        self._at(at - self.now, self._enqueue, Work(room, "", do, None, why, TASK))

    def at(self, when: int, do: Callable[[], None]) -> None:
        """Do something at a time, to the network or to a program; it keeps the run alive until then."""

        def then(do: Callable[[], None]) -> None:
            self._pending -= 1
            do()

        self._pending += 1
        self._at(when - self.now, then, do)

    def visit(self, number: int) -> Hop | None:
        """A visit by its number, as in `Hop.cause`; None if it has been forgotten."""
        return self.hops[number - self._forgotten] if number >= self._forgotten else None

    def run(self, until: int | None = None, *, max_events: int = MAX_EVENTS) -> None:
        """Run until nothing is pending, until a time, or until a bound bites (then `note` says so).

        Housekeeping (ageing, neighbour checks) alone does not keep a run alive.
        """
        with collector_paused():
            for _ in range(max_events):
                if not self._pending or (until is not None and self.env.peek() > until):
                    return
                self.env.step()
        self.note = f"stopped after {max_events} events at {self.now / 1000:.1f} us: something goes on for ever"

    def close(self) -> None:
        """Let go of what is still to come: pending events and watchers hold the run, and would keep it for the
        collector."""
        self.env._queue.clear()  # each event holds the environment, too; SimPy has no other way to forget them
        self._watchers.clear()
        self._wheel.clear()

    # -- processors ------------------------------------------------------------------------------------------------

    def _cpu(self, room: str) -> Cpu:
        if self._shared is not None:
            return self._shared
        cpu = self._cpus.get(room)
        if cpu is None:
            cpu = self._cpus[room] = Cpu()
        return cpu

    def _at(self, delay: int, do: Callable[[T], None], about: T) -> None:
        """Do something later: one event of SimPy."""
        event = self.env.timeout(delay if delay > 0 else 0)
        assert event.callbacks is not None
        event.callbacks.append(lambda _: do(about))

    def _enqueue(self, work: Work) -> None:
        cpu = self._cpu(work.room)
        queue = cpu.queues[work.context]
        if work.packet is not None and len(queue) > BACKLOG:  # enqueue_to_backlog
            self._pending -= 1
            full = Drop(Reason.CPU_BACKLOG, f"{BACKLOG} packets wait for the processor of {work.room}")
            self._play(work, [Step("drop", work.dev, full, work.packet)], self.now)
            return
        queue.append(work)
        if not cpu.busy:
            self._serve(cpu)

    def _serve(self, cpu: Cpu) -> None:
        """Give the next piece of work its turn; when its time is over, the one after it."""
        work = cpu.next()
        cpu.busy = work is not None
        if work is None:
            return
        start = self.now + (self.costs.get("app", 0) if work.why == "app" else 0)
        steps = work.do(self.network.rooms[work.room], start)
        end = self._play(work, steps, start)
        self._pending -= 1
        self._at(end - self.now, self._serve, cpu)

    # -- effects ---------------------------------------------------------------------------------------------------

    def _play(self, work: Work, steps: list[Step], start: int) -> int:
        """Give each step its time and let its effects happen. Returns when the visit is over."""
        if not steps:
            return start
        costs, at, index = self.costs, start, self._forgotten + len(self.hops)
        times: list[int] = []
        hop = Hop(work.room, work.dev, start, [], times, work.cause, work.why)
        self.hops.append(hop)
        if self._keep and len(self.hops) > 2 * self._keep:
            del self.hops[: self._keep]
            self._forgotten += self._keep
        wires = self.network.wires
        for i, step in enumerate(steps):
            at += costs.get(step.stage, 0)
            if step.stage == "timer":
                self._set_timer(work.room, step, (index, len(times) - 1), work.context)
                continue
            hop.steps.append(step)
            times.append(at)
            if step.stage == "transmit":
                end = (work.room, step.dev)
                wire = wires.get(end)
                if wire is not None and not _refused(step, steps[i + 1 : i + 2]):
                    self._carry(wire, end, step.packet, at, (index, len(times) - 1), hop)
        for watcher in self._watchers:
            watcher(hop)
        return at

    def _carry(self, wire: Wire, end: End, packet: Packet, at: int, cause: Cause, hop: Hop) -> None:
        """Put a frame on a wire: wait for the transmitter, then for the bits, then for the distance."""
        far = wire.b if wire.a == end else wire.a
        if wire.rate:
            leaving = self._leaving.setdefault(end, deque())
            while leaving and leaving[0] <= at:
                leaving.popleft()
            if len(leaving) > wire.queue:  # one is being sent, the others wait
                hop.steps.append(
                    Step("drop", end[1], Drop(Reason.QDISC_DROP, f"{wire.queue} packets wait already"), packet)
                )
                hop.times.append(at)
                return
            at = (leaving[-1] if leaving else at) + size(packet) * 8 * 1_000_000_000 // wire.rate
            leaving.append(at)
        room, dev = far
        self._pending += 1
        work = Work(room, dev, lambda ns, now: ns.receive(dev, packet, now), cause, packet=packet)
        self._at(at + wire.delay - self.now, self._enqueue, work)

    def _set_timer(self, room: str, step: Step, cause: Cause, context: str) -> None:
        timer = step.what
        assert isinstance(timer, Timer)
        work = Work(room, "", lambda ns, now: ns.wake(timer, now), cause, timer.kind, timer.context)
        if timer.pending:
            self._pending += 1
        due = lambda: self._due(work, timer)  # noqa: E731
        if self._shared is None or timer.at - self.now < WHEEL_FROM:
            self._at(timer.at - self.now, _call, due)
        elif timer.kind == "tcp" and context == TASK:  # a program's own softirqs come first, then its timer is set
            self._shared.queues[TASK].appendleft(
                Work(room, "", lambda ns, now: self._turn_wheel(timer.at, due), None, "arm", TASK)
            )
            self._pending += 1
        else:
            self._turn_wheel(timer.at, due)

    def _turn_wheel(self, at: int, due: Callable[[], None]) -> list[Step]:
        """Put a timer into its slot (calc_index): all of a slot fire together, the last one added first."""
        slot = (at + WHEEL_SLOT) // WHEEL_SLOT * WHEEL_SLOT
        if slot not in self._wheel:
            self._wheel[slot] = []
            self._at(slot - self.now, self._expire, slot)
        self._wheel[slot].append(due)
        return []

    def _expire(self, slot: int) -> None:
        for due in reversed(self._wheel.pop(slot)):
            due()

    def _due(self, work: Work, timer: Timer) -> None:
        if not timer.pending:
            self._pending += 1  # from now on it is work like any other
        self._enqueue(work)


def _refused(transmit: Step, after: list[Step]) -> bool:
    """Whether the device's other end dropped the frame right away: the step after the transmit says so."""
    return any(s.stage == "drop" and s.dev == transmit.dev and s.packet is transmit.packet for s in after)


def _call(due: Callable[[], None]) -> None:
    due()
