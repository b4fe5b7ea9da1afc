"""The front door: its names are a promise, and opening it costs nothing."""

import subprocess
import sys

import pytest

import packetwalk
from packetwalk import source

NAMES = [
    "SAMPLE", "Bridge", "Calico", "Cluster", "Dns", "DnsConfig", "Endpoint", "Flannel", "FlatBridge", "Flow", "Geneve",
    "Hop", "IPv4", "IngressController", "KubeProxy", "Link", "Load", "LoadBalancer", "Mac", "Netns", "Network", "Node",
    "Packet", "Pod", "Prefix", "Rack", "Reason", "Result", "Service", "ServicePort", "SnapshotError", "Source", "Step",
    "Trace", "Veth", "Vxlan", "address_of", "between", "build", "compare", "conformance", "constant", "fetch",
    "load_cluster", "load_costs", "load_snapshot", "on_off", "plot", "poisson", "recorded", "simulate", "transfer",
    "walk", "whatif", "write_pcapng",
]  # fmt: skip


def test_the_public_names() -> None:
    assert packetwalk.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_name_leads_somewhere(name: str) -> None:
    assert getattr(packetwalk, name).__doc__, "public names have docstrings"
    assert name in dir(packetwalk)


def test_no_name_is_also_a_module() -> None:
    """Importing packetwalk.x would put the module in the place of the name."""
    files = {path.stem for path in source.SAMPLE.parent.parent.iterdir()}
    assert not files & set(NAMES)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = packetwalk.nothing


def test_the_sample_of_the_front_door_is_that_of_the_command() -> None:
    assert packetwalk.SAMPLE == source.SAMPLE and (packetwalk.SAMPLE / "snapshot.json").is_file()


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = ["simpy", "networkx", "rich", "typer", "difflib", "json", "packetwalk.netns.namespace"]
    code = f"import sys, packetwalk; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_example_of_the_package_walks() -> None:
    net = packetwalk.load_snapshot(packetwalk.SAMPLE)
    trace = packetwalk.walk(net, packetwalk.Flow("icmp", "a", packetwalk.address_of(net, "b")))
    assert trace.delivered
    assert list(dict.fromkeys(hop.room for hop in trace)) == ["a", "node-1", "fabric", "node-2", "b"]


def test_a_cluster_in_five_lines() -> None:
    cluster = packetwalk.Cluster(nodes=2, cni=packetwalk.Calico("ipip"))
    a, b = cluster.pod("a", node=1), cluster.pod("b", node=2, listen=80)
    trace = packetwalk.walk(packetwalk.build(cluster), a, b, tcp=80)
    assert trace.result.outcome == "connected"
    flannel = packetwalk.build(cluster.using(packetwalk.Flannel("vxlan")))
    assert "[+vxlan]" in packetwalk.walk(flannel, a, b).minimal()


def test_the_ends_of_a_walk_are_rooms_or_addresses() -> None:
    net = packetwalk.load_snapshot(packetwalk.SAMPLE)
    flow = packetwalk.between(net, "a", "b", udp=53, size=10, ttl=3, df="do")
    assert (flow.kind, flow.src, str(flow.dst), flow.dport, flow.to) == ("udp", "a", "10.244.2.2", 53, "b")
    assert (flow.size, flow.ttl, flow.df) == (10, 3, "do")
    assert packetwalk.between(net, "a", "10.244.2.2").to == ""
    with pytest.raises(KeyError, match="there is no room 'bb'; there are fabric"):
        packetwalk.walk(net, "a", "bb")
