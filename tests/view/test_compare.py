"""Walks side by side: the figures by hand, the alignment by role, and three forms to read."""

import json

import pytest

import packetwalk
from packetwalk import cli
from packetwalk.cni import modes, parse
from packetwalk.edit import whatif
from packetwalk.engine.costs import DEFAULT_COSTS
from packetwalk.engine.walk import address_of, walk
from packetwalk.network import Network
from packetwalk.source import from_mode
from packetwalk.trace import Flow, Trace
from packetwalk.view.compare import FRAMING, GROUP, Comparison, compare

Capture = pytest.CaptureFixture[str]


def ping(network: Network, size: int = -1, df: str = "", dst: str = "b") -> Trace:
    return walk(network, Flow("icmp", "a", address_of(network, dst), size=size, df=df, to=dst))


def compared(*names: str, racks: int = 1) -> Comparison:
    return compare(*(ping(from_mode(name, racks=racks)) for name in names), names=names)


# tunnel bytes, path MTU and goodput as the formula has it: 1410 of 1410 + 40 + 50 + 38 and so on
FIGURES = [
    ("flat-bridge", 0, 98, 1500, 1460, 1460 / 1538),
    ("flannel-host-gw", 0, 98, 1500, 1460, 1460 / 1538),
    ("flannel-vxlan", 50, 148, 1450, 1410, 1410 / 1538),
    ("flannel-ipip", 20, 118, 1480, 1440, 1440 / 1538),
    ("calico-bgp", 0, 98, 1500, 1460, 1460 / 1538),
    ("calico-ipip", 20, 118, 1480, 1440, 1440 / 1538),
    ("calico-ipip-crosssubnet", 0, 98, 1480, 1440, 1440 / 1518),
    ("calico-vxlan", 50, 148, 1450, 1410, 1410 / 1538),
    ("calico-vxlan-crosssubnet", 0, 98, 1450, 1410, 1410 / 1488),
    ("geneve", 50, 148, 1450, 1410, 1410 / 1538),
]


@pytest.mark.parametrize(("name", "tunnel", "frame", "mtu", "mss", "goodput"), FIGURES, ids=[f[0] for f in FIGURES])
def test_figures(name: str, tunnel: int, frame: int, mtu: int, mss: int, goodput: float) -> None:
    (walked,) = compared(name).walks
    assert (walked.tunnel, walked.frame, walked.path_mtu, walked.mss) == (tunnel, frame, mtu, mss)
    assert walked.goodput == pytest.approx(goodput, abs=1e-4)
    assert (walked.ttl, walked.rooms, walked.outcome) == (62, 5, "reply ttl 62")
    assert FRAMING == 14 + 4 + 8 + 12


def test_every_mode_has_figures_here() -> None:
    assert [f[0] for f in FIGURES] == list(modes())


@pytest.mark.parametrize("name", ["flannel-vxlan", "calico-ipip", "calico-bgp"])
def test_the_path_mtu_is_the_largest_packet_that_gets_through_whole(name: str) -> None:
    network = from_mode(name)
    (walked,) = compared(name).walks
    assert ping(network, walked.path_mtu - 28, "do").delivered
    assert not ping(network, walked.path_mtu - 27, "do").delivered


def test_time_is_all_accounted_for() -> None:
    trace = ping(whatif(from_mode("flannel-vxlan"), "link node-1 delay 3us"))
    (walked,) = compare(trace).walks
    assert walked.spent["wires"] == 2 * 3_000
    assert sum(walked.spent.values()) == trace.result.at == walked.latency
    assert walked.spent["tunnels"] == 2 * (900 + 60 + 700)


def test_every_stage_with_a_price_belongs_to_a_group() -> None:
    assert set(DEFAULT_COSTS) - {"app"} <= set(GROUP)


def test_walks_are_aligned_by_role_not_by_number_of_rooms() -> None:
    far, near = ping(from_mode("calico-ipip", racks=2)), ping(from_mode("calico-ipip"))
    found = compare(far, near, names=("far", "near"))
    assert [p.key for p in found.walks[0].places] == ["pod 1", "node 1", "fabric 1", "node 2", "pod 2"]
    assert [p.key for p in found.walks[1].places] == [p.key for p in found.walks[0].places]
    assert found.walks[0].places[2].rooms == ("tor-1", "router", "tor-2")
    assert found.walks[0].places[2].did.startswith("router: 192.168.57.0/24 dev eth1")
    assert found.walks[1].places[2].did == "p-node-1 > p-node-2"


def test_headers_hop_by_hop() -> None:
    (walked,) = compared("flannel-vxlan").walks
    assert [(p.headers, p.sent) for p in walked.places] == [
        ("eth ip icmp", 98), ("eth ip udp vxlan eth ip icmp", 148), ("eth ip udp vxlan eth ip icmp", 148),
        ("eth ip icmp", 98), ("", 0),
    ]  # fmt: skip


def test_the_first_divergence_is_named_with_both_sides() -> None:
    found = compared("flannel-vxlan", "flannel-ipip", "calico-vxlan")
    assert [(d.name, d.place) for d in found.divergences] == [("flannel-ipip", "node-1"), ("calico-vxlan", "a")]
    assert found.divergences[0].did.startswith("encap flannel.ipip ipip")
    assert found.divergences[0].instead_of.startswith("encap flannel.1 vxlan vni 1")
    assert compared("flat-bridge", "flat-bridge").divergences == []


def test_a_packet_that_dies_ends_its_way_and_has_no_goodput() -> None:
    network = from_mode("flannel-host-gw")
    broken = whatif(network, "node-1 route del 10.244.2.0/24")
    found = compare(ping(network), ping(broken))
    whole, dead = found.walks
    assert (dead.outcome, dead.path_mtu, dead.mss, dead.ttl) == ("timeout: IP_INNOROUTES at router", 0, 0, 0)
    assert [p.rooms for p in dead.places] == [("a",), ("node-1",), ("fabric", "router")]
    assert dead.places[-1].did == "router: drop IP_INNOROUTES: no route to 10.244.2.2"
    assert whole.delivered and found.divergences[0].place == "node-1"
    tcp = walk(broken, Flow("tcp", "a", address_of(broken, "b"), 80))
    assert len(compare(tcp).walks[0].places) == 3, "what is sent again goes no other way"


def test_what_goes_back_is_no_part_of_the_requests_way() -> None:
    """A node answers a pod through the tunnel, but is asked without; an ICMP error is larger than what caused it."""
    network = from_mode("calico-ipip")
    asked = compare(ping(network, dst="node-2")).walks[0]
    assert (asked.tunnel, asked.frame, asked.goodput) == (0, 98, round(1440 / 1518, 4))
    flow = Flow("icmp", "a", address_of(network, "b"), ttl=1)
    (expired,) = compare(walk(network, flow)).walks
    assert expired.frame == 98 and expired.places[-1].sent == 0
    assert expired.places[-1].did == "drop IP_INHDR: ttl 1"


def test_fragments_count_by_the_largest() -> None:
    (walked,) = compare(ping(from_mode("flannel-vxlan"), 4000)).walks
    assert walked.places[0].sent == 14 + 20 + 1424  # multiples of 8 in an MTU of 1450


def test_where_one_walk_ends_earlier() -> None:
    network = from_mode("flannel-host-gw")
    shut = whatif(network, "node-2 sysctl net.ipv4.conf.all.forwarding=0")
    divergence = compare(ping(network), ping(shut), names=("open", "shut")).divergences[0]
    assert (divergence.name, divergence.place) == ("shut", "node-2")
    assert "IP_INADDRERRORS" in divergence.did and "dev cni0" in divergence.instead_of


def test_walks_of_like_networks_are_told_apart() -> None:
    trace = ping(from_mode("flat-bridge"))
    assert [w.name for w in compare(trace, trace).walks] == [trace.network, f"{trace.network} (2)"]
    assert packetwalk.compare(trace, trace).walks[0].name == trace.network


# -- what a CNI needs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", modes())
def test_who_needs_routes_between_subnets_fails_without_them(name: str) -> None:
    subnets = any("between subnets" in need.without for need in parse(name).needs)
    assert ping(from_mode(name, racks=2)).delivered is not subnets


@pytest.mark.parametrize("name", modes())
def test_who_needs_larger_packets_carried_loses_them_without(name: str) -> None:
    """A switch with an MTU of its own drops in silence what a tunnel made too large for it."""
    network = from_mode(name, racks=2 if "crosssubnet" in name else 1)
    needs = [need for need in parse(name).needs if "bytes larger" in need.what]
    if not needs:
        return
    mtu = network["a"].device("eth0").mtu
    assert f" {1500 - mtu} bytes" in needs[0].what
    switch = "tor-2" if "crosssubnet" in name else "fabric"
    narrow = whatif(network, f"{switch} link set p-node-2 mtu {mtu}")
    assert ping(narrow).delivered and ping(network, mtu - 28).delivered
    assert not ping(narrow, mtu - 28).delivered


# -- three forms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_table_keeps_to_its_width(width: int) -> None:
    text = compared(*modes(), racks=2).table(width)
    assert max(map(len, text.splitlines())) <= width and text.isascii()
    if width >= 100:
        assert all(f"\n{name} " in text for name in modes())


def test_the_command(capsys: Capture) -> None:
    assert cli.main(["compare", "a", "b", "--cni", "flannel-vxlan,calico-ipip"]) == 0
    out = capsys.readouterr().out
    for words in ("calico-ipip        5     +20    118      1480  1440    93.6%   62  reply ttl 62", "first divergence",
                  "let UDP 8472 through between nodes", "goodput: the share", "encap tunl0 ipip"):  # fmt: skip
        assert words in out


def test_a_change_holds_for_every_mode_and_walks_may_fail(capsys: Capture) -> None:
    assert cli.main(["compare", "a", "b", "--set", "node-2 sysctl net.ipv4.ip_forward=0", "-o", "json"]) == 0
    outcomes = [w["outcome"] for w in json.loads(capsys.readouterr().out)["walks"]]
    assert outcomes == ["timeout: IP_INADDRERRORS at node-2"] * len(modes())


def test_json_and_markdown(capsys: Capture) -> None:
    line = ["compare", "a", "b", "--cni", "flat-bridge,geneve"]
    assert cli.main([*line, "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [w["name"] for w in found["walks"]] == ["flat-bridge", "geneve"]
    assert found["walks"][1]["path_mtu"] == 1450 and found["needs"]["geneve"][0]["needs"].startswith("let UDP 6081")
    assert cli.main([*line, "-o", "markdown"]) == 0
    text = capsys.readouterr().out
    assert "| geneve | 5 | +50 | 148 | 1450 | 1410 | 91.7% | 62 | reply ttl 62 |" in text
    rows = [row for row in text.splitlines() if row.startswith("|")]
    assert all(row.endswith("|") for row in rows) and "### first divergence" in text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--cni flannel-vxlan,calico-ipp", "did you mean 'calico-ipip'?"),
        ("--cni geneve,geneve", "--cni names 'geneve' twice"),
        ("-o tabel", "did you mean 'table'?"),
        ("--set x", "there is no room 'x'"),
    ],
)
def test_bad_input(capsys: Capture, line: str, message: str) -> None:
    assert cli.main(["compare", "a", "b", *line.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
