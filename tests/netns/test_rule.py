"""One rule: its words in, its text out."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packetwalk.netns.option import OptionKind, quote, unquote
from packetwalk.netns.rule import HEADER, MATCHES, Rule, parse_rule
from packetwalk.netns.target import TARGETS

LINES = (Path(__file__).parent / "iptables-1.8.9.txt").read_text(encoding="utf-8").splitlines()[1:]


@pytest.mark.parametrize("line", LINES)
def test_it_prints_as_iptables_save_does(line: str) -> None:
    written, _, printed = line.partition(" => ")
    _, chain, words = written.split(" ", 2)
    rule = parse_rule(f"-A {chain} {words}")
    assert str(rule) == f"-A {chain} {printed}"
    assert parse_rule(str(rule)) == rule


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-s 1.2.3", "-s: '1.2.3' is not an IPv4 address"),
        ("-p tcp --dprot 80", "--dprot: no match or target named before it has this option; did you mean '--dport'?"),
        ("--dport 80", "--dport: no match or target named before it has this option"),
        ("-p tcp --dport http", "--dport: a number of 0 to 65535 was expected, not 'http'"),
        ("-p tcp --dport 90:80", "--dport: a range from the lower to the higher number was expected"),
        ("-m conntrack --ctstate NEW,FOO", "--ctstate: one of INVALID, NEW, RELATED, ESTABLISHED,"),
        ("-m mark", "-m mark: --mark was expected"),
        ("-m statistic --mode nth", "-m statistic: --every was expected"),
        ("-m recent --set --update", "-m recent: one of --set, --rcheck, --update, --remove was expected"),
        ("-p tcp -m multiport --dports 1:2,3:4,5:6,7:8,9:10,11:12,13:14,15:16", "--dports: at most 15 ports"),
        ("-j DNAT", "-j DNAT: --to-destination was expected"),
        ("-j REJECT --reject-with no", "--reject-with: one of icmp-net-unreachable,"),
        ("-j ACCEPT !", "an option was expected after `!`"),
        ("-j", "-j: a value was expected"),
        ("! -m comment --comment a ! --comment b", "--comment takes no `!`"),
        ('-m comment --comment "a', 'a closing `"` was expected'),
    ],
)
def test_what_iptables_would_refuse_is_refused_in_one_line(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"expected|no match|not an IPv4|takes no") as error:
        parse_rule(f"-A INPUT {words}")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line",
    [
        '-A X -m string --string "abc" --algo bm --to 65535 -j DROP',
        '-A X -s 10.0.0.1/32 -m bpf ! --bytecode "4,48 0 0 9" -m mark --mark 0x1 -j ACCEPT',
        "-A X -m set --match-set a src --shiny 5 -j DROP",
        '-A X -j NFQUEUE --queue-num 0 --queue-comment "a b"',
        "-A X -j CT --zone 5",
    ],
)
def test_what_is_not_modelled_is_kept_as_it_was_written(line: str) -> None:
    assert str(parse_rule(line)) == line


def test_a_comment_may_hold_anything() -> None:
    rule = parse_rule('-A X -m comment --comment "it\'s -j \\"DROP\\" \\\\ !" -j ACCEPT')
    assert rule.comment == 'it\'s -j "DROP" \\ !'
    assert str(rule) == '-A X -m comment --comment "it\\\'s -j \\"DROP\\" \\\\ !" -j ACCEPT'


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"])))
def test_quoting_is_undone(text: str) -> None:
    assert unquote(quote(text)) == text


# -- any rule the printer emits reads back equal -----------------------------------------------------------------------

ADDR = st.integers(0, 2**32 - 1).map(lambda n: ".".join(str(n >> s & 255) for s in (24, 16, 8, 0)))
NUMBER = st.integers(0, 255).map(str)
MARK = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)).map(lambda t: f"{t[0]:#x}/{t[1]:#x}")
PORT = st.integers(0, 0xFFFF)
SPAN = st.one_of(PORT.map(str), st.tuples(PORT, PORT).map(lambda t: f"{min(t)}:{max(t)}"))
TO = st.one_of(ADDR, st.tuples(ADDR, PORT).map(lambda t: f"{t[0]}:{t[1]}"))
ANYTHING = st.text(st.characters(min_codepoint=32, max_codepoint=126)).map(quote)
LIST = {
    "--ctstate": ["INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT"],
    "--state": ["INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED"],
    "--ctstatus": ["EXPECTED", "SEEN_REPLY", "ASSURED", "CONFIRMED"],
    "--src-type": ["LOCAL", "UNICAST", "BROADCAST"],
    "--dst-type": ["LOCAL", "UNICAST", "BROADCAST"],
}
CHOICE = {
    "--mode": ["random"], "--ctdir": ["ORIGINAL", "REPLY"], "--icmp-type": ["8", "3/4", "any", "echo-reply"],
    "--limit": ["5/sec", "10/min", "3/hour"], "--dscp-class": ["AF11", "CS6", "EF"],
    "--probability": ["0.5", "0.33333333333"], "--reject-with": ["tcp-reset", "icmp-host-prohibited"],
    "--log-level": ["debug", "3"], "-p": ["tcp", "udp", "17", "all", "icmp"], "--ctproto": ["6", "udp"],
    "--mac-source": ["02:00:00:00:00:0A"], "--tcp-flags": ["SYN,ACK SYN", "ALL NONE"], "--seconds": ["10800"],
    "--match-set": ["s1 src", "s1 src,dst"], "--add-set": ["s1 src"], "--del-set": ["s1 dst"], "--map-set": ["s1 src"],
    "--every": ["3"], "--packet": ["2"], "--src-range": ["10.0.0.1-10.0.0.9"], "--dst-range": ["10.0.0.1"],
    "--hitcount": ["20"], "--limit-burst": ["7"], "--nflog-group": ["1"], "--set-mss": ["1400"], "--length": ["40:100"],
    "--dscp": ["0x0a"], "--ttl": ["1"], "--to-ports": ["80", "80-90"],
}  # fmt: skip


def value(name: str) -> st.SearchStrategy[str]:
    """Some argument of the option, as a person would write it."""
    if name in LIST:
        return st.lists(st.sampled_from(LIST[name]), min_size=1, unique=True).map(",".join)
    if name in CHOICE:
        return st.sampled_from(CHOICE[name])
    if name in ("-s", "-d") or (name.startswith(("--ctorig", "--ctrepl")) and not name.endswith("port")):
        return st.tuples(ADDR, st.integers(0, 32)).map(lambda t: f"{t[0]}/{t[1]}")
    if name in ("--mask", "--on-ip", "--to-source", "--to-destination"):
        return TO if name.startswith("--to") else ADDR
    if name in ("--nfmask", "--ctmask", "--and-mark", "--or-mark", "--xor-mark"):
        return st.integers(0, 2**32 - 1).map(str)
    if "mark" in name:
        return MARK
    if name.endswith(("ports", "port", "expire")):
        return SPAN
    if name in ("--comment", "--log-prefix", "--nflog-prefix"):
        return ANYTHING
    return NUMBER


@st.composite
def some_options(draw: st.DrawFn, kinds: dict[str, OptionKind]) -> str:
    words = []
    for name in draw(st.lists(st.sampled_from(sorted(kinds)), unique=True, max_size=3)) if kinds else []:
        bang = "! " if kinds[name].invertible and draw(st.booleans()) else ""
        words.append(f"{bang}{name} {draw(value(name))}" if kinds[name].words else f"{bang}{name}")
    return " ".join(words)


@st.composite
def lines(draw: st.DrawFn) -> str:
    words = [draw(some_options(HEADER))]
    for name in draw(st.lists(st.sampled_from(sorted(MATCHES)), max_size=3)):
        words.append(f"-m {name} {draw(some_options(MATCHES[name].options))}")
    if draw(st.booleans()):
        target = draw(st.sampled_from(sorted(TARGETS)))
        words.append(f"-j {target} {draw(some_options(TARGETS[target].options))}")
    return f"-A X {' '.join(words)}"


def read(line: str) -> Rule | None:
    try:
        return parse_rule(line)
    except ValueError:
        return None  # not every draw makes a rule


@given(lines())
def test_a_printed_rule_reads_back_equal(line: str) -> None:
    rule = read(line)
    if rule is not None:
        assert parse_rule(str(rule)) == rule
        assert str(parse_rule(str(rule))) == str(rule)


@pytest.mark.parametrize("name", sorted(MATCHES))
def test_every_match_is_among_the_checked_lines(name: str) -> None:
    assert any(f"-m {name}" in line for line in LINES) or name == "nfacct"


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_target_is_among_the_checked_lines(name: str) -> None:
    assert any(f"-j {name}" in line for line in LINES) or name in ("DROP", "RETURN")
