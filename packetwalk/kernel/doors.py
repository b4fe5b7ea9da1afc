"""The kernel's doors, one small function each: namespaces, sysctls, the tools of iproute2."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET, _PR_SET_PDEATHSIG = 0x40000000, 1
_NETLINK_NETFILTER, _CTNETLINK_DELETE, _REQUEST_ACK = 12, 1 << 8 | 2, 5
_LIBC = ctypes.CDLL(None, use_errno=True)


class Refused(RuntimeError):
    """The kernel or a tool did not take a line; the message has the line and the answer."""


def setns(fd: int) -> None:
    """This thread enters a network namespace. OSError if the kernel refuses."""
    if _LIBC.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def sysctl_path(key: str) -> Path:
    """A dot in a device's name is written as a slash, as sysctl does."""
    return Path("/proc/sys", *(part.replace("/", ".") for part in key.split(".")))


def write_sysctl(key: str, value: int | str) -> None:
    """`sysctl -w` in this thread's namespace. FileNotFoundError for a key that this kernel has not."""
    sysctl_path(key).write_text(f"{value}\n", encoding="ascii")


def write_sysctls(text: str) -> None:
    """`-qw KEY=VALUE ...`; with -eqw a key that this kernel has not is left out."""
    how, *pairs = shlex.split(text)
    for pair in pairs:
        key, _, value = pair.partition("=")
        try:
            write_sysctl(key, value)
        except FileNotFoundError:
            if "e" not in how:
                raise Refused(f"sysctl {key}: this kernel has no such key") from None
        except OSError as error:
            raise Refused(f"sysctl {key}={value}: {error.strerror}") from None


def batch(command: list[str], lines: list[str], *, changes: bool = True) -> str:
    """Give a tool of iproute2 several lines. Refused with the line that failed and what the kernel said."""
    return run(command, "".join(f"{line}\n" for line in lines), changes=changes)


def run(command: list[str], text: str = "", *, changes: bool, cwd: Path | None = None) -> str:
    """What a tool prints, given a text to read. Refused if it fails.

    A tool that changes something ends when we end, whatever ends us; that takes a fork of all our memory, which one
    that only shows something is spared.
    """
    end = _end_with_us if changes else None
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=cwd, check=False, preexec_fn=end)
    if not done.returncode:
        return done.stdout
    failed = re.search(r"Command failed -:(\d+)", done.stderr)
    what = text.splitlines()[int(failed[1]) - 1] if failed else shlex.join(command[1:])
    reasons = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("Command failed")]
    raise Refused(f"{command[0]} {what}: {' '.join(reasons) or f'exit status {done.returncode}'}")


def flush_conntrack() -> None:
    """`conntrack -F` in this thread's namespace, without the tool: IPCTNL_MSG_CT_DELETE about no tuple in particular.
    Refused where the kernel has no ctnetlink."""
    request = struct.pack("=IHHII", 20, _CTNETLINK_DELETE, _REQUEST_ACK, 1, 0) + struct.pack("=BBH", 0, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.send(request)
        error = -struct.unpack_from("=i", netlink.recv(4096), 16)[0]
    if error:
        raise Refused(f"flush of the connection tracking table: {os.strerror(error)}")


def _end_with_us() -> None:
    """A kill -9 of ours must not leave a tool at work behind the next start's clean-up (prctl(2))."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that end a program wait until this is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
