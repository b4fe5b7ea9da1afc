"""`fetch`: a client in a room follows a URL: its look-ups, its connection, its request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from packetwalk.addr import ANY, IPv4
from packetwalk.apps.client import Url
from packetwalk.apps.client import fetch as client
from packetwalk.apps.program import Exchange, Outcome
from packetwalk.apps.resolver import ResolvConf
from packetwalk.engine.costs import DEFAULT_COSTS
from packetwalk.engine.sim import MAX_EVENTS, Cause, Simulation
from packetwalk.engine.walk import SECOND, TIMEOUT, Named, warm_up
from packetwalk.exchanges import Fetch
from packetwalk.netns.chooser import Scripted
from packetwalk.network import Network
from packetwalk.packet import Tcp, Udp
from packetwalk.trace import Flow, Hop, Result, Trace, Unsupported


def fetch(network: Network, src: str | Named, url: str, *, cold: bool = False, hosts: Mapping[str, IPv4] | None = None,
          costs: Mapping[str, int] = DEFAULT_COSTS, chooser: Scripted | None = None, until: int = TIMEOUT,
          max_events: int = MAX_EVENTS) -> Fetch:  # fmt: skip
    """Follow `http://NAME[:PORT]/PATH`, `tcp://NAME:PORT` or `dns:NAME[?type=TYPE]` from a room.

    The name is looked up as the room's /etc/resolv.conf says, query by query; hosts is what its /etc/hosts knows, too.
    The network is not changed; cold, costs, chooser, until and max_events are as for `walk`. KeyError or ValueError, in
    one line, for a room or a URL that cannot be.
    """
    name = src if isinstance(src, str) else src.room
    room = network.room_of(name)
    if room not in network:
        raise KeyError(f"there is no room {name!r}; there are {', '.join(network.rooms)}")
    asked, conf = Url.parse(url), resolver_of(network, name, hosts)
    if asked.addr is None and not conf.nameservers and asked.host not in conf.hosts:
        raise ValueError(f"{room} cannot look {asked.host!r} up: the network has no DNS (in cluster.yaml: dns: true)")
    after = network.overlay()
    after.chooser = chooser
    for _ in range(0 if cold else 2):  # twice, since waiting for ARP decides which backends are drawn
        rehearsal = network.overlay()
        rehearsal.chooser = Scripted(chooser.answers) if chooser is not None else None
        warm_up(rehearsal, after)
        _run(rehearsal, room, asked, conf, costs, until, max_events)
        warm_up(after, rehearsal)
    sim = _run(after, room, asked, conf, costs, until, max_events)
    note = sim.note or (f"stopped at the bound of {until / SECOND:g} s" if sim.now >= until else "")
    return _told(name, room, url, sim, note, after)


def resolver_of(network: Network, name: str, hosts: Mapping[str, IPv4] | None = None) -> ResolvConf:
    """What a room, or a pod in one, has in /etc/resolv.conf and /etc/hosts; hosts goes first."""
    conf = network.resolvers.get(name) or network.resolvers.get(network.room_of(name), ResolvConf())
    return replace(conf, hosts={**conf.hosts, **(hosts or {})})


def _run(network: Network, room: str, url: Url, conf: ResolvConf, costs: Mapping[str, int], until: int,
         max_events: int) -> Simulation:  # fmt: skip
    sim = Simulation(network, costs=costs)
    sim.program(room, lambda netns, now: netns.run(client(url, conf), now), why="send")
    sim.run(until, max_events=max_events)
    sim.close()
    return sim


def _told(src: str, room: str, url: str, sim: Simulation, note: str, after: Network) -> Fetch:
    said = _said(sim.hops, room)
    talked = any(isinstance(what, Exchange) for what, _ in said)
    traces = [_trace(room, hops, after) for hops in divided(sim.hops, room)] if talked else []
    last, at = said[-1] if said else (None, 0)
    end = last if isinstance(last, Outcome) else Outcome("timeout", "ETIMEDOUT", good=False)
    first, result = (traces[0].flow, traces[-1].result) if traces else (Flow("tcp", room, ANY), Result("reply"))
    whole = Trace(first, result, sim.hops, after.name, note, _unevaluated(sim.hops, after), after)
    stuck = [str(what) for _, what in whole.unsupported]
    words = f"unsupported: {stuck[0]}" if stuck and not end.good else end.words
    return Fetch(src, url, words, end.good, traces, whole, at)


def _unevaluated(hops: list[Hop], network: Network) -> dict[str, tuple[str, ...]]:
    return {hop.room: network[hop.room].unevaluated for hop in hops if network[hop.room].unevaluated}


def _said(hops: list[Hop], room: str) -> list[tuple[Exchange | Outcome, int]]:
    """What the client said, and when."""
    return [
        (step.what, at) for hop in hops if hop.room == room
        for step, at in zip(hop.steps, hop.times, strict=True)
        if isinstance(step.what, Exchange | Outcome)
    ]  # fmt: skip


def divided(hops: list[Hop], room: str) -> list[list[Hop]]:
    """The visits of each exchange. One begins where the client says so, and has all that follows from there: a visit
    belongs to the exchange of the step that caused it."""
    parts: list[list[Hop]] = [[]]
    place: dict[tuple[int, int], tuple[int, Cause]] = {}  # (visit, step): its exchange, and where it stands there
    begun = 0
    for n, hop in enumerate(hops):
        now, cause = place.get(hop.cause, (0, None)) if hop.cause is not None else (0, None)
        place[n, -1] = now, cause  # a timer may be asked for before the first step
        start = 0
        for i, step in enumerate(hop.steps):
            if hop.room == room and isinstance(step.what, Exchange):
                begun += 1
                if begun > 1:
                    _keep(parts, now, hop, start, i, cause)
                    parts.append([])
                    now, cause, start = len(parts) - 1, None, i
            place[n, i] = now, (len(parts[now]), i - start)
        _keep(parts, now, hop, start, len(hop.steps), cause)
    return parts


def _keep(parts: list[list[Hop]], part: int, hop: Hop, start: int, stop: int, cause: Cause) -> None:
    if stop > start:
        at = hop.at if not start else hop.times[start]
        piece = hop._replace(at=at, steps=hop.steps[start:stop], times=hop.times[start:stop], cause=cause)
        parts[part].append(piece)


def _trace(room: str, hops: list[Hop], after: Network) -> Trace:
    """The trace of one exchange, whose end is the first outcome the client speaks of."""
    said = _said(hops, room)
    begun = next(n for n, (what, _) in enumerate(said) if isinstance(what, Exchange))
    about = said[begun][0]
    assert isinstance(about, Exchange)
    end, at = next(((what, at) for what, at in said[begun:] if isinstance(what, Outcome)), (None, 0))
    stuck = next((s.what for hop in hops for s in hop.steps if isinstance(s.what, Unsupported)), None)
    if end is not None:
        outcome = "reply" if not end.errno else "timeout" if end.errno == "ETIMEDOUT" else "error"
        result = Result(outcome, errno=end.errno, said=end.words, at=at)
    else:
        result = Result("unsupported", errno=str(stuck)) if stuck is not None else Result("timeout")
    to = next((name for name, addr in after.services.items() if addr == about.addr), "")
    flow = Flow(about.proto, room, about.addr, about.port, _source_port(hops, about), about.size, to=to,
                about=about.about)  # fmt: skip
    return Trace(flow, result, hops, after.name, "", _unevaluated(hops, after), after)


def _source_port(hops: list[Hop], about: Exchange) -> int:
    """The port that the client's socket got: that of the first packet to the peer."""
    headers = (h for hop in hops for step in hop.steps for h in step.packet.headers)
    return next((h.sport for h in headers if isinstance(h, Udp | Tcp) and h.dport == about.port), 0)
