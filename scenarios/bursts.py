"""Two applications send 40 % of what a wire takes. Why does one of them lose packets?

The first sends evenly, the second in bursts of 2 ms at the speed of its own network card. The mean is the same.
"""

import packetwalk as pw

RATE, SIZE = 100_000_000, 1400
FRAME = (SIZE + 8 + 20 + 14) * 8  # bits
mean = 0.4 * RATE / FRAME


def show(title: str, source: pw.Source, queue: int) -> None:
    """Losses and delays behind a queue of that many packets."""
    load = pw.simulate(pw.whatif(net, f"link node-1 rate 100mbit queue {queue}"), source, until="300ms")
    latency = load.latency
    print(f"  {title}  queue {queue:3}: {load.lost / load.sent:5.1%} lost, "
          f"half within {latency.percentile(50) / 1e6:.2f} ms, the slowest {latency.max / 1e6:5.2f} ms")  # fmt: skip


cluster = pw.Cluster(nodes=2, cni=pw.Flannel("host-gw"))
a, b = cluster.pod("a", node=1), cluster.pod("b", node=2)
net = pw.build(cluster)
print(f"Each sends {mean:.0f} packets a second over a wire that takes {RATE / FRAME:.0f}")
for queue in (10, 50, 100):
    show("evenly   ", pw.constant(a, b, rate=mean, size=SIZE), queue)
    show("in bursts", pw.on_off(a, b, rate=10 * mean, on="2ms", off="18ms", size=SIZE), queue)
print("Learn: a mean says nothing about a queue. A burst needs room for what comes in meanwhile and cannot leave.")
