"""DNS messages (RFC 1035) and their bytes, which dnspython writes and reads.

Names are lower case and without the dot at their end, except in a record's data, which is as a zone file has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import dns.name
    import dns.rrset

PORT = 53
UDP_MAX = 512  # bytes of a datagram to a client that does not speak EDNS, as glibc does not (RFC 1035 4.2.1)
NOERROR, NXDOMAIN, SERVFAIL, REFUSED = "NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED"


class Record(NamedTuple):
    """A resource record of class IN; ttl in seconds, data as in a zone file."""

    name: str
    type: str
    ttl: int
    data: str

    def __str__(self) -> str:
        return f"{self.name}. {self.ttl} IN {self.type} {self.data}"


class Message(NamedTuple):
    """A query, or the response to one. authoritative, truncated: AA and TC; a query always asks for recursion."""

    id: int
    name: str
    type: str
    response: bool = False
    rcode: str = NOERROR
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    authoritative: bool = False
    truncated: bool = False

    @property
    def said(self) -> str:
        """The answer in a few words: data of the records asked for, `no data`, or the rcode."""
        if self.rcode != NOERROR:
            return self.rcode
        found = [r.data for r in self.answers if r.type == self.type]
        aliases = [f"CNAME {r.data}" for r in self.answers if r.type == "CNAME" != self.type]
        return " ".join([*aliases, *found]) if found else " ".join([*aliases, "no data"])

    def __str__(self) -> str:
        return f"{self.type} {self.name}: {self.said}" if self.response else f"{self.type}? {self.name}"


class MessageError(ValueError):
    """Bytes that are no DNS message, or a message without bytes; one line."""


def encode(message: Message, *, limit: int = 65535) -> bytes:
    """The bytes of a message, with compressed names (RFC 1035 4.1.4). What exceeds `limit` bytes is left out, and TC
    set. MessageError for a name or data that cannot be."""
    import dns.exception
    import dns.flags
    import dns.message
    import dns.rcode

    try:
        wire: dns.message.Message = dns.message.make_query(f"{message.name}.", message.type, id=message.id)
        if message.response:
            wire = dns.message.make_response(wire, recursion_available=True)
            wire.set_rcode(dns.rcode.from_text(message.rcode))
            wire.flags |= (dns.flags.AA if message.authoritative else 0) | (dns.flags.TC if message.truncated else 0)
            sections = message.answers, message.authority, message.additional
            for section, records in zip((wire.answer, wire.authority, wire.additional), sections, strict=True):
                section.extend(_rrset(record) for record in records)
        return wire.to_wire(max_size=limit, prefer_truncation=True)
    except (dns.exception.DNSException, ValueError) as error:
        raise MessageError(f"no DNS message can say {message.type} {message.name!r}: {error}") from None


def decode(data: bytes) -> Message:
    """The message in these bytes. MessageError, in one line, for bytes that are none."""
    import dns.exception
    import dns.flags
    import dns.message
    import dns.rcode
    import dns.rdatatype

    try:
        wire = dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError) as error:
        raise MessageError(f"{len(data)} bytes are no DNS message: {error or type(error).__name__}") from None
    if len(wire.question) != 1:
        raise MessageError(f"a DNS message with one question was expected, not with {len(wire.question)}")
    (question,) = wire.question
    records = [
        tuple(
            Record(_name(rrset.name), dns.rdatatype.to_text(rrset.rdtype), rrset.ttl, rdata.to_text())
            for rrset in section for rdata in rrset
        )
        for section in (wire.answer, wire.authority, wire.additional)
    ]  # fmt: skip
    flags = wire.flags
    return Message(
        wire.id, _name(question.name), dns.rdatatype.to_text(question.rdtype), bool(flags & dns.flags.QR),
        dns.rcode.to_text(wire.rcode()), records[0], records[1], records[2],
        bool(flags & dns.flags.AA), bool(flags & dns.flags.TC),
    )  # fmt: skip


def brief(data: bytes) -> str:
    """A message in two or three words, without its name: `A?`, `A 10.96.0.1`."""
    try:
        message = decode(data)
    except MessageError:
        return "(unreadable)"
    return f"{message.type} {message.said}" if message.response else f"{message.type}?"


def frame(data: bytes) -> bytes:
    """A message as TCP carries it: its length in front (RFC 1035 4.2.2)."""
    return len(data).to_bytes(2, "big") + data


def unframe(stream: bytes) -> tuple[bytes | None, bytes]:
    """The first message of a stream, None while it is not whole, and what follows it."""
    end = 2 + int.from_bytes(stream[:2], "big")
    return (stream[2:end], stream[end:]) if len(stream) >= max(end, 2) else (None, stream)


def reverse_name(addr: object) -> str:
    """The name under which an address is looked up (RFC 1035 3.5)."""
    return ".".join([*reversed(str(addr).split(".")), "in-addr", "arpa"])


def _rrset(record: Record) -> dns.rrset.RRset:
    import dns.rrset

    return dns.rrset.from_text(f"{record.name}.", record.ttl, "IN", record.type, record.data)


def _name(name: dns.name.Name) -> str:
    return name.to_text().rstrip(".").lower()
