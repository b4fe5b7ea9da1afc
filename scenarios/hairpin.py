"""A pod calls a service and is its only backend. How does the packet get back to where it came from?

Two things are needed: the bridge sends a frame out by the port it came in (hairpin mode), and the pod does not see its
own address as the sender, for what comes from oneself by a wire is taken for a lie.
"""

import packetwalk as pw

cluster = pw.Cluster(nodes=1, cni=pw.FlatBridge(hairpin=True))
a = cluster.pod("a", node=1, listen=80)
web = cluster.service("web", port=80, pods=[a])
net = pw.build(cluster)


def show(title: str, net: pw.Network) -> None:
    """How the connection went, and whom the backend saw as its client."""
    trace = pw.walk(net, a, web, tcp=80)
    clients = [step.packet.headers[0].src for _, step in trace.steps if "segment to" in str(step.what)]
    why = f"the backend's client is {clients[0]}" if clients else ""
    why = why or ", ".join(sorted({f"{step.what.reason} at {room}" for room, step in trace.drops}))
    print(f"{title}\n  {trace.result.outcome}: {why}")


show("1. As the bridge plugin (hairpinMode) and kube-proxy set it up: the node stands in for the client", net)
unturned = pw.build(cluster.using(pw.FlatBridge(hairpin=False)))
show("2. Without hairpin mode, the bridge does not send a frame back to where it came from", unturned)
unmasked = pw.whatif(net, "node-1 iptables -t nat -F KUBE-MARK-MASQ")
show("3. Without kube-proxy's mark for masquerading, the pod gets a packet from itself", unmasked)
routed = pw.build(cluster.using(pw.Calico("ipip")))
show("4. Where pods are routed instead of bridged, there is no port to turn round at", routed)
print("Learn: if a service works for everyone but its own backend, look at hairpin mode and at KUBE-MARK-MASQ.")
