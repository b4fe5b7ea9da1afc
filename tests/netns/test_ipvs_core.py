"""Packets through IPVS: which server they get, what comes back, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest

from packetwalk.addr import IPv4
from packetwalk.netns.ipvs import RealServer
from packetwalk.netns.ipvs_conn import Client, Key, VsConn
from packetwalk.netns.ipvs_core import Balanced
from packetwalk.netns.namespace import Netns
from packetwalk.packet import PORT_UNREACH, TIME_EXCEEDED, UNREACHABLE, Icmp, Ip, Packet, Slice, ip_packet, size
from packetwalk.snapshot.nft_list import read_nft
from packetwalk.trace import Reason
from tests.netns.balancer import DNS, FIRST, SECOND_ONE, VIP, WEB, balancer, came, ends, service, went
from tests.netns.rooms import (
    SECOND,
    about,
    echo,
    icmp_of,
    ip_of,
    iptables,
    of,
    one,
    reasons,
    sent,
    stages,
    tcp,
    udp,
    unsupported,
)  # fmt: skip

CLIENT = "10.0.0.2"
BOTH = service(WEB, FIRST, SECOND_ONE)


def opened(room: Netns, *, sport: int = 40000, now: int = 0) -> Packet:
    """The client's SYN as it left."""
    return sent(came(room, tcp(CLIENT, VIP, sport=sport), now), "eth1")[-1]


def error(about_: Packet, src: str, dst: str, type_: int = UNREACHABLE, code: int = PORT_UNREACH) -> Packet:
    """An ICMP error that quotes a packet, which may stand in a frame."""
    inner = Packet(tuple(h for h in about_.headers if not hasattr(h, "type") or isinstance(h, Icmp)), about_.payload)
    quote = Slice(inner, 0, min(size(inner), 48))
    return ip_packet(Ip(IPv4(src), IPv4(dst), 1, 0, 64), Icmp(type_, code), payload=quote)


def test_a_request_leaves_for_its_server_as_if_sent_by_this_host() -> None:
    room = balancer()
    iptables(room, "filter", "-A FORWARD -j DROP")
    steps = came(room, tcp(CLIENT, VIP))
    assert went(steps) == [f"{CLIENT}:40000 > 10.0.1.2:8080"]
    assert ip_of(sent(steps)[0]).ttl == 63
    assert "forward" not in stages(steps) and "deliver" not in stages(steps)
    step = one(steps, "ipvs")
    assert isinstance(step.what, Balanced) and (step.dev, step.what.side) == ("input", "dst")
    assert str(step.what) == "TCP  10.96.0.1:80 rr -> 10.0.1.2:8080 Masq 1"


def test_the_answer_comes_back_from_the_virtual_address() -> None:
    room = balancer()
    opened(room)
    steps = came(room, tcp("10.0.1.2", CLIENT, sport=8080, dport=40000, flags="SA"), dev="eth1")
    assert went(steps) == ["10.96.0.1:80 > 10.0.0.2:40000"]
    step = one(steps, "ipvs")
    assert (step.dev, str(step.what).split()[:3]) == ("forward", ["TCP", "01:00", "SYN_RECV"])
    conn = next(iter(room.conns.all()))
    assert (conn.original.dst, conn.reply.src, conn.reply.sport) == (IPv4(VIP), IPv4("10.0.1.2"), 8080)


def test_without_conntrack_of_its_own_the_packet_is_not_tracked_on() -> None:
    room = balancer()
    room.sysctl("net.ipv4.vs.conntrack", 0)
    iptables(room, "filter", "-A OUTPUT -m conntrack --ctstate UNTRACKED -j DROP")
    assert reasons(came(room, tcp(CLIENT, VIP))) == [Reason.NETFILTER_DROP]
    assert room.conns.all() == []


def test_a_room_without_conntrack_balances_as_well() -> None:
    room = balancer(conntrack=False)
    opened(room)
    steps = came(room, tcp("10.0.1.2", CLIENT, sport=8080, dport=40000, flags="SA"), dev="eth1")
    assert went(steps) == ["10.96.0.1:80 > 10.0.0.2:40000"]


def test_marked_by_nat_it_is_masqueraded_and_found_again() -> None:
    room = balancer()
    iptables(room, "nat", "-A POSTROUTING -j MASQUERADE")
    assert ends(opened(room)) == "10.0.1.1:40000 > 10.0.1.2:8080"
    back = tcp("10.0.1.2", "10.0.1.1", sport=8080, dport=40000, flags="SA")
    assert went(came(room, back, dev="eth1")) == ["10.96.0.1:80 > 10.0.0.2:40000"]


def test_connections_stay_and_new_ones_go_round() -> None:
    room = balancer(BOTH)
    targets = [ends(opened(room, sport=p)).split()[-1] for p in (1001, 1002, 1003)]
    assert targets == ["10.0.1.3:8080", "10.0.1.2:8080", "10.0.1.3:8080"]
    came(room, tcp("10.0.1.2", CLIENT, sport=8080, dport=1002, flags="SA"), dev="eth1")
    assert went(came(room, tcp(CLIENT, VIP, sport=1002, flags="A"))) == [f"{CLIENT}:1002 > 10.0.1.2:8080"]
    active = room.ipvs.counts(BOTH, FIRST), room.ipvs.counts(BOTH, SECOND_ONE)
    assert active == ((1, 0), (0, 2))


def test_what_opens_nothing_passes_on_to_this_host() -> None:
    room = balancer()
    for packet in (tcp(CLIENT, VIP, flags="A"), tcp(CLIENT, VIP, flags="R"), tcp(CLIENT, VIP, dport=81),
                   tcp(CLIENT, VIP, sport=20)):  # fmt: skip
        steps = came(room, packet)
        assert reasons(steps) == [Reason.NO_SOCKET], packet
        assert not of(steps, "ipvs")
    assert stages(came(room, echo(CLIENT, VIP))).count("deliver") == 1
    room.sysctl("net.ipv4.vs.sloppy_tcp", 1)
    assert went(came(room, tcp(CLIENT, VIP, flags="A"))) == [f"{CLIENT}:40000 > 10.0.1.2:8080"]


def test_a_service_without_servers_says_port_unreachable() -> None:
    steps = came(balancer(replace(service(), servers=())), tcp(CLIENT, VIP))
    assert reasons(steps) == [Reason.NETFILTER_DROP]
    answer = sent(steps)[0]
    assert (ip_of(answer).src, icmp_of(answer).code, about(answer).dst) == (IPv4(VIP), PORT_UNREACH, IPv4(VIP))


@pytest.mark.parametrize(
    ("packet", "type_", "code"),
    [
        (tcp(CLIENT, VIP, ttl=1), TIME_EXCEEDED, 0),
        (udp(CLIENT, VIP, size=1400, df=True), UNREACHABLE, 4),
    ],
)
def test_what_forwarding_would_refuse_is_refused(packet: Packet, type_: int, code: int) -> None:
    room = balancer(service(), service(DNS))
    room.link_set("eth1", mtu=1300)
    steps = came(room, packet)
    assert reasons(steps) == [Reason.NOT_SPECIFIED]
    told = icmp_of(sent(steps)[0])
    assert (told.type, told.code, told.mtu) == (type_, code, 1300 if code else 0)
    assert ip_of(sent(steps)[0]).src == IPv4(VIP)


def test_without_df_it_is_cut() -> None:
    room = balancer(service(DNS))
    room.link_set("eth1", mtu=1300)
    assert len(sent(came(room, udp(CLIENT, VIP, size=1400)))) == 2


def test_no_route_to_the_server_is_host_unreachable() -> None:
    room = balancer(service(WEB, RealServer(IPv4("172.16.0.1"), 80)))
    steps = came(room, tcp(CLIENT, VIP))
    assert icmp_of(sent(steps)[0]).code == 1
    assert reasons(steps) == [Reason.NOT_SPECIFIED]


def test_a_server_on_this_host_gets_it_here() -> None:
    room = balancer(service(WEB, RealServer(IPv4("10.0.0.1"), 8080)))
    room.listen(8080)
    steps = came(room, tcp(CLIENT, VIP))
    assert ends(one(steps, "deliver").packet) == f"{CLIENT}:40000 > 10.0.0.1:8080"
    assert ip_of(one(steps, "deliver").packet).ttl == 64
    assert went(steps) == ["10.96.0.1:80 > 10.0.0.2:40000"], "its answer meets IPVS in OUTPUT"


def test_a_client_on_this_host_is_met_in_output() -> None:
    room = balancer()
    steps = room.send(udp("0.0.0.0", VIP, dport=53), 0)
    assert not went(steps, "eth1")
    room = balancer(service(DNS))
    steps = room.send(udp("0.0.0.0", VIP, dport=53), 0)
    assert went(steps) == ["10.96.0.1:40000 > 10.0.1.2:8080"]
    assert one(steps, "ipvs").dev == "output"
    back = udp("10.0.1.2", VIP, sport=8080, dport=40000)
    assert of(came(room, back, dev="eth1"), "ipvs")[0].dev == "input"


def test_loopback_addresses_do_not_leave() -> None:
    room = balancer(service(DNS))
    room.addr_add("lo", f"{VIP}/32")
    steps = room.send(udp("127.0.0.1", VIP, dport=53), 0)
    assert reasons(steps) == [Reason.NOT_SPECIFIED] and not went(steps, "eth1")


def test_the_firewall_mark_comes_before_the_address() -> None:
    room = balancer(service(Key(mark=7), RealServer(IPv4("10.0.1.3"), 0)), service())
    iptables(room, "mangle", f"-A PREROUTING -s {CLIENT} -p tcp --dport 443 -j MARK --set-mark 7")
    assert went(came(room, tcp(CLIENT, VIP, dport=443))) == [f"{CLIENT}:40000 > 10.0.1.3:443"]
    assert went(came(room, tcp(CLIENT, VIP))) == [f"{CLIENT}:40000 > 10.0.1.2:8080"]


def test_a_persistent_service_keeps_a_client_with_its_server() -> None:
    room = balancer(replace(BOTH, persistent=60))
    targets = [ends(opened(room, sport=p)).split()[-1] for p in (1001, 1002, 1003)]
    assert targets == ["10.0.1.3:8080"] * 3
    other = sent(came(room, tcp("10.0.0.7", VIP)), "eth1")
    assert ends(other[-1]).endswith("> 10.0.1.2:8080")
    template = room.ipvs.conns.by_client[Client(6, IPv4(CLIENT), 0, IPv4(VIP), 80)]
    assert (template.controls, template.timeout) == (3, 60 * SECOND)
    later = 200 * SECOND
    assert ends(opened(room, sport=1004, now=later)).endswith("> 10.0.1.3:8080"), "its turn, and no template is left"
    assert room.ipvs.conns.by_client[template.client] is not template


def test_a_netmask_makes_neighbours_of_a_client_persistent_too() -> None:
    room = balancer(replace(BOTH, persistent=60, netmask=IPv4("255.255.255.0")))
    targets = [ends(sent(came(room, tcp(f"10.0.0.{n}", VIP)), "eth1")[-1]).split()[-1] for n in (2, 3, 4)]
    assert targets == ["10.0.1.3:8080"] * 3


def test_a_connection_ends_by_its_timeout_and_conntrack_forgets_it() -> None:
    room = balancer(BOTH)
    opened(room)
    assert len(room.conns.all()) == 1
    steps = came(room, tcp(CLIENT, VIP, flags="A"), 61 * SECOND)
    assert reasons(steps) == [Reason.NO_SOCKET], "SYN_RECV lasts a minute, and an ACK opens nothing"
    assert not room.ipvs.conns.by_client


def _over(room: Netns, now: int) -> None:
    """The client's connection is opened, used and closed."""
    opened(room)
    for packet, dev in (
        (tcp("10.0.1.3", CLIENT, sport=8080, dport=40000, flags="SA"), "eth1"),
        (tcp(CLIENT, VIP, flags="A"), "eth0"),
        (tcp(CLIENT, VIP, flags="FA"), "eth0"),
        (tcp("10.0.1.3", CLIENT, sport=8080, dport=40000, flags="FA"), "eth1"),
    ):
        came(room, packet, now, dev)


@pytest.mark.parametrize(("mode", "server"), [(1, "10.0.1.2:8080"), (0, "10.0.1.3:8080")])
def test_a_port_used_again_goes_to_a_new_server_if_conn_reuse_mode_says_so(mode: int, server: str) -> None:
    room = balancer(BOTH, conntrack=False)
    room.sysctl("net.ipv4.vs.conn_reuse_mode", mode)
    _over(room, 0)
    conn = next(iter(room.ipvs.conns.by_client.values()))
    assert conn.state == "TIME_WAIT"
    assert went(came(room, tcp(CLIENT, VIP), SECOND), "eth1") == [f"{CLIENT}:40000 > {server}"]


def _without_server(room: Netns) -> None:
    room.ipvs.services = {WEB: replace(room.ipvs.services[WEB], servers=(FIRST,))}


def test_packets_of_a_connection_whose_server_is_gone_are_dropped() -> None:
    room = balancer(BOTH)
    opened(room)
    _without_server(room)
    steps = came(room, tcp(CLIENT, VIP, flags="A"))
    assert reasons(steps) == [Reason.NETFILTER_DROP] and not sent(steps)
    assert len(room.ipvs.conns.by_client) == 1


def test_with_expire_nodest_conn_the_next_packet_starts_anew() -> None:
    room = balancer(BOTH)
    room.sysctl("net.ipv4.vs.expire_nodest_conn", 1)
    opened(room)
    _without_server(room)
    steps = came(room, tcp(CLIENT, VIP))
    assert reasons(steps) == [Reason.NETFILTER_DROP], "conntrack still had its entry"
    assert not room.ipvs.conns.by_client and not room.conns.all()
    assert went(came(room, tcp(CLIENT, VIP))) == [f"{CLIENT}:40000 > 10.0.1.2:8080"]


def test_an_error_about_a_request_comes_from_the_virtual_address() -> None:
    room = balancer(service(DNS))
    asked = sent(came(room, udp(CLIENT, VIP)), "eth1")[-1]
    steps = came(room, error(asked, "10.0.1.2", CLIENT), dev="eth1")
    told = sent(steps, "eth0")[-1]
    assert ip_of(told).src == IPv4(VIP)
    assert (about(told).src, about(told).dst) == (IPv4(CLIENT), IPv4(VIP))
    quote = told.payload
    assert isinstance(quote, Slice) and ends(quote.of) == f"{CLIENT}:40000 > {VIP}:53"


def test_an_error_about_an_answer_reaches_the_server() -> None:
    room = balancer(service(DNS))
    came(room, udp(CLIENT, VIP))
    answer = sent(came(room, udp("10.0.1.2", CLIENT, sport=8080, dport=40000), dev="eth1"), "eth0")[-1]
    steps = came(room, error(answer, CLIENT, VIP))
    told = sent(steps, "eth1")[-1]
    assert (ip_of(told).dst, ip_of(told).ttl) == (IPv4("10.0.1.2"), 63)
    quote = told.payload
    assert isinstance(quote, Slice) and ends(quote.of) == "10.0.1.2:8080 > 10.0.0.2:40000"


def test_a_server_hears_that_its_connection_is_unknown_if_asked_for() -> None:
    room = balancer()
    stray = tcp("10.0.1.2", CLIENT, sport=8080, dport=1, flags="A")
    assert went(came(room, stray, dev="eth1")) == ["10.0.1.2:8080 > 10.0.0.2:1"]
    room.sysctl("net.ipv4.vs.nat_icmp_send", 1)
    steps = came(room, stray, dev="eth1")
    assert icmp_of(sent(steps, "eth1")[0]).code == PORT_UNREACH and not sent(steps, "eth0")


@pytest.mark.parametrize(
    ("one_", "name"),
    [
        (service(scheduler="mh"), "ipvs scheduler mh of -t 10.96.0.1:80"),
        (service(engine="sip"), "ipvs persistence engine sip of -t 10.96.0.1:80"),
        (service(WEB, FIRST._replace(forward="Route")), "ipvs forwarding method Route of 10.0.1.2:8080"),
    ],
)
def test_what_is_not_modelled_is_named(one_: Any, name: str) -> None:
    steps = came(balancer(one_), tcp(CLIENT, VIP))
    assert unsupported(steps) == [name] and not sent(steps)


def test_sctp_to_a_service_is_not_modelled() -> None:
    room = balancer(service(Key(132, IPv4(VIP), 80)))
    packet = ip_packet(Ip(IPv4(CLIENT), IPv4(VIP), 132, 0), payload=20)
    assert unsupported(came(room, packet)) == ["ipvs protocol of --sctp-service 10.96.0.1:80"]


def test_a_connection_for_one_packet_leaves_nothing_behind() -> None:
    room = balancer(service(DNS, FIRST, SECOND_ONE, one_packet=True))
    room.conntrack = False
    targets = [went(came(room, udp(CLIENT, VIP)), "eth1")[0].split()[-1] for _ in range(2)]
    assert targets == ["10.0.1.3:8080", "10.0.1.2:8080"]
    assert not room.ipvs.conns.by_client


def test_the_conn_in_a_trace_stays_as_it_was() -> None:
    room = balancer()
    step = one(came(room, tcp(CLIENT, VIP)), "ipvs")
    came(room, tcp(CLIENT, VIP, flags="R"))
    assert isinstance(step.what, Balanced) and isinstance(step.what.conn, VsConn)
    assert step.what.conn.state == "SYN_RECV"


@pytest.mark.parametrize(
    ("words", "drops"),
    [
        ("--vproto 6 --vaddr 10.96.0.1 --vport 80", True),
        ("--ipvs", True),
        ("! --ipvs", False),
        ("--vport 81", False),
        ("! --vaddr 10.96.0.0/16", False),
        ("--vdir ORIGINAL --vmethod MASQ", True),
        ("--vportctl 80", False),
        ("! --vproto udp", True),
    ],
)
def test_rules_may_ask_for_the_virtual_service(words: str, drops: bool) -> None:
    room = balancer()
    iptables(room, "filter", f"-A OUTPUT -m ipvs {words} -j DROP")
    assert (reasons(came(room, tcp(CLIENT, VIP))) == [Reason.NETFILTER_DROP]) is drops


def test_what_ipvs_had_nothing_to_do_with_has_no_virtual_service() -> None:
    room = balancer()
    iptables(room, "filter", "-A OUTPUT -m ipvs --vproto 17 -j DROP")
    assert went(room.send(udp("0.0.0.0", "10.0.1.2", dport=53), 0), "eth1")


def answered(rule: str, chain: str) -> bool:
    """Whether a client's SYN and its server's answer pass a room with that base chain and that rule."""
    room = balancer()
    text = f"table ip t {{\nchain c {{\ntype filter hook {chain}; policy accept;\n{rule}\n}}\n}}"
    room.netfilter.nft = read_nft(text, "nft").tables
    answer = tcp("10.0.1.2", CLIENT, sport=8080, dport=40000, flags="SA")
    there = sent(came(room, tcp(CLIENT, VIP)), "eth1")
    return len(there) == 1 and len(sent(came(room, answer, dev="eth1"), "eth0")) == 1


@pytest.mark.parametrize(("chain", "rule", "passes"), [
    ("input priority 97", "tcp dport 80 drop", False), ("input priority 97", "tcp dport 8080 drop", True),
    ("input priority 101", "tcp dport { 80, 8080 } drop", True),  # it has been taken
    ("output priority -100", "tcp dport 8080 drop", False), ("output priority 0", "tcp dport 8080 drop", False),
    ("output priority 0", "tcp dport 80 drop", True),
    ("forward priority 98", "tcp sport 8080 drop", False), ("forward priority 101", "tcp sport 8080 drop", True),
    ("forward priority 101", "tcp sport 80 drop", False),
])  # fmt: skip
def test_base_chains_of_nftables_stand_before_and_behind_it(chain: str, rule: str, passes: bool) -> None:
    assert answered(rule, chain) == passes
