"""The packets of a trace as data for the player: each header and each packet once, by number."""

from __future__ import annotations

from packetwalk import words
from packetwalk.addr import ANY
from packetwalk.packet import (
    Ethernet,
    Header,
    Icmp,
    Ip,
    Packet,
    Slice,
    Tcp,
    header_len,
    payload_len,
    quoted,
    size,
    visible,
)

ABSENT = {
    "df": False, "mf": False, "offset": 0, "tos": 0, "mss": 0, "sack_ok": False, "wscale": -1, "ts": None, "mtu": 0,
    "gateway": ANY, "checksum": True,
}  # fmt: skip
"""values of fields that say nothing, or that a header without the option has"""
ECHO = ("id", "seq")
"""fields that only echo messages have (RFC 792)"""


class Packets:
    """Numbers headers and packets as they come. Headers of two kinds may be equal as tuples, so the kind counts."""

    def __init__(self) -> None:
        self._headers: dict[tuple[str, Header], int] = {}
        self._packets: dict[tuple[tuple[int, ...], int | bytes | Slice], tuple[int, Packet]] = {}

    def number(self, packet: Packet | None) -> int | None:
        """The number of a packet; None for none, and for one that has no header yet."""
        if packet is None or not packet.headers:
            return None
        shown = visible(packet)
        stack = tuple(self._headers.setdefault((_kind(h), h), len(self._headers)) for h in shown.headers)
        return self._packets.setdefault((stack, shown.payload), (len(self._packets), packet))[0]

    def to_dict(self) -> dict[str, object]:
        """headers: [kind, "20 bytes", [[field, value], ...]]; packets: [numbers of headers, payload, bytes]."""
        return {
            "headers": [[kind, words.counted(header_len(h), "byte"), fields(h)] for kind, h in self._headers],
            "packets": [[stack, _payload(packet), size(packet)] for (stack, _), (_, packet) in self._packets.items()],
        }


def fields(header: Header) -> list[tuple[str, str]]:
    """The fields of a header and their values in the words of ip and tcpdump, those that say nothing left out."""
    echo = not isinstance(header, Icmp) or header.type in (0, 8)
    return [
        (name, _value(header, name, value))
        for name, value in header._asdict().items()
        if (name not in ABSENT or value != ABSENT[name]) and (echo or name not in ECHO)
    ]


def _value(header: Header, name: str, value: object) -> str:
    if isinstance(header, Ip) and name == "proto":
        return f"{value} {words.PROTOS.get(header.proto, '')}".rstrip()
    if isinstance(header, Ethernet) and name == "type":
        return f"0x{value:04x}"
    if isinstance(header, Tcp) and name == "flags":
        return words.flags(header)
    return str(int(value) if isinstance(value, bool) else value)


def _kind(header: Header) -> str:
    return type(header).__name__.lower()


def _payload(packet: Packet) -> str:
    about = quoted(packet)
    if about is not None:
        return f"quotes {words.packet_words(about)}"
    length = payload_len(visible(packet).payload)
    return f"{words.counted(length, 'byte')} of payload" if length else "no payload"
