"""The rules Felix keeps on a node, for pods without a policy: profile kns.default lets everything in and out.

Chains and order after felix/rules (static.go, endpoints.go, dispatch.go, nat.go), endpoint to host action ACCEPT.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from packetwalk.addr import IPv4, Prefix

ACCEPT, SCRATCH = "0x10000/0x10000", "0x40000"
PROFILE = "kns.default"
HOOKS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}
HOSTS = {"ipip": "cali40all-hosts-net", "vxlan": "cali40all-vxlan-net"}
TUNNEL_INPUT = {
    "ipip": (
        '-A cali-INPUT -p ipencap -m comment --comment "Allow IPIP packets from Calico hosts" '
        "-m set --match-set cali40all-hosts-net src -m addrtype --dst-type LOCAL -j ACCEPT",
        '-A cali-INPUT -p ipencap -m comment --comment "DROP IPIP packets from non-Calico hosts" -j DROP',
    ),
    "vxlan": (
        '-A cali-INPUT -p udp -m comment --comment "Allow IPv4 VXLAN packets from allowed hosts" -m multiport '
        "--dports 4789 -m set --match-set cali40all-vxlan-net src -m addrtype --dst-type LOCAL -j ACCEPT",
        '-A cali-INPUT -p udp -m comment --comment "Drop IPv4 VXLAN packets from non-allowed hosts" -m multiport '
        "--dports 4789 -m addrtype --dst-type LOCAL -j DROP",
    ),
}


def iptables(encap: str, device: str, interfaces: Sequence[str], *, outgoing: bool = True) -> str:
    """iptables-save's text. interfaces: the node's ends of its pods' veth pairs; device: the tunnel's, or empty;
    outgoing: a pool has natOutgoing."""
    rules = {"raw": _raw(), "mangle": _mangle(), "filter": _filter(encap, interfaces), "nat": _nat(device, outgoing)}
    own = {
        "raw": ["cali-OUTPUT", "cali-PREROUTING", "cali-from-host-endpoint", "cali-rpf-skip"],
        "mangle": ["cali-PREROUTING"],
        "filter": [
            "cali-FORWARD", "cali-INPUT", "cali-OUTPUT", "cali-cidr-block", "cali-from-hep-forward",
            "cali-from-wl-dispatch", *(f"cali-fw-{i}" for i in interfaces),
            f"cali-pri-{PROFILE}", f"cali-pro-{PROFILE}", "cali-to-hep-forward", "cali-to-wl-dispatch",
            *(f"cali-tw-{i}" for i in interfaces), "cali-wl-to-host",
        ],
        "nat": [
            "cali-OUTPUT", "cali-POSTROUTING", "cali-PREROUTING", "cali-fip-dnat", "cali-fip-snat", "cali-nat-outgoing",
        ],
    }  # fmt: skip
    return "".join(_table(name, own[name], lines) for name, lines in rules.items())


def _table(name: str, chains: Iterable[str], rules: Iterable[str]) -> str:
    head = [f":{hook} ACCEPT [0:0]" for hook in HOOKS[name]] + [f":{chain} - [0:0]" for chain in chains]
    return "\n".join([f"*{name}", *head, *rules, "COMMIT", ""])


def ipsets(encap: str, pool: Prefix, nodes: Iterable[IPv4], *, outgoing: bool = True) -> str:
    """`ipset save` of the sets those rules ask: the pools, and the nodes whose tunnels are let in."""
    lines = []
    for name, filled in (("cali40masq-ipam-pools", outgoing), ("cali40all-ipam-pools", True)):
        lines.append(f"create {name} hash:net family inet hashsize 1024 maxelem 1048576")
        lines += [f"add {name} {pool}"] if filled else []
    if encap in HOSTS:
        lines.append(f"create {HOSTS[encap]} hash:net family inet hashsize 1024 maxelem 1048576")
        lines += [f"add {HOSTS[encap]} {ip}" for ip in nodes]
    return "\n".join([*lines, ""])


def _raw() -> list[str]:
    """Marks are cleared, and what a pod sends must have a source that is routed back to it."""
    return [
        "-A PREROUTING -j cali-PREROUTING",
        "-A OUTPUT -j cali-OUTPUT",
        "-A cali-OUTPUT -j MARK --set-xmark 0x0/0xf0000",
        "-A cali-PREROUTING -j MARK --set-xmark 0x0/0xf0000",
        f"-A cali-PREROUTING -i cali+ -j MARK --set-xmark {SCRATCH}/{SCRATCH}",
        f"-A cali-PREROUTING -m mark --mark {SCRATCH}/{SCRATCH} -j cali-rpf-skip",
        f"-A cali-PREROUTING -m mark --mark {SCRATCH}/{SCRATCH} -m rpfilter --validmark --invert -j DROP",
        f"-A cali-PREROUTING -m mark --mark 0x0/{SCRATCH} -j cali-from-host-endpoint",
        f"-A cali-PREROUTING -m mark --mark {ACCEPT} -j ACCEPT",
    ]


def _mangle() -> list[str]:
    return [
        "-A PREROUTING -j cali-PREROUTING",
        "-A cali-PREROUTING -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        f"-A cali-PREROUTING -m mark --mark {ACCEPT} -j ACCEPT",
    ]


def _filter(encap: str, interfaces: Sequence[str]) -> Iterator[str]:
    yield "-A INPUT -j cali-INPUT"
    yield "-A FORWARD -j cali-FORWARD"
    yield f'-A FORWARD -m comment --comment "Policy explicitly accepted packet." -m mark --mark {ACCEPT} -j ACCEPT'
    yield f"-A FORWARD -j MARK --set-xmark {ACCEPT}"
    yield "-A OUTPUT -j cali-OUTPUT"
    yield "-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000"
    yield "-A cali-FORWARD -m mark --mark 0x0/0x10000 -j cali-from-hep-forward"
    yield "-A cali-FORWARD -i cali+ -j cali-from-wl-dispatch"
    yield "-A cali-FORWARD -o cali+ -j cali-to-wl-dispatch"
    yield "-A cali-FORWARD -j cali-to-hep-forward"
    yield "-A cali-FORWARD -j cali-cidr-block"
    yield from TUNNEL_INPUT.get(encap, ())
    yield "-A cali-INPUT -i cali+ -g cali-wl-to-host"
    yield f"-A cali-INPUT -m mark --mark {ACCEPT} -j ACCEPT"
    yield "-A cali-INPUT -j MARK --set-xmark 0x0/0xf0000"
    yield f"-A cali-OUTPUT -m mark --mark {ACCEPT} -j ACCEPT"
    yield "-A cali-OUTPUT -o cali+ -j RETURN"
    unknown = '-m comment --comment "Unknown interface" -j DROP'
    yield from (f"-A cali-from-wl-dispatch -i {i} -g cali-fw-{i}" for i in interfaces)
    yield f"-A cali-from-wl-dispatch {unknown}"
    for i in interfaces:
        yield from _endpoint(f"cali-fw-{i}", f"cali-pro-{PROFILE}", workload=True)
    for profile in (f"cali-pri-{PROFILE}", f"cali-pro-{PROFILE}"):
        yield f"-A {profile} -j MARK --set-xmark {ACCEPT}"
        yield f"-A {profile} -m mark --mark {ACCEPT} -j RETURN"
    yield from (f"-A cali-to-wl-dispatch -o {i} -g cali-tw-{i}" for i in interfaces)
    yield f"-A cali-to-wl-dispatch {unknown}"
    for i in interfaces:
        yield from _endpoint(f"cali-tw-{i}", f"cali-pri-{PROFILE}", workload=False)
    yield "-A cali-wl-to-host -j cali-from-wl-dispatch"
    yield '-A cali-wl-to-host -m comment --comment "Configured DefaultEndpointToHostAction" -j ACCEPT'


def _endpoint(chain: str, profile: str, *, workload: bool) -> Iterator[str]:
    """From or to one pod: known connections pass, tunnels of its own do not, then its profile has the word."""
    yield f"-A {chain} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    yield f"-A {chain} -m conntrack --ctstate INVALID -j DROP"
    yield f"-A {chain} -j MARK --set-xmark 0x0/0x30000"
    if workload:
        yield (f'-A {chain} -p udp -m comment --comment "Drop VXLAN encapped packets originating in workloads" '
               "-m multiport --dports 4789 -j DROP")  # fmt: skip
        yield (f'-A {chain} -p ipencap -m comment --comment "Drop IPinIP encapped packets originating in workloads" '
               "-j DROP")  # fmt: skip
    yield f"-A {chain} -j {profile}"
    yield f'-A {chain} -m comment --comment "Return if profile accepted" -m mark --mark {ACCEPT} -j RETURN'
    yield f'-A {chain} -m comment --comment "Drop if no profiles matched" -j DROP'


def _nat(device: str, outgoing: bool) -> Iterator[str]:
    """Pods are masqueraded towards what is in no pool; a node's own address is not to enter a tunnel."""
    yield "-A PREROUTING -j cali-PREROUTING"
    yield "-A OUTPUT -j cali-OUTPUT"
    yield "-A POSTROUTING -j cali-POSTROUTING"
    yield "-A cali-OUTPUT -j cali-fip-dnat"
    yield "-A cali-POSTROUTING -j cali-fip-snat"
    yield "-A cali-POSTROUTING -j cali-nat-outgoing"
    if device:
        yield (f"-A cali-POSTROUTING -o {device} -m addrtype ! --src-type LOCAL --limit-iface-out "
               "-m addrtype --src-type LOCAL -j MASQUERADE --random-fully")  # fmt: skip
    yield "-A cali-PREROUTING -j cali-fip-dnat"
    if outgoing:
        yield ("-A cali-nat-outgoing -m set --match-set cali40masq-ipam-pools src "
               "-m set ! --match-set cali40all-ipam-pools dst -j MASQUERADE --random-fully")  # fmt: skip
