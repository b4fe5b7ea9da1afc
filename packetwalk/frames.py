"""Frames in the form of a recording: what a capture on every interface shows of a walk, header by header."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from packetwalk.packet import (
    Arp,
    Ethernet,
    Geneve,
    Header,
    Icmp,
    Ip,
    Packet,
    Sctp,
    Tcp,
    Udp,
    Vxlan,
    payload_len,
    quoted,
    size,
    visible,
)
from packetwalk.sctp import chunks
from packetwalk.trace import Hop, Step

LINGER = {"udp": 500_000_000, "sctp": 500_000_000}
"""How long a capture outlasts the time a client waits, in ns: some clients look at their error queue once more."""
LINGER_ELSE = 200_000_000
DIRECTIONS = {"transmit": "out", "receive": "in"}


def seen(hops: Iterable[Hop]) -> Iterator[tuple[Hop, Step, int]]:
    """The steps that a capture on every interface shows, and when: out
    where a device is handed a packet, in where one appears."""
    for hop in hops:
        for step, at in zip(hop.steps, hop.times, strict=True):
            if step.stage in DIRECTIONS:
                yield hop, step, at


def frames(hops: Iterable[Hop], start: int) -> Iterator[dict[str, Any]]:
    """What a capture on every interface shows, one frame for each step of `seen`. Times count from `start`."""
    for hop, step, at in seen(hops):
        yield {
            "t_ns": at - start, "netns": hop.room, "dev": step.dev, "dir": DIRECTIONS[step.stage],
            "len": size(step.packet), "layers": layers(step.packet),
        }  # fmt: skip


def layers(packet: Packet) -> list[dict[str, Any]]:
    """The headers from outermost to innermost as a recording lists them."""
    shown = visible(packet)
    out: list[dict[str, Any]] = []
    for i, header in enumerate(shown.headers):
        layer = _LAYERS[type(header)](header)
        if isinstance(header, Sctp):
            layer["chunks"] = list(map(str, chunks(shown.payload)))
        if isinstance(header, Tcp):
            layer["payload"] = payload_len(shown.payload)
        if isinstance(header, Ip) and header.offset:
            return [*out, layer]
        if isinstance(header, Icmp) and i == len(shown.headers) - 1:
            about = quoted(packet)
            if about is not None:
                layer["quoted"] = layers(about)
        out.append(layer)
    return out


def _eth(h: Ethernet) -> dict[str, Any]:
    return {"proto": "eth", "src": str(h.src), "dst": str(h.dst), "type": f"0x{h.type:04x}"}


def _arp(h: Arp) -> dict[str, Any]:
    op = {1: "request", 2: "reply"}.get(h.op, str(h.op))
    return {"proto": "arp", "op": op, "sha": str(h.sha), "spa": str(h.spa), "tha": str(h.tha), "tpa": str(h.tpa)}


def _ip(h: Ip) -> dict[str, Any]:
    return {
        "proto": "ip",
        "src": str(h.src),
        "dst": str(h.dst),
        "ttl": h.ttl,
        "tos": h.tos,
        "id": h.id,
        "df": h.df,
        "mf": h.mf,
        "offset": h.offset,
        "protocol": h.proto,
        "len": h.len,
    }


def _icmp(h: Icmp) -> dict[str, Any]:
    layer: dict[str, Any] = {"proto": "icmp", "type": h.type, "code": h.code}
    if h.type in (0, 8):
        layer |= {"id": h.id, "seq": h.seq}
    if h.mtu:
        layer["mtu"] = h.mtu
    return layer


def _tcp(h: Tcp) -> dict[str, Any]:
    layer = {"proto": "tcp", "sport": h.sport, "dport": h.dport, "flags": h.flags, "payload": 0}
    return {**layer, "mss": h.mss} if h.mss else layer


_LAYERS: dict[type[Header], Callable[[Any], dict[str, Any]]] = {
    Ethernet: _eth,
    Arp: _arp,
    Ip: _ip,
    Icmp: _icmp,
    Udp: lambda h: {"proto": "udp", "sport": h.sport, "dport": h.dport, "payload": h.len - 8},
    Tcp: _tcp,
    Sctp: lambda h: {"proto": "sctp", "sport": h.sport, "dport": h.dport, "tag": h.tag},
    Vxlan: lambda h: {"proto": "vxlan", "vni": h.vni},
    Geneve: lambda h: {"proto": "geneve", "vni": h.vni},
}
