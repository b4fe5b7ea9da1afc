"""Forwarding: TTL, MTU, redirects, and the error a router answers where it has no route."""

from __future__ import annotations

from packetwalk.netns.hooks import nf_hook
from packetwalk.netns.tables import SECOND, Peer
from packetwalk.netns.visit import Skb, Visit
from packetwalk.packet import (
    FRAG_NEEDED,
    HOST_UNREACH,
    NET_UNREACH,
    PKT_FILTERED,
    REDIRECT,
    REDIRECT_HOST,
    TIME_EXCEEDED,
    TTL_EXCEEDED,
    UNREACHABLE,
    Icmp,
    Ip,
)  # fmt: skip
from packetwalk.trace import Reason

ERROR_COST, ERROR_BURST = SECOND, 5 * SECOND  # net.ipv4.route.error_cost, error_burst
REDIRECT_LOAD, REDIRECT_NUMBER, REDIRECT_SILENCE = SECOND // 50, 9, SECOND // 50 << 10  # net.ipv4.route.redirect_*


def forward(v: Visit, skb: Skb) -> str | None:
    """ip_forward: first the TTL, then the size, then (with netfilter) the FORWARD hook."""
    ip, rt = skb.packet.headers[0], skb.rt
    assert isinstance(ip, Ip) and rt is not None
    if skb.pkt_type != "host":
        v.drop(skb, Reason.NOT_SPECIFIED, skb.eth)
        return None
    if ip.ttl <= 1:
        v.drop(skb, Reason.IP_INHDR, f"ttl {ip.ttl}")
        return icmp_error(v, skb, TIME_EXCEEDED, TTL_EXCEEDED)
    skb.mtu = mtu = v.t.mtu(rt, v.now, forwarding=True)
    if ip.len > mtu and ip.df and (skb.frag_max > mtu or not skb.ignore_df):  # ip_exceeds_mtu
        v.drop(skb, Reason.PKT_TOO_BIG, f"df and mtu {mtu}", dev=rt.dev)
        return icmp_error(v, skb, UNREACHABLE, FRAG_NEEDED, mtu=mtu)
    skb.packet = skb.packet.swap(ip.decrease_ttl())
    skb.forwarded = True
    v.step("forward", rt.dev, None, skb.packet)
    if skb.redirect:
        _redirect(v, skb)
    if v.hooked and not nf_hook(v, skb, "FORWARD", iif=skb.dev, oif=rt.dev):
        return skb.taken()
    return "postrouting"


def ip_error(v: Visit, skb: Skb) -> str | None:
    """ip_error: what a route that leads nowhere answers; a host that does not forward stays silent."""
    rt = skb.rt
    assert rt is not None
    forwarding = v.t.conf(skb.dev).forwarding
    reason = Reason.IP_INNOROUTES if rt.error == "ENETUNREACH" else Reason.NOT_SPECIFIED
    if rt.error == "EHOSTUNREACH" and not forwarding:
        reason = Reason.IP_INADDRERRORS
    by = rt.found.by if rt.found is not None else None
    v.drop(skb, reason, by if forwarding else "forwarding is off", errno=rt.error)
    code = {"EHOSTUNREACH": HOST_UNREACH, "ENETUNREACH": NET_UNREACH, "EACCES": PKT_FILTERED}.get(rt.error)
    if not forwarding or code is None or not _may_complain(v, skb):
        return None
    return icmp_error(v, skb, UNREACHABLE, code)


def icmp_error(v: Visit, skb: Skb, type_: int, code: int, *, mtu: int = 0) -> str | None:
    """Born beside a drop: the dropped packet goes on to the `icmp_error` stage, which quotes it."""
    skb.error = Icmp(type_, code, mtu=mtu)
    return "icmp_error"


def _may_complain(v: Visit, skb: Skb) -> bool:
    """The token bucket of ip_error: five at once, then one a second for each sender."""
    ip = skb.packet.headers[0]
    assert isinstance(ip, Ip)
    v.t.peers[ip.src], allowed = v.t.peers.get(ip.src, Peer()).spend(ERROR_COST, ERROR_BURST, v.now)
    return allowed


def _redirect(v: Visit, skb: Skb) -> None:
    """ip_rt_send_redirect: tell the sender of the nearer router, ever more seldom, at most nine times."""
    ip, rt = skb.packet.headers[0], skb.rt
    assert isinstance(ip, Ip) and rt is not None
    peer = v.t.peers.get(ip.src, Peer())
    if v.now > peer.last + REDIRECT_SILENCE:
        peer = peer._replace(tokens=0, redirects=0)
    if peer.redirects >= REDIRECT_NUMBER:
        v.t.peers[ip.src] = peer._replace(last=v.now)
        return
    if not peer.redirects or v.now > peer.last + (REDIRECT_LOAD << peer.redirects):
        v.t.peers[ip.src] = peer._replace(last=v.now, redirects=peer.redirects + 1)
        offender = skb.copy()
        offender.error = Icmp(REDIRECT, REDIRECT_HOST, gateway=rt.via or ip.dst)
        v.go("icmp_error", offender)
