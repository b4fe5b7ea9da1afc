"""What `walk` does where the destination is a URL: look-ups, a connection, a request, each with its walk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from packetwalk.cli.options import BadInput, known

if TYPE_CHECKING:
    from packetwalk.addr import IPv4
    from packetwalk.exchanges import Fetch
    from packetwalk.network import Network

ResolveOption = Annotated[
    list[str] | None,
    typer.Option("--resolve", metavar="NAME=ADDR", help="With a URL: as if /etc/hosts said so; repeatable."),
]


def is_url(dst: str, resolve: Iterable[str] | None) -> bool:
    """Whether a destination is a URL: http://web.prod, tcp://db:5432, dns:web.prod. BadInput for --resolve without."""
    if "://" in dst or dst.startswith("dns:"):
        return True
    if resolve:
        raise BadInput(f"--resolve is for a URL, such as http://{dst}")
    return False


def follow(network: Network, src: str, url: str, resolve: Iterable[str] | None, unfit: Mapping[str, object], *,
           cold: bool, costs: Mapping[str, int]) -> Fetch:  # fmt: skip
    """Follow a URL from a room. unfit: options of a single packet, which are refused."""
    from packetwalk.engine.fetch import fetch

    check_url(network, src, url, unfit)
    try:
        hosts = dict(_host(network, line) for line in resolve or ())
        return fetch(network, src, url, cold=cold, costs=costs, hosts=hosts)
    except (KeyError, ValueError) as error:
        raise BadInput(str(error.args[0])) from None


def check_url(network: Network, src: str, url: str, unfit: Mapping[str, object]) -> None:
    """BadInput for a room or URL that cannot be, and for options that only a single packet has."""
    from packetwalk.apps.client import Url

    known(src, (*network.rooms, *network.programs), "room")
    for name, value in unfit.items():
        if value not in (None, False):
            raise BadInput(f"--{name} is for a single walk; {url} takes several")
    try:
        Url.parse(url)
    except ValueError as error:
        raise BadInput(str(error)) from None


def _host(network: Network, line: str) -> tuple[str, IPv4]:
    """NAME=ADDR, where a room's name may stand for its address."""
    from packetwalk.engine.walk import destination

    name, equals, addr = line.partition("=")
    if not (name and equals and addr):
        raise BadInput(f"--resolve {line!r}: NAME=ADDR was expected")
    try:
        return name.lower(), destination(network, addr)
    except (KeyError, ValueError) as error:
        raise BadInput(f"--resolve {line!r}: {error.args[0]}") from None
