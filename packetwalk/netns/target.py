"""The targets of iptables: what each may be given, how it prints, and what it does to what is seen.

A target ends the traversal with a verdict, or does something (sets a mark, notes a packet) and lets the next rule look.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from packetwalk.netns.option import Option, OptionKind, masked
from packetwalk.netns.seen import Seen

Effect: TypeAlias = Callable[[Seen], str]
"""What a target does: the kind of verdict it ends with, or "" to go on with the next rule (XT_CONTINUE)."""


class Target(NamedTuple):
    """`-j name` and its options, in printing order. `words` are those of a target that is not modelled, as read."""

    name: str
    options: tuple[Option, ...] = ()
    words: tuple[str, ...] = ()

    def get(self, name: str) -> Option | None:
        return next((option for option in self.options if option.name == name), None)

    def __str__(self) -> str:
        return " ".join([f"-j {self.name}", *map(str, self.options), *self.words])


class TargetKind(NamedTuple):
    """What a target takes, in printing order, and how it is compiled. finish: as that of a match."""

    options: dict[str, OptionKind]
    compile: Callable[[Target], Effect]
    finish: Callable[[dict[str, Option]], None] = lambda options: None


def verdict(kind: str) -> Callable[[Target], Effect]:
    """The compiler of a target that only decides."""
    return lambda target: lambda s: kind


def xmark(text: str) -> tuple[str]:
    """`0x64` and `0x4000/0x4000` as targets print them, always with the mask."""
    value, mask = masked(text)
    return (f"{value:#x}/{mask:#x}",)


def _mark(target: Target) -> Effect:
    """mark_tg (net/netfilter/xt_mark.c)."""
    value, mask = masked(target.options[0].text)

    def effect(s: Seen) -> str:
        s.mark = s.mark & ~mask ^ value
        return ""

    return effect


def _notrack(target: Target) -> Effect:
    """notrack_tg (net/netfilter/xt_CT.c): a packet that has an entry already keeps it. The next rule still looks."""

    def effect(s: Seen) -> str:
        if s.conn is None:
            s.ctstate = "UNTRACKED"
        return ""

    return effect


TARGETS: dict[str, TargetKind] = {
    "ACCEPT": TargetKind({}, verdict("accept")),
    "DROP": TargetKind({}, verdict("drop")),
    "RETURN": TargetKind({}, verdict("return")),
    "REJECT": TargetKind({"--reject-with": OptionKind(1)}, verdict("reject")),
    "MARK": TargetKind({"--set-xmark": OptionKind(1, xmark)}, _mark),
    "NOTRACK": TargetKind({}, _notrack),
    "CT": TargetKind({"--notrack": OptionKind(0)}, _notrack),
    "DNAT": TargetKind({"--to-destination": OptionKind(1)}, verdict("dnat")),
    "SNAT": TargetKind({"--to-source": OptionKind(1)}, verdict("snat")),
    "MASQUERADE": TargetKind({"--to-ports": OptionKind(1), "--random-fully": OptionKind(0)}, verdict("masquerade")),
    "REDIRECT": TargetKind({"--to-ports": OptionKind(1)}, verdict("redirect")),
}


def compile_target(target: Target) -> Effect:
    """What a target does; one that is not modelled ends the branch as `unsupported`."""
    kind = TARGETS.get(target.name)
    return verdict("unsupported")(target) if kind is None or target.words else kind.compile(target)
