"""How connection tracking follows a TCP connection (net/netfilter/nf_conntrack_proto_tcp.c).

A state machine fed by the flags of both directions, and for each direction the window in which a segment may lie.
Sequence numbers of this simulator start at zero and do not wrap.
"""

from __future__ import annotations

from typing import NamedTuple

from packetwalk.packet import Slice, Tcp, payload_len

SECOND = 1_000_000_000
MAX_RETRANS = 3  # net.netfilter.nf_conntrack_tcp_max_retrans
MAX_ACK_WINDOW = 66000  # MAXACKWINCONST
ORIGINAL, REPLY = 0, 1
INVALID, IGNORE, REOPEN, ACCEPT = "invalid", "ignore", "reopen", "accept"

STATES = ("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE",
          "SYN_SENT2")  # fmt: skip
# tcp_timeouts, in seconds, with the names of their sysctls
TIMEOUTS = {
    "SYN_SENT": ("syn_sent", 120), "SYN_RECV": ("syn_recv", 60), "ESTABLISHED": ("established", 432000),
    "FIN_WAIT": ("fin_wait", 120), "CLOSE_WAIT": ("close_wait", 60), "LAST_ACK": ("last_ack", 30),
    "TIME_WAIT": ("time_wait", 120), "CLOSE": ("close", 10), "SYN_SENT2": ("syn_sent", 120),
    "RETRANS": ("max_retrans", 300), "UNACK": ("unacknowledged", 300),
}  # fmt: skip

# tcp_conntracks: by direction and kind of segment, the new state for each old one. iv: invalid, ig: let through.
_COLUMNS = {
    "iv": INVALID, "ig": IGNORE, "ss": "SYN_SENT", "sr": "SYN_RECV", "es": "ESTABLISHED", "fw": "FIN_WAIT",
    "cw": "CLOSE_WAIT", "la": "LAST_ACK", "tw": "TIME_WAIT", "cl": "CLOSE", "s2": "SYN_SENT2",
}  # fmt: skip
_ROWS = (
    {
        # old:      no ss sr es fw cw la tw cl s2
        "syn":     "ss ss ig ig ig ig ig ss ss s2",
        "synack":  "iv iv sr iv iv iv iv iv iv sr",
        "fin":     "iv iv fw fw la la la tw cl iv",
        "ack":     "es iv es es cw cw tw tw cl iv",
        "rst":     "iv cl cl cl cl cl cl cl cl cl",
    },
    {
        "syn":     "iv s2 iv iv iv iv iv ss iv s2",
        "synack":  "iv sr ig ig ig ig ig ig ig sr",
        "fin":     "iv iv fw fw la la la tw cl iv",
        "ack":     "iv ig sr es cw cw tw tw cl ig",
        "rst":     "iv cl cl cl cl cl cl cl cl cl",
    },
)  # fmt: skip
NEXT = tuple(
    {kind: dict(zip(STATES, (_COLUMNS[c] for c in row.split()), strict=True)) for kind, row in side.items()}
    for side in _ROWS
)


class End(NamedTuple):
    """What is known of one direction (struct ip_ct_tcp_state): the end of what it sent, the end of what it may send,
    the largest window it announced, the highest number it acknowledged (-1: none)."""

    end: int = 0
    max_end: int = 0
    max_window: int = 0
    max_ack: int = -1
    scale: int = -1
    liberal: bool = False
    closing: bool = False  # it sent the first FIN
    unacked: bool = False


class TcpState(NamedTuple):
    """The tracked connection: its state, both directions, and the last segment let through."""

    state: str = "NONE"
    ends: tuple[End, End] = (End(), End())
    last_kind: str = ""
    last_dir: int = ORIGINAL
    last_seq: int = 0
    last_ack: int = 0
    last_end: int = 0
    last_window: int = -1
    retrans: int = 0
    simultaneous: bool = False


class Segment(NamedTuple):
    """A segment as the tracker reads it. `end` counts payload, SYN and FIN."""

    kind: str
    tcp: Tcp
    seq: int
    end: int


def kind_of(tcp: Tcp) -> str:
    """get_conntrack_index: RST before SYN before FIN before ACK; "" for none of them."""
    if "R" in tcp.flags:
        return "rst"
    if "S" in tcp.flags:
        return "synack" if "A" in tcp.flags else "syn"
    return "fin" if "F" in tcp.flags else "ack" if "A" in tcp.flags else ""


def segment_of(tcp: Tcp, payload: int | bytes | Slice) -> Segment:
    """A segment as the tracker reads it."""
    length = payload_len(payload)
    return Segment(kind_of(tcp), tcp, tcp.seq, tcp.seq + length + ("S" in tcp.flags) + ("F" in tcp.flags))


def opened(s: Segment, *, loose: bool) -> TcpState | None:
    """tcp_new: what the first segment of an unknown connection tells. None where it cannot be one."""
    if s.kind == "syn":
        window = max(s.tcp.window, 1)
        return TcpState(ends=(End(s.end, s.end, window, scale=s.tcp.wscale), End()))
    if s.kind == "ack" and loose:  # picked up in the middle: its history is lost, so windows are not minded
        window = max(s.tcp.window, 1)
        return TcpState(ends=(End(s.end, s.end + window, window, liberal=True), End(liberal=True)))
    return None


def followed(
    t: TcpState, s: Segment, way: int, *, answered: bool, assured: bool, liberal: bool
) -> tuple[TcpState, str]:
    """nf_conntrack_tcp_packet: the state after a segment, and what becomes of the packet: accept, ignore (let through,
    nothing learned), invalid, or reopen (forget the entry and begin anew)."""
    if not s.kind:
        return t, INVALID
    old = t.state
    new = NEXT[way][s.kind][old]
    if new == INVALID:
        return t, INVALID
    if new == "SYN_SENT" and old in ("TIME_WAIT", "CLOSE"):
        if t.ends[0].closing or t.ends[1].closing or (t.last_dir, t.last_kind) == (way, "rst"):
            return t, REOPEN
        new = IGNORE
    if new == IGNORE:
        in_sync = s.kind == "synack" and t.last_kind == "syn" and t.last_dir != way and s.tcp.ack == t.last_end
        if not in_sync:
            seen = t._replace(last_kind=s.kind, last_dir=way, last_seq=s.seq, last_end=s.end, last_window=s.tcp.window)
            return seen, IGNORE
        first = End(t.last_end, t.last_end, max(t.last_window, 1))
        t = t._replace(state="SYN_SENT", ends=(first, End()) if way == REPLY else (End(), first))
        old, new = "SYN_SENT", "SYN_RECV"
    if new == "SYN_SENT2":
        t = t._replace(simultaneous=True)
    elif new == "SYN_RECV" and way == REPLY and s.kind == "ack" and t.simultaneous:
        new = "ESTABLISHED"
    skip_window = False
    if s.kind == "rst":
        verdict = _reset(t, s, way, answered=answered, assured=assured)
        if verdict == INVALID:
            return t, INVALID
        new = old if verdict == "keep" else new
        skip_window = verdict == "in window"
    if not skip_window:
        inside = in_window(t, s, way, liberal=liberal)
        if inside is None:
            return t, INVALID
        t = inside
    if new == "FIN_WAIT" and old != new:
        ends = list(t.ends)
        ends[way] = ends[way]._replace(closing=True)
        t = t._replace(ends=(ends[0], ends[1]))
    return t._replace(state=new, last_kind=s.kind, last_dir=way), ACCEPT


def _reset(t: TcpState, s: Segment, way: int, *, answered: bool, assured: bool) -> str:
    """The part about RST: forged ones (RFC 5961) are invalid or leave the state as it is ("keep")."""
    highest, established = t.ends[1 - way].max_ack, t.state == "ESTABLISHED"
    verdict = ""
    if highest >= 0:
        if s.seq == 0 and not established:
            return ""
        if s.seq < highest:
            return INVALID
        if not established or s.seq == highest:
            return ""
        if (t.last_kind, t.last_dir, t.last_end) == ("ack", way, s.seq):
            return ""
        verdict = "keep"
    let_through = (answered and t.last_kind == "syn") or (not assured and t.last_kind == "ack")
    return "in window" if let_through and s.tcp.ack == t.last_end else verdict


def in_window(t: TcpState, s: Segment, way: int, *, liberal: bool) -> TcpState | None:
    """tcp_in_window: whether a segment can belong to the connection (None: it cannot), and what it tells."""
    tcp, seq, end = s.tcp, s.seq, s.end
    sender, receiver = t.ends[way], t.ends[1 - way]
    window, syn = tcp.window, "S" in tcp.flags
    if not sender.max_window:
        sender, receiver = _first_of_sender(sender, receiver, s, way)
    elif (t.state, way) in (("SYN_SENT", ORIGINAL), ("SYN_RECV", REPLY)) and end > sender.end:
        sender = sender._replace(end=end, max_end=end, max_window=max(window, 1), scale=tcp.wscale)
    elif syn and way == REPLY and t.state == "SYN_SENT":
        sender, receiver = _first_of_sender(sender, receiver, s, way)
    ack = tcp.ack
    if "A" not in tcp.flags or ("R" in tcp.flags and not ack):
        ack = receiver.end
    if "R" in tcp.flags and not seq and t.state == "SYN_SENT":  # a RST that answers a SYN
        seq = end = sender.end
    inside = (
        seq <= sender.max_end
        and ack <= receiver.end
        and (not receiver.max_window or end >= sender.end - receiver.max_window)
        and ack >= receiver.end - max(sender.max_window, MAX_ACK_WINDOW)
    )
    if not inside and not (sender.liberal or liberal):
        return None
    if not inside:
        return t
    if not syn:
        window <<= max(sender.scale, 0)
    sender = sender._replace(max_window=max(sender.max_window, window), unacked=sender.unacked or end > sender.end,
                             end=max(sender.end, end))  # fmt: skip
    if "A" in tcp.flags:
        sender = sender._replace(max_ack=max(sender.max_ack, ack))
    if receiver.max_window and end > t.ends[way].max_end > 0:
        receiver = receiver._replace(max_window=receiver.max_window + end - t.ends[way].max_end)
    if ack + window >= receiver.max_end:
        receiver = receiver._replace(max_end=ack + window + (not window))
    if ack == receiver.end:
        receiver = receiver._replace(unacked=False)
    t = t._replace(ends=(sender, receiver) if way == ORIGINAL else (receiver, sender))
    if s.kind != "ack":
        return t
    again = (t.last_dir, t.last_seq, t.last_ack, t.last_end, t.last_window) == (way, seq, ack, end, tcp.window)
    if again:
        return t._replace(retrans=t.retrans + 1)
    return t._replace(last_dir=way, last_seq=seq, last_ack=ack, last_end=end, last_window=tcp.window, retrans=0)


def _first_of_sender(sender: End, receiver: End, s: Segment, way: int) -> tuple[End, End]:
    """tcp_init_sender: the first segment from this side: a SYN-ACK, or whatever comes in the middle of a connection."""
    tcp = s.tcp
    if "S" in tcp.flags:
        sender = sender._replace(end=s.end, max_end=s.end, max_window=max(tcp.window, 1), scale=tcp.wscale)
        if way == REPLY and (tcp.wscale < 0 or receiver.scale < 0):  # RFC 7323: both or neither
            sender, receiver = sender._replace(scale=0), receiver._replace(scale=0)
        return sender, receiver
    window = max(tcp.window << max(sender.scale, 0), 1)
    sender = sender._replace(end=s.end, max_window=window, max_end=s.end + window)
    if not receiver.max_window:
        receiver = receiver._replace(end=tcp.ack, max_end=tcp.ack)
    elif tcp.ack == receiver.end + 1:
        receiver = receiver._replace(end=receiver.end + 1)
    return sender, receiver


def timeout(t: TcpState, kind: str, sysctls: dict[str, int]) -> int:
    """How long the entry lives from now on, in ns."""
    usual = limit(t.state, sysctls)
    if kind == "rst":
        return limit("CLOSE", sysctls)
    if t.retrans >= sysctls.get("net.netfilter.nf_conntrack_tcp_max_retrans", MAX_RETRANS):
        return min(usual, limit("RETRANS", sysctls))
    if t.ends[0].unacked or t.ends[1].unacked:
        return min(usual, limit("UNACK", sysctls))
    return min(usual, limit("RETRANS", sysctls)) if t.last_window == 0 else usual


def limit(state: str, sysctls: dict[str, int]) -> int:
    """The timeout of a state, or of RETRANS and UNACK, in ns."""
    name, seconds = TIMEOUTS[state]
    return sysctls.get(f"net.netfilter.nf_conntrack_tcp_timeout_{name}", seconds) * SECOND
