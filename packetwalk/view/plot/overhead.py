"""What headers and tunnels cost, by the size of what is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from packetwalk.packet import IP_LEN, UDP_LEN
from packetwalk.view.compare import FRAMING, compare
from packetwalk.view.plot.picture import DASHES, LINES, MARKERS, Picture, canvas

if TYPE_CHECKING:
    from packetwalk.trace import Trace

WIDTH, HEIGHT = 6.4, 3.9  # inches
SMALLEST, LARGEST = 16, 9000  # bytes of payload
MARKED = (64, 512, 1400, 8000)


def overhead(*traces: Trace, names: Sequence[str] = ()) -> Picture:
    """The share of a wire's bits that is not payload, for datagrams of UDP from 16 to 9,000 bytes, a line for each
    walk: what is longer than its path MTU goes as fragments, each with its own headers. Walks that cost the same share
    a line. Taken from the walks are the path MTU and the tunnel's bytes. ValueError for a walk that did not arrive."""
    walks = compare(*traces, names=names).walks
    if lost := next((w.name for w in walks if not w.path_mtu), None):
        raise ValueError(f"{lost}: nothing arrived, so its path MTU is not known")
    if not walks:
        raise ValueError("overhead needs a walk")
    alike: dict[tuple[int, int], list[str]] = {}
    for w in walks:
        alike.setdefault((w.path_mtu, w.tunnel), []).append(w.name)
    sizes = [*range(SMALLEST, 256, 4), *range(256, LARGEST + 1, 8)]
    with canvas(WIDTH, HEIGHT, "constrained") as figure:
        ax = figure.subplots()
        for n, ((mtu, tunnel), who) in enumerate(alike.items()):
            label = f"{', '.join(who)} ({f'+{tunnel} bytes' if tunnel else 'no tunnel'}, mtu {mtu})"
            cost = [100 * (1 - size / on_the_wire(size, mtu, tunnel)) for size in sizes]
            marked = [sizes.index(size) + 3 * n for size in MARKED]
            ax.plot(sizes, cost, label=label, color=LINES[n % len(LINES)], linestyle=DASHES[n % len(DASHES)],
                    linewidth=1.3, marker=MARKERS[n % len(MARKERS)], markevery=marked, markersize=4)  # fmt: skip
        ax.set_xscale("log")
        ax.set(xlim=(SMALLEST, LARGEST), ylim=(0, None), xlabel="bytes of payload in a datagram (logarithmic)",
               ylabel="per cent of the wire that is not payload")  # fmt: skip
        ticks = [16, 64, 256, 1024, 1472, 4096, 9000]
        ax.set_xticks(ticks, [str(t) if t != 1472 else "" for t in ticks], minor=False)
        ax.set_xticks([], minor=True)
        ax.grid(color="#eeeeee", linewidth=0.5)
        ax.set_title("what headers and tunnels cost", loc="left", fontsize=9, weight="bold")
        ax.legend(loc="upper right", fontsize=6.5, handlelength=3.5)
        return Picture(figure)


def on_the_wire(payload: int, mtu: int, tunnel: int) -> int:
    """Bytes on a wire, Ethernet's framing included, for a datagram of UDP in packets of at most `mtu` bytes."""
    total = payload + UDP_LEN
    each = mtu - IP_LEN
    fragments = 1 if total <= each else -(-total // (each - each % 8))
    return total + fragments * (IP_LEN + tunnel + FRAMING)
