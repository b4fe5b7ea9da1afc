"""Connections of IPVS, in a table of their own beside connection tracking (net/netfilter/ipvs/ip_vs_conn.c,
ip_vs_proto_tcp.c, ip_vs_proto_udp.c).

Each has a client, the virtual address it asked for and the real server it got. A template (client port 0) remembers for
a persistent service which server a client belongs to.
"""

from __future__ import annotations

from typing import NamedTuple

from packetwalk.addr import ANY, IPv4
from packetwalk.packet import PROTO_TCP, PROTO_UDP, Tcp

SECOND = 1_000_000_000
FIRST_TIMEOUT = 3 * SECOND  # ip_vs_conn_new: until its first packet sets a state
CONTROL_TIMEOUT = 60 * SECOND  # ip_vs_conn_expire: how long what still controls others is kept on
PROTO_SCTP = 132
PROTOCOLS = {"-t": PROTO_TCP, "-u": PROTO_UDP, "--sctp-service": PROTO_SCTP}
WORDS = {number: word for word, number in PROTOCOLS.items()}
NAMES = {PROTO_TCP: "TCP", PROTO_UDP: "UDP", PROTO_SCTP: "SCTP", 0: "IP"}

# tcp_timeouts and udp_timeouts, in seconds
TIMEOUTS = {
    "NONE": 2, "ESTABLISHED": 900, "SYN_SENT": 120, "SYN_RECV": 60, "FIN_WAIT": 120, "TIME_WAIT": 120, "CLOSE": 10,
    "CLOSE_WAIT": 60, "LAST_ACK": 30, "LISTEN": 120, "SYNACK": 120, "UDP": 300,
}  # fmt: skip
STATES = ("NONE", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK",
          "LISTEN", "SYNACK")  # fmt: skip
_SHORT = dict(zip(("NO", "ES", "SS", "SR", "FW", "TW", "CL", "CW", "LA", "LI", "SA"), STATES, strict=True))
# tcp_states: for packets to the server and from it, by the kind of segment, the new state for each old one
_ROWS = {
    "input": {
        # old:  NO ES SS SR FW TW CL CW LA LI SA
        "syn": "SR ES ES SR SR SR SR SR SR SR SR",
        "fin": "CL CW SS TW TW TW CL CW LA LI TW",
        "ack": "CL ES SS ES FW TW CL CW CL LI ES",
        "rst": "CL CL CL SR CL CL CL CL LA LI SR",
    },
    "output": {
        "syn": "SS ES SS SR SS SS SS SS SS LI SR",
        "fin": "TW FW SS TW FW TW CL TW LA LI TW",
        "ack": "ES ES SS ES FW TW CL CW LA ES ES",
        "rst": "CL CL SS CL CL TW CL CL CL CL CL",
    },
}
NEXT = {
    way: {kind: dict(zip(STATES, (_SHORT[s] for s in row.split()), strict=True)) for kind, row in rows.items()}
    for way, rows in _ROWS.items()
}


class Key(NamedTuple):
    """What tells services apart: a firewall mark, or protocol, address and port (0: every port of a persistent
    one)."""

    proto: int = 0
    addr: IPv4 = ANY
    port: int = 0
    mark: int = 0

    @property
    def words(self) -> str:
        """As an argument of ipvsadm: `-t 10.96.0.1:443` or `-f 7`."""
        return f"-f {self.mark}" if self.mark else f"{WORDS[self.proto]} {self.addr}:{self.port}"

    def __str__(self) -> str:
        return f"FWM  {self.mark}" if self.mark else f"{NAMES[self.proto]:<4} {self.addr}:{self.port}"


class Client(NamedTuple):
    """How a packet towards the server is known: who sends it, to which virtual address."""

    proto: int
    caddr: IPv4
    cport: int
    vaddr: IPv4
    vport: int


class VsConn:
    """A connection (struct ip_vs_conn).

    service: the key of its virtual service; server_port: the port its real server is listed with; tracked: whether
    connection tracking follows it; control: its template; controls: how many connections a template has. Times in ns.
    """

    __slots__ = ("client", "control", "controls", "daddr", "dport", "expires", "one_packet", "server_port", "service",
                 "state", "template", "timeout", "tracked")  # fmt: skip

    def __init__(self, client: Client, daddr: IPv4, dport: int, service: Key) -> None:
        self.client, self.daddr, self.dport, self.service = client, daddr, dport, service
        self.server_port = dport
        self.state, self.timeout, self.expires = "NONE", FIRST_TIMEOUT, 0
        self.template = self.tracked = self.one_packet = False
        self.control: VsConn | None = None
        self.controls = 0

    def copy(self) -> VsConn:
        """As it is now: evidence for a trace, or an overlay's own."""
        twin = VsConn.__new__(VsConn)
        for slot in VsConn.__slots__:
            setattr(twin, slot, getattr(self, slot))
        return twin

    @property
    def server(self) -> tuple[int, IPv4, int, IPv4, int]:
        """How a packet of the server's is known: protocol, server and client."""
        c = self.client
        return (c.proto, self.daddr, self.dport, c.caddr, c.cport)

    def follow(self, tcp: Tcp | None, way: str) -> None:
        """set_tcp_state, udp_state_transition: the state after a packet to the server (`input`) or from it (`output`).
        """
        if tcp is None:
            self.state = "UDP"
        else:
            kind = next((name for flag, name in KINDS if flag in tcp.flags), "")
            self.state = NEXT[way][kind][self.state] if kind else "CLOSE"
        self.timeout = TIMEOUTS[self.state] * SECOND
        if self.control is not None and self.state in ("ESTABLISHED", "UDP"):  # ip_vs_control_assure_ct
            self.control.state = "ASSURED"

    def text(self, now: int) -> str:
        """The line ipvsadm -Lnc prints."""
        c, left = self.client, max(self.expires - now, 0) // SECOND
        expires = f"{left // 60:02}:{left % 60:02}"
        virtual = f"{c.vaddr}:{c.vport}"
        return (
            f"{NAMES[c.proto]:<3} {expires:<6} {self.state:<11} {f'{c.caddr}:{c.cport}':<18} {virtual:<18} "
            f"{self.daddr}:{self.dport}"
        )


KINDS = (("R", "rst"), ("S", "syn"), ("F", "fin"), ("A", "ack"))  # tcp_state_idx


class VsConns:
    """The connections of a namespace, found by what the client sends or what the server sends; the newest one where
    several would do."""

    __slots__ = ("by_client", "by_server", "due")

    def __init__(self) -> None:
        self.by_client: dict[Client, VsConn] = {}
        self.by_server: dict[tuple[int, IPv4, int, IPv4, int], VsConn] = {}
        self.due = 0  # none expires earlier

    def overlay(self) -> VsConns:
        """The same connections, each a copy: what a walk changes in them is its own."""
        copy = VsConns()
        twins = {id(c): c.copy() for c in self.by_client.values()}
        for twin in twins.values():
            twin.control = twins.get(id(twin.control)) if twin.control is not None else None
        copy.by_client = {key: twins[id(c)] for key, c in self.by_client.items()}
        copy.by_server = {key: twins[id(c)] for key, c in self.by_server.items()}
        copy.due = self.due
        return copy

    def add(self, conn: VsConn, now: int) -> None:
        """ip_vs_conn_new and its hashing. One that lives for a single packet is not found again."""
        if conn.one_packet:
            return
        self.by_client[conn.client] = conn
        if not conn.template:
            self.by_server[conn.server] = conn
        if conn.control is not None:
            conn.control.controls += 1
        self.touch(conn, now)

    def touch(self, conn: VsConn, now: int) -> None:
        """ip_vs_conn_put: the connection lives for its timeout from now on."""
        conn.expires = now + conn.timeout
        self.due = min(self.due, conn.expires) if len(self.by_client) > 1 else conn.expires

    def remove(self, conn: VsConn) -> None:
        """ip_vs_conn_unlink; its template may go once nothing is left that it controls."""
        if self.by_client.get(conn.client) is conn:
            del self.by_client[conn.client]
        if self.by_server.get(conn.server) is conn:
            del self.by_server[conn.server]
        if conn.control is not None:
            conn.control.controls -= 1

    def expire(self, now: int) -> list[VsConn]:
        """ip_vs_conn_expire for all whose time is up; returns those that are gone."""
        if not self.by_client or now < self.due:
            return []
        gone: list[VsConn] = []
        while due := [c for c in self.by_client.values() if c.expires <= now]:
            conn = min(due, key=lambda c: (c.expires, c.template))  # in the order of their timers
            if conn.controls:
                conn.expires += CONTROL_TIMEOUT
            else:
                self.remove(conn)
                gone.append(conn)
        self.due = min((c.expires for c in self.by_client.values()), default=0)
        return gone

    def counts(self, service: Key, addr: IPv4, port: int) -> tuple[int, int]:
        """How many of a server's connections are established, and how many are not; templates do not count."""
        mine = [
            c.state == "ESTABLISHED"
            for c in self.by_client.values()
            if not c.template and (c.service, c.daddr, c.server_port) == (service, addr, port)
        ]
        return sum(mine), len(mine) - sum(mine)

    def listing(self, now: int) -> list[str]:
        """What ipvsadm -Lnc prints."""
        head = f"pro expire {'state':<11} {'source':<18} {'virtual':<18} destination"
        return ["IPVS connection entries", head, *(c.text(now) for c in self.by_client.values())]
