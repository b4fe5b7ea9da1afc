"""iptables-save output in: the tables of one namespace, each rule with the line it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from packetwalk.netns.netfilter import HOOKS, Ruleset, Table
from packetwalk.netns.rule import Rule, parse_rule
from packetwalk.netns.target import OTHERS, TARGETS
from packetwalk.snapshot.reader import SnapshotError, read_text


def load_iptables(path: Path) -> Ruleset:
    """Read a file that iptables-save wrote. SnapshotError, in one line with
    file and line, for what iptables-restore would not take."""
    return read_iptables(read_text(path), str(path))


def read_iptables(text: str, name: str = "iptables-save.txt") -> Ruleset:
    """Read the text of iptables-save, or input of iptables-restore."""
    ruleset = Ruleset()
    table: Table | None = None
    file = Path(name).name
    for n, line in enumerate(map(str.strip, text.splitlines()), 1):
        try:
            if not line or line.startswith("#"):
                continue
            if line.startswith("*"):
                table = _open(ruleset, line[1:], table)
            elif table is None:
                raise ValueError(f"a table (`*filter`) was expected before {line!r}")
            elif line == "COMMIT":
                _check_jumps(table, name)
                table = None
            elif line.startswith(":"):
                _chain(table, line[1:])
            else:
                _rule(table, line, f"{file}:{n}")
        except ValueError as error:
            raise SnapshotError(str(error) if isinstance(error, SnapshotError) else f"{name}:{n}: {error}") from None
    if table is not None:
        raise SnapshotError(f"{name}: table {table.name} has no COMMIT; is the file cut off?")
    return ruleset


def _open(ruleset: Ruleset, name: str, before: Table | None) -> Table:
    if before is not None:
        raise ValueError(f"COMMIT of table {before.name} was expected before `*{name}`")
    if name not in HOOKS:
        raise ValueError(f"there is no table {name!r}{_nearest(name, HOOKS)}")
    return ruleset.table(name)


def _chain(table: Table, words: str) -> None:
    name, policy, *_ = [*words.split(), "", ""]
    chain = table.chain(name)
    if name in HOOKS[table.name]:
        if policy not in ("ACCEPT", "DROP"):
            raise ValueError(f"a policy (ACCEPT or DROP) of {name} was expected, not {policy!r}")
        chain.policy = policy


def _rule(table: Table, line: str, where: str) -> None:
    if line.startswith("["):  # counters
        line = line.partition("]")[2].strip()
    rule = parse_rule(line, where, chains=table.chains)
    if rule.chain not in table.chains:
        raise ValueError(f"table {table.name} has no chain {rule.chain!r}{_nearest(rule.chain, table.chains)}")
    table.append(rule)


def _check_jumps(table: Table, name: str) -> None:
    """What the kernel checks when a table is committed: every jump leads to a chain, and none leads back."""
    for chain in table.chains.values():
        for rule in chain.rules:
            target = rule.target
            if target is None or target.words or target.name in table.chains:
                continue
            if rule.goto or (target.name not in TARGETS and target.name not in OTHERS):
                near = _nearest(target.name, [*table.chains, *TARGETS])
                raise _at(rule, name, f"there is no chain or target {target.name!r} in table {table.name}{near}")
    loop = _loop(table)
    if loop:
        raise _at(loop[-1], name, f"a loop of chains: {' > '.join([r.chain for r in loop])} > {_aim(loop[-1])}")


def _loop(table: Table) -> list[Rule]:
    """mark_source_chains, nf_tables_check_loops: the jumps that lead from a chain back to itself, if there are any."""
    done: set[str] = set()
    for start in table.chains:
        path: list[Rule] = []
        left = [_jumps(table, start)]
        while left:
            rule = next(left[-1], None)
            if rule is None:
                left.pop()
                done.add(path.pop().chain if path else start)
            elif _aim(rule) in (rule.chain, *(r.chain for r in path)):
                return [*path, rule]
            elif _aim(rule) not in done:
                path.append(rule)
                left.append(_jumps(table, _aim(rule)))
    return []


def _jumps(table: Table, chain: str) -> Iterator[Rule]:
    return (rule for rule in table.chains[chain].rules if _aim(rule) in table.chains)


def _aim(rule: Rule) -> str:
    return rule.target.name if rule.target is not None else ""


def _at(rule: Rule, name: str, what: str) -> SnapshotError:
    return SnapshotError(f"{name}:{rule.where.rpartition(':')[2]}: {what}")


def _nearest(word: str, words: Iterable[str]) -> str:
    from difflib import get_close_matches  # only where something is wrong

    near = get_close_matches(word, words, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
