"""`packetwalk walk ROOM URL`: look-ups and a connection on the command line."""

import json
import re
from pathlib import Path

import pytest

from packetwalk import cli

Capture = pytest.CaptureFixture[str]
FILE = """
cni: flannel-vxlan
nodes: 2
dns: {upstream: {example.com: 203.0.113.10}}
pods: [{name: a, node: 1}, {name: b, namespace: prod, node: 2, http: [8080]}]
services: [{name: web, namespace: prod, port: 80, target_port: 8080, pods: [b]}]
ingresses: [{host: shop.example, service: prod/web}]
ingress_controller: {node: 1, node_port: 30080, external_traffic_policy: Local}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("town") / "town.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def ask(capsys: Capture, *words: str) -> tuple[int, str, str]:
    status = cli.main(["walk", *words])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_default_cluster_has_a_dns_where_a_url_is_asked_for(capsys: Capture) -> None:
    status, out, _ = ask(capsys, "a", "http://web", "--minimal", "--cni", "flannel-vxlan")
    lines = out.splitlines()
    assert status == 0 and lines[-1] == "http://web: 200 OK: b saw 10.244.1.2:32768"
    assert lines[0] == ("dns web.default.svc.cluster.local A, AAAA: a > node-1 [nat dst] > kube-system/coredns-1 > "
                        "node-1 [nat src] > a : A 10.96.1.1, AAAA no data")  # fmt: skip


def test_a_file_of_ones_own(capsys: Capture, file: Path) -> None:
    status, out, _ = ask(capsys, "a", "http://web.prod/x", "-f", str(file))
    assert status == 0 and out.startswith("a http://web.prod/x\n\n[1] udp a 10.244.1.2:32768 > kube-dns.kube-system")
    assert "http GET web.prod/x: prod/b saw 10.244.1.2:32768" in out
    assert "program      client           dns web.prod.svc.cluster.local A, AAAA" in ask(
        capsys, "a", "http://web.prod", "-f", str(file), "--full")[1]  # fmt: skip
    data = json.loads(ask(capsys, "a", "http://web.prod", "-f", str(file), "-o", "json")[1])
    assert data["exchanges"][0]["flow"]["about"] == "dns web.prod.default.svc.cluster.local A, AAAA"
    assert [e["result"]["said"] for e in data["exchanges"]][:2] == ["NXDOMAIN", "A 10.96.1.1, AAAA no data"]


def test_a_name_that_is_nowhere_is_not_delivered(capsys: Capture, file: Path) -> None:
    status, out, _ = ask(capsys, "a", "http://nope.prod", "-f", str(file), "--minimal")
    assert status == 1 and out.splitlines()[-1] == "http://nope.prod: nope.prod: NXDOMAIN"


def test_the_outside_by_a_name_that_it_is_told(capsys: Capture, file: Path) -> None:
    url = "http://shop.example:30080/"
    assert "forwarded for 203.0.113.10" in ask(capsys, "out", url, "-f", str(file), "--minimal")[1]
    status, out, _ = ask(capsys, "out", url, "-f", str(file), "--minimal", "--resolve", "shop.example=node-2")
    assert status == 1 and out.splitlines() == [
        "http GET / of shop.example: out > router > fabric > node-2 [drop NETFILTER_DROP] : timeout", f"{url}: timeout",
    ], "no proxy on node-2, and its policy is Local"  # fmt: skip


def test_frames_and_tables_of_all_exchanges(capsys: Capture, file: Path, tmp_path: Path) -> None:
    more = ("--minimal", "--pcap", str(tmp_path / "w.pcapng"), "--after", "node-1 conntrack")
    status, out, _ = ask(capsys, "a", "http://web.prod", "-f", str(file), *more)
    table = out.partition("node-1 conntrack:")[2]
    assert status == 0 and "dst=10.96.0.10 sport=32768 dport=53" in table and "dport=80" in table
    frames = (tmp_path / "w.pcapng").read_bytes()
    assert b"\x03web\x04prod\x03svc\x07cluster\x05local" in frames and b"GET / HTTP/1.1" in frames


@pytest.mark.parametrize(("words", "message"), [
    (["a", "htp://web"], "there is no kind of URL 'htp'; did you mean 'http'?"),
    (["x", "http://web"], "there is no room 'x'"),
    (["a", "http://web", "--tcp", "80"], "--tcp is for a single walk; http://web takes several"),
    (["a", "http://web", "--all-branches"], "--all-branches is for a single walk"),
    (["a", "http://web", "--resolve", "web"], "--resolve 'web': NAME=ADDR was expected"),
    (["a", "http://web", "--resolve", "web=bb"], "--resolve 'web=bb': there is no room 'bb'"),
    (["a", "b", "--resolve", "web=b"], "--resolve is for a URL, such as http://b"),
    (["a", "http://a..b"], "no DNS message can say A"),
    (["a", "http://web", "--snapshot", "packetwalk/samples/calico-ipip"], "the network has no DNS"),
])  # fmt: skip
def test_what_cannot_be(words: list[str], message: str, capsys: Capture) -> None:
    status, out, err = ask(capsys, *words)
    assert (status, out) == (2, "") and message in err and err.count("\n") == 1


def test_other_commands_take_no_url(capsys: Capture) -> None:
    assert cli.main(["compare", "a", "http://web"]) == 2
    assert "is a URL, which only `walk` and `prove` follow" in capsys.readouterr().err
    assert cli.main(["prove", "a", "http://web", "--all"]) == 2
    assert "--all is for a single walk" in capsys.readouterr().err


def test_a_proof_of_a_url(capsys: Capture) -> None:
    status = cli.main(["prove", "a", "http://web", "--cni", "flannel-vxlan"])
    out, err = capsys.readouterr()
    if status == 3:
        pytest.skip(err)
    assert status == 0
    assert re.fullmatch(r"kernel agrees: 200 OK: [bc] saw 10.244.1.2; 1 look-up, 1 connection", out.splitlines()[-1])


def test_the_resolv_conf_of_a_room(capsys: Capture, file: Path) -> None:
    assert cli.main(["show", "prod/b", "resolv.conf", "-f", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "search prod.svc.cluster.local svc.cluster.local cluster.local", "nameserver 10.96.0.10", "options ndots:5",
    ]  # fmt: skip
