"""What does the same ping look like under every CNI, between two nodes of one subnet and between two racks?

The way there, and what came back. The way back is the same with the tunnels turned round.
"""

import packetwalk as pw
from packetwalk.cni import find, modes

for racks, title in ((1, "one switch"), (2, "two racks behind a router")):
    print(f"{title}:")
    for mode in modes():
        cluster = pw.Cluster(nodes=2, cni=find(mode), racks=racks)
        a, b = cluster.pod("a", node=1), cluster.pod("b", node=2)
        way, _, result = pw.walk(pw.build(cluster), a, b).minimal().rpartition(" : ")
        there, arrived, _ = way.partition(" > b")
        print(f"  {mode:25} {there}{arrived} : {result}")
print("Learn: what crosses a router without a tunnel needs routes there; what is in a tunnel needs none.")
