"""Container network interfaces: each writes the tables that the real one writes on a node, and never sees a packet.

A CNI is a frozen dataclass whose fields are its options. `MODES` names the usual settings; a package of someone else's
adds a mode of its own by an entry point of the group `packetwalk.cni`: a callable that takes options and returns a Cni.
"""

from __future__ import annotations

import dataclasses
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from packetwalk.cni.base import Cni
from packetwalk.cni.bridge import FlatBridge
from packetwalk.cni.calico import Calico
from packetwalk.cni.flannel import Flannel
from packetwalk.cni.geneve import Geneve
from packetwalk.hint import unknown

__all__ = ["MODES", "Calico", "Cni", "Flannel", "FlatBridge", "Geneve", "find", "modes", "parse"]

GROUP = "packetwalk.cni"


class Mode(NamedTuple):
    """A setting with a name: the class, the options that make it, and one line about it."""

    cls: type[Any]
    options: dict[str, Any]
    about: str


MODES: dict[str, Mode] = {
    "flat-bridge": Mode(FlatBridge, {}, "plugins bridge and host-local, a static route to each node's range"),
    "flannel-host-gw": Mode(Flannel, {"backend": "host-gw"}, "a route to each node's range by the node; one subnet"),
    "flannel-vxlan": Mode(Flannel, {"backend": "vxlan"}, "VXLAN between nodes, FDB and neighbours written by flanneld"),
    "flannel-ipip": Mode(Flannel, {"backend": "ipip"}, "IP-in-IP between nodes; the route's gateway is the far end"),
    "calico-bgp": Mode(Calico, {"encap": "none"}, "routed pods, blocks spread by BGP, no encapsulation"),
    "calico-ipip": Mode(Calico, {"encap": "ipip"}, "routed pods, IP-in-IP between all nodes"),
    "calico-ipip-crosssubnet": Mode(
        Calico, {"encap": "ipip", "cross_subnet": True}, "routed pods, IP-in-IP between subnets only"
    ),
    "calico-vxlan": Mode(Calico, {"encap": "vxlan"}, "routed pods, VXLAN between all nodes, no BGP"),
    "calico-vxlan-crosssubnet": Mode(
        Calico, {"encap": "vxlan", "cross_subnet": True}, "routed pods, VXLAN between subnets only"
    ),
    "geneve": Mode(Geneve, {}, "routed pods, a point-to-point Geneve tunnel for each pair of nodes"),
}


KINDS: dict[str, tuple[type, str]] = {"int": (int, "a number"), "bool": (bool, "true or false"), "str": (str, "a word")}
"""The types an option may have, by their annotation, and what they are called."""


def find(name: str, **options: Any) -> Cni:
    """The CNI of that mode, its options overridden. ValueError, with the nearest right word, for an unknown one."""
    make, preset = _maker(name)
    if dataclasses.is_dataclass(make):
        fields = {f.name: str(f.type) for f in dataclasses.fields(make)}
        for option, value in options.items():
            if option not in fields:
                raise ValueError(f"{name}: {unknown('option', option, list(fields))}")
            wanted = KINDS.get(fields[option])
            if wanted is not None and type(value) is not wanted[0]:
                raise ValueError(f"{name}: {option}: {wanted[1]} was expected, not {value!r}")
    try:
        cni: Cni = make(**{**preset, **options})
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return cni


def _maker(name: str) -> tuple[Any, dict[str, Any]]:
    """What makes the CNI of a mode (a class, or any callable of another package), and the options it is called with."""
    if name in MODES:
        mode = MODES[name]
        return mode.cls, mode.options
    added = _added()
    if name not in added:
        raise ValueError(unknown("CNI", name, [*MODES, *added]))
    return added[name].load(), {}


def parse(text: str) -> Cni:
    """The CNI of `MODE[:OPTION=VALUE]...`, as a command line names it. ValueError, in one line, for what is not one."""
    name, *words = text.split(":")
    options: dict[str, Any] = {}
    for word in words:
        option, equals, value = word.partition("=")
        options[option.replace("-", "_")] = _value(value) if equals else True
    return find(name, **options)


def _value(text: str) -> object:
    """A word of a command line as a number or a truth value, if it reads like one."""
    return int(text) if text.isdecimal() else {"true": True, "false": False}.get(text, text)


def modes() -> dict[str, str]:
    """Every mode's name and one line about it; those of other packages come last."""
    added = {name: f"from {entry.value}" for name, entry in _added().items()}
    return {**{name: mode.about for name, mode in MODES.items()}, **added}


def _added() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
