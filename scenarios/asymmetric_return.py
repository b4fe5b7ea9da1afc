"""A reply comes back by another way than the request went. When does rp_filter drop it?

The request goes from node-1 through the tunnel; node-2 has been told to answer plain, by the router, which knows the
pods' blocks. On node-1 the way back to the sender is the tunnel, so a strict filter (1) does not take the answer from
the network card; a loose one (2) does, and so does none (0).
"""

import packetwalk as pw

cluster = pw.Cluster(nodes=2, cni=pw.Calico("ipip", peer_fabric=True), racks=2)
a, b = cluster.pod("a", node=1), cluster.pod("b", node=2)

for strictness in (0, 2, 1):
    net = pw.build(cluster)
    block = next(line.split()[0] for line in net["node-2"].routes.splitlines() if "dev tunl0" in line)
    net["node-2"].route_del(block)
    net["node-2"].route_add(block, via="192.168.57.1", dev="eth0", proto="static")
    net["node-1"].sysctl("net.ipv4.conf.eth0.rp_filter", strictness)
    print(f"rp_filter {strictness} on node-1's eth0\n  {pw.walk(net, a, b).minimal()}")
print("Learn: with rp_filter=1 on its uplink a node takes only what comes by the way it would answer by.")
