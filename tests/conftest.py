"""What every test shares: where things are, and a surrounding that does not change from one run to the next."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Printed output must not depend on who runs the tests: one width, and colour only where a test asks for it.
# Set here and not in a fixture, because rich and typer read some of them when they are imported.
os.environ["COLUMNS"] = "120"
for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TTY_COMPATIBLE"):
    os.environ.pop(name, None)

# The same examples every time and no database: a failure seen once is seen by everyone.
settings.register_profile("packetwalk", derandomize=True, deadline=None, database=None)
settings.load_profile("packetwalk")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew from what is printed now")


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """What stands beside the project (recordings, data, agree.py); without it, the test that asks is skipped."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"{path} is not there")
    return path


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The docs as `make docs` builds them: what they show is run, and a warning is an error."""
    for needed in ("furo", "myst_nb"):
        pytest.importorskip(needed, reason=f"{needed} is not installed (extra `docs`)")
    out = tmp_path_factory.mktemp("docs") / "html"
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(ROOT / "docs"), str(out)]
    done = subprocess.run(sphinx, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out
