"""Who hands out pod ranges and addresses: the controller manager with host-local, and Calico's block allocation.

    pool = HostLocal(Prefix.parse("10.244.0.0/16"))
    pool.join("node-1")            # 10.244.1.0/24
    pool.claim("node-1")           # 10.244.1.2

Errors are ValueErrors of one line.
"""

from __future__ import annotations

from random import Random

from packetwalk.addr import IPv4, Prefix


class HostLocal:
    """Ranges from the controller manager's range allocator, addresses from the plugin host-local.

    The controller manager gives each node the next range of `length` bits (24 unless told); `skip` ranges at the start
    belong to nodes that are not drawn. host-local counts up from .2: .0 is the network, .1 the gateway on the bridge.
    """

    def __init__(self, pool: Prefix, length: int = 24, *, skip: int = 1) -> None:
        if length < pool.length:
            raise ValueError(f"a range of /{length} for each node does not fit into {pool}")
        self.pool = pool
        self.length = length
        self._next = skip
        self._ranges: dict[str, Prefix] = {}
        self._used: dict[str, set[int]] = {}
        self._last: dict[str, int] = {}

    def join(self, node: str, wanted: Prefix | None = None) -> Prefix:
        """The next free range of the pool. ValueError when the pool is used up, or the wanted one overlaps another."""
        if wanted is None:
            taken = set(self._ranges.values())
            while (found := self._range(self._next)) in taken:
                self._next += 1
            self._next += 1
        else:
            found = wanted
            if other := next((n for n, r in self._ranges.items() if r.overlaps(found)), None):
                raise ValueError(f"{node}: pod range {found} overlaps that of {other}, {self._ranges[other]}")
        self._ranges[node] = found
        self._used[node] = {int(found.addr), int(found.addr) + 1, int(found.broadcast)}
        self._last[node] = int(found.addr) + 1
        return found

    def _range(self, number: int) -> Prefix:
        available = 1 << (self.length - self.pool.length)
        if number >= available:
            raise ValueError(f"pod CIDR {self.pool} is too small: it has {available} ranges of /{self.length}")
        return Prefix(IPv4(self.pool.addr + (number << (32 - self.length))), self.length)

    def claim(self, node: str, wanted: IPv4 | None = None) -> IPv4:
        """The address after the last one given out, round robin, so a freed one is not used again at once."""
        mine, used = self._ranges[node], self._used[node]
        if wanted is not None:
            if wanted not in mine or int(wanted) in used:
                why = "is taken" if wanted in mine else f"is not in its range {mine}"
                raise ValueError(f"{node}: address {wanted} {why}")
            used.add(int(wanted))
            return wanted
        size = 1 << (32 - mine.length)
        for step in range(1, size + 1):
            addr = int(mine.addr) + (self._last[node] + step - int(mine.addr)) % size
            if addr not in used:
                used.add(addr)
                self._last[node] = addr
                return IPv4(addr)
        raise ValueError(f"{node}: pod range {mine} is too small: it holds {max(size - 3, 0)} pods")

    def ranges(self, node: str) -> tuple[Prefix, ...]:
        """The node's one range."""
        return (self._ranges[node],)


class Blocks:
    """calico-ipam: blocks of /26 out of one pool, claimed by nodes as they need them (libcalico-go/lib/ipam).

    A node's search for a block starts at a place drawn by a generator that FNV-1 of its name seeds, then walks on; the
    generator is Python's here and Go's there, so the place is another one. Within a block addresses go in order from
    the first, which is usable. When no block is free an address is borrowed from another node's.
    """

    MOST = 20  # blocks a node may claim while MaxBlocksPerHost is not set

    def __init__(self, pool: Prefix, length: int = 26) -> None:
        if length < pool.length:
            raise ValueError(f"a block of /{length} does not fit into the pool {pool}")
        self.pool = pool
        self.length = length
        self._owner: dict[Prefix, str] = {}
        self._ranges: dict[str, list[Prefix]] = {}
        self._used: dict[Prefix, set[int]] = {}
        self._full: set[Prefix] = set()

    def join(self, node: str, wanted: Prefix | None = None) -> Prefix:
        """The node's first block. ValueError when the pool has no free block, or the wanted one overlaps another."""
        self._ranges[node] = []
        if wanted is not None:
            if other := next((o for b, o in self._owner.items() if b.overlaps(wanted)), None):
                raise ValueError(f"{node}: block {wanted} overlaps one of {other}")
            return self._take(node, wanted)
        block = self._free(node)
        if block is None:
            count = 1 << (self.length - self.pool.length)
            raise ValueError(f"pod CIDR {self.pool} is too small: it has {count} blocks of /{self.length}, all claimed")
        return self._take(node, block)

    def _free(self, node: str) -> Prefix | None:
        count = 1 << (self.length - self.pool.length)
        start = Random(fnv1(node.encode())).randrange(count)
        for step in range(count):
            number = (start + step) % count
            block = Prefix(IPv4(self.pool.addr + (number << (32 - self.length))), self.length)
            if block not in self._owner:
                return block
        return None

    def _take(self, node: str, block: Prefix) -> Prefix:
        self._owner[block] = node
        self._ranges[node].append(block)
        self._used[block] = set()
        return block

    def claim(self, node: str, wanted: IPv4 | None = None) -> IPv4:
        """The next address of the node's blocks, then of a new block, then a borrowed one."""
        if wanted is not None:
            return self._claim_given(node, wanted)
        mine = [r for r in self._ranges[node] if r.length < 32]
        for block in mine:
            if (addr := self._next(block)) is not None:
                return addr
        if len(mine) < self.MOST and (fresh := self._free(node)) is not None:
            return self._next(self._take(node, fresh)) or fresh.addr
        for block in self._owner:
            if (addr := self._next(block)) is not None:
                self._ranges[node].append(Prefix(addr, 32))  # a borrowed address is announced by itself
                return addr
        raise ValueError(f"{node}: pod CIDR {self.pool} is too small: every address is taken")

    def _next(self, block: Prefix) -> IPv4 | None:
        if block in self._full:
            return None
        used, size = self._used[block], 1 << (32 - block.length)
        for ordinal in (*range(len(used), size), *range(len(used))):
            if ordinal not in used:
                used.add(ordinal)
                return IPv4(block.addr + ordinal)
        self._full.add(block)
        return None

    def _claim_given(self, node: str, wanted: IPv4) -> IPv4:
        """Of one of the node's blocks, or of one that is claimed for it, or borrowed from another node's."""
        block = next((b for b in self._ranges[node] if wanted in b and b.length < 32), None)
        around = Prefix(IPv4(wanted >> (32 - self.length) << (32 - self.length)), self.length)
        if block is None and wanted in self.pool and not any(b.overlaps(around) for b in self._owner):
            block = self._take(node, around)
        elif block is None and around in self._owner and wanted - around.addr not in self._used[around]:
            block = around
            self._ranges[node].append(Prefix(wanted, 32))
        if block is None:
            blocks = ", ".join(map(str, self._ranges[node]))
            raise ValueError(f"{node}: address {wanted} is not in its blocks {blocks}")
        if wanted - block.addr in self._used[block]:
            raise ValueError(f"{node}: address {wanted} is taken")
        self._used[block].add(wanted - block.addr)
        return wanted

    def ranges(self, node: str) -> tuple[Prefix, ...]:
        """The node's blocks, and a /32 for each borrowed address."""
        return tuple(self._ranges[node])


def fnv1(data: bytes) -> int:
    """FNV-1, 32 bits (hash/fnv.New32 in Go)."""
    value = 0x811C9DC5
    for byte in data:
        value = value * 0x01000193 & 0xFFFFFFFF ^ byte
    return value
