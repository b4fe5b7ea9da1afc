"""Virtual services: how they are found and printed, and whose turn it is under each scheduler."""

from dataclasses import replace

import pytest

from packetwalk.addr import IPv4
from packetwalk.netns.ipvs import Ipvs, RealServer, VirtualService
from packetwalk.netns.ipvs_conn import Client, Key, VsConn
from packetwalk.packet import PROTO_TCP, PROTO_UDP
from tests.netns.balancer import DNS, FIRST, SECOND_ONE, VIP, WEB, service


def table(*services: VirtualService) -> Ipvs:
    ipvs = Ipvs()
    for one in services:
        ipvs.add(one)
    return ipvs


def weighed(*weights: int, scheduler: str = "rr", **options: object) -> tuple[Ipvs, VirtualService]:
    """Servers 10.0.1.1, 10.0.1.2, ... in the order the kernel lists them: the last one added comes first."""
    servers = [RealServer(IPv4(f"10.0.1.{n}"), 80, w) for n, w in enumerate(weights, 1)]
    one = service(WEB, *reversed(servers), scheduler=scheduler, **options)
    return table(one), one


def turns(ipvs: Ipvs, one: VirtualService, n: int, src: str = "10.0.0.9") -> list[int]:
    """The last octets of the servers that come next."""
    found = [ipvs.schedule(one, IPv4(src), 40000) for _ in range(n)]
    return [int(s.addr) & 0xFF if s is not None else 0 for s in found]


def busy(ipvs: Ipvs, one: VirtualService, server: int, *states: str) -> None:
    """Connections of a server in those states."""
    for n, state in enumerate(states):
        client = Client(6, IPv4(0x0A000000 + server * 1000 + n), 1, IPv4(VIP), 80)
        conn = VsConn(client, IPv4(f"10.0.1.{server}"), 80, one.key)
        conn.state = state
        ipvs.conns.add(conn, 0)


def test_rr_takes_each_in_turn_and_leaves_out_the_weightless() -> None:
    assert turns(*weighed(1, 1, 1), 5) == [1, 2, 3, 1, 2]
    assert turns(*weighed(1, 0, 1), 4) == [1, 3, 1, 3]
    assert turns(*weighed(0, 0), 1) == [0]


def test_wrr_gives_the_heavy_their_rounds_first() -> None:
    assert turns(*weighed(4, 3, 2, scheduler="wrr"), 9) == [1, 1, 2, 1, 2, 3, 1, 2, 3]
    assert turns(*weighed(2, 4, scheduler="wrr"), 6) == [2, 1, 2, 2, 1, 2]
    assert turns(*weighed(0, 5, scheduler="wrr"), 2) == [2, 2]
    assert turns(*weighed(0, scheduler="wrr"), 1) == [0]


def test_lc_counts_an_established_connection_as_256_others() -> None:
    ipvs, one = weighed(1, 1, scheduler="lc")
    busy(ipvs, one, 1, "ESTABLISHED")
    busy(ipvs, one, 2, *["TIME_WAIT"] * 255)
    assert turns(ipvs, one, 1) == [2]
    busy(ipvs, one, 2, *["TIME_WAIT"] * 257)
    assert turns(ipvs, one, 1) == [1]


def test_wlc_divides_by_the_weight() -> None:
    ipvs, one = weighed(1, 3, 0, scheduler="wlc")
    busy(ipvs, one, 1, "ESTABLISHED")
    busy(ipvs, one, 2, "ESTABLISHED", "ESTABLISHED")
    assert turns(ipvs, one, 1) == [2]
    busy(ipvs, one, 2, "ESTABLISHED", "ESTABLISHED", "ESTABLISHED", "ESTABLISHED")
    assert turns(ipvs, one, 1) == [1]


def test_sh_keeps_a_client_with_its_server() -> None:
    ipvs, one = weighed(1, 1, 1, scheduler="sh")
    chosen = {src: turns(ipvs, one, 3, f"10.0.0.{src}") for src in range(1, 40)}
    assert all(len(set(each)) == 1 for each in chosen.values())
    assert {each[0] for each in chosen.values()} == {1, 2, 3}


def test_sh_follows_the_kernels_hash() -> None:
    """hash_32(10.0.0.1, 8) and its place among 256 buckets, dealt out in turn."""
    ipvs, one = weighed(1, 1, scheduler="sh")
    bucket = (0x0A000001 * 0x61C88647 & 0xFFFFFFFF) >> 24
    assert turns(ipvs, one, 1, "10.0.0.1") == [bucket % 2 + 1]


def test_sh_without_its_server_refuses_or_falls_back() -> None:
    ipvs, one = weighed(1, 0, scheduler="sh")
    mute = next(n for n in range(1, 99) if turns(ipvs, one, 1, f"10.0.0.{n}") == [0])
    ipvs, one = weighed(1, 0, scheduler="sh", flags=("sh-fallback",))
    assert turns(ipvs, one, 1, f"10.0.0.{mute}") == [1]


def test_a_service_is_found_by_mark_then_port_then_address() -> None:
    marked = service(Key(mark=7))
    anyport = service(Key(PROTO_TCP, IPv4(VIP), 0), persistent=300)
    ipvs = table(service(), marked, anyport)
    assert ipvs.find(PROTO_TCP, IPv4(VIP), 80, 7) is marked
    assert ipvs.find(PROTO_TCP, IPv4(VIP), 80, 0x4000) == service()
    assert ipvs.find(PROTO_TCP, IPv4(VIP), 81, 0) is anyport
    assert ipvs.find(PROTO_UDP, IPv4(VIP), 80, 0) is None


def test_saved_and_listed_as_ipvsadm_prints_them() -> None:
    sticky = service(DNS, replace_weight(FIRST, 3), SECOND_ONE, scheduler="sh", persistent=10800,
                     netmask=IPv4("255.255.255.0"), flags=("sh-port",), one_packet=True)  # fmt: skip
    ipvs = table(sticky, service(Key(mark=9), replace_forward(FIRST, "Route")))
    assert str(ipvs).splitlines() == [
        "-A -u 10.96.0.1:53 -s sh -p 10800 -M 255.255.255.0 -o -b sh-port",
        "-a -u 10.96.0.1:53 -r 10.0.1.2:8080 -m -w 3",
        "-a -u 10.96.0.1:53 -r 10.0.1.3:8080 -m -w 1",
        "-A -f 9 -s rr",
        "-a -f 9 -r 10.0.1.2:8080 -g -w 1",
    ]
    assert [line.rstrip() for line in ipvs.listing()[3:]] == [
        "UDP  10.96.0.1:53 sh (sh-port) persistent 10800 mask 255.255.255.0 ops",
        "  -> 10.0.1.2:8080                Masq    3      0          0",
        "  -> 10.0.1.3:8080                Masq    1      0          0",
        "FWM  9 rr",
        "  -> 10.0.1.2:8080                Route   1      0          0",
    ]


def replace_weight(server: RealServer, weight: int) -> RealServer:
    return server._replace(weight=weight)


def replace_forward(server: RealServer, forward: str) -> RealServer:
    return server._replace(forward=forward)


def test_ipvsadm_sorts_by_a_difference_of_32_bits() -> None:
    """As the recorded node lists them: 192.168 before 10.96 before 10.244."""
    keys = [Key(PROTO_TCP, IPv4(a), 80) for a in ("10.244.1.0", "10.96.0.100", "192.168.56.11")]
    assert [str(s.key.addr) for s in table(*map(service, keys)).sorted()] == [
        "192.168.56.11", "10.96.0.100", "10.244.1.0"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (service(), "there is a virtual service -t 10.96.0.1:80 already"),
        (service(Key(PROTO_TCP, IPv4(VIP), 0)), "port 0 is for persistent services only"),
    ],
)
def test_what_the_kernel_refuses(one: VirtualService, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table(service(), one)


def test_servers_are_added_to_a_service_that_is_there_once_each() -> None:
    ipvs = table(replace(service(), servers=()))
    ipvs.add_server(WEB, FIRST)
    assert ipvs.services[WEB].servers == (FIRST,)
    with pytest.raises(ValueError, match=r"has a real server 10\.0\.1\.2:8080 already"):
        ipvs.add_server(WEB, FIRST)
    with pytest.raises(ValueError, match=r"no virtual service -u 10\.96\.0\.1:53; did you mean '-t 10\.96\.0\.1:80'"):
        ipvs.add_server(DNS, FIRST)


def test_an_overlay_takes_turns_of_its_own() -> None:
    ipvs, one = weighed(1, 1)
    walk = ipvs.overlay()
    assert turns(walk, one, 1) == [1]
    assert turns(ipvs, one, 1) == [1]
    busy(walk, one, 1, "ESTABLISHED")
    assert not ipvs.conns.by_client and walk.conns.by_client
