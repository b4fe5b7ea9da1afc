"""Links that go, come and change, addresses that go: the tables of this machine's kernel and ours, line by line."""

from __future__ import annotations

import shlex
import time

import pytest

from packetwalk.addr import Mac
from packetwalk.edit import apply
from packetwalk.kernel.realise import Realised, missing_features, realise
from packetwalk.netns.fib_table import Nexthop
from packetwalk.netns.namespace import Netns
from tests.kernel.lab import IPv4, Lab

PATIENCE = 5.0  # seconds: a change of carrier is told within one (net/core/link_watch.c)
ROOM = "n"
KNOWN = ("10.0.3.2", "02:00:00:00:33:02", "eth0"), ("10.0.1.7", "02:00:00:00:11:07", "br0")
SEEN = ("02:00:00:00:22:01", "p1"), ("02:00:00:00:22:02", "p2")
TABLES = {"main": 254, "local": 255}


def lab() -> Lab:
    """A node with a bridge of two ports, two links and a vxlan over one, and routes of every sort over them."""
    made = Lab()
    made.wire("a eth0 10.0.1.2/24", "n p1")
    made.wire("b eth0 10.0.1.3/24", "n p2")
    made.wire("n eth0 10.0.3.1/24 10.0.3.9/24 10.0.4.1/24", "r eth0 10.0.3.2/24")
    made.wire("n eth1 10.0.5.1/24", "r eth1 10.0.5.2/24")
    made.bridge("n", "p1 p2", "10.0.1.1/24")
    made.vxlan("n", "10.8.0.1/24", vni=1, local="10.0.3.1", link="eth0", mtu=1450)
    n = made["n"]
    n.route_add("default", via="10.0.3.2")
    n.route_add("10.9.1.0/24", nexthops=(Nexthop("eth0", IPv4("10.0.3.2")), Nexthop("eth1", IPv4("10.0.5.2"))))
    n.route_add("10.9.2.0/24", dev="br0")
    n.route_add("10.9.3.0/24", dev="eth1", src="10.0.3.1")
    n.route_add("10.9.4.4/32", dev="eth0", type="local", table="local")
    n.neigh_add("10.0.3.3", "02:00:00:00:33:03", "eth0")
    n.neigh_add("10.0.1.8", "02:00:00:00:11:08", "br0")
    n.fdb_append("p2", "02:00:00:00:22:99")
    n.fdb_append("vx0", "02:00:00:00:88:02", dst="10.0.3.2")
    return made


def learn(made: Lab, real: Realised) -> None:
    """What the node would learn from traffic."""
    n = made["n"]
    for dst, lladdr, dev in KNOWN:
        real.output(ROOM, "ip", "neigh", "replace", dst, "lladdr", lladdr, "dev", dev, "nud", "reachable")
        n.neigh_add(dst, lladdr, dev, state="REACHABLE")
    for mac, dev in SEEN:
        real.output(ROOM, "bridge", "fdb", "replace", mac, "dev", dev, "master", "dynamic")
        n.bridge_fdb.learn("br0", Mac(mac), dev, 0)


def said(real: Realised) -> set[str]:
    """The node's tables as the kernel's tools print them."""
    lines = []
    for table in TABLES:
        for line in real.output(ROOM, "ip", "-4", "route", "show", "table", table).splitlines():
            if line[:1].isspace():
                lines[-1] += line
            else:
                lines.append(f"{table}: {line}")
    lines += real.output(ROOM, "ip", "-4", "neigh").splitlines()
    lines += [line for line in real.output(ROOM, "bridge", "fdb").splitlines() if not line.startswith(("33:", "01:"))]
    lines += [
        f"{d} mtu {real.output(ROOM, 'ip', 'link', 'show', d).split(' mtu ')[1].split()[0]}"
        for d in real.network[ROOM].devices
        if d != "lo"
    ]
    return {" ".join(line.split()).removesuffix(" (offload)") for line in lines if " 127." not in line}


def held(room: Netns) -> set[str]:
    """The same of ours."""
    lines = [f"{name}: {r}".replace(" table local", "") for name, n in TABLES.items() for r in room.listed_routes(n)]
    lines += map(str, [*room.neighbours.all(), *room.bridge_fdb.entries.values(), *room.vxlan_fdb.all()])
    lines += [f"{d.name} mtu {d.mtu}" for d in room.devices.values() if d.name != "lo"]
    return {line for line in lines if " 127." not in line}


STORIES = {
    "a port": ["n ip link set p1 down", "n ip link set p1 up"],
    "the far end of a port": ["a ip link set eth0 down", "a ip link set eth0 up"],
    "all ports": ["n ip link set p1 down", "b ip link set eth0 down", "n ip link set p1 up"],
    "a bridge": ["n ip link set br0 down", "n ip link set br0 up"],
    "a link": ["n ip link set eth0 down", "n ip link set eth0 up"],
    "the far end of a link": ["r ip link set eth0 down", "r ip link set eth0 up"],
    "both links": ["n ip link set eth0 down", "n ip link set eth1 down", "n ip link set eth0 up",
                   "n ip link set eth1 up"],
    "a vxlan": ["n ip link set vx0 down", "n ip link set vx0 up"],
    "addresses": ["n ip addr del 10.0.4.1/24 dev eth0", "n ip addr del 10.0.3.1/24 dev eth0",
                  "n ip addr del 10.0.5.1/24 dev eth1", "n ip addr del 10.0.1.1/24 dev br0"],
    "the second address": ["n ip addr del 10.0.3.9/24 dev eth0", "n ip addr del 10.0.3.1/24 dev eth0"],
    "sizes": ["n ip link set eth0 mtu 1400", "n ip link set p1 mtu 1400", "n ip link set br0 mtu 1300",
              "n ip link set p1 mtu 1200", "n ip link set eth0 mtu 1500"],
    "a port that leaves": ["n ip link set p1 nomaster", "n ip link set p2 nomaster"],
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_tables_follow_their_links_as_in_the_kernel(kernel: None, story: str) -> None:
    made = lab()
    if missing := missing_features(made.network):
        pytest.skip(f"this kernel has no {', '.join(missing)}")
    with realise(made.network) as real:
        learn(made, real)
        assert said(real) == held(made["n"])
        for line in STORIES[story]:
            room, tool, *words = shlex.split(line)
            real.output(room, tool, *words)
            apply(made.network, line)
            end = time.monotonic() + PATIENCE
            while (there := said(real)) != held(made["n"]) and time.monotonic() < end:
                time.sleep(0.05)
            assert there == held(made["n"]), line
