"""The command line as a person uses it: what it prints, and its exit status."""

import json
import subprocess
import sys

import pytest


def run(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "packetwalk", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_walk_reads_like_a_path() -> None:
    done = run("walk", "a", "b", "--minimal")
    assert done.returncode == 0, done.stderr
    way = "a > node-1 [+ipip] > fabric > node-2 [-ipip] > b > node-2 [+ipip] > fabric > node-1 [-ipip] > a"
    assert done.stdout.strip() == f"{way} : reply ttl 62"


def test_full_shows_the_deciding_lines() -> None:
    out = run("walk", "a", "b", "--full").stdout
    assert "10.244.2.0/26 via 192.168.56.12 dev tunl0 proto bird onlink" in out
    assert "not evaluated: node-1 iptables-save.txt" in out
    assert "\x1b" not in out  # no colour into a pipe


def test_json_is_one_object_with_a_version() -> None:
    assert json.loads(run("walk", "a", "b", "-o", "json").stdout)["version"] == 1


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("walk", "aa", "b"), "aa"),
        (("walk", "a", "10.0.0.300"), "10.0.0.300"),
        (("walk", "a", "b", "--ttl", "0"), "ttl"),
        (("walk", "a", "b", "--size", "65508"), "65507"),
        (("walk", "a", "b", "--snapshot", "/nowhere"), "/nowhere"),
    ],
)
def test_bad_input_is_one_line_and_status_2(args: tuple[str, ...], word: str) -> None:
    done = run(*args)
    assert done.returncode == 2
    assert word in done.stderr and len(done.stderr.strip().splitlines()) == 1 and not done.stdout


def test_not_answered_is_status_1() -> None:
    assert run("walk", "a", "10.244.2.77").returncode == 1
