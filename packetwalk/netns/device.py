"""Devices: data and small answers, no control flow.

What a device does with a packet is decided by the stages (`transmit`, `encap`, `bridge`); here stands what it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from packetwalk.addr import ANY, MASKS, ZERO_MAC, IPv4, Mac
from packetwalk.packet import ETH_LEN, GENEVE_LEN, IP_LEN, UDP_LEN, VXLAN_LEN

# Address scopes, include/uapi/linux/rtnetlink.h
SCOPE_GLOBAL, SCOPE_SITE, SCOPE_LINK, SCOPE_HOST, SCOPE_NOWHERE = 0, 200, 253, 254, 255
SCOPES = {"global": 0, "universe": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}


@dataclass(frozen=True, slots=True)
class Addr:
    """An address on a device, as `ip addr` lists it. `secondary`: another address of the same subnet came first."""

    local: IPv4
    length: int
    scope: int = SCOPE_GLOBAL
    broadcast: IPv4 | None = None
    secondary: bool = False
    label: str = ""
    peer: IPv4 | None = None

    def covers(self, other: int) -> bool:
        """Whether `other` is in this address's subnet (inet_ifa_match)."""
        return (other ^ (self.peer or self.local)) & MASKS[self.length] == 0

    def __str__(self) -> str:
        return f"{self.local}/{self.length}"


@dataclass(frozen=True, slots=True)
class Port:
    """How a bridge treats one of its ports (`bridge -d link`)."""

    number: int = 0
    hairpin: bool = False
    learning: bool = True
    flood: bool = True
    bcast_flood: bool = True
    mcast_flood: bool = True
    isolated: bool = False
    state: str = "forwarding"
    oddity: str = ""  # a port setting that is not modelled, by its own name


@dataclass(slots=True)
class Device:
    """What all devices have. `mtu` in bytes of the IP packet; `mac` is zero where there is no link layer address."""

    kind: ClassVar[str] = ""
    ether: ClassVar[bool] = True
    name: str = ""
    index: int = 0
    mtu: int = 1500
    mac: Mac = ZERO_MAC
    up: bool = True
    noarp: bool = False
    carrier: bool = True  # what a driver says; a veth with its peer and a bridge with ports derive it
    master: str = ""
    port: Port = field(default_factory=Port)
    addrs: list[Addr] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Administratively up and with a carrier: what `ip link` prints as UP,LOWER_UP."""
        return self.up and self.carrier

    @property
    def header_len(self) -> int:
        """Bytes of link layer header in front of the IP packet."""
        return ETH_LEN if self.ether else 0

    def fits(self, frame_len: int) -> bool:
        """Whether a frame of that length may be handed to this device
        (is_skb_forwardable: a VLAN tag is allowed for)."""
        return frame_len <= self.mtu + ETH_LEN + 4


@dataclass(slots=True)
class Loopback(Device):
    """`lo`: what goes out comes in again."""

    kind: ClassVar[str] = "loopback"
    mtu: int = 65536
    noarp: bool = True


@dataclass(slots=True)
class Nic(Device):
    """A network card: one end of a cable."""

    kind: ClassVar[str] = "nic"


@dataclass(slots=True)
class Veth(Device):
    """One end of a veth pair. `peer` is the other end's data (never its
    room): its state is our carrier, its MTU our limit."""

    kind: ClassVar[str] = "veth"
    peer: Device | None = field(default=None, repr=False, compare=False)

    @property
    def running(self) -> bool:
        return self.up and (self.carrier if self.peer is None else self.peer.up)


@dataclass(slots=True)
class Bridge(Device):
    """A Linux bridge with STP off. `ageing` in nanoseconds. `mtu_set`: someone chose its MTU, so it does not follow its
    ports' (BROPT_MTU_SET_BY_USER)."""

    kind: ClassVar[str] = "bridge"
    ageing: int = 300_000_000_000
    nf_call_iptables: bool = False
    mtu_set: bool = False
    oddity: str = ""
    ports: tuple[Device, ...] = field(default=(), repr=False, compare=False)

    @property
    def running(self) -> bool:
        """With ports, the carrier is there as long as one of them runs (br_port_state_selection)."""
        return self.up and (any(port.running for port in self.ports) if self.ports else self.carrier)


@dataclass(slots=True)
class Dummy(Device):
    """Takes every packet and drops it; there to hold addresses."""

    kind: ClassVar[str] = "dummy"
    noarp: bool = True


@dataclass(slots=True)
class Tunnel(Device):
    """What tunnel devices share. Zero `ttl` and `tos` mean the kernel's
    default; `link` is the underlay device or empty."""

    overhead: ClassVar[int] = 0
    local: IPv4 = ANY
    remote: IPv4 = ANY
    link: str = ""
    ttl: int = 0
    ttl_inherit: bool = False
    tos: int = 0
    tos_inherit: bool = False
    df: str = "unset"  # unset | set | inherit


@dataclass(slots=True)
class Ipip(Tunnel):
    """An ipip device. `remote` zero (tunl0) takes the next hop of the inner route as tunnel end."""

    kind: ClassVar[str] = "ipip"
    ether: ClassVar[bool] = False
    overhead: ClassVar[int] = IP_LEN
    noarp: bool = True


@dataclass(slots=True)
class Vxlan(Tunnel):
    """A vxlan device. Its FDB maps inner MACs to tunnel ends; the default destination is the all-zero MAC's entry.
    `ageing` of what it learned, in ns."""

    kind: ClassVar[str] = "vxlan"
    overhead: ClassVar[int] = IP_LEN + UDP_LEN + VXLAN_LEN + ETH_LEN
    vni: int = 0
    dport: int = 8472
    sport_range: tuple[int, int] = (32768, 60999)
    learning: bool = True
    ageing: int = 300_000_000_000
    udp_csum: bool = True


@dataclass(slots=True)
class Geneve(Tunnel):
    """A geneve device with one remote (point to point)."""

    kind: ClassVar[str] = "geneve"
    overhead: ClassVar[int] = IP_LEN + UDP_LEN + GENEVE_LEN + ETH_LEN
    vni: int = 0
    dport: int = 6081
    sport_range: tuple[int, int] = (1, 65535)
    udp_csum: bool = False


@dataclass(slots=True)
class UnknownDevice(Device):
    """A device of a kind packetwalk does not model. A packet that reaches it ends in an `unsupported` step."""

    ether: ClassVar[bool] = False  # nobody knows: `transmit` says so before anyone asks for a neighbour
    what: str = "?"


@dataclass(slots=True)
class DeviceConf:
    """net.ipv4.conf of one device as the kernel combines it with `all` (include/linux/inetdevice.h, IN_DEV_*)."""

    forwarding: bool
    rp_filter: int
    accept_local: bool
    route_localnet: bool
    src_valid_mark: bool
    proxy_arp: bool
    arp_ignore: int
    arp_announce: int
    arp_filter: bool
    arp_accept: int
    drop_gratuitous_arp: bool
    send_redirects: bool
    accept_redirects: bool
    secure_redirects: bool
    shared_media: bool
    bc_forwarding: bool
    ignore_routes_with_linkdown: bool
    drop_unicast_in_l2_multicast: bool
