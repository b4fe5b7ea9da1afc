"""The matches that look at the packet and its mark alone: ports, flags, types, lengths and the like.

Each test follows the kernel function it names (net/netfilter/xt_*.c); options print as iptables-save prints them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packetwalk.addr import IPv4, Mac
from packetwalk.netns.match import CHEAP, MIDDLE, Check, Condition, Link, Match, MatchKind, looks, negated
from packetwalk.netns.option import (
    ICMP_TYPES,
    Option,
    OptionKind,
    at_least_one,
    bounds,
    exactly_one,
    listed,
    mark,
    masked,
    number,
    numeric,
    quote_word,
    quoted,
    span,
)
from packetwalk.netns.seen import HotDrop, Seen, Undecided
from packetwalk.packet import PROTO_ICMP, PROTO_SCTP, PROTO_TCP, PROTO_UDP, Tcp

if TYPE_CHECKING:
    from packetwalk.netns.rule import Rule


def _span(text: str) -> tuple[str]:
    return (span(text),)


def no_header(s: Seen) -> bool:
    """A match that wants a transport header and finds none: not in a later fragment (one at offset 8 is an attack on
    TCP and is dropped, as is a packet cut short), nor in a packet of another kind."""
    if s.l4 is not None:
        return False
    if s.proto not in (PROTO_TCP, PROTO_UDP, PROTO_ICMP, PROTO_SCTP):
        raise Undecided("match", f"of ports of protocol {s.proto}")
    if s.ip.offset == 0 or (s.ip.offset == 8 and s.proto == PROTO_TCP):
        raise HotDrop
    return False


# -- tcp, udp, sctp (net/netfilter/xt_tcpudp.c, xt_sctp.c) -------------------------------------------------------------

TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG")
SYN = ("FIN,SYN,RST,ACK", "SYN")
OPTION_OF = {2: "mss", 3: "wscale", 4: "sack_ok", 8: "ts"}
ABSENT = {"mss": 0, "wscale": -1, "sack_ok": False, "ts": None}


def _flag_list(text: str) -> str:
    return {"ALL": ",".join(TCP_FLAGS), "NONE": "NONE"}.get(text.upper()) or listed(TCP_FLAGS, text)


PORTS = {
    "--sport": OptionKind(1, _span, True),
    "--dport": OptionKind(1, _span, True),
    "--source-port": OptionKind(1, _span, True, "--sport"),
    "--destination-port": OptionKind(1, _span, True, "--dport"),
}
TCP = {
    **PORTS,
    "--tcp-option": numeric(255, invertible=True),
    "--tcp-flags": OptionKind(2, lambda mask, wanted: (_flag_list(mask), _flag_list(wanted)), True),
    "--syn": OptionKind(0, lambda: SYN, True, "--tcp-flags"),
}


def _every_port(options: dict[str, Option]) -> None:
    """iptables-save leaves out a range that holds every port."""
    for name in ("--sport", "--dport"):
        if name in options and options[name] == Option(name, ("0:65535",)):
            del options[name]


def _transport(match: Match, rule: Rule) -> Condition:
    """tcp_mt, udp_mt, sctp_mt. An exact port is asked first: it decides most often."""
    exact = match.get("--dport")
    if exact is not None and (exact.inverted or ":" in exact.text):
        exact = None
    rest = [_port_is(o) if o.name in PORTS else _tcp_is(o) for o in match.options if o is not exact]
    port = number(exact.text) if exact is not None else -1

    def link(then: Check) -> Check:
        after = looks(*rest).link(then)
        if exact is not None:
            return lambda s: (s.dport == port and after(s)) if s.l4 is not None else no_header(s)
        return lambda s: after(s) if s.dport >= 0 else no_header(s)

    return Condition(CHEAP if exact is not None else MIDDLE, link)


def _port_is(option: Option) -> Check:
    low, high = bounds(option.text)
    inverted = option.inverted
    if option.name == "--dport":
        return lambda s: (low <= s.dport <= high) is not inverted
    return lambda s: (low <= s.sport <= high) is not inverted


def _tcp_is(option: Option) -> Check:
    """Letters of packet.Tcp stand for the bits of the header's flags byte."""
    if option.name == "--tcp-option":
        return negated(_tcp_option(number(option.text)), option.inverted)
    mask, wanted = ({name[0] for name in arg.split(",") if name != "NONE"} for arg in option.args)
    return lambda s: isinstance(s.l4, Tcp) and (mask.intersection(s.l4.flags) == wanted) is not option.inverted


def _tcp_option(kind: int) -> Check:
    def check(s: Seen) -> bool:
        if kind < 2:
            raise Undecided("match", f"of TCP option {kind}, which only pads")
        name = OPTION_OF.get(kind)
        return name is not None and getattr(s.l4, name, ABSENT[name]) != ABSENT[name]

    return check


# -- icmp, multiport ---------------------------------------------------------------------------------------------------


def _icmp_type(text: str) -> tuple[str]:
    text = ICMP_TYPES.get(text, text)
    if text == "any":
        return (text,)
    kind, slash, code = text.partition("/")
    return (f"{number(kind, 0, 255)}{f'/{number(code, 0, 255)}' if slash else ''}",)


def _icmp(match: Match, rule: Rule) -> Condition:
    """icmp_match (net/netfilter/xt_tcpudp.c)."""
    option = match.options[0]
    kind, _, code = option.text.partition("/")
    wanted, inverted = -1 if kind == "any" else int(kind), option.inverted

    def check(s: Seen) -> bool:
        icmp = s.icmp
        if icmp is None:
            return no_header(s)
        found = wanted < 0 or (icmp.type == wanted and (not code or icmp.code == int(code)))
        return found is not inverted

    return looks(check, rank=MIDDLE)


def _port_list(text: str) -> tuple[str]:
    ports = [span(part) for part in text.split(",")]
    if sum(1 + (":" in port) for port in ports) > 15:
        raise ValueError("at most 15 ports were expected; a range counts for two")
    return (",".join(ports),)


def _multiport(match: Match, rule: Rule) -> Condition:
    """multiport_mt (net/netfilter/xt_multiport.c)."""
    option = match.options[0]
    ranges = [bounds(part) for part in option.text.split(",")]
    exact = frozenset(low for low, high in ranges if low == high)
    wide = [(low, high) for low, high in ranges if low != high]

    def has(port: int) -> bool:
        return port in exact or any(low <= port <= high for low, high in wide)

    sides: dict[str, Check] = {
        "--sports": lambda s: has(s.sport),
        "--dports": lambda s: has(s.dport),
        "--ports": lambda s: has(s.sport) or has(s.dport),
    }
    check = negated(sides[option.name], option.inverted)
    return looks(lambda s: check(s) if s.dport >= 0 else no_header(s), rank=MIDDLE)


MULTIPORT = {
    "--sports": OptionKind(1, _port_list, True),
    "--dports": OptionKind(1, _port_list, True),
    "--ports": OptionKind(1, _port_list, True),
    "--source-ports": OptionKind(1, _port_list, True, "--sports"),
    "--destination-ports": OptionKind(1, _port_list, True, "--dports"),
}


# -- the rest ----------------------------------------------------------------------------------------------------------


def _mark(match: Match, rule: Rule) -> Condition:
    """mark_mt (net/netfilter/xt_mark.c)."""
    option = match.options[0]
    value, mask = masked(option.text)
    link: Link
    if option.inverted:
        link = lambda then: lambda s: s.mark & mask != value and then(s)  # noqa: E731
    else:
        link = lambda then: lambda s: s.mark & mask == value and then(s)  # noqa: E731
    return Condition(MIDDLE, link)


def _comment(match: Match, rule: Rule) -> Condition:
    """comment_mt; nfacct_mt counts, and without a quota it lets every packet through."""
    return Condition(CHEAP, lambda then: then)


def _length(match: Match, rule: Rule) -> Condition:
    """length_mt (net/netfilter/xt_length.c): the whole IP packet."""
    option = match.options[0]
    low, high = bounds(option.text)
    return looks(lambda s: (low <= s.ip.len <= high) is not option.inverted)


TTL = {
    "--ttl-eq": numeric(255, invertible=True),
    "--ttl-lt": numeric(255),
    "--ttl-gt": numeric(255),
    "--ttl": OptionKind(1, lambda text: (str(number(text, 0, 255)),), True, "--ttl-eq"),
}


def _ttl(match: Match, rule: Rule) -> Condition:
    """ttl_mt (net/netfilter/xt_hl.c)."""
    option = match.options[0]
    value, inverted = number(option.text), option.inverted
    checks: dict[str, Check] = {
        "--ttl-eq": lambda s: (s.ip.ttl == value) is not inverted,
        "--ttl-lt": lambda s: s.ip.ttl < value,
        "--ttl-gt": lambda s: s.ip.ttl > value,
    }
    return looks(checks[option.name])


CLASSES = {"BE": 0, "EF": 46, **{f"CS{n}": 8 * n for n in range(8)}}
CLASSES |= {f"AF{n}{m}": 8 * n + 2 * m for n in range(1, 5) for m in range(1, 4)}


def _dscp_class(text: str) -> tuple[str]:
    if text.upper() not in CLASSES:
        raise ValueError(f"a class like AF11, CS1, EF or BE was expected, not {text!r}")
    return (f"0x{CLASSES[text.upper()]:02x}",)


DSCP = {
    "--dscp": OptionKind(1, lambda text: (f"0x{number(text, 0, 63):02x}",), True),
    "--dscp-class": OptionKind(1, _dscp_class, True, "--dscp"),
}


def _dscp(match: Match, rule: Rule) -> Condition:
    """dscp_mt (net/netfilter/xt_dscp.c)."""
    option = match.options[0]
    value = number(option.text)
    return looks(lambda s: (s.ip.tos >> 2 == value) is not option.inverted)


def _mac(match: Match, rule: Rule) -> Condition:
    """mac_mt (net/netfilter/xt_mac.c): only a packet that came with an Ethernet header."""
    option = match.options[0]
    mac = Mac(option.text)
    return looks(lambda s: s.eth is not None and (s.eth.src == mac) is not option.inverted)


def _addr_range(text: str) -> tuple[str]:
    low, dash, high = text.partition("-")
    if IPv4(low) > IPv4(high if dash else low):
        raise ValueError(f"a range from the lower to the higher address was expected, not {text!r}")
    return (f"{IPv4(low)}-{IPv4(high if dash else low)}",)


def _iprange(match: Match, rule: Rule) -> Condition:
    """iprange_mt4 (net/netfilter/xt_iprange.c)."""
    checks: list[Check] = []
    for option in match.options:
        low, high = (int(IPv4(text)) for text in option.text.split("-"))
        checks.append(_addr_within(option, low, high))
    return looks(*checks)


def _addr_within(option: Option, low: int, high: int) -> Check:
    if option.name == "--src-range":
        return lambda s: (low <= s.src <= high) is not option.inverted
    return lambda s: (low <= s.dst <= high) is not option.inverted


COMMENT = {"--comment": OptionKind(1, quoted)}
ICMP = {"--icmp-type": OptionKind(1, _icmp_type, True)}
IPRANGE = {"--src-range": OptionKind(1, _addr_range, True), "--dst-range": OptionKind(1, _addr_range, True)}
LENGTH = {"--length": OptionKind(1, _span, True)}
MAC = {"--mac-source": OptionKind(1, lambda text: (str(Mac(text)),), True)}
MARK = {"--mark": OptionKind(1, mark, True)}
NFACCT = {"--nfacct-name": OptionKind(1, lambda name: (quote_word(name),))}

MATCHES: dict[str, MatchKind] = {
    "comment": MatchKind(COMMENT, _comment, exactly_one(COMMENT)),
    "dscp": MatchKind(DSCP, _dscp, exactly_one(DSCP)),
    "icmp": MatchKind(ICMP, _icmp, exactly_one(ICMP)),
    "iprange": MatchKind(IPRANGE, _iprange, at_least_one(IPRANGE)),
    "length": MatchKind(LENGTH, _length, exactly_one(LENGTH)),
    "mac": MatchKind(MAC, _mac, exactly_one(MAC)),
    "mark": MatchKind(MARK, _mark, exactly_one(MARK)),
    "multiport": MatchKind(MULTIPORT, _multiport, exactly_one(MULTIPORT)),
    "nfacct": MatchKind(NFACCT, _comment, exactly_one(NFACCT)),
    "tcp": MatchKind(TCP, _transport, _every_port),
    "ttl": MatchKind(TTL, _ttl, exactly_one(TTL)),
    "sctp": MatchKind(PORTS, _transport, _every_port),
    "udp": MatchKind(PORTS, _transport, _every_port),
}
"""By name: what follows `-m`."""
