"""ARP (RFC 826): asking, answering, and letting packets wait, as net/ipv4/arp.c and net/core/neighbour.c do."""

from __future__ import annotations

from packetwalk.addr import ANY, BROADCAST_MAC, ZERO_MAC, IPv4, is_loopback, is_multicast
from packetwalk.netns.device import SCOPE_HOST, SCOPE_LINK
from packetwalk.netns.neighbour import (
    LOCKTIME,
    MCAST_SOLICIT,
    RETRANS_TIME,
    UCAST_SOLICIT,
    UNRES_QLEN_BYTES,
    VALID,
    Neighbour,
    update,
)  # fmt: skip
from packetwalk.netns.policy_rule import Flow
from packetwalk.netns.route import input_route
from packetwalk.netns.socket import Delivery, Readable, Socket
from packetwalk.netns.tables import Tables
from packetwalk.netns.visit import Skb, Visit
from packetwalk.packet import (
    ARP_REPLY,
    ARP_REQUEST,
    ETH_ARP,
    HOST_UNREACH,
    UNREACHABLE,
    Arp,
    Ethernet,
    Icmp,
    Ip,
    Packet,
    size,
)  # fmt: skip
from packetwalk.trace import TASK, Drop, Reason, Timer


def arp_resolve(v: Visit, skb: Skb) -> str | None:
    """neigh_resolve_output for an unknown next hop: queue the packet, and ask if nobody has asked yet."""
    device = v.t.devices[skb.out]
    entry = v.t.neighbours.get(skb.out, skb.nexthop) or Neighbour(skb.nexthop, skb.out)
    asking = entry.state == "INCOMPLETE"
    waiting = entry.waiting if asking else ()
    queue = [w for w in waiting if isinstance(w, Skb)]
    while queue and sum(truesize(w) for w in [*queue, skb]) > UNRES_QLEN_BYTES:
        v.drop(queue.pop(0), Reason.NEIGH_QUEUEFULL, entry)
    entry = entry._replace(state="INCOMPLETE", lladdr=None, waiting=(*queue, skb), probes=entry.probes if asking else 1)
    v.t.neighbours.put(entry)
    v.step("hold", skb.out, entry, skb.packet)
    if not asking:
        solicit(v, entry, skb)
        v.timer(Timer(v.now + RETRANS_TIME, "arp", (device.name, int(skb.nexthop))), skb.packet)
    return None


def arp_ask(v: Visit, skb: Skb) -> str | None:
    """neigh_event_send without a packet: ask for the next hop unless that goes on already; nothing waits for it."""
    entry = v.t.neighbours.get(skb.out, skb.nexthop) or Neighbour(skb.nexthop, skb.out)
    if entry.state == "INCOMPLETE":
        return None
    entry = entry._replace(state="INCOMPLETE", lladdr=None, probes=1)
    v.t.neighbours.put(entry)
    solicit(v, entry, None)
    v.timer(Timer(v.now + RETRANS_TIME, "arp", (skb.out, int(skb.nexthop)), pending=False), skb.packet)
    return None


def truesize(skb: Skb) -> int:
    """skb->truesize: the memory a packet takes (kmalloc_reserve): struct sk_buff, and a head that holds headers in
    front, the packet and the shared info: a small one of 576 bytes, or the next power of two."""
    head = size(skb.packet) + 31 + 320
    return 256 + (576 if head <= 576 else 1 << (head - 1).bit_length())


def solicit(v: Visit, entry: Neighbour, about: Skb | None) -> None:
    """arp_solicit: one request, from the address that arp_announce allows, to all or to the known MAC."""
    t, device = v.t, v.t.devices[entry.dev]
    src = ANY
    announce = t.conf(entry.dev).arp_announce
    ip = about.packet.headers[0] if about is not None else None
    if isinstance(ip, Ip) and announce < 2 and t.fib.is_local(ip.src):
        same_net = any(a.covers(entry.dst) and a.covers(ip.src) for a in device.addrs)
        if announce == 0 or same_net:
            src = ip.src
    src = src or t.select_addr(entry.dev, entry.dst, SCOPE_LINK)
    dst = entry.lladdr if entry.state == "PROBE" and entry.lladdr is not None else BROADCAST_MAC
    arp = Arp(ARP_REQUEST, device.mac, src, ZERO_MAC, entry.dst)
    v.go("transmit", Skb(Packet((Ethernet(device.mac, dst, ETH_ARP), arp)), out=entry.dev))


def on_timer(v: Visit, dev: str, dst: int) -> None:
    """neigh_timer_handler: ask again, or give up and tell those who waited (arp_error_report)."""
    entry = v.t.neighbours.get(dev, dst)
    if entry is None:
        return
    if entry.state == "DELAY":
        entry = entry._replace(state="PROBE", probes=0)
    limit = {"INCOMPLETE": MCAST_SOLICIT, "PROBE": UCAST_SOLICIT}.get(entry.state, 0)
    if not limit:
        return
    first = entry.waiting[-1] if entry.waiting else None
    about = first if isinstance(first, Skb) else None
    packet = about.packet if about is not None else Packet((Arp(ARP_REQUEST, ZERO_MAC, ANY, ZERO_MAC, entry.dst),))
    if entry.probes < limit:
        entry = entry._replace(probes=entry.probes + 1)
        v.t.neighbours.put(entry)
        v.timer(Timer(v.now + RETRANS_TIME, "arp", (dev, dst), pending=entry.state == "INCOMPLETE"), packet)
        solicit(v, entry, about)
        return
    failed = entry._replace(state="FAILED", lladdr=None, waiting=(), probes=0, updated=v.now)
    v.t.neighbours.put(failed)
    for skb in entry.waiting:
        assert isinstance(skb, Skb)
        v.drop(skb, Reason.NEIGH_FAILED, failed, errno="EHOSTUNREACH")
        skb.error = Icmp(UNREACHABLE, HOST_UNREACH)
        v.go("icmp_error", skb)


def arp(v: Visit, skb: Skb) -> str | None:
    """arp_process: answer if it asks for us or for someone we proxy; learn from it what we already keep."""
    t, dev = v.t, skb.dev
    packet = skb.packet.headers[0]
    assert isinstance(packet, Arp)
    if skb.pkt_type == "otherhost" or t.devices[dev].noarp:
        v.step("consume", dev, skb.eth, skb.packet)
        return None
    if packet.op == ARP_REQUEST and (responder := t.sockets.responders.get((dev, int(packet.tpa)))) is not None:
        v.step("deliver", dev, Delivery("arp", responder), skb.packet)
        v.timer(Timer(v.now, "app", Readable(responder, skb.packet), context=TASK), skb.packet)
    conf = t.conf(dev)
    if packet.op not in (ARP_REQUEST, ARP_REPLY) or is_multicast(packet.tpa) or (
        is_loopback(packet.tpa) and not conf.route_localnet
    ):  # fmt: skip
        v.step("consume", dev, f"op {packet.op} for {packet.tpa}", skb.packet)
        return None
    if packet.spa == packet.tpa and conf.drop_gratuitous_arp:
        v.step("consume", dev, "drop_gratuitous_arp", skb.packet)
        return None
    if packet.op == ARP_REQUEST and packet.spa == ANY:  # duplicate address detection, RFC 2131
        if t.fib.is_local(packet.tpa) and not ignored(t, dev, packet.spa, packet.tpa):
            answer(v, skb, packet, "ours")
        else:
            v.step("consume", dev, f"{packet.tpa} is not ours", skb.packet)
        return None
    why = reply_reason(v, skb, packet) if packet.op == ARP_REQUEST else None
    if why == "unsupported":
        return None
    if why == "":
        v.step("consume", dev, f"{packet.tpa} is ours, but arp_ignore or arp_filter keeps us silent", skb.packet)
        return None
    if why:
        learn(v, dev, packet, "STALE", create=True, override=True)
        answer(v, skb, packet, why)
        return None
    gratuitous = packet.spa == packet.tpa and (packet.op == ARP_REQUEST or packet.tha == packet.sha)
    known = t.neighbours.get(dev, packet.spa)
    if known is None and not (conf.arp_accept and (gratuitous or packet.op == ARP_REPLY)):
        v.step("consume", dev, f"{packet.tpa} is not ours and {packet.spa} not our neighbour", skb.packet)
        return None
    confirmed = packet.op == ARP_REPLY and skb.pkt_type == "host"
    recent = known is not None and v.now - known.updated <= LOCKTIME
    learn(v, dev, packet, "REACHABLE" if confirmed else "STALE", create=True, override=gratuitous or not recent)
    return None


def reply_reason(v: Visit, skb: Skb, packet: Arp) -> str | None:
    """Why we answer for the target: it is ours, or proxy_arp knows the way. Empty: ours, but we must not say so;
    "unsupported": that ended here.

    The kernel routes the question like a packet from its sender (ip_route_input_noref), martian checks and all.
    """
    t, dev = v.t, skb.dev
    probe = Skb(skb.packet, dev)
    rt = input_route(t, probe, Ip(packet.spa, packet.tpa, 0, 20), v.now)
    if isinstance(rt, Drop):
        return None
    if rt.error == "unsupported":
        v.unsupported(skb, "route", rt.told)
        return rt.error
    if rt.kind == "error":
        return None
    if rt.kind == "local":
        return "" if ignored(t, dev, packet.spa, packet.tpa) or filtered(t, dev, packet) else "ours"
    conf = t.conf(dev)
    if rt.kind != "unicast" or not conf.forwarding or rt.dev == dev:
        return None
    if conf.proxy_arp:
        return f"proxy_arp: {rt.route}"
    return "proxy entry" if (dev, int(packet.tpa)) in t.neighbours.proxies else None


def ignored(t: Tables, dev: str, src: IPv4, target: IPv4) -> bool:
    """arp_ignore: whether this device must not answer for that address of ours."""
    mode = t.conf(dev).arp_ignore
    if mode == 8:
        return True
    if mode not in (1, 2, 3):
        return False
    addrs = t.devices[dev].addrs
    if mode == 3:  # any device's address, but not one of scope host
        return not any(a.local == target and min(a.scope, SCOPE_LINK) <= SCOPE_LINK and a.scope != SCOPE_HOST
                       for d in t.devices.values() for a in d.addrs)  # fmt: skip
    if not any(a.local == target for a in addrs):
        return True
    return mode == 2 and not any(a.covers(target) and a.covers(src) for a in addrs)


def filtered(t: Tables, dev: str, packet: Arp) -> bool:
    """arp_filter: answer only on the device by which we would send to the asker."""
    if not t.conf(dev).arp_filter:
        return False
    found = t.fib.lookup(Flow(packet.spa, packet.tpa))
    return found.hop is None or found.hop.dev != dev


def answer(v: Visit, skb: Skb, packet: Arp, why: str) -> None:
    """Send the reply; `why` says on whose behalf."""
    v.step("arp", skb.dev, f"answers for {packet.tpa}: {why}", skb.packet)
    _reply(v, skb.dev, packet)


def respond(v: Visit, turn: Readable) -> None:
    """The turn of a program that answers with the device's MAC for an address that is none of ours."""
    question = turn.packet.headers[0]
    assert isinstance(question, Arp) and isinstance(turn.socket, Socket)
    _reply(v, turn.socket.dev, question)


def _reply(v: Visit, dev: str, packet: Arp) -> None:
    mac = v.t.devices[dev].mac
    reply = Arp(ARP_REPLY, mac, packet.tpa, packet.sha, packet.spa)
    v.go("transmit", Skb(Packet((Ethernet(mac, packet.sha, ETH_ARP), reply)), out=dev))


def learn(v: Visit, dev: str, packet: Arp, state: str, *, create: bool, override: bool) -> None:
    """neigh_update from what the network said, and the release of the packets that waited for it."""
    t = v.t
    old = t.neighbours.get(dev, packet.spa)
    if old is None:
        if not create:
            return
        old = Neighbour(packet.spa, dev)
    new, changed = update(old.seen_at(v.now), packet.sha, state, v.now, override=override)
    if not changed:
        v.step("deliver", dev, Delivery("arp", None, "", f"kept {old}"), Packet((packet,)))
        return
    waiting = new.waiting if new.state in VALID else ()
    t.neighbours.put(new._replace(waiting=()))
    v.step("deliver", dev, Delivery("arp", None, "", f"{new.dst} lladdr {new.lladdr} {new.state}"), Packet((packet,)))
    for skb in waiting:
        assert isinstance(skb, Skb)
        v.go("neigh", skb)
