"""Pictures of walks for print and screen, drawn by matplotlib (the extra `plot`).

    pw.plot.topology(trace)                       rooms and wires, and the way the packet took
    pw.plot.waterfall(trace, other)               where the time went, visit by visit
    pw.plot.headers(trace)                        the frame hop by hop, to scale in bytes
    pw.plot.ecdf({"flannel": load, ...})          latencies under load
    pw.plot.overhead(trace, other)                what tunnels and headers cost, by payload size

Each returns a Picture: a notebook shows it, `save` writes it. Colours are those of Okabe and Ito, which people with any
colour vision tell apart, and every colour comes with a hatch or a line style of its own.
"""

from packetwalk.view.plot.headers import headers
from packetwalk.view.plot.latency import ecdf
from packetwalk.view.plot.overhead import overhead
from packetwalk.view.plot.picture import FORMATS, Picture
from packetwalk.view.plot.topology import topology
from packetwalk.view.plot.waterfall import waterfall

__all__ = ["FORMATS", "Picture", "ecdf", "headers", "overhead", "topology", "waterfall"]
