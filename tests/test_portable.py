"""packetwalk runs where there is no POSIX (Windows) and no process or thread to start (a browser).

Only packetwalk.kernel, the door to a real kernel, may need more, and only what the others import when they are used.
"""

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "packetwalk"
POSIX = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
BROWSER = (*POSIX, "_posixsubprocess", "_posixshmem", "_multiprocessing", "mmap", "multiprocessing", "_ssl")
MODULES = sorted(
    ".".join(("packetwalk", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] != "kernel" and path.name != "__main__.py"
)

BLOCK = """
import importlib, sys
import os, random, pathlib, socket, subprocess, tempfile, asyncio   # the interpreter's own, which know other ways there
for name in {blocked!r}:
    sys.modules[name] = None
"""


def run(code: str, blocked: tuple[str, ...]) -> str:
    command = [sys.executable, "-W", "error", "-c", BLOCK.format(blocked=blocked) + code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("blocked", [POSIX, BROWSER], ids=["windows", "browser"])
def test_every_module_can_be_imported(blocked: tuple[str, ...]) -> None:
    run(f"for name in {MODULES!r}: importlib.import_module(name)", blocked)


@pytest.mark.parametrize("blocked", [POSIX, BROWSER], ids=["windows", "browser"])
def test_a_walk_needs_no_posix(blocked: tuple[str, ...]) -> None:
    code = "from packetwalk.cli import main; sys.exit(main(['walk', 'a', 'b', '--tcp', '80', '--minimal']))"
    assert "connected" in run(code, blocked)


def test_the_list_is_not_empty() -> None:
    assert {"packetwalk.cli", "packetwalk.netns.stack", "packetwalk.snapshot.iproute"} <= set(MODULES)
