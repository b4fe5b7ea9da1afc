"""Connections of IPVS: their states, how long they live, what ipvsadm -Lnc prints."""

import pytest

from packetwalk.addr import IPv4
from packetwalk.netns.ipvs_conn import SECOND, TIMEOUTS, Client, VsConn, VsConns
from packetwalk.packet import Tcp
from tests.netns.balancer import VIP, WEB


def conn(cport: int = 40000, proto: int = 6) -> VsConn:
    return VsConn(Client(proto, IPv4("10.0.0.2"), cport, IPv4(VIP), 80), IPv4("10.0.1.2"), 8080, WEB)


def followed(*segments: str) -> str:
    """The state after segments: `>S` to the server, `<SA` from it."""
    one = conn()
    for segment in segments:
        one.follow(Tcp(1, 2, segment[1:]), "input" if segment[0] == ">" else "output")
    return one.state


@pytest.mark.parametrize(
    ("segments", "state"),
    [
        ([">S"], "SYN_RECV"),
        ([">S", "<SA"], "SYN_RECV"),
        ([">S", "<SA", ">A"], "ESTABLISHED"),
        ([">S", "<SA", ">A", ">FA"], "CLOSE_WAIT"),
        ([">S", "<SA", ">A", "<FA"], "FIN_WAIT"),
        ([">S", "<SA", ">A", ">FA", "<FA"], "TIME_WAIT"),
        ([">S", "<RA"], "CLOSE"),
        ([">S", "<SA", ">A", ">R"], "CLOSE"),
    ],
)
def test_states_follow_both_directions(segments: list[str], state: str) -> None:
    assert followed(*segments) == state


def test_a_datagram_makes_it_a_udp_connection() -> None:
    one = conn(proto=17)
    one.follow(None, "input")
    assert (one.state, one.timeout) == ("UDP", 300 * SECOND)


def test_each_state_has_its_time() -> None:
    one = conn()
    one.follow(Tcp(1, 2, "S"), "input")
    assert one.timeout == TIMEOUTS["SYN_RECV"] * SECOND


def test_what_is_over_is_forgotten_and_the_newest_answers() -> None:
    conns, first, second = VsConns(), conn(1), conn(2)
    first.timeout, second.timeout = 5 * SECOND, 10 * SECOND
    conns.add(first, 0)
    conns.add(second, 0)
    assert conns.expire(4 * SECOND) == []
    assert conns.expire(5 * SECOND) == [first]
    assert list(conns.by_client.values()) == [second]
    conns.touch(second, 9 * SECOND)
    assert conns.expire(18 * SECOND) == []
    assert conns.expire(19 * SECOND) == [second]
    assert not conns.by_server


def test_a_template_outlives_what_it_controls() -> None:
    conns, template, one = VsConns(), conn(0), conn()
    template.template, template.timeout, one.control = True, SECOND, template
    conns.add(template, 0)
    one.timeout = 30 * SECOND
    conns.add(one, 0)
    assert conns.expire(SECOND) == []
    assert template.expires == 61 * SECOND
    assert conns.expire(30 * SECOND) == [one]
    assert conns.expire(61 * SECOND) == [template]


def test_ipvsadm_lists_them() -> None:
    conns, one = VsConns(), conn()
    one.follow(Tcp(1, 2, "S"), "input")
    conns.add(one, 0)
    assert conns.listing(SECOND) == [
        "IPVS connection entries",
        "pro expire state       source             virtual            destination",
        "TCP 00:59  SYN_RECV    10.0.0.2:40000     10.96.0.1:80       10.0.1.2:8080",
    ]


def test_a_copy_of_the_table_keeps_templates_with_their_connections() -> None:
    conns, template, one = VsConns(), conn(0), conn()
    template.template, one.control = True, template
    conns.add(template, 0)
    conns.add(one, 0)
    copy = conns.overlay()
    twin = copy.by_client[one.client]
    assert twin is not one and twin.control is copy.by_client[template.client]
    copy.remove(twin)
    assert template.controls == 1 and one.client in conns.by_client
