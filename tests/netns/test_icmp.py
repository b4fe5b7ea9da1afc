"""ICMP at an end host: echoes answered, errors told to sockets, path MTUs and redirects learned and forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from packetwalk.addr import BROADCAST_MAC, IPv4
from packetwalk.netns.namespace import Netns
from packetwalk.netns.neighbour import Neighbour
from packetwalk.netns.socket import DO, DONT, PROBE, WANT, Delivery, Socket
from packetwalk.packet import (
    ECHO_REPLY,
    FRAG_NEEDED,
    HOST_UNREACH,
    NET_UNREACH,
    PKT_FILTERED,
    PORT_UNREACH,
    PROTO_ICMP,
    PROTO_TCP,
    PROTO_UDP,
    PROTO_UNREACH,
    REDIRECT,
    REDIRECT_HOST,
    TIME_EXCEEDED,
    UNREACHABLE,
    Icmp,
    Ip,
    Packet,
    Slice,
    ip_packet,
    size,
)
from packetwalk.trace import Reason, Step
from tests.netns.rooms import (
    M3,
    M4,
    SECOND,
    arps,
    echo,
    echo_reply,
    errnos,
    eth_of,
    frame,
    host,
    icmp_of,
    ip_of,
    is_at,
    of,
    one,
    reasons,
    sent,
    stages,
    tcp,
    timers,
    udp,
    unsupported,
)

OWN, GATEWAY, NEARER, FAR = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.9.9.9"


def pod(**sockets: Any) -> Netns:
    """10.0.0.1 on eth0 with the default route by 10.0.0.2, which is known; a raw ICMP socket with those settings."""
    room = host("pod", gateway=GATEWAY)
    room.neigh_add(GATEWAY, M3, "eth0")
    room.sockets.bind(Socket(PROTO_ICMP, 7, **sockets))
    return room


def error(
    type_: int, code: int, about: Packet, *, src: str = GATEWAY, mtu: int = 0, gateway: str = "0.0.0.0"
) -> Packet:
    """An ICMP error to us, as a frame from the gateway."""
    icmp = Icmp(type_, code, mtu=mtu, gateway=IPv4(gateway))
    quote = Slice(about, 0, min(size(about), 548))
    return frame(ip_packet(Ip(IPv4(src), IPv4(OWN), PROTO_ICMP, 0, 64), icmp, payload=quote))


def ping(room: Netns, *, size: int = 56, now: int = 0, dst: str = FAR) -> list[Step]:
    """Ping from that room; what is cut in two leaves in two turns."""
    steps = room.send(echo("0.0.0.0", dst, size=size, ttl=0), now, room.sockets.find(PROTO_ICMP, 7, 0))
    for rest in timers(steps, "resume"):
        steps += room.wake(rest, now)
    return steps


def too_big(room: Netns, mtu: int, *, now: int = 0, about: Packet | None = None) -> list[Step]:
    """Someone on the way to FAR says that only `mtu` bytes fit."""
    about = about or echo(OWN, FAR, size=1400, df=True)
    return room.receive("eth0", error(UNREACHABLE, FRAG_NEEDED, about, src="10.7.7.7", mtu=mtu), now)


def sizes(steps: list[Step]) -> list[tuple[int, bool]]:
    """(total length, DF) of every IP packet sent."""
    return [(ip_of(p).len, ip_of(p).df) for p in sent(steps)]


# -- echoes ------------------------------------------------------------------------------------------------------------


def test_an_echo_is_answered_with_a_header_of_our_own() -> None:
    """icmp_echo, icmp_push_reply: own TTL, no DF whatever the request had, an id, the same tos (real-kernel.md, 8)."""
    room = pod()
    steps = room.receive("eth0", frame(echo(GATEWAY, OWN, ttl=9, df=True, tos=0x28, ident=3, seq=4, size=100)), 0)
    (reply,) = sent(steps)
    ip = ip_of(reply)
    assert (ip.src, ip.dst, ip.ttl, ip.df, ip.tos, ip.len) == (IPv4(OWN), IPv4(GATEWAY), 64, False, 0x28, 128)
    assert ip.id and icmp_of(reply) == Icmp(ECHO_REPLY, 0, 3, 4) and reply.payload == 100


def test_the_reply_comes_from_the_address_that_was_asked() -> None:
    room = pod()
    room.addr_add("lo", "192.0.2.1/32")
    room.sysctl("net.ipv4.ip_default_ttl", 77)
    (reply,) = sent(room.receive("eth0", frame(echo(GATEWAY, "192.0.2.1")), 0))
    assert (str(ip_of(reply).src), ip_of(reply).ttl) == ("192.0.2.1", 77)


@pytest.mark.parametrize("ignored", [1, 0])
def test_an_echo_to_all(ignored: int) -> None:
    """icmp_echo_ignore_broadcasts; an answer comes from the address of the device (fib_compute_spec_dst)."""
    room = pod()
    room.sysctl("net.ipv4.icmp_echo_ignore_broadcasts", ignored)
    steps = room.receive("eth0", frame(echo(GATEWAY, "10.0.0.255"), BROADCAST_MAC), 0)
    assert [str(ip_of(p).src) for p in sent(steps)] == ([] if ignored else [OWN])
    assert bool(reasons(steps)) is bool(ignored)


def test_a_host_may_keep_silent() -> None:
    """icmp_echo_ignore_all: the request is taken, not dropped (icmp_echo returns SKB_NOT_DROPPED_YET)."""
    room = pod()
    room.sysctl("net.ipv4.icmp_echo_ignore_all", 1)
    steps = room.receive("eth0", frame(echo(GATEWAY, OWN)), 0)
    assert "icmp_echo_ignore_all" in str(one(steps, "consume").what)
    assert not reasons(steps) and not sent(steps)


def test_a_reply_goes_to_the_program_with_that_id() -> None:
    room = pod()
    steps = room.receive("eth0", frame(echo_reply(FAR, OWN, ident=7)), 0)
    assert one(steps, "deliver").what == Delivery("echo-reply", room.sockets.find(PROTO_ICMP, 7, 0))
    assert reasons(room.receive("eth0", frame(echo_reply(FAR, OWN, ident=8)), 0)) == [Reason.NO_SOCKET]


def test_other_icmp_is_said_not_to_be_modelled() -> None:
    packet = ip_packet(Ip(IPv4(GATEWAY), IPv4(OWN), PROTO_ICMP, 0, 64), Icmp(13), payload=12)
    assert unsupported(pod().receive("eth0", frame(packet), 0)) == ["icmp type 13"]


# -- errors for sockets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "code", "errno"),
    [
        (UNREACHABLE, NET_UNREACH, "ENETUNREACH"),
        (UNREACHABLE, HOST_UNREACH, "EHOSTUNREACH"),
        (UNREACHABLE, PROTO_UNREACH, "ENOPROTOOPT"),
        (UNREACHABLE, PORT_UNREACH, "ECONNREFUSED"),
        (UNREACHABLE, FRAG_NEEDED, "EMSGSIZE"),
        (UNREACHABLE, PKT_FILTERED, "EHOSTUNREACH"),
        (TIME_EXCEEDED, 0, "EHOSTUNREACH"),
    ],
)
def test_what_a_program_hears(type_: int, code: int, errno: str) -> None:
    """icmp_err_convert, __udp4_lib_err: to the socket whose packet is quoted, if it asked for errors."""
    room = pod()
    client = room.sockets.bind(Socket(PROTO_UDP, 40000, recverr=True))
    steps = room.receive("eth0", error(type_, code, udp(OWN, FAR), mtu=1400), 0)
    info = 1400 if code == FRAG_NEEDED and type_ == UNREACHABLE else 0
    assert one(steps, "deliver").what == Delivery("error", client, errno, info=info)


@pytest.mark.parametrize("about", [udp(OWN, FAR, sport=1), tcp(OWN, FAR, sport=1), echo(OWN, FAR, ident=1)])
def test_an_error_about_nobodys_packet_is_nobodys(about: Packet) -> None:
    steps = pod().receive("eth0", error(UNREACHABLE, PORT_UNREACH, about), 0)
    assert stages(steps)[-1] == "consume" and not of(steps, "deliver")


def test_a_udp_program_that_did_not_ask_hears_nothing() -> None:
    """__udp4_lib_err: without IP_RECVERR only a connected socket is told of hard errors."""
    room = pod()
    room.sockets.bind(Socket(PROTO_UDP, 40000))
    assert not of(room.receive("eth0", error(UNREACHABLE, PORT_UNREACH, udp(OWN, FAR)), 0), "deliver")


# -- path MTU ----------------------------------------------------------------------------------------------------------

SENT: dict[str, tuple[list[tuple[int, bool]], list[tuple[int, bool]]]] = {
    WANT: ([(1228, True)], [(1196, False), (52, False)]),
    DO: ([(1228, True)], []),
    DONT: ([(1228, False)], [(1196, False), (52, False)]),
    PROBE: ([(1228, True)], [(1228, True)]),
}


@pytest.mark.parametrize("mode", SENT)
def test_what_a_socket_does_with_a_path_mtu(mode: str) -> None:
    """IP_MTU_DISCOVER (real-kernel.md, fact 12): WANT and DONT cut, DO refuses, PROBE knows better."""
    before, after = SENT[mode]
    room = pod(pmtudisc=mode)
    assert sizes(ping(room, size=1200)) == before
    one(too_big(room, 1200), "learn")
    steps = ping(room, size=1200)
    assert sizes(steps) == after and errnos(steps) == ([] if after else ["EMSGSIZE"])


def test_a_packet_that_fits_the_path_carries_df_again() -> None:
    """ip_dont_fragment: WANT sets DF on all that is not cut."""
    room = pod(pmtudisc=WANT)
    too_big(room, 1200)
    assert sizes(ping(room, size=1172)) == [(1200, True)] and sizes(ping(room, size=1173))[0] == (1196, False)


@pytest.mark.parametrize(("mode", "errno"), [(DO, "EMSGSIZE"), (PROBE, "EMSGSIZE"), (WANT, ""), (DONT, "")])
def test_the_device_limits_all(mode: str, errno: str) -> None:
    """ip_append_data: 1500 bytes for DO and PROBE; the others are cut."""
    steps = ping(pod(pmtudisc=mode), size=2000)
    assert errnos(steps) == ([errno] if errno else []) and len(sent(steps)) == (0 if errno else 2)


def test_a_path_mtu_is_learned_for_one_destination() -> None:
    """struct fib_nh_exception, by destination."""
    room = pod(pmtudisc=DO)
    too_big(room, 1200)
    assert errnos(ping(room, size=1300)) == ["EMSGSIZE"] and not errnos(ping(room, size=1300, dst="10.9.9.8"))


def test_it_is_forgotten_after_ten_minutes() -> None:
    """net.ipv4.route.mtu_expires: 600 s."""
    room = pod(pmtudisc=DO)
    too_big(room, 1200, now=SECOND)
    assert errnos(ping(room, size=1300, now=600 * SECOND)) == ["EMSGSIZE"]
    assert not errnos(ping(room, size=1300, now=601 * SECOND))


def test_a_path_never_grows_by_an_error() -> None:
    """__ip_rt_update_pmtu: old_mtu < mtu teaches nothing; an equal one renews the ten minutes."""
    room = pod(pmtudisc=DO)
    too_big(room, 1200)
    assert not of(too_big(room, 1300), "learn") and not of(too_big(room, 1501), "learn")
    assert errnos(ping(room, size=1300)) == ["EMSGSIZE"]
    one(too_big(room, 1200, now=500 * SECOND), "learn")
    assert errnos(ping(room, size=1300, now=1000 * SECOND)) == ["EMSGSIZE"]


@pytest.mark.parametrize(("mode", "df"), [(WANT, False), (DO, True)])
def test_below_min_pmtu_the_path_is_not_probed_any_more(mode: str, df: bool) -> None:
    """net.ipv4.route.min_pmtu 552, mtu_locked: only who insists on DF still sets it; and nothing is learned on top."""
    room = pod(pmtudisc=mode)
    assert "locked" in str(one(too_big(room, 300), "learn").what)
    assert sizes(ping(room, size=500)) == [(528, df)]
    assert not of(too_big(room, 200), "learn")


@pytest.mark.parametrize(("value", "learned"), [(0, "path mtu 1200"), (1, "path mtu 552 locked"), (2, "")])
def test_ip_no_pmtu_disc(value: int, learned: str) -> None:
    """icmp_unreach: 1 takes any such error for a call to cut, 2 ignores it."""
    room = pod()
    room.sysctl("net.ipv4.ip_no_pmtu_disc", value)
    told = [str(s.what) for s in of(too_big(room, 1200), "learn")]
    assert [t.removesuffix(f" to {FAR}") for t in told] == ([learned] if learned else [])


@pytest.mark.parametrize(
    ("about", "teaches"),
    [
        (echo(OWN, FAR, ident=7), True),
        (echo(OWN, FAR, ident=8), False),  # nobody sent that
        (echo_reply(OWN, FAR, ident=8), True),  # the kernel itself did
        (udp(OWN, FAR, sport=53), True),
        (udp(OWN, FAR, sport=54), False),
        (tcp(OWN, FAR, sport=40000), False),
    ],
)
def test_only_who_sent_can_be_taught(about: Packet, teaches: bool) -> None:
    """icmp_err, raw_err, __udp4_lib_err, tcp_v4_err: no forged error about a packet that nobody sent."""
    room = pod()
    room.sockets.bind(Socket(PROTO_UDP, 53))
    room.sockets.bind(Socket(PROTO_TCP, 40000, listening=True))
    assert bool(of(too_big(room, 1200, about=about), "learn")) is teaches


# -- redirects ---------------------------------------------------------------------------------------------------------


def redirected(room: Netns, gateway: str = NEARER, *, src: str = GATEWAY, now: int = 0, ident: int = 7) -> list[Step]:
    """A router says that `gateway` is nearer to FAR."""
    packet = error(REDIRECT, REDIRECT_HOST, echo(OWN, FAR, ident=ident), src=src, gateway=gateway)
    return room.receive("eth0", packet, now)


def acquainted(**conf: int) -> Netns:
    """A pod that knows the MAC of 10.0.0.3, too, and has those net.ipv4.conf settings on eth0 and `all`."""
    room = pod()
    room.neigh_add(NEARER, M4, "eth0")
    for key, value in conf.items():
        for dev in ("all", "eth0"):
            room.sysctl(f"net.ipv4.conf.{dev}.{key}", value)
    return room


def test_a_redirect_is_followed_for_five_minutes() -> None:
    """__ip_do_redirect: an exception for one destination; net.ipv4.route.gc_timeout (checked on 6.18)."""
    room = acquainted()
    one(redirected(room), "learn")
    assert eth_of(sent(ping(room, now=299 * SECOND))[0]).dst == M4
    assert eth_of(sent(ping(room, dst="10.9.9.8"))[0]).dst == M3
    assert eth_of(sent(ping(room, now=300 * SECOND))[0]).dst == M3


def test_first_the_new_gateway_must_be_known() -> None:
    """__ip_do_redirect, neigh_event_send: it is asked for, and only the next redirect counts (checked on 6.18)."""
    room = pod()
    steps = redirected(room)
    assert [(a.tpa, a.spa) for a in arps(sent(steps))] == [(IPv4(NEARER), IPv4(OWN))] and not of(steps, "learn")
    assert not sent(redirected(room))  # it is being asked for already
    room.receive("eth0", is_at(NEARER, M4), 0)
    one(redirected(room), "learn")
    assert eth_of(sent(ping(room))[0]).dst == M4
    room.neighbours.put(Neighbour(IPv4("10.0.0.4"), "eth0", None, "FAILED"))
    assert arps(sent(redirected(room, "10.0.0.4", src=NEARER)))


def test_after_a_redirect_the_new_gateway_may_redirect() -> None:
    """Only the gateway in use is listened to."""
    room = acquainted()
    room.neigh_add("10.0.0.4", M3, "eth0")
    redirected(room)
    assert not of(redirected(room, "10.0.0.4", src=GATEWAY), "learn")
    one(redirected(room, "10.0.0.4", src=NEARER), "learn")


@pytest.mark.parametrize(
    "case",
    [
        {"src": "10.0.0.9"},  # not our gateway
        {"gateway": OWN},
        {"gateway": GATEWAY},
        {"gateway": "224.0.0.1"},
        {"gateway": "127.0.0.1"},
        {"gateway": "0.0.0.0"},
        {"gateway": "255.255.255.255"},
        {"ident": 8},  # about a packet that nobody sent
    ],
)
def test_redirects_that_are_not_believed(case: dict[str, Any]) -> None:
    room = acquainted()
    steps = redirected(room, **case)
    assert stages(steps)[-1] == "consume" and not of(steps, "learn") and not sent(steps)
    assert eth_of(sent(ping(room))[0]).dst == M3


@pytest.mark.parametrize(
    ("everyone", "own", "host_follows", "router_follows"),
    [(1, 1, True, True), (1, 0, True, False), (0, 1, True, False), (0, 0, False, False)],
)
def test_accept_redirects(everyone: int, own: int, host_follows: bool, router_follows: bool) -> None:
    """IN_DEV_RX_REDIRECTS: a host needs one of `all` and the device, a router both."""
    for forwarding, follows in ((0, host_follows), (1, router_follows)):
        room = acquainted()
        room.sysctl("net.ipv4.ip_forward", forwarding)
        room.sysctl("net.ipv4.conf.all.accept_redirects", everyone)
        room.sysctl("net.ipv4.conf.eth0.accept_redirects", own)
        assert bool(of(redirected(room), "learn")) is follows


@pytest.mark.parametrize(("shared_media", "follows"), [(1, True), (0, False)])
def test_without_shared_media_only_gateways_of_our_subnet(shared_media: int, follows: bool) -> None:
    """inet_addr_onlink; with shared_media another subnet on the same wire will do (checked on 6.18)."""
    room = acquainted(shared_media=shared_media, secure_redirects=0)
    room.neigh_add("10.1.0.1", M4, "eth0")
    assert bool(of(redirected(room, "10.1.0.1"), "learn")) is follows


@pytest.mark.parametrize(("secure", "known", "follows"), [(1, False, False), (1, True, True), (0, False, True)])
def test_secure_redirects_want_a_router_that_some_route_names(secure: int, known: bool, follows: bool) -> None:
    """ip_fib_check_default, asked only without shared_media (checked on 6.18)."""
    room = acquainted(shared_media=0, secure_redirects=secure)
    if known:
        room.route_add("172.16.0.0/12", via=NEARER)
    assert bool(of(redirected(room), "learn")) is follows
