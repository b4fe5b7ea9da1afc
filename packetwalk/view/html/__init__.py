"""A trace as a piece of HTML that holds everything it needs: to read without a script, to step through with one.

Without a script (a sanitizing viewer) it is the steps of each visit in sections that open and close, under a picture
of the rooms. With one, trace.js makes a player of the same elements: the keys go from step to step, and the headers
before and after each stand beside it. Nothing is loaded from anywhere; every name from a cluster is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from packetwalk import text, words
from packetwalk.packet import Packet
from packetwalk.text import BAD, Section
from packetwalk.trace import Trace
from packetwalk.view.floorplan import floorplan, legs, on_the_way
from packetwalk.view.html.packets import Packets
from packetwalk.view.html.picture import picture

PICTURE_ROOMS = 24
"""rooms up to which there is a picture; a longer way is a list"""


def trace_html(trace: Trace) -> str:
    """The trace as an element for notebooks and pages, several of which may stand on one page."""
    packets = Packets()
    visits = "".join(_visits(trace, packets))
    endings = "".join(f"<p>{escape(line)}</p>" for line in text.endings(trace))
    network = f" <small>{escape(trace.network)}</small>" if trace.network else ""
    return (
        f'<div class="packetwalk" tabindex="0" data-lm-suppress-shortcuts="true"><style>{_asset("trace.css")}</style>'
        f"<p><strong>{escape(text.sent(trace))}</strong>{network}</p>"
        f'<p class="pw-way pw-mono">{escape(trace.minimal())}</p>{_picture(trace)}'
        f'<div class="pw-list">{visits}</div><div class="pw-end{"" if trace.delivered else " pw-bad"}">{endings}</div>'
        f'<script type="application/json">{_inert(packets.to_dict())}</script>'
        f"<script>{_asset('trace.js')}</script></div>"
    )


def page(*traces: Trace, title: str = "") -> str:
    """Walks on a page of their own, one beneath the other; a single one takes the keys without being clicked first."""
    named = title or " and ".join(f"{trace.flow.src} > {trace.flow.to or trace.flow.dst}" for trace in traces)
    shown = "\n".join(trace_html(trace) for trace in traces)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(named)} - packetwalk</title></head>\n'
        f'<body class="packetwalk-page">\n{shown}\n</body></html>\n'
    )


def _picture(trace: Trace) -> str:
    rooms = on_the_way(trace)
    network: Any = trace.after
    if network is None or not 1 < len(rooms) <= PICTURE_ROOMS:
        return ""
    return picture(floorplan(network, rooms), list(legs(trace)), rooms)


def _visits(trace: Trace, packets: Packets) -> Iterator[str]:
    """A section for each turn of a room, a row for each step, with what the player reads as data-..."""
    rooms = {room: n for n, room in enumerate(on_the_way(trace))}
    for n, section in enumerate(text.sections(trace), 1):
        hop = section.hops[0]
        took = max(visit.end for visit in section.hops) - hop.at
        source = trace.hops[hop.cause[0]].room if hop.cause is not None else section.room
        wire = "-".join(str(number) for number in sorted((rooms.get(source, -1), rooms.get(section.room, -1))))
        about = next((words.packet_words(s.packet) for v in section.hops for s in v.steps if s.packet.headers), "")
        name = escape(section.room, quote=True)
        yield (
            f'<details open data-name="{name}" data-room="{rooms.get(section.room, -1)}" data-wire="{wire}">'
            f'<summary><strong>{n} {name}</strong> <span class="pw-mono">{escape(about)}</span> '
            f'<span class="pw-when">{words.time(hop.at)} + {words.time(took)}</span></summary>'
            f"<table>{''.join(_rows(trace, section, packets))}</table></details>"
        )


def _rows(trace: Trace, section: Section, packets: Packets) -> Iterator[str]:
    for visit in section.hops:
        before: Packet | None = None
        if visit.cause is not None:
            hop, step = visit.cause
            before = trace.hops[hop].steps[step].packet
        spans = zip(visit.steps, [visit.at, *visit.times], visit.times, strict=False)
        times = {id(step): (start, at) for step, start, at in spans}
        for line in text.lines(visit):
            start, at = times[id(line.step)]
            cells = (line.step.stage, line.step.dev, "\n".join(filter(None, (line.words, line.more))),
                     f"{line.shown} bytes" if line.shown else "")  # fmt: skip
            numbers = (packets.number(before), packets.number(line.step.packet), at, at - start)
            yield _row(cells, numbers, bad=line.step.stage in BAD)
            before = None if line.ends else line.step.packet


def _row(cells: tuple[str, ...], numbers: tuple[int | None, ...], *, bad: bool) -> str:
    data = zip(("before", "packet", "at", "took"), numbers, strict=True)
    told = "".join(f' data-{name}="{number}"' for name, number in data if number is not None)
    shown = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr{told} class="pw-bad">{shown}</tr>' if bad else f"<tr{told}>{shown}</tr>"


def _inert(data: object) -> str:
    """JSON in which no browser finds a tag, whatever the texts in it."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")


@cache
def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8").strip()
