"""Small rooms, frames and readers of steps that the netns tests share.

    from tests.netns.rooms import M1, echo, frame, host, stages

    room = host("a", "10.0.0.1/24")                    # lo and eth0 with the first MAC
    steps = room.receive("eth0", frame(echo("10.0.0.2", "10.0.0.1")), 0)
    assert stages(steps)[-1] == "transmit"

Addresses are given as text. Every room is made afresh, so a test may change it as it likes.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import cached_property
from typing import Any

import pytest

from packetwalk.addr import ANY, BROADCAST_MAC, ZERO_MAC, IPv4, Mac
from packetwalk.netns.device import Bridge, Device, Nic, Veth, Vxlan
from packetwalk.netns.namespace import Netns
from packetwalk.netns.neighbour import Neighbour
from packetwalk.netns.rule import parse_rule
from packetwalk.netns.socket import Socket
from packetwalk.network import Network
from packetwalk.packet import (
    ARP_REPLY,
    ARP_REQUEST,
    ECHO,
    ECHO_REPLY,
    ETH_ARP,
    ETH_IP,
    ICMP_LEN,
    IP_LEN,
    PROTO_ICMP,
    PROTO_TCP,
    PROTO_UDP,
    TCP_LEN,
    UDP_LEN,
    Arp,
    Ethernet,
    Icmp,
    Ip,
    Packet,
    Tcp,
    Udp,
    quoted,
)  # fmt: skip
from packetwalk.trace import Drop, Reason, Step, Timer, Unsupported

SECOND = 1_000_000_000
M1, M2, M3, M4 = (Mac(f"02:00:00:00:00:0{n}") for n in (1, 2, 3, 4))
"""MACs for own devices (M1, M2) and for others (M3, M4); nothing depends on that use."""

STRANGER = Mac("02:00:00:00:00:99")
ENDS = frozenset({"transmit", "deliver", "hold", "drop", "unsupported", "consume"})


# -- rooms ----------------------------------------------------------------------------------------------


def host(name: str, addr: str = "10.0.0.1/24", mac: Mac = M1, *, dev: str = "eth0", gateway: str = "") -> Netns:
    """A room with one network card; `gateway` gives it a default route."""
    room = Netns(name)
    room.link_add(dev, Nic(mac=mac))
    if addr:
        room.addr_add(dev, addr)
    if gateway:
        room.route_add("default", via=gateway)
    return room


def router(name: str, *addrs: str, forwarding: bool = True, known: bool = False) -> Netns:
    """A forwarding room: eth0, eth1, ... with those addresses and the MACs M1, M2, ...

    known: permanent neighbours at the .2 (MAC M3) of every subnet, so that nothing has to be asked.
    """
    room = Netns(name)
    for n, addr in enumerate(addrs):
        room.link_add(f"eth{n}", Nic(mac=Mac(int(M1) + n)))
        if addr:
            room.addr_add(f"eth{n}", addr)
        if addr and known:
            room.neigh_add(IPv4(int(IPv4(addr.partition("/")[0])) & ~0xFF | 2), M3, f"eth{n}")
    if forwarding:
        room.sysctl("net.ipv4.ip_forward", 1)
    return room


def switch(name: str = "sw", ports: int = 3, addr: str = "", *, bridge_mac: Mac = M1) -> Netns:
    """A room with the bridge br0 and its ports p1, p2, ...; `addr` is the bridge's own."""
    room = Netns(name)
    room.link_add("br0", Bridge(mac=bridge_mac))
    for n in range(1, ports + 1):
        room.link_add(f"p{n}", Nic(mac=Mac(0x020000000100 + n)))
        room.link_set(f"p{n}", master="br0")
    if addr:
        room.addr_add("br0", addr)
    return room


def two_addresses() -> Netns:
    """10.0.0.1/24 on eth0, where questions come in; 10.0.1.1/24 on eth1; 10.9.9.9/32 of scope host on lo."""
    room = host("a")
    room.link_add("eth1", Nic(mac=M2))
    room.addr_add("eth1", "10.0.1.1/24")
    room.addr_add("lo", "10.9.9.9/32", scope="host")
    return room


def veth_pair(a: Netns, b: Netns, dev: str = "eth0", *, macs: tuple[Mac, Mac] = (M1, M2)) -> Network:
    """A network of two rooms joined by a veth pair whose ends have the same name."""
    network = Network("pair")
    for room, mac in ((a, macs[0]), (b, macs[1])):
        room.link_add(dev, Veth(mac=mac))
        network.add(room)
    network.connect((a.name, dev), (b.name, dev))
    return network


def vxlan(
    room: Netns,
    name: str = "vx0",
    *,
    vni: int = 42,
    local: str = "10.0.0.1",
    remote: str = "",
    mac: Mac = M4,
    **more: Any,
) -> Vxlan:
    """Add a vxlan device to a room."""
    far = IPv4(remote) if remote else ANY
    return room.link_add(name, Vxlan(mac=mac, vni=vni, local=IPv4(local), remote=far, mtu=1450, **more))


def busy_network() -> Network:
    """a - r - b and c, with a bridge, a narrow link and a vxlan tunnel: much to learn."""
    network = Network("busy")
    a, b, r = Netns("a"), Netns("b"), Netns("r")
    a.link_add("eth0", Veth(mac=Mac("02:00:00:00:0a:01")))
    b.link_add("eth0", Veth(mac=Mac("02:00:00:00:0b:01")))
    r.link_add("br0", Bridge(mac=Mac("02:00:00:00:0c:00")))
    for n, name in enumerate(("eth0", "eth1")):
        r.link_add(name, Veth(mac=Mac(0x020000000C01 + n)))
    r.link_set("eth0", master="br0")
    for room in (a, b, r):
        network.add(room)
    network.connect(("a", "eth0"), ("r", "eth0"))
    network.connect(("b", "eth0"), ("r", "eth1"))
    a.addr_add("eth0", "10.0.0.2/24")
    a.route_add("default", via="10.0.0.1")
    r.addr_add("br0", "10.0.0.1/24")
    r.addr_add("eth1", "10.0.1.1/24")
    b.addr_add("eth0", "10.0.1.2/24")
    b.route_add("default", via="10.0.1.1")
    r.sysctl("net.ipv4.ip_forward", 1)
    for end in (r.devices["eth1"], b.devices["eth0"]):
        end.mtu = 1300
    for room, far, own in ((r, "10.0.1.2", "10.0.1.1"), (b, "10.0.1.1", "10.0.1.2")):
        vxlan(room, local=own, remote=far, mac=Mac(int(IPv4(own)) | 0x02 << 40))
        room.addr_add("vx0", f"10.5.0.{own[5]}{own[-1]}/24")
    b.listen(80)
    return network


# -- packets --------------------------------------------------------------------------------------------


def echo(src: str, dst: str, *, size: int = 56, ttl: int = 64, ident: int = 7, seq: int = 1, **ip: Any) -> Packet:
    """An ICMP echo request, as an IP packet. src 0.0.0.0: the sending room chooses."""
    return _icmp(ECHO, src, dst, size, ttl, ident, seq, ip)


def echo_reply(src: str, dst: str, *, size: int = 56, ttl: int = 64, ident: int = 7, seq: int = 1, **ip: Any) -> Packet:
    return _icmp(ECHO_REPLY, src, dst, size, ttl, ident, seq, ip)


def _icmp(type_: int, src: str, dst: str, size: int, ttl: int, ident: int, seq: int, ip: dict[str, Any]) -> Packet:
    header = Ip(IPv4(src), IPv4(dst), PROTO_ICMP, IP_LEN + ICMP_LEN + size, ttl, **ip)
    return Packet((header, Icmp(type_, 0, ident, seq)), size)


def udp(src: str, dst: str, *, sport: int = 40000, dport: int = 53, size: int = 32, ttl: int = 64, **ip: Any) -> Packet:
    header = Ip(IPv4(src), IPv4(dst), PROTO_UDP, IP_LEN + UDP_LEN + size, ttl, **ip)
    return Packet((header, Udp(sport, dport, UDP_LEN + size)), size)


def tcp(
    src: str, dst: str, *, sport: int = 40000, dport: int = 80, flags: str = "S", ttl: int = 64, **ip: Any
) -> Packet:
    header = Ip(IPv4(src), IPv4(dst), PROTO_TCP, IP_LEN + TCP_LEN, ttl, **ip)
    return Packet((header, Tcp(sport, dport, flags)), 0)


def frame(packet: Packet, dst: Mac = M1, src: Mac = M3) -> Packet:
    """An IP packet in an Ethernet frame: from a neighbour (M3) to the first device (M1)."""
    return Packet((Ethernet(src, dst, ETH_IP), *packet.headers), packet.payload)


def who_has(tpa: str, spa: str, sha: Mac = M3, *, to: Mac = BROADCAST_MAC) -> Packet:
    """An ARP request: who has `tpa`? tell `spa`."""
    return Packet((Ethernet(sha, to, ETH_ARP), Arp(ARP_REQUEST, sha, IPv4(spa), ZERO_MAC, IPv4(tpa))))


def is_at(spa: str, sha: Mac, tpa: str = "10.0.0.1", tha: Mac = M1, *, to: Mac | None = None) -> Packet:
    """An ARP reply: `spa` is at `sha`. to: the Ethernet destination, if it is not `tha`."""
    return Packet((Ethernet(sha, tha if to is None else to, ETH_ARP), Arp(ARP_REPLY, sha, IPv4(spa), tha, IPv4(tpa))))


def pinger(room: Netns, ident: int = 7) -> Socket:
    """A ping socket bound in that room, to send with and to receive replies and errors."""
    return room.sockets.bind(Socket(PROTO_ICMP, ident))


# -- neighbours and pings -------------------------------------------------------------------------------
B = "10.0.0.2"
"""The neighbour that most tests talk to."""


def ping(room: Netns, dst: str = B, *, seq: int = 1, now: int = 0, size: int = 56) -> list[Step]:
    """Ping from that room, with one socket for all pings."""
    return room.send(echo("0.0.0.0", dst, seq=seq, size=size), now, room.sockets.find(PROTO_ICMP, 7, 0) or pinger(room))


def known(room: Netns, state: str, dst: str = B, mac: Mac | None = M3, now: int = 0, dev: str = "eth0") -> None:
    """A neighbour that got its state and its address at `now`."""
    room.neighbours.put(Neighbour(IPv4(dst), dev, mac, state, updated=now, confirmed=now))


def state_of(room: Netns, dst: str = B, dev: str = "eth0") -> tuple[Mac | None, str]:
    """(MAC, state) of a neighbour that must be there."""
    entry = room.neighbours.get(dev, IPv4(dst))
    assert entry is not None
    return entry.lladdr, entry.state


# -- reading steps --------------------------------------------------------------------------------------


def stages(steps: Iterable[Step]) -> list[str]:
    """The stages, without the timers."""
    return [s.stage for s in steps if s.stage != "timer"]


def terminals(steps: Iterable[Step]) -> list[tuple[str, str]]:
    """(stage, device) of the steps that end a branch."""
    return [(s.stage, s.dev) for s in steps if s.stage in ENDS]


def of(steps: Iterable[Step], stage: str) -> list[Step]:
    """All steps of that stage."""
    return [s for s in steps if s.stage == stage]


def one(steps: Iterable[Step], stage: str) -> Step:
    """The only step of that stage."""
    found = of(steps, stage)
    assert len(found) == 1, f"{len(found)} steps {stage!r}"
    return found[0]


def sent(steps: Iterable[Step], dev: str = "") -> list[Packet]:
    """What was transmitted (by that device), in order."""
    return [s.packet for s in steps if s.stage == "transmit" and (not dev or s.dev == dev)]


def reasons(steps: Iterable[Step]) -> list[Reason]:
    """The reason of every drop, in order."""
    return [s.what.reason for s in steps if isinstance(s.what, Drop)]


def errnos(steps: Iterable[Step]) -> list[str]:
    """The errno of every drop that has one."""
    return [s.what.errno for s in steps if isinstance(s.what, Drop) and s.what.errno]


def unsupported(steps: Iterable[Step]) -> list[str]:
    """What was said not to be modelled."""
    return [str(s.what) for s in steps if isinstance(s.what, Unsupported)]


def timers(steps: Iterable[Step], kind: str = "") -> list[Timer]:
    """The timers the room asked for."""
    return [s.what for s in steps if isinstance(s.what, Timer) and (not kind or s.what.kind == kind)]


def arps(packets: Iterable[Packet]) -> list[Arp]:
    """The ARP messages among some frames."""
    return [h for p in packets for h in p.headers if isinstance(h, Arp)]


def ip_of(packet: Packet) -> Ip:
    """The outermost IP header."""
    return next(h for h in packet.headers if isinstance(h, Ip))


def eth_of(packet: Packet) -> Ethernet:
    header = packet.headers[0]
    assert isinstance(header, Ethernet)
    return header


def icmp_of(packet: Packet) -> Icmp:
    return next(h for h in packet.headers if isinstance(h, Icmp))


def about(packet: Packet) -> Ip:
    """The IP header that an ICMP error quotes."""
    inner = quoted(packet)
    assert inner is not None
    return ip_of(inner)


def tell(room: Netns, steps: Iterable[Step]) -> list[list[Step]]:
    """Wake the room for each timer in `steps`, each at its own time; the steps of each."""
    return [room.wake(t, t.at) for t in timers(steps)]


def iptables(room: Netns, table: str, *rules: str, **policies: str) -> None:
    """Append rules as iptables takes them (chains are made as needed), and set policies of built-in chains.

    Connection tracking is on from then on if a rule asks for it.
    """
    into = room.netfilter.table(table)
    for chain, policy in policies.items():
        into.chains[chain].policy = policy
    for line in rules:
        into.chain(line.split()[1])
    for line in rules:
        into.append(parse_rule(line, chains=frozenset(into.chains)))
    room.conntrack = room.conntrack or table == "nat" or room.netfilter.needs_conntrack


def device(room: Netns, name: str) -> Device:
    return room.devices[name]


DERIVED = frozenset(
    {"_asked", "_questions", "_confs", "_ports", "_locals", "_tunnel_ports", "_entries", "_plain", "_parts"}
)
"""What a room computes from its configuration and forgets again."""


def picture(thing: Any, seen: dict[int, int] | None = None) -> Any:
    """Everything reachable from a thing as plain data, to compare before and after. A second visit is a number."""
    seen = {} if seen is None else seen
    if isinstance(thing, str | int | bytes | float | Enum | None):
        return repr(thing)
    if id(thing) in seen:
        return seen[id(thing)]
    seen[id(thing)] = len(seen)
    if isinstance(thing, Mapping):
        return [(picture(k, seen), picture(v, seen)) for k, v in thing.items()]
    if isinstance(thing, tuple | list):
        return [type(thing).__name__, *(picture(x, seen) for x in thing)]
    if isinstance(thing, set | frozenset):
        return sorted(repr(x) for x in thing)
    names = {n for c in type(thing).__mro__ for n in getattr(c, "__slots__", ())} | set(getattr(thing, "__dict__", ()))
    names -= {n for n in names if isinstance(getattr(type(thing), n, None), cached_property)}
    held = {n: picture(getattr(thing, n), seen) for n in sorted(names - DERIVED) if hasattr(thing, n)}
    return [type(thing).__name__, held]


# -- the real kernel ------------------------------------------------------------------------------------


def real(script: str) -> str:
    """What a shell script prints in a fresh network namespace of this machine; skips the test where there is none.

    The namespace ends with the script. Commands that fail, fail the test.
    """
    if not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("unshare and ip are needed")
    if subprocess.run(["unshare", "-n", "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode:
        pytest.skip("making a network namespace takes root")
    done = subprocess.run(["unshare", "-n", "sh", "-ec", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
