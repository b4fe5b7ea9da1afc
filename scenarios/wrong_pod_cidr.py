"""A node's route for a peer's pods leads to the wrong node. How does it show, and how long does it go well?"""

import packetwalk as pw

cluster = pw.Cluster(nodes=3, cni=pw.Flannel("host-gw"))
a, b, c = cluster.pod("a", node=1), cluster.pod("b", node=2), cluster.pod("c", node=3)
net = pw.build(cluster)
print("node-1 as flanneld writes it:", *(f"  {line}" for line in net["node-1"].routes.splitlines()[1:]), sep="\n")


def show(title: str, net: pw.Network) -> None:
    """A ping in one line; a loop in fewer words."""
    trace = pw.walk(net, a, b)
    if len(trace.hops) < 20:
        print(f"{title}\n  {trace.minimal()}")
    else:
        rooms = [hop.room for hop in trace.hops if hop.room != "fabric"]
        what = next(step.what.reason for _, step in trace.drops if step.what.reason is pw.Reason.IP_INHDR)
        print(f"{title}\n  {' > '.join(rooms[:5])} ... {len(rooms)} visits, then {what} at {rooms[-1]}")


show("1. All is well", net)

to_c = "node-1 route replace 10.244.2.0/24 via 192.168.56.13 dev eth0"
show("2. node-1 sends b's packets to node-3, which knows better: one hop more", pw.whatif(net, to_c))

also = "node-3 route replace 10.244.2.0/24 via 192.168.56.11 dev eth0"
show("3. node-3 has it wrong, too: they throw it to and fro until its time is over", pw.whatif(net, to_c, also))

short = ("node-1 route del 10.244.2.0/24", "node-1 route add 10.244.2.128/25 via 192.168.56.12 dev eth0")
show("4. The range is one bit too short: half of node-2's pods are sought by the default route", pw.whatif(net, *short))
print("Learn: a wrong next hop still delivers as long as somebody knows better; look at the TTL, and who masqueraded.")
