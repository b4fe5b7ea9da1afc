"""What packetwalk prints is what iptables and ipset take and print, of nft and of legacy. Wants root and the tools."""

import os
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from packetwalk.snapshot.ipset_save import load_ipsets, read_ipsets
from packetwalk.snapshot.iptables_save import load_iptables, read_iptables
from tests.kernel.generate import generate
from tests.kernel.generate_rules import with_rules

SHARED = Path(__file__).resolve().parents[3] / "shared"
DUMPS = sorted(SHARED.glob("recordings/*/state/*/*/iptables-save.txt"))
LINES = (Path(__file__).parents[1] / "netns/iptables-1.8.9.txt").read_text(encoding="utf-8").splitlines()[1:]
SETS = "create s1 hash:ip,port counters timeout 100\n"
BACKENDS = ("nft", "legacy")
SEEDS = range(1, 26)


def apart(script: str, *texts: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a network namespace of its own; $0, $1, ... are files with those texts."""
    names = []
    for n, text in enumerate(texts):
        fd = os.memfd_create(f"text{n}", 0)
        os.write(fd, text.encode())
        names.append(fd)
    try:
        files = [f"/proc/{os.getpid()}/fd/{fd}" for fd in names]
        words = ["unshare", "-n", "sh", "-ec", script, *files]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    finally:
        for fd in names:
            os.close(fd)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if os.geteuid() != 0:
        pytest.skip("not root")
    for tool in ("unshare", "ipset", f"iptables-{name}-restore"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not here")
    if apart(f"iptables-{name}-restore < $0", "*filter\nCOMMIT\n").returncode:
        pytest.skip(f"this kernel has no iptables-{name}")
    return name


@pytest.mark.skipif(not DUMPS, reason="../shared is not here")
def test_it_takes_every_dump_that_we_print(backend: str) -> None:
    done: set[tuple[str, str]] = set()
    for dump in DUMPS:
        sets = dump.with_name("ipset-save.txt")
        texts = str(load_iptables(dump)), "\n".join(map(str, load_ipsets(sets).values())) if sets.exists() else ""
        if texts in done:
            continue
        done.add(texts)
        ran = apart(f"ipset restore < $1; iptables-{backend}-restore --test < $0", *(f"{text}\n" for text in texts))
        assert (ran.returncode, ran.stderr) == (0, ""), dump
    assert len(done) > 20


def test_it_takes_random_rules_that_we_print(backend: str) -> None:
    tried = 0
    for seed in SEEDS:
        for room in with_rules(generate(seed), seed).build():
            texts = str(room.netfilter), "\n".join(map(str, room.netfilter.sets.values()))
            if texts[0]:
                tried += 1
                ran = apart(f"ipset restore < $1; iptables-{backend}-restore --test < $0", *(f"{t}\n" for t in texts))
                assert (ran.returncode, ran.stderr) == (0, ""), f"seed {seed}, {room.name}: {texts[0]}"
    assert tried > len(SEEDS)


def test_what_a_kernel_keeps_prints_as_we_print_it(backend: str) -> None:
    balanced = "*filter\n-A OUTPUT -m ipvs ! --ipvs -j RETURN\nCOMMIT\n"  # the one match that kernels here may lack
    lacking = "-m ipvs" if apart(f"iptables-{backend}-restore < $0", balanced).returncode else "none"
    tables: defaultdict[str, list[str]] = defaultdict(list)
    for line in (line for line in LINES if lacking not in line):
        table, chain, words = line.partition(" => ")[0].split(" ", 2)
        tables[table].append(f'-A {chain} -m comment --comment "line {len(tables[table])}" {words}')
    given = "".join("\n".join([f"*{table}", *rules, "COMMIT\n"]) for table, rules in tables.items())
    ran = apart(f"ipset restore < $1; iptables-{backend}-restore < $0; iptables-{backend}-save", given, SETS)
    assert (ran.returncode, ran.stderr) == (0, "")
    kept = sorted(line for line in ran.stdout.splitlines() if line.startswith("-A"))
    ours = sorted(str(r) for t in read_iptables(given).tables.values() for c in t.chains.values() for r in c.rules)
    assert ours == kept


def test_ipset_takes_what_we_print_and_prints_it_alike(backend: str) -> None:
    text = """create p hash:ip,port family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x24c7c252
add p 1.1.1.1,icmp:echo-request
create n hash:net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x24c7c253
add n 10.0.0.0/8
add n 10.96.0.0/16 nomatch
create L list:set size 8
add L n
"""
    ours = "\n".join(map(str, read_ipsets(text).values()))
    ran = apart("ipset restore < $0; ipset save", f"{ours}\n")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert sorted(ran.stdout.split("\n")) == sorted(text.split("\n"))
