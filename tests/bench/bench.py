"""What things cost, as ratios to one bare SimPy timeout measured in the same run; medians over interleaved rounds.

Run by `make bench`; keeps the last results in RESULTS.md beside this file.
"""

import gc
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import simpy

from packetwalk.addr import IPv4, Mac, Prefix
from packetwalk.engine.walk import walk
from packetwalk.netns.device import Nic, Veth
from packetwalk.netns.namespace import Netns
from packetwalk.netns.rule import parse_rule
from packetwalk.network import Network
from packetwalk.packet import Ethernet, Header, Icmp, Ip, Udp, ip_packet
from packetwalk.trace import Flow

HERE = Path(__file__).parent
RECORDING = HERE.parent / "recordings" / "S5-calico-ipip"
ROUNDS, TURNS = 11, 2000
ROUTES, ROOMS = (10, 100, 1000, 10_000), (5, 10, 20, 50)
ROUTER = Mac("02:00:00:00:00:01")
LIMITS = {"router hop": 10, "each hook": 20}
UNIT = "bare SimPy timeout, 100 pending"


class Row(NamedTuple):
    """One figure: in ns (or s) and in timeouts, and what it should be at most."""

    what: str
    value: str
    ratio: float
    limit: float = 0.0

    def __str__(self) -> str:
        verdict = "" if not self.limit else "ok" if self.ratio <= self.limit else "over"
        return f"| {self.what} | {self.value} | {self.ratio:.2f} | {self.limit or ''} | {verdict} |"


# -- what is measured -------------------------------------------------------------------------------------------------


def router(routes: int = 0, rules: int = 0, selector: str = "iif") -> Netns:
    """A router between 10.0.0.0/24 and 10.0.1.0/24, with routes and policy rules that do not match."""
    room = Netns("r")
    for n in (0, 1):
        room.link_add(f"eth{n}", Nic(mac=Mac(int(ROUTER) + n)))
        room.addr_add(f"eth{n}", f"10.0.{n}.1/24")
    room.sysctl("net.ipv4.ip_forward", 1)
    room.neigh_add("10.0.1.2", "02:00:00:00:00:99", "eth1")
    for n in range(routes):
        room.route_add(f"20.{n >> 8}.{n & 255}.0/24", via="10.0.1.9")
    for n in range(rules):
        selectors = {"iif": {"iif": f"none{n}"}, "fwmark": {"fwmark": n + 1, "fwmask": 0xFF},
                     "from": {"src": Prefix.parse(f"30.0.{n}.0/24")}}  # fmt: skip
        room.rule_add(100 + n, 100, **selectors[selector])
    return room


RULES = ("-s 10.9.{n}.0/24", "-d 10.9.0.{n}/32 -p tcp -m tcp --dport 80", "-m mark --mark 0x1{n:02x}0000/0x1ff0000",
         "-p udp -m udp --dport 1{n}", '-m comment --comment "{n}" -m conntrack --ctstate RELATED')  # fmt: skip
HOOKS = {"PREROUTING": "mangle", "INPUT": "filter", "FORWARD": "filter", "OUTPUT": "filter", "POSTROUTING": "mangle"}


def filtered(*, tracked: bool = False) -> Netns:
    """The router with ten rules in each hook that do not match, and with connection tracking."""
    room = router()
    for hook, table in HOOKS.items():
        for n in range(10):
            rule = parse_rule(f"-A {hook} {RULES[n % len(RULES)].format(n=n)} -j DROP")
            room.netfilter.table(table).append(rule)
    room.conntrack = tracked
    return room


def chain(rooms: int) -> tuple[Network, Flow]:
    """Routers in a row, and an echo from the first to the last."""
    network = Network("chain")
    for i in range(rooms):
        room = network.add(Netns(f"r{i}"))
        room.sysctl("net.ipv4.ip_forward", 1)
        if i:
            room.link_add("left", Veth(mac=Mac(0x020000000000 + 2 * i)))
            network.connect((f"r{i - 1}", "right"), (room.name, "left"))
            room.addr_add("left", f"10.{i - 1}.0.2/24")
        if i > 1:
            room.route_add("10.0.0.0/24", via=f"10.{i - 1}.0.1")
        if i < rooms - 1:
            room.link_add("right", Veth(mac=Mac(0x020000000001 + 2 * i)))
            room.addr_add("right", f"10.{i}.0.1/24")
        if i < rooms - 2:
            room.route_add(f"10.{rooms - 2}.0.0/24", via=f"10.{i}.0.2")
    return network, Flow("icmp", "r0", IPv4(f"10.{rooms - 2}.0.2"))


def timeouts() -> int:
    """The unit: how much a process costs that does nothing but wait."""
    env = simpy.Environment()

    def process() -> Iterator[simpy.Event]:
        while True:
            yield env.timeout(1)

    for _ in range(100):
        env.process(process())
    env.run(until=TURNS // 100)
    return TURNS


PING, DATA = Icmp(8, 0, 1, 1), Udp(4000, 8080, 64)


def hops(room: Netns, proto: int = 1, l4: Header = PING, steps: int = 5) -> Callable[[], int]:
    """A packet through one room, everything recorded."""
    bare = ip_packet(Ip(IPv4("10.0.0.2"), IPv4("10.0.1.2"), proto, 0, 64), l4, payload=56)
    packet = bare.push(Ethernet(Mac("02:00:00:00:00:88"), ROUTER))
    assert len(room.receive("eth0", packet, 0)) == steps

    def run() -> int:
        for _ in range(TURNS):
            room.receive("eth0", packet, 0)
        return TURNS

    return run


def walks(network: Network, flow: Flow) -> Callable[[], int]:
    """Whole walks with engine, wires and ARP; counted in visits of a room, all of them."""
    visits = len(walk(network, flow, cold=True).hops)
    times = max(1, 500 // visits)

    def run() -> int:
        for _ in range(times):
            assert walk(network, flow, cold=True).delivered
        return times * visits

    return run


# -- measuring --------------------------------------------------------------------------------------------------------


def medians(work: Mapping[str, Callable[[], int]]) -> dict[str, float]:
    """ns of CPU per turn: each piece of work in turn, several rounds, the collector frozen meanwhile."""
    spent: dict[str, list[float]] = {name: [] for name in work}
    gc.collect()
    gc.freeze()
    gc.disable()
    for _ in range(ROUNDS):
        for name, run in work.items():
            start = time.process_time_ns()
            turns = run()
            spent[name].append((time.process_time_ns() - start) / turns)
    gc.enable()
    gc.unfreeze()
    return {name: statistics.median(times) for name, times in spent.items()}


def collector_share(run: Callable[[], int]) -> float:
    """How much of that work's time goes to Python's collector, left as a user has it."""
    spent = begun = 0

    def watch(phase: str, _: dict[str, int]) -> None:
        nonlocal spent, begun
        now = time.process_time_ns()
        spent, begun = (spent, now) if phase == "start" else (spent + now - begun, 0)

    gc.callbacks.append(watch)
    start = time.process_time_ns()
    for _ in range(ROUNDS):
        run()
    whole = time.process_time_ns() - start
    gc.callbacks.remove(watch)
    return spent / whole


def slope(found: Mapping[str, float], names: Mapping[int, str]) -> float:
    """The exponent by which the cost grows with the size: 0 is constant, 1 proportional."""
    first, *_, last = names
    return math.log(found[names[last]] / found[names[first]]) / math.log(last / first)


def process(*command: str) -> float:
    """Seconds of CPU of `packetwalk COMMAND` as a process of its own."""
    code = f"import resource, subprocess; subprocess.run({[sys.executable, '-m', 'packetwalk', *command]!r}, "
    code += "stdout=subprocess.DEVNULL, check=True); u = resource.getrusage(resource.RUSAGE_CHILDREN); "
    code += "print(u.ru_utime + u.ru_stime)"
    runs = (subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5))
    return statistics.median(float(done.stdout) for done in runs)


def main() -> None:
    by_routes = {n: f"router hop, {n} other routes" for n in ROUTES}
    by_rooms = {n: f"visit of a room in a walk through {n}" for n in ROOMS}
    work = {UNIT: timeouts, "router hop of five steps": hops(router())}
    work |= {f"router hop, ten rules by `{s}`": hops(router(rules=10, selector=s)) for s in ("iif", "fwmark", "from")}
    work |= {name: hops(router(routes=n)) for n, name in by_routes.items()}
    work |= {name: walks(*chain(n)) for n, name in by_rooms.items()}
    work |= {"room with ten rules in each hook": hops(filtered(), 17, DATA)}
    work |= {"the same, the connection tracked": hops(filtered(tracked=True), 17, DATA, steps=6)}
    found = medians(work)
    unit, step = found[UNIT], found["router hop of five steps"] / 5
    rows = [Row(UNIT, f"{unit:.0f} ns", 1.0), Row("a step", f"{step:.0f} ns", step / unit, 2)]
    rows += [
        Row(name, f"{found[name]:.0f} ns", found[name] / unit, next((n for w, n in LIMITS.items() if w in name), 0))
        for name in work if name != UNIT
    ]
    share = collector_share(walks(*chain(50)))
    lines = ["# Last results of `make bench`", "", "| what | takes | x timeout | at most | |", "|---|---|---|---|---|"]
    lines += [*map(str, rows), ""]
    by_length = f"Slope of a visit by the length of the chain, {ROOMS[0]} to {ROOMS[-1]}"
    lines += [f"Slope of a hop by the number of routes, {ROUTES[0]} to {ROUTES[-1]}: {slope(found, by_routes):.3f}."]
    lines += [f"{by_length}: {slope(found, by_rooms):.3f}. (Exponents: 0 is constant, 1 proportional.)", ""]
    lines += [f"Python's collector in walks through 50 rooms (paused during runs): {share:.1%} of their time."]
    for limit, *command in ((0.35, "walk", "a", "b"), (3.0, "predict", str(RECORDING))):
        cpu = process(*command)
        verdict = "ok" if cpu <= limit else "over"
        lines += [f"CPU of `packetwalk {command[0]}` from a cold start: {cpu:.2f} s (at most {limit}: {verdict})."]
    text = "\n".join(lines) + "\n"
    print(text)
    (HERE / "RESULTS.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
