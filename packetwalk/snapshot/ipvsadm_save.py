"""`ipvsadm -S -n` output in: the virtual services of one namespace and their real servers."""

from __future__ import annotations

import shlex
from pathlib import Path

from packetwalk.ipvsadm import ipvsadm
from packetwalk.netns.ipvs import Ipvs
from packetwalk.snapshot.reader import SnapshotError, read_text


def load_ipvs(path: Path) -> Ipvs:
    """Read a file that `ipvsadm -S -n` wrote. SnapshotError, in one line with file and line, for what is malformed."""
    return read_ipvs(read_text(path), str(path))


def read_ipvs(text: str, name: str = "ipvsadm-save.txt") -> Ipvs:
    """Read the text of `ipvsadm -S -n`. Servers count as added in the order of the lines, as `ipvsadm -R` adds them."""
    ipvs = Ipvs()
    for n, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
            if words:
                ipvsadm(ipvs, words, f"{Path(name).name}:{n}")
        except ValueError as error:
            raise SnapshotError(f"{name}:{n}: {error}") from None
    return ipvs
