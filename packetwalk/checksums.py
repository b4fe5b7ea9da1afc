"""The checksums of packets: the Internet checksum (RFC 1071) and CRC32c, which SCTP has (RFC 9260 appendix A)."""

from __future__ import annotations


def checksum(data: bytes) -> int:
    """The Internet checksum of RFC 1071; odd data count as if a zero followed. 0 for data with its own, right checksum.

    It is the complement of a ones' complement sum of 16-bit words: 2**16 is 1 modulo 0xFFFF, so one remainder does it.
    """
    number = int.from_bytes(data, "big") << (len(data) % 2 * 8)
    return 0xFFFF - ((number % 0xFFFF or 0xFFFF) if number else 0)


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC = _table()


def crc32c(data: bytes) -> int:
    """The Castagnoli CRC of RFC 3309, which stands in the header with its least significant byte first."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
