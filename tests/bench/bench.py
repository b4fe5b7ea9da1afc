"""What things cost, as ratios to one bare SimPy timeout measured in the same run; medians over interleaved rounds.

Run by `make bench`; keeps the last results in RESULTS.md beside this file.
"""

import gc
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import simpy

from packetwalk.addr import IPv4, Mac
from packetwalk.netns.device import Nic
from packetwalk.netns.namespace import Netns
from packetwalk.packet import Ethernet, Icmp, Ip, Packet, ip_packet

ROUNDS, TURNS = 7, 3000
ROUTER = Mac("02:00:00:00:00:01")


def router(routes: int = 0, rules: int = 0) -> Netns:
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
        room.rule_add(100 + n, 100, iif=f"none{n}")
    return room


def frame() -> Packet:
    ping = ip_packet(Ip(IPv4("10.0.0.2"), IPv4("10.0.1.2"), 1, 0, 64), Icmp(8, 0, 1, 1), payload=56)
    return Packet((Ethernet(Mac("02:00:00:00:00:88"), ROUTER), *ping.headers), ping.payload)


def timeouts() -> None:
    env = simpy.Environment()

    def process() -> object:
        while True:
            yield env.timeout(1)

    for _ in range(100):
        env.process(process())  # type: ignore[arg-type]
    env.run(until=TURNS // 100)


def hops(room: Netns) -> Callable[[], None]:
    packet = frame()

    def run() -> None:
        for _ in range(TURNS):
            room.receive("eth0", packet, 0)

    return run


def medians(work: dict[str, Callable[[], None]]) -> dict[str, float]:
    """ns per turn: each piece of work in turn, several rounds, the collector frozen meanwhile."""
    spent: dict[str, list[float]] = {name: [] for name in work}
    gc.collect()
    gc.freeze()
    gc.disable()
    for _ in range(ROUNDS):
        for name, run in work.items():
            start = time.process_time_ns()
            run()
            spent[name].append((time.process_time_ns() - start) / TURNS)
    gc.enable()
    gc.unfreeze()
    return {name: statistics.median(times) for name, times in spent.items()}


def cold_start() -> float:
    """Seconds of CPU of `packetwalk walk a b` as a process of its own."""
    code = "import resource, subprocess, sys; subprocess.run([sys.executable, '-m', 'packetwalk', 'walk', 'a', 'b'], "
    code += "stdout=subprocess.DEVNULL, check=True); u = resource.getrusage(resource.RUSAGE_CHILDREN); "
    code += "print(u.ru_utime + u.ru_stime)"
    runs = (subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5))
    return statistics.median(float(done.stdout) for done in runs)


def main() -> None:
    unit_name = "bare SimPy timeout"
    sizes = (10, 100, 1000, 10_000)
    work = {unit_name: timeouts, "router hop": hops(router()), "with ten routes": hops(router(routes=10)),
            "with ten rules": hops(router(rules=10))}  # fmt: skip
    work |= {f"with {n} routes": hops(router(routes=n)) for n in sizes}
    found = medians(work)
    unit = found[unit_name]
    steps = len(router().receive("eth0", frame(), 0))
    step = found["router hop"] / steps
    rows = [(unit_name, unit, 1.0, ""), ("a step", step, step / unit, "2")]
    rows += [(name, found[name], found[name] / unit, "10") for name in work if name != unit_name]
    slope = math.log(found["with 10000 routes"] / found["with 10 routes"]) / math.log(1000)
    lines = ["# Last results of `make bench`", "", "| what | ns | x timeout | at most | |", "|---|---|---|---|---|"]
    for name, ns, ratio, limit in rows:
        verdict = "" if not limit else "ok" if ratio <= float(limit) else "over"
        lines.append(f"| {name} | {ns:.0f} | {ratio:.2f} | {limit} | {verdict} |")
    cpu = cold_start()
    verdict = "ok" if cpu <= 0.35 else "over"
    lines += ["", f"Slope of a hop by the number of routes, 10 to 10,000 (exponent): {slope:.3f}."]
    lines += [f"CPU of `packetwalk walk` from a cold start: {cpu:.2f} s (at most 0.35: {verdict})."]
    text = "\n".join(lines) + "\n"
    print(text)
    (Path(__file__).parent / "RESULTS.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
