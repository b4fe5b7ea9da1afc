"""The bridge: learn, look up, forward or flood, and pass up what is for the host (net/bridge)."""

from __future__ import annotations

from packetwalk.addr import BROADCAST_MAC
from packetwalk.netns.br_netfilter import dnat_resumed, forward, pieces, pre_routing
from packetwalk.netns.device import Bridge, Device
from packetwalk.netns.visit import Skb, Visit
from packetwalk.packet import ETH_LEN, Ethernet, size
from packetwalk.trace import Reason

LINK_LOCAL = 0x0180C2000000 >> 4  # 01:80:c2:00:00:0x: STP, pause frames, LLDP


def bridge(v: Visit, skb: Skb) -> str | None:
    """br_handle_frame: a frame came in on a port."""
    t, port = v.t, v.t.devices[skb.dev]
    device, eth = t.devices[port.master], skb.eth
    assert isinstance(device, Bridge) and eth is not None
    oddity = device.oddity or port.port.oddity
    if oddity:
        v.unsupported(skb, "bridge setting", oddity)
        return None
    if not device.up or port.port.state in ("disabled", "blocking", "listening"):
        v.drop(
            skb,
            Reason.BRIDGE_INGRESS_STP_STATE,
            f"port {port.name} {port.port.state}",
        )
        return None
    if eth.src >> 40 & 1 or not eth.src:  # is_valid_ether_addr
        v.drop(skb, Reason.MAC_INVALID_SOURCE, eth)
        return None
    if eth.dst >> 4 == LINK_LOCAL:
        v.step("consume", port.name, "link-local frames stay on their link", skb.packet)
        return None
    if eth.dst == device.mac:
        skb.pkt_type = "host"
    skb.bridged = device.name
    return pre_routing(v, skb, device)


def bridge_finish(v: Visit, skb: Skb) -> str | None:
    """br_handle_frame_finish: learn, look up, forward or flood."""
    t, port, eth = v.t, v.t.devices[skb.dev], skb.packet.headers[0]
    device = t.devices[port.master]
    assert isinstance(device, Bridge) and isinstance(eth, Ethernet)
    if port.port.learning:
        learned = t.bridge_fdb.learn(device.name, eth.src, port.name, v.now)
        if learned is not None:
            v.step("learn", port.name, learned, skb.packet)
    if port.port.state == "learning":
        v.drop(skb, Reason.BRIDGE_INGRESS_STP_STATE, port.port)
        return None
    if skb.pkt_type in ("broadcast", "multicast"):
        _flood(v, skb, device, came=port)
        return pass_up(v, skb, device)
    entry = t.bridge_fdb.find(device.name, eth.dst, v.now, device.ageing)
    if entry is None:
        if not _flood(v, skb, device, came=port):
            v.drop(skb, Reason.NO_TX_TARGET, f"{eth.dst} is unknown and no port takes the flood")
        return None
    v.step("bridge", entry.dev, entry, skb.packet)
    if entry.local:
        return pass_up(v, skb, device)
    return _to_port(v, skb, t.devices.get(entry.dev), came=port)


def bridge_xmit(v: Visit, skb: Skb) -> str | None:
    """br_dev_xmit: the host itself sends through its bridge."""
    device, eth = v.t.devices[skb.out], skb.packet.headers[0]
    assert isinstance(device, Bridge) and isinstance(eth, Ethernet)
    if skb.bridged_dnat is not None:
        dnat_resumed(skb, eth)
        return "bridge_finish"
    skb.dev, skb.bridged = "", ""
    if device.oddity:
        v.unsupported(skb, "bridge setting", device.oddity)
        return None
    if eth.dst >> 40 & 1:
        _flood(v, skb, device, came=None)
        return None
    entry = v.t.bridge_fdb.find(device.name, eth.dst, v.now, device.ageing)
    if entry is None:
        if not _flood(v, skb, device, came=None):
            v.drop(skb, Reason.NO_TX_TARGET, f"{eth.dst} is unknown and no port takes the flood")
        return None
    v.step("bridge", entry.dev, entry, skb.packet)
    if entry.dev == device.name:
        v.drop(skb, Reason.NO_TX_TARGET, entry)
        return None
    return _to_port(v, skb, v.t.devices.get(entry.dev), came=None)


def pass_up(v: Visit, skb: Skb, device: Bridge) -> str | None:
    """br_pass_frame_up: the frame appears on the bridge device itself."""
    up = skb.copy()
    up.dev, up.bridged = device.name, device.name
    v.go("receive", up)
    return None


def _flood(v: Visit, skb: Skb, device: Bridge, came: Device | None) -> bool:
    """br_flood: one copy for every other port. Returns whether any port took it."""
    eth = skb.packet.headers[0]
    assert isinstance(eth, Ethernet)
    targets = [p for p in v.t.ports(device.name) if _may_leave(p, came) and _takes_flood(p, eth, came)]
    if targets:
        v.step("flood", device.name, f"{eth.dst} to {', '.join(p.name for p in targets)}", skb.packet)
    for port in targets:
        _send(v, skb.copy(), port)
    return bool(targets)


def _takes_flood(port: Device, eth: Ethernet, came: Device | None) -> bool:
    """br_flood: BR_FLOOD, BR_BCAST_FLOOD, BR_MCAST_FLOOD; the host's own broadcasts go everywhere."""
    if not eth.dst >> 40 & 1:
        return port.port.flood
    return came is None or (port.port.bcast_flood if eth.dst == BROADCAST_MAC else port.port.mcast_flood)


def _may_leave(port: Device, came: Device | None) -> bool:
    """should_deliver: another port (or hairpin), forwarding, not isolated from the one it came by."""
    return (
        (port is not came or port.port.hairpin)
        and port.port.state == "forwarding"
        and port.up
        and not (came is not None and came.port.isolated and port.port.isolated)
    )


def _to_port(v: Visit, skb: Skb, port: Device | None, came: Device | None) -> str | None:
    if port is None or not _may_leave(port, came):
        v.drop(
            skb,
            Reason.BRIDGE_NON_FORWARDING,
            f"not back out of {port.name}" if port is came and port else "no such port",
        )
        return None
    _send(v, skb, port)
    return None


def _send(v: Visit, skb: Skb, port: Device) -> None:
    """br_forward_finish: br_netfilter cuts what is too big for the port; the bridge itself drops it."""
    skb.out = port.name
    if port.port.oddity:
        v.unsupported(skb, "bridge setting", port.port.oddity)
        return
    if skb.bridged and skb.physin:
        cut = pieces(v, skb, port.mtu) if forward(v, skb, skb.bridged, port.name) else None
        if cut is None:
            return
    else:
        cut = [skb]
    for piece in cut:
        if port.fits(size(piece.packet)):
            v.go("transmit", piece)
        else:  # br_dev_queue_push_xmit
            length = size(piece.packet) - ETH_LEN
            v.drop(piece, Reason.NOT_SPECIFIED, f"{length} bytes and mtu {port.mtu} of {port.name}")
