"""How connection tracking follows an SCTP association (net/netfilter/nf_conntrack_proto_sctp.c).

The state follows from the chunks that pass; a packet that does not carry the verification tag its end was given is
invalid (RFC 9260 8.5).
"""

from __future__ import annotations

from typing import NamedTuple

from packetwalk import sctp
from packetwalk.packet import Sctp
from packetwalk.sctp import REFLECTED, Chunk

SECOND = 1_000_000_000
NONE, CLOSED, COOKIE_WAIT, COOKIE_ECHOED, ESTABLISHED = "NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED"
SENT, RECD, ACK_SENT, HEARTBEAT = "SHUTDOWN_SENT", "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT"
ALL = (NONE, CLOSED, COOKIE_WAIT, COOKIE_ECHOED, ESTABLISHED, SENT, RECD, ACK_SENT, HEARTBEAT)
TIMEOUTS = {CLOSED: 10, COOKIE_WAIT: 3, COOKIE_ECHOED: 3, ESTABLISHED: 210, SENT: 3, RECD: 3, ACK_SENT: 3,
            HEARTBEAT: 30}  # fmt: skip
"""Seconds an entry is kept, by its state (sctp_timeouts)."""

SHORT = {"-": "", "N": NONE, "C": CLOSED, "W": COOKIE_WAIT, "E": COOKIE_ECHOED, "S": ESTABLISHED, "s": SENT, "r": RECD,
         "a": ACK_SENT, "h": HEARTBEAT}  # fmt: skip
# By chunk: the next state for each of ALL, of packets in the original direction and of replies (sctp_conntracks).
NEXT = {
    sctp.INIT: ("CCWESCCaW", "-CWESsra-"),
    sctp.INIT_ACK: ("CCWESsraC", "-WWESsra-"),
    sctp.ABORT: ("CCCCCCCCC", "-CCCCCCC-"),
    sctp.SHUTDOWN: ("CCWEssraC", "-CWErsra-"),
    sctp.SHUTDOWN_ACK: ("aCWESaaaa", "-CWESaaa-"),
    sctp.ERROR: ("CCWESsraC", "-CWCSsra-"),
    sctp.COOKIE_ECHO: ("CCEESsraC", "-CEESsra-"),
    sctp.COOKIE_ACK: ("CCWSSsraC", "-CWSSsra-"),
    sctp.SHUTDOWN_COMPLETE: ("CCWESsrCC", "-CWESsrC-"),
    sctp.HEARTBEAT: ("hCWESsrah", "-CWESsrah"),
    sctp.HEARTBEAT_ACK: ("CCWESsrah", "-CWESsraS"),
}
OPENERS_NOT = {sctp.ABORT, sctp.SHUTDOWN_COMPLETE, sctp.COOKIE_ACK}
ALONE = {sctp.INIT, sctp.INIT_ACK, sctp.SHUTDOWN_COMPLETE}
FIRST = {sctp.COOKIE_ACK, sctp.COOKIE_ECHO}
OWN_CHECK = {sctp.INIT, sctp.SHUTDOWN_COMPLETE, sctp.COOKIE_ECHO, sctp.ABORT, sctp.SHUTDOWN_ACK, sctp.HEARTBEAT,
             sctp.HEARTBEAT_ACK}  # fmt: skip
ORIGINAL, REPLY = 0, 1


class SctpState(NamedTuple):
    """What is known of an association: its state and, by direction, the tags its packets carry and who sent an INIT."""

    state: str = NONE
    tags: tuple[int, int] = (0, 0)
    inits: tuple[bool, bool] = (False, False)

    def with_tag(self, direction: int, tag: int) -> SctpState:
        """With the tag that packets of a direction carry."""
        return self._replace(tags=(tag, self.tags[1]) if direction == ORIGINAL else (self.tags[0], tag))

    def with_init(self, direction: int) -> SctpState:
        """With the INIT of a direction noted; of two that crossed the other one is forgotten with the next."""
        first, second = self.inits if not all(self.inits) else (False, False)
        return self._replace(inits=(first or direction == ORIGINAL, second or direction == REPLY))


class Segment(NamedTuple):
    """A packet's common header and its chunks."""

    header: Sctp
    chunks: tuple[Chunk, ...]


def sound(segment: Segment) -> bool:
    """do_basic_checks: some chunks stand alone, some come first, and each has a length."""
    alone = False
    for n, chunk in enumerate(segment.chunks):
        alone = alone or chunk.type in ALONE
        if (n and (alone or chunk.type in FIRST)) or not chunk.length:
            return False
    return bool(segment.chunks)


def opened(segment: Segment) -> SctpState | None:
    """sctp_new: the state before the first packet of an association; None where such a packet opens none."""
    if not sound(segment) or any(chunk.type in OPENERS_NOT for chunk in segment.chunks):
        return None
    found = SctpState()
    for chunk in segment.chunks:
        if chunk.type not in NEXT:  # the state would stay NONE
            return None
        if chunk.type == sctp.INIT:
            if segment.header.tag or chunk.tag < 0:
                return None
            found = found.with_tag(REPLY, chunk.tag)
        elif chunk.type == sctp.HEARTBEAT:
            found = found.with_tag(ORIGINAL, segment.header.tag)
        else:
            found = found.with_tag(REPLY, segment.header.tag)
    return found


def followed(before: SctpState, segment: Segment, direction: int) -> SctpState | None:
    """nf_conntrack_sctp_packet: the state after a packet, None for one that does not belong to the association."""
    header, kinds = segment.header, {chunk.type for chunk in segment.chunks}
    if not sound(segment) or (not kinds & OWN_CHECK and header.tag != before.tags[direction]):
        return None
    after = before
    for chunk in segment.chunks:
        if not _tagged(after, header, chunk, direction):
            return None
        if chunk.type in (sctp.HEARTBEAT, sctp.HEARTBEAT_ACK) and not after.tags[direction]:
            after = after.with_tag(direction, header.tag)
        new = SHORT[NEXT[chunk.type][direction][ALL.index(after.state)]] if chunk.type in NEXT else after.state
        if not new:
            return None
        if chunk.type == sctp.COOKIE_ACK:
            after = after._replace(inits=(False, False))
        elif chunk.type == sctp.INIT:
            after = after.with_init(direction).with_tag(1 - direction, chunk.tag)
        elif chunk.type == sctp.INIT_ACK:
            if _collides(after, chunk, direction):
                return None
            after = after.with_tag(1 - direction, chunk.tag)
        after = after._replace(state=new)
    return after


def _tagged(state: SctpState, header: Sctp, chunk: Chunk, direction: int) -> bool:
    """RFC 9260 8.5.1: which verification tag a chunk may come with."""
    own, other = state.tags[direction], state.tags[1 - direction]
    if chunk.type == sctp.INIT:
        return not header.tag and chunk.tag >= 0
    if chunk.type in (sctp.ABORT, sctp.SHUTDOWN_COMPLETE):
        return header.tag == (other if chunk.flags & REFLECTED else own)
    if chunk.type == sctp.COOKIE_ECHO:
        return header.tag == own
    if chunk.type in (sctp.HEARTBEAT, sctp.HEARTBEAT_ACK):  # of a second path with other tags nothing is known here
        return own in (0, header.tag)
    return True


def _collides(state: SctpState, chunk: Chunk, direction: int) -> bool:
    """Whether an INIT_ACK gives its sender another tag than the INIT that crossed it."""
    told = state.tags[1 - direction]
    once = not state.inits[1 - direction] and bool(told)
    return chunk.tag < 0 or ((once or all(state.inits)) and told != chunk.tag)
