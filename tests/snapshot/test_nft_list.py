"""Reading what `nft list` wrote, and writing the same text again."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from packetwalk.engine.walk import walk
from packetwalk.snapshot import load_snapshot
from packetwalk.snapshot.nft_list import read_nft
from packetwalk.snapshot.reader import SnapshotError
from packetwalk.source import SAMPLE

LISTED = Path(__file__).resolve().parent / "nftables.list"  # as nft 1.0.6 printed it


def printed(text: str) -> str:
    return "".join(f"{table}\n" for table in read_nft(text).tables.values())


def test_what_is_read_prints_as_it_was() -> None:
    """Also what is not modelled, each with its line."""
    text = LISTED.read_text(encoding="utf-8")
    assert printed(text) == text
    (table,) = read_nft(text).tables.values()
    lines = text.splitlines()
    for chain in table.chains.values():
        for rule in chain.rules:
            assert lines[int(rule.where.rpartition(":")[2]) - 1].strip() == str(rule)


@pytest.mark.skipif(not shutil.which("nft") or not shutil.which("unshare") or os.name != "posix" or os.geteuid() != 0,
                    reason="root and nft are needed")  # fmt: skip
def test_nft_takes_what_we_print_and_prints_the_same() -> None:
    text = printed(LISTED.read_text(encoding="utf-8"))
    script = ["unshare", "-n", "sh", "-c", "ip link set lo up && nft -f - && nft list ruleset"]
    done = subprocess.run(script, input=text, capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr or "Operation not supported" in done.stderr:
        pytest.skip(done.stderr.splitlines()[0])
    assert done.returncode == 0, done.stderr
    assert printed(done.stdout) == done.stdout
    assert read_nft(done.stdout).tables.keys() == read_nft(text).tables.keys()


def test_tables_of_iptables_and_of_other_families() -> None:
    listed = read_nft(
        "# Warning: table ip nat is managed by iptables-nft, do not touch!\n"
        'table ip nat {\n\tchain PREROUTING {\n\t\txt target "LOG"\n\t}\n}\n'
        "table inet own {\n}\ntable ip6 other {\n\tset x {\n\t\ttype ipv6_addr\n\t}\n}\n"
        "table bridge b {\n\tchain c {\n\t}\n}\n"
    )
    assert list(listed.tables) == ["inet own"]
    assert listed.unevaluated == ("nftables.txt (table bridge b)",)
    assert [t.title for t in listed.tables.values()] == ["inet own"]


def test_what_sees_frames_or_sleeps_sees_no_packet() -> None:
    hook = 'type filter hook ingress device "eth0" priority filter; policy drop;'
    text = f"table inet t {{\n\tchain c {{\n\t\t{hook}\n\t}}\n}}\n"
    listed = read_nft(text)
    assert listed.unevaluated == ("nftables.txt (chain c of table inet t)",) and printed(text) == text
    dormant = f"table ip t {{\n\tflags dormant\n\n\tchain c {{\n\t\t{BASE}\n\t}}\n}}\n"
    (table,) = read_nft(dormant).tables.values()
    assert not list(table.bases()) and printed(dormant) == dormant
    assert len(list(read_nft(dormant.replace("\tflags dormant\n", "")).tables["ip t"].bases())) == 1


BASE = "type filter hook input priority filter; policy accept;"


@pytest.mark.parametrize(("inside", "message"), [
    ("chain c {\n ip saddr 10.0.0.256 drop\n}", "nft:3: "),
    ("chain c {\n tcp dport 70000 drop\n}", "nft:3: a number of 0 to 65535 was expected, not '70000'"),
    ("chain c {\n jump d\n}\nchain dd {\n}", "nft:3: table t: there is no chain 'd'; did you mean 'dd'?"),
    ("chain c {\n ip saddr @nots drop\n}\nset nets {\n type ipv4_addr\n}",
     "nft:3: there is no set or map 'nots'; did you mean 'nets'?"),
    ("chain c {\n jump d\n}\nchain d {\n goto c\n}", "a loop of chains: c > d > c"),
    (f"chain c {{\n {BASE}\n}}\nchain d {{\n jump c\n}}", "nft:6: c is a base chain, to which d cannot lead"),
    ("chain c {\n type filter hook inputt priority filter; policy accept;\n}",
     "nft:3: one of prerouting, input, forward, output, postrouting, ingress, egress was expected, not 'inputt'"),
    ("chain c {\n type filter hook input; policy accept;\n}", "nft:3: `type TYPE hook HOOK priority"),
    ("chain c {\n type filter hook input priority filter; policy maybe;\n}", "nft:3: a policy (accept or drop)"),
    ("chain c {\n ct state newer accept\n}", "nft:3: one of invalid, established, related, new, untracked"),
    ("chain c {\n jump\n}", "nft:3: it ends where a chain was expected"),
    ("set s {\n type ipv4_addr\n elements = { 1.2.3.4, }\n}", "nft:4: "),
    ("set s {\n type ipv4_addr\n timeout 3x\n}", "nft:4: a time like 3h or 1m30s was expected, not '3x'"),
    ("set s {\n flags interval\n}", "nft:2: a set needs a `type`"),
    ("map m {\n type ipv4_addr : verdict\n elements = { 1.2.3.4 }\n}", "nft:4: `:` was expected, not '}'"),
    ("chian c {\n}", "nft:2: "),
    ("chain c {\n accept", "nft:1: `table ip t {` is not closed; is the file cut off?"),
    ('chain c {\n accept comment "x\n}', "nft:3: a closing"),
])  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(inside: str, message: str) -> None:
    with pytest.raises(SnapshotError) as error:
        read_nft(f"table ip t {{\n{inside}\n}}\n", "nft")
    assert message in str(error.value) and str(error.value).startswith("nft:")
    assert "\n" not in str(error.value)


def test_a_table_is_expected() -> None:
    with pytest.raises(SnapshotError, match=r"^nft:2: `table FAMILY NAME \{` was expected, not 'chain c \{'"):
        read_nft("\nchain c {\n}\n", "nft")
    with pytest.raises(SnapshotError, match=r"^nft:1: there is no family 'ipp'"):
        read_nft("table ipp t {\n}\n", "nft")


def test_chains_may_be_sixteen_deep() -> None:
    def chains(count: int) -> str:
        links = "".join(f"chain c{i} {{\njump c{i + 1}\n}}\n" for i in range(count - 1))
        return f"table ip t {{\n{links}chain c{count - 1} {{\n}}\n}}\n"

    assert read_nft(chains(16)).tables
    with pytest.raises(SnapshotError, match="more than 16 deep"):
        read_nft(chains(3000))


def test_a_snapshot_may_hold_one(tmp_path: Path) -> None:
    snapshot = Path(shutil.copytree(SAMPLE, tmp_path / "snap"))
    (snapshot / "state/0/node-2/nftables.txt").write_text(
        "table inet mine {\n\tchain in {\n\t\ttype filter hook forward priority -10; policy accept;\n"
        "\t\ticmp type echo-request counter packets 0 bytes 0 drop\n\t\tlimit rate 5/second accept\n\t}\n}\n"
        "table bridge other {\n}\n"
    )
    network = load_snapshot(snapshot)
    trace = walk(network, "a", "b")
    ((room, step),) = trace.drops
    assert room == "node-2" and step.dev == "forward/inet mine"
    assert "in 1: icmp type echo-request counter packets 0 bytes 0 drop   (nftables.txt:4)" in str(step.what.by)  # type: ignore[attr-defined]
    assert trace.unevaluated == {"node-2": ("nftables.txt (table bridge other)",)}
    odd = walk(network, "a", "b", udp=80)
    assert odd.result.outcome == "unsupported"
    assert odd.result.errno == "rule statement limit rate 5/second accept (nftables.txt:5)"
    network["node-2"].netfilter.nft["inet mine"].chains["in"].rules.pop()
    assert walk(network, "a", "b", udp=8080).result.outcome == "reply"
