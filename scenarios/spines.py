"""Two racks, two spines. Who talks by which spine, and what happens to them when a spine's wire fails?

A leaf chooses among its next hops by a hash over the two addresses, so that what two pods say stays in order.
"""

import packetwalk as pw

cluster = pw.Cluster(nodes=2, racks=2, spines=2, cni=pw.Calico("none", peer_fabric=True))
pairs = [(cluster.pod(f"a{i}", node=1), cluster.pod(f"b{i}", node=2)) for i in range(8)]
net = pw.build(cluster)


def show(title: str, net: pw.Network, *faults: str) -> None:
    """Eight pairs of pods talk for 200 ms: how many packets each spine carried, and how many were lost."""
    load = pw.simulate(net, *(pw.constant(a, b, rate=200) for a, b in pairs), until="200ms", faults=faults)
    hops = [row for row in load.rows("hops") if row["from"] == "leaf-1" and "spine" in row["dev"]]
    died = ", ".join(sorted({row["reason"] for row in load.rows("drops")}))
    print(f"{title}\n ", ", ".join(sorted(f"{row['frames']} by {row['dev']}" for row in hops)), end="; ")
    print(f"{load.lost} of {load.sent} lost{f' ({died})' if died else ''}")


show("1. Both are up", net)
show("2. At 100 ms leaf-1 takes its device to spine-1 down: everybody moves at once", net,
     "at 100ms leaf-1 link set spine-1 down")  # fmt: skip
show("3. At 100 ms spine-1 shuts its port instead: leaf-1 sees no carrier, and goes on sending", net,
     "at 100ms link leaf-1/spine-1 down")  # fmt: skip
minded = pw.whatif(net, "leaf-1 sysctl net.ipv4.conf.all.ignore_routes_with_linkdown=1")
show("4. The same with ignore_routes_with_linkdown=1", minded, "at 100ms link leaf-1/spine-1 down")
print("Learn: a kernel leaves out a next hop whose device is down; one without carrier only if it was told to.")
