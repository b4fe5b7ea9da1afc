"""What ipvsadm is told on a command line, or reads with -R, done to the virtual services of a namespace.

    ipvsadm(room.ipvs, "-a -t 10.96.0.1:80 -r 10.244.2.2:8080 -m".split())

Everything wrong is a ValueError of one line, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from packetwalk.addr import IPv4
from packetwalk.hint import nearest, unknown
from packetwalk.netns.ipvs import FORWARDING, Ipvs, RealServer, VirtualService
from packetwalk.netns.ipvs_conn import PROTOCOLS, Key
from packetwalk.netns.option import number

COMMANDS = {
    "--add-service": "-A", "--edit-service": "-E", "--delete-service": "-D", "--clear": "-C", "--add-server": "-a",
    "--edit-server": "-e", "--delete-server": "-d",
}  # fmt: skip
OPTIONS = {
    "--tcp-service": "-t", "--udp-service": "-u", "--fwmark-service": "-f", "--scheduler": "-s", "--persistent": "-p",
    "--netmask": "-M", "--ops": "-o", "--sched-flags": "-b", "--real-server": "-r", "--masquerading": "-m",
    "--gatewaying": "-g", "--ipip": "-i", "--weight": "-w", "--u-threshold": "-x", "--l-threshold": "-y",
}  # fmt: skip
NOT_MODELLED = ("-x", "-y", "--tun-type", "--tun-port")  # each has a value
DEFAULT_PERSISTENCE = 300  # IPVS_SVC_PERSISTENT_TIMEOUT of ipvsadm


def ipvsadm(ipvs: Ipvs, words: list[str], where: str = "") -> None:
    """Do one command. where: "FILE:LINE" of the words."""
    if not words:
        raise ValueError(f"a command was expected: {', '.join(COMMANDS.values())}")
    command, *rest = (OPTIONS.get(word, word) for word in words)
    command = COMMANDS.get(command, command)
    left = iter(rest)
    if command == "-C":
        _end_of(left)
        ipvs.clear()
    elif command in ("-A", "-E"):
        (ipvs.add if command == "-A" else ipvs.edit)(_service(left, where))
    elif command == "-D":
        key = _key(left)
        _end_of(left)
        ipvs.remove(key)
    elif command in ("-a", "-e", "-d"):
        do = {"-a": ipvs.add_server, "-e": ipvs.edit_server, "-d": ipvs.remove_server}[command]
        do(*_server(left))
    else:
        raise ValueError(unknown("command of ipvsadm", words[0], (*COMMANDS.values(), *COMMANDS)))


def _service(words: Iterator[str], where: str) -> VirtualService:
    service = VirtualService(_key(words), where=where)
    for word in words:
        if word == "-s":
            service = replace(service, scheduler=_next(words, word))
        elif word == "-p":
            service = replace(service, persistent=number(_next(words, word, str(DEFAULT_PERSISTENCE)), 1, 31 * 86400))
        elif word == "-M":
            service = replace(service, netmask=IPv4(_next(words, word)))
        elif word == "-o":
            service = replace(service, one_packet=True)
        elif word == "-b":
            service = replace(service, flags=tuple(_next(words, word).split(",")))
        elif word == "--pe":
            service = replace(service, engine=_next(words, word))
        else:
            raise ValueError(_stray(word, ("-s", "-p", "-M", "-o", "-b", "--pe")))
    return service


def _server(words: Iterator[str]) -> tuple[Key, RealServer]:
    key, server = _key(words), None
    for word in words:
        if word == "-r":
            server = RealServer(*_end(_next(words, word), key.port), forward="Route")
        elif server is None:
            raise ValueError(f"`-r ADDRESS:PORT` was expected, not {word!r}")
        elif word in FORWARDING:
            server = server._replace(forward=FORWARDING[word])
        elif word == "-w":
            server = server._replace(weight=number(_next(words, word), 0, 65535))
        elif word in NOT_MODELLED:
            server = server._replace(rest=(*server.rest, word, _next(words, word)))
        else:
            raise ValueError(_stray(word, (*FORWARDING, "-w", *NOT_MODELLED)))
    if server is None:
        raise ValueError("a real server was expected: `-r ADDRESS:PORT`")
    return key, server


def _key(words: Iterator[str]) -> Key:
    """`-t ADDRESS:PORT`, or `-f MARK`."""
    kind = next(words, "")
    if kind == "-f":
        return Key(mark=number(_next(words, kind), 1, 0xFFFFFFFF))
    if kind not in PROTOCOLS:
        raise ValueError(f"a service was expected: {', '.join((*PROTOCOLS, '-f'))}, not {kind!r}")
    addr, port = _end(_next(words, kind), 0)
    return Key(PROTOCOLS[kind], addr, port)


def _end(text: str, port: int) -> tuple[IPv4, int]:
    """`10.96.0.1:443`, or an address alone."""
    addr, colon, rest = text.partition(":")
    return IPv4(addr), number(rest, 0, 0xFFFF) if colon else port


def _next(words: Iterator[str], option: str, default: str = "") -> str:
    found = next(words, default)
    if not found:
        raise ValueError(f"{option} needs a value")
    return found


def _end_of(words: Iterator[str]) -> None:
    if (word := next(words, None)) is not None:
        raise ValueError(f"{word!r} is one word too many")


def _stray(word: str, known: tuple[str, ...]) -> str:
    return f"there is no option {word!r} here; {nearest(word, (*known, *(s for s in OPTIONS if OPTIONS[s] in known)))}"
