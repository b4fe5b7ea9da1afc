"""The client of a URL: it looks the name up, connects and asks. What it says divides its walk into exchanges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from packetwalk.addr import IPv4
from packetwalk.apps import http
from packetwalk.apps.dns import PORT as DNS_PORT
from packetwalk.apps.dns import reverse_name
from packetwalk.apps.program import Close, Connect, Exchange, Failed, Outcome, Program, Say
from packetwalk.apps.resolver import ADDRESSES, ResolvConf, Resolved, resolve
from packetwalk.hint import unknown

SCHEMES = ("http", "dns", "tcp")
PLAIN = "/?:@!$&'()*+,;=-._~%[]"  # characters of a path or query that stay as they are (RFC 3986 3.3, 3.4)
TYPES = ("A", "AAAA", "SRV", "PTR", "CNAME", "SOA", "TXT", "MX")


@dataclass(frozen=True)
class Url:
    """http://HOST[:PORT]/PATH, dns:NAME[?type=TYPE] (RFC 4501; dns://NAME, too), or tcp://HOST:PORT."""

    scheme: str
    host: str
    port: int = 0
    path: str = "/"
    type: str = ""

    @classmethod
    def parse(cls, text: str) -> Url:
        """ValueError, in one line, for a text that is none of these."""
        try:
            parts = urlsplit(text)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ValueError(f"{text!r} is no URL: {error}") from None
        if parts.scheme not in SCHEMES:
            raise ValueError(unknown("kind of URL", parts.scheme, SCHEMES))
        type = ""
        if parts.scheme == "dns":
            host = host or parts.path.lstrip("/").lower()
            type = parse_qs(parts.query).get("type", [""])[0].upper()
            if type and type not in TYPES:
                raise ValueError(f"{text!r}: {unknown('type of record', type, TYPES)}")
        if not host.isascii():
            raise ValueError(f"{text!r}: a name of ASCII letters was expected (RFC 5891 says which), not {host!r}")
        if not host:
            raise ValueError(f"{text!r}: a name was expected behind {parts.scheme}:")
        if parts.scheme == "tcp" and not port:
            raise ValueError(f"{text!r}: a port was expected behind the name")
        path = quote(f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}", safe=PLAIN)
        return cls(parts.scheme, host, port or {"http": http.PORT, "dns": DNS_PORT}.get(parts.scheme, 0), path, type)

    @property
    def addr(self) -> IPv4 | None:
        """The host, if it is an address."""
        try:
            return IPv4(self.host)
        except ValueError:
            return None


def fetch(url: Url, conf: ResolvConf) -> Program[None]:
    """Look the host up and do what the URL says. It ends with an Outcome, or without one where nothing came back."""
    name, types = url.host, (url.type,) if url.type else ADDRESSES
    if url.scheme == "dns":
        if url.type == "PTR" and url.addr is not None:
            name = f"{reverse_name(url.addr)}."
        found = yield from _looked_up(conf, name, types)
        if found.name in conf.hosts:  # nobody was asked
            yield Say(Outcome(f"{found.addresses[0]} in /etc/hosts"))
        return
    addr = url.addr
    addresses = (addr,) if addr is not None else (yield from _looked_up(conf, name, types)).addresses
    for addr in addresses:
        if (yield from _asked(url, addr)):
            return


def _looked_up(conf: ResolvConf, name: str, types: tuple[str, ...]) -> Program[Resolved]:
    found = yield from resolve(conf, name, types)
    if not found.found:
        yield Say(Outcome(f"{name}: {found.rcode if found.rcode != 'NOERROR' else 'no data'}", good=False))
    return found


def _asked(url: Url, addr: IPv4) -> Program[bool]:
    """Talk to one address; whether it could be reached."""
    about = f"http GET {url.path} of {url.host}" if url.scheme == "http" else f"tcp {url.host}:{url.port}"
    yield Say(Exchange(about, "tcp", addr, url.port))
    try:
        if url.scheme == "http":
            response: Any = yield from http.get(addr, url.port, url.host, url.path)
            told = f": {response.body.strip()}" if response.body.strip() else ""
            yield Say(Outcome(f"{response}{told}", good=response.status < 400))
            return True
        fd = yield Connect("tcp", addr, url.port)
        yield Say(Outcome("connected"))
        yield Close(fd)
        return True
    except Failed as error:
        yield Say(Outcome("timeout" if error.errno == "ETIMEDOUT" else error.errno, error.errno, good=False))
        return False
