"""The shell lines of a network, and a real kernel that is built with them."""

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from packetwalk.addr import IPv4, Mac, Prefix
from packetwalk.commands import commands
from packetwalk.netns.device import Bridge, Dummy, Geneve, Ipip, Nic, UnknownDevice, Veth, Vxlan
from packetwalk.netns.fdb import FdbEntry
from packetwalk.netns.fib_table import Nexthop, Route
from packetwalk.netns.namespace import Netns
from packetwalk.network import Network
from packetwalk.show import SHOWN, rules, show
from packetwalk.snapshot import load_snapshot
from packetwalk.snapshot.iproute import load_netns
from packetwalk.snapshot.iptables_save import read_iptables
from packetwalk.snapshot.ipvsadm_save import read_ipvs
from packetwalk.source import SAMPLE


def mac(n: int) -> Mac:
    return Mac(0x02_00_00_00_00_00 + n)


def room_with(device: Veth | Bridge | Dummy | Geneve | Ipip | Nic | UnknownDevice | Vxlan) -> Netns:
    room = Netns("r")
    room.link_add("d0", device)
    return room


def lines_of(room: Netns) -> list[str]:
    network = Network()
    network.add(room)
    return commands(network)


def link_line(room: Netns) -> str:
    return next(line for line in lines_of(room) if " link add name d0 " in line)


def small(prefix: str = "") -> Network:
    """Two nodes with a bridge, a pod each and a vxlan between them, and one of everything else the lines can say."""
    net = Network()
    one, two, pod = (net.add(Netns(prefix + name)) for name in ("n1", "n2", "p1"))
    one.link_add("eth0", Veth(mac=mac(0x11), mtu=1400))
    one.link_add("br0", Bridge(mac=mac(0x12), mtu=1350, ageing=60_000_000_000))
    one.link_add("veth1", Veth(mac=mac(0x13), mtu=1350))
    one.link_add("vx.7", Vxlan(mac=mac(0x14), mtu=1350, vni=7, dport=4789, local=IPv4("192.0.2.1"), link="eth0",
                               learning=False, ttl=9, df="set", udp_csum=False, sport_range=(1000, 2000)))  # fmt: skip
    two.link_add("eth0", Veth(mac=mac(0x21), mtu=1400))
    two.link_add("vx7", Vxlan(mac=mac(0x24), mtu=1350, vni=7, dport=4789, remote=IPv4("192.0.2.1"), ttl_inherit=True))
    pod.link_add("eth0", Veth(mac=mac(0x31), mtu=1350))
    one.link_set("veth1", master="br0", port={"hairpin": True, "learning": False, "isolated": True})
    one.link_set("vx.7", master="br0")
    net.connect((one.name, "eth0"), (two.name, "eth0"))
    net.connect((pod.name, "eth0"), (one.name, "veth1"))
    one.addr_add("eth0", "192.0.2.1/24")
    one.addr_add("eth0", "192.0.2.7/24")
    one.addr_add("br0", "10.1.0.1/24")
    two.addr_add("eth0", "192.0.2.2/24")
    two.addr_add("vx7", "10.1.0.2/24")
    pod.addr_add("eth0", "10.1.0.9/24")
    pod.route_add("default", via="10.1.0.1", mtu=1300)
    one.route_add("10.9.0.0/16", type="blackhole", proto="80")
    one.route_add("10.8.0.0/16", via="198.51.100.1", dev="eth0", onlink=True, metric=50)
    one.route_add("10.8.0.0/16", dev="br0", scope="global", metric=60)
    one.route_add("10.7.0.0/16", nexthops=(Nexthop("eth0", IPv4("192.0.2.2"), 2), Nexthop("br0", IPv4("10.1.0.9"))))
    one.route_add("default", via="192.0.2.2", table=100, src="192.0.2.7")
    one.rule_add(1000, 100, src=Prefix.parse("10.1.0.0/24"), fwmark=1, fwmask=0xFF)
    one.rule_add(2000, "unreachable", iif="br0", invert=True)
    one.neigh_add("192.0.2.2", mac(0x21), "eth0")
    one.fdb_append("vx.7", mac(0x24), dst="192.0.2.2")
    one.fdb_append("vx.7", Mac(0), dst="192.0.2.2")
    one.fdb_append("veth1", mac(0x99))
    for dev in one.devices:
        one.sysctl(f"net.ipv4.conf.{dev.replace('.', '/')}.rp_filter", 2 if dev == "vx.7" else 0)
    one.sysctl("net.ipv4.ip_forward", 1)
    return net


# -- lines -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (Dummy(), "type dummy"),
        (Ipip(mtu=1480), "index 2 mtu 1480 type ipip local any remote any nopmtudisc"),
        (
            Ipip(local=IPv4("1.1.1.1"), remote=IPv4("2.2.2.2"), link="lo", df="set", ttl=7, tos_inherit=True),
            "type ipip local 1.1.1.1 remote 2.2.2.2 dev lo ttl 7 tos inherit pmtudisc",
        ),
        (
            Geneve(vni=5, remote=IPv4("2.2.2.2"), tos=0x10, df="inherit"),
            "type geneve id 5 remote 2.2.2.2 dstport 6081 noudpcsum df inherit tos 0x10",
        ),
        (Vxlan(vni=1, ttl_inherit=True), "type vxlan id 1 dstport 8472 udpcsum df unset learning ttl inherit"),
        (Bridge(mac=mac(1), oddity="vlan_filtering"), "address 02:00:00:00:00:01 type bridge ageing_time 30000"),
        (Bridge(oddity="vlan_filtering"), "vlan_filtering 1"),
    ],
)
def test_a_device_keeps_every_attribute(device: Vxlan, words: str) -> None:
    assert words in link_line(room_with(device))


@pytest.mark.parametrize(("device", "what"), [(Nic(), "a real nic"), (UnknownDevice(what="wireguard"), "wireguard")])
def test_what_cannot_be_built_is_said_and_not_set_up(device: Nic, what: str) -> None:
    lines = lines_of(room_with(device))
    assert f"# r: d0 is not built: {what}" in lines
    assert ("ip -n r link set dev d0 up" in lines) == isinstance(device, Nic)


def test_what_the_kernel_makes_is_left_out() -> None:
    net = small()
    text = "\n".join(commands(net))
    assert "table local" not in text and "proto kernel" not in text and "127.0.0.1" not in text
    assert str(net["n1"].devices["br0"].mac) not in "\n".join(line for line in text.splitlines() if " fdb " in line)


def test_learned_entries_are_left_out() -> None:
    room = room_with(Bridge(mac=mac(1)))
    room.bridge_fdb.put(FdbEntry(mac(9), "d0", master="d0"))
    room.neigh_add("10.0.0.9", mac(9), "d0", state="REACHABLE")
    assert not [line for line in lines_of(room) if " fdb " in line or " neigh " in line]


def test_gateways_come_after_the_routes_that_reach_them_and_equals_are_appended() -> None:
    room = room_with(Dummy())
    table = room.fib.table(254)
    table.add(Route(Prefix.parse("10.5.0.0/16"), (Nexthop("d0", IPv4("10.6.0.1")),)))
    table.add(Route(Prefix.parse("10.5.0.0/16"), (Nexthop("d0", IPv4("10.6.0.2")),)))
    table.add(Route(Prefix.parse("10.6.0.0/16"), (Nexthop("d0"),), scope=253))
    assert [line for line in lines_of(room) if " route " in line] == [
        "ip -n r route add 10.6.0.0/16 dev d0 scope link",
        "ip -n r route add 10.5.0.0/16 via 10.6.0.1 dev d0",
        "ip -n r route append 10.5.0.0/16 via 10.6.0.2 dev d0",
    ]


def test_names_cannot_smuggle_in_a_command() -> None:
    net = Network()
    net.add(Netns("x; reboot"))
    assert commands(net)[0] == "ip netns add 'x; reboot'"


def test_devices_are_made_in_the_order_of_their_numbers() -> None:
    """inet_select_addr looks for a source in that order; a wire waits for both of its rooms."""
    net = Network()
    a, b = net.add(Netns("a")), net.add(Netns("b"))
    for room, names in ((a, ("eth0", "br0", "eth1")), (b, ("dummy0", "eth0", "eth1"))):
        for name in names:
            room.link_add(name, {"br": Bridge, "du": Dummy, "et": Veth}[name[:2]]())
    net.connect(("a", "eth1"), ("b", "eth1"))
    net.connect(("a", "eth0"), ("b", "eth0"))
    made = [re.findall(r"name (\w+)(?: netns (\w+))?", line) for line in commands(net) if " link add " in line]
    assert made == [[("dummy0", "")], [("eth0", "a"), ("eth0", "b")], [("br0", "")], [("eth1", "a"), ("eth1", "b")]]


def test_wires_that_cross_are_made_all_the_same() -> None:
    """The first in one room is the second in the other: no order suits both."""
    net = Network()
    for name in ("a", "b"):
        room = net.add(Netns(name))
        room.link_add("eth0", Veth())
        room.link_add("eth1", Veth())
    net.connect(("a", "eth0"), ("b", "eth1"))
    net.connect(("a", "eth1"), ("b", "eth0"))
    assert len([line for line in commands(net) if " link add " in line]) == 2


def test_one_room_with_the_wires_that_end_there() -> None:
    lines = commands(small(), "p1")
    assert [line for line in lines if "netns add" in line] == ["ip netns add p1"]
    assert sum("type veth" in line for line in lines) == 1
    assert not [line for line in lines if line.startswith("ip -n n1")]


def test_an_unknown_room_is_an_error() -> None:
    with pytest.raises(KeyError, match="no room 'nowhere'"):
        commands(small(), "nowhere")
    with pytest.raises(KeyError, match="no room 'nowhere'"):
        show(small(), "nowhere", "routes")


def test_sets_then_rules_are_restored_and_echo_servers_are_named() -> None:
    net = load_snapshot(SAMPLE)
    lines = commands(net)
    restores = [line for line in lines if "exec node-1 ip" in line and "restore" in line]
    assert len(restores) == 2
    assert restores[0].startswith("ip netns exec node-1 ipset restore <<'END'\ncreate cali40masq-ipam-pools hash:net ")
    assert restores[1].startswith("ip netns exec node-1 iptables-restore <<'END'\n*")
    assert restores[1].endswith("\nCOMMIT\nEND")
    assert str(read_iptables("\n".join(restores[1].splitlines()[1:-1]))) == str(net["node-1"].netfilter)
    assert "# b: tcp echo server port 8080" in lines


def test_virtual_services_are_restored_once_their_module_is_there() -> None:
    net = small()
    net["n1"].ipvs = read_ipvs("-A -t 10.96.0.1:80 -s rr\n-a -t 10.96.0.1:80 -r 10.0.1.2:8080 -m -w 1")
    lines = commands(net)
    assert lines.index("modprobe ip_vs") < lines.index("ip netns add n1")
    assert f"ip netns exec n1 ipvsadm -R <<'END'\n{net['n1'].ipvs}\nEND" in lines
    assert "  -> 10.0.1.2:8080                Masq    1      0          0" in show(net, "n1", "ipvs")
    assert show(net, "p1", "ipvs") == ""


def test_a_slow_wire_is_shaped_at_both_ends() -> None:
    net = Network()
    for name in "ab":
        net.add(Netns(name)).link_add("e", Veth())
    net.connect(("a", "e"), ("b", "e"), rate=1_000_000, delay=5_000, queue=10)
    assert "tc -n b qdisc add dev e root netem limit 10 delay 5us rate 1000000bit" in commands(net)


# -- what ip and bridge print ------------------------------------------------------------------------------------------


def test_show_prints_what_iproute2_prints() -> None:
    net = small()
    assert show(net, "n1", "links").splitlines()[4:8] == [
        "3: br0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1350 qdisc noqueue state UP mode DEFAULT "
        "group default qlen 1000",
        "    link/ether 02:00:00:00:00:12 brd ff:ff:ff:ff:ff:ff",
        "4: veth1@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1350 qdisc noqueue master br0 state UP mode DEFAULT "
        "group default qlen 1000",
        "    link/ether 02:00:00:00:00:13 brd ff:ff:ff:ff:ff:ff link-netns p1",
    ]
    assert "    inet 192.0.2.7/24 brd 192.0.2.255 scope global secondary eth0" in show(net, "n1", "addrs").splitlines()
    assert show(net, "n1", "neigh") == "192.0.2.2 dev eth0 lladdr 02:00:00:00:00:21 PERMANENT"
    assert "02:00:00:00:00:99 dev veth1 master br0 static" in show(net, "n1", "fdb").splitlines()
    assert "02:00:00:00:00:24 dev vx.7 dst 192.0.2.2 self permanent" in show(net, "n1", "fdb").splitlines()
    assert show(net, "n1", "ip-rules").splitlines()[1] == "1000:\tfrom 10.1.0.0/24 fwmark 0x1/0xff lookup 100"
    assert show(net, "p1", "routes").splitlines()[0] == "default via 10.1.0.1 dev eth0 mtu 1300"


def test_rules_of_one_table_or_chain() -> None:
    net = load_snapshot(SAMPLE)
    assert show(net, "node-1", "rules") == "\n".join(rules(net, "node-1"))
    assert rules(net, "node-1", "nat", "POSTROUTING")[:2] == ["*nat", ":POSTROUTING ACCEPT [0:0]"]
    everywhere = rules(net, "node-1", chain="cali-PREROUTING")
    heads = ["*raw", ":cali-PREROUTING - [0:0]", "*mangle", ":cali-PREROUTING - [0:0]", "*nat"]
    assert sorted({line for line in everywhere if line[0] in "*:"}) == sorted(set(heads))
    with pytest.raises(KeyError, match=r"node-1 has no table 'nta'; it has filter"):
        rules(net, "node-1", "nta")
    with pytest.raises(KeyError, match=r"table filter of node-1 has no chain 'FORWRAD'; did you mean 'FORWARD'?"):
        rules(net, "node-1", "filter", "FORWRAD")
    assert show(net, "node-1", "sets").splitlines()[1] == "add cali40masq-ipam-pools 10.244.0.0/16"


def test_links_without_a_carrier_say_so() -> None:
    net = small()
    net["p1"].link_set("eth0", up=False)
    text = show(net, "n1", "links")
    assert "veth1@if2: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1350 qdisc noqueue master br0 state DOWN" in text
    assert "eth0@if4: <BROADCAST,MULTICAST> mtu 1350 qdisc noqueue state DOWN" in show(net, "p1", "links")


def test_an_ipip_device_prints_its_ends() -> None:
    assert "2: d0@NONE: <NOARP,UP,LOWER_UP>" in show_one(Ipip())
    assert "    link/ipip 0.0.0.0 brd 0.0.0.0" in show_one(Ipip())
    ends = show_one(Ipip(local=IPv4("1.1.1.1"), remote=IPv4("2.2.2.2")))
    assert "<POINTOPOINT,NOARP,UP,LOWER_UP>" in ends and "link/ipip 1.1.1.1 peer 2.2.2.2" in ends


def show_one(device: Ipip) -> str:
    net = Network()
    net.add(room_with(device))
    return show(net, "r", "links")


@pytest.mark.parametrize("table", sorted(SHOWN))
def test_every_table_of_every_room_of_the_sample_prints(table: str) -> None:
    net = load_snapshot(SAMPLE)
    for room in net.rooms:
        assert "None" not in show(net, room, table)


# -- a real kernel -----------------------------------------------------------------------------------------------------

STEM = f"pw{os.getpid()}-"
serial = itertools.count()


def run(line: str) -> str:
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def built() -> Iterator[Network]:
    """`small()` built in real namespaces, removed afterwards. Skips where the machine cannot."""
    if os.geteuid():
        pytest.skip("needs root")
    for tool in ("ip", "bridge", "sysctl"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    net = small(f"{STEM}{next(serial)}-")
    probe = f"{STEM}probe"
    try:
        for line in (
            f"ip netns add {probe}",
            f"ip -n {probe} link add name b type bridge",
            f"ip -n {probe} link add name x type vxlan id 1 dstport 1",
            f"ip -n {probe} link add name v type veth peer name w",
        ):
            done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"this kernel refuses `{line}`: {done.stderr.strip()}")
        for line in commands(net):
            run(line)
        yield net
    finally:
        for name in (probe, *net.rooms):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def save(room: Netns, folder: Path) -> None:
    """What a recorder would save of a real namespace, with the sysctls that the room knows."""
    folder.mkdir()
    ns = room.name
    for file, line in {
        "link": f"ip -n {ns} -j -d link",
        "addr": f"ip -n {ns} -j -4 addr",
        "route": f"ip -n {ns} -j -4 route show table all",
        "rule": f"ip -n {ns} -j -4 rule",
        "neigh": f"ip -n {ns} -j -4 neigh",
        "fdb": f"bridge -n {ns} -j fdb",
    }.items():
        (folder / f"{file}.json").write_text(run(line))
    keys = list(room.sysctls)
    for group, values in room.conf_values.items():
        keys += [f"net.ipv4.conf.{group.replace('.', '/')}.{key}" for key in values]
    (folder / "sysctl.conf").write_text(run(f"ip netns exec {ns} sysctl -e {' '.join(keys)}"))


def test_a_kernel_built_by_the_lines_has_the_same_tables(built: Network, tmp_path: Path) -> None:
    again = Network()
    for room in built:
        save(room, tmp_path / room.name)
        again.add(load_netns(room.name, tmp_path / room.name))
    for end, wire in built.wires.items():
        if end == wire.a:
            again.connect(wire.a, wire.b)
    for room in built:
        for table in ("links", "addrs", "routes", "ip-rules", "rules", "sets"):
            assert show(again, room.name, table) == show(built, room.name, table)
        local = {str(r) for r in room.fib.tables[255]}
        assert {str(r) for r in again[room.name].fib.tables[255]} == local
    assert commands(again) == commands(built)
