"""The cluster as Kubernetes sees it: nodes, pods, address ranges, the fabric below; `build` makes a Network of it."""
