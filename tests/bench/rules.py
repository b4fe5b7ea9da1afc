"""What rules cost, as ratios to one bare SimPy timeout measured in the same run.

A rule that does not match, by what it asks; 10,000 services against twenty rules and one that matches.

Run by `make bench` after bench.py; prints a table in Markdown.
"""

import random
from collections.abc import Callable
from pathlib import Path

from bench import TURNS, medians, timeouts

from packetwalk.addr import IPv4
from packetwalk.netns.netfilter import Ruleset
from packetwalk.netns.rule import Rule, parse_rule
from packetwalk.netns.seen import Seen
from packetwalk.packet import Ip, Packet, Tcp, ip_packet

RESULTS = Path(__file__).with_name("RULES.md")
RULES = 100
KINDS = {
    "-s prefix": "-s 10.9.{n}.0/24 -j DROP",
    "-d address": "-d 10.9.0.{n}/32 -p tcp -m tcp --dport 80 -j DROP",
    "-i device": "-i cali{n} -j DROP",
    "-o device+": "-o cali{n}+ -j DROP",
    "mark": "-m mark --mark 0x1{n:02x}0000/0x1ff0000 -j DROP",
    "ctstate": '-m comment --comment "{n}" -m conntrack --ctstate INVALID -j DROP',
    "port": "-p tcp -m tcp --dport 1{n} -j DROP",
    "protocol": "-p udp -m udp --dport 1{n} -j DROP",
}


class Around:
    """Tables that are never asked."""


class Seed:
    def statistic(self, rule: Rule, probability: float, seen: Seen) -> bool:
        return random.random() < probability

    def port(self, low: int, high: int) -> int:
        return low


def packet(dst: str) -> Packet:
    return ip_packet(Ip(IPv4("10.0.0.2"), IPv4(dst), 6, 0, 64), Tcp(4000, 8080, "S", mss=1460))


def ruleset(lines: list[str]) -> Ruleset:
    made = Ruleset()
    table = made.table("nat")
    for line in lines:
        rule = parse_rule(line)
        table.chain(rule.chain)
        table.append(rule)
    return made


def walks(lines: list[str], dst: str = "10.0.1.2") -> Callable[[], int]:
    rules = ruleset(lines)
    seen = Seen(packet(dst), "eth0", "eth1", tables=Around(), state={}, choose=Seed())  # type: ignore[arg-type]
    seen.ctstate = "NEW"

    def run() -> int:
        for _ in range(TURNS):
            rules.traverse("nat", "PREROUTING", seen)
            seen.hits.clear()
        return TURNS

    run()
    return run


def mixed(kind: str) -> list[str]:
    """RULES rules of a kind, so mixed with others that no index holds them."""
    other = "-A PREROUTING -m mark --mark 0x77/0xff -j DROP"
    lines = []
    for n in range(RULES // 2):
        lines += [f"-A PREROUTING {KINDS[kind].format(n=n)}", other]
    return lines


SERVICE = f"-A KUBE-SERVICES -d 10.0.1.2/32 -p tcp -m tcp --dport 8080 -j KUBE-SVC-{1:016}"


def service(n: int) -> str:
    return (f'-A KUBE-SERVICES -d 10.{96 + n // 65536}.{n // 256 % 256}.{n % 256}/32 -p tcp -m comment --comment '
            f'"default/s{n} cluster IP" -m tcp --dport 8080 -j KUBE-SVC-{n:016}')  # fmt: skip


def services(count: int) -> list[str]:
    chains = [f"-A KUBE-SVC-{n:016} -j ACCEPT" for n in range(count)]
    return ["-A PREROUTING -j KUBE-SERVICES", *chains, *map(service, range(count))]


def twenty() -> list[str]:
    """Twenty rules that no index holds, and a service after them."""
    chains = ["-A PREROUTING -j KUBE-SERVICES", f"-A KUBE-SVC-{1:016} -j ACCEPT"]
    return [*chains, *(f"-A KUBE-SERVICES -d 10.9.{n}.0/24 -j DROP" for n in range(20)), SERVICE]


def main() -> None:
    work = {"bare SimPy timeout": timeouts, "no rule": walks([])}
    work |= {f"{RULES} rules: mark and {kind}": walks(mixed(kind)) for kind in KINDS}
    work["20 rules and one that matches"] = walks(twenty())
    work["10,000 services, none of them"] = walks(services(10_000))
    work["10,000 services, the last"] = walks(services(10_000), "10.96.39.15")
    found = medians(work)
    unit = found["bare SimPy timeout"]
    lines = ["# Last results of tests/bench/rules.py", ""]
    lines += ["| what | ns | x timeout | at most | |", "|---|---|---|---|---|"]
    for name, ns in found.items():
        limit: float | None = None
        value = ns / unit
        if name.startswith(str(RULES)):
            ns, limit = (ns - found["no rule"]) / RULES, 0.15
            name, value = f"a rule that does not match: {name.partition(': ')[2]}", ns / unit
        elif "services" in name:
            limit = found["20 rules and one that matches"] / unit
        verdict = "" if limit is None else "ok" if value <= limit else "over"
        lines.append(f"| {name} | {ns:.0f} | {value:.2f} | {'' if limit is None else f'{limit:.2f}'} | {verdict} |")
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
