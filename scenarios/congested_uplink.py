"""Two racks share an uplink. What does a packet wait for as the load grows, and what changes when the queue is full?

Packets come at random (Poisson) and all are equally long, so theory knows the mean wait in the queue: with load r it is
r / (2 (1 - r)) times the time that one packet takes (M/D/1), in the long run.
"""

import packetwalk as pw

RATE, SIZE, QUEUE = 10_000_000, 1400, 50
uplink = pw.Link(rate=RATE, delay=50_000, queue=QUEUE)
cluster = pw.Cluster(nodes=4, racks=2, cni=pw.Calico("ipip"), uplink=uplink)
a, b, c, d = (cluster.pod(name, node=n) for name, n in zip("abcd", (1, 2, 3, 4), strict=True))
net = pw.build(cluster)

bits = (SIZE + 8 + 20 + 20 + 14) * 8  # UDP, IP, the tunnel's IP, Ethernet
service = bits / RATE * 1e6  # us
print(f"A frame of {bits // 8} bytes keeps the uplink busy for {service:.0f} us; {QUEUE} may wait.")
print("load   sent   lost   wait (theory)       p50       p90       p99       max")
for share in (0.3, 0.6, 0.8, 1.2):
    rate = share * RATE / bits / 2
    sources = (pw.poisson(src, dst, rate=rate, size=SIZE) for src, dst in ((a, b), (c, d)))
    load = pw.simulate(net, *sources, until="2s", seed=5)
    leaf = load.links["tor-1", "p-router"]
    wait = leaf.wait.mean / 1000 - service - 50 if leaf.frames else 0
    theory = f"{share / (2 * (1 - share)) * service:.0f}" if share < 1 else "no end"
    times = "".join(f"{load.latency.percentile(p) / 1000:7.0f} us" for p in (50, 90, 99, 100))
    print(f"{share:4.0%}  {load.sent:5}  {load.lost / load.sent:5.1%}  {wait:5.0f} us ({theory:>6}){times}")

reason, count = next(iter(load.drops.items()))
print(f"At 120 % {count} packets died of {reason}, all at one place: {load.samples[reason].minimal()}")
print("Learn: delay grows long before anything is lost; beyond 100 % everybody waits for the whole queue.")
