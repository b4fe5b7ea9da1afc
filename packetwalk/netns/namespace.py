"""A network namespace: the tables, the verbs that fill them, and the three doors a packet may come by.

n = Netns("r1")
n.link_add("eth0", Veth(mac=Mac("02:00:00:00:00:01")))
n.addr_add("eth0", "10.0.0.1/24")
n.route_add("default", via="10.0.0.254")
steps = n.receive("eth0", packet, now=0)
"""

from __future__ import annotations

from typing import Any

from packetwalk.apps.program import Program
from packetwalk.netns import arp, fragment, process
from packetwalk.netns.device import Loopback
from packetwalk.netns.local import tcp_app, tcp_connect, tcp_timeout, udp_echo
from packetwalk.netns.socket import Readable, Socket
from packetwalk.netns.stack import STAGES
from packetwalk.netns.tcp import Connection
from packetwalk.netns.verbs import Verbs
from packetwalk.netns.visit import Skb, Visit
from packetwalk.packet import Ip, Packet
from packetwalk.trace import TASK, Reason, Step, Timer


class Netns(Verbs):
    """One Linux network namespace. It knows no other room and no clock; times are nanoseconds and come from outside."""

    def __init__(self, name: str, seed: int = 0) -> None:
        super().__init__(name, seed)
        self.link_add("lo", Loopback())
        self.addr_add("lo", "127.0.0.1/8", scope="host")

    def __repr__(self) -> str:
        return f"<Netns {self.name}: {', '.join(self.devices)}>"

    def overlay(self) -> Netns:
        """A namespace with the same configuration that learns into tables
        of its own, so that a walk changes nothing."""
        copy = Netns.__new__(Netns)
        self.learn_into(copy)
        return copy

    # -- the three doors -------------------------------------------------------------------------------------------

    def receive(self, dev: str, packet: Packet, now: int) -> list[Step]:
        """A frame arrives on a device. Returns everything that happened to it and because of it."""
        v = Visit(self, STAGES, now)
        v.go("receive", Skb(packet, dev))
        return v.finish()

    def send(self, packet: Packet, now: int, socket: Socket | None = None) -> list[Step]:
        """A program sends an IP packet; source, TTL and DF that it leaves open are filled in as the socket says."""
        v = Visit(self, STAGES, now, task=True)
        skb = Skb(packet)
        skb.socket = socket
        ip = packet.headers[0]
        assert isinstance(ip, Ip)
        if socket is not None and socket.addr:
            if not self.is_own(socket.addr):
                v.drop(
                    skb, Reason.IP_OUTNOROUTES, f"{socket.addr} is not an address of {self.name}", errno="EADDRNOTAVAIL"
                )
                return v.finish()
            skb.packet = packet.swap(ip._replace(src=socket.addr))
        v.go("route_out", skb)
        return v.finish()

    def connect(self, conn: Connection, now: int) -> list[Step]:
        """A program opens a TCP connection; a zero local address is chosen by the route."""
        v = Visit(self, STAGES, now, task=True)
        tcp_connect(v, conn)
        return v.finish()

    def run(self, program: Program[object], now: int, name: str = "client") -> list[Step]:
        """A program starts; it goes on by itself when what it waits for has come."""
        v = Visit(self, STAGES, now, task=True)
        process.start(v, name, program)
        return v.finish()

    def wake(self, timer: Timer, now: int) -> list[Step]:
        """A timer this room asked for is due."""
        v = Visit(self, STAGES, now, task=timer.context == TASK)
        key: Any = timer.key
        if timer.kind == "arp":
            arp.on_timer(v, *key)
        elif timer.kind == "napi":
            v.batch([Skb(packet, key, mark=mark) for packet, mark in self.cells.pop(key, ())])
        elif timer.kind == "frag":
            fragment.expire(v, key)
        elif timer.kind == "tcp":
            tcp_timeout(v, key)
        elif timer.kind == "resume":
            stage, pieces = key
            v.go(stage, pieces[0])
            if len(pieces) > 1:
                v.timer(Timer(now, "resume", (stage, pieces[1:]), context=TASK), pieces[1].packet)
        elif timer.kind == "alarm":
            process.alarm(v, key)
        elif isinstance(key, Readable) and key.socket.app == "responder":
            arp.respond(v, key)
        elif isinstance(key, Readable):
            (udp_echo if key.socket.app == "echo" else process.readable)(v, key)
        elif isinstance(key, Connection):
            tcp_app(v, key)
        return v.finish()

    # -- what ip prints --------------------------------------------------------------------------------------------

    @property
    def routes(self) -> str:
        """What `ip route` prints."""
        return "\n".join(map(str, self.listed_routes()))
