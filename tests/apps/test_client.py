"""packetwalk.apps.client: which URLs there are."""

import pytest

from packetwalk.addr import IPv4
from packetwalk.apps.client import Url


@pytest.mark.parametrize(("text", "url"), [
    ("http://web.prod", Url("http", "web.prod", 80)),
    ("http://Web.prod:8080/a?b=c", Url("http", "web.prod", 8080, "/a?b=c")),
    ("http://10.96.1.1/", Url("http", "10.96.1.1", 80)),
    ("tcp://db:5432", Url("tcp", "db", 5432)),
    ("dns:web.prod?type=srv", Url("dns", "web.prod", 53, "web.prod?type=srv", "SRV")),
    ("dns://web.prod", Url("dns", "web.prod", 53)),
    ("http://web/a b/ä?q=%20", Url("http", "web", 80, "/a%20b/%C3%A4?q=%20")),
])  # fmt: skip
def test_urls(text: str, url: Url) -> None:
    assert Url.parse(text) == url


def test_an_address_needs_no_look_up() -> None:
    assert Url.parse("http://10.96.1.1").addr == IPv4("10.96.1.1")
    assert Url.parse("http://web").addr is None


@pytest.mark.parametrize(("text", "words"), [
    ("htp://web", "did you mean 'http'"), ("https://web", "kind of URL 'https'"), ("http://", "a name was expected"),
    ("http://wäb/", "ASCII letters"),
    ("tcp://db", "a port was expected"), ("http://web:99999", "is no URL"), ("dns:web?type=SRX", "did you mean 'SRV'"),
])  # fmt: skip
def test_what_is_no_url(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Url.parse(text)
