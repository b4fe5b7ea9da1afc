"""A long download runs over a wire. How long may its queue be, for the download and for everybody else?

TCP fills any queue before it notices: only a drop tells it to slow down.
"""

import packetwalk as pw

cluster = pw.Cluster(nodes=2, cni=pw.Flannel("host-gw"))
a, b = cluster.pod("a", node=1), cluster.pod("b", node=2)
c, d = cluster.pod("c", node=1), cluster.pod("d", node=2)
net = pw.build(cluster)

print("queue   download   sent again   ping: median   90 %   lost")
for queue in (2, 5, 10, 20, 40):
    narrow = pw.whatif(net, f"link node-1 rate 4mbit delay 2ms queue {queue}")
    download = pw.transfer(a, b, name="download")
    pings = pw.constant(c, d, rate=20, size=56, icmp=True, name="ping")
    load = pw.simulate(narrow, download, pings, until="2s")
    row, ping = load.rows("flows")[0], load.flow("ping")
    print(f"{queue:5}   {row['goodput_bps'] / 1e6:4.1f} Mbit/s   {row['again']:6}   "
          f"{ping.rtt.percentile(50) / 1e6:9.1f} ms {ping.rtt.percentile(90) / 1e6:6.1f} ms {ping.lost:4}")  # fmt: skip

print("(At most 64 KB are on their way here, some 45 packets: a real download would fill a longer queue, too.)")
print("Learn: a queue needs to hold a round trip's worth of packets; all beyond that is delay for everybody.")
