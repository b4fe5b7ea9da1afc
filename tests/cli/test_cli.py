"""The command line: what it prints, what it answers to bad input, and with which status."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from packetwalk.cli import app, main
from packetwalk.source import SAMPLE

Capture = pytest.CaptureFixture[str]


def ask(capsys: Capture, line: str) -> tuple[int, str, str]:
    """Run a line and return status, stdout and stderr; a command that wants a network gets the sample."""
    words = line.split()
    if words[:1] in (["walk"], ["rooms"], ["show"], ["commands"]) and not {"--snapshot", "--help"} & {*words}:
        words += ["--snapshot", str(SAMPLE)]
    status = main(words)
    out, err = capsys.readouterr()
    return status, out, err


def spawn(line: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "packetwalk", *line.split()]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **env})


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """The sample, free to be damaged."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "snap"))


# -- walk --------------------------------------------------------------------------------------------------------------


def test_walk_prints_the_summary_and_is_content(capsys: Capture) -> None:
    status, out, err = ask(capsys, "walk a b")
    assert (status, err) == (0, "")
    assert "encap" in out and "reply" in out and "\x1b" not in out


def test_walk_prints_what_the_trace_prints(capsys: Capture) -> None:
    assert ask(capsys, "walk a b")[1] == ask(capsys, "walk a b -o summary")[1]
    full, minimal = ask(capsys, "walk a b --full")[1], ask(capsys, "walk a b --minimal")[1]
    assert full == ask(capsys, "walk a b -o full")[1] and "10.244.2.0/26 via 192.168.56.12 dev tunl0" in full
    assert minimal.count("\n") == 1


def test_walk_speaks_json(capsys: Capture) -> None:
    status, out, _ = ask(capsys, "walk a b --tcp 8080 -o json")
    trace = json.loads(out)
    assert status == 0 and trace["result"]["outcome"] == "connected" and trace["flow"]["to"] == "b"


@pytest.mark.parametrize(
    ("line", "status", "word"),
    [
        ("walk a 10.244.2.2", 0, "reply"),
        ("walk a b --icmp", 0, "reply"),
        ("walk a b --udp 8080", 0, "reply"),
        ("walk a b --udp 9", 1, "ECONNREFUSED"),
        ("walk a b --tcp 9", 1, "ECONNREFUSED"),
        ("walk a b --ttl 1", 1, "icmp"),
        ("walk a b --ttl 255", 0, "reply"),
        ("walk a b --size 0", 0, "reply"),
        ("walk a b --size 65507", 0, "reply"),
        ("walk a b --size 1473 --df", 1, "EMSGSIZE"),
        ("walk a b --size 1473 --no-df", 0, "reply"),
        ("walk a 10.244.2.60", 1, ""),
    ],
)
def test_the_status_says_whether_it_was_delivered(capsys: Capture, line: str, status: int, word: str) -> None:
    found, out, err = ask(capsys, line)
    assert (found, err) == (status, "")
    assert word in out


def test_a_cold_walk_shows_arp(capsys: Capture) -> None:
    frames = [ask(capsys, f"walk a b --full{cold}")[1].lower() for cold in ("", " --cold")]
    assert "arp" not in frames[0] and "arp" in frames[1]


def test_costs_change_the_time(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    file.write_text('{"encap": 1000000}')
    slow = json.loads(ask(capsys, f"walk a b -o json --costs {file}")[1])["result"]["at"]
    usual = json.loads(ask(capsys, "walk a b -o json")[1])["result"]["at"]
    assert slow - usual == 2 * (1_000_000 - 900)  # there and back again


def test_a_walk_is_the_same_every_time(capsys: Capture) -> None:
    line = "walk a b --tcp 8080 --cold --seed 7 -o json"
    assert ask(capsys, line) == ask(capsys, line)


def test_something_not_modelled_is_status_3(capsys: Capture, snapshot: Path) -> None:
    file = snapshot / "state/0/node-1/route.json"
    file.write_text(file.read_text().replace('"protocol": "bird"', '"protocol": "bird", "encap": "seg6"'))
    status, out, _ = ask(capsys, f"walk a b --snapshot {snapshot}")
    assert status == 3
    assert "unsupported" in out and "seg6" in out


# -- colour, pipes, processes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("when", "coloured"), [("always", True), ("never", False), ("auto", False)])
def test_colour_is_for_those_who_ask(capsys: Capture, when: str, coloured: bool) -> None:
    assert ("\x1b[" in ask(capsys, f"walk a b --color {when}")[1]) == coloured


@pytest.mark.parametrize(
    ("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_gets_colour_unless_it_says_no(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert ("\x1b[" in ask(capsys, "walk a b")[1]) == coloured


def test_colour_changes_nothing_but_colour(capsys: Capture) -> None:
    plain, painted = (ask(capsys, f"walk a b --full --color {when}")[1] for when in ("never", "always"))
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == plain


def test_a_reader_who_leaves_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "packetwalk", "walk", "a", "b", "--full"]
    with os.fdopen(write, "w") as gone:
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_of_its_own_ends_with_the_status() -> None:
    assert spawn("walk a b --minimal").returncode == 0
    done = spawn("walk a nobody")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1


def test_a_walk_imports_nothing_it_does_not_use() -> None:
    ours = ["packetwalk.predict", "packetwalk.commands", "packetwalk.document"]
    heavy = ["networkx", "rich", "matplotlib", "pydantic", "yaml", *ours]
    code = f"import sys; from packetwalk.cli import main; main(['walk', 'a', 'b']); print(*[m for m in {heavy} if m in sys.modules], file=sys.stderr)"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == []


# -- the other commands ------------------------------------------------------------------------------------------------


def test_rooms(capsys: Capture) -> None:
    status, out, _ = ask(capsys, "rooms")
    assert status == 0
    assert "node-1  node    192.168.56.11/24 10.244.1.1/32" in out.splitlines()
    assert "fabric  switch" in out.splitlines()


def test_show(capsys: Capture) -> None:
    status, out, _ = ask(capsys, "show node-1 routes")
    assert status == 0
    assert out.splitlines()[0] == "default via 192.168.56.1 dev eth0"
    assert "blackhole 10.244.1.0/26 proto 80" in out


def test_an_empty_table_prints_nothing(capsys: Capture) -> None:
    assert ask(capsys, "show node-1 fdb") == (0, "", "")


def test_commands(capsys: Capture) -> None:
    whole, part = ask(capsys, "commands")[1], ask(capsys, "commands node-1")[1]
    assert "ip netns add a\n" in whole
    assert "ip netns add a\n" not in part and "ip -n node-1 route add default via 192.168.56.1 dev eth0\n" in part


def test_predict_prints_one_json_object(capsys: Capture, snapshot: Path) -> None:
    spec = {"kind": "icmp", "src": "a", "dst": "10.244.2.2"}
    (snapshot / "recording.json").write_text(json.dumps({"name": "x", "probes": [{"name": "p", "spec": spec}]}))
    status, out, err = ask(capsys, f"predict {snapshot} --json")
    assert (status, err, out.count("\n")) == (0, "", 1)
    probe = json.loads(out)["probes"][0]
    assert probe["name"] == "p" and probe["result"]["outcome"] == "reply"
    status, out, _ = ask(capsys, f"predict {snapshot}")
    assert (status, out) == (0, f"p: reply, {len(probe['frames'])} frames\n")


def test_explain(capsys: Capture) -> None:
    status, out, err = ask(capsys, "explain cali-nat-outgoing")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "node-1, node-2: cali-nat-outgoing (nat): Calico: masquerades what pods send outside all pools (natOutgoing).",
        "   1  Packets whose source is in the set cali40masq-ipam-pools whose destination is not in the set "
        "cali40all-ipam-pools get an address of the device they leave by as their source, for the whole connection.",
    ]
    assert ask(capsys, "explain -A FORWARD -i cali+ -j DROP")[:2] == (
        0, "Packets that came in by a device named cali... are dropped without a word.\n",
    )  # fmt: skip
    assert main(["explain", "-A FORWARD -p udp -h", "--room", "node-1"]) == 2
    assert "Packets get mark 0x4000 set." in ask(capsys, "explain KUBE-MARK-MASQ")[1]
    assert ask(capsys, "explain FLANNEL-FWD")[1].endswith(". No room of this network has it.\n")


COMMANDS = (
    "walk", "compare", "rooms", "show", "commands", "modes", "schema", "predict", "explain", "prove", "record", "agree",
    "conformance", "plan", "simulate", "scenarios", "run", "plot",
)  # fmt: skip


@pytest.mark.parametrize("line", ["", "--help", "-h", *(f"{command} --help" for command in COMMANDS)])
def test_help_has_examples(capsys: Capture, line: str) -> None:
    status, out, err = ask(capsys, line)
    assert (status, err) == (0, "")
    assert "Examples" in out and "packetwalk " in out


def test_every_command_has_its_help_tested() -> None:
    assert sorted(COMMANDS) == sorted(c.name or c.callback.__name__ for c in app.registered_commands if c.callback)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("packetwalk sh", ["show"]),
        ("packetwalk walk nod", ["node-1", "node-2"]),
        ("packetwalk walk a nod", ["node-1", "node-2"]),
        ("packetwalk walk a we", ["web", "web.default"]),
        ("packetwalk walk we", []),
        ("packetwalk show node-1 r", ["resolv.conf", "routes", "rules"]),
        ("packetwalk walk --snapshot tests/recordings/G315 h", ["h1", "h2", "h3"]),
        ("packetwalk walk --snapshot /nowhere h", []),
        ("packetwalk walk -f packetwalk/samples/cluster.yaml sho", ["shop/web"]),
        ("packetwalk walk -f /nowhere.yaml sho", []),
        ("packetwalk rooms --cni flat-", ["flat-bridge"]),
    ],
)
def test_completion_knows_commands_rooms_tables_and_modes(words: str, found: list[str], root: Path) -> None:
    env = {**os.environ, "_PACKETWALK_COMPLETE": "complete_bash", "COMP_WORDS": words}
    env["COMP_CWORD"] = str(len(words.split()) - 1)
    code = "import sys; from packetwalk.cli import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env, cwd=root)
    assert sorted(done.stdout.split()) == found and not done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "packetwalk", "walk", "a", "b"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("packetwalk: cannot write the output: ") and done.stderr.count("\n") == 1


def test_version(capsys: Capture) -> None:
    status, out, _ = ask(capsys, "--version")
    assert status == 0
    assert re.fullmatch(r"packetwalk (\d+\.\d+\.\d+\S*|\(not installed: run from its source\))\n", out)


# -- bad input ---------------------------------------------------------------------------------------------------------

BAD = [
    ("walk aa b", "no room 'aa'; did you mean 'a'?"),
    ("walk a node1", "no room 'node1'; did you mean 'node-1'?"),
    ("walk zzzz b", "no room 'zzzz'; there are fabric, node-1"),
    ("walk a 10.2.3", "'10.2.3' is not an IPv4 address"),
    ("walk a 10.2.3.256", "'10.2.3.256' is not an IPv4 address"),
    ("walk a fe80::1", "IPv6 is not modelled"),
    ("walk a fabric", "'fabric' has no address"),
    ("walk a b --ttl 0", "--ttl 0 is out of range: 1 to 255"),
    ("walk a b --ttl 256", "--ttl 256 is out of range: 1 to 255"),
    ("walk a b --size -1", "--size -1 is out of range: 0 to 65507"),
    ("walk a b --size 65508", "--size 65508 is out of range"),
    ("walk a b --udp 0", "--udp 0 is out of range: 1 to 65535"),
    ("walk a b --tcp 65536", "--tcp 65536 is out of range"),
    ("walk a b --udp many", "'--udp'"),
    ("walk a b --udp 53 --tcp 53", "--udp and --tcp exclude each other"),
    ("walk a b --icmp --udp 53", "--icmp and --udp exclude each other"),
    ("walk a b --full --minimal", "one output is possible, not full and minimal"),
    ("walk a b -o jsno", "did you mean 'json'?"),
    ("walk a b --color alway", "did you mean 'always'?"),
    ("walk a b --costs /nowhere/costs.json", "/nowhere/costs.json: No such file"),
    ("walk a b --snapshot /nowhere", "/nowhere: no such folder"),
    ("walk a b --snapshot {empty}", "{empty} is not a snapshot"),
    ("show node-1 route", "no table 'route'; did you mean 'routes'?"),
    ("show nod-1 routes", "did you mean 'node-1'?"),
    ("explain KUBE-SERVICSE", "there is no chain 'KUBE-SERVICSE'"),
    ("explain cali-FORWRAD", "there is no chain 'cali-FORWRAD'; did you mean 'cali-FORWARD'?"),
    ("explain FORWARD --table raw", "there is no chain 'FORWARD' in table raw"),
    ("explain FORWARD --room node-9", "there is no room 'node-9'; did you mean"),
    ("explain -A X -p tcp --dprot 80", "--dprot: no match or target named before it has this option"),
    ("show node-1 rules --chain cali-FORWRAD", "node-1 has no chain 'cali-FORWRAD'; did you mean 'cali-FORWARD'?"),
    ("show node-1 routes --table nat", "--table and --chain are for rules, not for routes"),
    ("commands node1", "did you mean 'node-1'?"),
    ("rooms --snapshot {empty}", "{empty} is not a snapshot"),
    ("predict /nowhere --json", "/nowhere: no such folder"),
    ("predict {sample} --json", "recording.json: this file is missing"),
    ("walk a", "DST"),
    ("wlk a b", "'wlk'"),
    ("walk a b --fulll", "--full"),
    ("rooms x", "unexpected extra argument"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_is_one_clear_line(capsys: Capture, tmp_path: Path, line: str, message: str) -> None:
    places = {"empty": str(tmp_path), "sample": str(SAMPLE)}
    status, out, err = ask(capsys, line.format(**places))
    assert (status, out) == (2, "")
    assert err.startswith("packetwalk: ") and err.count("\n") == 1
    assert message.format(**places) in err


@pytest.mark.parametrize("text", ["[]", "{", '{"encapp": 1}', '{"encap": -1}'])
def test_bad_costs_name_the_file(capsys: Capture, tmp_path: Path, text: str) -> None:
    file = tmp_path / "costs.json"
    file.write_text(text)
    status, _, err = ask(capsys, f"walk a b --costs {file}")
    assert status == 2 and str(file) in err and err.count("\n") == 1


@pytest.mark.parametrize("file", ["snapshot.json", "state/0/node-1/link.json", "state/0/a/sysctl.conf"])
@pytest.mark.parametrize("damage", ["missing", "cut off", "not text"])
def test_a_damaged_snapshot_names_the_file(capsys: Capture, snapshot: Path, file: str, damage: str) -> None:
    path = snapshot / file
    whole = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut off" else b"\xff\xfe" + whole)
    status, out, err = ask(capsys, f"walk a b --snapshot {snapshot}")
    if damage == "cut off" and file.endswith(".conf") and status == 0:
        pytest.skip("the cut fell between two lines, which nobody can notice")
    assert (status, out) == (2, "")
    assert path.name in err and err.count("\n") == 1


# -- IPVS --------------------------------------------------------------------------------------------------------------


def test_virtual_services_of_a_snapshot_are_shown_and_walked(capsys: Capture, snapshot: Path) -> None:
    saved = "-A -t 10.1.1.1:80 -s rr\n-a -t 10.1.1.1:80 -r 10.244.2.10:8080 -m -w 1\n"
    (snapshot / "state" / "0" / "node-1" / "ipvsadm-save.txt").write_text(saved, encoding="utf-8")
    at = f"--snapshot {snapshot}"
    status, out, _ = ask(capsys, f"show node-1 ipvs {at}")
    assert status == 0 and "TCP  10.1.1.1:80 rr" in out
    words = ["walk", "a", "10.1.1.1", "--tcp", "80", "--after", "node-1 ipvs-conns", "--snapshot", str(snapshot)]
    status = main([*words, "--set", "node-1 ip addr add 10.1.1.1/32 dev lo"])
    out = capsys.readouterr().out
    assert "by tcp 10.1.1.1:80 rr" in out
    assert "IPVS connection entries" in out and "10.1.1.1:80        10.244.2.10:8080" in out


def test_a_damaged_ipvs_file_is_named_with_its_line(capsys: Capture, snapshot: Path) -> None:
    (snapshot / "state" / "0" / "node-1" / "ipvsadm-save.txt").write_text("-A -t 10.1.1.1:80 -s\n", encoding="utf-8")
    status, out, err = ask(capsys, f"rooms --snapshot {snapshot}")
    assert (status, out) == (2, "")
    assert "ipvsadm-save.txt:1: -s needs a value" in err
