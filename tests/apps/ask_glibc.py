"""Runs in a network and mount namespace of its own: our server on 127.0.0.1, and the C library's resolver that asks it.

    python ask_glibc.py RESOLV_CONF '{"known": [NAME, ...], "ask": [NAME, ...]}'

It prints, for each name asked for, [(type, name, source port), ...] in the order of arrival, as JSON.
"""

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

from packetwalk.addr import IPv4
from packetwalk.apps import dns
from packetwalk.apps.dns import NOERROR, NXDOMAIN, SERVFAIL, Record
from packetwalk.apps.nameserver import Answer, NameServer
from packetwalk.apps.program import Clock, Peer, Receive, Send

RCODES = {"void": NOERROR, "broken": SERVFAIL}


class Known:
    """A zone of some names, all with one address; `void.` has none, and about `broken.` the server fails."""

    def __init__(self, names: list[str]) -> None:
        self.names = set(names)

    def find(self, name: str, type: str) -> Answer:
        """The answer for any name."""
        if name.partition(".")[0] in RCODES:
            return Answer(RCODES[name.partition(".")[0]])
        if name not in self.names:
            return Answer(NXDOMAIN)
        return Answer(NOERROR, (Record(name, "A", 30, "192.0.2.1"),) if type == "A" else ())


def lost(query: dns.Message, seen: Sequence[tuple[object, ...]]) -> bool:
    """Questions that get no answer: all about `mute.`, and the first for an IPv6 address of `deaf.`"""
    first = query.name.partition(".")[0]
    times = sum(one[:2] == (query.type, query.name) for one in seen)
    return first == "mute" or (first == "deaf" and query.type == "AAAA" and times == 1)


def serve(sock: socket.socket, server: NameServer, seen: list[tuple[str, str, int]]) -> None:
    """Run the server's program for each datagram, with the socket's real system calls behind it."""
    while True:
        data, (addr, port) = sock.recvfrom(4096)
        query = dns.decode(data)
        seen.append((query.type, query.name, port))
        if lost(query, seen):
            continue
        program = server.serve(Peer("udp", IPv4(addr), port), {})
        answer: object = None
        try:
            while True:
                call = program.send(answer)
                if isinstance(call, Send):
                    sock.sendto(call.data, (addr, port))
                answer = data if isinstance(call, Receive) else 0 if isinstance(call, Clock) else None
        except StopIteration:
            pass


def main() -> None:
    """Set the namespace up, start the server, ask."""
    conf, asked = sys.argv[1], json.loads(sys.argv[2])
    for command in (["ip", "link", "set", "lo", "up"], ["mount", "--bind", conf, "/etc/resolv.conf"]):
        subprocess.run(command, check=True)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", dns.PORT))
    seen: list[tuple[str, str, int]] = []
    server = NameServer("ours", (Known(asked["known"]),))
    threading.Thread(target=serve, args=(sock, server, seen), daemon=True).start()
    found = {}
    getent = shutil.which("getent") or "getent"
    for name in asked["ask"]:
        seen.clear()
        done = subprocess.run([getent, "ahosts", name], capture_output=True, text=True, check=False, timeout=60)
        found[name] = {"queries": list(seen), "address": done.stdout.split(" ")[0].strip()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
