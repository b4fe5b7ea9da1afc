"""What a walk adds up to: rooms, tunnels and their bytes, TTL spent, the path MTU, drops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from packetwalk.packet import Geneve, Icmp, Ip, Packet, Vxlan, header_len, innermost, is_icmp_error, quoted

if TYPE_CHECKING:
    from packetwalk.trace import Hop, Step, Trace

LARGEST = 65535
"""bytes of the largest IP packet"""
VLAN_TAG = 4


class Totals(NamedTuple):
    """ttl: what forwarding took off the request. tunnels: kind -> bytes it puts in front of the packet.

    path_mtu: bytes of the largest packet from the sender that gets whole as far as the request did, whatever tunnels
    it passes; 0 where no route was found for it.
    """

    rooms: int
    tunnels: dict[str, int]
    ttl: int
    path_mtu: int
    drops: int


def totals(trace: Trace) -> Totals:
    """Add up a walk."""
    tunnels: dict[str, int] = {}
    for hop in trace.hops:
        for before, step in zip(hop.steps, hop.steps[1:], strict=False):
            if step.stage == "encap":
                tunnels[tunnel_of(step.packet)] = overhead(step.packet) - overhead(before.packet)
    ttls = [ip.ttl for _, _, step in request(trace) if (ip := innermost(step.packet)) is not None and ip.ttl]
    limits = [limit for hop, i, step in request(trace) for limit in _limits(trace, hop, i, step)]
    rooms = len({hop.room for hop in trace.hops})
    spent = ttls[0] - min(ttls) if ttls else 0
    return Totals(rooms, tunnels, spent, min([*limits, LARGEST]) if limits else 0, len(trace.drops))


def overhead(packet: Packet) -> int:
    """Bytes between the outermost IP header and the innermost one: what tunnels put in front of the packet."""
    ips = [i for i, h in enumerate(packet.headers) if isinstance(h, Ip)]
    return sum(map(header_len, packet.headers[ips[0] : ips[-1]])) if len(ips) > 1 else 0


def tunnel_of(packet: Packet) -> str:
    """The kind of the outermost tunnel a packet is in."""
    return next((type(h).__name__.lower() for h in packet.headers if isinstance(h, Vxlan | Geneve)), "ipip")


def request(trace: Trace) -> Iterator[tuple[Hop, int, Step]]:
    """(hop, index, step) of what the sender sent, until it first reaches somebody; no ARP and no ICMP errors."""
    for hop in trace.hops:
        for i, step in enumerate(hop.steps):
            if any(isinstance(h, Ip) for h in step.packet.headers) and not _complaint(step):
                yield hop, i, step
            if step.stage == "deliver" and hop.room != trace.flow.src and getattr(step.what, "kind", "arp") != "arp":
                return


def _complaint(step: Step) -> bool:
    ips = [i for i, h in enumerate(step.packet.headers) if isinstance(h, Ip)]
    inner = Packet(step.packet.headers[ips[-1] :], step.packet.payload)
    return is_icmp_error(inner) and step.stage != "icmp_error"


def _limits(trace: Trace, hop: Hop, i: int, step: Step) -> Iterator[int]:
    """What a step lets through, in bytes of the innermost packet."""
    network: Any = trace.after
    what, cost = step.what, overhead(step.packet)
    devices = network[hop.room].devices if network is not None else {}
    device = devices.get(step.dev)
    if step.stage in ("route_in", "route_out") and getattr(what, "type", "unicast") == "unicast":
        yield (getattr(what, "mtu", 0) or getattr(device, "mtu", LARGEST)) - cost
    elif step.stage == "transmit" and device is not None and device.master:  # is_skb_forwardable, as below
        filtered = devices[device.master].nf_call_iptables  # then br_netfilter cuts what exceeds the port's MTU
        yield device.mtu + (0 if filtered else VLAN_TAG) - cost
    elif step.stage == "receive" and i == 0 and device is not None and device.kind == "veth":
        yield device.mtu + VLAN_TAG - cost
    elif step.stage == "icmp_error" and isinstance(what, Icmp) and what.mtu:
        yield what.mtu - overhead(quoted(step.packet) or step.packet)
