"""Lines that change a network: what they do, what they refuse, and that a kernel does the same with the same words."""

import shlex

import pytest

from packetwalk import cli
from packetwalk.addr import Mac
from packetwalk.edit import apply, whatif
from packetwalk.engine.walk import address_of, walk
from packetwalk.netns.device import Bridge, Veth, Vxlan
from packetwalk.netns.namespace import Netns
from packetwalk.network import Network
from packetwalk.show import show
from packetwalk.snapshot import load_snapshot
from packetwalk.source import SAMPLE, from_mode
from packetwalk.trace import Flow, Reason, Trace
from tests.netns.rooms import real

HOST_GW = "flat-bridge"  # routes as host-gw has them, and no rules of its own


def ping(network: Network, size: int = -1, df: str = "") -> Trace:
    return walk(network, Flow("icmp", "a", address_of(network, "b"), size=size, df=df))


def tables(network: Network) -> str:
    names = ("routes", "ip-rules", "neigh", "fdb", "links")
    return "\n".join(show(network, room.name, name) for room in network for name in names)


# -- faults on a walk --------------------------------------------------------------------------------------------------


FAULTS = [
    ("node-2 sysctl net.ipv4.ip_forward=0", "node-2", Reason.IP_INADDRERRORS),
    ("node-1 route del 10.244.2.0/24", "router", Reason.IP_INNOROUTES),
    ("node-1 route replace blackhole 10.244.2.0/24", "node-1", None),
    ("node-1 rule add to 10.244.2.0/24 prohibit", "node-1", None),
    ("node-2 iptables -A FORWARD -s 10.244.1.0/24 -j DROP", "node-2", Reason.NETFILTER_DROP),
    ("node-2 iptables -P FORWARD DROP", "node-2", Reason.NETFILTER_DROP),
    ("b link set eth0 down", "node-2", Reason.NEIGH_FAILED),
    ("link node-2 down", "node-1", Reason.NEIGH_FAILED),
]


@pytest.mark.parametrize(("line", "room", "reason"), FAULTS, ids=[line for line, _, _ in FAULTS])
def test_a_fault_drops_the_packet_where_it_was_made(line: str, room: str, reason: Reason | None) -> None:
    network = from_mode(HOST_GW)
    before = tables(network)
    trace = ping(whatif(network, line))
    assert not trace.delivered
    assert (room, reason) in {(where, step.what.reason if reason else None) for where, step in trace.drops}
    assert tables(network) == before and ping(network).delivered


def test_an_mtu_is_set_at_both_ends_of_a_wire() -> None:
    network = whatif(from_mode(HOST_GW), "link node-1 mtu 1400")
    assert network["node-1"].device("eth0").mtu == network["fabric"].device("p-node-1").mtu == 1400
    assert network["node-2"].device("eth0").mtu == 1500
    assert ping(network, 1400, "do").result.mtu == 1400


def test_a_wire_can_be_slow() -> None:
    fast, network = from_mode(HOST_GW), whatif(from_mode(HOST_GW), "link node-1 rate 1mbit delay 2ms")
    assert ping(network).result.at - ping(fast).result.at == 2 * (2_000_000 + 98 * 8 * 1000)


def test_a_port_comes_back_and_lines_follow_one_another() -> None:
    network = whatif(from_mode(HOST_GW), "link node-2 down", "link node-2 up", "node-1 ip route del 10.244.2.0/24",
                     "node-1 ip route add 10.244.2.0/24 via 192.168.56.12 dev eth0")  # fmt: skip
    assert ping(network).delivered and network.name.endswith(", changed")


def test_a_copy_shares_nothing_that_is_configured() -> None:
    network = from_mode(HOST_GW)
    changed = whatif(network, "node-1 addr add 192.168.56.99/24 dev eth0")
    assert changed["node-1"].device("eth0") is not network["node-1"].device("eth0")
    peer = changed["fabric"].device("p-node-1")
    assert isinstance(peer, Veth) and peer.peer is changed["node-1"].device("eth0")


# -- bad lines ---------------------------------------------------------------------------------------------------------


BAD = [
    ("", "it ends where the room was expected"),
    ("nod-1 route del 10.0.0.0/8", "there is no room 'nod-1'; did you mean 'node-1'?"),
    ("node-1", "it ends where the object was expected; there are sysctl, route"),
    ("node-1 rout del 10.0.0.0/8", "there is no object 'rout'; did you mean 'route'?"),
    ("node-1 route delete 10.0.0.0/8", "there is no verb 'delete'; did you mean 'del'?"),
    ("node-1 route del", "it ends where a prefix was expected"),
    ("node-1 route del 10.244.2.0/33", "a length of 0 to 32 was expected"),
    ("node-1 route del 10.244.22.0/24", "no route 10.244.22.0/24 in table main; did you mean '10.244.2.0/24'?"),
    ("node-1 route del 10.244.2.0/24 via 10.0.0.1", "there is 10.244.2.0/24 via 192.168.56.12 dev eth0"),
    ("node-1 route del 10.244.2.0/24 mtu 9", "not by mtu"),
    ("node-1 route add 10.9.0.0/16 vai 1.2.3.4", "there is no option 'vai'; did you mean 'via'?"),
    ("node-1 route add 10.9.0.0/16 via", "it ends where a value of 'via' was expected"),
    ("node-1 route add 10.9.0.0/16 via 1.2.3.4", "nexthop 1.2.3.4 is not on a link"),
    ("node-1 route add 10.9.0.0/16 dev eth0 dev eth0", "'dev' is there twice"),
    ("node-1 route add 10.9.0.0/16 dev eht0", "no device 'eht0'; did you mean 'eth0'?"),
    ("node-1 route add 10.9.0.0/16 dev eth0 table mian", "table: a number or one of local, main, default was expected"),
    ("node-1 route add 10.9.0.0/16 nexthop via 192.168.56.1", "'dev' and its value were expected"),
    ("node-1 route add 10.244.2.0/24 dev eth0", "there is a route to 10.244.2.0/24 with metric 0 already"),
    ("node-1 rule add fwmark x lookup 7", "fwmark: a number was expected, not 'x'"),
    ("node-1 rule add from all lookup 7 blackhole", "lookup and blackhole exclude each other"),
    ("node-1 rule del lookup 7", "has no such rule"),
    ("node-1 sysctl net.ipv4.ip_forwad=0", "did you mean 'net.ipv4.ip_forward'?"),
    ("node-1 sysctl net.ipv4.ip_forward=yes", "a number was expected, not 'yes'"),
    ("node-1 sysctl net.ipv4.ip_forward", "KEY=VALUE was expected"),
    ("node-1 link set eth0 mtu 20", "mtu: a number from 68 to 65535 was expected"),
    ("node-1 link set eth0 up down", "one of mtu, up, down, master, nomaster was expected"),
    ("node-1 link set eth0 master eth0", "eth0 is no bridge"),
    ("node-1 link del eth0", "eth0 is an end of a wire"),
    ("node-1 link del lo", "lo is the loopback device"),
    ("node-1 link del cni0 now", "there is no option 'now'"),
    ("node-1 addr del 192.168.56.12/24 dev eth0", "did you mean '192.168.56.11/24'?"),
    ("node-1 addr add 192.168.56.12/24", "'dev' and its value were expected"),
    ("node-1 neigh del 192.168.56.1 dev eth0", "has no neighbour 192.168.56.1 on eth0"),
    ("node-1 neigh add 192.168.56.1 lladdr 02:00 dev eth0", "lladdr: '02:00' is not an Ethernet address"),
    ("node-1 fdb del 02:00:00:00:00:01 dev eth0", "eth0 is no vxlan"),
    ("node-1 iptables -A FORWARD -j DORP", "there is no chain or target 'DORP'; did you mean 'DROP'?"),
    ("link node-9 mtu 1400", "there is no room or ROOM/DEV 'node-9'"),
    ("link router mtu 1400", "router has 2 wires that could be meant; name one of router/eth0, router/ext0"),
    ("link node-1 rate 10mb", "rate: a number with one of bit, kbit, mbit, gbit, tbit behind it"),
    ("link node-1", "one of mtu, up, down, rate, delay, queue was expected"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_a_bad_line_is_one_clear_line_and_changes_nothing(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    network = from_mode(HOST_GW)
    before = tables(network)
    with pytest.raises(ValueError) as error:
        apply(network, line)
    assert message in str(error.value) and str(error.value).startswith(repr(line))
    assert tables(network) == before
    assert cli.main(["walk", "a", "b", "--cni", HOST_GW, "--set", line]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("packetwalk: --set ")


def test_every_command_takes_set(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--set", "node-1 route del 10.244.2.0/26", "--set", "node-1 addr add 10.7.7.7/32 dev eth0"]
    sample = ["--snapshot", str(SAMPLE)]
    assert cli.main(["walk", "a", "b", "--minimal", *line, *sample]) == 1
    for words in (["show", "node-1", "routes", *sample], ["commands", "node-1", *sample]):
        cli.main([*words])
        assert "10.244.2.0/26" in capsys.readouterr().out
        assert cli.main([*words, *line]) == 0
        assert "10.244.2.0/26" not in capsys.readouterr().out
    assert cli.main(["rooms", *line, *sample]) == 0
    assert "10.7.7.7/32" in capsys.readouterr().out
    assert "10.244.2.0/26" in show(load_snapshot(SAMPLE), "node-1", "routes")


# -- the same words in a kernel ----------------------------------------------------------------------------------------


def lab() -> Network:
    """A veth pair with one end in use, a bridge with the other as its port, and a vxlan."""
    room = Netns("r")
    room.link_add("br0", Bridge(mac=Mac("02:00:00:00:00:10")), index=10)
    room.link_add("v0", Veth(mac=Mac("02:00:00:00:00:01")), index=11)
    room.link_add("v1", Veth(mac=Mac("02:00:00:00:00:02")), index=12)
    room.link_add("vx0", Vxlan(vni=5, mac=Mac("02:00:00:00:00:05"), mtu=1450), index=13)
    network = Network()
    network.add(room)
    network.connect(("r", "v0"), ("r", "v1"))
    return network


SETUP = """
ip link add br0 index 10 address 02:00:00:00:00:10 type bridge
ip link add v0 index 11 address 02:00:00:00:00:01 type veth peer name v1 index 12 address 02:00:00:00:00:02
ip link add vx0 index 13 address 02:00:00:00:00:05 mtu 1450 type vxlan id 5 dstport 8472
sysctl -qw net.ipv6.conf.all.disable_ipv6=1
for dev in br0 v0 v1 vx0; do ip link set $dev up; done
"""
SHOW = {"routes": "ip -o route", "ip-rules": "ip rule", "neigh": "ip neigh", "fdb": "bridge fdb show dev vx0 2>&- || :"}
MAC = "02:00:00:00:00:09"
ZERO = "00:00:00:00:00:00"
ADDRS = ("addr add 10.0.0.1/24 dev v0", "addr add 10.0.0.7/24 dev v0", "addr add 10.1.0.1/24 dev v0")
MORE = ("route add 10.5.0.0/16 via 10.0.0.2", "route add 10.6.0.0/16 via 10.0.0.2 src 10.0.0.1")
SCRIPTS: dict[str, tuple[str, ...]] = {
    "add and delete routes": (
        *ADDRS,
        *MORE,
        "route add blackhole 10.8.0.0/16",
        "route del 10.5.0.0/16",
        "route add 10.9.0.0/16 via 10.0.0.3 metric 5",
        "route add 10.9.0.0/16 via 10.0.0.4",
        "route del 10.9.0.0/16 via 10.0.0.3",
    ),
    "replace goes by prefix and metric": (
        *ADDRS,
        "route add 10.9.0.0/16 via 10.0.0.3 metric 5",
        "route replace 10.9.0.0/16 via 10.0.0.4",
        "route replace 10.9.0.0/16 via 10.0.0.5 metric 5",
        "route append 10.9.0.0/16 via 10.0.0.6",
        "route del 10.9.0.0/16",
    ),
    "several next hops": (
        *ADDRS,
        "route add 10.9.0.0/16 nexthop via 10.0.0.2 dev v0 weight 3 nexthop via 10.1.0.2 dev v0",
    ),
    "a primary address takes its secondaries along": (*ADDRS, *MORE, "addr del 10.0.0.1/24 dev v0"),
    "a secondary goes alone": (*ADDRS, *MORE, "addr del 10.0.0.7/24 dev v0"),
    "or takes the primary's place": (
        "sysctl -w net.ipv4.conf.all.promote_secondaries=1",
        *ADDRS,
        *MORE,
        "addr del 10.0.0.1/24 dev v0",
    ),
    "the last address takes all routes along": (
        ADDRS[0],
        "route add 10.5.0.0/16 dev v0",
        "addr del 10.0.0.1/24 dev v0",
    ),
    "a device down and up": (
        *ADDRS,
        *MORE,
        f"neigh add 10.0.0.9 lladdr {MAC} dev v0",
        "link set v0 down",
        "link set v0 up",
    ),
    "a vxlan goes with what it learned and leads to": (
        "addr add 10.0.0.1/24 dev vx0",
        "route add 10.5.0.0/16 via 10.0.0.2 dev vx0",
        f"neigh add 10.0.0.9 lladdr {MAC} dev vx0",
        f"bridge fdb append {MAC} dev vx0 dst 10.0.0.2",
        "link del vx0",
    ),
    "a bridge lets its ports go": ("link set v1 master br0", "addr add 10.2.0.1/24 dev br0", "link del br0"),
    "rules": (
        "rule add fwmark 0x1/0xff lookup 77",
        "rule add from 10.0.0.0/8 iif v0 blackhole",
        "rule add to 10.1.0.0/16",
        "rule add not from 10.2.0.0/16 priority 50 ipproto tcp dport 80-90 lookup main",
        "rule del lookup 77",
    ),
    "neighbours": (
        ADDRS[0],
        f"neigh add 10.0.0.9 lladdr {MAC} dev v0",
        f"neigh add 10.0.0.8 lladdr {MAC} dev v0",
        "neigh replace 10.0.0.9 lladdr 02:00:00:00:00:0a dev v0",
        "neigh del 10.0.0.8 dev v0",
    ),
    "fdb": (
        f"bridge fdb append {MAC} dev vx0 dst 10.0.0.2",
        f"bridge fdb append {MAC} dev vx0 dst 10.0.0.3",
        f"bridge fdb append {ZERO} dev vx0 dst 10.0.0.2",
        f"bridge fdb append {ZERO} dev vx0 dst 10.0.0.3",
        f"bridge fdb append {ZERO} dev vx0 dst 10.0.0.4",
        f"bridge fdb del {ZERO} dev vx0 dst 10.0.0.3",
    ),
    "fdb replaced": (
        f"bridge fdb append {MAC} dev vx0 dst 10.0.0.2",
        f"bridge fdb replace {MAC} dev vx0 dst 10.0.0.4",
        f"bridge fdb append {ZERO} dev vx0 dst 10.0.0.4",
        f"bridge fdb del {ZERO} dev vx0",
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_kernel_does_the_same(name: str) -> None:
    network = lab()
    for line in SCRIPTS[name]:
        apply(network, f"r {line}")
    words = [line if line.startswith(("bridge", "sysctl")) else f"ip {line}" for line in SCRIPTS[name]]
    ends = [f"echo '#'; {shown}" for shown in SHOW.values()]
    answer = real("\n".join([SETUP, *(f"{line} >&2" for line in words), *ends])).split("#\n")[1:]
    for table, kernel in zip(SHOW, answer, strict=True):
        ours = [line.split() for line in show(network, "r", table).splitlines() if table != "fdb" or " vx0 " in line]
        theirs = [line.replace("\\", "").split() for line in kernel.splitlines()]
        if table == "fdb":  # asked for one device, bridge does not name it
            ours = [[w for w in words if w not in ("dev", "vx0")] for words in ours]
        assert sorted(ours) == sorted(theirs), table


REFUSED = [
    ("route add 10.0.0.0/24 dev v0 proto kernel scope link",),
    ("route del 10.5.0.0/16 via 10.0.0.9",),
    ("addr add 10.0.0.1/24 dev v0",),
    ("addr del 10.0.0.2/24 dev v0",),
    (f"neigh add 10.0.0.9 lladdr {MAC} dev v0", f"neigh add 10.0.0.9 lladdr {MAC} dev v0"),
    ("neigh del 10.0.0.8 dev v0",),
    (f"bridge fdb append {MAC} dev vx0 dst 10.0.0.2", f"bridge fdb add {MAC} dev vx0 dst 10.0.0.3"),
    (f"bridge fdb append {ZERO} dev vx0 dst 10.0.0.2", f"bridge fdb replace {ZERO} dev vx0 dst 10.0.0.3"),
    (f"bridge fdb del {MAC} dev vx0",),
    ("rule del lookup 77",),
]


@pytest.mark.parametrize("lines", REFUSED, ids=[lines[-1] for lines in REFUSED])
def test_what_a_kernel_refuses_is_refused(lines: tuple[str, ...]) -> None:
    network = lab()
    for line in (*ADDRS, *MORE, *lines[:-1]):
        apply(network, f"r {line}")
    with pytest.raises(ValueError):
        apply(network, f"r {lines[-1]}")
    words = [line if line.startswith("bridge") else f"ip {line}" for line in (*ADDRS, *MORE, *lines)]
    assert real("\n".join([SETUP, *words[:-1], f"! {shlex.join(words[-1].split())} 2>&1"])).strip()
