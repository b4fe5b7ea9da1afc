"""Who hands out ranges and addresses: host-local behind the controller manager, and Calico's blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packetwalk.addr import IPv4, Prefix
from packetwalk.cni.ipam import Blocks, HostLocal, fnv1

POOL = Prefix.parse("10.244.0.0/16")


def prefix(text: str) -> Prefix:
    return Prefix.parse(text)


def test_nodes_get_ranges_in_order_and_pods_count_from_two() -> None:
    ipam = HostLocal(POOL)
    assert [str(ipam.join(n)) for n in ("a", "b")] == ["10.244.1.0/24", "10.244.2.0/24"]
    assert [str(ipam.claim("b")) for _ in range(3)] == ["10.244.2.2", "10.244.2.3", "10.244.2.4"]
    assert ipam.ranges("a") == (prefix("10.244.1.0/24"),)


def test_a_wanted_range_and_address_are_left_out_of_the_count() -> None:
    ipam = HostLocal(POOL)
    ipam.join("a", prefix("10.244.1.0/24"))
    assert str(ipam.join("b")) == "10.244.2.0/24"
    ipam.claim("b", IPv4("10.244.2.2"))
    assert str(ipam.claim("b")) == "10.244.2.3"


def test_what_host_local_refuses() -> None:
    ipam = HostLocal(prefix("10.244.0.0/23"))
    ipam.join("a")
    with pytest.raises(ValueError, match=r"pod CIDR 10\.244\.0\.0/23 is too small: it has 2 ranges of /24"):
        ipam.join("b")
    with pytest.raises(ValueError, match=r"b: pod range 10\.244\.1\.128/25 overlaps that of a, 10\.244\.1\.0/24"):
        ipam.join("b", prefix("10.244.1.128/25"))
    with pytest.raises(ValueError, match=r"a: address 10\.244\.9\.9 is not in its range"):
        ipam.claim("a", IPv4("10.244.9.9"))
    with pytest.raises(ValueError, match=r"a: address 10\.244\.1\.1 is taken"):
        ipam.claim("a", IPv4("10.244.1.1"))
    with pytest.raises(ValueError, match="does not fit into"):
        HostLocal(POOL, 15)


def test_a_full_range_says_how_many_pods_it_holds() -> None:
    ipam = HostLocal(POOL, 29)
    ipam.join("a")
    assert len({ipam.claim("a") for _ in range(5)}) == 5
    with pytest.raises(ValueError, match=r"a: pod range 10\.244\.0\.8/29 is too small: it holds 5 pods"):
        ipam.claim("a")


def test_the_first_address_of_a_block_is_used_and_used_first() -> None:
    ipam = Blocks(POOL)
    block = ipam.join("node-1")
    assert block.length == 26
    assert [ipam.claim("node-1") - block.addr for _ in range(64)] == list(range(64))


def test_a_node_claims_another_block_when_its_own_is_full() -> None:
    ipam = Blocks(POOL)
    ipam.join("node-1")
    for _ in range(65):
        ipam.claim("node-1")
    first, second = ipam.ranges("node-1")
    assert second.addr == first.addr + 64


def test_an_address_is_borrowed_when_no_block_is_free() -> None:
    ipam = Blocks(prefix("10.0.0.0/25"))
    mine, other = ipam.join("a"), ipam.join("b")
    for _ in range(64):
        ipam.claim("a")
    borrowed = ipam.claim("a")
    assert borrowed in other
    assert ipam.ranges("a") == (mine, Prefix(borrowed, 32))


def test_what_block_allocation_refuses() -> None:
    ipam = Blocks(prefix("10.0.0.0/26"))
    ipam.join("a")
    with pytest.raises(ValueError, match=r"pod CIDR 10\.0\.0\.0/26 is too small: it has 1 blocks of /26"):
        ipam.join("b")
    with pytest.raises(ValueError, match=r"b: block 10\.0\.0\.32/27 overlaps one of a"):
        ipam.join("b", prefix("10.0.0.32/27"))
    with pytest.raises(ValueError, match=r"address 10\.0\.1\.1 is not in its blocks"):
        ipam.claim("a", IPv4("10.0.1.1"))
    for _ in range(64):
        ipam.claim("a")
    with pytest.raises(ValueError, match="every address is taken"):
        ipam.claim("a")


@given(st.lists(st.integers(0, 5), max_size=200))
def test_no_address_is_given_out_twice(nodes: list[int]) -> None:
    ipam = Blocks(prefix("10.0.0.0/23"))
    for n in range(6):
        ipam.join(f"n{n}")
    given_out = [ipam.claim(f"n{n}") for n in nodes]
    assert len(set(given_out)) == len(given_out)
    for n, addr in zip(nodes, given_out, strict=True):
        assert any(addr in r for r in ipam.ranges(f"n{n}"))


def test_fnv1_is_that_of_its_authors() -> None:
    """Test vectors of the FNV reference implementation, 32 bits."""
    assert [hex(fnv1(t)) for t in (b"", b"a", b"foobar")] == ["0x811c9dc5", "0x50c5d7e", "0x31f0b262"]
