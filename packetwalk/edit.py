"""What if: lines in the words of ip, bridge, sysctl, iptables and ipvsadm change a network.

    broken = whatif(net, "node-2 sysctl net.ipv4.ip_forward=0", "link node-1 mtu 1400")

A line names a room and what would be typed there, or `link` and the wire that is meant. The reverse is `commands`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from packetwalk.addr import EVERYTHING, IPv4, Mac, Prefix
from packetwalk.hint import nearest, unknown
from packetwalk.iptables import iptables
from packetwalk.ipvsadm import ipvsadm
from packetwalk.netns.fib_table import KNOWN_TYPES, Nexthop
from packetwalk.netns.ipvs import SYSCTLS as VS_SYSCTLS
from packetwalk.netns.namespace import Netns
from packetwalk.netns.policy_rule import PROTOCOLS, RULE_ERRNO, TABLES
from packetwalk.netns.tables import CONF_DEFAULTS, SYSCTL_DEFAULTS
from packetwalk.network import End, Network

RATES = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9, "tbit": 10**12}
TIMES = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}


def whatif(network: Network, *lines: str) -> Network:
    """A copy of the network, changed. ValueError, in one line, for a line that is wrong or that the kernel refuses."""
    changed = network.clone()
    for line in lines:
        apply(changed, line)
    return changed


def apply(network: Network, line: str) -> None:
    """Change the network itself. ValueError as for `whatif`; then it is as it was."""
    try:
        words = Words(shlex.split(line))
        if words.left[:1] == ["link"]:
            words.take("link")
            _wire(network, words)
        else:
            name = words.one_of("room", network.rooms)
            _room(network, name, words)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{line!r}: {error.args[0]}") from None
    network.name = f"{network.name.removesuffix(', changed')}, changed"


class Words:
    """The words of a line, taken from the left. Each error names the word and what was expected."""

    def __init__(self, words: Iterable[str]) -> None:
        self.left = list(words)

    def take(self, expected: str) -> str:
        """The next word."""
        if not self.left:
            raise ValueError(f"it ends where {expected} was expected")
        return self.left.pop(0)

    def one_of(self, what: str, words: Iterable[str]) -> str:
        """The next word, which must be one of these."""
        words = list(words)
        if not self.left:
            raise ValueError(f"it ends where the {what} was expected; {nearest('', words)}")
        if self.left[0] not in words:
            raise ValueError(unknown(what, self.left[0], words))
        return self.left.pop(0)

    def options(self, grammar: Mapping[str, Kind]) -> dict[str, Any]:
        """The rest of the line as names with their values; a name whose kind is None stands alone."""
        found: dict[str, Any] = {}
        while self.left:
            name = self.one_of("option", grammar)
            if name in found:
                raise ValueError(f"{name!r} is there twice")
            kind = grammar[name]
            found[name] = True if kind is None else _value(name, self.take(f"a value of {name!r}"), kind)
        return found


Kind = Callable[[str], Any] | None


def _value(name: str, text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def number(low: int = 0, high: int = 0xFFFFFFFF) -> Callable[[str], int]:
    """Reads a whole number from low to high, decimal or hexadecimal."""

    def read(text: str) -> int:
        try:
            value = int(text, 16 if text.startswith("0x") else 10)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            bounds = f" from {low} to {high}" if (low, high) != (0, 0xFFFFFFFF) else ""
            raise ValueError(f"a number{bounds} was expected, not {text!r}")
        return value

    return read


def quantity(units: Mapping[str, int]) -> Callable[[str], int]:
    """Reads a number with a unit behind it, such as 100mbit."""

    def read(text: str) -> int:
        digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = text[len(digits) :]
        if unit not in units or not digits.replace(".", "", 1).isdecimal():
            raise ValueError(f"a number with one of {', '.join(units)} behind it was expected, not {text!r}")
        return round(float(digits) * units[unit])

    return read


MTU = number(68, 65535)  # ETH_MIN_MTU and ETH_MAX_MTU


def _table(text: str) -> int:
    if not text.isdecimal() and text not in TABLES:
        raise ValueError(f"a number or one of {', '.join(TABLES)} was expected, not {text!r}")
    return TABLES[text] if text in TABLES else int(text)


def _need(options: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if name not in options:
            raise ValueError(f"{name!r} and its value were expected")


# -- in a room ---------------------------------------------------------------------------------------------------------


def _room(network: Network, name: str, words: Words) -> None:
    if words.left[:1] in (["ip"], ["bridge"]):
        words.take("ip")
    kind = words.one_of("object", (*OBJECTS, "link"))
    if kind == "link":
        _link(network, name, words)
    else:
        OBJECTS[kind](network[name], words)


def _link(network: Network, name: str, words: Words) -> None:
    room = network[name]
    verb = words.one_of("verb", ("set", "del"))
    if words.left[:1] == ["dev"]:
        words.take("dev")
    dev = words.take("a device")
    room.device(dev)
    if verb == "del":
        words.options({})
        room.link_del(dev)
        return
    options = words.options({"mtu": MTU, "up": None, "down": None, "master": str, "nomaster": None})
    if not options or {"up", "down"} <= {*options} or {"master", "nomaster"} <= {*options}:
        raise ValueError("one of mtu, up, down, master, nomaster was expected")
    up = True if "up" in options else False if "down" in options else None
    master = "" if "nomaster" in options else options.get("master")
    if master and room.device(master).kind != "bridge":
        raise ValueError(f"master: {master} is no bridge")
    network.link_set(name, dev, mtu=options.get("mtu"), up=up, master=master)


def _addr(room: Netns, words: Words) -> None:
    verb = words.one_of("verb", ("add", "del"))
    addr = words.take("an address with its prefix length")
    options = words.options({"dev": str, "scope": str})
    _need(options, "dev")
    if verb == "add":
        room.addr_add(options["dev"], addr, scope=options.get("scope", "global"))
    else:
        room.addr_del(options["dev"], addr)


ROUTE: dict[str, Kind] = {
    "via": IPv4, "dev": str, "table": _table, "metric": number(), "src": IPv4, "proto": str, "scope": str,
    "mtu": number(), "onlink": None,
}  # fmt: skip
HOP: dict[str, Kind] = {"via": IPv4, "dev": str, "weight": number(1, 256), "onlink": None}


def _route(room: Netns, words: Words) -> None:
    verb = words.one_of("verb", ("add", "append", "replace", "del"))
    kind = words.take("a type") if words.left[0:1] and words.left[0] in KNOWN_TYPES else ""
    dst = Prefix.parse(words.take("a prefix"))
    hops = _hops(room, words)
    options = {**words.options(ROUTE), **({"type": kind} if kind else {}), **({"nexthops": hops} if hops else {})}
    if "dev" in options:
        room.device(options["dev"])
    if verb != "del":
        getattr(room, f"route_{verb}")(dst, **options)
        return
    if other := {*options} & {"scope", "mtu", "onlink", "nexthops"}:
        raise ValueError(f"route del goes by via, dev, table, metric, proto and src, not by {', '.join(sorted(other))}")
    room.route_del(dst, **options)


def _hops(room: Netns, words: Words) -> tuple[Nexthop, ...]:
    """The next hops at the end of a line, each behind a word `nexthop`."""
    if "nexthop" not in words.left:
        return ()
    at = words.left.index("nexthop")
    hops, words.left = Words(words.left[at + 1 :]), words.left[:at]
    found = []
    while hops.left:
        end = hops.left.index("nexthop") if "nexthop" in hops.left else len(hops.left)
        one, hops.left = Words(hops.left[:end]), hops.left[end + 1 :]
        options = one.options(HOP)
        _need(options, "dev")
        room.device(options["dev"])
        found.append(Nexthop(**options))
    return tuple(found)


def _mark(text: str) -> tuple[int, int]:
    mark, slash, mask = text.partition("/")
    return number()(mark), number()(mask) if slash else 0xFFFFFFFF


def _ports(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    return number(1, 65535)(low), number(1, 65535)(high if dash else low)


def _protocol(text: str) -> int:
    return next((n for n, name in PROTOCOLS.items() if name == text), None) or number(1, 255)(text)


def _selector(text: str) -> Prefix:
    return EVERYTHING if text == "all" else Prefix.parse(text)


RULE: dict[str, Kind] = {
    "not": None, "from": _selector, "to": _selector, "iif": str, "oif": str, "fwmark": _mark, "tos": number(0, 255),
    "ipproto": _protocol, "sport": _ports, "dport": _ports, "priority": number(), "pref": number(),
    "table": _table, "lookup": _table, "goto": number(), "suppress_prefixlength": number(0, 32),
    **dict.fromkeys((*RULE_ERRNO, "nop")),
}  # fmt: skip
RULE_FIELDS = {"from": "src", "to": "dst", "ipproto": "proto", "not": "invert", "pref": "priority",
               "suppress_prefixlength": "suppress_prefixlen"}  # fmt: skip


def _rule(room: Netns, words: Words) -> None:
    verb = words.one_of("verb", ("add", "del"))
    given = words.options(RULE)
    fields = {RULE_FIELDS.get(name, name): value for name, value in given.items()}
    actions = [name for name in ("table", "lookup", "goto", "nop", *RULE_ERRNO) if name in given]
    if len(actions) > 1:
        raise ValueError(f"{' and '.join(actions)} exclude each other")
    for name in actions:
        value = fields.pop(name)
        fields["action"] = value if name in ("table", "lookup") else name
        if name == "goto":
            fields["goto"] = value
    if "fwmark" in fields:
        fields["fwmark"], fields["fwmask"] = fields["fwmark"]
    if verb == "del":
        room.rule_del(**fields)
        return
    second = room.fib.rules[1:2]  # fib_default_rule_pref: one before the second rule
    priority = fields.pop("priority", max(second[0].priority - 1, 0) if second else 0)
    room.rule_add(priority, fields.pop("action", TABLES["main"]), **fields)


def _neigh(room: Netns, words: Words) -> None:
    verb = words.one_of("verb", ("add", "replace", "del"))
    dst = IPv4(words.take("an address"))
    options = words.options({"lladdr": Mac, "dev": str, "nud": str.upper})
    _need(options, "dev")
    dev = room.device(options["dev"]).name
    if verb == "del":
        room.neigh_del(dst, dev)
        return
    _need(options, "lladdr")
    if verb == "add" and room.neighbours.get(dev, dst) is not None:
        raise ValueError(f"{room.name} knows {dst} on {dev} already; `neigh replace` puts another in its place")
    room.neigh_add(dst, options["lladdr"], dev, state=options.get("nud", "PERMANENT"))


FDB: dict[str, Kind] = {
    "dev": str, "dst": IPv4, "via": str, "port": number(1, 65535), "vni": number(0, 2**24 - 1), "self": None,
    "master": None, "static": None, "permanent": None,
}  # fmt: skip


def _fdb(room: Netns, words: Words) -> None:
    verb = words.one_of("verb", ("add", "append", "replace", "del"))
    mac = Mac(words.take("an Ethernet address"))
    options = words.options(FDB)
    _need(options, "dev")
    device = room.device(options.pop("dev"))
    master = options.pop("master", False)
    if master and not device.master:
        raise ValueError(f"master: {device.name} is in no bridge")
    if not master and device.kind != "vxlan":
        raise ValueError(f"{device.name} is no vxlan; for an entry of its bridge say `master`")
    end = {name: value for name, value in options.items() if name in ("dst", "via", "port", "vni")}
    if master and end:
        raise ValueError(f"{', '.join(end)}: a bridge's entry has none")
    if verb == "del":
        room.fdb_del(device.name, mac, dst=options.get("dst", ""), master=master)
        return
    if not master:
        _need(options, "dst")
    if verb == "add" and not master and room.vxlan_fdb.exact(device.name, mac):
        raise ValueError(f"{room.name} has an entry of {mac} on {device.name}; `fdb replace` puts another in its place")
    put = room.fdb_replace if verb == "replace" and not master else room.fdb_append
    put(device.name, mac, **end)


def _sysctl(room: Netns, words: Words) -> None:
    text = " ".join(words.left)
    key, _, value = (part.strip() for part in text.removeprefix("-w ").partition("=" if "=" in text else " "))
    if not value:
        raise ValueError("KEY=VALUE was expected")
    settings = {*CONF_DEFAULTS, "promote_secondaries"}.union(*room.conf_values.values())
    known = {"net.ipv4.ip_forward", *SYSCTL_DEFAULTS, *VS_SYSCTLS, *room.sysctls}
    devices = ("all", "default", *(name.replace(".", "/") for name in room.devices))
    known |= {f"net.ipv4.conf.{dev}.{name}" for dev in devices for name in settings}
    if key not in known:
        raise ValueError(f"packetwalk knows no sysctl {key!r} of {room.name}; {nearest(key, sorted(known))}")
    room.sysctl(key, _value(key, value, number()))


def _iptables(room: Netns, words: Words) -> None:
    quoted = ('"{}"'.format(word.replace('"', '\\"')) if " " in word else word for word in words.left)
    room.netfilter = iptables(room.netfilter, " ".join(quoted))
    room.conntrack |= room.netfilter.needs_conntrack  # a rule that asks for it switches it on (nf_ct_netns_get)


OBJECTS: dict[str, Callable[[Netns, Words], None]] = {
    "sysctl": _sysctl, "route": _route, "rule": _rule, "neigh": _neigh, "fdb": _fdb, "addr": _addr,
    "iptables": _iptables,
    "ipvsadm": lambda room, words: ipvsadm(room.ipvs, words.left),
}  # fmt: skip


# -- a wire ------------------------------------------------------------------------------------------------------------


def _wire(network: Network, words: Words) -> None:
    """`link ROOM[/DEV] mtu N | down | up | rate RATE | delay TIME | queue N`.

    Down means that the far end is shut, as a switch shuts its port: the room keeps its device and loses its carrier.
    """
    near, far = _ends(network, words)
    options = words.options({"mtu": MTU, "up": None, "down": None, "rate": quantity(RATES), "delay": quantity(TIMES),
                             "queue": number(1)})  # fmt: skip
    if not options or {"up", "down"} <= {*options}:
        raise ValueError("one of mtu, up, down, rate, delay, queue was expected")
    for room, dev in (near, far) if "mtu" in options else ():
        network[room].link_set(dev, mtu=options["mtu"])
    if "up" in options or "down" in options:
        network.link_set(*far, up="up" in options)
    wire = network.wires[near]._replace(**{k: v for k, v in options.items() if k in ("rate", "delay", "queue")})
    network.wires[near] = network.wires[far] = wire


def _ends(network: Network, words: Words) -> tuple[End, End]:
    """Which wire is meant: that of a device, or a room's only one, or the one that does not lead to a pod."""
    name = words.take("a room or ROOM/DEV")
    far = {near: end for near in network.wires if (end := network.far(near)) is not None}
    if name in network:
        mine = [end for end in far if end[0] == name]
        if len(mine) > 1:
            mine = [end for end in mine if network.roles.get(far[end][0]) != "pod"]
    else:
        mine = [end for end in far if "/".join(end) == name]
        if not mine:
            raise ValueError(unknown("room or ROOM/DEV", name, [*network.rooms, *map("/".join, far)]))
    if len(mine) != 1:
        there = ", ".join("/".join(end) for end in far if end[0] == name)
        raise ValueError(f"{name} has {len(mine)} wires that could be meant; name one of {there or 'none'}")
    return mine[0], far[mine[0]]
