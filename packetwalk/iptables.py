"""What iptables is told on a command line, done to the tables of a namespace.

    changed = iptables(ruleset, "-t nat -I POSTROUTING 1 -s 10.244.0.0/16 -j MASQUERADE")

Rules are read as those of iptables-save are. Everything wrong is a ValueError of one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from packetwalk.hint import unknown
from packetwalk.netns.chain import Chain
from packetwalk.netns.netfilter import HOOKS, Ruleset, Table
from packetwalk.netns.option import cut, unquote
from packetwalk.netns.rule import Rule, parse_rule
from packetwalk.netns.target import OTHERS, TARGETS

COMMANDS = {
    "--append": "-A", "--insert": "-I", "--delete": "-D", "--replace": "-R", "--policy": "-P", "--flush": "-F",
    "--new-chain": "-N", "--delete-chain": "-X",
}  # fmt: skip


def iptables(ruleset: Ruleset, line: str) -> Ruleset:
    """The tables after `iptables LINE`, which shares what it does not change with those given."""
    words = cut(line)
    name = "filter"
    for option in ("-t", "--table"):
        if option in words:
            at = words.index(option)
            name = _word(words[at + 1 :], "a table")
            del words[at : at + 2]
    if name not in HOOKS:
        raise ValueError(unknown("table", name, HOOKS))
    table = Table(name)
    if name in ruleset.tables:
        table.chains = dict(ruleset.tables[name].chains)
    given = _word(words, "a command")
    command = COMMANDS.get(given, given)
    if command not in COMMANDS.values():
        raise ValueError(unknown("command", given, COMMANDS.values()))
    _do(table, command, words[1:])
    changed = ruleset.overlay()
    changed.tables = {**ruleset.tables, name: table}
    return changed


def _do(table: Table, command: str, words: list[str]) -> None:
    if command == "-F" and not words:
        for name in table.chains:
            _put(table, name, ())
        return
    name = _word(words, "a chain")
    rest = words[1:]
    if command == "-N":
        if name in table.chains:
            raise ValueError(f"table {table.name} has a chain {name!r} already")
        table.chain(name)
        return
    if name not in table.chains:
        raise ValueError(f"table {table.name}: {unknown('chain', name, table.chains)}")
    rules = table.chains[name].rules
    if command == "-F":
        _put(table, name, ())
    elif command == "-X":
        _remove(table, name)
    elif command == "-P":
        _policy(table, name, rest)
    elif command == "-D":
        at = _place(rest[0], rules, name) if len(rest) == 1 and rest[0].isdecimal() else _find(table, name, rest)
        _put(table, name, [*rules[:at], *rules[at + 1 :]])
    else:
        numbered = bool(rest) and rest[0].isdecimal()
        if command == "-R" and not numbered:
            raise ValueError(f"the number of a rule of {name} was expected")
        at = len(rules) if command == "-A" else _place(rest.pop(0), rules, name, command) if numbered else 0
        _put(table, name, [*rules[:at], _rule(table, name, rest), *rules[at + (command == "-R") :]])


def _word(words: Sequence[str], expected: str) -> str:
    if not words:
        raise ValueError(f"it ends where {expected} was expected")
    return unquote(words[0])


def _put(table: Table, name: str, rules: Sequence[Rule]) -> None:
    """A chain of the same name and policy with these rules in the place of the old one."""
    chain = Chain(table.name, name, table.chains[name].policy)
    for rule in rules:
        chain.append(rule)
    table.chains[name] = chain


def _place(word: str, rules: Sequence[Rule], chain: str, command: str = "-D") -> int:
    most = len(rules) + (command == "-I")
    if not 1 <= int(word) <= most:
        raise ValueError(f"a rule number from 1 to {most} was expected, not {word}: {chain} has {len(rules)}")
    return int(word) - 1


def _rule(table: Table, chain: str, words: Sequence[str]) -> Rule:
    """A rule whose target is there and does not lead back to its chain (mark_source_chains refuses a loop)."""
    rule = parse_rule(" ".join(["-A", chain, *words]), chains=table.chains)
    target = rule.target
    if target is None:
        return rule
    own = [name for name in table.chains if name not in HOOKS[table.name]]
    if target.name not in own and target.name not in TARGETS and target.name not in OTHERS:
        raise ValueError(unknown("chain or target", target.name, [*own, *TARGETS]))
    if target.name in own and chain in _below(table, target.name):
        raise ValueError(f"a loop of chains: {target.name} leads back to {chain}")
    return rule


def _below(table: Table, name: str) -> Iterator[str]:
    """A chain and all that it leads to."""
    yield name
    for rule in table.chains[name].rules:
        if rule.target is not None and rule.target.name in table.chains:
            yield from _below(table, rule.target.name)


def _find(table: Table, name: str, words: Sequence[str]) -> int:
    wanted = parse_rule(" ".join(["-A", name, *words]), chains=table.chains)
    rules = table.chains[name].rules
    if wanted not in rules:
        raise ValueError(f"{name} has no rule {str(wanted).removeprefix(f'-A {name} ')!r}; it has {len(rules)} others")
    return rules.index(wanted)


def _policy(table: Table, name: str, words: Sequence[str]) -> None:
    policy = _word(words, "ACCEPT or DROP")
    if name not in HOOKS[table.name]:
        raise ValueError(f"{name} is no built-in chain of table {table.name}, so it has no policy")
    if policy not in ("ACCEPT", "DROP"):
        raise ValueError(f"ACCEPT or DROP was expected, not {policy!r}")
    rules = table.chains[name].rules
    table.chains[name] = Chain(table.name, name, policy)
    _put(table, name, rules)


def _remove(table: Table, name: str) -> None:
    """EBUSY, EMLINK, ENOTEMPTY: only a user's chain goes, when it is empty and nothing leads to it."""
    if name in HOOKS[table.name]:
        raise ValueError(f"{name} is a built-in chain of table {table.name}")
    if table.chains[name].rules:
        raise ValueError(f"chain {name} is not empty")
    users = [c.name for c in table.chains.values() for r in c.rules if r.target is not None and r.target.name == name]
    if users:
        raise ValueError(f"chain {name} is in use by {', '.join(dict.fromkeys(users))}")
    del table.chains[name]
