"""Our stub resolver against the C library's own: the same questions, in the same order, from as many sockets."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from packetwalk.addr import IPv4
from packetwalk.apps import dns
from packetwalk.apps.dns import NXDOMAIN, Record
from packetwalk.apps.program import Call, Clock, Connect, Failed, Receive, Send
from packetwalk.apps.resolver import ResolvConf, resolve
from tests.apps.ask_glibc import RCODES, lost
from tests.apps.play import play

HERE = Path(__file__).resolve().parent
LOCAL = IPv4("127.0.0.1")
POD = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local")
KNOWN = ["web.shop.svc.cluster.local", "web.prod.svc.cluster.local", "a.b.c.d.e.example", "example.com",
         "db.corp.example"]  # fmt: skip
NAMES = ["web", "web.prod", "web.prod.svc", "web.prod.svc.cluster.local", "web.prod.svc.cluster.local.", "example.com",
         "example.com.", "a.b.c.d.e.example", "nope", "nope.prod", "a.b.c.d.e.nope", "db", "db.corp", "WEB.Prod",
         "void", "void.prod", "broken", "broken.prod", "broken."]  # fmt: skip
LOSSES = ["deaf", "mute", "deaf.example.com.", "mute.a.b.c.d.e"]
"""Some answers to these get lost, which takes seconds."""
CONFS = {
    "pod": ResolvConf((LOCAL,), POD, 5),
    "node": ResolvConf((LOCAL,)),
    "office": ResolvConf((LOCAL,), ("corp.example", "example"), 2),
    "many dots": ResolvConf((LOCAL,), POD, 15),
}
HURRIED = "in a hurry"


@pytest.fixture(scope="module")
def unshare() -> str:
    """The program, where it makes namespaces and the C library is the one we follow."""
    program = shutil.which("unshare")
    if program is None or platform.libc_ver()[0] != "glibc" or os.geteuid() != 0 or shutil.which("getent") is None:
        pytest.skip("a Linux with glibc, getent, unshare and root is needed")
    if subprocess.run([program, "--net", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces can be made here")
    return program


class Wire:
    """The same server for ours: which questions come, from which sockets."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.ports: list[int] = []
        self.opened = 0
        self.answers: list[bytes] = []

    def __call__(self, call: Call) -> object:
        if isinstance(call, Clock):
            return 0
        if isinstance(call, Connect):
            self.answers = []
            self.opened += 1
            return self.opened
        if isinstance(call, Send):
            query = dns.decode(call.data)
            self.asked.append((query.type, query.name))
            self.ports.append(call.fd)
            if lost(query, self.asked):
                return None
            there = query.name in KNOWN
            records = (Record(query.name, "A", 30, "192.0.2.1"),) if there and query.type == "A" else ()
            rcode = RCODES.get(query.name.partition(".")[0], query.rcode if there else NXDOMAIN)
            self.answers.append(dns.encode(query._replace(response=True, rcode=rcode, answers=records)))
        if isinstance(call, Receive):
            return self.answers.pop(0) if self.answers else Failed("ETIMEDOUT")
        return None


@pytest.mark.parametrize("name", [*CONFS, pytest.param(HURRIED, marks=pytest.mark.long)])
def test_the_c_library_asks_the_same(name: str, unshare: str, tmp_path: Path) -> None:
    conf = CONFS.get(name) or ResolvConf((LOCAL,), POD, 5, timeout=1, attempts=3)
    file = tmp_path / "resolv.conf"
    file.write_text(f"{conf}\n", encoding="utf-8")
    command = [unshare, "--net", "--mount", sys.executable, str(HERE / "ask_glibc.py"), str(file)]
    names = LOSSES if name == HURRIED else NAMES
    done = subprocess.run([*command, json.dumps({"known": KNOWN, "ask": names})], capture_output=True, text=True,
                          check=False, timeout=300, cwd=HERE.parent.parent)  # fmt: skip
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    for asked in names:
        wire = Wire()
        _, found = play(resolve(conf, asked), wire)
        queries = [(kind, query) for kind, query, _ in theirs[asked]["queries"]]
        assert wire.asked == queries, f"{asked} in {name}"
        ports = [port for _, _, port in theirs[asked]["queries"]]
        assert [a == b for a, b in pairwise(ports)] == [a == b for a, b in pairwise(wire.ports)], "as many sockets"
        assert str(next(iter(found.addresses), "")) == theirs[asked]["address"]
