"""What a real cluster draws at random: here the cluster's seed and a name decide, so it comes out the same again."""

from __future__ import annotations

from hashlib import blake2b

from packetwalk.addr import Mac


def hex_of(seed: int, name: str, digits: int) -> str:
    """That many hexadecimal digits."""
    return blake2b(f"{seed} {name}".encode(), digest_size=(digits + 1) // 2).hexdigest()[:digits]


def mac_of(seed: int, name: str) -> Mac:
    """A random address as the kernel makes one (eth_random_addr): locally administered, of one station."""
    drawn = int.from_bytes(blake2b(f"{seed} {name}".encode(), digest_size=6).digest(), "big")
    return Mac(drawn & ~(1 << 40) | 2 << 40)
