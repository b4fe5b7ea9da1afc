"""`packetwalk show` against the real tools, line for line, in networks built by the lines of `packetwalk commands`."""

import re
import subprocess
import time
from pathlib import Path

import pytest

import packetwalk as pw
from packetwalk.kernel.realise import MissingFeature, realise
from packetwalk.show import SHOWN, show

RECORDINGS = Path(__file__).resolve().parent.parent / "recordings"
FOLDERS = [pw.SAMPLE, *sorted(p.parent for p in RECORDINGS.glob("*/snapshot.json"))]
TOOLS = {
    "addrs": ("ip", "addr"),
    "fdb": ("bridge", "fdb"),
    "links": ("ip", "link"),
    "neigh": ("ip", "neigh"),
    "routes": ("ip", "route"),
    "ip-rules": ("ip", "rule"),
}
SAVES = {  # in an order of their own
    "rules": ["iptables-save"],
    "sets": ["ipset", "save"],
    "ipvs": ["ipvsadm", "-L", "-n"],
}
ENTRY = re.compile(r"^(?:-A|create|add|TCP|UDP|FWM|  ->) .*\S", re.MULTILINE)
LINKWATCH = 30  # tenths of a second: the kernel says up to a second later that a bridge has got a carrier (linkwatch.c)
NOT_OURS = re.compile(r"33:33:|01:00:5e:|\s+inet6 ")  # multicast and IPv6, which are not modelled


def printed(text: str, names: dict[str, str]) -> list[str]:
    """The lines of a tool, with the rooms' names for those of their namespaces."""
    for room, name in names.items():
        text = re.sub(rf"link-netns {re.escape(name)}$", f"link-netns {room}", text, flags=re.MULTILINE)
    return [line.rstrip() for line in text.splitlines() if not NOT_OURS.match(line)]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_every_table_is_printed_as_the_tools_print_it(kernel: None, folder: Path) -> None:
    network = pw.load_snapshot(folder)
    for room in network:  # what was learned is not built
        learned = [k for k, n in room.neighbours.entries.items() if n.state not in ("PERMANENT", "NOARP")]
        for key in learned:
            del room.neighbours.entries[key]
    try:
        with realise(network, folder) as real:
            for room in network:
                for table, (tool, words) in TOOLS.items():
                    ours = printed(show(network, room.name, table), {})
                    for _ in range(LINKWATCH):
                        found = printed(real.output(room.name, tool, words), real.names)
                        if found == ours:
                            break
                        time.sleep(0.1)
                    assert ours == found, f"{room.name}: {tool} {words}"
                for table, save in SAVES.items():
                    listed = sorted(ENTRY.findall(show(network, room.name, table)))
                    if listed:
                        with real.inside(room.name):
                            text = subprocess.run(save, capture_output=True, text=True, check=True).stdout
                        assert sorted(ENTRY.findall(text)) == listed, f"{room.name}: {save}"
    except MissingFeature as error:
        pytest.skip(str(error))


def test_every_table_is_compared() -> None:
    assert TOOLS.keys() | SAVES.keys() == SHOWN.keys() - {"resolv.conf"}  # a file, which no tool prints
