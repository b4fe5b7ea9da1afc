"""The five hooks of netfilter: which tables run where, and what becomes of the packet (net/netfilter/core.c).

Only this file runs hooks; stages call `nf_hook` where the kernel calls NF_HOOK. It notes a step for every rule that
matched,
for what connection tracking says, and for every rewrite.
"""

from __future__ import annotations

from typing import NamedTuple

from packetwalk.netns import ipvs_core, nat
from packetwalk.netns.conntrack import (
    INVALID,
    NEW,
    ORIGINAL,
    RELATED,
    UNTRACKED,
    Conn,
)
from packetwalk.netns.ipvs_conn import VsConn
from packetwalk.netns.nat_target import range_of
from packetwalk.netns.netfilter import SOURCE_SIDE, Registered, Verdict
from packetwalk.netns.reject import reject, route_me_harder
from packetwalk.netns.route import output_route
from packetwalk.netns.seen import Hit, Seen
from packetwalk.netns.tables import Tables
from packetwalk.netns.target import Target
from packetwalk.netns.visit import Skb, Visit
from packetwalk.packet import PROTO_ICMP, Ip, Packet
from packetwalk.trace import Reason

CONNTRACK, CONFIRM = "conntrack", "confirm"

# By NF_IP_PRI_*: raw -300, conntrack -200, mangle -150, nat (destination) -100, filter 0, security 50,
# nat (source) 100, confirm last. Fragments are put together before (-400), which the stages see to.
ORDER = {
    "PREROUTING": ("raw", CONNTRACK, "mangle", "nat"),
    "INPUT": ("mangle", "filter", "security", "nat", CONFIRM),
    "FORWARD": ("mangle", "filter", "security"),
    "OUTPUT": ("raw", CONNTRACK, "mangle", "nat", "filter", "security"),
    "POSTROUTING": ("mangle", "nat", CONFIRM),
}
IPVS = {"ipvs answer": ipvs_core.answer, "ipvs request": ipvs_core.request, "ipvs error": ipvs_core.request_error}
# Where there are virtual services: answers and requests at 98 and 99, in OUTPUT at -99 and -98, in FORWARD errors about
# answers at 99 and answers at 100 (ip_vs_ops4).
WITH_IPVS = {
    **ORDER,
    "INPUT": ("mangle", "filter", "security", "ipvs answer", "ipvs request", "nat", CONFIRM),
    "FORWARD": (*ORDER["FORWARD"], "ipvs error", "ipvs answer"),
    "OUTPUT": ("raw", CONNTRACK, "mangle", "nat", "ipvs answer", "ipvs request", "filter", "security"),
}


class Around:
    """What a rule may ask of the room a packet is in (seen.Lookups). It does not hold the visit, which holds it: each
    visit would wait for the collector."""

    __slots__ = ("fib", "now", "t")

    def __init__(self, t: Tables, now: int) -> None:
        self.t, self.now, self.fib = t, now, t.fib

    def clamp_mtu(self, seen: Seen) -> int:
        """tcpmss_mangle_packet: the smaller path MTU of the packet's own way and of the one back to its sender; without
        a way back its own decides (tcpmss_reverse_mtu)."""
        t, now, rt = self.t, self.now, seen.rt
        if rt is None:
            return 0
        back = output_route(t, seen.ip.src, now)
        own = t.mtu(rt, now)
        return own if back.error else min(own, t.mtu(back, now))

    def virtual(self, seen: Seen) -> VsConn | None:
        """ipvs_mt: the connection whose server this packet is for."""
        ip = seen.ip
        return self.t.ipvs.conns.by_server.get((seen.proto, ip.dst, seen.dport, ip.src, seen.sport))


class Rewrite(NamedTuple):
    """Evidence of a NAT step: the connection it follows, the side that is rewritten (src or dst), the time, and for the
    first packet the rule that asked for it."""

    conn: Conn
    side: str
    now: int
    by: Hit | None = None

    def __str__(self) -> str:
        return self.conn.text(self.now)


class Policy(NamedTuple):
    """Evidence of a drop by the policy of a built-in chain, or of a base chain."""

    table: Registered
    chain: str

    def __str__(self) -> str:
        return f"policy of {self.table} {self.chain}"


def nf_hook(v: Visit, skb: Skb, hook: str, *, iif: str = "", oif: str = "", physout: str = "") -> bool:
    """NF_HOOK: let every table registered at a hook see the packet, in order of priority. False: it ends here."""
    netfilter, seen = v.t.netfilter, None  # `seen` once a table here asks for it
    tables, usual = netfilter.tables, (WITH_IPVS if v.t.ipvs.services else ORDER)[hook]
    for name in netfilter.order(hook, usual) if netfilter.nft else usual:
        if name == CONNTRACK:
            if v.t.conntrack:
                _track(v, skb, hook)
                if seen is not None:
                    _show(seen, skb)
            continue
        if name == CONFIRM:
            if not _confirm(v, skb, hook):
                return False
            continue
        if name == "nat":
            if skb.conn is None or not (name in tables or netfilter.translates):
                continue
        elif isinstance(name, str):
            table = tables.get(name)
            if table is None:
                if name in IPVS:
                    if not IPVS[name](v, skb, hook):
                        return False
                    seen = None  # it may have changed
                continue
            chain = table.chains[hook]
            if not chain.rules and chain.policy == "ACCEPT":
                continue
        if seen is None:
            seen = _seen(v, skb)
            seen.iif, seen.oif, seen.physout = iif, oif, physout
        going_on = _nat(v, skb, hook, seen) if name == "nat" else _table(v, skb, hook, name, seen)
        if not going_on:
            return False
    return True


def _seen(v: Visit, skb: Skb) -> Seen:
    """The packet as rules see it. A visit has one Seen, shown one packet after the other: no two are at a hook at once,
    and a packet that a rule gives birth to (reject) is on its way only when that rule's table has been left."""
    seen, packet = v.seen, skb.packet
    if seen is None:
        t = v.t
        seen = v.seen = Seen(packet, tables=Around(t, v.now), state=t.netfilter.state, choose=t.chooser, now=v.now)
    elif seen.packet is not packet:
        seen.look_at(packet)
    seen.mark, seen.rt, seen.eth, seen.physin, seen.ipvs = skb.mark, skb.rt, skb.eth, skb.physin, skb.ipvs
    _show(seen, skb)
    return seen


def _show(seen: Seen, skb: Skb) -> None:
    """What conntrack found out, for the rules."""
    seen.conn, seen.ctstate, seen.ctdir = skb.conn, skb.ctstate or INVALID, skb.ctdir


def _table(v: Visit, skb: Skb, hook: str, name: Registered, seen: Seen) -> bool:
    """Walk one table, or base chain, that filters or marks."""
    before, mark = skb.packet, skb.mark
    verdict = _walk(v, skb, hook, name, seen)
    if verdict.kind == "accept":
        if hook == "OUTPUT" and _routes(name) and _rerouted(before, skb.packet, skb.mark != mark):
            return _route_again(v, skb, seen)
        return True
    _end(v, skb, hook, name, verdict)
    return False


def _end(v: Visit, skb: Skb, hook: str, name: Registered, verdict: Verdict) -> None:
    """The packet goes no further: it is dropped, perhaps with an answer, or what decides is not modelled."""
    if verdict.kind == "reject":
        assert verdict.target is not None
        reject(v, skb, verdict.target)
    elif verdict.kind != "drop":
        v.unsupported(skb, "rule", verdict.what or str(verdict.target))
        return
    _drop(v, skb, hook, name, verdict)


def _walk(v: Visit, skb: Skb, hook: str, name: Registered, seen: Seen) -> Verdict:
    """Traverse a table, and take over what its targets did: marks, a packet changed, no tracking."""
    verdict = v.t.netfilter.traverse(name, hook, seen)
    skb.mark, skb.packet = seen.mark, seen.packet
    if seen.ctstate == UNTRACKED:
        skb.ctstate = UNTRACKED
    if seen.hits:
        chains, at = v.t.netfilter.chains(name), f"{hook.lower()}/{name}"
        for hit in seen.hits:
            target = hit.rule.target
            led_on = target is None or target.name == "RETURN" or target.name in chains
            v.step("jump" if led_on else "rule", at, hit, skb.packet)
        seen.hits.clear()
    return verdict


def _drop(v: Visit, skb: Skb, hook: str, name: Registered, verdict: Verdict) -> None:
    """NF_DROP: a program that sends hears EPERM, unless it was the outer packet of a tunnel that died."""
    by = verdict.hit if verdict.hit is not None else Policy(name, verdict.chain)
    errno = "EPERM" if v.task and not skb.depth else ""
    v.drop(skb, Reason.NETFILTER_DROP, by, errno=errno, dev=f"{hook.lower()}/{name}")


def _routes(table: Registered) -> bool:
    """Whether its rules may send a packet another way (ipt_mangle_out, nf_route_table_hook4)."""
    return table == "mangle" if isinstance(table, str) else table.type == "route"


def _rerouted(before: Packet, after: Packet, remarked: bool) -> bool:
    """Whether something changed that the routing decision depends on."""
    old, new = before.headers[0], after.headers[0]
    assert isinstance(old, Ip) and isinstance(new, Ip)
    return remarked or (old.src, old.dst, old.tos) != (new.src, new.dst, new.tos)


def _route_again(v: Visit, skb: Skb, seen: Seen) -> bool:
    errno = route_me_harder(v, skb)
    seen.rt = skb.rt
    if errno:
        v.drop(skb, Reason.NETFILTER_DROP, "no route after the change", errno=errno)
    return not errno


# -- connection tracking ----------------------------------------------------------------------------------------------


def _track(v: Visit, skb: Skb, hook: str) -> None:
    """nf_conntrack_in, unless the packet has been seen before (over loopback) or must not be tracked."""
    if v.t.ipvs.services:
        ipvs_core.expire(v)
    if skb.conn is not None or skb.ctstate == UNTRACKED:
        return
    tracked = v.t.conns.track(skb.packet, v.now, v.t.sysctls)
    skb.conn, skb.ctstate, skb.ctdir = tracked
    v.step(CONNTRACK, hook.lower(), tracked, skb.packet)


def _confirm(v: Visit, skb: Skb, hook: str) -> bool:
    """nf_confirm: a new connection becomes known now that its first packet has made it."""
    conn = skb.conn
    if conn is None or conn.confirmed or skb.ctdir != ORIGINAL or v.t.conns.confirm(conn, v.now):
        return True
    v.drop(skb, Reason.NETFILTER_DROP, f"another connection has taken {conn}", dev=f"{hook.lower()}/{CONFIRM}")
    return False


# -- NAT --------------------------------------------------------------------------------------------------------------


def _nat(v: Visit, skb: Skb, hook: str, seen: Seen) -> bool:
    """nf_nat_inet_fn and its IPv4 wrappers: rules decide for the first packet, the connection for all others."""
    conn, source = skb.conn, hook in SOURCE_SIDE
    assert conn is not None
    ip, by = skb.packet.headers[0], None
    assert isinstance(ip, Ip)
    if skb.ctstate == RELATED and ip.proto == PROTO_ICMP:
        changed = nat.translate_error(skb.packet, conn, skb.ctdir, source=source)
        if changed is None:
            v.drop(skb, Reason.NETFILTER_DROP, "a redirect cannot be translated", dev=f"{hook.lower()}/nat")
            return False
    else:
        if skb.ctstate in (NEW, RELATED) and not nat.done(conn, source=source):
            verdict = _bind(v, skb, hook, seen, conn, source=source)
            if verdict is None:
                return False
            by = verdict.hit if verdict.kind != "accept" else None
        elif hook == "POSTROUTING" and conn.masq_dev not in ("", seen.oif) and skb.ctdir == ORIGINAL:
            v.t.conns.remove(conn)  # nf_nat_oif_changed: its address is that of another device
            v.drop(skb, Reason.NETFILTER_DROP, f"masqueraded behind {conn.masq_dev}", dev="postrouting/nat")
            return False
        changed = nat.translate(skb.packet, conn, skb.ctdir, source=source)
    if changed is not skb.packet and changed != skb.packet:
        skb.packet = changed
        seen.look_at(changed)
        v.step("nat", hook.lower(), Rewrite(conn.copy(), "src" if source else "dst", v.now, by), changed)
        if hook == "PREROUTING":
            skb.rt = None  # nf_nat_ipv4_pre_routing: skb_dst_drop
    if hook == "OUTPUT" and conn.tuple(skb.ctdir).dst != _other(conn, skb.ctdir):
        return _route_again(v, skb, seen)  # nf_nat_ipv4_local_fn
    return True


def _other(conn: Conn, direction: str) -> int:
    return conn.reply.src if direction == ORIGINAL else conn.original.src


def _bind(v: Visit, skb: Skb, hook: str, seen: Seen, conn: Conn, *, source: bool) -> Verdict | None:
    """Ask the rules what this connection is to look like, and set it up so. None: the packet is gone."""
    verdict, allowed = Verdict("accept", None, None, hook), None
    for name in v.t.netfilter.order(hook, ("nat",)):
        if name != "nat" or name in v.t.netfilter.tables:
            verdict = _walk(v, skb, hook, name, seen)
        if verdict.kind != "accept":
            break
    if verdict.kind in ("dnat", "snat", "masquerade", "redirect"):
        assert isinstance(verdict.target, Target)
        allowed = range_of(v.t, verdict.target, skb, conn, hook, seen.oif)
        if allowed is None:  # "ate my IP address" (nf_nat_masquerade.c), or a REDIRECT without an address
            _drop(v, skb, hook, name, verdict)
            return None
        if verdict.kind == "masquerade":
            conn.masq_dev = seen.oif
    elif verdict.kind != "accept":
        _end(v, skb, hook, name, verdict)
        return None
    nat.setup(v.t.conns, conn, allowed or nat.null_binding(conn, source=source), v.t.chooser, v.now, source=source)
    return verdict
