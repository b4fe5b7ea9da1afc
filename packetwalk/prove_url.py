"""`packetwalk prove a http://web`: the look-ups and the request through a real kernel, by the same programs as here.

    proof = prove_url(network, "a", "http://web")
    print(proof)                         # kernel agrees: 200 OK: b saw 10.244.1.2; 1 look-up, 1 connection

Compared is what the client came to know: each question with its answer, and what the server says of whom it saw. Which
backend a kernel drew is found by trying the walks of all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from packetwalk.addr import IPv4
from packetwalk.apps.client import Url
from packetwalk.apps.client import fetch as client
from packetwalk.apps.program import Exchange, Outcome
from packetwalk.engine.branches import fetch_branches
from packetwalk.engine.fetch import resolver_of
from packetwalk.exchanges import Fetch
from packetwalk.network import Network


class UrlProof(NamedTuple):
    """What a client said in a real kernel, and in the walk that is most like it."""

    kernel: list[str]
    predicted: list[str]
    walk: Fetch

    @property
    def agrees(self) -> bool:
        """Whether both are the same, but for ports that a kernel draws."""
        return self.kernel == self.predicted

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        last = self.kernel[-1] if self.kernel else "nothing"
        yield f"kernel {'agrees' if self.agrees else 'differs'}: {last}; {self.walk.counts}"
        length = max(len(self.kernel), len(self.predicted))
        padded = (said + ["(nothing)"] * (length - len(said)) for said in (self.kernel, self.predicted))
        for ours, theirs in ((p, k) for k, p in zip(*padded, strict=True) if k != p):
            yield f"    kernel     {theirs}"
            yield f"    predicted  {ours}"

    def to_dict(self) -> dict[str, Any]:
        """The proof as JSON has it."""
        return {"url": self.walk.url, "agrees": self.agrees, "kernel": self.kernel, "predicted": self.predicted}


def prove_url(network: Network, src: str, url: str, *, cold: bool = False, hosts: Mapping[str, IPv4] | None = None,
              files: Path | None = None) -> UrlProof:  # fmt: skip
    """Build the network in this kernel, start its servers, follow the URL there, and compare what the client said.

    cold, hosts: as for `fetch`. Raises kernel.realise.MissingFeature and kernel.doors.Refused as `prove` does.
    """
    return prove_urls(network, [(src, url)], cold=cold, hosts=hosts, files=files)[0]


def prove_urls(network: Network, asked: Iterable[tuple[str, str]], *, cold: bool = False,
               hosts: Mapping[str, IPv4] | None = None, files: Path | None = None) -> list[UrlProof]:  # fmt: skip
    """The same for several (room, URL), one after another through one kernel."""
    from packetwalk.kernel.programs import Servers, follow
    from packetwalk.kernel.realise import realise

    asked = list(asked)
    kernel: list[list[str]] = []
    with realise(network, files) as real, Servers(real):
        for src, url in asked:
            room, conf = network.room_of(src), resolver_of(network, src, hosts)
            for _ in range(1 if cold else 2):  # warm: an unseen run before
                said = follow(real, room, client(Url.parse(url), conf))
            kernel.append(words(said))
    return [_proof(heard, fetch_branches(network, src, url, cold=cold, hosts=hosts))
            for heard, (src, url) in zip(kernel, asked, strict=True)]  # fmt: skip


def _proof(kernel: list[str], walks: Iterable[Fetch]) -> UrlProof:
    """The proof by the walk that draws as the kernel did; by the first one if none comes to the same."""
    first = None
    for walk in walks:
        first = first or walk
        if words(walk.said) == kernel:
            return UrlProof(kernel, kernel, walk)
    assert first is not None
    return UrlProof(kernel, words(first.said), first)


def words(said: Iterable[object]) -> list[str]:
    """What a client said, without the ports that a kernel draws."""
    return [re.sub(r"(saw [\d.]+):\d+", r"\1", str(what)) for what in said if isinstance(what, Exchange | Outcome)]
