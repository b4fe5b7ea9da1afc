"""What the NAT targets of iptables ask for: the range of addresses and ports a connection may get (xt_nat.c,
xt_MASQUERADE.c, xt_REDIRECT.c)."""

from __future__ import annotations

from packetwalk.addr import LOCALHOST, IPv4
from packetwalk.netns import nat
from packetwalk.netns.conntrack import Conn
from packetwalk.netns.device import SCOPE_GLOBAL
from packetwalk.netns.nat import Range
from packetwalk.netns.tables import Tables
from packetwalk.netns.target import Target
from packetwalk.netns.visit import Skb
from packetwalk.packet import Ip

RANDOM = ("--random", "--random-fully")  # NF_NAT_RANGE_PROTO_RANDOM_ALL: both draw a port


def range_of(t: Tables, target: Target, skb: Skb, conn: Conn, hook: str, out: str) -> Range | None:
    """The range of a DNAT, SNAT, MASQUERADE or REDIRECT target for this packet; None where it has no address to
    give."""
    shuffled = any(target.get(name) for name in RANDOM)
    if target.name in ("DNAT", "SNAT"):
        option = target.get("--to-destination") or target.get("--to-source")
        assert option is not None
        low, high, ports, base = parse(option.text)
        if not low:  # only ports were given: the address stays
            null = nat.null_binding(conn, source=target.name == "SNAT")
            low, high = null.low, null.high
        return Range(low, high, ports, shuffled, target.get("--persistent") is not None, base)
    option = target.get("--to-ports")
    ports = parse_ports(option.text)[0] if option is not None else None
    if target.name == "MASQUERADE":
        if not conn.original.src:
            return nat.null_binding(conn, source=True)
        addr = masquerade_address(t, skb, out)
    else:
        addr = LOCALHOST if hook == "OUTPUT" else redirect_address(t, skb)
    return Range(addr, addr, ports, shuffled) if addr else None


def masquerade_address(t: Tables, skb: Skb, out: str) -> IPv4:
    """nf_nat_masquerade_ipv4: the out device's address for the next hop; the route's `src` does not count."""
    ip = skb.packet.headers[0]
    assert isinstance(ip, Ip)
    nexthop = (skb.rt.via if skb.rt is not None else 0) or ip.dst
    return t.select_addr(out, nexthop, SCOPE_GLOBAL)


def redirect_address(t: Tables, skb: Skb) -> IPv4:
    """nf_nat_redirect_ipv4: the first address of the device the packet came in by."""
    device = t.devices[skb.bridged or skb.dev]
    return device.addrs[0].local if device.addrs else IPv4(0)


def parse(text: str) -> tuple[IPv4, IPv4, tuple[int, int] | None, int]:
    """`1.2.3.4-1.2.3.9:80-90/5`: addresses (zero where there are none), ports and base port (-1 where there is
    none)."""
    addrs, colon, rest = text.partition(":")
    low, _, high = addrs.partition("-")
    ports, base = parse_ports(rest) if colon else (None, -1)
    first = IPv4(low) if low else IPv4(0)
    return first, IPv4(high) if high else first, ports, base


def parse_ports(text: str) -> tuple[tuple[int, int], int]:
    """`80`, `80-90` or `80-90/5`."""
    span, slash, base = text.partition("/")
    low, _, high = span.partition("-")
    return (int(low), int(high or low)), int(base) if slash else -1
