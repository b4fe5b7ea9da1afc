"""Words for packets: a header, an ICMP message, what changed between two packets."""

from __future__ import annotations

from packetwalk.apps import dns
from packetwalk.packet import Arp, Ethernet, Geneve, Header, Icmp, Ip, Packet, Sctp, Tcp, Udp, Vxlan, innermost, visible
from packetwalk.sctp import chunks

PROTOS = {1: "icmp", 4: "ipip", 6: "tcp", 17: "udp", 132: "sctp"}
ICMP_WORDS = {
    (3, 0): "net unreachable",
    (3, 1): "host unreachable",
    (3, 2): "protocol unreachable",
    (3, 3): "port unreachable",
    (3, 4): "fragmentation needed",
    (3, 13): "administratively prohibited",
    (5, 1): "redirect",
    (11, 0): "time exceeded",
    (11, 1): "reassembly time exceeded",
}

MILLISECOND, SECOND = 1_000_000, 1_000_000_000


def time(ns: int) -> str:
    """A time or duration; the last digit is always a tenth of a microsecond."""
    return f"{ns / 1000:.1f} us" if ns < 10 * MILLISECOND else f"{ns / SECOND:.7f} s"


def counted(n: int, noun: str) -> str:
    """ "1 room", "2 rooms"."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def header(h: Header) -> str:
    """One header in a few words."""
    if isinstance(h, Ethernet):
        return f"eth > {h.dst}"
    if isinstance(h, Ip):
        extra = f"{' df' if h.df else ''}{f' tos {h.tos}' if h.tos else ''}"
        return f"ip {h.src} > {h.dst} proto {PROTOS.get(h.proto, h.proto)} ttl {h.ttl}{extra}"
    if isinstance(h, Udp | Tcp | Sctp):
        return f"{type(h).__name__.lower()} {h.sport} > {h.dport}{f' {flags(h)}' if isinstance(h, Tcp) else ''}"
    if isinstance(h, Vxlan | Geneve):
        return f"{type(h).__name__.lower()} vni {h.vni}"
    if isinstance(h, Arp):
        return f"arp {'who has ' + str(h.tpa) + ' tell ' + str(h.spa) if h.op == 1 else f'{h.spa} is at {h.sha}'}"
    return icmp_words(h)


def flags(h: Tcp) -> str:
    """TCP flags as tcpdump writes them: [S.] is SYN and ACK."""
    return f"[{h.flags.replace('A', '')}{'.' if 'A' in h.flags else ''}]"


def icmp_words(h: Icmp) -> str:
    """An ICMP message by name."""
    if h.type in (0, 8):
        return f"icmp echo {'request' if h.type else 'reply'}"
    words = ICMP_WORDS.get((h.type, h.code), f"type {h.type} code {h.code}")
    return f"icmp {words}{f' mtu {h.mtu}' if h.mtu else ''}{f' gateway {h.gateway}' if h.gateway else ''}"


def change(before: Packet, after: Packet) -> str:
    """What happened to the headers between two packets: "+ eth > mac", "- ip - udp - vxlan", "ttl 64 > 63"."""
    a, b = before.headers, after.headers
    if len(b) > len(a) and b[len(b) - len(a) :] == a:
        return " ".join(f"+ {header(h)}" for h in reversed(b[: len(b) - len(a)]))
    if len(a) > len(b) and (not b or a[len(a) - len(b) :] == b):
        return " ".join(
            f"- {'eth' if isinstance(h, Ethernet) else type(h).__name__.lower()}" for h in a[: len(a) - len(b)]
        )
    if len(a) == len(b):
        return ", ".join(filter(None, (_fields(x, y) for x, y in zip(a, b, strict=True))))
    return ""


def _fields(a: Header, b: Header) -> str:
    if type(a) is not type(b) or a == b:
        return ""
    dull = ("id", "len") if isinstance(a, Ip) else ("len",)
    names = [f for f in a._fields if f not in dull and getattr(a, f) != getattr(b, f)]
    return ", ".join(f"{f} {getattr(a, f)} > {getattr(b, f)}" for f in names)


def packet_words(packet: Packet) -> str:
    """A packet by its innermost conversation."""
    shown = visible(packet).headers
    ip = innermost(packet)
    if ip is None:
        return header(shown[-1]) if shown else "nothing"
    last = shown[-1]
    what = f"proto {PROTOS.get(ip.proto, ip.proto)}"
    if not isinstance(last, Ip):
        what = f"{header(last)}{_chunks(packet, last)}"
    source = f"{ip.src} > " if ip.src else "to "  # a socket that has not sent yet has no source
    return f"{source}{ip.dst} {what}{_part(ip)}"


def brief(packet: Packet) -> str:
    """A packet in two or three words, without its addresses."""
    shown = visible(packet).headers
    last = shown[-1]
    if isinstance(last, Arp):
        return "arp request" if last.op == 1 else "arp reply"
    if isinstance(last, Icmp):
        words = icmp_words(last).removeprefix("icmp ")
    elif isinstance(last, Tcp):
        words = f"tcp {flags(last)}"
    elif isinstance(last, Sctp):
        words = f"sctp{_chunks(packet, last)}"
    elif isinstance(last, Udp) and isinstance(packet.payload, bytes) and dns.PORT in (last.sport, last.dport):
        words = f"dns {dns.brief(packet.payload)}"
    else:
        words = PROTOS.get(last.proto, str(last.proto)) if isinstance(last, Ip) else type(last).__name__.lower()
    ip = innermost(packet)
    return f"{words}{_part(ip) if ip is not None else ''}"


def _chunks(packet: Packet, last: Header) -> str:
    return "".join(f" {chunk}" for chunk in chunks(packet.payload)) if isinstance(last, Sctp) else ""


def _part(ip: Ip) -> str:
    return f" fragment at {ip.offset}" if ip.offset else " first fragment" if ip.mf else ""
