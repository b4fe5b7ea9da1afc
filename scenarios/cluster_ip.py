"""No host has a service's address. Where does it become a pod's, for a pod, for a node, and for somebody outside?"""

import packetwalk as pw

cluster = pw.Cluster(nodes=2, cni=pw.Flannel("vxlan"))
a, b = cluster.pod("a", node=1), cluster.pod("b", node=2, listen=8080)
web = cluster.service("web", port=80, pods=[b], target_port=8080)
net = pw.build(cluster)
print(f"web is {net.services['web']}:80, b is {pw.address_of(net, 'b')}:8080")


def show(title: str, src: str) -> None:
    """What NAT did to the packet that opens a connection, and how it went."""
    trace = pw.walk(net, src, web, tcp=80)
    print(f"{title}: {trace.result.outcome}")
    for room, step in (*trace.nat, *trace.drops):
        ip, tcp = step.packet.headers[:2]
        if tcp.flags == "S" and step.stage == "drop":
            print(f"  {room} drops it: {step.what.reason}")
        elif tcp.flags == "S":
            print(f"  {room} {step.dev}: {ip.src} > {ip.dst}:{tcp.dport}, by {step.what.by.chain}")


show("1. A pod: its node translates what comes in", "a")
show("2. The node itself: translated as it leaves, and the pod must answer to an address it can reach", "node-1")
show("3. Somebody outside: no router knows such a network", "out")
ping = pw.walk(net, "a", web)
print(f"4. A ping has no port that a rule could match: {ping.minimal().partition(' > ')[2]}")
print("Learn: a ClusterIP exists only in the NAT rules of the nodes, for the ports of the service.")
