"""The statements of nftables that do something, by their first word. What iptables has, too (REJECT, NAT), its targets
do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from packetwalk.netns.nft_set import GO_ON, Outcome
from packetwalk.netns.nft_term import Strange
from packetwalk.netns.nft_words import Words
from packetwalk.netns.option import Option
from packetwalk.netns.seen import Seen
from packetwalk.netns.target import TARGETS, Target

Run: TypeAlias = "Callable[[Seen], Outcome | None]"
"""What a statement does: None where it does not match (NFT_BREAK)."""

Made: TypeAlias = "tuple[Run, Target | None]"
"""A statement, and what iptables would call it."""

REJECTS = {
    **{f"icmp {name}": f"icmp-{name.replace('prot-', 'proto-')}"
       for name in ("net-unreachable", "host-unreachable", "prot-unreachable", "port-unreachable", "net-prohibited",
                    "host-prohibited", "admin-prohibited")},
    "icmpx port-unreachable": "icmp-port-unreachable", "icmpx admin-prohibited": "icmp-admin-prohibited",
    "icmpx no-route": "icmp-net-unreachable", "icmpx host-unreachable": "icmp-host-unreachable",
    "tcp reset": "tcp-reset",
}  # fmt: skip
"""What `reject with` answers, by iptables' names (nft_reject_ipv4_eval)."""


FLAGS = {"random": "--random", "fully-random": "--random-fully", "persistent": "--persistent"}


def nothing(seen: Seen) -> Outcome:
    """A comment, a counter, a log."""
    return GO_ON


def always(outcome: Outcome) -> Run:
    """A statement that comes to the same for every packet."""
    return lambda s: outcome


def _target(name: str, kind: str, *options: Option) -> Made:
    return always(Outcome(kind)), Target(name, options)


def _reject(words: Words) -> Made:
    """nft_reject_ipv4_eval."""
    answer = "icmp-port-unreachable"
    if words.took("with"):
        family = words.next("icmp")
        words.took("type")
        asked = f"{family} {words.next('an answer')}"
        if asked not in REJECTS:
            raise Strange(asked)
        answer = REJECTS[asked]
    return _target("REJECT", "reject", Option("--reject-with", (answer,)))


def _nat(name: str, option: str) -> Callable[[Words], Made]:
    """nft_nat_eval, nft_masq_eval, nft_redir_eval: iptables' target of the same name."""

    def read(words: Words) -> Made:
        options: list[Option] = []
        words.took("ip")
        if words.took("to"):
            word = words.next("an address")
            text = word.removeprefix(":") if option == "--to-ports" else word
            if not text[:1].isdigit() and not text.startswith(":"):
                raise Strange(word)
            options.append(Option(option, TARGETS[name].options[option].read(text)))
        if words.peek().partition(",")[0] in FLAGS:
            options += [Option(FLAGS[flag]) for flag in words.next("a flag").split(",")]
        return _target(name, name.lower(), *options)

    return read


def _counter(words: Words) -> Made:
    words.counted()
    return nothing, None


def _log(words: Words) -> Made:
    while words.peek() in ("prefix", "level", "group", "snaplen", "queue-threshold", "flags"):
        words.at += 2
    return nothing, Target("LOG")


def _comment(words: Words) -> Made:
    words.next("a comment")
    return nothing, None


def _notrack(words: Words) -> Made:
    """nft_notrack_eval."""

    def run(s: Seen) -> Outcome:
        if s.conn is None:
            s.ctstate = "UNTRACKED"
        return GO_ON

    return run, Target("NOTRACK")


STATEMENTS: dict[str, Callable[[Words], Made]] = {
    "reject": _reject,
    "dnat": _nat("DNAT", "--to-destination"),
    "snat": _nat("SNAT", "--to-source"),
    "masquerade": _nat("MASQUERADE", "--to-ports"),
    "redirect": _nat("REDIRECT", "--to-ports"),
    "counter": _counter,
    "log": _log,
    "comment": _comment,
    "notrack": _notrack,
}
"""By their first word."""
