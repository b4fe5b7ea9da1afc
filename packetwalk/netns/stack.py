"""THE FILE TO READ: every stage of a packet through a room, and which stage may follow which.

A stage takes the visit and the packet, notes what it did as a step, and returns the name of the next stage; None ends
the branch. The table below is the whole control flow; a test checks that no stage returns anything else. The stages
live where the kernel keeps them: `ip_input`, `ip_forward`, `ip_output`, `arp`, `bridge`, `icmp`, `encap`, `local`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from packetwalk.netns import arp, bridge, encap, icmp, ip_forward, ip_input, ip_output, local
from packetwalk.netns.visit import Stage

END = None

FOLLOWS: Mapping[str, frozenset[str | None]] = MappingProxyType(
    {
        # in by a device; a bridge port belongs to its bridge
        "receive": frozenset({"link_in"}),
        "link_in": frozenset({"bridge", "arp", "prerouting", END}),
        "bridge": frozenset({"bridge_finish", END}),
        "bridge_finish": frozenset({END}),
        "arp": frozenset({END}),
        # layer 3, towards this host or through it
        "prerouting": frozenset({"route_in", END}),
        "route_in": frozenset({"input", "forward", "ip_error", END}),
        "forward": frozenset({"postrouting", "output", "icmp_error", END}),
        "ip_error": frozenset({"icmp_error", END}),
        "input": frozenset({"local", "output", "icmp_error", END}),  # IPVS sends on, or refuses
        "local": frozenset({"icmp", "decap", "icmp_error", END}),
        "decap": frozenset({END}),
        "icmp": frozenset({"tcp_shrink", "arp_ask", END}),
        "tcp_shrink": frozenset({END}),
        # out of this host; an ICMP error is born beside a drop
        "icmp_error": frozenset({END}),
        "route_out": frozenset({"output", END}),
        "output": frozenset({"postrouting", "output", "icmp_error", END}),
        "postrouting": frozenset({"neigh", "icmp_error", END}),
        "neigh": frozenset({"transmit", "arp_resolve", END}),
        "arp_resolve": frozenset({END}),
        "arp_ask": frozenset({END}),
        "transmit": frozenset({"bridge_xmit", "encap", END}),
        "bridge_xmit": frozenset({"bridge_finish", END}),
        "encap": frozenset({"route_out", "icmp_error", END}),
    }
)
"""Stage: the stages that may come next in the same branch. A stage that forks starts branches of its own
(`Visit.go`)."""

STAGES: Mapping[str, Stage] = MappingProxyType(
    {
        "receive": ip_input.receive,
        "link_in": ip_input.link_in,
        "bridge": bridge.bridge,
        "bridge_finish": bridge.bridge_finish,
        "arp": arp.arp,
        "prerouting": ip_input.prerouting,
        "route_in": ip_input.route_in,
        "forward": ip_forward.forward,
        "ip_error": ip_forward.ip_error,
        "input": ip_input.input_,
        "local": local.local,
        "decap": encap.decap,
        "icmp": icmp.icmp,
        "tcp_shrink": local.tcp_shrink,
        "icmp_error": icmp.icmp_error,
        "route_out": ip_output.route_out,
        "output": ip_output.output,
        "postrouting": ip_output.postrouting,
        "neigh": ip_output.neigh,
        "arp_resolve": arp.arp_resolve,
        "arp_ask": arp.arp_ask,
        "transmit": ip_output.transmit,
        "bridge_xmit": bridge.bridge_xmit,
        "encap": encap.encap,
    }
)
