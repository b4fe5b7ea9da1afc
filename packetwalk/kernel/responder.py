"""A program that answers ARP for an address which no device has, as MetalLB's speaker does: a packet socket."""

from __future__ import annotations

import socket
from contextlib import suppress

from packetwalk.packet import ARP_REPLY, ARP_REQUEST, ETH_ARP

_FRAME = 42  # an Ethernet header and ARP's; padding may follow


def listen(dev: str) -> socket.socket:
    """A socket that hears the ARP frames of a device of the namespace this thread is in. OSError without root."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind((dev, ETH_ARP))
    sock.setblocking(False)
    return sock


def respond(sock: socket.socket, addr: bytes, _: int = 0) -> None:
    """Answer a request for the address (4 bytes) with the device's own MAC, to whoever asked."""
    with suppress(OSError):  # the device is gone or down: the client will tell
        frame = sock.recv(2048)
        op, asker, target = frame[20:22], frame[22:32], frame[38:42]
        if len(frame) < _FRAME or op != ARP_REQUEST.to_bytes(2, "big") or target != addr:
            return
        mac = sock.getsockname()[4]
        header = asker[:6] + mac + ETH_ARP.to_bytes(2, "big")
        sock.send(header + frame[14:20] + ARP_REPLY.to_bytes(2, "big") + mac + addr + asker)
