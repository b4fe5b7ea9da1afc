"""Routing decisions with the kernel itself as judge: `ip route get` against output_route."""

from __future__ import annotations

from itertools import pairwise

from packetwalk.addr import ANY, IPv4, Prefix
from packetwalk.netns.device import Nic
from packetwalk.netns.namespace import Netns
from packetwalk.netns.route import output_route
from tests.netns.rooms import (
    M1,
    M2,
    M3,
    real,
)

# -- the kernel as judge ----------------------------------------------------------------------------------------------

SCENE = """
for n in 0 1 2; do
  ip link add eth$n type veth peer name far$n
  ip link set eth$n up; ip link set far$n up
done
ip link set lo up
ip addr add 10.0.0.1/24 dev eth0
ip addr add 10.0.0.3/24 dev eth0
ip addr add 10.0.1.1/24 dev eth1
ip addr add 10.0.2.1/31 dev eth2
ip addr add 10.7.7.7/32 dev lo
ip route add default via 10.0.0.254
ip route add default via 10.0.1.254 table 100
ip route add 10.20.0.0/16 via 10.0.1.9 src 10.7.7.7
ip route add 10.20.3.0/24 via 10.0.0.9 metric 9
ip route add blackhole 10.21.0.0/16
ip route add prohibit 10.22.0.0/16
ip route add unreachable 10.23.0.0/16
ip route add throw 10.24.0.0/16 table 100
ip route add 10.25.0.0/16 via 1.2.3.4 dev eth2 onlink
ip route add 10.26.0.0/16 dev eth1
ip rule add pref 50 to 10.28.0.0/16 prohibit
ip rule add pref 60 fwmark 0x10/0xf0 lookup 100
ip rule add pref 70 from 10.0.1.1 lookup 100
ip rule add pref 80 to 10.29.0.0/16 lookup main suppress_prefixlength 0
ip rule add pref 81 to 10.29.0.0/16 unreachable
"""
QUESTIONS: list[tuple[str, str, str, int]] = [
    (dst, src, oif, mark)
    for dst in ("10.0.0.9", "10.0.0.3", "10.0.2.0", "10.20.3.1", "10.20.4.1", "10.21.0.1", "10.22.0.1", "10.23.0.1",
                "10.24.0.1", "10.25.0.1", "10.26.0.1", "10.28.0.1", "10.29.0.1", "8.8.8.8", "127.0.0.5")
    for src, oif, mark in (("", "", 0), ("10.0.1.1", "", 0), ("", "eth1", 0), ("", "", 0x1F))
]  # fmt: skip


def scene() -> Netns:
    """The same as SCENE, by our own verbs."""
    room = Netns("r")
    for n, mac in enumerate((M1, M2, M3)):
        room.link_add(f"eth{n}", Nic(mac=mac))
    room.addr_add("eth0", "10.0.0.1/24")
    room.addr_add("eth0", "10.0.0.3/24")
    room.addr_add("eth1", "10.0.1.1/24")
    room.addr_add("eth2", "10.0.2.1/31")
    room.addr_add("lo", "10.7.7.7/32")
    room.route_add("default", via="10.0.0.254")
    room.route_add("default", via="10.0.1.254", table=100)
    room.route_add("10.20.0.0/16", via="10.0.1.9", src="10.7.7.7")
    room.route_add("10.20.3.0/24", via="10.0.0.9", metric=9)
    for net, kind, table in (("10.21", "blackhole", 254), ("10.22", "prohibit", 254), ("10.23", "unreachable", 254),
                             ("10.24", "throw", 100)):  # fmt: skip
        room.route_add(f"{net}.0.0/16", type=kind, table=table)
    room.route_add("10.25.0.0/16", via="1.2.3.4", dev="eth2", onlink=True)
    room.route_add("10.26.0.0/16", dev="eth1")
    to28, to29 = Prefix.parse("10.28.0.0/16"), Prefix.parse("10.29.0.0/16")
    room.rule_add(50, "prohibit", dst=to28)
    room.rule_add(60, 100, fwmark=0x10, fwmask=0xF0)
    room.rule_add(70, 100, src=Prefix.parse("10.0.1.1"))
    room.rule_add(80, "main", dst=to29, suppress_prefixlen=0)
    room.rule_add(81, "unreachable", dst=to29)
    return room


ERRNO = {"Invalid argument": "EINVAL", "Permission denied": "EACCES", "No route to host": "EHOSTUNREACH",
         "Network is unreachable": "ENETUNREACH"}  # fmt: skip


def test_the_kernel_decides_alike() -> None:
    """`ip route get` (ip_route_output_key_hash_rcu) for every question, against output_route."""
    asks = "\n".join(
        f"ip route get {dst}{' from ' + src if src else ''}{' oif ' + oif if oif else ''}"
        f"{f' mark {mark}' if mark else ''} 2>&1 | head -1 || true"
        for dst, src, oif, mark in QUESTIONS
    )
    theirs = [kernel_line(line) for line in real(SCENE + asks).splitlines()]
    room = scene()
    ours = []
    for dst, src, oif, mark in QUESTIONS:
        rt = output_route(room, IPv4(dst), 0, src=IPv4(src) if src else ANY, oif=oif, mark=mark)
        ours.append((rt.error,) if rt.error else (rt.dev, str(rt.via) if rt.via else "", str(rt.src)))
    assert dict(zip(QUESTIONS, ours, strict=True)) == dict(zip(QUESTIONS, theirs, strict=True))


def kernel_line(line: str) -> tuple[str, ...]:
    """(device, gateway, source) of a line of `ip route get`, or (errno,)."""
    if line.startswith("RTNETLINK"):
        return (ERRNO[line.rpartition(": ")[2].strip()],)
    words = line.split()
    after = dict(pairwise(words))
    return after["dev"], after.get("via", ""), after.get("src") or after["from"]
