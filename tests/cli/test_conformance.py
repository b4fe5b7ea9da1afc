"""`packetwalk conformance`: its answer, its exit status, and input that is wrong."""

import json

import pytest

from packetwalk import cli

Capture = pytest.CaptureFixture[str]


def ask(capsys: Capture, line: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command line."""
    status = cli.main(["conformance", *line.split()])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_cluster_that_keeps_the_promises(capsys: Capture) -> None:
    status, out, _ = ask(capsys, "--cni flannel-vxlan --nodes 3")
    assert status == 0
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["kept"] * 3


def test_one_that_breaks_them(capsys: Capture) -> None:
    status, out, _ = ask(capsys, "--cni flat-bridge:ip_masq")
    assert status == 1
    assert "    node-1  nat src 10.244.1.2 > 192.168.56.11 by CNI-" in out


def test_as_json(capsys: Capture) -> None:
    status, out, _ = ask(capsys, "--cni flat-bridge:ip_masq --tcp 80 -o json")
    assert status == 1
    told = json.loads(out)
    assert (told["protocol"], told["kept"]) == ("tcp to port 80", False)


def test_what_is_not_modelled_is_no_broken_promise(capsys: Capture) -> None:
    status = cli.main(["conformance", "--set", "node-1 iptables -I FORWARD 1 -m u32 --u32 0=0 -j DROP"])
    assert status == 3
    assert "unsupported" in capsys.readouterr().out


BAD = [
    ("--tcp 81", "has no pod that listens on tcp to port 81"),
    ("--tcp 80 --udp 80", "--udp and --tcp exclude each other"),
    ("--tcp 0", "--tcp 0 is out of range: 1 to 65535 was expected"),
    ("-o yaml", "there is no output format 'yaml'; there are text, json"),
    ("--cni flat-brige", "did you mean 'flat-bridge'?"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_is_one_clear_line(capsys: Capture, line: str, message: str) -> None:
    status, out, err = ask(capsys, line)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
