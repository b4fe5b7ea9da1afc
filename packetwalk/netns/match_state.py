"""The matches that ask more than the packet: its connection, the namespace's tables, sets.

Each test follows the kernel function it names (net/netfilter/xt_*.c); options print as iptables-save prints them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from packetwalk.addr import LIMITED_BROADCAST, is_multicast, is_zeronet
from packetwalk.netns.ipset import lookup
from packetwalk.netns.match import (
    DEAR,
    MIDDLE,
    Check,
    Condition,
    Match,
    MatchKind,
    device_is,
    looks,
    negated,
    test,
    undecided,
)
from packetwalk.netns.option import (
    FLAG,
    PROTOCOLS,
    Option,
    OptionKind,
    at_least_one,
    bounds,
    exactly_one,
    listed,
    mark,
    masked,
    network,
    network_text,
    number,
    numeric,
    one_of,
    set_and_sides,
    sides,
    span,
)
from packetwalk.netns.policy_rule import Flow
from packetwalk.netns.seen import Seen, Undecided

if TYPE_CHECKING:
    from packetwalk.netns.rule import Rule
    from packetwalk.netns.seen import Conn, Virtual

SECOND = 1_000_000_000

# -- conntrack, state, connmark (xt_conntrack.c, xt_connmark.c) --------------------------------------------------------

STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")
STATUS = {"NONE": 0, "EXPECTED": 1, "SEEN_REPLY": 2, "ASSURED": 4, "CONFIRMED": 8}
SRC_NAT, DST_NAT = 16, 32  # IPS_SRC_NAT, IPS_DST_NAT


def _addr_text(text: str) -> tuple[str]:
    """An address or a network, a /32 without its length."""
    return (network_text(*network(text)).removesuffix("/32"),)


def _proto_number(text: str) -> tuple[str]:
    return (str(PROTOCOLS.get(text.lower()) or number(text, 1, 255)),)


CONNTRACK = {
    "--ctstate": OptionKind(1, lambda text: (listed(STATES, text),), True),
    "--ctproto": OptionKind(1, _proto_number, True),
    **{f"--ct{side}": OptionKind(1, _addr_text, True) for side in ("origsrc", "origdst", "replsrc", "repldst")},
    **{
        f"--ct{side}port": OptionKind(1, lambda text: (span(text),), True)
        for side in ("origsrc", "origdst", "replsrc", "repldst")
    },
    "--ctstatus": OptionKind(1, lambda text: (listed(STATUS, text),), True),
    "--ctexpire": OptionKind(1, lambda text: (span(text, high=0xFFFFFFFF),), True),
    "--ctdir": OptionKind(1, lambda text: (one_of(("ORIGINAL", "REPLY"), text.upper()),)),
}


def _conntrack(match: Match, rule: Rule) -> Condition:
    """conntrack_mt. Without a connection only the state is asked, and alone it may match."""
    state = match.get("--ctstate") or match.get("--state")
    rest = [_conn_is(option) for option in match.options if option is not state]
    simple = state is not None and not {"SNAT", "DNAT"} & set(state.text.split(","))
    if state is not None and simple and not rest:
        states, wanted = frozenset(state.text.split(",")), not state.inverted
        return Condition(MIDDLE, lambda then: lambda s: (s.ctstate in states) is wanted and then(s))
    checks = [_state_is(state)] if state is not None else []

    def others(s: Seen) -> bool:
        conn = s.conn
        if conn is None:
            return state is not None
        return all(check(conn, s) for check in rest)

    return looks(*checks, others)


def _state_is(option: Option) -> Check:
    states, wanted = frozenset(option.text.split(",")), not option.inverted
    virtual = SRC_NAT * ("SNAT" in states) | DST_NAT * ("DNAT" in states)

    def check(s: Seen) -> bool:
        found = s.ctstate in states or (s.conn is not None and bool(s.conn.status & virtual))
        return found is wanted

    return check


def _conn_is(option: Option) -> Callable[[Conn, Seen], bool]:
    name, text, inverted = option.name, option.text, option.inverted
    if name == "--ctdir":
        return lambda conn, s: s.ctdir == text
    if name == "--ctproto":
        proto = int(text)
        return lambda conn, s: (conn.original.proto == proto) is not inverted
    if name == "--ctstatus":
        bits = sum(STATUS[word] for word in text.split(","))
        return lambda conn, s: bool(conn.status & bits) is not inverted
    if name == "--ctexpire":
        soon, late = bounds(text, high=0xFFFFFFFF)
        return lambda conn, s: (soon <= max(conn.expires - s.now, 0) // SECOND <= late) is not inverted
    tuple_name = "original" if "orig" in name else "reply"
    if name.endswith("port"):
        low, high = bounds(text)
        field = "sport" if "src" in name else "dport"
        return lambda conn, s: (low <= getattr(getattr(conn, tuple_name), field) <= high) is not inverted
    addr, mask = network(text)
    side = "src" if name.endswith("src") else "dst"
    return lambda conn, s: (getattr(getattr(conn, tuple_name), side) & mask == addr) is not inverted


def _connmark(match: Match, rule: Rule) -> Condition:
    """connmark_mt."""
    option = match.options[0]
    value, mask = masked(option.text)
    return looks(lambda s: s.conn is not None and (s.conn.mark & mask == value) is not option.inverted)


# -- addrtype, rpfilter, physdev, socket: the namespace's own tables ---------------------------------------------------

TYPES = (
    "UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT", "THROW",
    "NAT", "XRESOLVE",
)  # fmt: skip
ADDRTYPE = {
    "--src-type": OptionKind(1, lambda text: (listed(TYPES, text),), True),
    "--dst-type": OptionKind(1, lambda text: (listed(TYPES, text),), True),
    "--limit-iface-in": FLAG,
    "--limit-iface-out": FLAG,
}


def _addrtype_finish(options: dict[str, Option]) -> None:
    if not {"--src-type", "--dst-type"} & set(options):
        raise ValueError("--src-type or --dst-type was expected")
    if len({"--limit-iface-in", "--limit-iface-out"} & set(options)) > 1:
        raise ValueError("one of --limit-iface-in, --limit-iface-out was expected, not both")


def addr_type(s: Seen, addr: int, dev: str) -> str:
    """inet_dev_addr_type: what the local table says of an address; with `dev`, only by a route of that device."""
    if is_zeronet(addr) or addr == LIMITED_BROADCAST:
        return "BROADCAST"
    if is_multicast(addr):
        return "MULTICAST"
    for route in s.tables.fib.table(255).covering(addr):
        return route.type.upper() if not dev or route.dev == dev else "UNICAST"
    return "UNICAST"


def _addrtype(match: Match, rule: Rule) -> Condition:
    """addrtype_mt_v1 (net/netfilter/xt_addrtype.c)."""
    limit_in, limit_out = match.has("--limit-iface-in"), match.has("--limit-iface-out")
    checks: list[Check] = []
    for option in match.options:
        if option.name in ("--src-type", "--dst-type"):
            types, wanted = frozenset(option.text.split(",")), not option.inverted
            checks.append(_type_is(option.name == "--src-type", types, wanted, limit_in, limit_out))
    return looks(*checks)


def _type_is(source: bool, types: frozenset[str], wanted: bool, limit_in: bool, limit_out: bool) -> Check:
    def check(s: Seen) -> bool:
        dev = s.iif if limit_in else s.oif if limit_out else ""
        return (addr_type(s, s.src if source else s.dst, dev) in types) is wanted

    return check


RPFILTER = {name: FLAG for name in ("--loose", "--validmark", "--accept-local", "--invert")}


def _rpfilter(match: Match, rule: Rule) -> Condition:
    """rpfilter_mt (net/ipv4/netfilter/ipt_rpfilter.c): whether the way back leads through where it came from."""
    loose, inverted = match.has("--loose"), match.has("--invert")
    valid_mark, accept_local = match.has("--validmark"), match.has("--accept-local")

    def check(s: Seen) -> bool:
        if s.iif == "lo":
            return True
        if is_zeronet(s.src) and (s.dst == LIMITED_BROADCAST or s.dst >> 8 == 0xE00000):
            return True
        no_source = is_multicast(s.dst) or s.dst == LIMITED_BROADCAST or is_zeronet(s.dst)
        flow = Flow(s.src, 0 if no_source else s.dst, mark=s.mark if valid_mark else 0, tos=s.ip.tos & 0x1C)
        found = s.tables.fib.lookup(flow)
        if found.error == "unsupported":
            raise Undecided("route", str(found.by))
        if found.error or found.route is None:
            return False
        if found.route.type != "unicast" and not (accept_local and found.route.type == "local"):
            return False
        return loose or any(hop.dev == s.iif for hop in found.route.nexthops)

    return looks(negated(check, inverted))


PHYSDEV = {
    "--physdev-is-in": OptionKind(0, invertible=True),
    "--physdev-in": OptionKind(1, invertible=True),
    "--physdev-is-out": OptionKind(0, invertible=True),
    "--physdev-out": OptionKind(1, invertible=True),
    "--physdev-is-bridged": OptionKind(0, invertible=True),
}


def _physdev(match: Match, rule: Rule) -> Condition:
    """physdev_mt (net/netfilter/xt_physdev.c): the ports of a bridged packet; no other packet has any."""
    return looks(*(_physdev_is(option) for option in match.options))


def _physdev_is(option: Option) -> Check:
    inverted = option.inverted
    if option.name == "--physdev-is-in":
        return lambda s: bool(s.physin) is not inverted
    if option.name in ("--physdev-is-out", "--physdev-is-bridged"):
        return lambda s: bool(s.physout) is not inverted
    matches = device_is(option.text)
    if option.name == "--physdev-in":
        return lambda s: matches(s.physin) is not inverted if s.physin else inverted or s.physout != ""
    return lambda s: matches(s.physout) is not inverted if s.physout else inverted and not s.physin


def _socket(match: Match, rule: Rule) -> Condition:
    """socket_mt (net/netfilter/xt_socket.c). No socket of ours is transparent; others are not looked up."""
    if match.has("--transparent"):
        return looks(lambda s: False)

    return undecided("match", str(match))


# -- set (net/netfilter/xt_set.c) --------------------------------------------------------------------------------------

COUNTERS = {f"--{what}-{how}": numeric(2**64 - 1, invertible=how == "eq") for what in ("packets", "bytes")
            for how in ("eq", "lt", "gt")}  # fmt: skip
SET = {
    "--match-set": OptionKind(2, set_and_sides, True),
    "--return-nomatch": FLAG,
    "--update-counters": OptionKind(0, invertible=True),
    "--update-subcounters": OptionKind(0, invertible=True),
    **COUNTERS,
}


def _set(match: Match, rule: Rule) -> Condition:
    """set_match_v4. Counters of elements are not kept, so a match on them cannot be made."""
    option = match.get("--match-set")
    assert option is not None
    name, dims, inverted = option.args[0].strip('"'), sides(option.args[1]), option.inverted
    nomatch, counters = match.has("--return-nomatch"), any(o.name in COUNTERS for o in match.options)

    def check(s: Seen) -> bool:
        found = s.sets.get(name)
        if found is None or found.unknown or counters:
            why = "that is nowhere to be found" if found is None else found.unknown or "with counters"
            raise Undecided("set", f"{name} {why}")
        return lookup(s.sets, name, dims, s, return_nomatch=nomatch) is not inverted

    return Condition(DEAR, test(check))


# -- ipvs (net/netfilter/xt_ipvs.c) ------------------------------------------------------------------------------------

METHODS = {"GATE": "Route", "IPIP": "Tunnel", "MASQ": "Masq"}
IPVS = {
    "--ipvs": OptionKind(0, invertible=True),
    "--vproto": OptionKind(1, _proto_number, True),
    "--vaddr": OptionKind(1, _addr_text, True),
    "--vport": numeric(0xFFFF, invertible=True),
    "--vdir": OptionKind(1, lambda text: (one_of(("ORIGINAL", "REPLY"), text.upper()),)),
    "--vmethod": OptionKind(1, lambda text: (one_of(METHODS, text.upper()),), True),
    "--vportctl": numeric(0xFFFF, invertible=True),
}


def _ipvs(match: Match, rule: Rule) -> Condition:
    """ipvs_mt: alone --ipvs asks whether IPVS had the packet; the others match no packet but such."""
    whether = match.get("--ipvs")
    rest = [option for option in match.options if option is not whether]
    if not rest:
        wanted = whether is None or not whether.inverted
        return looks(lambda s: s.ipvs is wanted)
    checks = [_virtual_is(option) for option in rest]

    def check(s: Seen) -> bool:
        conn = s.tables.virtual(s) if s.ipvs else None
        return conn is not None and all(one(conn, s) for one in checks)

    return looks(check)


def _virtual_is(option: Option) -> Callable[[Virtual, Seen], bool]:
    name, text, inverted = option.name, option.text, option.inverted
    if name == "--vproto":
        proto = int(text)
        return lambda conn, s: (s.proto == proto) is not inverted
    if name == "--vaddr":
        addr, mask = network(text)
        return lambda conn, s: (conn.client.vaddr & mask == addr) is not inverted
    if name == "--vport":
        port = int(text)
        return lambda conn, s: (conn.client.vport == port) is not inverted
    if name == "--vportctl":
        port = int(text)
        return lambda conn, s: (conn.control is not None and conn.control.client.vport == port) is not inverted
    if name == "--vmethod":
        return lambda conn, s: (text == "MASQ") is not inverted  # the only one that is modelled
    return lambda conn, s: s.conn is not None and s.ctdir == text


CONNMARK = {"--mark": OptionKind(1, mark, True)}
SOCKET = {name: FLAG for name in ("--transparent", "--nowildcard", "--restore-skmark")}
STATE = {"--state": OptionKind(1, lambda text: (listed(STATES[:5], text),), True)}

MATCHES: dict[str, MatchKind] = {
    "addrtype": MatchKind(ADDRTYPE, _addrtype, _addrtype_finish),
    "connmark": MatchKind(CONNMARK, _connmark, exactly_one(CONNMARK)),
    "conntrack": MatchKind(CONNTRACK, _conntrack, at_least_one(CONNTRACK)),
    "ipvs": MatchKind(IPVS, _ipvs, at_least_one(IPVS)),
    "physdev": MatchKind(PHYSDEV, _physdev, at_least_one(PHYSDEV)),
    "rpfilter": MatchKind(RPFILTER, _rpfilter),
    "set": MatchKind(SET, _set, exactly_one({"--match-set": SET["--match-set"]})),
    "socket": MatchKind(SOCKET, _socket),
    "state": MatchKind(STATE, _conntrack, exactly_one(STATE)),
}
"""By name: what follows `-m`."""
