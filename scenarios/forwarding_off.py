"""A node's net.ipv4.ip_forward is off, as after a careless `sysctl --system`. What still works there?"""

import packetwalk as pw


def show(cni: object, title: str) -> None:
    """Pings around a node that forwards nothing, in a few words each."""
    cluster = pw.Cluster(nodes=2, cni=cni)
    a, b, c = cluster.pod("a", node=1), cluster.pod("b", node=1), cluster.pod("c", node=2)
    net = pw.whatif(pw.build(cluster), "node-1 sysctl net.ipv4.ip_forward=0")
    print(title)
    for src, dst, what in ((a, b, "pod to pod on the node"), (a, "node-1", "pod to its node"),
                           ("node-1", c, "node to a pod elsewhere"), (a, c, "pod to a pod elsewhere"),
                           (c, a, "pod elsewhere to a pod here")):  # fmt: skip
        trace = pw.walk(net, src, dst)
        died = [f"{step.what.reason} at {room}" for room, step in trace.drops]
        print(f"  {what:28} {trace.result.outcome:10}  {' '.join(died[:1])}".rstrip())


show(pw.Flannel("vxlan"), "1. Flannel: pods of a node share a bridge, and only what leaves the node is routed")
show(pw.Calico("ipip"), "2. Calico: every packet of a pod is routed, even to its neighbour")
print("Learn: if neighbours on a bridge still talk and nothing else does, look at ip_forward before the tunnel.")
