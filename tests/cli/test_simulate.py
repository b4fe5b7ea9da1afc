"""The command `simulate`: flows in words, what it prints, and what it does not take."""

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from packetwalk.cli import main
from tests.transcript import answer


def test_a_flow_in_words_and_one_more() -> None:
    text = answer("packetwalk simulate a b rate 500 size 100 --until 20ms --also 'c b poisson rate 900 name second'")
    assert text.startswith("2 flows for 20.0 ms, seed 0  calico-ipip cluster of 2 nodes")
    assert [line.split()[:5] for line in text.splitlines() if line.startswith("a > b")] == [["a", ">", "b", "10", "10"]]
    assert "\nsecond " in text and "\ndrops" not in text


def test_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["a", "b", "on", "2ms", "off", "3ms", "rate", "1000", "--until", "10ms", "--every", "5ms"]
    assert main(["simulate", *words, "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [r["sent"] for r in found["time"]] == [2, 2] and found["flows"][0]["delivered"] == 4
    assert main(["simulate", *words, "-o", "csv", "--table", "time"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [r["at_ns"] for r in rows] == ["0", "5000000"] and rows[0]["flow"] == "a > b"


def test_files_transfers_services_and_faults(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("0.001,100\n0.002,200\n")
    text = answer(
        f"packetwalk simulate a b times {tmp_path / 't.csv'} --until 20ms --also 'c web:80 transfer 50000 conns 2'"
        " --also 'a b icmp rate 1000 stop 5ms' --fault 'at 10ms link node-2 delay 1ms' --set 'link node-1 rate 1gbit'"
    )
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines() if " > " in line[:8]}
    assert int(lines["c > web"][3]) >= 2 * 50_000 // 1448
    assert "at 10 ms link node-2 delay 1ms" in text and "changed" in text


@pytest.mark.parametrize(("patience", "shown"), [(0.0, True), (1000.0, False)])
def test_a_long_run_shows_a_bar_on_a_terminal(patience: float, shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("packetwalk.cli.simulate.PATIENCE", patience)
    monkeypatch.setenv("TERM", "xterm")
    assert main(["simulate", "a", "b", "rate", "100", "--until", "20ms", "-o", "csv"]) == 0
    assert ("simulating" in terminal.getvalue()) == shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("aa b", "there is no room 'aa'; did you mean 'a'?"),
        ("a b rat 5", "there is no option 'rat'; did you mean 'rate'?"),
        ("a b rate many", "rate: packets a second were expected, not 'many'"),
        ("a b rate", "it ends where a value of 'rate' was expected"),
        ("a b poisson transfer 5", "poisson and transfer exclude each other"),
        ("a b on 5ms", "`on TIME` and `off TIME` go together"),
        ("a b transfer 5 size 3", "transfer has no use for size"),
        ("a b times nowhere.csv", "nowhere.csv: No such file or directory"),
        ("a b --also 'a x'", "there is no room 'x'"),
        ("a b --also 'q b'", "--also 'q b': there is no room 'q'"),
        ("a b --until soon", "a number with one of ns, us, ms, s behind it was expected, not 'soon'"),
        ("a b --fault 'at noon link node-1 down'", "'at noon link node-1 down': a number with one of ns"),
        ("a b -o xml", "there is no output format 'xml'; there are text, csv, json"),
    ],
)
def test_what_is_wrong_is_one_line(words: str, said: str) -> None:
    text = answer(f"packetwalk simulate {words}")
    assert said in text and text.startswith("packetwalk: ") and text.splitlines()[1:] == ["[2]"]
