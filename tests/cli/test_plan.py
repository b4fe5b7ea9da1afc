"""`packetwalk plan`: its answer, the walks that show a conflict, its exit status, and input that is wrong."""

import json

import pytest

from packetwalk import cli

Capture = pytest.CaptureFixture[str]


def ask(capsys: Capture, line: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command line."""
    status = cli.main(["plan", *line.split()])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_plan_that_holds(capsys: Capture) -> None:
    status, out, _ = ask(capsys, "--nodes 50 --cni flannel-vxlan")
    assert status == 0
    assert "  pods        10.244.0.0/16    256 node ranges of /24, 1 for each node\n" in out
    assert "conflicts" not in out
    assert "  kubeadm init --pod-network-cidr=10.244.0.0/16 --service-cidr=10.96.0.0/12\n" in out


def test_an_outside_host_with_a_pods_address_is_never_reached(capsys: Capture) -> None:
    status, out, _ = ask(capsys, "--cni flannel-host-gw --pod-cidr 10.244.0.0/16 --outside office=10.244.0.0/14")
    assert status == 1
    shown = "    to an outside host 10.244.2.2: a > node-1 > fabric > node-2 > b > "
    assert shown in out


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("--service-cidr 10.96.0.0/12 --outside 10.96.0.0/16", "to an outside host 10.96.1.1:80: a > node-1 [nat dst"),
        ("--node-cidr 192.168.56.0/24 --outside 192.168.0.0/16", "to an outside host 192.168.56.12: a > node-1 "),
        ("--pod-cidr 172.16.0.0/15", "; b sees 192.168.56.11, a is 172.17."),
        ("--pod-cidr 172.17.0.0/16", "; b sees 192.168.56.11, a is 172.17."),
    ],
)
def test_walks_show_what_goes_wrong(capsys: Capture, given: str, shown: str) -> None:
    status, out, _ = ask(capsys, f"--cni calico-bgp {given}")
    assert status == 1 and shown in out


def test_what_no_cluster_can_show_is_said_in_words(capsys: Capture) -> None:
    status, out, _ = ask(capsys, "--pod-cidr 192.168.0.0/16 --node-cidr 192.168.56.0/24")
    assert status == 1
    assert "pods 192.168.0.0/16 overlaps nodes 192.168.56.0/24: a route to pods there leads to nodes as well" in out


def test_as_json(capsys: Capture) -> None:
    status, out, _ = ask(capsys, "--pod-cidr 10.244.0.0/16 --outside 10.244.0.0/16 -o json")
    told = json.loads(out)
    assert (status, told["holds"], told["cni"]) == (1, False, "calico-ipip")
    assert told["conflicts"][0]["ranges"] == ["10.244.0.0/16", "10.244.0.0/16"]
    assert "> b >" in told["conflicts"][0]["walk"]
    assert {"kind": "docker0", "name": "docker0", "cidr": "172.17.0.0/16", "use": ""} in told["ranges"]


BAD = [
    ("--nodes 0", "--nodes 0 is out of range: 1 to 100000 was expected"),
    ("--pods 70000", "--pods 70000 is out of range"),
    ("--node-mask 31", "--node-mask 31 is out of range: 8 to 30 was expected"),
    ("--pod-cidr 10.244.0.0", "--pod-cidr 10.244.0.0: a network such as 10.244.0.0/16 was expected"),
    ("--pod-cidr 10.244.0.1/16", "--pod-cidr 10.244.0.1/16: host bits are set; the network is 10.244.0.0/16"),
    ("--service-cidr 10.96.0.0/33", "--service-cidr '10.96.0.0/33' is not a prefix"),
    ("--outside office=10.0.0/8", "--outside '10.0.0' is not an IPv4 address"),
    ("--cni flanel-vxlan", "there is no CNI 'flanel-vxlan'; did you mean 'flannel-vxlan'?"),
    ("-o yaml", "there is no output format 'yaml'"),
    ("--outside 10.0.0.0/8 --outside 172.16.0.0/12 --outside 192.168.0.0/16 --outside 100.64.0.0/10",
     "no private range of /23 is left for pods"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_is_one_clear_line(capsys: Capture, line: str, message: str) -> None:
    status, out, err = ask(capsys, line)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
