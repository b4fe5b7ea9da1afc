"""Two racks behind a router that knows no pod: why does IP-in-IP work, plain BGP not, and what brings it back?

The racks are 25.25.25.0/24 and 35.35.35.0/24, their gateways .254, the nodes' cards are called bond0.
"""

import packetwalk as pw

RACKS = [pw.Rack("left", "25.25.25.0/24", "25.25.25.254"), pw.Rack("right", "35.35.35.0/24", "35.35.35.254")]
NODES = [pw.Node("node-1", "25.25.25.121", "left", pod_cidr="10.244.1.0/26"),
         pw.Node("node-2", "35.35.35.122", "right", pod_cidr="10.244.2.0/26")]  # fmt: skip

ipip = pw.Cluster(NODES, pw.Calico("ipip"), RACKS, nic="bond0")
a, b = ipip.pod("a", node=1), ipip.pod("b", node=2)


def show(title: str, cluster: pw.Cluster) -> None:
    """The route to the other rack's pods, and a ping along it."""
    net = pw.build(cluster)
    route = next(line for line in net["node-1"].routes.splitlines() if line.startswith("10.244.2."))
    print(f"{title}\n  node-1: {route}\n  {pw.walk(net, a, b).minimal()}\n")


show("1. IP-in-IP: the router sees node addresses only", ipip)
show("2. IP-in-IP turned off: the router has no route to 10.244.2.0/26", ipip.using(pw.Calico("none")))
show("3. The nodes peer with the router: it learns both blocks", ipip.using(pw.Calico("none", peer_fabric=True)))

print("4. Case 1 on the wire, and before the first packet: the pod asks for a gateway that is nowhere")
net = pw.build(ipip)
outer = pw.walk(net, a, b)["node-1"].step("encap").packet.headers[0]
print(f"  outer header {outer.src} > {outer.dst}, protocol {outer.proto}, ttl {outer.ttl}")
asked, answered, *_ = pw.walk(net, a, b, cold=True).hops
arp = asked.step("transmit").packet.headers[-1]
print(f"  {asked.room} asks who has {arp.tpa}")
arp = answered.step("transmit").packet.headers[-1]
print(f"  {answered.room} answers for {arp.spa}: {arp.sha}")
print("Learn: plain BGP needs every router on the way to know the pods' blocks, a tunnel only the nodes' addresses.")
