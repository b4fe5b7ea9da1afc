"""Reading what `ipset save` wrote, and writing the same text again."""

from pathlib import Path

import pytest

from packetwalk.snapshot.ipset_save import read_ipsets
from packetwalk.snapshot.reader import SnapshotError

SHARED = Path(__file__).resolve().parents[3] / "shared"
DUMPS = sorted(SHARED.glob("recordings/*/state/*/*/ipset-save.txt"))


@pytest.mark.skipif(not DUMPS, reason="../shared is not here")
def test_every_dump_prints_as_it_was_read() -> None:
    for dump in DUMPS:
        text = dump.read_text(encoding="utf-8")
        printed = "\n".join(str(one) for one in read_ipsets(text, str(dump)).values())
        assert sorted(printed.splitlines()) == sorted(line.rstrip() for line in text.splitlines()), dump


def test_what_ipset_prints_is_printed_alike() -> None:
    """As `ipset save` 7.17 printed it."""
    text = """create p hash:ip,port family inet hashsize 1024 maxelem 65536 timeout 5 comment bucketsize 12 initval 0x1
add p 1.1.1.1,icmp:fragmentation-needed timeout 3
add p 1.1.1.1,gre:0 timeout 0 comment "x y"
create n hash:net,iface family inet hashsize 1024 maxelem 65536
add n 10.0.0.0/8,physdev:eth0
create c hash:net family inet hashsize 1024 maxelem 65536 counters
add c 10.0.0.0/8 packets 5 bytes 300 nomatch
create L list:set size 8
add L c"""
    assert "\n".join(str(one) for one in read_ipsets(text).values()) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("create s hash:ip\nadd t 1.1.1.1", "f:2: there is no set 't'"),
        ("create set1 hash:ip\nadd set2 1.1.1.1", "f:2: there is no set 'set2'; there is 'set1'"),
        ("create s hash:ip\nadd s 1.1.1", "f:2: '1.1.1' is not an IPv4 address"),
        ("create s", "f:1: `create NAME TYPE ...`"),
        ("crate s hash:ip", "f:1: `create NAME TYPE` or `add NAME ELEMENT` was expected, not 'crate s hash:ip'"),
        ("create s hash:ip comment\nadd s 1.1.1.1 comment \"x", 'f:2: a closing `"` was expected'),
        ("create s list:set\nadd s t", "f:2: there is no set 't'"),
        ("create s hash:ip timeout 5\nadd s 1.1.1.1 timeout five", "f:2: a number of 0 to"),
    ],
)
def test_bad_input_is_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(SnapshotError) as error:
        read_ipsets(text, "f")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
