"""packetwalk.netns.process: programs in rooms, over real packets between two of them."""

from dataclasses import dataclass
from typing import Any

import pytest

from packetwalk.addr import IPv4
from packetwalk.apps.program import CLIENT, Clock, Close, Connect, Failed, Peer, Program, Receive, Say, Send
from packetwalk.engine.sim import Simulation
from packetwalk.netns.device import Veth
from packetwalk.netns.namespace import Netns
from packetwalk.network import Network
from packetwalk.packet import Udp
from packetwalk.trace import Hop, Step
from tests.netns.rooms import M1, M2

A, B = IPv4("10.0.0.1"), IPv4("10.0.0.2")
MS = 1_000_000


@dataclass(frozen=True, eq=False)
class Shouter:
    """Answers in capitals, until the client has finished. It counts its clients."""

    def __str__(self) -> str:
        return "shouter"

    def serve(self, peer: Peer, memory: dict[object, object]) -> Program[None]:
        number = memory["clients"] = int(str(memory.get("clients", 0))) + 1
        yield Say(f"client {number} is {peer.proto} {peer.addr}, who asked {peer.local}:{peer.local_port}")
        while data := (yield Receive(CLIENT)):
            yield Send(CLIENT, data.upper())
            if peer.proto == "udp":
                return


def pair() -> Network:
    network = Network("pair")
    for name, addr, mac in (("a", A, M1), ("b", B, M2)):
        room = network.add(Netns(name))
        room.link_add("eth0", Veth(mac=mac))
        room.addr_add("eth0", f"{addr}/24")
    network.connect(("a", "eth0"), ("b", "eth0"))
    network["b"].listen(80, app=Shouter())
    return network


def run(network: Network, program: Program[Any], room: str = "a") -> tuple[list[str], list[Hop]]:
    """What all programs said, and every visit."""
    sim = Simulation(network)
    sim.program(room, lambda netns, now: netns.run(program, now))
    sim.run(60_000 * MS)
    sim.close()
    assert not sim.note
    return [str(step.what) for hop in sim.hops for step in hop.steps if step.stage == "program"], sim.hops


def talk(proto: str, *words: bytes, port: int = 80, to: IPv4 = B, timeout: int = 0) -> Program[None]:
    """Send each word and wait for its answer."""
    try:
        fd = yield Connect(proto, to, port)
        for word in words:
            yield Send(fd, word)
            answer = yield Receive(fd, timeout)
            yield Say(f"{len(answer)} bytes {answer[:12]!r}")
        yield Close(fd)
        yield Say("closed")
    except Failed as error:
        yield Say(error.errno)


@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_data_goes_there_and_back(proto: str) -> None:
    said, _ = run(pair(), talk(proto, b"hello"))
    assert said == [f"client 1 is {proto} 10.0.0.1, who asked 10.0.0.2:80", "5 bytes b'HELLO'", "closed"]


def test_a_connection_stays_open_for_more() -> None:
    said, hops = run(pair(), talk("tcp", b"one", b"two"))
    assert said[1:] == ["3 bytes b'ONE'", "3 bytes b'TWO'", "closed"]
    flags = [h.flags for hop in hops for s in hop.steps if s.stage == "receive" for h in s.packet.headers
             if type(h).__name__ == "Tcp"]  # fmt: skip
    assert sum("F" in f for f in flags) == 2, "both sides close: the server ends when it has read the end"


def test_more_than_a_segment_arrives_whole() -> None:
    data = bytes(range(256)) * 16

    def client() -> Program[None]:
        fd = yield Connect("tcp", B, 80)
        yield Send(fd, data)
        back = b""
        while len(back) < len(data):
            back += yield Receive(fd)
        yield Say(back == data.upper())

    said, _ = run(pair(), client())
    assert said[-1] == "True"


def test_a_datagram_that_is_fragmented_keeps_its_data() -> None:
    said, _ = run(pair(), talk("udp", b"x" * 4000))
    assert said[1] == f"4000 bytes {b'X' * 12!r}"


@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_nobody_listens(proto: str) -> None:
    said, _ = run(pair(), talk(proto, b"hello", port=81))
    assert said == ["ECONNREFUSED"], "a connected UDP socket hears of port unreachable, too"


def test_no_route_is_an_error_of_the_call() -> None:
    for proto in ("udp", "tcp"):
        assert run(pair(), talk(proto, b"hello", to=IPv4("10.9.9.9")))[0] == ["ENETUNREACH"]


def test_a_time_out_ends_the_wait_and_a_later_one_is_void() -> None:
    network = pair()
    network["b"].listen(82, app="")

    def client() -> Program[None]:
        quick = yield Connect("udp", B, 80)
        yield Send(quick, b"hello")
        yield Receive(quick, 50 * MS)
        before = yield Clock()
        mute = yield Connect("udp", B, 82)
        yield Send(mute, b"hello")
        try:
            yield Receive(mute, 200 * MS)
        except Failed as error:
            yield Say(f"{error.errno} after {((yield Clock()) - before) // MS} ms")

    assert run(network, client())[0][-1] == "ETIMEDOUT after 200 ms"


def test_a_connection_that_nobody_answers_times_out() -> None:
    network = pair()
    network.wires.clear()
    said, _ = run(network, talk("tcp", b"hello"))
    assert said == ["EHOSTUNREACH"]


def test_a_connected_socket_hears_only_its_peer() -> None:
    """The reply of another address finds no socket, as when a service's answer was not translated back."""
    network = pair()
    network["b"].addr_add("eth0", "10.0.0.3/24")

    @dataclass(frozen=True, eq=False)
    class Stranger:
        def serve(self, peer: Peer, memory: dict[object, object]) -> Program[None]:
            fd = yield Connect("udp", peer.addr, peer.port)
            yield Send(fd, b"guess who")

    network["b"].listen(83, app=Stranger(), protos=("udp",))
    said, hops = run(network, talk("udp", b"hello", port=83, timeout=100 * MS))
    assert said == ["ETIMEDOUT"]
    assert any(step.stage == "drop" and step.what.reason == "NO_SOCKET" for hop in hops for step in hop.steps)


def test_files_are_numbered_from_the_lowest_and_closed_at_the_end() -> None:
    network, numbers = pair(), []

    def client() -> Program[None]:
        for _ in range(2):
            numbers.append((yield Connect("udp", B, 80)))
        yield Close(numbers[0])
        numbers.append((yield Connect("udp", B, 80)))
        try:
            yield Send(7, b"")
        except Failed as error:
            numbers.append(error.errno)

    run(network, client())
    assert numbers == [0, 1, 0, "EBADF"]
    assert not [s for s in network["a"].sockets.bound.values() if not s.listening]


def test_what_a_server_keeps_is_kept_by_the_room_that_learned_it() -> None:
    network = pair()
    overlay = network.overlay()
    assert "client 1 " in run(overlay, talk("udp", b"x"))[0][0]
    assert "client 2 " in run(overlay.overlay(), talk("udp", b"x"))[0][0]
    assert "client 2 " in run(overlay, talk("udp", b"x"))[0][0], "an overlay does not learn into what it lies on"
    assert "client 1 " in run(network, talk("tcp", b"x"))[0][0]


def test_a_program_that_does_not_mind_an_error_ends() -> None:
    def client() -> Program[None]:
        fd = yield Connect("tcp", B, 81)
        yield Send(fd, b"never")

    said, _ = run(pair(), client())
    assert said == ["ends: ECONNREFUSED"]


def test_packets_carry_the_data_itself() -> None:
    _, hops = run(pair(), talk("udp", b"hello"))
    steps: list[Step] = [s for hop in hops for s in hop.steps if s.stage == "transmit"]
    payloads = [s.packet.payload for s in steps if isinstance(s.packet.headers[-1], Udp)]
    assert payloads == [b"hello", b"HELLO"]
