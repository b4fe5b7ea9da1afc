"""`ip -j -d link` and `ip -j addr`: the devices of one namespace, their ports and addresses."""

from __future__ import annotations

from typing import Any

from packetwalk.addr import ANY, ZERO_MAC, IPv4, Mac
from packetwalk.netns.device import (
    SCOPES,
    Addr,
    Bridge,
    Device,
    Dummy,
    Geneve,
    Ipip,
    Loopback,
    Nic,
    Port,
    Tunnel,
    UnknownDevice,
    Veth,
    Vxlan,
)  # fmt: skip
from packetwalk.netns.namespace import Netns
from packetwalk.snapshot.reader import U8, U16, U24, U32, Record, SnapshotError, flag, number, shown, whole

KINDS: dict[str, type[Device]] = {
    "veth": Veth,
    "bridge": Bridge,
    "dummy": Dummy,
    "ipip": Ipip,
    "vxlan": Vxlan,
    "geneve": Geneve,
}
ODD_PORT = {
    "neigh_suppress": False,
    "isolated": None,
    "locked": False,
    "vlan_tunnel": False,
    "proxy_arp": False,
    "proxy_arp_wifi": False,
}
ODD_TUNNEL = ("external", "proxy", "rsc", "l2miss", "gbp", "gpe", "group", "group6", "remote6", "local6", "encap")


def load_link(room: Netns, link: Record) -> None:
    """One object of `ip -j -d link`."""
    name = link.need("ifname", str)
    flags = link.words("flags")
    kind = link.sub("linkinfo").get("info_kind", "", str)
    data = link.sub("linkinfo").sub("info_data")
    device: Device
    if "LOOPBACK" in flags:
        device = Loopback()
    elif kind in KINDS:
        odd = next((key for key in ODD_TUNNEL if issubclass(KINDS[kind], Tunnel) and data.values.get(key)), "")
        device = UnknownDevice(what=f"{kind} {odd}") if odd else KINDS[kind]()
    elif kind:
        device = UnknownDevice(what=kind)
    else:
        device = (
            Nic() if link.get("link_type", "", str) == "ether" else UnknownDevice(what=link.get("link_type", "?", str))
        )
    device.name, device.index = name, link.need("ifindex", whole(1, 0x7FFFFFFF))
    device.mtu = link.need("mtu", U32)
    device.mac = link.get("address", ZERO_MAC, Mac) if link.get("link_type", "", str) == "ether" else ZERO_MAC
    device.up, device.carrier = "UP" in flags, "NO-CARRIER" not in flags
    device.noarp = bool({"NOARP", "LOOPBACK"} & set(flags))
    if isinstance(device, Bridge):
        device.nf_call_iptables = data.get("nf_call_iptables", 0, number) == 1
        device.ageing = data.get("ageing_time", 30000, U32) * 10_000_000
        device.oddity = next((k for k in ("stp_state", "vlan_filtering") if data.get(k, 0, number)), "")
    if isinstance(device, Tunnel):
        _load_tunnel(device, data)
    room.devices[name] = device


def _load_tunnel(device: Tunnel, data: Record) -> None:
    def address(text: Any) -> IPv4:
        return ANY if text == "any" else IPv4(text)

    device.local = data.get("local", ANY, address)
    device.remote = data.get("remote", ANY, address)
    device.link = data.get("link", "", str)
    tos = data.get("tos", 0, lambda t: 1 if t == "inherit" else U8(t))
    device.tos_inherit, device.tos = bool(tos & 1), tos & ~1
    if isinstance(device, Vxlan | Geneve):
        device.vni = data.need("id", U24)
        device.dport = data.get("port", device.dport, U16)
        device.udp_csum = data.get("udp_csum", device.udp_csum, flag)
        device.df = data.get("df", "unset", str)
        device.ttl_inherit = (
            isinstance(device, Vxlan) and "ttl" not in data
        )  # iproute2 leaves it out (real-kernel.md 23)
    else:
        device.df = "set" if data.get("pmtudisc", True, flag) else "unset"
    device.ttl = data.get("ttl", 0, lambda t: 0 if t == "inherit" else U8(t))
    if isinstance(device, Vxlan):
        device.learning = data.get("learning", True, flag)
        device.ageing = data.get("ageing", 300, U32) * 1_000_000_000
        ports = data.sub("port_range")
        low, high = ports.get("low", 0, U16), ports.get("high", 0, U16)
        if high:
            device.sport_range = (low, high)


def load_ports(room: Netns, links: list[Record]) -> None:
    """Which devices are ports of a bridge, and their settings there."""
    for link in links:
        master = link.get("master", "", str)
        if not master:
            continue
        device = room.devices[link.need("ifname", str)]
        if device_of(room, link, master).kind != "bridge":
            room.devices[device.name] = UnknownDevice(device.name, device.index, device.mtu, what=f"port of {master}")
            continue
        info = link.sub("linkinfo").sub("info_slave_data")
        device.master = master
        device.port = Port(
            number=info.get("id", 0, number) & 0x3FF,
            hairpin=info.get("hairpin", False, flag),
            learning=info.get("learning", True, flag),
            flood=info.get("flood", True, flag),
            bcast_flood=info.get("bcast_flood", True, flag),
            mcast_flood=info.get("mcast_flood", True, flag),
            isolated=info.get("isolated", False, flag),
            state=info.get("state", "forwarding", str),
            oddity=next((k for k, off in ODD_PORT.items() if off is False and info.get(k, False, flag)), ""),
        )


def load_addrs(room: Netns, entry: Record) -> None:
    """One object of `ip -j addr`."""
    name = entry.need("ifname", str)
    device = device_of(room, entry, name)
    for info in entry.subs("addr_info"):
        if info.get("family", "inet", str) != "inet":
            continue
        device.addrs.append(
            Addr(
                info.need("local", IPv4),
                info.need("prefixlen", whole(0, 32)),
                info.get("scope", 0, scope_of),
                info.get("broadcast", None, IPv4),
                info.get("secondary", False, flag),
                info.get("label", name, str),
                info.get("address", None, IPv4),
            )
        )


def scope_of(value: Any) -> int:
    """A scope by name or number."""
    return SCOPES[value] if isinstance(value, str) and value in SCOPES else U8(value)


def device_of(room: Netns, entry: Record, name: str) -> Device:
    """The device that an entry names; SnapshotError if there is none."""
    if name not in room.devices:
        raise SnapshotError(f"{entry.path}: {entry.where}: there is no device {shown(name)} in link.json")
    return room.devices[name]
