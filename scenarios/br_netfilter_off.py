"""Client and backend of a service sit on one node, on one bridge. What breaks where bridged packets skip iptables?

The request to the ClusterIP is routed, so the node translates it to the backend's address. The answer goes from pod to
pod over the bridge. Only br_netfilter shows it to iptables, where its source becomes the ClusterIP again.
"""

import packetwalk as pw

cluster = pw.Cluster(nodes=2, cni=pw.Flannel("vxlan"))
a, b, c = cluster.pod("a", node=1), cluster.pod("b", node=1, listen=80), cluster.pod("c", node=2, listen=80)
here = cluster.service("here", port=80, pods=[b])
there = cluster.service("there", port=80, pods=[c])
net = pw.build(cluster)
off = pw.whatif(net, "node-1 sysctl net.bridge.bridge-nf-call-iptables=0")


def show(title: str, net: pw.Network, service: pw.Service) -> None:
    """How the connection went, and from whom the client heard first."""
    trace = pw.walk(net, a, service, tcp=80)
    heard = [step.packet.headers[1] for hop, step in trace.steps if hop.room == "a" and step.stage == "receive"]
    sources = [str(ip.src) for ip in heard if hasattr(ip, "src")]
    died = [f"{step.what.reason} at {room}" for room, step in trace.drops][:1]
    print(f"  {title}: {trace.result.outcome}; a hears from {sources[0] if sources else 'nobody'}", *died, sep="; ")


print(f"here is {net.services['here']}, its pod b {pw.address_of(net, b.room)} is on a's node; there leads to node-2")
print("1. bridge-nf-call-iptables = 1")
show("here ", net, here)
show("there", net, there)
print("2. bridge-nf-call-iptables = 0")
show("here ", off, here)
show("there", off, there)
print("3. Off, but pods are routed by Calico, so no packet is bridged")
routed = pw.build(cluster.using(pw.Calico("ipip")))
show("here ", pw.whatif(routed, "node-1 sysctl net.bridge.bridge-nf-call-iptables=0"), here)
print("Learn: a service that only fails for clients on its backend's node is a bridge whose packets iptables misses.")
