"""A client outside calls a node's port. What does externalTrafficPolicy decide, and what does it cost?

Cluster: any node takes the call and hands it on, and stands in for the client. Local: a node answers only for pods of
its own, which then see the client as it is.
"""

import packetwalk as pw

cluster = pw.Cluster(nodes=3, cni=pw.Flannel("host-gw"))
b = cluster.pod("b", node=2, listen=8080)
for policy, port in (("Cluster", 30080), ("Local", 30081)):
    name = policy.lower()
    cluster.service(name, port=80, pods=[b], target_port=8080, node_port=port, external_traffic_policy=policy)
net = pw.build(cluster)


def client_of(trace: pw.Trace) -> str:
    """Whom the pod has seen."""
    seen = [step.packet.headers[0].src for hop, step in trace.steps if hop.room == "b" and step.stage == "deliver"]
    return f"b's client is {seen[0]}" if seen else "b hears nothing"


for policy, port in (("Cluster", 30080), ("Local", 30081)):
    print(f"externalTrafficPolicy: {policy}; {pw.address_of(net, 'out')} calls port {port}; the pod is on node-2")
    for node in ("node-1", "node-2"):
        trace = pw.walk(net, "out", f"{node}:{port}")
        rooms = [hop.room for hop in trace.hops]
        way = " > ".join(rooms[: rooms.index("b") + 1] if "b" in rooms else rooms[:4])
        print(f"  {node}: {trace.result.outcome}; {client_of(trace)}; {way}")

print("Learn: Local keeps the client's address and saves a hop, but a load balancer must know which nodes have a pod.")
