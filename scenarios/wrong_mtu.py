"""A pod's MTU is left at 1500 over VXLAN. What becomes of its 1500-byte packets, with DF and without?"""

import packetwalk as pw

cluster = pw.Cluster(nodes=2, cni=pw.Flannel("vxlan"))
a, b = cluster.pod("a", node=1), cluster.pod("b", node=2, listen=80)
net = pw.build(cluster)

print("1. As flanneld sets it up, the pod knows: 1450\n")
print(pw.walk(net, a, b, size=1472, df="do"), "\n")

ports = [device.name for device in net["node-1"].ports("cni0")]
wrong = pw.whatif(net, "a link set eth0 mtu 1500", *(f"node-1 link set {dev} mtu 1500" for dev in ("cni0", *ports)))

print("2. Pod and bridge at 1500, the tunnel still at 1450: with DF the node says so, by ICMP\n")
trace = pw.walk(wrong, a, b, size=1472, df="do")
print(trace, "\n")

print("3. The pod has learned and sends again\n")
print(pw.walk(trace.after, a, b, size=1472, df="do"), "\n")

print("4. Without DF the node fragments, and the far pod puts it together\n")
print(pw.walk(wrong, a, b, size=1472, df="dont"), "\n")

print("5. TCP announces 1460 bytes and is told to send less\n")
print(pw.walk(wrong, a, b, tcp=80, size=4000).minimal().rpartition(" : ")[2])
