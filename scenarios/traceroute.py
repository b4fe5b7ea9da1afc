"""Who answers a traceroute from pod to pod, mode by mode? Where a tunnel hides the fabric, and where it does not.

Two racks behind a router; the modes that need its help get it (Calico peers with it).
"""

import packetwalk as pw
from packetwalk.cni import Cni, find


def hops(cni: Cni) -> list[str]:
    """The address that answers each TTL, with the room it is in."""
    cluster = pw.Cluster(nodes=2, cni=cni, racks=2)
    a, b = cluster.pod("a", node=1), cluster.pod("b", node=2)
    net = pw.build(cluster)
    found = []
    for ttl in range(1, 9):
        result = pw.walk(net, a, b, ttl=ttl).result
        room = net.owner(pw.IPv4(result.src)) if result.src else None
        found.append(f"{result.src} ({room})" if room else "*")
        if result.outcome == "reply":
            break
    return found


for title, cni in [
    ("flannel-vxlan", find("flannel-vxlan")),
    ("calico-bgp, fabric peering", pw.Calico("none", peer_fabric=True)),
    ("calico-ipip", find("calico-ipip")),
    ("calico-vxlan", find("calico-vxlan")),
    ("geneve", find("geneve")),
]:
    print(title)
    print("\n".join(f"  {n}  {hop}" for n, hop in enumerate(hops(cni), 1)))
print("Learn: a tunnel hides every router below it, and its far end shows only if it can answer from there.")
