"""Answers to the exercises of notebooks/: what has to be taken for right, what for wrong, and a word of the reason.

An answer is the source of its cell. Wrong ones are those that people give.
"""

from typing import NamedTuple


class Exercise(NamedTuple):
    right: tuple[str, ...]
    wrong: tuple[tuple[str, str], ...]  # the answer, and what the verdict must say


SOLUTIONS: dict[str, tuple[Exercise, Exercise, Exercise]] = {
    "1-one-packet": (
        Exercise(
            right=("ttl_of_c = 64",),
            wrong=(
                ("ttl_of_c = 62", "reply of b"),
                ("ttl_of_c = 63", "one subnet"),
                ("ttl_of_c = 1", "starts with a TTL of 64"),
                ("ttl_of_c = '64'", "whole number"),
            ),
        ),
        Exercise(
            right=(
                "route = '10.244.2.0/24 dev cni0 proto kernel scope link src 10.244.2.1'",
                "route = '  10.244.2.0/24 dev cni0  proto kernel scope link src 10.244.2.1 '",
            ),
            wrong=(
                ("route = 'default via 192.168.56.1 dev eth0'", "longer prefix"),
                ("route = '10.244.1.0/24 via 192.168.56.11 dev eth0'", "not in its prefix"),
                ("route = '10.244.2.0/24'", "no such route"),
                ("route = 7", "in quotes"),
            ),
        ),
        Exercise(
            right=(
                "line = 'node-2 sysctl net.ipv4.ip_forward=0'",
                "line = 'node-2 iptables -I FORWARD -d 10.244.2.0/24 -j DROP'",
                "line = 'node-2 route add blackhole 10.244.2.2'",
            ),
            wrong=(
                ("line = 'node-1 sysctl net.ipv4.ip_forward=0'", "node-1 drops it"),
                ("line = 'node-2 iptables -I FORWARD -s 10.244.2.0/24 -j DROP'", "stopped the answer"),
                ("line = 'node-2 sysctl net.ipv4.ip_forward=1'", "still answers"),
                ("line = 'node2 sysctl net.ipv4.ip_forward=0'", "node-2"),
            ),
        ),
    ),
    "2-bridge-and-arp": (
        Exercise(
            right=("copies = 29",),
            wrong=(("copies = 30", "came by"), ("copies = 1", "broadcast"), ("copies = 5", "ports of a bridge")),
        ),
        Exercise(
            right=("entry = next(line for line in show(cold.after, 'node-1', 'fdb').splitlines() if '86:43' in line)",),
            wrong=(
                ("entry = 'e6:2c:4a:ed:9d:8c dev vethcc38c95e master cni0'", "leads to a"),
                ("entry = 'ae:43:86:42:6a:35 dev veth1008b0bd master cni0 permanent'", "permanent"),
                ("entry = 'veth1008b0bd'", "no such line"),
            ),
        ),
        Exercise(
            right=("line = f'a neigh add {pw.address_of(net, c.room)} lladdr 86:43:dd:e2:31:42 dev eth0'",),
            wrong=(
                ("line = 'a neigh add 10.244.1.3 lladdr 02:00:00:00:00:01 dev eth0'", "c does not answer"),
                ("line = 'c neigh add 10.244.1.2 lladdr e6:2c:4a:ed:9d:8c dev eth0'", "still has to ask"),
                ("line = 'a neigh add 10.244.1.3 dev eth0'", "lladdr"),
            ),
        ),
    ),
    "3-routes-and-bgp": (
        Exercise(
            right=("next_hop = '192.168.56.12'",),
            wrong=(
                ("next_hop = '192.168.56.13'", "longest prefix"),
                ("next_hop = '10.0.0.1'", "No route"),
                ("next_hop = 12", "in quotes"),
            ),
        ),
        Exercise(
            right=(
                "routes = ['router route add 10.244.150.0/26 via 192.168.57.11', "
                "'router route add 10.244.189.128/26 via 192.168.56.11']",
            ),
            wrong=(
                ("routes = ['router route add 10.244.150.0/26 via 192.168.57.11']", "answer has to come back"),
                ("routes = ['router route add 10.244.189.128/26 via 192.168.56.11']", "does not get to b"),
                ("routes = ['node-1 route del default']", "Only the router"),
                ("routes = ['router route add 10.244.150.0/26 via 10.9.9.9']", "10.9.9.9"),
            ),
        ),
        Exercise(
            right=("died = ('router', 'IP_INNOROUTES')", "died = ('router', pw.Reason.IP_INNOROUTES)"),
            wrong=(
                ("died = ('node-1', 'IP_INNOROUTES')", "a route for every address"),
                ("died = ('router', 'NO_SOCKET')", "That is the room"),
                ("died = ('b', 'IP_INNOROUTES')", "not dropped in b"),
                ("died = 'router'", "parentheses"),
            ),
        ),
    ),
    "4-ip-in-ip": (
        Exercise(
            right=("frame = 1062",),
            wrong=(
                ("frame = 1042", "without a tunnel"),
                ("frame = 1048", "Ethernet header"),
                ("frame = 1028", "inner packet"),
                ("frame = 1000", "payload"),
                ("frame = 1500", "Add up"),
            ),
        ),
        Exercise(
            right=("ttl = 62",),
            wrong=(("ttl = 61", "router"), ("ttl = 63", "Two hosts"), ("ttl = 64", "one each"), ("ttl = 9", "64")),
        ),
        Exercise(
            right=("tunnel = {('a', 'b'): True, ('a', 'd'): False, ('b', 'd'): True}",),
            wrong=(
                (
                    "tunnel = {('a', 'b'): True, ('a', 'd'): True, ('b', 'd'): True}",
                    "a and d are on nodes of one subnet",
                ),
                ("tunnel = {('a', 'b'): False, ('a', 'd'): False, ('b', 'd'): True}", "a and b are on nodes of two"),
                ("tunnel = {('a', 'b'): True}", "a-d"),
            ),
        ),
    ),
    "5-vxlan-and-the-fdb": (
        Exercise(
            right=("says = {'device': 'route', 'inner mac': 'neigh', 'outer ip': 'fdb'}",),
            wrong=(
                ("says = {'device': 'route', 'inner mac': 'fdb', 'outer ip': 'neigh'}", "IP address into an Ethernet"),
                ("says = {'device': 'route', 'inner mac': 'neigh', 'outer ip': 'route'}", "keyed by it"),
                ("says = {'device': 'arp', 'inner mac': 'neigh', 'outer ip': 'fdb'}", "none of the tables"),
                ("says = {'device': 'route', 'inner mac': 'neigh', 'outer ip': ...}", "no answer yet"),
            ),
        ),
        Exercise(
            right=("repair = f'node-1 fdb replace {vtep} dev flannel.1 dst 192.168.56.12'",),
            wrong=(
                ("repair = f'node-1 fdb replace {vtep} dev flannel.1 dst 192.168.56.13'", "node-3 drops it"),
                ("repair = f'node-2 fdb replace {vtep} dev flannel.1 dst 192.168.56.12'", "does not answer"),
                ("repair = ['link node-1 up', 'link node-2 up']", "One line"),
                ("repair = 'node-1 fdb replace x dev flannel.1 dst 192.168.56.12'", "'x'"),
            ),
        ),
        Exercise(
            right=("room = 'node-3'",),
            wrong=(
                ("room = 'node-2'", "never sees it"),
                ("room = 'node-1'", "does not drop it"),
                ("room = 'node-9'", "no room"),
            ),
        ),
    ),
    "6-nat-and-services": (
        Exercise(
            right=("source = str(pw.address_of(net, 'a'))",),
            wrong=(
                ("source = '10.96.1.1'", "service's address"),
                ("source = '192.168.56.11'", "a node's"),
                ("source = '10.244.1.3'", "does the nat step change"),
                ("source = 'a'", "IPv4 address"),
            ),
        ),
        Exercise(
            right=("probabilities = [1 / 3, 1 / 2, 1]", "probabilities = (0.333, 0.5, 1)"),
            wrong=(
                ("probabilities = [1 / 3, 1 / 3, 1 / 3]", "0.333, 0.222, 0.148 of the connections, and nobody 0.296"),
                ("probabilities = [1 / 3, 1 / 2]", "list of 3"),
                ("probabilities = ['a third', 'a half', 'all']", "a third"),
            ),
        ),
        Exercise(
            right=("seen = '10.244.1.0'",),
            wrong=(
                ("seen = '203.0.113.10'", "never called"),
                ("seen = '192.168.56.11'", "device the packet leaves by"),
                ("seen = '192.168.56.12'", "b's answer first"),
            ),
        ),
    ),
    "7-mtu": (
        Exercise(
            right=("largest = 1452",),
            wrong=(
                ("largest = 1472", "too large"),
                ("largest = 1453", "too large"),
                ("largest = 1400", "so does a larger one"),
                ("largest = -1", "from 0 to 65507"),
            ),
        ),
        Exercise(
            right=("mss = 1410",),
            wrong=(
                ("mss = 1450", "That is the MTU"),
                ("mss = 1430", "TCP has a header"),
                ("mss = 1398", "timestamps"),
                ("mss = 1460", "1500"),
            ),
        ),
        Exercise(
            right=(
                "line = 'a link set eth0 mtu 1450'",
                "line = 'a iptables -I INPUT -p icmp -j ACCEPT'",
                "line = 'a iptables -D INPUT -p icmp -j DROP'",
                "line = 'node-1 iptables -t mangle -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS "
                "--clamp-mss-to-pmtu'",
            ),
            wrong=(
                ("line = 'link a up'", "timeout"),
                ("line = 'a iptables -A INPUT -p icmp -j ACCEPT'", "timeout"),
                ("line = 'a link set eth0 mtu 1460'", "timeout"),
                ("line = ['a link set eth0 mtu 1450', 'link a up']", "One line"),
            ),
        ),
    ),
    "8-compare-cnis": (
        Exercise(
            right=("saved = 30",),
            wrong=(("saved = 50", "what VXLAN adds"), ("saved = 20", "what IP-in-IP adds"), ("saved = 0", "frame")),
        ),
        Exercise(
            right=(
                "work = {'flat-bridge', 'flannel-host-gw', 'calico-bgp', 'calico-ipip-crosssubnet', "
                "'calico-vxlan-crosssubnet'}",
            ),
            wrong=(
                ("work = {'flat-bridge', 'calico-ipip'}", "calico-ipip is not one of them"),
                ("work = {'flat-bridge', 'flannel-host-gw', 'calico-bgp'}", "2 more"),
                ("work = {'flanel-host-gw'}", "flannel-host-gw"),
                ("work = 'flat-bridge'", "in braces"),
            ),
        ),
        Exercise(
            right=(
                "best = {'flannel-ipip', 'calico-ipip', 'calico-ipip-crosssubnet'}",
                "best = {m for m in modes() if walked(m, 2).delivered and walked(m, 2).totals.path_mtu == 1480}",
            ),
            wrong=(
                ("best = {'calico-bgp'}", "does not connect"),
                ("best = {'calico-ipip', 'flannel-vxlan'}", "adds more bytes"),
                ("best = {'calico-ipip'}", "2 more"),
            ),
        ),
    ),
}
