"""A node loses its link. What is lost until BGP has noticed, and why does it matter that it notices?

A pod pings pods on two nodes. At 100 ms node-2's cable is pulled, at 280 ms its BGP sessions have run out (with BFD;
without it they last for 90 s), at 400 ms cable and sessions are back.
"""

import packetwalk as pw

cluster = pw.Cluster(nodes=3, racks=3, cni=pw.Calico("none", peer_fabric=True))
a, b, c = (cluster.pod(name, node=n) for n, name in enumerate("abc", 1))
net = pw.build(cluster)

faults = ["at 100ms link node-2 down", "at 280ms bgp withdraw node-2", "at 400ms link node-2 up",
          "at 400ms bgp announce node-2"]  # fmt: skip
to_b = pw.constant(a, b, rate=500, name="a > b", icmp=True)
to_c = pw.constant(a, c, rate=500, name="a > c", icmp=True)
load = pw.simulate(net, to_b, to_c, until="500ms", every="20ms", faults=faults)

print("Answered (#) and lost (.) in each 20 ms:")
for flow in load.flows:
    line = "".join("#" if row["delivered"] else "." for row in load.rows("time") if row["flow"] == flow.name)
    print(f"  {flow.name}  {line}  {flow.delivered} of {flow.sent}")
print("  cable       ^pulled  ^withdrawn  ^back")

print("Where they died:")
for row in load.rows("drops"):
    print(f"  {row['count']:3} by {row['reason']} at {row['room']}{': ' if row['by'] else ''}{row['by']}")
told = load.flow("a > b").errors
print(f"After the withdrawal the router says so: {told} times within 120 ms, as it limits its complaints.")
print(f"The first of them: {load.samples[next(iter(load.drops))].minimal()}")
print("Learn: until a route is withdrawn packets go where nobody is; afterwards somebody says so.")
