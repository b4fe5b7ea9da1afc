"""cluster.yaml: what it means, what is wrong with one, and that YAML's guesses at texts do no harm."""

import dataclasses
import json
import re
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packetwalk import cli
from packetwalk.cni import Calico, Flannel, find
from packetwalk.document import DocumentError, load_cluster, read
from packetwalk.document.model import (
    DnsConfigPart,
    DnsPart,
    EndpointPart,
    IngressControllerPart,
    IngressPart,
    KubeProxyPart,
    LinkPart,
    LoadBalancerPart,
    NodePart,
    PodPart,
    RackPart,
    ServicePortPart,
    schema,
)
from packetwalk.document.tree import Tree
from packetwalk.kube.balancer import LoadBalancer
from packetwalk.kube.build import build
from packetwalk.kube.cluster import Cluster, Link, Node, Pod, Rack
from packetwalk.kube.dns import Dns, DnsConfig
from packetwalk.kube.ingress import Ingress, IngressController
from packetwalk.kube.kubeproxy import KubeProxy
from packetwalk.kube.service import Endpoint, Service, ServicePort
from packetwalk.source import EXAMPLE, from_file

Capture = pytest.CaptureFixture[str]


def cluster_of(tmp_path: Path, text: str) -> Cluster:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return load_cluster(path)


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    """What is wrong with a document: LINE:COLUMN: what."""
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DocumentError) as error:
        read(path)
    return [line.removeprefix(f"{path}:") for line in error.value.args]


# -- what a document means ---------------------------------------------------------------------------------------------


def test_a_document_says_what_python_says(tmp_path: Path) -> None:
    found = cluster_of(tmp_path, """
cni: {mode: calico-ipip, cross_subnet: true, block_size: 28, version: 3.30}
nodes:
  - {name: n1, ip: 10.0.0.5, mac: 02:42:ac:11:00:01, rack: r1, switch: s2, control_plane: yes}
  - {name: n2, pod_cidr: 10.128.4.0/28, tunnel_ip: 10.128.4.1}
racks: [{name: r1, subnet: 10.0.0.0/24, gateway: 10.0.0.254, switches: [s1, s2], cables: [[s1, s2]]}]
pods:
  - {name: a, node: 1, listen: [80, 0443], mac: 12:34:56:00:00:07, hostif: calia, containers: [app, side]}
  - {name: a, namespace: shop, node: n2, ip: 10.128.4.2}
spines: 2
pod_cidr: 10.128.0.0/16
service_cidr: 172.30.0.0/16
node_cidr: 10.0.0.0/16
outside: 198.51.100.0/24
link: {rate: 2.5gbit, delay: 3us, mtu: 9000, queue: 50}
uplink: {delay: 1ms}
nic: ens3
seed: 7
""")  # fmt: skip
    assert found == Cluster(
        [
            Node("n1", "10.0.0.5", "r1", "s2", mac="02:42:ac:11:00:01", control_plane=True),
            Node("n2", pod_cidr="10.128.4.0/28", tunnel_ip="10.128.4.1"),
        ],
        Calico("ipip", cross_subnet=True, block_size=28, version="3.30"),
        [Rack("r1", "10.0.0.0/24", "10.0.0.254", ("s1", "s2"), (("s1", "s2"),))],
        2, "10.128.0.0/16", "172.30.0.0/16", "10.0.0.0/16", Link(2_500_000_000, 3_000, 9000, 50), Link(delay=1_000_000),
        "ens3", "198.51.100.0/24", 7,
        [
            Pod("a", "n1", listen=(80, 443), mac="12:34:56:00:00:07", hostif="calia", containers=("app", "side")),
            Pod("a", "n2", "shop", ip="10.128.4.2"),
        ],
    )  # fmt: skip


PARTS = [
    (NodePart, Node), (PodPart, Pod), (RackPart, Rack), (LinkPart, Link), (ServicePortPart, ServicePort),
    (EndpointPart, Endpoint), (KubeProxyPart, KubeProxy), (LoadBalancerPart, LoadBalancer), (DnsPart, Dns),
    (DnsConfigPart, DnsConfig), (IngressPart, Ingress), (IngressControllerPart, IngressController),
]  # fmt: skip


@pytest.mark.parametrize(("part", "thing"), PARTS)
def test_a_part_has_the_fields_and_defaults_of_its_dataclass(part: type, thing: type) -> None:
    ours = {name: field.get_default() for name, field in part.model_fields.items()}  # type: ignore[attr-defined]
    theirs = {f.name: f.default for f in dataclasses.fields(thing)}
    assert ours.keys() == theirs.keys()
    for name, default in theirs.items():
        if default is not dataclasses.MISSING:
            assert (tuple(ours[name]) if isinstance(default, tuple) else ours[name]) == default, name


def test_what_is_left_out_is_as_in_python(tmp_path: Path) -> None:
    assert cluster_of(tmp_path, "cni: flannel-vxlan\nnodes: 2\npods:\nlink: ~\n") == Cluster(2, Flannel("vxlan"))


def test_anchors_and_merged_mappings(tmp_path: Path) -> None:
    found = cluster_of(
        tmp_path,
        """
cni: flat-bridge
nodes: 2
pods:
  - &web {name: web-1, node: 1, listen: &ports [80, 8080]}
  - {<<: *web, name: web-2, node: 2}
  - {name: other, node: 2, listen: *ports}
""",
    )
    assert [(p.name, p.node, p.listen) for p in found.pods] == [
        ("web-1", "node-1", (80, 8080)), ("web-2", "node-2", (80, 8080)), ("other", "node-2", (80, 8080))
    ]  # fmt: skip


def test_names_say_what_python_says(tmp_path: Path) -> None:
    found = cluster_of(tmp_path, """
cni: flat-bridge
nodes: 2
dns: {node_local: true, upstream: {example.com: 203.0.113.9}}
pods:
  - {name: a, node: 1, http: [80], subdomain: db, dns_policy: None, dns_config: {nameservers: [192.0.2.53], ndots: 2}}
services: [{name: mail, external_name: mail.example.com}, {name: db, port: 80, cluster_ip: None, pods: [a]}]
ingresses: [{host: shop.example, service: db, path: /cart}]
ingress_controller: {node: 2, host_network: true}
""")  # fmt: skip
    cluster = Cluster(2, find("flat-bridge"), dns=Dns(node_local=True, upstream={"example.com": "203.0.113.9"}),
                      ingress_controller=IngressController("node-2", host_network=True))  # fmt: skip
    a = cluster.pod("a", 1, http=80, subdomain="db", dns_policy="None", dns_config=DnsConfig(("192.0.2.53",), (), 2))
    cluster.service("mail", external_name="mail.example.com")
    cluster.ingress("shop.example", cluster.service("db", 80, pods=[a], ip="None").name, path="/cart")
    assert found == cluster


def test_dns_is_a_word_or_a_mapping(tmp_path: Path) -> None:
    text = "cni: flat-bridge\nnodes: 1\ndns: "
    assert cluster_of(tmp_path, f"{text}yes").dns == Dns() == cluster_of(tmp_path, f"{text}{{}}").dns
    assert cluster_of(tmp_path, f"{text}false").dns is None
    with pytest.raises(DocumentError, match=r"3:29: dns upstream 'x.example': an address or a name was expected, not"):
        cluster_of(tmp_path, f"{text}{{upstream: {{x.example: 300.1.2.3}}}}")
    assert problems(tmp_path, f"{text}maybe") == ["3:6: dns: true or false was expected, not 'maybe'"]
    assert problems(tmp_path, f"{text}{{node_lokal: yes}}") == [
        "3:7: there is no field 'node_lokal'; did you mean 'node_local'?"
    ]
    assert problems(tmp_path, "cni: flat-bridge\nnodes: 1\npods: [{name: a, node: 1, dns_policy: Defalt}]") == [
        "3:39: pods[0].dns_policy: there is no dns_policy 'Defalt'; did you mean 'Default'?"
    ]


def test_services_say_what_python_says(tmp_path: Path) -> None:
    found = cluster_of(tmp_path, """
cni: flat-bridge
nodes: 2
pods: [{name: a, node: 1}, {name: a, namespace: shop, node: 2}]
services:
  - {name: web, port: 80, target_port: 8080, node_port: 30080, pods: [a], session_affinity: ClientIP}
  - name: lb
    namespace: shop
    type: LoadBalancer
    ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]
    pods: [a]
    endpoints: [{ip: 192.0.2.1, node: node-1, ready: no, serving: yes, terminating: yes, zones: [east]}]
    load_balancer_ips: [203.0.113.80]
    load_balancer_source_ranges: [203.0.113.0/25]
    external_traffic_policy: Local
  - {name: head, port: 80, cluster_ip: None}
kube_proxy: {masquerade_all: yes, masquerade_bit: 20, node_port_addresses: [192.168.56.0/24]}
""")
    assert found.services == [
        Service("web", (ServicePort(80, target_port=8080, node_port=30080),), (Endpoint(pod="a"),), type="NodePort",
                session_affinity="ClientIP"),
        Service("lb", (ServicePort(80, "http"), ServicePort(53, "dns", "UDP")),
                (Endpoint(pod="shop/a"), Endpoint("192.0.2.1", "node-1", "", False, True, True, ("east",))), "shop",
                "LoadBalancer", load_balancer_ips=("203.0.113.80",), load_balancer_source_ranges=("203.0.113.0/25",),
                external_traffic_policy="Local"),
        Service("head", (ServicePort(80),), cluster_ip="None"),
    ]  # fmt: skip
    assert found.kube_proxy == KubeProxy(True, 20, node_port_addresses=("192.168.56.0/24",))


TRAPS = [
    ("02:42:10:11:00:01", "02:42:10:11:00:01"),  # YAML 1.1 reads sixties: 33,549,667,801
    ("12:34:56:00:00:07", "12:34:56:00:00:07"),
    ("no", "no"), ("on", "on"), ("Yes", "Yes"), ("1.10", "1.10"), ("1e3", "1e3"), ("0x1f", "0x1f"), ("010", "010"),
    ("1_000", "1_000"), (".inf", ".inf"), ("2026-11-24", "2026-11-24"), ("'~'", "~"), ('"null"', "null"), ("=", "="),
    ("~", None), ("null", None), ("", None),
]  # fmt: skip


@pytest.mark.parametrize(("written", "meant"), TRAPS, ids=[written for written, _ in TRAPS])
def test_a_text_is_what_stands_there(written: str, meant: str | None) -> None:
    assert Tree(f"value: {written}\n").data == {"value": meant}


def test_traps_of_yaml_in_names_addresses_and_options(tmp_path: Path) -> None:
    found = cluster_of(
        tmp_path,
        """
cni: {mode: calico-ipip, version: 3.10}
nodes: [{name: no, mac: 10:20:30:40:50:59}, {name: 1.10}, {name: 0x10, control_plane: off}]
pods: [{name: on, node: 1.10}, {name: 1e3, node: no}, {name: 12, node: 0x10}]
""",
    )
    assert isinstance(found.cni, Calico) and found.cni.version == "3.10"
    assert not isinstance(found.nodes, int)
    assert [n.name for n in found.nodes] == ["no", "1.10", "0x10"]
    assert found.nodes[0].mac == "10:20:30:40:50:59" and found.nodes[2].control_plane is False
    assert [(p.name, p.node) for p in found.pods] == [("on", "1.10"), ("1e3", "no"), ("12", "0x10")]
    assert {"on", "1e3", "12"} <= set(build(found).rooms)


# -- what is wrong -----------------------------------------------------------------------------------------------------


MANY = """\
cni: {mode: calico-ipip, block_sise: 26}
nodse: 2
nodes:
  - name: node-1
    ip: 192.168.56.300
    rak: r1
  - name: node-1
    rack: rack-7
    control_plane: perhaps
pods:
  - {name: a, node: node-7, listen: [80, 70000, http]}
  - {name: B, nod: node-1}
  - {name: a, node: 1, listen: 80}
pod_cidr: 10.244.0.1/16
link: {rate: fast, mtu: 20, mtu: 30}
service_cidr: 10
"""


def test_everything_wrong_is_said_at_once_each_with_its_place(tmp_path: Path) -> None:
    assert problems(tmp_path, MANY) == [
        "1:26: calico-ipip: there is no option 'block_sise'; did you mean 'block_size'?",
        "2:1: there is no field 'nodse'; did you mean 'nodes'?",
        "5:9: nodes[0].ip: '192.168.56.300' is not an IPv4 address: four numbers of 0 to 255 with dots were expected",
        "6:5: there is no field 'rak'; did you mean 'rack'?",
        "7:11: two nodes are called 'node-1'; the first one is in line 4",
        "8:11: nodes[1].rack: there is no rack 'rack-7'; did you mean 'rack-1'?",
        "9:20: nodes[1].control_plane: true or false was expected, not 'perhaps'",
        "11:21: pods[0].node: there is no node 'node-7'; did you mean 'node-1'?",
        "11:42: pods[0].listen[1]: 65535 or less was expected, not 70000",
        "11:49: pods[0].listen[2]: a whole number was expected, not 'http'",
        "12:5: 'node' is missing",
        "12:12: pods[1].name: a name of lower-case letters, digits, - and . was expected (RFC 1123), not 'B'",
        "12:15: there is no field 'nod'; did you mean 'node'?",
        "13:12: two pods are called 'a'; the first one is in line 11",
        "13:32: pods[2].listen: a list was expected, each entry behind a dash",
        "14:11: pod_cidr: 10.244.0.1/16: host bits are set; the network is 10.244.0.0/16",
        "15:14: link.rate: a number with one of bit, kbit, mbit, gbit, tbit behind it was expected, not 'fast'",
        "15:25: link.mtu: 68 or more was expected, not 20",
        "15:29: 'mtu' is there twice; the first one is in line 15",
        "16:15: service_cidr: a range such as 10.0.0.0/16 was expected, not '10'",
    ]


GOOD = "cni: flat-bridge\nnodes: 2\n"
ONE = [
    ("", "1:1: a mapping with nodes, pods and a cni was expected"),
    ("- a\n", "1:1: a mapping with nodes, pods and a cni was expected"),
    ("cni: flat-bridge\n", "1:1: 'nodes' is missing"),
    ("nodes: 2\n", "1:1: 'cni' is missing"),
    ("nodes: 2\ncni: {vni: 7}\n", "2:6: cni: 'mode' is missing; `packetwalk modes` lists them"),
    ("nodes: 2\ncni: [flat-bridge]\n", "2:6: cni: "),
    ("nodes: 2\ncni: flat-brige\n", "2:6: there is no CNI 'flat-brige'; did you mean 'flat-bridge'?"),
    ("nodes: 2\ncni: {mode: flat-brige}\n", "2:13: there is no CNI 'flat-brige'; did you mean 'flat-bridge'?"),
    ("nodes: 2\ncni: {mode: flat-bridge, mtu: big}\n", "2:31: cni.mtu: a whole number was expected, not 'big'"),
    ("nodes: 2\ncni: flat-bridge:mut=9\n", "2:6: flat-bridge: there is no option 'mut'; did you mean 'mtu'?"),
    ("nodes: 0\ncni: flat-bridge\n", "1:8: nodes: 1 or more was expected, not 0"),
    ("nodes: two\ncni: flat-bridge\n", "1:8: nodes: a whole number was expected, not 'two'"),
    ("nodes: [a\npods: x\n", "2:5: while parsing a flow sequence expected ',' or ']', but got ':'"),
    ("a:\n\tb: 1\n", "2:1: while scanning for the next token found character '\\t' that cannot start any token"),
    (b"\xff\xfe\n", "1:1: not UTF-8: byte 0 is invalid start byte"),
    ("nodes: \x07\n", "1:1: unacceptable character #x0007"),
    (GOOD + "pods: &x [*x]\n", "3:7: an alias inside of what it stands for"),
    (GOOD + "nic: !!python/none eth0\n", "3:6: the tag !!python/none means nothing here"),
    (GOOD + "packetwalk: 2\n", "3:13: packetwalk: 1 or less was expected, not 2"),
    (GOOD + "nic: a-very-long-device-name\n", "3:6: nic: a device name of at most 15 characters was expected"),
    (GOOD + "racks: [{name: r, cables: [[a]]}]\n", "3:28: racks[0].cables[0]: 2 entries were expected, not 1"),
    (GOOD + "? [x]\n: 1\n", "3:3: a name was expected before the colon"),
    (GOOD + "services: [{name: w}]\n", "3:12: services[0]: service 'w' needs port or ports, and not both"),
    (GOOD + "services: [{name: w, port: 80, nodeport: 30080}]\n", "3:32: there is no field 'nodeport'; did you mean"),
    (GOOD + "services: [{name: w, ports: [{port: 8, proto: UDP}]}]\n", "3:40: there is no field 'proto'; did you me"),
    (GOOD + "services: [{name: w, port: 8, type: Nodeport}]\n", "3:37: services[0].type: there is no type 'Nodeport'"),
    (GOOD + "services: [{name: w, port: 8, cluster_ip: 10.96.0}]\n", "3:43: services[0].cluster_ip: '10.96.0' is not"),
    (GOOD + "pods: [{name: a, node: 1}]\nservices: [{name: w, port: 8, pods: [a, b]}]\n",
     "4:41: services[0].pods[1]: there is no pod 'b'; "),
    (GOOD + "services: [{name: w, port: 8}, {name: w, port: 9}]\n", "3:39: two services are called 'w'; the first"),
    (GOOD + "kube_proxy: {mode: ipvs, scheduler: rrr}\n", "3:37: kube_proxy.scheduler: there is no scheduler of"),
    (GOOD + "kube_proxy: {mode: ipvz}\n", "3:20: kube_proxy.mode: there is no mode of kube-proxy 'ipvz'"),
    (GOOD + "kube_proxy: {masquerade_bit: 32}\n", "3:30: kube_proxy.masquerade_bit: 31 or less was expected, not 32"),
    (GOOD + "---\ncni: x\n", "4:1: a second document without a kind; the first one is in"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), ONE, ids=[repr(text) for text, _ in ONE])
def test_one_thing_wrong(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert problems(tmp_path, text)[0].startswith(message)


TEXT = EXAMPLE.read_text(encoding="utf-8")
SCRAPS = st.sampled_from([
    "", "x", "[", "]", "{", "}", ":", ": ", "-", "- ", "&a ", "*a", "!t ", "<<: ", "~", "0", "-1", "1e9", "\n", "\t",
    "#", "'", '"', "|", "?", "%", "@", "é", "null", "10.0.0.0/8",
])  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(TEXT)), st.integers(0, 12), SCRAPS), min_size=1, max_size=4))
def test_a_document_with_slips_is_read_or_refused_in_lines(slips: list[tuple[int, int, str]]) -> None:
    """Whatever is cut out of the example or put into it, no other error comes of it, and none without a place."""
    text = TEXT
    for at, length, scrap in slips:
        text = text[:at] + scrap + text[at + length :]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            from_file(path)
        except DocumentError as error:
            assert error.args and all(re.match(rf"{re.escape(str(path))}:\d+:\d+: \S", line) for line in error.args)


@pytest.mark.parametrize("length", range(0, len(TEXT), 41))
def test_a_document_that_is_cut_off_is_read_or_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(TEXT[:length], encoding="utf-8")
    with suppress(DocumentError):
        read(path)


CANNOT_BE = [
    ("cni: calico-ipip\nnodes: 300\npod_cidr: 10.0.0.0/24\n", "3:11: pod CIDR 10.0.0.0/24 is too small"),
    ("cni: flat-bridge\nnodes: 3\npod_cidr: 10.96.0.0/16\n", "3:11: service CIDR 10.96.0.0/12 overlaps"),
    ("cni: flat-bridge\nnodes: [{name: x}]\nracks: [{name: r, subnet: 10.244.8.0/24}]\n", "3:27: "),
    ("cni: flat-bridge\nnodes: [{name: x, ip: 10.9.9.9}]\n", "2:23: node 'x': address 10.9.9.9 is not in rack-1"),
    ("cni: flat-bridge\nnodes: [{name: x}]\npods: [{name: x, node: x}]\n", "two rooms are called 'x'"),
    (GOOD + "racks:\n- name: r\n  switches: [s1, s2, s3]\n  cables: [[s1, s2], [s2, s3], [s3, s1]]\n",
     "5:14: r: the switches s1 - s2 - s3 form a loop without a router in it"),
    ("cni: {mode: calico-bgp, reflectors: node-9}\nnodes: 2\n", "1:37: route reflector 'node-9' is no node"),
    (GOOD + "services: [{name: w, port: 8, node_port: 80}]\n", "3:42: service 'w': node port 80 is out of range"),
    (GOOD + "services: [{name: w, port: 8, cluster_ip: 10.9.9.9}]\n", "3:43: service 'w': cluster IP 10.9.9.9 is out"),
    (GOOD + "services: [{name: w, ports: [{port: 8}, {port: 9}]}]\n", "3:19: service 'w' has several ports, so each"),
    (GOOD + "kube_proxy: {detect_local: Bridge}\n", "3:28: there is no detect_local 'Bridge'; there are ClusterCIDR"),
    (GOOD + "set: [node-1 sysctl net.ipv4.ip_forward=1, node-1 rout del x]\n", "3:44: set: 'node-1 rout del x': "),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), CANNOT_BE, ids=[text for text, _ in CANNOT_BE])
def test_a_cluster_that_cannot_be_is_one_line_with_its_place(
    tmp_path: Path, capsys: Capture, text: str, message: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert cli.main(["rooms", "-f", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith(f"packetwalk: {path}:") and message in err


# -- the command line --------------------------------------------------------------------------------------------------


def test_commands_take_a_file(tmp_path: Path, capsys: Capture) -> None:
    file = ["-f", str(EXAMPLE)]
    assert cli.main(["walk", "a", "b", "--minimal", *file]) == 0
    assert "[+ipip]" in capsys.readouterr().out
    assert cli.main(["walk", "a", "b", "--minimal", "--cni", "flannel-vxlan", *file]) == 0
    assert "[+vxlan]" in capsys.readouterr().out
    assert cli.main(["walk", "a", "b", "--set", "router sysctl net.ipv4.ip_forward=0", *file]) == 1
    assert cli.main(["rooms", *file]) == 0
    assert "shop/web" in capsys.readouterr().out
    assert cli.main(["show", "node-1", "routes", *file]) == 0
    assert "default via 25.25.25.254 dev eth0" in capsys.readouterr().out
    assert cli.main(["commands", "node-1", *file]) == 0


def test_lines_of_set_in_a_file_hold(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        f"{GOOD}pods: [{{name: a, node: 1}}, {{name: b, node: 2}}]\nset: [node-2 sysctl net.ipv4.ip_forward=0]\n"
    )
    assert cli.main(["walk", "a", "b", "-f", str(path)]) == 1
    assert "forwarding is off" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-f nowhere.yaml", "nowhere.yaml: No such file or directory"),
        ("-f FILE --nodes 3", "has its own"),
        ("-f FILE --snapshot x", "--snapshot and --file exclude each other"),
        ("-f FILE --cni flat-brige", "did you mean 'flat-bridge'?"),
    ],
)
def test_bad_options_with_a_file(capsys: Capture, line: str, message: str) -> None:
    assert cli.main(["walk", "a", "b", *line.replace("FILE", str(EXAMPLE)).split()]) == 2
    assert message in capsys.readouterr().err


def test_many_problems_are_a_line_each(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(MANY)
    assert cli.main(["walk", "a", "b", "-f", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 20
    assert all(line.startswith(f"packetwalk: {path}:") for line in err.splitlines())


def test_the_schema_is_one_and_the_example_is_as_it_says(capsys: Capture) -> None:
    assert cli.main(["schema"]) == 0
    form = json.loads(capsys.readouterr().out)
    assert form == schema() and form["required"] == ["cni", "nodes"]
    assert {"pods", "racks", "pod_cidr", "link"} <= form["properties"].keys()
    assert form["additionalProperties"] is False
    assert cli.main(["schema", "--example"]) == 0
    assert capsys.readouterr().out == EXAMPLE.read_text(encoding="utf-8")
    assert "tor-1" in build(load_cluster(EXAMPLE))


def test_what_the_example_only_mentions_is_right_too(tmp_path: Path, capsys: Capture) -> None:
    text = re.sub(r"(?m)^# (dns|ingress)", r"\1", TEXT).replace("namespace: shop, listen", "namespace: shop, http")
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    for src, url in (("a", "http://front.shop"), ("out", "http://shop.example:30800")):
        assert cli.main(["walk", src, url, "-f", str(path), "--minimal"]) == 0
        assert ": 200 OK: shop/web saw" in capsys.readouterr().out.splitlines()[-1]


def test_a_pod_may_answer_sctp(tmp_path: Path) -> None:
    written = cluster_of(tmp_path, "cni: flannel-vxlan\nnodes: 2\npods: [{name: a, node: 1, sctp: [3868]}]\n")
    cluster = Cluster(2, Flannel("vxlan"))
    cluster.pod("a", 1, sctp=3868)
    assert written == cluster and cluster.pods[0].sctp == (3868,)
