"""Netfilter: rules, NAT, connection tracking, br_netfilter: small networks and what to send through them."""

from __future__ import annotations

from tests.kernel.lab import Asked, Lab, line, probe
from tests.kernel.labs_link import switched

CALLS = "net.bridge.bridge-nf-call-iptables"


def ruled(room: str, *rules: str, lab: Lab | None = None) -> Lab:
    """A network with rules in one room, each `TABLE RULE`."""
    lab = lab or line()
    for text in rules:
        table, _, rule = text.partition(" ")
        lab.rules_of(room).lines.setdefault(table, []).append(rule)
    lab.load_rules()
    return lab


ALL = [
    probe("icmp a 10.0.2.2"),
    probe("udp a 10.0.2.2:80"),
    probe("tcp a 10.0.2.2:80"),
    probe("tcp a 10.0.2.2:81"),
    probe("icmp a 10.0.2.2", size=3000, df=False),
    probe("udp a 10.0.2.2:80", size=3000, df=False),
]


def dropped_on_the_way() -> Asked:
    return ruled("r", "filter -A FORWARD -p udp -j DROP", "filter -A FORWARD -p tcp -m tcp --dport 81 -j DROP"), ALL


def rejected_on_the_way() -> Asked:
    rules = ("filter -A FORWARD -p tcp -j REJECT --reject-with tcp-reset", "filter -A FORWARD -p udp -j REJECT",
             "filter -A FORWARD -p icmp -j REJECT --reject-with icmp-admin-prohibited")  # fmt: skip
    return ruled("r", *rules), ALL


def refused_at_home() -> Asked:
    return ruled("a", "filter -A OUTPUT -p udp -j DROP", "filter -A OUTPUT -p tcp -j REJECT"), ALL


def stateful() -> Asked:
    rules = ("filter -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
             "filter -A FORWARD -i eth0 -p tcp -j ACCEPT", "filter -A FORWARD -j DROP")  # fmt: skip
    return ruled("r", *rules), [*ALL, probe("icmp b 10.0.1.2"), probe("tcp b 10.0.1.2:80")]


def masqueraded() -> Asked:
    return ruled("r", "nat -A POSTROUTING -o eth1 -j MASQUERADE"), [*ALL, probe("udp a 10.0.2.2:81")]


def redirected_to_another_host() -> Asked:
    rules = [f"nat -A PREROUTING -d 10.0.9.9/32 -p {p} -m {p} --dport 8000 -j DNAT --to-destination 10.0.2.2:80"
             for p in ("tcp", "udp")]  # fmt: skip
    return ruled("r", *rules), [probe("tcp a 10.0.9.9:8000"), probe("udp a 10.0.9.9:8000"), probe("icmp a 10.0.9.9")]


def redirected_at_home() -> Asked:
    rule = "nat -A OUTPUT -d 10.0.9.9/32 -p tcp -m tcp --dport 8000 -j DNAT --to-destination 10.0.2.2:80"
    return ruled("a", rule), [probe("tcp a 10.0.9.9:8000"), probe("tcp a 10.0.2.2:80")]


def marked_and_routed() -> Asked:
    lab = ruled("r", "mangle -A PREROUTING -p udp -j MARK --set-xmark 0x1/0xffffffff")
    lab["r"].rule_add(100, "prohibit", fwmark=1, fwmask=0xFFFFFFFF)
    return lab, ALL


def untracked() -> Asked:
    rules = ("raw -A PREROUTING -p icmp -j CT --notrack", "filter -A FORWARD -m conntrack --ctstate UNTRACKED -j DROP")
    return ruled("r", *rules), ALL


def bridged(*rules: str, forwarding: int = 0, addr: str = "10.0.0.254/24") -> Lab:
    """Three hosts on a switch that shows its rules what it bridges; h1 takes 10.0.0.9 for h3."""
    lab = switched()
    if addr:
        lab["sw"].addr_add("br0", addr)
    lab["sw"].sysctl(CALLS, 1)
    lab["sw"].sysctl("net.ipv4.ip_forward", forwarding)
    lab["h1"].neigh_add("10.0.0.9", lab["h3"].devices["eth0"].mac, "eth0")
    return ruled("sw", *rules, lab=lab)


SERVICE = [probe("icmp h1 10.0.0.9"), probe("tcp h1 10.0.0.9:80"), probe("icmp h1 10.0.0.2"), probe("icmp h1 10.0.0.9")]
TO_H2 = "nat -A PREROUTING -d 10.0.0.9/32 -j DNAT --to-destination 10.0.0.2"


def bridged_and_dropped() -> Asked:
    return bridged("filter -A FORWARD -p icmp -j DROP"), SERVICE


def bridged_and_redirected() -> Asked:
    """real-kernel.md 1."""
    return bridged(TO_H2, forwarding=1), SERVICE


def bridged_and_redirected_by_a_switch_that_does_not_forward() -> Asked:
    return bridged(TO_H2), SERVICE


def bridged_and_redirected_by_a_switch_without_an_address() -> Asked:
    """The way back has no route: the frame goes up to the switch itself, which drops it (ip_error)."""
    return bridged(TO_H2, addr=""), SERVICE


def bridged_with_another_source() -> Asked:
    return bridged("nat -A POSTROUTING -j SNAT --to-source 10.0.0.77", addr=""), SERVICE


def bridged_in_pieces(bridge_mtu: int, port_mtu: int = 1500) -> Asked:
    """br_nf_ip_fragment asks the MTU of the bridge, not that of the port."""
    lab = bridged("filter -A FORWARD -m conntrack --ctstate INVALID -j DROP")
    lab["sw"].link_set("p2", mtu=port_mtu)
    lab["sw"].link_set("br0", mtu=bridge_mtu)
    return lab, [probe("udp h1 10.0.0.2:80", size=n, df=False) for n in (1470, 1472, 2000, 3000)]


def bridged_in_pieces_by_a_bridge_of_its_ports_mtu() -> Asked:
    return bridged_in_pieces(1500)


def bridged_in_pieces_by_a_smaller_bridge() -> Asked:
    return bridged_in_pieces(1488)


def bridged_in_pieces_by_a_larger_bridge() -> Asked:
    return bridged_in_pieces(1600)


def bridged_in_pieces_to_a_smaller_port() -> Asked:
    return bridged_in_pieces(1500, 1400)


LABS = {
    lab.__name__: lab
    for lab in (
        dropped_on_the_way, rejected_on_the_way, refused_at_home, stateful, masqueraded, redirected_to_another_host,
        redirected_at_home, marked_and_routed, untracked, bridged_and_dropped, bridged_and_redirected,
        bridged_and_redirected_by_a_switch_that_does_not_forward,
        bridged_and_redirected_by_a_switch_without_an_address, bridged_with_another_source,
        bridged_in_pieces_by_a_bridge_of_its_ports_mtu, bridged_in_pieces_by_a_smaller_bridge,
        bridged_in_pieces_by_a_larger_bridge, bridged_in_pieces_to_a_smaller_port,
    )
}  # fmt: skip
