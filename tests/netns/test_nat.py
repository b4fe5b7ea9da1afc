"""NAT: the tuple a new connection gets, and packets rewritten to it and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packetwalk.addr import IPv4
from packetwalk.netns import nat
from packetwalk.netns.chooser import Seeded
from packetwalk.netns.conntrack import DST_NAT, ORIGINAL, REPLY, SRC_NAT, Conn, Conns, tuple_of
from packetwalk.netns.nat import Range, rewrite, translate, translate_error
from packetwalk.netns.nat_target import parse
from packetwalk.packet import (
    PROTO_ICMP,
    REDIRECT,
    TIME_EXCEEDED,
    Icmp,
    Ip,
    Packet,
    Slice,
    Udp,
    ip_packet,
    quoted,
    size,
)
from tests.netns.rooms import echo, ip_of, tcp, udp

A, B, C, T, U = (IPv4(f"10.0.0.{n}") for n in (1, 2, 3, 100, 101))
TO_T = Range(T, T)


class Fixed(Seeded):
    """Draws that number, whatever the range is."""

    def __init__(self, *ports: int) -> None:
        super().__init__()
        self.ports = iter(ports)

    def port(self, low: int, high: int) -> int:
        return next(self.ports)


def opened(packet: Packet) -> Conn:
    """The connection of a packet, not yet confirmed."""
    original = tuple_of(packet)
    reply = original and original.inverse()
    assert original is not None and reply is not None
    conn = Conn(original, reply)
    conn.expires = 10**12
    return conn


def masked(conns: Conns, packet: Packet, allowed: Range = TO_T, *draws: int, source: bool = True) -> Conn:
    """A connection set up by that range, and confirmed."""
    conn = opened(packet)
    nat.setup(conns, conn, allowed, Fixed(*draws), 0, source=source)
    assert conns.confirm(conn, 0)
    return conn


# -- which tuple -------------------------------------------------------------------------------------------------------


def test_the_port_is_kept_where_it_is_free() -> None:
    conn = masked(Conns(), udp(str(A), str(B), sport=40000))
    assert (conn.reply.dst, conn.reply.dport) == (T, 40000)
    assert conn.status & SRC_NAT and not conn.status & DST_NAT


def test_a_taken_port_is_replaced_by_a_drawn_one() -> None:
    conns = Conns()
    masked(conns, udp(str(A), str(B), sport=40000))
    assert masked(conns, udp(str(C), str(B), sport=40000), TO_T, 5000).reply.dport == 5000
    third = masked(conns, udp("10.0.0.4", str(B), sport=40000), TO_T, 5000)
    assert third.reply.dport == 5001, "the next one where that is taken, too"


def test_a_taken_port_matters_only_towards_the_same_destination() -> None:
    conns = Conns()
    masked(conns, udp(str(A), str(B)))
    assert masked(conns, udp(str(C), "10.0.0.9")).reply.dport == 40000


@pytest.mark.parametrize(("port", "low", "high"), [(400, 1, 511), (700, 600, 1023), (2000, 1024, 65535)])
def test_ports_stay_in_their_class(port: int, low: int, high: int) -> None:
    seen: list[tuple[int, int]] = []

    class Noted(Seeded):
        def port(self, low: int, high: int) -> int:
            seen.append((low, high))
            return low

    conns = Conns()
    masked(conns, udp(str(A), str(B), sport=port))
    nat.setup(conns, opened(udp(str(C), str(B), sport=port)), TO_T, Noted(), 0, source=True)
    assert seen == [(low, high)]


def test_one_source_keeps_its_mapping() -> None:
    conns = Conns()
    masked(conns, udp(str(C), str(B)))
    first = masked(conns, udp(str(A), str(B)), TO_T, 5000)
    second = masked(conns, udp(str(A), "10.0.0.9"))
    assert first.reply.dport == second.reply.dport == 5000


def test_random_ports_are_always_drawn() -> None:
    assert masked(Conns(), udp(str(A), str(B)), Range(T, T, random=True), 6000).reply.dport == 6000
    pinged = masked(Conns(), echo(str(A), str(B), ident=7), Range(T, T, random=True), 77)
    assert pinged.reply.sport == 77, "the id of an echo"


def test_a_null_binding_changes_the_port_only_where_the_replies_are_taken() -> None:
    conns = Conns()
    masked(conns, udp(str(A), str(B)))
    same = opened(udp(str(T), str(B)))
    nat.setup(conns, same, nat.null_binding(same, source=True), Fixed(5005), 0, source=True)
    assert (same.reply.dst, same.reply.dport) == (T, 5005)
    other = opened(udp(str(T), str(C)))
    assert not nat.setup(conns, other, nat.null_binding(other, source=True), Fixed(), 0, source=True)


def test_dnat_keeps_the_port_unless_one_is_given() -> None:
    assert masked(Conns(), tcp(str(A), str(B), dport=80), source=False).reply.sport == 80
    to = masked(Conns(), tcp(str(A), str(B), dport=80), Range(T, T, (8080, 8080)), source=False)
    assert (to.reply.src, to.reply.sport) == (T, 8080)
    assert masked(Conns(), tcp(str(A), str(B), dport=80), Range(T, T, (8080, 8090)), source=False).reply.sport == 8080


def test_a_port_in_the_range_stays() -> None:
    assert masked(Conns(), tcp(str(A), str(B), sport=3005), Range(T, T, (3000, 3010))).reply.dport == 3005


def test_a_shifted_range_keeps_the_distance() -> None:
    to = masked(Conns(), tcp(str(A), str(B), dport=5002), Range(T, T, (80, 90), offset_from=5000), source=False)
    assert to.reply.sport == 82


def test_a_full_range_gives_up_on_the_last_candidate() -> None:
    conns = Conns()
    masked(conns, udp(str(A), str(B)), Range(T, T, (5000, 5000)))
    late = opened(udp(str(C), str(B)))
    nat.setup(conns, late, Range(T, T, (5000, 5000)), Fixed(5000), 0, source=True)
    assert not conns.confirm(late, 0), "and the clash shows at the confirmation"


def test_of_several_addresses_one_is_kept_for_a_pair() -> None:
    def chosen(dst: str, *, persistent: bool) -> IPv4:
        return masked(Conns(), udp(str(A), dst), Range(T, IPv4("10.0.0.131"), persistent=persistent)).reply.dst

    assert all(T <= chosen(f"10.1.0.{n}", persistent=False) <= IPv4("10.0.0.131") for n in range(50))
    assert len({chosen(f"10.1.0.{n}", persistent=False) for n in range(50)}) > 1
    assert len({chosen(f"10.1.0.{n}", persistent=True) for n in range(50)}) == 1


def test_a_confirmed_connection_is_not_set_up_again() -> None:
    conns = Conns()
    conn = masked(conns, udp(str(A), str(B)))
    assert not nat.setup(conns, conn, Range(U, U), Fixed(), 0, source=True)
    assert conn.reply.dst == T


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", (A, A, None, -1)),
        ("10.0.0.1-10.0.0.3", (A, C, None, -1)),
        ("10.0.0.1:80", (A, A, (80, 80), -1)),
        ("10.0.0.1:80-90/5000", (A, A, (80, 90), 5000)),
        (":8080", (IPv4(0), IPv4(0), (8080, 8080), -1)),
    ],
)
def test_targets_are_read(text: str, expected: object) -> None:
    assert parse(text) == expected


# -- rewriting ---------------------------------------------------------------------------------------------------------


def test_only_the_side_that_was_set_up_is_rewritten() -> None:
    conn = masked(Conns(), udp(str(A), str(B), sport=40000), Range(T, T, (7, 7)))
    there = udp(str(A), str(B), sport=40000)
    assert translate(there, conn, ORIGINAL, source=False) is there
    out = translate(there, conn, ORIGINAL, source=True)
    assert tuple_of(out) == (T, B, 17, 7, 53)
    back = translate(udp(str(B), str(T), sport=53, dport=7), conn, REPLY, source=False)
    assert tuple_of(back) == (B, A, 17, 53, 40000)


def error(about: Packet, src: IPv4, dst: IPv4, type_: int = TIME_EXCEEDED) -> Packet:
    quote = Slice(about, 0, size(about))
    return ip_packet(Ip(src, dst, PROTO_ICMP, 0, 64), Icmp(type_), payload=quote)


def test_an_error_is_translated_inside_and_outside() -> None:
    """The client of a service hears of an error as if the service itself had sent it."""
    conn = masked(Conns(), udp(str(A), str(B), dport=53), Range(T, T, (5353, 5353)), source=False)
    behind = rewrite(udp(str(A), str(B), dport=53), conn.reply.inverse() or pytest.fail(), source=False)
    told = translate_error(error(behind, C, A), conn, REPLY, source=True)
    assert told is not None and (ip_of(told).src, ip_of(told).dst) == (B, A)
    assert (about := quoted(told)) is not None and tuple_of(about) == (A, B, 17, 40000, 53)


def test_the_quotation_of_a_first_fragment_is_translated_too() -> None:
    conn = masked(Conns(), udp(str(A), str(B), size=3000), Range(T, T, (7, 7)))
    whole = udp(str(T), str(B), sport=7, size=3000)
    first = Packet((ip_of(whole)._replace(len=1500, mf=True),), Slice(Packet(whole.headers[1:], 3000), 0, 1480))
    told = translate_error(error(first, C, T), conn, REPLY, source=False)
    assert told is not None and ip_of(told).dst == A
    about = quoted(told)
    assert about is not None and ip_of(about).src == A and isinstance(about.payload, Slice)
    head = about.payload.of.headers[0]
    assert isinstance(head, Udp) and (head.sport, head.dport) == (40000, 53)


def test_a_redirect_does_not_pass_nat_nor_a_connection_that_is_not_set_up() -> None:
    packet = udp(str(A), str(B))
    masqueraded = masked(Conns(), packet)
    nat.setup(Conns(), masqueraded, TO_T, Fixed(), 0, source=False)
    assert translate_error(error(packet, C, T, REDIRECT), masqueraded, REPLY, source=False) is None
    half = opened(packet)
    assert translate_error(error(packet, C, A, REDIRECT), half, REPLY, source=False) is None
    for source in (False, True):
        nat.setup(Conns(), half, nat.null_binding(half, source=source), Fixed(), 0, source=source)
    assert translate_error(error(packet, C, A, REDIRECT), half, REPLY, source=False) is not None


ports = st.integers(1, 65535)
addresses = st.integers(1, 0xDFFFFFFF).map(IPv4)


@given(addresses, addresses, ports, ports, addresses, addresses, ports, ports, st.booleans(), st.booleans())
def test_what_goes_there_and_back_is_as_it_was(
    src: IPv4, dst: IPv4, sport: int, dport: int, backend: IPv4, outside: IPv4, to: int, mask: int,
    dnat: bool, snat: bool,
) -> None:  # fmt: skip
    """Whatever NAT does to a request, its answer comes back from where the client sent it."""
    request = udp(str(src), str(dst), sport=sport, dport=dport)
    conn, draws = opened(request), Fixed(*range(1024, 2048))
    far = Range(backend, backend, (to, to)) if dnat else nat.null_binding(conn, source=False)
    nat.setup(Conns(), conn, far, draws, 0, source=False)
    near = Range(outside, outside, (mask, mask)) if snat else nat.null_binding(conn, source=True)
    nat.setup(Conns(), conn, near, draws, 0, source=True)
    out = translate(translate(request, conn, ORIGINAL, source=False), conn, ORIGINAL, source=True)
    seen = tuple_of(out)
    assert seen is not None
    answer = udp(str(seen.dst), str(seen.src), sport=seen.dport, dport=seen.sport)
    back = translate(translate(answer, conn, REPLY, source=False), conn, REPLY, source=True)
    assert tuple_of(back) == (dst, src, 17, dport, sport)
    assert tuple_of(answer) == conn.reply


@given(st.lists(st.tuples(st.integers(1, 6), ports), min_size=1, max_size=40, unique=True))
def test_no_two_connections_expect_the_same_answers(clients: list[tuple[int, int]]) -> None:
    conns, draws = Conns(), Seeded(1)
    for client, port in clients:
        conn = opened(udp(f"10.9.0.{client}", str(B), sport=port))
        nat.setup(conns, conn, TO_T, draws, 0, source=True)
        assert conns.confirm(conn, 0)
    assert len({c.reply for c in conns.all()}) == len(clients)


def test_a_device_that_goes_takes_what_was_masqueraded_behind_it_along() -> None:
    conns = Conns()
    for n, dev in enumerate(("eth0", "eth1", ""), 1):
        masked(conns, udp(str(A), f"10.1.0.{n}")).masq_dev = dev
    conns.device_gone("eth0")
    assert [c.masq_dev for c in conns.all()] == ["eth1", ""]
