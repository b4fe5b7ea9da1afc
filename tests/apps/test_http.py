"""packetwalk.apps.http: server, client and proxy, played by hand."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from packetwalk.addr import IPv4
from packetwalk.apps.http import Backend, Proxy, Request, WebServer, get
from packetwalk.apps.program import CLIENT, Call, Connect, Failed, Peer, Receive, Send
from tests.apps.play import play, said

POD, OTHER = IPv4("10.244.1.2"), IPv4("10.244.2.2")
CUSTOMER = Peer("tcp", IPv4("203.0.113.10"), 40000, IPv4("192.168.56.11"), 80)
GET = b"GET /cart HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi\n"


class Wires:
    """What a client sends; what upstreams answer (b"": they close); who refuses."""

    def __init__(self, *requests: bytes, answers: tuple[bytes, ...] = (OK,), refusing: tuple[IPv4, ...] = ()) -> None:
        self.requests, self.answers, self.refusing = list(requests), list(answers), refusing
        self.sent: dict[int, bytes] = {}
        self.connected: list[tuple[IPv4, int]] = []

    def __call__(self, call: Call) -> object:
        if isinstance(call, Connect):
            self.connected.append((call.addr, call.port))
            return Failed("ECONNREFUSED") if call.addr in self.refusing else len(self.connected)
        if isinstance(call, Send):
            self.sent[call.fd] = self.sent.get(call.fd, b"") + call.data
        elif isinstance(call, Receive):
            queue = self.requests if call.fd == CLIENT else self.answers
            return queue.pop(0) if queue else b""
        return None


def test_a_server_tells_whom_it_saw() -> None:
    wires = Wires(GET[:10], GET[10:], GET)
    calls, _ = play(WebServer("b").serve(CUSTOMER, {}), wires)
    answer = wires.sent[CLIENT].decode()
    assert answer.count("HTTP/1.1 200 OK") == 2, "one connection carries several requests"
    assert "b saw 203.0.113.10:40000, forwarded for 1.2.3.4\n" in answer
    assert said(calls)[0].startswith("GET shop.example/cart x-forwarded-for 1.2.3.4")


def test_a_server_hangs_up_on_who_speaks_no_http() -> None:
    wires = Wires(b"\x00\x01 nonsense\r\n\r\n")
    play(WebServer("b").serve(CUSTOMER, {}), wires)
    assert wires.sent == {}


def test_a_client_asks_and_reads_the_whole_answer() -> None:
    wires = Wires(answers=(OK[:20], OK[20:]))
    _, response = play(get(POD, 8080, "web.prod", "/x"), wires)
    assert (response.status, response.body, str(response)) == (200, "hi\n", "200 OK")
    assert wires.sent[1].startswith(b"GET /x HTTP/1.1\r\nHost: web.prod:8080\r\n")


def test_a_client_of_something_else() -> None:
    try:
        play(get(POD, 80, "web", "/"), Wires(answers=(b"SSH-2.0\r\n\r\n",)))
    except Failed as error:
        assert error.errno == "EPROTO"
    else:
        raise AssertionError("it should have failed")


def proxy(*backends: Backend) -> Proxy:
    return Proxy("ingress", backends)


SHOP = Backend("shop.example", "/", "default/web", ((POD, 80), (OTHER, 80)))


def test_a_proxy_opens_its_own_connection_and_says_for_whom() -> None:
    wires = Wires(GET)
    play(proxy(SHOP).serve(CUSTOMER, {}), wires)
    passed = wires.sent[1].decode()
    assert wires.connected == [(POD, 80)] and wires.sent[CLIENT].endswith(b"hi\n")
    assert "X-Forwarded-For: 203.0.113.10\r\n" in passed and "1.2.3.4" not in passed
    assert "X-Forwarded-Host: shop.example\r\n" in passed and "X-Forwarded-Port: 80\r\n" in passed


def test_a_proxy_passes_a_body_and_odd_letters_on() -> None:
    wires = Wires(b"POST / HTTP/1.1\r\nHost: shop.example\r\nX-Name: \xe9\r\nContent-Length: 5\r\n\r\nhe", b"llo")
    play(proxy(SHOP).serve(CUSTOMER, {}), wires)
    assert wires.sent[1].startswith(b"POST / HTTP/1.1\r\n") and wires.sent[1].endswith(b"\r\n\r\nhello")
    assert b"X-Name: \xe9\r\n" in wires.sent[1] and wires.sent[CLIENT].endswith(b"hi\n")


def test_an_answer_to_head_has_no_body() -> None:
    wires = Wires(GET.replace(b"GET", b"HEAD"))
    play(WebServer("b").serve(CUSTOMER, {}), wires)
    assert wires.sent[CLIENT].startswith(b"HTTP/1.1 200 OK") and wires.sent[CLIENT].endswith(b"\r\n\r\n")


def test_a_proxy_takes_endpoints_in_turn_and_the_next_for_one_that_fails() -> None:
    memory: dict[object, object] = {}
    server = proxy(SHOP)
    used = []
    for _ in range(3):
        wires = Wires(GET)
        play(server.serve(CUSTOMER, memory), wires)
        used += [addr for addr, _ in wires.connected]
    assert used == [POD, OTHER, POD]
    wires = Wires(GET, refusing=(POD,))
    play(server.serve(CUSTOMER, {}), wires)
    assert [addr for addr, _ in wires.connected] == [POD, OTHER] and b"200 OK" in wires.sent[CLIENT]


def test_a_proxy_without_an_endpoint_or_a_rule() -> None:
    for backends, status in (
        ((SHOP._replace(endpoints=()),), b"503"), ((SHOP,), b"502"), ((SHOP._replace(host="other.example"),), b"404"),
    ):  # fmt: skip
        wires = Wires(GET, refusing=(POD, OTHER))
        play(proxy(*backends).serve(CUSTOMER, {}), wires)
        assert wires.sent[CLIENT].startswith(b"HTTP/1.1 " + status)


def test_the_longest_path_of_the_named_host_wins() -> None:
    cart = Backend("shop.example", "/cart", "default/cart", ((OTHER, 8080),))
    other = Backend("", "/cart/very/long", "default/any", ())
    for path, addr in ((b"/cart", OTHER), (b"/cart/1", OTHER), (b"/carts", POD)):
        wires = Wires(GET.replace(b"/cart", path))
        play(proxy(SHOP, cart, other).serve(CUSTOMER, {}), wires)
        assert wires.connected[0][0] == addr
    assert not other.takes(Request("GET", "/cart", ()))


@given(st.binary(max_size=60), st.integers(0, len(GET)), st.integers(0, 30))
def test_any_bytes_are_answered_or_hung_up_on(scrap: bytes, at: int, cut: int) -> None:
    for server in (WebServer("b"), proxy(SHOP)):
        with suppress(Failed):
            play(server.serve(CUSTOMER, {}), Wires(GET[:at] + scrap + GET[at + cut :]))
    with suppress(Failed):
        play(get(POD, 80, "web", "/"), Wires(answers=(OK[:at] + scrap + OK[at + cut :],)))
