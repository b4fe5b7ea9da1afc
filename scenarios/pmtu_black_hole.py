"""Connections open, and hang at the first large message. What is a path MTU black hole, and what closes it?

A wire in the fabric takes 1400 bytes. The router in front of it says so by ICMP (fragmentation needed), and TCP sends
smaller segments from then on. But somebody has "hardened" node-1: of ICMP it forwards only pings.
"""

import packetwalk as pw

cluster = pw.Cluster(nodes=2, racks=2, cni=pw.Calico("none", peer_fabric=True))
a, b = cluster.pod("a", node=1, listen=80), cluster.pod("b", node=2, listen=80)
narrow = pw.whatif(pw.build(cluster), "link router/eth1 mtu 1400")
deaf = "node-1 iptables -I FORWARD -p icmp -m icmp --icmp-type 3 -j DROP"
clamp = "node-1 iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1360"


def show(title: str, net: pw.Network) -> None:
    """A connection that says nothing, and one that says 4000 bytes and hears them again."""
    print(title)
    for size in (0, 4000):
        trace = pw.walk(net, a, b, tcp=80, size=size)
        drops = sorted({f"{step.what.reason} at {room}" for room, step in trace.drops})
        said = f"{size:4} bytes: {trace.result.outcome}, {trace.result.echoed} came back"
        print(f"  {said}{', dropped: ' if drops else ''}{', '.join(drops)}")


show("1. The router complains (PKT_TOO_BIG), the pod hears it and cuts its segments smaller", narrow)
show("2. node-1 drops the complaint: small things work, large ones hang", pw.whatif(narrow, deaf))
show("3. node-1 makes both ends agree on segments that fit, and no complaint is needed", pw.whatif(narrow, deaf, clamp))

print("4. How to find it: pings that must not be fragmented; the first that is too large gets no answer at all")
for size in (1372, 1373):
    result = pw.walk(pw.whatif(narrow, deaf), a, b, size=size, df="do").result
    print(f"  {size} + 28 bytes: {result.outcome}")

print("Learn: never drop 'fragmentation needed'; where others do, clamp the MSS or lower the MTU of the pods.")
