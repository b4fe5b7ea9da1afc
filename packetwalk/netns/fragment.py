"""Cutting a datagram into fragments and putting it together again (RFC 791, ip_do_fragment, ip_defrag)."""

from __future__ import annotations

from bisect import insort
from typing import NamedTuple

from packetwalk.netns.route import input_route
from packetwalk.netns.visit import Skb, Visit
from packetwalk.packet import (
    FRAG_TIME_EXCEEDED,
    IP_LEN,
    TIME_EXCEEDED,
    Icmp,
    Ip,
    Packet,
    Slice,
    payload_len,
    size,
)  # fmt: skip
from packetwalk.trace import Drop, Reason, Timer

SECOND = 1_000_000_000
FRAG_TIME = 30 * SECOND  # net.ipv4.ipfrag_time


class FragQueue(NamedTuple):
    """Fragments of one datagram that have arrived (struct ipq): packets in
    order of arrival, and when they must be complete."""

    pieces: tuple[Packet, ...]
    expires: int
    dev: str
    user: str

    def __str__(self) -> str:
        got = sum(size(p) - IP_LEN for p in self.pieces)
        return f"{len(self.pieces)} fragment{'' if len(self.pieces) == 1 else 's'}, {got} bytes"


def fragment(packet: Packet, mtu: int, frag_list: tuple[int, ...] = ()) -> list[Packet]:
    """Cut an L3 packet so that no piece exceeds `mtu` bytes.

    frag_list: payload sizes of the fragments it was put together from; they are used again if they fit (the
    fast path of ip_do_fragment). A fragment can be cut further; offsets stay those of the whole datagram.
    """
    ip = packet.headers[0]
    assert isinstance(ip, Ip)
    total, room = ip.len - IP_LEN, mtu - IP_LEN
    sizes = list(frag_list)
    if not sizes or sum(sizes) != total or max(sizes) > room or any(n & 7 for n in sizes[:-1]):
        step = room & ~7
        sizes = [step] * (total // step) + ([total % step] if total % step else [])
        if len(sizes) > 1 and sizes[-2] + sizes[-1] <= room:  # the last piece needs no multiple of eight
            sizes[-2:] = [sizes[-2] + sizes[-1]]
    part = packet.payload if isinstance(packet.payload, Slice) and len(packet.headers) == 1 else None
    whole = part.of if part else Packet(packet.headers[1:], packet.payload)
    base = part.start if part else 0
    pieces, at = [], 0
    for n in sizes:
        more = ip.mf or at + n < total
        header = ip._replace(len=IP_LEN + n, mf=more, offset=ip.offset + at, df=False)
        pieces.append(Packet((header,), Slice(whole, base + at, base + at + n)))
        at += n
    return pieces


def defrag(v: Visit, skb: Skb, user: str) -> bool:
    """ip_defrag: True when `skb` is whole (or has just become so), False when it waits or died.

    user: `local` or `conntrack` (each has queues of its own).
    """
    ip = skb.packet.headers[0]
    assert isinstance(ip, Ip)
    if not ip.mf and not ip.offset:
        return True
    key = (ip.src, ip.dst, ip.proto, ip.id, user)
    queue = v.t.reassembly.get(key)
    if not isinstance(queue, FragQueue):
        queue = FragQueue((), v.now + FRAG_TIME, skb.dev, user)
        v.timer(Timer(queue.expires, "frag", key), skb.packet)
    misfit = _misfit(queue.pieces, skb.packet)
    if misfit is not None:
        v.drop(skb, misfit, queue)
        if misfit != Reason.DUP_FRAG:  # discard_qp: what has come so far goes, too
            v.t.reassembly.pop(key, None)
        return False
    queue = queue._replace(pieces=(*queue.pieces, skb.packet))
    whole = assemble(queue.pieces)
    if whole is None:
        v.t.reassembly[key] = queue
        v.step("hold", skb.dev, queue, skb.packet)
        return False
    v.t.reassembly.pop(key, None)
    ordered = sorted(queue.pieces, key=lambda p: _ip(p).offset)
    skb.packet = whole
    skb.frag_max = max(size(p) for p in ordered)
    skb.frag_list = tuple(size(p) - IP_LEN for p in ordered)
    skb.ignore_df = user == "conntrack"  # nf_ct_ipv4_gather_frags: it may be cut again as it came
    v.step("defrag", skb.dev, queue, whole)
    return True


def _misfit(pieces: tuple[Packet, ...], packet: Packet) -> Reason | None:
    """ip_frag_queue, inet_frag_queue_insert: why a fragment cannot join those that have come. DUP_FRAG: it lies within
    a run of them. NOT_SPECIFIED: it overlaps one or denies the length they agreed on, which spoils the whole queue."""
    start, end = _span(packet)
    furthest = max((_span(p)[1] for p in pieces), default=0)
    ended = any(not _ip(p).mf for p in pieces)
    if (end < furthest and not _ip(packet).mf) or (end > furthest and ended):
        return Reason.NOT_SPECIFIED
    runs: list[tuple[int, int]] = []
    for at, to in map(_span, pieces):
        if runs and at == runs[-1][1]:  # only what follows the last one lengthens a run
            runs[-1] = (runs[-1][0], to)
        else:
            insort(runs, (at, to))
    for at, to in runs:
        if start < to and end > at:
            return Reason.DUP_FRAG if at <= start and end <= to else Reason.NOT_SPECIFIED
    return None


def expire(v: Visit, key: object) -> None:
    """ip_expire: the datagram never became whole; its sender hears of it,
    if we are the end host and have its first fragment."""
    queue = v.t.reassembly.get(key)
    if not isinstance(queue, FragQueue) or v.now < queue.expires:
        return
    del v.t.reassembly[key]
    skb = Skb(queue.pieces[0], queue.dev)
    v.drop(skb, Reason.FRAG_REASM_TIMEOUT, queue)
    first = next((p for p in queue.pieces if not _ip(p).offset), None)
    if first is None:
        return
    skb.packet, skb.error = first, Icmp(TIME_EXCEEDED, FRAG_TIME_EXCEEDED)
    rt = input_route(v.t, skb, _ip(first), v.now)
    if isinstance(rt, Drop) or (queue.user == "conntrack" and rt.kind != "local"):  # frag_expire_skip_icmp
        return
    skb.rt = rt
    v.go("icmp_error", skb)


def assemble(pieces: tuple[Packet, ...]) -> Packet | None:
    """The datagram, once its fragments leave no gap; None until then (or where they are not of one datagram)."""
    at = 0
    ordered = sorted(pieces, key=lambda p: _ip(p).offset)
    of: Packet | None = None
    for p in ordered:
        ip, part = _ip(p), p.payload
        if ip.offset != at or not isinstance(part, Slice) or (of is not None and part.of != of):
            return None
        of = part.of
        at += payload_len(part)
    if of is None or _ip(ordered[-1]).mf:
        return None
    largest = max(ordered, key=size)
    df = any(_ip(p).df and size(p) == size(largest) for p in ordered)  # ip_frag_reasm: DF if the largest one had it
    header = _ip(ordered[0])._replace(len=IP_LEN + at, mf=False, offset=0, df=df)
    return Packet((header, *of.headers), of.payload)


def _span(packet: Packet) -> tuple[int, int]:
    """Where a fragment begins and ends in its datagram, in bytes."""
    ip = _ip(packet)
    return ip.offset, ip.offset + ip.len - IP_LEN


def _ip(packet: Packet) -> Ip:
    ip = packet.headers[0]
    assert isinstance(ip, Ip)
    return ip
