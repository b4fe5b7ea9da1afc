"""A pod's MTU is left at 1500 over VXLAN. What becomes of its 1500-byte packets, with DF and without?"""

import packetwalk as pw

cluster = pw.Cluster(nodes=2, cni=pw.Flannel("vxlan"))
a, b = cluster.pod("a", node=1), cluster.pod("b", node=2, listen=80)
net = pw.build(cluster)

print("1. As flanneld sets it up, the pod knows: 1450")
print(f"  {pw.walk(net, a, b, size=1472, df='do').minimal()}")

ports = [device.name for device in net["node-1"].ports("cni0")]
wrong = pw.whatif(net, "a link set eth0 mtu 1500", *(f"node-1 link set {dev} mtu 1500" for dev in ("cni0", *ports)))

print("2. Pod and bridge at 1500, the tunnel still at 1450: with DF the node says so, by ICMP")
trace = pw.walk(wrong, a, b, size=1472, df="do")
print(f"  {trace.minimal()}")

print("3. The pod has learned and sends again")
print(f"  {pw.walk(trace.after, a, b, size=1472, df='do').minimal()}")

print("4. Without DF the node fragments, and the far pod puts it together")
print(f"  {pw.walk(wrong, a, b, size=1472, df='dont').minimal()}")

print("5. TCP announces 1460 bytes and is told to send less")
result = pw.walk(wrong, a, b, tcp=80, size=4000).result
print(f"  {result.outcome}, mss {result.mss}, {result.echoed} bytes echoed")
print("Learn: an MTU that is too large is found out by ICMP, for each destination anew; set it right in the pod.")
