"""How much more happens to the very first packet, when nobody knows anybody's Ethernet address yet?

A walk usually starts warm: an unseen packet has filled the neighbour tables before. `cold=True` leaves them empty.
"""

import packetwalk as pw

cluster = pw.Cluster(nodes=2, cni=pw.Flannel("vxlan"))
a, b = cluster.pod("a", node=1), cluster.pod("b", node=2)
net = pw.build(cluster)

first = pw.walk(net, a, b, cold=True)
print("1. Three times somebody holds the packet until an address is known")
for hop, step in first.steps:
    if step.stage == "hold":
        print(f"  {hop.room}: {step.what}")

print("2. The tunnel's far end is not among them: flanneld has written down who is behind it")
print(f"  node-1: {net['node-1'].neighbours.get('flannel.1', pw.IPv4('10.244.2.0'))}")

second = pw.walk(first.after, a, b, cold=True)
print("3. What the first one cost, and the second one, which finds everything known")
for name, trace in (("first", first), ("second", second)):
    print(f"  {name:6} {trace.result.at / 1000:4.1f} us there and back, {len(trace.hops):2} visits of rooms")

print("Learn: a slow first packet is ARP at every subnet border; tunnels with prewritten neighbours have none inside.")
