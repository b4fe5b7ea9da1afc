"""The same traffic over the same wires: how much more does a tunnel carry, and what does that do under load?"""

import packetwalk as pw
from packetwalk.cni import find

RATE = 20_000_000
print("mode             download       sent again   small packets: median     99 %")
for mode in ("flannel-host-gw", "flannel-vxlan", "calico-ipip", "geneve"):
    cluster = pw.Cluster(nodes=2, cni=find(mode), link=pw.Link(rate=RATE, delay=50_000, queue=30))
    a, b = cluster.pod("a", node=1), cluster.pod("b", node=2)
    c, d = cluster.pod("c", node=1), cluster.pod("d", node=2)
    small = pw.poisson(c, d, rate=200, size=32, name="small")
    load = pw.simulate(pw.build(cluster), pw.transfer(a, b), small, until="400ms", seed=3)
    row, latency = load.rows("flows")[0], load.flow("small").latency
    share = row["goodput_bps"] / RATE
    print(f"{mode:16} {row['goodput_bps'] / 1e6:4.1f} Mbit/s {share:4.0%} {row['again']:9}   "
          f"{latency.percentile(50) / 1e6:18.2f} ms {latency.percentile(99) / 1e6:8.2f} ms")  # fmt: skip
print("Learn: a tunnel costs its header in each packet, a few per cent; the queue it shares decides the delay.")
