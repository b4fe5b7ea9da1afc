"""Random networks against this machine's kernel: `python -m tests.kernel.fuzz --seeds 200` (or `make fuzz-kernel`).

Each difference is shrunk to the smallest network that still shows it and written to a file; tests/kernel/found keeps
those that were explained or mended.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from packetwalk.kernel.capture import CaptureLost
from packetwalk.kernel.doors import Refused
from tests.kernel.generate import generate
from tests.kernel.generate_rules import with_rules
from tests.kernel.plan import Plan, ask
from tests.kernel.shrink import shrink


class Outcome(NamedTuple):
    """What a seed showed. differences: {probe: what differs}; once: those not seen again. refused: the kernel's
    complaint about a line."""

    seed: int
    probes: int
    frames: int
    differences: dict[str, str]
    once: dict[str, str]
    refused: str = ""


def plan_of(seed: int, rules: bool = False) -> Plan:
    """The plan of a seed, with iptables rules or without."""
    return with_rules(generate(seed), seed) if rules else generate(seed)


def try_seed(seed: int, rules: bool = False) -> Outcome:
    """Build the seed's network and compare."""
    return try_plan(plan_of(seed, rules), seed)


def try_plan(plan: Plan, seed: int = 0) -> Outcome:
    """Build a network and compare. What differs is asked again: on a busy machine a frame may come late once."""
    try:
        proofs = ask(plan)
        wrong = {p.verdict.probe: str(p) for p in proofs if not p.verdict.agrees}
        again = {p.verdict.probe for p in ask(plan) if not p.verdict.agrees} if wrong else set()
    except (Refused, CaptureLost) as error:
        return Outcome(seed, 0, 0, {}, {}, str(error))
    differences = {probe: text for probe, text in wrong.items() if probe in again}
    once = {probe: text for probe, text in wrong.items() if probe not in again}
    return Outcome(seed, len(proofs), sum(p.verdict.total for p in proofs), differences, once)


def differs(plan: Plan) -> bool:
    """Whether this kernel still does otherwise in some probe, twice in a row."""
    try:
        return all(any(not p.verdict.agrees for p in ask(plan)) for _ in range(2))
    except (Refused, CaptureLost):
        return False


def smallest(seed: int, rules: bool, folder: Path) -> Path:
    """Shrink a seed's plan and write it down."""
    path = folder / f"{'rules' if rules else 'seed'}-{seed}.json"
    path.write_text(shrink(plan_of(seed, rules), differs).dump(), encoding="utf-8")
    return path


def run(seeds: Iterable[int], rules: bool, workers: int) -> Iterator[Outcome]:
    """The outcome of each seed, in order."""
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        yield from pool.map(partial(try_seed, rules=rules), seeds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--rules", action="store_true", help="with iptables rules and IP sets")
    parser.add_argument("--workers", type=int, default=8, help="processes; they mostly wait")
    parser.add_argument("--out", type=Path, default=Path("fuzz-found"), help="where differences are written")
    parser.add_argument("--no-shrink", action="store_true", help="tell differences, and leave them as they are")
    args = parser.parse_args()
    outcomes: list[Outcome] = []
    for outcome in run(range(args.first, args.first + args.seeds), args.rules, args.workers):
        outcomes.append(outcome)
        if outcome.refused:
            print(f"seed {outcome.seed}: refused: {outcome.refused}", flush=True)
        for probe, text in outcome.differences.items():
            print(f"seed {outcome.seed} {probe}: {text}", flush=True)
        for probe, text in outcome.once.items():
            print(f"seed {outcome.seed} {probe}, once and not again: {text}", flush=True)
    wrong = [o.seed for o in outcomes if o.differences]
    if wrong and not args.no_shrink:
        args.out.mkdir(exist_ok=True)
        with ProcessPoolExecutor(args.workers, multiprocessing.get_context("fork")) as pool:
            for path in pool.map(partial(smallest, rules=args.rules, folder=args.out), wrong):
                print(f"shrunk: {path}", flush=True)
    probes, bad = sum(o.probes for o in outcomes), sum(len(o.differences) for o in outcomes)
    frames = sum(o.frames for o in outcomes)
    refused = sum(bool(o.refused) for o in outcomes)
    share = 100 * (probes - bad) / probes if probes else 0
    once = sum(len(o.once) for o in outcomes)
    counts = f"{frames} frames, {len(outcomes)} networks, {refused} refused, {once} differed once and not again"
    print(f"{probes - bad} of {probes} probes agree ({share:.1f} %), {counts}")
    return 1 if bad or refused else 0


if __name__ == "__main__":
    sys.exit(main())
