"""The targets of iptables: what each may be given, how it prints, and what it does to what is seen.

A target ends the traversal with a verdict, or does something (sets a mark, notes a packet) and lets the next rule look.
Each effect follows the kernel function it names; options print as iptables-save prints them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from packetwalk.addr import IPv4
from packetwalk.netns.ipset import packet_key
from packetwalk.netns.option import (
    FLAG,
    Extension,
    Finish,
    Option,
    OptionKind,
    anything,
    at_least_one,
    exactly_one,
    masked,
    number,
    numeric,
    one_of,
    quote_word,
    quoted,
    set_and_sides,
    sides,
    span,
    xmark,
)
from packetwalk.netns.seen import Seen, Undecided
from packetwalk.packet import IP_LEN, TCP_LEN, Tcp, payload_len

Effect: TypeAlias = Callable[[Seen], str]
"""What a target does: the kind of verdict it ends with, or "" to go on with the next rule (XT_CONTINUE)."""


class Target(Extension):
    """`-j name` and its options, in printing order. `words` are those of a target that is not modelled, as read."""

    __slots__ = ()

    def __str__(self) -> str:
        return " ".join([f"-j {self.name}", *map(str, self.options), *self.words])


class TargetKind(NamedTuple):
    """What a target takes, in printing order, and how it is compiled."""

    options: dict[str, OptionKind]
    compile: Callable[[Target], Effect]
    finish: Finish = anything


def verdict(kind: str) -> Callable[[Target], Effect]:
    """The compiler of a target that only decides."""
    return lambda target: lambda s: kind


# -- REJECT (ipt_REJECT.c) ---------------------------------------------------------------------------------------------

REJECTS = {
    "icmp-net-unreachable": "net-unreach", "icmp-host-unreachable": "host-unreach",
    "icmp-proto-unreachable": "proto-unreach", "icmp-port-unreachable": "port-unreach",
    "icmp-net-prohibited": "net-prohib", "icmp-host-prohibited": "host-prohib", "tcp-reset": "tcp-rst",
    "icmp-admin-prohibited": "admin-prohib",
}  # fmt: skip
"""What REJECT answers with, and the short names iptables takes for it; with none given, icmp-port-unreachable."""


def _reject_with(text: str) -> tuple[str]:
    short = {alias: name for name, alias in REJECTS.items()}
    return (one_of(REJECTS, short.get(text, text)),)


# -- MARK, CONNMARK (xt_mark.c, xt_connmark.c) -------------------------------------------------------------------------


def _set_mark(text: str) -> tuple[str]:
    value, mask = masked(text)
    return (f"{value:#x}/{value | mask:#x}",)


MARKS = {
    "--set-xmark": OptionKind(1, xmark),
    "--set-mark": OptionKind(1, _set_mark, printed="--set-xmark"),
    "--and-mark": OptionKind(1, lambda t: (f"0x0/{~number(t) & 0xFFFFFFFF:#x}",), printed="--set-xmark"),
    "--or-mark": OptionKind(1, lambda t: (f"{number(t):#x}/{number(t):#x}",), printed="--set-xmark"),
    "--xor-mark": OptionKind(1, lambda t: (f"{number(t):#x}/0x0",), printed="--set-xmark"),
}
BITS = OptionKind(1, lambda text: (f"{number(text):#x}",))
CONNMARKS = {**MARKS, "--save-mark": FLAG, "--restore-mark": FLAG, "--nfmask": BITS, "--ctmask": BITS, "--mask": BITS}
EVERY_BIT = "0xffffffff"


def _mark(target: Target) -> Effect:
    """mark_tg."""
    value, mask = masked(target.text("--set-xmark"))

    def effect(s: Seen) -> str:
        s.mark = s.mark & ~mask ^ value
        return ""

    return effect


def _connmark_finish(options: dict[str, Option]) -> None:
    ways = [way for way in ("--set-xmark", "--save-mark", "--restore-mark") if way in options]
    if len(ways) != 1:
        raise ValueError("one of --set-xmark, --save-mark, --restore-mark was expected")
    both = options.pop("--mask", None)
    if ways != ["--set-xmark"]:
        for name in ("--nfmask", "--ctmask"):
            options.setdefault(name, Option(name, (both.text if both is not None else EVERY_BIT,)))


def _connmark(target: Target) -> Effect:
    """connmark_tg: to the connection from the packet, or back."""
    value, mask = masked(target.text("--set-xmark", "0"))
    nfmask, ctmask = (int(target.text(name, EVERY_BIT), 16) for name in ("--nfmask", "--ctmask"))

    def effect(s: Seen) -> str:
        if s.conn is None:
            return ""
        if target.has("--restore-mark"):
            s.mark = s.mark & ~nfmask ^ (s.conn.mark & ctmask)
        elif target.has("--save-mark"):
            s.conn.mark = s.conn.mark & ~ctmask ^ (s.mark & nfmask)
        else:
            s.conn.mark = s.conn.mark & ~mask ^ value
        return ""

    return effect


# -- NOTRACK, CT (xt_CT.c) ---------------------------------------------------------------------------------------------

CT = {
    "--notrack": FLAG,
    "--helper": OptionKind(1, lambda text: (quote_word(text),)),
    "--timeout": OptionKind(1, lambda text: (quote_word(text),)),
    "--ctevents": OptionKind(),
    "--expevents": OptionKind(),
    "--zone-orig": OptionKind(),
    "--zone-reply": OptionKind(),
    "--zone": OptionKind(),
}


def _notrack(target: Target) -> Effect:
    """notrack_tg, xt_ct_target: a packet that has an entry already keeps it. The next rule still looks."""
    if target.options and not target.has("--notrack"):
        return verdict("unsupported")(target)

    def effect(s: Seen) -> str:
        if s.conn is None:
            s.ctstate = "UNTRACKED"
        return ""

    return effect


# -- NAT (xt_nat.c, xt_MASQUERADE.c, xt_REDIRECT.c) --------------------------------------------------------------------


def _to_addr(text: str) -> tuple[str]:
    """`10.0.0.1`, `10.0.0.1-10.0.0.9`, `:80`, `10.0.0.1:80-90/8080`."""
    addrs, colon, ports = text.partition(":")
    ends = [str(IPv4(end)) for end in addrs.split("-", 1)] if addrs else []
    if not ends and not colon:
        raise ValueError("an address, a port or both were expected")
    if len(ends) == 2 and IPv4(ends[0]) == IPv4(ends[1]):
        ends.pop()
    return ("-".join(ends) + (f":{_to_ports(ports)[0]}" if colon else ""),)


def _to_ports(text: str) -> tuple[str]:
    ports, slash, base = text.partition("/")
    return (span(ports, "-") + (f"/{number(base, 0, 0xFFFF)}" if slash else ""),)


TO_PORTS = {"--to-ports": OptionKind(1, _to_ports)}
DNAT = {"--to-destination": OptionKind(1, _to_addr), "--random": FLAG, "--persistent": FLAG}
SNAT = {"--to-source": OptionKind(1, _to_addr), "--random": FLAG, "--random-fully": FLAG, "--persistent": FLAG}
MASQUERADE = {**TO_PORTS, "--random": FLAG, "--random-fully": FLAG}


# -- LOG, NFLOG, TRACE, TCPMSS, SET ------------------------------------------------------------------------------------

LEVELS = {
    name: str(n)
    for n, names in enumerate(("emerg panic", "alert", "crit", "error err", "warning warn", "notice", "info", "debug"))
    for name in names.split()
}
LOG = {
    "--log-prefix": OptionKind(1, quoted),
    "--log-level": OptionKind(1, lambda text: (LEVELS.get(text) or str(number(text, 0, 7)),)),
    **{f"--log-{what}": FLAG for what in ("tcp-sequence", "tcp-options", "ip-options", "uid", "macdecode")},
}
NFLOG = {
    "--nflog-prefix": OptionKind(1, quoted),
    "--nflog-group": numeric(0xFFFF),
    "--nflog-range": numeric(),
    "--nflog-size": numeric(),
    "--nflog-threshold": numeric(0xFFFF),
}


def _log_finish(options: dict[str, Option]) -> None:
    if "--log-level" in options and options["--log-level"].text == "4":
        del options["--log-level"]


TCPMSS = {"--set-mss": numeric(0xFFFF), "--clamp-mss-to-pmtu": FLAG}


def _tcpmss(target: Target) -> Effect:
    """tcpmss_mangle_packet (xt_TCPMSS.c): never a larger MSS; a SYN without the option gets one of 536 or less."""
    fixed = int(target.text("--set-mss", "0"))

    def effect(s: Seen) -> str:
        if s.ip.offset:
            return ""
        tcp = s.l4
        if not isinstance(tcp, Tcp):
            return "drop"
        mss = fixed
        if not mss:
            mtu = s.tables.clamp_mtu(s)
            if mtu <= IP_LEN + TCP_LEN:
                return "drop"
            mss = mtu - IP_LEN - TCP_LEN
        if tcp.mss and tcp.mss <= mss:
            return ""
        if not tcp.mss and (payload_len(s.packet.payload) or tcp.header_len >= 60):
            return ""
        changed = tcp._replace(mss=min(mss, tcp.mss or 536))
        ip = s.ip._replace(len=s.ip.len + changed.header_len - tcp.header_len)
        s.look_at(s.packet._replace(headers=(ip, changed, *s.packet.headers[2:])))
        return ""

    return effect


SET = {
    **{f"--{way}-set": OptionKind(2, set_and_sides) for way in ("add", "del", "map")},
    "--exist": FLAG,
    "--timeout": numeric(),
    **{f"--map-{what}": FLAG for what in ("mark", "prio", "queue")},
}


def _set(target: Target) -> Effect:
    """set_target_v3 (xt_set.c): add or delete what the packet stands for."""

    def effect(s: Seen) -> str:
        for way in ("--add-set", "--del-set"):
            option = target.get(way)
            if option is not None:
                _change(s, way, *option.args, timeout=target.text("--timeout"), again=target.has("--exist"))
        if target.has("--map-set"):
            raise Undecided("target", str(target))
        return ""

    return effect


def _change(s: Seen, way: str, quoted_name: str, dims: str, *, timeout: str, again: bool) -> None:
    name = quoted_name.strip('"')
    old = s.sets.get(name)
    if old is None or old.unknown or "set" in old.dims:
        raise Undecided("set", f"{name}, which SET changes")
    key = packet_key(old, sides(dims), s) if len(sides(dims)) >= len(old.dims) else None
    if key is None:
        return
    if way == "--del-set":
        s.sets[name] = old.minus(key)
    elif again or old.holds(key, s.now) is None:
        s.sets[name] = old.plus_key(key, timeout or old.option("timeout", "0"), s.now)


TPROXY = {"--on-port": numeric(0xFFFF), "--on-ip": OptionKind(), "--tproxy-mark": OptionKind(1, xmark)}


def _tproxy_finish(options: dict[str, Option]) -> None:
    options.setdefault("--on-ip", Option("--on-ip", ("0.0.0.0",)))


TARGETS: dict[str, TargetKind] = {
    "ACCEPT": TargetKind({}, verdict("accept")),
    "CONNMARK": TargetKind(CONNMARKS, _connmark, _connmark_finish),
    "CT": TargetKind(CT, _notrack),
    "DNAT": TargetKind(DNAT, verdict("dnat"), exactly_one({"--to-destination": DNAT["--to-destination"]})),
    "DROP": TargetKind({}, verdict("drop")),
    "LOG": TargetKind(LOG, verdict(""), _log_finish),
    "MARK": TargetKind(MARKS, _mark, exactly_one({"--set-xmark": MARKS["--set-xmark"]})),
    "MASQUERADE": TargetKind(MASQUERADE, verdict("masquerade")),
    "NFLOG": TargetKind(NFLOG, verdict("")),
    "NOTRACK": TargetKind({}, _notrack),
    "REDIRECT": TargetKind({**TO_PORTS, "--random": FLAG}, verdict("redirect")),
    "REJECT": TargetKind({"--reject-with": OptionKind(1, _reject_with)}, verdict("reject")),
    "RETURN": TargetKind({}, verdict("return")),
    "SET": TargetKind(SET, _set, at_least_one(SET)),
    "SNAT": TargetKind(SNAT, verdict("snat"), exactly_one({"--to-source": SNAT["--to-source"]})),
    "TCPMSS": TargetKind(TCPMSS, _tcpmss, exactly_one(TCPMSS)),
    "TPROXY": TargetKind(TPROXY, verdict("tproxy"), _tproxy_finish),
    "TRACE": TargetKind({}, verdict("")),
}
"""By name: what follows `-j` and is no chain."""


OTHERS = frozenset((
    "AUDIT", "CHECKSUM", "CLASSIFY", "CLUSTERIP", "CONNSECMARK", "DNPT", "DSCP", "ECN", "HL", "HMARK", "IDLETIMER",
    "LED", "NETMAP", "NFQUEUE", "QUEUE", "RATEEST", "SECMARK", "SNPT", "SYNPROXY", "TCPOPTSTRIP", "TEE", "TOS", "TTL",
    "ULOG",
))  # fmt: skip
"""Targets of iptables that are not modelled. Any other name is a chain's."""


def compile_target(target: Target | None) -> Effect:
    """What a target does; one that is not modelled ends the branch as `unsupported`."""
    if target is None:
        return lambda s: ""
    kind = TARGETS.get(target.name)
    return verdict("unsupported")(target) if kind is None or target.words else kind.compile(target)
