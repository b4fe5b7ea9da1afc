"""A node has come back with another address; one peer's VXLAN entry still has the old one. What shows, and where?"""

import packetwalk as pw

cluster = pw.Cluster(nodes=3, cni=pw.Flannel("vxlan"))
a, b, c = cluster.pod("a", node=1), cluster.pod("b", node=2), cluster.pod("c", node=3)
net = pw.build(cluster)
vtep = net["node-2"].device("flannel.1").mac

print("1. node-1 sends to an address that nobody has: its own card asks for it in vain")
stale = pw.whatif(net, f"node-1 fdb replace {vtep} dev flannel.1 dst 192.168.56.99")
trace = pw.walk(stale, a, b)
print(f"  {trace.minimal().partition(' > ')[0]} ... {trace.minimal().rpartition(' > ')[2]}")

print("2. The old address is node-3's by now: it takes the frame off the tunnel, but the inner MAC is not its own")
stale = pw.whatif(net, f"node-1 fdb replace {vtep} dev flannel.1 dst 192.168.56.13")
print(f"  {pw.walk(stale, a, b).minimal()}")

print("3. From b to a all is well on the way there; the answer takes the wrong turn")
print(f"  {pw.walk(stale, b, a).minimal()}")
print("Learn: VXLAN checks nothing; where a wrong entry leads, another node drops the inner frame in silence.")
