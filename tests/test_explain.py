"""Rules and chains in words."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from packetwalk.cli import main
from packetwalk.cni import find
from packetwalk.explain import PURPOSES, explain_chain, explain_rule, purpose
from packetwalk.kube.build import build
from packetwalk.kube.cluster import default_cluster
from packetwalk.kube.kubeproxy import KubeProxy
from packetwalk.netns.rule import parse_rule
from packetwalk.snapshot.iptables_save import load_iptables

SHARED = Path(__file__).resolve().parents[2] / "shared"
DUMPS = [*SHARED.glob("recordings/*/state/*/*/iptables-save.txt"), *SHARED.glob("data/*/*dump.txt"),
         *SHARED.glob("data/*/*.save")]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment \"a/b cluster IP\" -m tcp --dport 53 "
         "-j KUBE-SVC-ERIFXISQEP7F7OF4",
         "TCP packets to 10.96.0.10 to port 53 go to KUBE-SVC-ERIFXISQEP7F7OF4 (one port of a service; picks one of "
         'all its endpoints, each as likely as the others): "a/b cluster IP".'),
        ("-A KUBE-SVC-X -m statistic --mode random --probability 0.33333333349 -j KUBE-SEP-Y",
         "Packets in 33.33 % of cases, at random, go to KUBE-SEP-Y (one endpoint of a service; rewrites the "
         "destination to it)."),
        ("-A KUBE-SEP-Y -p tcp -m tcp -j DNAT --to-destination 10.0.0.9:8080",
         "TCP packets are sent on to 10.0.0.9:8080 instead (DNAT, for the whole connection)."),
        ("-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
         "Packets without mark 0x4000 go back to the chain they came from."),
        ("-A FORWARD -m mark --mark 0x0/0x4000 -j RETURN",
         "Packets without mark 0x4000 meet the policy of this chain."),
        ("-A KUBE-IPVS-OUT-FILTER -m ipvs --vproto 6 --vaddr 203.0.113.8 --vport 80 -j DROP",
         "Packets of protocol 6 that asked IPVS for 203.0.113.8 at port 80 of it are dropped without a word."),
        ("-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000", "Packets get mark 0x4000 set."),
        ("-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0", "Packets have mark 0x4000 flipped."),
        ("-A cali-FORWARD -j MARK --set-xmark 0x0/0x1a0000", "Packets have mark 0x1a0000 cleared."),
        ("-A cali-from-wl-dispatch -i cali1 -g cali-fw-cali1",
         "Packets that came in by cali1 go to cali-fw-cali1 (what one workload may send (its egress policies and "
         "profiles)) and do not come back here."),
        ("-A cali-PREROUTING -m mark --mark 0x80000/0x80000 -m rpfilter --validmark --invert -j DROP",
         "Packets with mark 0x80000 whose source has no route back by the device they came in by are dropped without "
         "a word."),
        ("-A cali-tw-cali1 -m comment --comment \"cali:abc\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
         "Packets that are about a known connection or belong to an answered connection are accepted."),
        ("-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully",
         "Packets from 10.244.0.0/16 not to 224.0.0.0/4 get an address of the device they leave by as their source, "
         "for the whole connection."),
        ("-A KUBE-FW-X -m comment --comment \"other traffic\"", 'Packets are only counted: "other traffic".'),
        ("-A X ! -i cali+ -p udp -m multiport --dports 53,100:200 -m set ! --match-set s dst,dst -j REJECT",
         "UDP packets that came in by any device but a device named cali... to ports 53, 100 to 200 whose destination "
         "is not in the set s are refused: the sender gets icmp-port-unreachable."),
        ("-A KUBE-SVC-X -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-Y --mask 255.255.255.255 --rsource",
         "Packets whose source was seen within 10800 s on the list KUBE-SEP-Y are only counted."),
        ("-A X -m string --string x --algo bm -j NFQUEUE --queue-num 1",
         "Packets that fit `-m string --string x --algo bm`, which is not modelled, meet `-j NFQUEUE --queue-num 1`, "
         "which is not modelled."),
    ],
)  # fmt: skip
def test_a_rule_is_one_sentence(line: str, sentence: str) -> None:
    assert explain_rule(parse_rule(line)) == sentence


@pytest.mark.skipif(not DUMPS, reason="../shared is not here")
def test_every_rule_of_every_dump_is_one_sentence_and_every_chain_has_a_purpose() -> None:
    for dump in DUMPS:
        for table in load_iptables(dump).tables.values():
            for chain in table.chains.values():
                assert purpose(chain.name) or re.fullmatch(r"U\d", chain.name), chain.name
                for rule in chain.rules:
                    text = explain_rule(rule)
                    assert re.fullmatch(r"[A-Z].*\.", text) and "\n" not in text and "  " not in text, text
                    assert "not modelled" not in text, rule


@pytest.mark.parametrize(("name", "text"), PURPOSES)
def test_a_purpose_says_something(name: str, text: str) -> None:
    re.compile(name)
    assert text
    assert not text.endswith(".")


def test_a_chain_is_its_purpose_and_its_rules() -> None:
    rule = parse_rule("-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000")
    head, line = explain_chain("nat", "KUBE-MARK-MASQ", [rule])
    assert head.startswith("KUBE-MARK-MASQ (nat): kube-proxy: marks a packet (bit 0x4000) so that KUBE-POSTROUTING ")
    assert line == "   1  Packets get mark 0x4000 set."
    assert explain_chain("nat", "MINE", [])[1].strip() == "It has no rule: a packet goes back to where it came from."


def test_chains_of_nftables_are_told_by_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "cni: flannel-vxlan\nnodes: 2\npods: [{name: b, node: 2, listen: [80]}]\n"
        "services: [{name: web, port: 80, pods: [b]}]\nkube_proxy: {mode: nftables}\n"
    )
    main(["explain", "services", "-f", str(file)])
    assert capsys.readouterr().out == (
        "node-1, node-2: services (kube-proxy): kube-proxy (nftables): one look-up finds the service of an address and "
        "port.\n   1  ip daddr . meta l4proto . th dport vmap @service-ips\n"
        "   2  ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports\n"
    )
    main(["show", "node-1", "rules", "--table", "kube-proxy", "--chain", "services", "-f", str(file)])
    shown = capsys.readouterr().out
    assert shown.startswith("table ip kube-proxy {\n\tchain services {\n\t\tip daddr . meta")
    assert shown.endswith("\t}\n}\n")
    main(["commands", "node-1", "-f", str(file)])
    assert "ip netns exec node-1 nft -f - <<'END'\ntable ip kube-proxy {\n" in capsys.readouterr().out


def test_every_chain_of_kube_proxys_nftables_mode_has_a_purpose() -> None:
    made = default_cluster(find("flannel-vxlan"))
    network = build(replace(made, kube_proxy=KubeProxy(mode="nftables")))
    (table,) = network["node-1"].netfilter.nft.values()
    assert all(purpose(name) for name in table.chains)
