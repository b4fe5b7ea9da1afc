"""A pod calls the outside. Under whose address does it arrive, and what happens where nobody translates it?"""

import packetwalk as pw


def show(title: str, net: pw.Network) -> None:
    """What the host outside sees, and whether the answer finds its way."""
    trace = pw.walk(net, "a", "out")
    seen = next((str(h.steps[0].packet.headers[1].src) for h in trace.hops if h.room == "out"), "nobody")
    died = [f"dropped by {room}: {step.what.reason}" for room, step in trace.drops if room != "out"]
    print(f"{title}\n  out sees {seen}, a gets a {trace.result.outcome}", *died, sep="; ")


cluster = pw.Cluster(nodes=2, cni=pw.Calico("ipip"))
cluster.pod("a", node=1)
net = pw.build(cluster)
print(f"a is {pw.address_of(net, 'a')}, node-1 is {pw.address_of(net, 'node-1')}")

show("1. Calico with natOutgoing: what leaves the pools of pod addresses gets the node's", net)
off = "node-1 iptables -t nat -F cali-nat-outgoing"
show("2. Calico without it: the outside answers to an address that its routers do not know", pw.whatif(net, off))
peering = pw.build(cluster.using(pw.Calico("none", peer_fabric=True)))
show("3. Without it, but the router has learned the pods' addresses by BGP", pw.whatif(peering, off))
show("4. Flannel does the same as case 1 with a chain of its own", pw.build(cluster.using(pw.Flannel("vxlan"))))
print("Learn: pods need SNAT exactly as far as nobody routes their addresses back to the node.")
