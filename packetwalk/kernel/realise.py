"""Any Network as real network namespaces of this machine, built by the very lines `packetwalk commands` prints.

    with realise(network) as real:
        real.output("r1", "ip", "route")             # what a tool says in there
        with real.inside("r1"):                      # sockets opened here belong to the room
            ...

A namespace is called by `leftovers.prefix` and the room's name, with everything but letters, digits, `_`, `.` and `-`
as `_`, cut to 40 characters. It wants Linux, root and iproute2.

Nothing stays behind: not after an exception, Ctrl-C or SIGTERM, and what a kill -9 leaves is removed by the next start.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import re
import shutil
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path
from types import FrameType, TracebackType
from typing import NamedTuple

from packetwalk.commands import commands, restores
from packetwalk.kernel.doors import Refused, batch, run, setns, sysctl_path, undisturbed, write_sysctl, write_sysctls
from packetwalk.kernel.leftovers import HOST_TUNNELS, NETNS, delete, no_fallback_tunnels, prefix, sweep
from packetwalk.netns.device import Bridge, Veth
from packetwalk.netns.namespace import Netns
from packetwalk.netns.tables import CONF_DEFAULTS
from packetwalk.network import Network
from packetwalk.packet import PROTO_SCTP

SETTLE = 3.0
"""Seconds that carriers and bridge ports may take to come up."""

# What would disturb a recording: neighbours checked again on a timer, what hosts say unasked
QUIET = {
    "net.ipv4.igmp_link_local_mcast_reports": 0,
    "net.ipv6.conf.all.disable_ipv6": 1,
    "net.ipv6.conf.default.disable_ipv6": 1,
}
QUIET_DEVICE = {"proxy_delay": 0, "delay_first_probe_time": 3600, "base_reachable_time_ms": 36_000_000}

# How to try for a kind of device: the least that `ip link add` takes
TRIES = {
    "veth": "type veth peer name try1",
    "bridge": "type bridge",
    "dummy": "type dummy",
    "vxlan": "type vxlan id 1 dstport 4789",
    "ipip": "type ipip local 192.0.2.1 remote 192.0.2.2",
    "geneve": "type geneve id 1 remote 192.0.2.1",
}
_SIOCGIFFLAGS, _IFF_RUNNING = 0x8913, 0x40


class MissingFeature(RuntimeError):
    """This machine cannot build the network; `features` names what is not there (ipip, geneve, root, ...)."""

    def __init__(self, features: Iterable[str]) -> None:
        self.features = tuple(features)
        super().__init__(f"missing here: {', '.join(self.features)}")


def realise(network: Network, files: Path | None = None) -> Realised:
    """The network as real namespaces, for a `with`. `files` is the snapshot's folder, where rule files are.

    Raises MissingFeature for what this machine has not, Refused for a line that fails; then, too, nothing stays behind.
    """
    return Realised(network, files)


def missing_features(network: Network) -> tuple[str, ...]:
    """What the network needs and this machine has not, by trying (never by a version)."""
    if os.geteuid() != 0:
        return ("root",)
    tools = [tool for tool in ("ip", "bridge") if shutil.which(tool) is None]
    if tools:
        return tuple(tools)
    devices = [(d, (r.name, d.name) in network.wires) for r in network for d in r.devices.values()]
    kinds = {"veth" if wired else "dummy" if isinstance(d, Veth) else d.kind for d, wired in devices} & set(TRIES)
    missing = [kind for kind in sorted(kinds) if not _makes(kind)]
    if any(wire.rate or wire.delay for wire in network.wires.values()) and not _shapes():
        missing.append("netem (for the rate and the delay of a wire)")
    if any(s.proto == PROTO_SCTP for room in network for s in room.sockets.listeners()):
        missing.append("sctp servers (a kernel's cookies are its own)")
    programs = {tool.split()[0] for r in network for tool in restores(r)}
    missing += [p for p in sorted(programs) if shutil.which(p) is None]
    if "ipvsadm" in programs and "ipvsadm" not in missing and not _balances():
        missing.append("ip_vs")
    return tuple(missing)


@functools.cache
def _makes(kind: str) -> bool:
    return _takes("ip", f"link add try0 {TRIES[kind]}")


@functools.cache
def _shapes() -> bool:
    """Whether wires can have a rate and a delay."""
    return shutil.which("tc") is not None and _takes("tc", "qdisc add dev lo root netem limit 1")


@functools.cache
def _balances() -> bool:
    """Whether there is IPVS; ipvsadm loads its module where it can."""
    try:
        run(["ipvsadm", "-L", "-n"], changes=False)
    except Refused:
        return False
    return True


def _takes(tool: str, line: str) -> bool:
    """Whether a tool's line works in a fresh namespace."""
    name = f"{prefix()}try"
    try:
        batch(["ip", "-batch", "-"], [f"netns add {name}"])
        batch([tool, "-n", name, "-batch", "-"], [line])
    except Refused:
        return False
    finally:
        delete(name)
    return True


class Realised:
    """A network that stands in real namespaces while its `with` lasts.

    names: {room: namespace}. remarks: what the lines could not build, as they say it.
    """

    def __init__(self, network: Network, files: Path | None = None) -> None:
        self.network = network
        self.files = files
        self.names = _names(network, prefix())
        self.remarks: list[str] = []
        self._owner = os.getpid()
        self._before: list[object] = []  # what SIGTERM did, while we are up
        self._doors: dict[str, int] = {}

    def __enter__(self) -> Realised:
        atexit.register(self.close)
        if threading.current_thread() is threading.main_thread():
            self._before.append(signal.signal(signal.SIGTERM, _terminated))
        try:
            sweep()
            missing = missing_features(self.network)
            if missing:
                raise MissingFeature(missing)
            self._build()
            self._settle()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove the namespaces; twice does no harm. Whatever is still open in one keeps it alive until closed."""
        if os.getpid() != self._owner:  # a child that was forked inherits atexit, but owns nothing
            return
        with undisturbed():
            for door in self._doors.values():
                os.close(door)
            self._doors.clear()
            for name in self.names.values():
                delete(name)
        atexit.unregister(self.close)
        if self._before:
            signal.signal(signal.SIGTERM, self._before.pop() or signal.SIG_DFL)  # type: ignore[arg-type]

    # -- looking in ------------------------------------------------------------------------------------------------

    @contextmanager
    def inside(self, room: str) -> Iterator[None]:
        """This thread is in the room's namespace; what it opens there stays there. OSError if the kernel refuses."""
        if room not in self._doors:
            self._doors[room] = os.open(NETNS / self.names[room], os.O_RDONLY | os.O_CLOEXEC)
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(self._doors[room])
            try:
                yield
            finally:
                setns(here)
        finally:
            os.close(here)

    def output(self, room: str, tool: str, *words: str) -> str:
        """What `ip` or `bridge` prints in a room, with the rooms' own names. Refused if it fails."""
        return self.plain(run([tool, "-n", self.names[room], *words], changes=False))

    def batch(self, room: str, tool: str, lines: Iterable[str], *options: str) -> str:
        """What `ip` or `bridge` prints for several lines, in one process."""
        return self.plain(batch([tool, *options, "-n", self.names[room], "-batch", "-"], list(lines), changes=False))

    def plain(self, text: str) -> str:
        """A tool's words with the rooms' names instead of the namespaces'."""
        for room, name in self.names.items():
            text = text.replace(f'"{name}"', f'"{room}"')
        return text

    def sysctl(self, room: str, key: str) -> int | None:
        """The value of a sysctl of a room, None where this kernel has no such key."""
        with self.inside(room):
            try:
                return int(sysctl_path(key).read_text(encoding="ascii"))
            except FileNotFoundError:
                return None

    # -- building --------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        renamed = _renamed(self.network, self.names)
        lines = commands(renamed)
        programs = {f"# {room.name}: {s}" for room in renamed for s in room.sockets.servers()}  # the bench runs them
        self.remarks = [self._comment(line) for line in lines if line.startswith("#") and line not in programs]
        steps = [step for line in lines if (step := _step(line)) is not None]
        born = [s for s in steps if s.kind == "ip" and s.text.startswith("netns add ")]
        with no_fallback_tunnels(any(HOST_TUNNELS in s.text for s in steps)):
            self._play(born)
        for room in self.names:
            with self.inside(room):
                for key, value in QUIET.items():
                    write_sysctl(key, value)
        last = max((n for n, s in enumerate(steps) if s.text.startswith("link add ")), default=0)
        self._play(s for s in steps[: last + 1] if s not in born)  # devices keep their order, also across rooms
        here: dict[str, list[_Step]] = {}
        for s in steps[last + 1 :]:
            here.setdefault(s.room, []).append(s)
        for room, name in self.names.items():
            self._play(here.get(name, ()))
            self._conf(self.network[room], room)

    def _comment(self, line: str) -> str:
        for room, name in self.names.items():
            line = line.replace(name, room)
        return line.removeprefix("# ")

    def _play(self, steps: Iterable[_Step]) -> None:
        """Run steps in order; those of one tool in one room go to one process."""
        for (kind, name), group in itertools.groupby(steps, key=lambda s: (s.kind, s.room)):
            lines = [s.text for s in group]
            if kind == "sysctl" and name:
                with self.inside(next(room for room, known in self.names.items() if known == name)):
                    for text in lines:
                        write_sysctls(text)
            elif kind == "sh":
                room = next((room for room, known in self.names.items() if known == name), "")
                for text in lines:  # rule files stand in the snapshot's folder, under the room's own name
                    command = text.replace(f"state/0/{name}/", f"state/0/{room}/")
                    run(["sh", "-c", command], changes=True, cwd=self.files)
            elif kind != "sysctl":
                batch([kind, *(["-n", name] if name else []), "-batch", "-"], lines)

    def _conf(self, room: Netns, name: str) -> None:
        """net.ipv4.conf as the network has it: a new namespace inherits the host's (devconf_inherit_init_net).

        `forwarding` first, because `all` sets every device's; the others afterwards.
        """
        groups = {"all": {**CONF_DEFAULTS, **room.conf_values["all"]}}
        common = {**CONF_DEFAULTS, **room.conf_values["default"]}
        groups["default"] = common
        for dev in room.devices:
            groups[dev.replace(".", "/")] = {**common, **room.conf_values.get(dev, {})}
        with self.inside(name):
            for key in ("forwarding", *(k for k in CONF_DEFAULTS if k != "forwarding")):
                for group, values in groups.items():
                    with suppress(FileNotFoundError):  # a device that could not be built, a key of other kernels
                        write_sysctl(f"net.ipv4.conf.{group}.{key}", values[key])
            for dev in room.devices:
                for key, value in QUIET_DEVICE.items():
                    with suppress(FileNotFoundError):
                        write_sysctl(f"net.ipv4.neigh.{dev.replace('.', '/')}.{key}", value)

    def _settle(self) -> None:
        """Wait until what should have a carrier has one: linkwatch works on its own time (net/core/link_watch.c)."""
        end = time.monotonic() + SETTLE
        for room in self.network:
            with self.inside(room.name):
                probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with probe:
                waiting = [d for d in room.devices if _has_carrier(self.network, room, d)]
                while waiting := [d for d in waiting if not _running(probe, d)]:
                    if time.monotonic() > end:
                        raise Refused(f"{room.name}: no carrier on {', '.join(waiting)} after {SETTLE:g} s")
                    time.sleep(0.002)


class _Step(NamedTuple):
    """A line for a tool (ip, bridge, tc: for its -batch; sysctl; sh) and the namespace it works in ("" = none)."""

    kind: str
    room: str
    text: str


def _step(line: str) -> _Step | None:
    """Sort a line of `commands`; None for a comment. Names of namespaces are ours, so they need no quotes."""
    words = line.split(" ")
    if line.startswith("#"):
        return None
    if words[0] in ("ip", "bridge", "tc") and words[1] == "-n":
        return _Step(words[0], words[2], " ".join(words[3:]))
    if words[:3] == ["ip", "netns", "exec"] and words[4] == "sysctl":
        return _Step("sysctl", words[3], " ".join(words[5:]))
    if words[:3] == ["ip", "netns", "exec"]:
        return _Step("sh", words[3], line)
    if words[0] == "ip":
        return _Step("ip", "", " ".join(words[1:]))
    return _Step("sysctl", "", line) if words[0] == "sysctl" else _Step("sh", "", f"{line} || true")


def _names(network: Network, prefix: str) -> dict[str, str]:
    names: dict[str, str] = {}
    for n, room in enumerate(network.rooms):
        name = prefix + re.sub(r"[^\w.-]", "_", room, flags=re.ASCII)[:40]
        names[room] = f"{name}.{n}" if name in names.values() else name
    return names


def _renamed(network: Network, names: dict[str, str]) -> Network:
    """The same network under other names; devices and tables are shared, nothing of them is changed."""
    copy = Network(network.name)
    for room in network:
        twin = room.overlay()
        twin.name = names[room.name]
        copy.add(twin, network.roles.get(room.name, ""))
    for wire in network.wires.values():
        a, b = ((names[room], dev) for room, dev in (wire.a, wire.b))
        copy.wires[a] = copy.wires[b] = wire._replace(a=a, b=b)
    return copy


def _has_carrier(network: Network, room: Netns, dev: str) -> bool:
    """Whether a wired device, or a bridge with one, can be expected to run."""
    device = room.devices[dev]
    if isinstance(device, Bridge):
        ports = [d for d in room.devices.values() if d.master == dev]
        return device.up and any(_has_carrier(network, room, d.name) for d in ports)
    far = network.far((room.name, dev))
    return device.up and far is not None and network[far[0]].device(far[1]).up


def _running(probe: socket.socket, dev: str) -> bool:
    answer = ioctl(probe, _SIOCGIFFLAGS, struct.pack("16s16x", dev.encode()))
    return bool(struct.unpack_from("16xH", answer)[0] & _IFF_RUNNING)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
