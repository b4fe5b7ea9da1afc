"""Commands on a cluster that a CNI fills, instead of a snapshot."""

import pytest

from packetwalk import cli

Capture = pytest.CaptureFixture[str]


def ask(capsys: Capture, line: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command line."""
    status = cli.main(line.split())
    out, err = capsys.readouterr()
    return status, out, err


def test_walk_on_the_default_cluster(capsys: Capture) -> None:
    status, out, _ = ask(capsys, "walk a b --cni flat-bridge --minimal")
    assert (status, out) == (0, "a > node-1 > fabric > node-2 > b > node-2 > fabric > node-1 > a : reply ttl 62\n")
    assert ask(capsys, "walk a c --cni flat-bridge --tcp 80")[0] == 0


def test_more_nodes_and_racks(capsys: Capture) -> None:
    status, out, _ = ask(capsys, "rooms --cni flat-bridge --nodes 3 --racks 2")
    rooms = [line.split()[0] for line in out.splitlines()]
    assert status == 0
    assert {*rooms} == {"node-1", "node-2", "node-3", "tor-1", "tor-2", "router", "out", "a", "b", "c"}


def test_tables_and_commands_of_a_cluster(capsys: Capture) -> None:
    assert "10.244.2.0/24 via 192.168.56.12 dev eth0" in ask(capsys, "show node-1 routes --cni flannel-host-gw")[1]
    lines = ask(capsys, "commands node-1 --cni flannel-host-gw")[1]
    assert "route add 10.244.2.0/24 via 192.168.56.12 dev eth0" in lines


def test_modes_are_listed_one_a_line(capsys: Capture) -> None:
    status, out, _ = ask(capsys, "modes")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()][:2] == ["flat-bridge", "flannel-host-gw"]


BAD = [
    ("walk a b --cni flat-brige", "no CNI 'flat-brige'; did you mean 'flat-bridge'?"),
    ("walk a b --cni flat-bridge:mut=1", "no option 'mut'; did you mean 'mtu'?"),
    ("walk a b --cni flat-bridge --snapshot x", "--snapshot and --cni exclude each other"),
    ("walk a b --cni flat-bridge --nodes 0", "--nodes 0 is out of range"),
    ("walk a b --cni flat-bridge --racks 0", "--racks 0 is out of range"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_is_one_clear_line(capsys: Capture, line: str, message: str) -> None:
    status, out, err = ask(capsys, line)
    assert (status, out) == (2, "") and err.startswith("packetwalk: ") and err.count("\n") == 1
    assert message in err
