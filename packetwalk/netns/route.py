"""Routing decisions: where a packet that came in goes, and how one of our own leaves (net/ipv4/route.c)."""

from __future__ import annotations

from packetwalk.addr import ANY, LIMITED_BROADCAST, LOCALHOST, IPv4, is_loopback, is_multicast, is_zeronet
from packetwalk.netns.device import SCOPE_GLOBAL, SCOPE_HOST, SCOPE_LINK, DeviceConf
from packetwalk.netns.fib_table import NO_ROUTE, Found
from packetwalk.netns.policy_rule import Flow
from packetwalk.netns.socket import DONT, WANT, Socket
from packetwalk.netns.tables import Rt, Tables
from packetwalk.netns.tcp import Connection
from packetwalk.netns.visit import Skb
from packetwalk.packet import Ip, Packet, Sctp, Tcp, Udp, new
from packetwalk.trace import Drop, Reason

TOS = 0x1C  # IPTOS_RT_MASK
# first octets of the addresses that ip_route_input_slow looks at twice: this network, loopback, class D and E
UNUSUAL = frozenset({0, 127, *range(224, 256)})


def input_route(t: Tables, skb: Skb, ip: Ip, now: int) -> Rt | Drop:
    """ip_route_input_slow. Martian sources and destinations come back as the drop they are."""
    src, dst, dev = ip.src, ip.dst, skb.dev
    if src >> 24 in UNUSUAL or dst >> 24 in UNUSUAL:
        settled = _unusual(t, skb, ip, now)
        if settled is not None:
            return settled
    conf = t.conf(dev)
    sport, dport = ports_of(skb.packet) if t.fib.flow_dissect else (0, 0)
    flow = new(Flow, (dst, src, dev, "", skb.mark, ip.tos & TOS, ip.proto, sport, dport, SCOPE_GLOBAL))
    found = t.fib.lookup(flow, flow_hash(t, src, dst))
    if found.error:
        unforwarded = not conf.forwarding and found.error != "unsupported"
        return Rt("error", dev, found=found, error="EHOSTUNREACH" if unforwarded else found.error, input=True)
    assert found.route is not None and found.hop is not None
    kind = found.route.type
    if kind == "broadcast":
        if conf.bc_forwarding:
            return _forwarded(t, skb, ip, now, found, conf)
        return _broadcast(t, skb, ip, now, found)
    if kind == "local":
        verdict = validate_source(t, skb, ip, "", conf)
        if not isinstance(verdict, bool):
            return verdict
        return Rt("local", dev, found=found, input=True)
    if not conf.forwarding:
        return Rt("error", dev, found=found, error="EHOSTUNREACH", input=True)
    if kind != "unicast":
        return Drop(Reason.IP_INVALID_DEST, found.route)
    return _forwarded(t, skb, ip, now, found, conf)


def _forwarded(t: Tables, skb: Skb, ip: Ip, now: int, found: Found, conf: DeviceConf) -> Rt | Drop:
    """__mkroute_input: check the source, see whether a redirect is due, look for what was learned."""
    hop = found.hop
    assert hop is not None
    verdict = validate_source(t, skb, ip, hop.dev, conf)
    if not isinstance(verdict, bool):
        return verdict
    if hop.dev == skb.dev and verdict and conf.send_redirects:
        skb.redirect = conf.shared_media or onlink(t, hop.dev, ip.src, hop.via)
    learned = t.learned(found, ip.dst, now) if t.fib.exceptions else None
    via = learned.gateway if learned is not None and learned.gateway else hop.via
    return new(Rt, ("unicast", hop.dev, via, ANY, found, learned, "", True))


def onlink(t: Tables, dev: str, a: int, b: int) -> bool:
    """inet_addr_onlink: both addresses are in one subnet of the device."""
    return any(not x.secondary and x.covers(a) and (not b or x.covers(b)) for x in t.devices[dev].addrs)


def _broadcast(t: Tables, skb: Skb, ip: Ip, now: int, found: Found | None) -> Rt | Drop:
    if not is_zeronet(ip.src):
        verdict = validate_source(t, skb, ip, "", t.conf(skb.dev), dst=0)
        if not isinstance(verdict, bool):
            return verdict
    return Rt("broadcast", skb.dev, found=found, input=True)


def _unusual(t: Tables, skb: Skb, ip: Ip, now: int) -> Rt | Drop | None:
    """The checks of ip_route_input_slow that ordinary addresses pass; None if these pass them, too."""
    src, dst = ip.src, ip.dst
    if is_multicast(src) or src == LIMITED_BROADCAST:
        return Drop(Reason.IP_INVALID_SOURCE, skb.eth)
    if dst == LIMITED_BROADCAST or (not src and not dst):
        return _broadcast(t, skb, ip, now, None)
    if is_zeronet(src):
        return Drop(Reason.IP_INVALID_SOURCE)
    if is_zeronet(dst):
        return Drop(Reason.IP_INVALID_DEST)
    if (is_loopback(dst) or is_loopback(src)) and not t.conf(skb.dev).route_localnet and skb.dev != "lo":
        return Drop(Reason.IP_LOCALNET)
    if is_multicast(dst):
        return Rt("error", skb.dev, error="unsupported")  # ip_mc_validate_source and mroute are not modelled
    return None


def ports_of(packet: Packet) -> tuple[int, int]:
    """The transport ports, zero where the packet shows none."""
    l4 = packet.l4
    return (l4.sport, l4.dport) if isinstance(l4, (Udp, Tcp, Sctp)) else (0, 0)


def flow_hash(t: Tables, src: int, dst: int) -> int:
    """fib_multipath_hash by addresses (policy 0), keyed with the room's seed: 31 bits."""
    return hash((src, dst, t.seed)) & 0x7FFFFFFF


def validate_source(
    t: Tables, skb: Skb, ip: Ip, oif: str, conf: DeviceConf, dst: int | None = None
) -> bool | Drop | Rt:
    """fib_validate_source: a Drop for a martian, else whether the source is directly on a link (for redirects).

    An Rt is the error that the way back meets something that is not modelled.
    """
    dev = skb.dev
    if not conf.rp_filter and (dev != oif or not conf.send_redirects):
        if conf.accept_local:
            return False
        if not t.fib.custom and not t.fib.custom_local:
            return Drop(Reason.IP_LOCAL_SOURCE, ip.src) if ip.src in t.locals else False
        if t.fib.unclaimed(ip.src):
            return False  # the look-up below could only find a way back, which nobody asks for
    mark = skb.mark if conf.src_valid_mark else 0
    to = ip.dst if dst is None else dst
    back = new(Flow, (ip.src, to, oif or "lo", "", mark, ip.tos & TOS, 0, 0, 0, SCOPE_GLOBAL))
    found = t.fib.lookup(back)
    if found.error == "unsupported":
        return Rt("error", dev, found=found, error=found.error, input=True)
    if found.error:
        return Drop(Reason.IP_RPFILTER, found.by or "no route back") if conf.rp_filter else False
    route, hop = found.route, found.hop
    assert route is not None and hop is not None
    if route.type != "unicast" and (route.type != "local" or not conf.accept_local):
        return Drop(Reason.IP_LOCAL_SOURCE, route)
    if hop.dev == dev or any(h.dev == dev for h in route.nexthops) or (route.type == "local" and dev == "lo"):
        return hop.scope >= SCOPE_HOST
    if not t.devices[dev].addrs:
        return Drop(Reason.IP_RPFILTER, route) if conf.rp_filter else False
    if conf.rp_filter == 1:
        return Drop(Reason.IP_RPFILTER, route)
    again = t.fib.lookup(back._replace(oif=dev))
    return bool(not again.error and again.route and again.route.type == "unicast" and again.hop
                and again.hop.scope >= SCOPE_HOST)  # fmt: skip


def output_route(t: Tables, dst: IPv4, now: int, *, src: IPv4 = ANY, oif: str = "", mark: int = 0, tos: int = 0,
                 proto: int = 0, sport: int = 0, dport: int = 0, any_source: bool = False) -> Rt:  # fmt: skip
    """ip_route_output_key_hash_rcu: the way for a packet this host sends, and its source address if none was given.

    any_source: it may come from an address that is not ours (FLOWI_FLAG_ANYSRC)."""
    foreign = not any_source and src and not t.is_own(src)
    if src and (is_multicast(src) or src == LIMITED_BROADCAST or is_zeronet(src) or foreign):
        return Rt("error", oif, error="EINVAL", found=Found("EINVAL", None, None, None))
    if not dst:
        dst = src or LOCALHOST
    flow = Flow(dst, src, "lo", oif, mark, tos & TOS, proto, sport, dport)
    found = t.fib.lookup(flow, flow_hash(t, src, dst))
    if found.error and found.error != "unsupported" and oif:
        # "Apparently, routing tables are wrong. Assume that the destination is on link." (ip_route_output_key_hash_rcu)
        src = src or t.select_addr(oif, 0, SCOPE_LINK)
        return Rt("unicast", oif, ANY, src, NO_ROUTE)
    if found.error:
        return Rt("error", oif, error=found.error, found=found)
    route, hop = found.route, found.hop
    assert route is not None and hop is not None
    if dst == LIMITED_BROADCAST:
        return Rt("broadcast", hop.dev, ANY, src or t.select_addr(hop.dev, 0, SCOPE_LINK), found)
    if route.type == "local":
        return Rt("local", "lo", ANY, src or route.src or dst, found)
    src = src or t.source_for(found)
    if is_loopback(src) and hop.dev != "lo" and not t.conf(hop.dev).route_localnet:
        return Rt("error", hop.dev, error="EINVAL", found=found)
    if route.type == "broadcast":
        return Rt("broadcast", hop.dev, ANY, src, found)
    learned = t.learned(found, dst, now)
    via = learned.gateway if learned is not None and learned.gateway else hop.via
    return Rt("unicast" if not is_multicast(dst) else "multicast", hop.dev, via, src, found, learned)


def pmtudisc_of(t: Tables, socket: Socket | Connection | None) -> str:
    """A socket's IP_MTU_DISCOVER; without one of its own, what net.ipv4.ip_no_pmtu_disc makes of new sockets."""
    chosen = socket.pmtudisc if socket is not None else DONT
    return chosen or (DONT if t.sysctls["net.ipv4.ip_no_pmtu_disc"] else WANT)
