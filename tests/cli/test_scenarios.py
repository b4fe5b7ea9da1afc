"""The commands `scenarios` and `run`."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from packetwalk.cli import scenarios
from packetwalk.cli.scenarios import files, question
from tests.transcript import answer

ROOT = Path(__file__).resolve().parent.parent.parent


def test_each_scenario_has_a_line_with_its_question() -> None:
    lines = answer("packetwalk scenarios").splitlines()
    assert [line.split()[0] for line in lines] == [path.stem for path in sorted((ROOT / "scenarios").glob("*.py"))]
    assert len(lines) >= 15 and all(line.endswith("?") for line in lines)
    assert len({len(line.partition("  ")[0]) for line in lines}) > 1, "names are padded, not cut"


def test_a_question_is_the_first_sentence_that_asks() -> None:
    assert question('"""It hangs.\nWhy does\nit?  Since then.\n\nMore? """') == "It hangs. Why does it?"


def test_a_scenario_runs() -> None:
    assert answer("packetwalk run hairpin") == (ROOT / "scenarios" / "hairpin.out").read_text().rstrip("\n")


def test_a_scenario_is_shown() -> None:
    assert answer("packetwalk run hairpin --source") == (ROOT / "scenarios" / "hairpin.py").read_text().rstrip("\n")


def test_a_typing_error_is_forgiven_with_a_hint() -> None:
    said = "packetwalk: there is no scenario 'hairpins'; did you mean 'hairpin'?\n[2]"
    assert answer("packetwalk run hairpins") == said


def test_an_installed_package_brings_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel puts the folder into the package; nothing else of the repository is needed."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"scenarios": "packetwalk/scenarios"}
    inside = tmp_path / "site-packages" / "packetwalk" / "scenarios"
    inside.mkdir(parents=True)
    (inside / "mine.py").write_text('"""Is it mine?"""\nprint("yes")\n')
    monkeypatch.setattr(scenarios, "PACKAGE", inside.parent)
    assert list(files()) == ["mine"] and answer("packetwalk run mine") == "yes"
    assert answer("packetwalk scenarios") == "mine  Is it mine?"


@pytest.mark.long
def test_the_wheel_runs_a_scenario(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode and "hatchling" in built.stderr:
        pytest.skip("pip cannot get hatchling here, which builds the wheel")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    run = [sys.executable, "-m", "packetwalk", "run", "hairpin"]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=tmp_path / "site")
    assert done.stdout == (ROOT / "scenarios" / "hairpin.out").read_text()
