"""The header stack growing and shrinking hop by hop, to scale in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

from packetwalk import text
from packetwalk.packet import Arp, Ethernet, Geneve, Icmp, Ip, Sctp, Tcp, Udp, Vxlan, header_len, payload_len, visible
from packetwalk.packet import size as bytes_of
from packetwalk.totals import request
from packetwalk.view.plot.picture import GREEN, GREY, ORANGE, PURPLE, SKY, Picture, canvas, fitted, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from packetwalk.packet import Packet
    from packetwalk.trace import Trace

ROWS = 40
"""frames drawn; of the others their number is told"""
PAYLOAD = 64
"""bytes up to which a payload is drawn to scale; a longer one is drawn broken"""
LOOKS: dict[type, tuple[str, str, str]] = {
    Ethernet: ("eth", "#dddddd", ""),
    Arp: ("arp", "#dddddd", "xx"),
    Ip: ("ip", SKY, "//"),
    Udp: ("udp", ORANGE, ".."),
    Tcp: ("tcp", ORANGE, ".."),
    Sctp: ("sctp", ORANGE, ".."),
    Icmp: ("icmp", ORANGE, ".."),
    Vxlan: ("vxlan", PURPLE, "\\\\"),
    Geneve: ("geneve", GREEN, "\\\\"),
}
ROW, BYTE, LABEL = 0.3, 0.052, 1.7  # inches: a row, a byte, the names on the left


class Frame(NamedTuple):
    """A frame that leaves a device. parts: the type and bytes of each header from the outermost; payload in bytes."""

    where: str
    parts: list[tuple[type, int]]
    payload: int
    bytes: int

    @property
    def outside(self) -> int:
        """Bytes in front of the innermost IP header."""
        last = max((i for i, (kind, _) in enumerate(self.parts) if kind is Ip), default=0)
        return sum(n for _, n in self.parts[:last])


def headers(trace: Trace) -> Picture:
    """Each frame of the request as it leaves a device, until somebody gets it.

    The packet that the sender made stands in one column, so that what is put in front of it shows on the left. A
    payload of more than 64 bytes is drawn broken.
    """
    found = list(frames(trace))
    shown = found[:ROWS]
    left = max((f.outside for f in shown), default=0)
    right = max((f.bytes - f.outside - f.payload + min(f.payload, PAYLOAD) for f in shown), default=0)
    width = LABEL + (left + right) * BYTE + 0.9
    title = fill(f"{text.sent(trace)}: {text.outcome(trace)}", max(int(width * 13), 40))
    with canvas(width, len(shown) * ROW + 0.6) as figure:
        ax = figure.add_axes((0, 0, 1, 1))
        bottom = len(shown) * ROW + 0.2
        ax.set(xlim=(-LABEL - left * BYTE, right * BYTE + 0.9), ylim=(bottom, -0.4))
        ax.axis("off")
        ax.text(-LABEL - left * BYTE + 0.05, -0.38, title, va="top", fontsize=8, weight="bold")
        for n, frame in enumerate(shown):
            _frame(ax, n * ROW + 0.1, frame, -LABEL - left * BYTE + 0.05)
        more = f"; {len(found) - len(shown)} frames more" if len(found) > len(shown) else ""
        ax.text(-LABEL - left * BYTE + 0.05, bottom - 0.08, f"to scale: an ip header is 20 bytes{more}", fontsize=6)
        return Picture(figure)


def frames(trace: Trace) -> Iterator[Frame]:
    """The frames of the request, in order of time; the same frame on a device only once."""
    last = None
    for hop, _, step in request(trace):
        if step.stage == "transmit" and (frame := _as_frame(f"{hop.room} {step.dev}", step.packet)) != last:
            last = frame
            yield frame


def _as_frame(where: str, packet: Packet) -> Frame:
    shown = visible(packet)
    parts = [(type(h), header_len(h)) for h in shown.headers]
    return Frame(where, parts, payload_len(shown.payload), bytes_of(packet))


def _frame(ax: Axes, y: float, frame: Frame, edge: float) -> None:
    name, points = fitted(frame.where, LABEL - 0.15, 7)
    ax.text(edge, y, name, va="center", fontsize=points, linespacing=0.95)
    x = -frame.outside * BYTE
    for kind, length in frame.parts:
        label, colour, hatch = LOOKS[kind]
        _box(ax, x, y, length * BYTE, label, colour, hatch)
        x += length * BYTE
    if frame.payload:
        drawn = min(frame.payload, PAYLOAD) * BYTE
        _box(ax, x, y, drawn, f"{frame.payload} bytes" if drawn > 0.6 else str(frame.payload), "white", "")
        if frame.payload > PAYLOAD:
            for cut in (0.8, 0.84):
                ax.plot(
                    [x + drawn * cut - 0.03, x + drawn * cut + 0.03], [y + 0.13, y - 0.13], color="black", linewidth=0.7
                )
        x += drawn
    ax.text(x + 0.08, y, f"{frame.bytes}", va="center", fontsize=7, weight="bold")


def _box(ax: Axes, x: float, y: float, width: float, label: str, colour: str, hatch: str) -> None:
    from matplotlib.patches import Rectangle

    ax.add_patch(Rectangle((x, y - 0.1), width, 0.2, facecolor=colour, hatch=hatch, edgecolor=GREY, linewidth=0))
    ax.add_patch(Rectangle((x, y - 0.1), width, 0.2, fill=False, edgecolor="black", linewidth=0.6))
    points = min(6.5, 6.5 * (width - 0.03) / max(text_width(label, 6.5), 0.01))
    box = {"facecolor": colour, "edgecolor": "none", "pad": 0.6} if hatch else None
    ax.text(x + width / 2, y, label, ha="center", va="center_baseline", fontsize=points, bbox=box)
