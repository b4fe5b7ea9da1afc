"""The iptables rules of a node, made when somebody first looks: a cluster has many nodes, a walk meets few."""

from __future__ import annotations

from collections.abc import Callable

from packetwalk.netns.netfilter import Ruleset
from packetwalk.snapshot.ipset_save import read_ipsets
from packetwalk.snapshot.iptables_save import read_iptables


class Deferred(Ruleset):
    """A Ruleset that is made on the first access to what it holds."""

    def __init__(self, make: Callable[[], Ruleset]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> object:
        """Asked only for what is not there yet."""
        if name not in ("tables", "sets", "state"):
            raise AttributeError(name)
        for key, value in vars(self._make()).items():
            self.__dict__.setdefault(key, value)  # what somebody has set meanwhile stays
        return self.__dict__[name]

    def overlay(self) -> Ruleset:
        """As for any Ruleset; a room that a broadcast merely passes makes none."""
        return Deferred(lambda: Ruleset.overlay(self))


def written(iptables: Callable[[], str], ipsets: Callable[[], str]) -> Ruleset:
    """The rules and sets that iptables-restore and ipset restore would make of these texts."""

    def make() -> Ruleset:
        ruleset = read_iptables(iptables(), "iptables")
        ruleset.sets.update(read_ipsets(ipsets(), "ipset"))
        return ruleset

    return Deferred(make)
