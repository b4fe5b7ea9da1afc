"""iptables-save output in: the tables of one namespace, each rule with the line it came from."""

from __future__ import annotations

from pathlib import Path

from packetwalk.netns.netfilter import HOOKS, Chain, Ruleset, Table
from packetwalk.netns.rule import parse_rule
from packetwalk.snapshot.reader import SnapshotError, read_text


def load_iptables(path: Path) -> Ruleset:
    """Read a file that iptables-save wrote. SnapshotError, in one line with file and line, for what iptables-restore
    would not take."""
    return read_iptables(read_text(path), str(path))


def read_iptables(text: str, name: str = "iptables-save.txt") -> Ruleset:
    """Read the text of iptables-save, or input of iptables-restore."""
    ruleset = Ruleset()
    table: Table | None = None
    short = Path(name).name
    for n, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        try:
            if not line or line.startswith("#"):
                continue
            if line.startswith("*"):
                table = _open(ruleset, line[1:], table)
            elif table is None:
                raise ValueError(f"a table (`*filter`) was expected before {line!r}")
            elif line == "COMMIT":
                table = None
            elif line.startswith(":"):
                _chain(table, line[1:])
            else:
                _rule(table, line, f"{short}:{n}")
        except ValueError as error:
            raise SnapshotError(f"{name}:{n}: {error}") from None
    if table is not None:
        raise SnapshotError(f"{name}: table {table.name} has no COMMIT; is the file cut off?")
    return ruleset


def _open(ruleset: Ruleset, name: str, before: Table | None) -> Table:
    if before is not None:
        raise ValueError(f"COMMIT of table {before.name} was expected before `*{name}`")
    if name not in HOOKS:
        raise ValueError(f"there is no table {name!r}; one of {', '.join(HOOKS)} was expected")
    return ruleset.table(name)


def _chain(table: Table, words: str) -> None:
    name, policy, *_ = [*words.split(), "", ""]
    if name in table.chains:
        table.chains[name].policy = policy
    else:
        table.chains[name] = Chain(table, name)


def _rule(table: Table, line: str, where: str) -> None:
    if line.startswith("["):
        line = line.partition("]")[2].strip()
    rule = parse_rule(line, where, chains=frozenset(table.chains))
    if rule.chain not in table.chains:
        raise ValueError(f"table {table.name} has no chain {rule.chain!r}")
    table.chains[rule.chain].append(rule)
