"""Objects of Kubernetes as `kubectl get -o yaml` prints them: what they mean, and what is wrong with some."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packetwalk import cli
from packetwalk.document import DocumentError, load_cluster, read
from packetwalk.engine.walk import walk
from packetwalk.kube.balancer import LoadBalancer
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, Node, numbered
from packetwalk.kube.service import Endpoint
from packetwalk.network import Network
from packetwalk.source import from_file

DUMP = Path(__file__).parent / "dumps" / "flannel.yaml"
Capture = pytest.CaptureFixture[str]

NODES = """
apiVersion: v1
kind: NodeList
items:
- metadata:
    name: n1
    annotations: {projectcalico.org/IPv4Address: 10.0.0.11/24, projectcalico.org/IPv4IPIPTunnelAddr: 192.168.5.0}
  status: {addresses: [{type: InternalIP, address: 10.0.0.11}, {type: InternalIP, address: "fd00::11"}]}
- metadata: {name: n2, annotations: {projectcalico.org/IPv4IPIPTunnelAddr: 192.168.9.64}}
  status: {addresses: [{type: InternalIP, address: 10.0.0.12}]}
"""
POD = """
---
kind: Pod
metadata: {name: a, labels: {app: a}}
spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 8080, name: http}]}]}
status: {phase: Running, podIP: 192.168.5.7}
"""
SERVICE = """
---
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.7.7, ports: [{port: 80, targetPort: http}], selector: {app: a}}
"""


def written(tmp_path: Path, text: str, name: str = "dump.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def cluster_of(tmp_path: Path, text: str) -> Cluster:
    return load_cluster(written(tmp_path, text))


def nodes_of(cluster: Cluster) -> list[Node]:
    return list(numbered(cluster.nodes))


@pytest.fixture(scope="module")
def dumped() -> Network:
    return from_file(DUMP)


# -- a dump ------------------------------------------------------------------------------------------------------------


def test_what_a_dump_says() -> None:
    cluster = load_cluster(DUMP)
    assert cluster.cni.name == "flannel-vxlan"
    assert (cluster.pod_cidr, cluster.service_cidr) == ("10.244.0.0/16", "10.96.0.0/16")  # of the control plane's flags
    first, worker, _ = nodes_of(cluster)
    assert first == Node("control-plane", "172.18.0.2", pod_cidr="10.244.0.0/24", control_plane=True, zone="zone-a")
    assert (worker.ip, worker.control_plane) == ("172.18.0.3", False)
    pods = {p.room: p for p in cluster.pods}
    assert "shop/migrate-x7k2p" not in pods  # it is over
    assert pods["client"].ip == "10.244.1.3" and pods["web-7d9f8c6b5d-2hxqk"].listen == (8080,)
    assert pods["shop/cart-5c6f7d8b94-lq8wm"].listen == (9000,)  # it declares none, so where its service leads to
    assert pods["kube-system/kube-proxy-m9x4t"].host_network and not pods["kube-system/kube-proxy-m9x4t"].ip
    web = next(s for s in cluster.services if s.name == "web")
    assert (web.cluster_ip, web.type, web.ports[0].target) == ("10.96.113.20", "NodePort", 8080)
    assert web.ports[0].node_port == 30080
    assert [e.ready for e in web.endpoints] == [True, True, False]
    assert web.endpoints[0] == Endpoint("10.244.1.4", "worker-1", "web-7d9f8c6b5d-2hxqk", serving=True)


@pytest.mark.parametrize(
    ("src", "dst"),
    [("client", "web:80"), ("client", "kubernetes:443"), ("client", "cart.shop:80"), ("out", "worker-2:30080"),
     ("worker-1/kubelet", "client"), ("kube-system/kube-proxy-zz6wd", "kubernetes:443")],
)  # fmt: skip
def test_walks_in_a_dump(dumped: Network, src: str, dst: str) -> None:
    assert walk(dumped, src, dst).delivered


def test_json_is_the_same(tmp_path: Path) -> None:
    import yaml

    data = yaml.safe_load(DUMP.read_text(encoding="utf-8"))
    cluster = load_cluster(written(tmp_path, json.dumps(data, indent=4, default=str), "dump.json"))
    assert cluster == load_cluster(DUMP)


def test_the_subnet_is_around_the_nodes(dumped: Network) -> None:
    assert [str(a) for a in dumped["worker-1"].device("eth0").addrs] == ["172.18.0.3/24"]
    assert str(dumped["router"].device("eth0").addrs[0]) == "172.18.0.1/24"


def test_a_command_says_what_it_left_out(capsys: Capture) -> None:
    assert cli.main(["walk", "client", "web:80", "--minimal", "-f", str(DUMP)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("client > worker-1 [nat dst]")
    assert err == "packetwalk: left out: 1 ConfigMap, Pod migrate-x7k2p (Succeeded)\n"


def test_a_cluster_is_compared_under_other_cnis(capsys: Capture) -> None:
    assert cli.main(["compare", "client", "cart.shop:80", "-f", str(DUMP), "--cni", "flannel-vxlan,calico-ipip"]) == 0
    out, err = capsys.readouterr()
    assert out.count("connected, mss") == 2 and err.count("left out") == 1


# -- parts of it -------------------------------------------------------------------------------------------------------


def test_calicos_annotations_and_blocks(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, NODES + POD)
    assert cluster.cni.name == "calico-ipip"
    one, two = nodes_of(cluster)
    assert (one.ip, one.tunnel_ip, one.pod_cidr) == ("10.0.0.11", "192.168.5.0", "192.168.5.0/26")
    assert two.pod_cidr == "192.168.9.64/26"
    assert cluster.pod_cidr == "192.168.0.0/16"
    network = build(cluster)
    assert str(network["n1"].device("tunl0").addrs[0].local) == "192.168.5.0"
    assert walk(network, "n2", "a:8080").result.outcome == "connected"


def test_a_pod_beyond_its_nodes_block_gets_one_more(tmp_path: Path) -> None:
    more = POD.replace("name: a,", "name: b,").replace("192.168.5.7", "192.168.77.3")
    network = build(cluster_of(tmp_path, NODES + POD + more))
    assert "192.168.77.0/26 via 10.0.0.11 dev tunl0 proto bird onlink" in network["n2"].routes


def test_a_selector_serves_where_no_slice_does(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, NODES + POD + SERVICE)
    (web,) = cluster.services
    assert (web.selector, web.endpoints, web.ports[0].target) == ({"app": "a"}, (), 8080)
    assert walk(build(cluster), "n2", "web:80").result.outcome == "connected"


def test_endpoints_serve_where_no_slice_does(tmp_path: Path) -> None:
    old = """
---
kind: Endpoints
metadata: {name: web}
subsets:
- addresses: [{ip: 192.168.5.7, nodeName: n1, targetRef: {kind: Pod, name: a}}]
  notReadyAddresses: [{ip: 192.168.5.8}]
  ports: [{port: 8080}]
"""
    (web,) = cluster_of(tmp_path, NODES + POD + SERVICE + old).services
    assert web.endpoints == (Endpoint("192.168.5.7", "n1", "a"), Endpoint("192.168.5.8", ready=False))
    assert web.selector == {} and web.ports[0].target == 8080


def test_conditions_and_hints_of_a_slice(tmp_path: Path) -> None:
    sliced = """
---
kind: EndpointSlice
metadata: {name: web-x, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", port: 8080}]
endpoints:
- {addresses: [192.168.5.7], conditions: {ready: false, serving: true, terminating: true}, nodeName: n1}
- {addresses: [192.168.5.9], conditions: {}, hints: {forZones: [{name: z}]}}
"""
    (web,) = cluster_of(tmp_path, NODES + POD + SERVICE + sliced).services
    assert web.endpoints == (
        Endpoint("192.168.5.7", "n1", "", False, True, True),
        Endpoint("192.168.5.9", zones=("z",)),
    )


def test_addresses_of_a_load_balancer_but_those_of_a_proxy(tmp_path: Path) -> None:
    text = """
---
kind: Service
metadata: {name: lb}
spec: {type: LoadBalancer, clusterIP: 10.96.7.8, ports: [{port: 80, nodePort: 30001}], sessionAffinity: ClientIP,
       sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}, externalTrafficPolicy: Local}
status: {loadBalancer: {ingress: [{ip: 198.51.100.1}, {ip: 198.51.100.2, ipMode: Proxy}, {hostname: x.example}]}}
"""
    (lb,) = cluster_of(tmp_path, NODES + text).services
    assert (lb.load_balancer_ips, lb.session_affinity_timeout, lb.external_local) == (("198.51.100.1",), 60, True)


METALLB = """
---
{kind: IPAddressPool, metadata: {name: p, namespace: m}, spec: {addresses: [10.0.0.9-10.0.0.10, 10.0.0.192/28]}}
---
{kind: L2Advertisement, metadata: {name: l2, namespace: m}, spec: {}}
"""


def test_metallbs_objects_show_who_leads_traffic_in(tmp_path: Path) -> None:
    service = SERVICE.replace("clusterIP", "type: LoadBalancer, clusterIP")
    cluster = cluster_of(tmp_path, NODES + POD + service + METALLB)
    assert cluster.load_balancer == LoadBalancer("l2", "10.0.0.192/28")
    network = build(cluster)
    assert str(network.published["web"]) == "10.0.0.192"
    assert walk(network, "out", "web:80").result.outcome == "connected"
    told = "load_balancer: {mode: bgp}\n---\n" + NODES + POD + service + METALLB
    assert cluster_of(tmp_path, told).load_balancer == LoadBalancer("bgp")


def test_workloads_make_the_pods_that_are_not_there(tmp_path: Path) -> None:
    text = """
---
kind: Deployment
metadata: {name: shop, namespace: s}
spec:
  replicas: 3
  selector: {matchLabels: {app: shop}}
  template: {metadata: {labels: {app: shop, tier: x}}, spec: {containers: [{name: c, ports: [{containerPort: 80}]}]}}
---
kind: DaemonSet
metadata: {name: agent}
spec: {selector: {matchLabels: {app: agent}}, template: {spec: {hostNetwork: true, containers: [{name: c}]}}}
---
kind: Deployment
metadata: {name: a}
spec: {replicas: 9, selector: {matchLabels: {app: a}}, template: {spec: {containers: []}}}
"""
    cluster = cluster_of(tmp_path, NODES + POD + text)
    shop = [p for p in cluster.pods if p.namespace == "s"]
    assert len(shop) == 3 and shop[0].labels["tier"] == "x" and shop[0].listen == (80,)
    assert [p.node for p in cluster.pods if p.labels["app"] == "agent"] == ["n1", "n2"]
    assert sum(p.labels["app"] == "a" for p in cluster.pods) == 1


def test_manifests_that_nobody_has_applied(tmp_path: Path) -> None:
    ours = "cni: flat-bridge\nnodes: 2\n---\n"
    pods = "".join(
        f"kind: Pod\nmetadata: {{name: {name}, labels: {{app: web}}}}\nspec: {{containers: [{{name: c}}]}}\n---\n"
        for name in ("x", "y")
    )
    spec = "{selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}"
    service = f"kind: Service\nmetadata: {{name: web}}\nspec: {spec}\n"
    cluster = cluster_of(tmp_path, ours + pods + service)
    assert [(p.name, p.node, p.listen) for p in cluster.pods] == [("x", "node-1", (8080,)), ("y", "node-2", (8080,))]
    assert walk(build(cluster), "x", "web:80").result.outcome == "connected"


def test_a_port_of_the_host_is_left_out_by_name(tmp_path: Path) -> None:
    file = read(written(tmp_path, NODES + POD.replace("name: http", "name: http, hostPort: 8081")))
    assert not file.left_out and file.cluster().pods
    assert file.left_out == {"hostPort 8081 of pod a": 1}


# -- beside a document of ours -----------------------------------------------------------------------------------------


def test_a_document_beside_objects_says_the_rest(tmp_path: Path) -> None:
    ours = """
cni: {mode: calico-vxlan, mtu: 1400}
nodes: [{name: n2, mac: 02:00:00:00:00:22}, {name: n3, ip: 10.0.0.13}]
pods: [{name: z, node: n2}, {name: y, node: 3}]
services: [{name: own, port: 8080, pods: [a]}]
seed: 5
---
"""
    for paths in (
        [written(tmp_path, ours + NODES + POD, "both.yaml")],
        [written(tmp_path, NODES + POD), written(tmp_path, ours, "ours.yaml")],
    ):
        cluster = load_cluster(*paths)
        assert (cluster.cni.name, cluster.seed) == ("calico-vxlan", 5)
        assert [(n.name, n.mac) for n in nodes_of(cluster)] == [("n1", ""), ("n2", "02:00:00:00:00:22"), ("n3", "")]
        assert {p.name: p.node for p in cluster.pods} == {"a": "n1", "z": "n2", "y": "n3"}
        assert walk(build(cluster), "z", "own:8080").result.outcome == "connected"


def test_several_files_on_the_command_line(tmp_path: Path, capsys: Capture) -> None:
    nodes, pod = written(tmp_path, NODES, "nodes.yaml"), written(tmp_path, POD, "pod.yaml")
    assert cli.main(["walk", "n2", "a:8080", "-f", str(nodes), "-f", str(pod), "--minimal", "--cni", "calico-bgp"]) == 0
    assert capsys.readouterr().out.startswith("n2 > fabric > n1 > a")


# -- what is wrong -----------------------------------------------------------------------------------------------------


def problems(tmp_path: Path, text: str) -> list[str]:
    path = written(tmp_path, text)
    with pytest.raises(DocumentError) as error:
        from_file(path)
    return [line.removeprefix(f"{path}:") for line in error.value.args]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (POD.replace("n1", "n9"), "14:18: spec.nodeName: there is no node 'n9'; did you mean 'n"),
        (POD.replace("nodeName", "nodName"), "14:8: there is no field 'nodName'; did you mean 'nodeName'?"),
        (POD.replace("8080", "eighty"), "14:69: spec.containers[0].ports[0].containerPort: a whole number was"),
        (POD.replace("kind: Pod", "kind: Pods"), "12:7: there is no kind 'Pods'; did you mean 'Pod'?"),
        (POD + POD, "18:1: two objects are Pod 'a'; the first one is in line 12 of"),
        (SERVICE.replace("port: 80,", "port: 80000,"), "14:45: spec.ports[0].port: 65535 or less was expected"),
        (SERVICE.replace("clusterIP", "type: Nodeport, clusterIP"), "14:14: spec.type: there is no type 'Nodeport'"),
        (SERVICE.replace("name: web", "nam: web"), "13:12: there is no field 'nam'; did you mean 'name'?"),
        (SERVICE.partition("spec")[0], "12:1: 'spec' is missing"),
        ("---\n- x\n", "12:1: a mapping with nodes, pods and a cni was expected"),
    ],
)  # fmt: skip
def test_one_thing_wrong(tmp_path: Path, text: str, message: str) -> None:
    found = problems(tmp_path, NODES + text.lstrip("\n"))
    assert any(line.startswith(message) for line in found), found


def test_a_port_that_leads_to_several(tmp_path: Path) -> None:
    other = POD.replace("name: a,", "name: b,").replace("8080", "9090").replace("5.7", "5.8")
    (line,) = problems(tmp_path, NODES + POD + other + SERVICE)
    assert line.endswith("spec.ports: port 80 leads to 8080, 9090; one was expected")


def test_a_cluster_that_cannot_be_has_its_place_in_the_object(tmp_path: Path) -> None:
    twice = POD.replace("name: a,", "name: b,")
    (line,) = problems(tmp_path, NODES + POD + twice)
    assert line == "16:33: n1: address 192.168.5.7 is taken"


def test_where_no_node_shows_its_cni(tmp_path: Path) -> None:
    text = "kind: Node\nmetadata: {name: n1}\n"
    (line,) = problems(tmp_path, text)
    assert line.startswith("1:1: no annotation of a node shows its CNI; --cni MODE, or a document with `cni: MODE`")
    assert nodes_of(read(written(tmp_path, text), cni="flat-bridge").cluster()) == [Node("n1")]


def test_fields_of_kubernetes_are_no_slips(tmp_path: Path) -> None:
    real = POD.replace("nodeName: n1", "nodeName: n1, nodeSelector: {x: y}, hostPID: false, hostname: a")
    assert cluster_of(tmp_path, NODES + real).pods[0].node == "n1"


@pytest.mark.parametrize("length", range(0, 2200, 100))
def test_a_dump_that_is_cut_off_is_read_or_refused(tmp_path: Path, length: int) -> None:
    path = written(tmp_path, DUMP.read_text(encoding="utf-8")[: 9 * length])
    try:
        build(load_cluster(path))
    except ValueError as error:
        assert "\n" not in error.args[0]


WORDS = ["x", "null", "[]", "{}", "-1", "99999999", "10.244.1.4", "[1]", "{a: b}", "::1"]


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_dump_with_slips_is_read_or_refused_in_lines(data: st.DataObject) -> None:
    lines = DUMP.read_text(encoding="utf-8").split("\n")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        key, _, value = lines[at].partition(": ")
        word = data.draw(st.sampled_from(WORDS))
        lines[at] = data.draw(st.sampled_from(["", f"{key}: {word}", f"{key[:-1]}: {value}", f"  {lines[at]}"]))
    with TemporaryDirectory() as folder:
        path = written(Path(folder), "\n".join(lines))
        try:
            from_file(path)
        except ValueError as error:
            assert all(line.startswith(f"{path}:") and "\n" not in line for line in error.args)
