"""Why does a look-up take five seconds every now and then, and what does NodeLocal DNSCache do about it?

The C library sends the questions for A and AAAA at once from one port. If the first has not left the node yet when the
second is translated, kube-proxy may draw another CoreDNS for it; two connections then claim one reply tuple, and the
kernel drops the packet of the one that comes second. The client waits for that answer until its time-out.
"""

from dataclasses import replace

import packetwalk as pw

cluster = pw.Cluster(nodes=2, cni=pw.Flannel("vxlan"), dns=pw.Dns())
a, b = cluster.pod("a", node=1), cluster.pod("b", node=2, http=80)
cluster.service("web", port=80, pods=[b])

print("1. Nobody knows anybody yet, so the first question waits for ARP and the second overtakes it")
slow = pw.fetch(pw.build(cluster), a, "http://web", cold=True)
for query, answer in slow.queries:
    print(f"  {query}: {answer}")
for room, step in slow[0].drops:
    print(f"  {room} drops: {step.what.by}")
print(f"  {slow.words} after {slow.at / 1e9:.1f} s")

print("2. With neighbours known, the first question is confirmed before the second comes")
quick = pw.fetch(pw.build(cluster), a, "http://web")
print(f"  {quick.words} after {quick.at / 1e6:.1f} ms")

print("3. With a cache on the node no connection is tracked between the pod and it: nothing to lose")
local = replace(cluster, dns=pw.Dns(node_local=True))
quick = pw.fetch(pw.build(local), a, "http://web", cold=True)
print(f"  {quick.words} after {quick.at / 1e6:.1f} ms")
print("Learn: five seconds are a resolver's patience, and they are spent on a packet that died without a word.")
