"""A service has three backends. Who gets which one, and for how long does a client stay?

kube-proxy's rules draw lots for each connection. With session affinity a client's address is noted for a while, and
goes to the same pod again; the list is each node's own.
"""

from collections import Counter

import packetwalk as pw
from packetwalk.show import show

cluster = pw.Cluster(nodes=2, cni=pw.Flannel("vxlan"))
a, c = cluster.pod("a", node=1), cluster.pod("c", node=2)
pods = [cluster.pod(f"b{i}", node=2, listen=80) for i in (1, 2, 3)]
cluster.service("any", port=80, pods=pods)
cluster.service("same", port=80, pods=pods, session_affinity="ClientIP", session_affinity_timeout=60)
net = pw.build(cluster)


def backends(service: str, src: pw.Pod, count: int) -> Counter[str]:
    """Where so many connections from different ports went, one after the other."""
    found: Counter[str] = Counter()
    now = net
    for sport in range(40000, 40000 + count):
        flow = pw.Flow("tcp", src.room, net.services[service], 80, sport)
        trace = pw.walk(now, flow)
        found[next(hop.room for hop in trace.hops if hop.room.startswith("b"))] += 1
        assert trace.after is not None
        now = trace.after
    return found


for service, title in (("any", "1. Without affinity"), ("same", "2. With ClientIP affinity")):
    print(title)
    for src in (a, c):
        spread = ", ".join(f"{n} to {b}" for b, n in sorted(backends(service, src, 30).items()))
        print(f"  30 connections from {src.room}: {spread}")

print("3. What decides: a third, half of the rest, the rest; or a list of recent clients, which goes first")
for line in show(net, "node-1", "rules").splitlines():
    words = line.partition("--comment ")[2]
    if line.startswith("-A KUBE-SVC") and ("->" in words):
        print(f"  {words.replace(' -m ', ', ', 1).partition(' -j ')[0]}")
print("Learn: affinity is by address and by node: behind one NAT all clients are one, and another node draws anew.")
