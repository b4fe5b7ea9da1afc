"""`nft list ruleset` or `nft list table` in: tables of nftables, each rule with the line it came from.

Tables that iptables manages are left to iptables-save. Of IPv6 nothing is read; a table for frames or ARP is named as
not evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from packetwalk.hint import unknown
from packetwalk.netns.nft import HOOKS, OF_FRAMES, PRIORITIES, TYPES, Base, NftChain, NftTable
from packetwalk.netns.nft_rule import parse_nft_rule
from packetwalk.netns.nft_set import Element, NftSet
from packetwalk.netns.nft_term import KINDS, TERMS, Strange
from packetwalk.netns.nft_words import Words, duration
from packetwalk.netns.option import number
from packetwalk.snapshot.reader import SnapshotError, read_text

FAMILIES = ("ip", "inet")
OTHER_FAMILIES = ("ip6", "arp", "bridge", "netdev")
DEEPEST = 16  # NFT_JUMP_STACK_SIZE
MANAGED = "is managed by iptables-nft"


class Listed(NamedTuple):
    """What a file holds: the tables by family and name, and those that are not evaluated."""

    tables: dict[str, NftTable]
    unevaluated: tuple[str, ...] = ()


class Line(NamedTuple):
    """A line without what stands around it; n counts from 1."""

    n: int
    text: str


def load_nft(path: Path) -> Listed:
    """Read a file that nft wrote. SnapshotError, in one line with file and line, for what nft would not take."""
    return read_nft(read_text(path), str(path))


def read_nft(text: str, name: str = "nftables.txt", *, trusted: bool = False) -> Listed:
    """Read the text of `nft list ruleset` or `nft list table`. trusted: rules are right, so each is read when it is
    needed."""
    tables: dict[str, NftTable] = {}
    unevaluated: list[str] = []
    managed = False
    lines = iter([Line(n, line.strip()) for n, line in enumerate(text.splitlines(), 1)])
    for line in lines:
        try:
            if not line.text or line.text.startswith("#"):
                managed = managed or MANAGED in line.text
                continue
            words = line.text.split()
            if words[0] != "table" or len(words) != 4 or words[3] != "{":
                raise ValueError(f"`table FAMILY NAME {{` was expected, not {line.text!r}")
            block = list(_block(lines, line))
            if words[1] in FAMILIES and not managed:
                table = _table(words[1], words[2], block, name, trusted=trusted)
                tables[f"{words[1]} {words[2]}"] = table
                unevaluated += [
                    f"{Path(name).name} (chain {chain.name} of table {table.title})"
                    for chain in table.chains.values()
                    if chain.base and chain.base.hook in OF_FRAMES
                ]
            elif words[1] not in (*FAMILIES, *OTHER_FAMILIES):
                raise ValueError(unknown("family", words[1], (*FAMILIES, *OTHER_FAMILIES)))
            elif words[1] not in (*FAMILIES, "ip6"):
                unevaluated.append(f"{Path(name).name} (table {words[1]} {words[2]})")
            managed = False
        except ValueError as error:
            raise _located(error, name, line) from None
    return Listed(tables, tuple(unevaluated))


def _located(error: ValueError, name: str, line: Line) -> SnapshotError:
    return error if isinstance(error, SnapshotError) else SnapshotError(f"{name}:{line.n}: {error}")


def _block(lines: Iterator[Line], head: Line) -> Iterator[Line]:
    """The lines up to the brace that closes the one at the end of the head."""
    depth = 1
    for line in lines:
        bare = "".join(line.text.split('"')[::2])
        depth += bare.count("{") - bare.count("}")
        if depth <= 0:
            return
        if line.text and not line.text.startswith("#"):
            yield line
    raise ValueError(f"`{head.text}` is not closed; is the file cut off?")


def _table(family: str, name: str, block: list[Line], file: str, *, trusted: bool) -> NftTable:
    table = NftTable(family, name)
    lines = iter(block)
    for line in lines:
        try:
            words = line.text.split()
            inner = list(_block(lines, line)) if line.text.endswith("{") else []
            if words[0] in ("set", "map") and len(words) == 3:
                table.sets[words[1]] = _set(words[1], words[0] == "map", line, inner, file)
            elif words[0] == "chain" and len(words) == 3:
                table.chains[words[1]] = _chain(words[1], inner, table.sets, file)
            elif words[0] == "comment":
                table.comment = line.text.removeprefix("comment ")
            elif words[0] == "flags" or inner:
                body = "".join(f"\t\t{one.text}\n" for one in inner)
                table.others.append(f"\t{line.text}\n{body}\t}}" if inner else f"\t{line.text}")
            else:
                raise ValueError(f"a chain, a set or a map was expected, not {line.text!r}")
        except ValueError as error:
            raise _located(error, file, line) from None
    if not trusted:
        for chain in table.chains.values():
            _read_rules(chain, file)
        _check(table, file)
    return table


# -- sets --------------------------------------------------------------------------------------------------------------


def _set(name: str, is_map: bool, head: Line, block: list[Line], file: str) -> NftSet:
    heads: list[Line] = []
    body: list[Line] = []
    for line in block:
        (body if body or line.text.startswith("elements") else heads).append(line)
    types, unknown, timeout = _described(heads, is_map, file)
    elements: list[Element] = []
    if body:
        text = " ".join(line.text for line in body).partition("=")[2]
        try:
            elements = Words(text).elements(list(types), mapped=is_map)
        except Strange as strange:
            unknown = unknown or str(strange)
            elements = [Element(text.strip().removeprefix("{").removesuffix("}").strip(), ())]
        except ValueError as error:
            raise _located(error, file, body[0]) from None
    where = f"{Path(file).name}:{head.n}"
    return NftSet(name, types, elements, is_map, tuple(line.text for line in heads), timeout, unknown, where)


def _described(heads: list[Line], is_map: bool, file: str) -> tuple[tuple[str, ...], str, int]:
    """The types of a set's parts, what of it is not modelled, and its timeout in ns."""
    types: tuple[str, ...] = ()
    unknown, timeout = "", 0
    for line in heads:
        word, _, rest = line.text.partition(" ")
        try:
            if word in ("type", "typeof"):
                key, _, data = rest.partition(" : ")
                parts = tuple(part.strip() for part in key.split(" . "))
                types = parts if word == "type" else tuple(TERMS[p].kind if p in TERMS else p for p in parts)
                strange = [t for t in types if t not in KINDS]
                unknown = f"elements of type {strange[0]}" if strange else unknown
                unknown = f"a map to {data}" if is_map and data != "verdict" else unknown
            elif word == "timeout":
                timeout = duration(rest)
            elif word not in ("size", "flags", "policy", "gc-interval", "auto-merge", "comment", "counter"):
                unknown = unknown or line.text
        except ValueError as error:
            raise _located(error, file, line) from None
    if not types:
        raise ValueError("a set needs a `type`")
    return types, unknown, timeout


# -- chains ------------------------------------------------------------------------------------------------------------


def _chain(name: str, block: list[Line], sets: Mapping[str, NftSet], file: str) -> NftChain:
    base, comment = None, ""
    short = Path(file).name
    rules: list[tuple[str, str]] = []
    for line in block:
        if line.text.startswith("type ") and not rules:
            try:
                base = _base(line.text)
            except ValueError as error:
                raise _located(error, file, line) from None
        elif line.text.startswith("comment ") and not rules:
            comment = line.text.removeprefix("comment ")
        else:
            rules.append((f"{short}:{line.n}", line.text))
    return NftChain(name, sets, base, comment, rules)


def _read_rules(chain: NftChain, file: str) -> None:
    chain.rules = []
    for where, text in chain.lines:
        try:
            chain.rules.append(parse_nft_rule(text, chain.name, chain.sets, where))
        except ValueError as error:
            raise SnapshotError(f"{_at(file, where)}: {error}") from None


def _base(text: str) -> Base:
    """`type filter hook prerouting priority dstnat - 10; policy accept;`."""
    head, _, rest = text.partition(";")
    words = head.split()
    at = words.index("priority") if "priority" in words else 0
    if at < 4 or len(words) == at + 1 or words[2] != "hook":
        raise ValueError(f"`type TYPE hook HOOK priority NUMBER; policy POLICY;` was expected, not {text!r}")
    for word, known in ((words[1], TYPES), (words[3], (*HOOKS, *OF_FRAMES))):
        if word not in known:
            raise ValueError(f"one of {', '.join(known)} was expected, not {word!r}")
    policy = rest.partition("policy ")[2].strip(" ;") or "accept"
    if policy not in ("accept", "drop"):
        raise ValueError(f"a policy (accept or drop) was expected, not {policy!r}")
    return Base(words[1], words[3], _priority(words[at + 1 :]), text, policy)


def _priority(words: list[str]) -> int:
    """`filter`, `-110`, `dstnat - 10`."""
    name, sign, more = [*words, "", ""][:3]
    if name not in PRIORITIES:
        return -number(name[1:]) if name.startswith("-") else number(name)
    return PRIORITIES[name] + (number(more) if sign == "+" else -number(more) if sign == "-" else 0)


def _check(table: NftTable, file: str) -> None:
    """nf_tables_check_loops: every jump leads to a chain that is no base chain, and none leads back."""
    aims: dict[str, dict[str, str]] = {name: {} for name in table.chains}
    for chain in table.chains.values():
        for rule in chain.rules:
            for statement in rule.statements:
                for aim in statement.aims:
                    aims[chain.name].setdefault(aim, rule.where)
    for name, targets in aims.items():
        for aim, where in targets.items():
            if aim not in table.chains:
                raise SnapshotError(f"{_at(file, where)}: table {table.name}: {unknown('chain', aim, table.chains)}")
            if table.chains[aim].base is not None:
                raise SnapshotError(f"{_at(file, where)}: {aim} is a base chain, to which {name} cannot lead")
    done: set[str] = set()
    for name in aims:
        _walk(name, aims, [], done, file)


def _at(file: str, where: str) -> str:
    return f"{file}:{where.rpartition(':')[2]}"


def _walk(name: str, aims: Mapping[str, Mapping[str, str]], path: list[str], done: set[str], file: str) -> None:
    """Depth first from one chain on."""
    if len(path) >= DEEPEST:
        raise SnapshotError(f"{_at(file, aims[path[-1]][name])}: the chains from {path[0]} on are more than 16 deep")
    if name in path:
        where = aims[path[-1]][name]
        raise SnapshotError(f"{_at(file, where)}: a loop of chains: {' > '.join([*path[path.index(name) :], name])}")
    if name not in done:
        for aim in aims[name]:
            _walk(aim, aims, [*path, name], done, file)
        done.add(name)
