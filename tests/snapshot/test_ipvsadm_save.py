"""Reading what `ipvsadm -S -n` wrote, and writing the same text again."""

from pathlib import Path

import pytest

from packetwalk.addr import IPv4
from packetwalk.netns.ipvs_conn import Key
from packetwalk.snapshot.ipvsadm_save import read_ipvs
from packetwalk.snapshot.reader import SnapshotError

SHARED = Path(__file__).resolve().parents[3] / "shared"
DUMPS = sorted(SHARED.glob("recordings/*/state/*/*/ipvsadm-save.txt"))


@pytest.mark.skipif(not DUMPS, reason="../shared is not here")
def test_every_dump_prints_as_it_was_read() -> None:
    for dump in DUMPS:
        text = dump.read_text(encoding="utf-8")
        assert str(read_ipvs(text, str(dump))) == text.rstrip("\n"), dump


def test_every_option_is_kept() -> None:
    text = """-A -u 10.96.0.10:53 -s sh -p 10800 -M 255.255.255.0 --pe sip -o -b sh-fallback,sh-port
-a -u 10.96.0.10:53 -r 10.244.0.2:53 -m -w 0
-a -u 10.96.0.10:53 -r 10.244.0.3:53 -g -w 3 -x 100 -y 50
-A -f 7 -s wlc
-a -f 7 -r 10.244.0.3:0 -i -w 1 --tun-type ipip"""
    assert str(read_ipvs(text)) == text


def test_long_options_and_comments_are_read() -> None:
    ipvs = read_ipvs("""# as a person writes it
--add-service --tcp-service 10.0.0.1:80 --scheduler wrr --persistent
--add-server --tcp-service 10.0.0.1:80 --real-server 10.0.1.2 --masquerading --weight 5
""")
    (service,) = ipvs.services.values()
    assert (service.key, service.scheduler, service.persistent) == (Key(6, IPv4("10.0.0.1"), 80), "wrr", 300)
    assert [(s.port, s.forward, s.weight) for s in service.servers] == [(80, "Masq", 5)]
    assert service.where == "ipvsadm-save.txt:2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-A -t 10.0.0.1:80 -s rr\n-A -t 10.0.0.1:80 -s rr", "f:2: there is a virtual service -t 10.0.0.1:80 already"),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2:80 -m", "f:1: there is no virtual service -t 10.0.0.1:80; there is none"),
        ("-A -t 10.0.0.1 -s rr", "f:1: -t 10.0.0.1:0: port 0 is for persistent services only (-p)"),
        ("-A -x 10.0.0.1:80", "f:1: a service was expected: -t, -u, --sctp-service, -f, not '-x'"),
        ("-A -t 10.0.0:80", "f:1: '10.0.0' is not an IPv4 address"),
        ("-A -t 10.0.0.1:http", "f:1: a number of 0 to 65535 was expected, not 'http'"),
        ("-A -t 10.0.0.1:80 -s", "f:1: -s needs a value"),
        ("-A -t 10.0.0.1:80 --sched rr", "f:1: there is no option '--sched' here; did you mean '--scheduler'?"),
        ("-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -m -r 10.0.0.2", "f:2: `-r ADDRESS:PORT` was expected, not '-m'"),
        ("-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80", "f:2: a real server was expected: `-r ADDRESS:PORT`"),
        ("-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.0.2 -w x", "f:2: a number of 0 to 65535"),
        ("-Z -t 10.0.0.1:80", "f:1: there is no command of ipvsadm '-Z'; "),
        ("-C -t", "f:1: '-t' is one word too many"),
        ('-A -t "10.0.0.1:80', "f:1: No closing quotation"),
    ],
)
def test_bad_input_is_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(SnapshotError) as error:
        read_ipvs(text, "f")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
