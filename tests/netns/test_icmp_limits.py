"""How many ICMP messages a host sends: icmp_ratelimit, icmp_ratemask, icmp_msgs_per_sec, and ip_error's own bucket.

The numbers were seen on a 6.18 kernel.
"""

from __future__ import annotations

import pytest

from packetwalk.netns.namespace import Netns
from packetwalk.packet import Packet
from packetwalk.trace import Step
from tests.netns.rooms import M3, SECOND, echo, frame, of, router, sent, udp

CLOSED = udp("10.0.0.2", "10.0.0.1", dport=9)
FAR = echo("10.0.0.2", "10.9.9.9")
FROM_LO = udp("127.0.0.1", "127.0.0.1", dport=9)


def room(**sysctls: int) -> Netns:
    made = router("r", "10.0.0.1/24", known=True)
    for key, value in sysctls.items():
        made.sysctl(f"net.ipv4.{key}", value)
    return made


def answers(made: Netns, packet: Packet, times: int, *, now: int = 0, gap: int = 0) -> int:
    """How many frames that many packets bring out of the room."""
    return sum(len(sent(made.receive("eth0", frame(packet), now + n * gap))) for n in range(times))


def withheld(steps: list[Step]) -> list[str]:
    return [str(s.what) for s in of(steps, "consume")]


def test_six_at_once_then_one_per_ratelimit() -> None:
    """inet_peer_xrlim_allow: XRLIM_BURST_FACTOR."""
    made = room()
    assert answers(made, CLOSED, 9) == 6
    assert answers(made, CLOSED, 2, now=SECOND) == 1
    assert withheld(made.receive("eth0", frame(CLOSED), SECOND)) == [
        "no icmp error: icmp_ratelimit 1000 ms for 10.0.0.2"
    ]


def test_each_receiver_has_a_bucket_of_its_own() -> None:
    made = room()
    made.neigh_add("10.0.0.3", M3, "eth0")
    assert answers(made, CLOSED, 9) == 6
    assert answers(made, udp("10.0.0.3", "10.0.0.1", dport=9), 9) == 6


def test_ip_error_and_ratelimit_draw_on_one_bucket() -> None:
    """Both spend rate_tokens of the same inet_peer, so a router without a route answers twice, not five times."""
    assert answers(room(), FAR, 7) == 2
    assert answers(room(icmp_ratemask=0), FAR, 7) == 5


def test_a_ratelimit_of_nothing_empties_the_bucket_of_ip_error() -> None:
    made = room(icmp_ratelimit=0)
    assert answers(made, CLOSED, 9) == 9
    assert answers(made, FAR, 7) == 0


@pytest.mark.parametrize(("mask", "expected"), [(6168, 6), (1 << 3, 6), (1 << 11, 9), (0, 9)])
def test_only_types_in_the_mask_are_limited(mask: int, expected: int) -> None:
    """icmpv4_mask_allow: a bit per type; destination unreachable is 3."""
    assert answers(room(icmp_ratemask=mask), CLOSED, 9) == expected


def test_path_mtu_discovery_is_never_limited() -> None:
    made = router("r", "10.0.0.1/24", "10.0.1.1/24", known=True)
    made.link_set("eth1", mtu=600)
    assert answers(made, echo("10.0.0.2", "10.0.1.2", size=900, df=True), 9) == 9


def test_echo_replies_are_limited_where_the_mask_says_so() -> None:
    """icmp_reply."""
    ping = echo("10.0.0.2", "10.0.0.1")
    assert answers(room(), ping, 9) == 9
    assert answers(room(icmp_ratemask=1), ping, 9) == 6


def test_the_whole_namespace_has_a_credit_that_grows_with_time() -> None:
    """icmp_global_allow: a burst of icmp_msgs_burst, then icmp_msgs_per_sec, counted every 20 ms at the soonest."""
    made = room(icmp_ratelimit=0, icmp_msgs_burst=4, icmp_msgs_per_sec=100)
    assert answers(made, CLOSED, 9) == 4
    assert withheld(made.receive("eth0", frame(CLOSED), 0)) == ["no icmp error: icmp_msgs_per_sec 100"]
    assert answers(made, CLOSED, 9, now=SECOND // 100) == 0
    assert answers(made, CLOSED, 9, now=SECOND // 50) == 2
    assert answers(made, CLOSED, 9, now=5 * SECOND) == 4


def test_nothing_over_loopback_is_limited() -> None:
    made = room()
    seen = [made.send(FROM_LO, 0) for _ in range(9)]
    assert [len(of(steps, "icmp_error")) for steps in seen] == [1] * 9
