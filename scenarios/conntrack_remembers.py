"""A service's backend has gone. Why do old clients still call it, and new ones not?

NAT is decided for a connection's first packet. All others follow what connection tracking has written down, whatever
the rules say by now: kube-proxy has to delete the entries of UDP clients when an endpoint goes.
"""

import packetwalk as pw

cluster = pw.Cluster(nodes=3, cni=pw.Flannel("host-gw"))
a, old, new = cluster.pod("a", node=1), cluster.pod("old", node=2, listen=53), cluster.pod("new", node=3, listen=53)
cluster.service("dns", port=53, protocol="UDP", pods=[old], ip="10.96.0.10")
before = pw.build(cluster)
moved = pw.Cluster(nodes=3, cni=cluster.cni, pods=cluster.pods)
moved.service("dns", port=53, protocol="UDP", pods=[new], ip="10.96.0.10")
after = pw.build(moved)


def ask(title: str, net: pw.Network, sport: int = 40000) -> pw.Network:
    """One question from a port; the network as it is afterwards."""
    flow = pw.between(net, a, "dns", udp=53)
    trace = pw.walk(net, pw.Flow("udp", flow.src, flow.dst, flow.dport, sport))
    rooms = [hop.room for hop in trace.hops if hop.room in ("old", "new")]
    print(f"{title}: {trace.result.outcome} by {rooms[0] if rooms else 'nobody'}")
    assert trace.after is not None
    return trace.after


later = ask("1. While the old pod is the backend", before)
entry = next(conn for conn in later["node-1"].conns.all() if conn.original.dport == 53)
print(f"   node-1 has noted: to {entry.original.dst} means {entry.reply.src}")
later["node-1"].netfilter = after["node-1"].netfilter
ask("2. The rules name the new pod. The same client, from the same port", later)
ask("3. A client from another port", later, sport=40001)
later["node-1"].conns = after["node-1"].conns
ask("4. The first client, after `conntrack -D` on node-1", later)
print("Learn: rules decide about beginnings; what has begun follows its entry, UDP as long as somebody keeps asking.")
