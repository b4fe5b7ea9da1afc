"""What ipvsadm is told: every command, what it refuses, and what becomes of turns and connections."""

from __future__ import annotations

import re

import pytest

from packetwalk.edit import whatif
from packetwalk.ipvsadm import ipvsadm
from packetwalk.netns.ipvs import Ipvs
from packetwalk.network import Network
from tests.netns.balancer import balancer, came, went
from tests.netns.rooms import tcp

WEB = "-t 10.96.0.1:80"


def told(*lines: str) -> Ipvs:
    ipvs = Ipvs()
    for line in lines:
        ipvsadm(ipvs, line.split())
    return ipvs


def turn(ipvs: Ipvs) -> str:
    (service,) = ipvs.services.values()
    server = ipvs.schedule(service, 1, 1)
    return str(server.addr) if server is not None else ""


def test_services_and_servers_come_change_and_go() -> None:
    ipvs = told(f"-A {WEB} -s rr", f"-a {WEB} -r 10.0.1.2 -m", f"-a {WEB} -r 10.0.1.3:8080 -m -w 2")
    ipvsadm(ipvs, ["--edit-server", "--tcp-service", "10.96.0.1:80", "-r", "10.0.1.3:8080", "-m", "--weight", "0"])
    ipvsadm(ipvs, f"-E {WEB} -s wlc -p 60".split())
    assert str(ipvs).splitlines() == [
        f"-A {WEB} -s wlc -p 60", f"-a {WEB} -r 10.0.1.2:80 -m -w 1", f"-a {WEB} -r 10.0.1.3:8080 -m -w 0"]  # fmt: skip
    ipvsadm(ipvs, f"-d {WEB} -r 10.0.1.2:80".split())
    assert str(ipvs).splitlines()[1:] == [f"-a {WEB} -r 10.0.1.3:8080 -m -w 0"]
    ipvsadm(ipvs, f"-D {WEB}".split())
    assert str(ipvs) == ""
    assert str(told(f"-A {WEB}", "-C")) == ""


def test_rr_goes_on_after_the_last_one_when_servers_come() -> None:
    ipvs = told(f"-A {WEB} -s rr", f"-a {WEB} -r 10.0.1.1 -m", f"-a {WEB} -r 10.0.1.2 -m")
    assert turn(ipvs) == "10.0.1.2", "the last one added is the first"
    ipvsadm(ipvs, f"-a {WEB} -r 10.0.1.3 -m".split())
    assert [turn(ipvs) for _ in range(3)] == ["10.0.1.1", "10.0.1.3", "10.0.1.2"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "a command was expected: -A, -E, -D, -C, -a, -e, -d"),
        ("-L", "there is no command of ipvsadm '-L'; "),
        ("--add-servers", "did you mean '--add-server'"),
        (f"-E {WEB}", f"there is no virtual service {WEB}; there is none"),
        (f"-d {WEB} -r 10.0.1.1", f"there is no virtual service {WEB}"),
    ],
)
def test_what_is_wrong_is_one_line(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        told(line)
    assert "\n" not in str(error.value)


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"has no real server 10\.0\.1\.9:80; there are 10\.0\.1\.2:80|did you mean"):
        told(f"-A {WEB}", f"-a {WEB} -r 10.0.1.2 -m", f"-e {WEB} -r 10.0.1.9 -m")


def test_what_if_a_server_is_taken_out() -> None:
    """A weight of 0 lets what is open go on; a server that is gone does not."""
    network = Network("one")
    room = network.add(balancer())
    came(room, tcp("10.0.0.2", "10.96.0.1"))
    came(room, tcp("10.0.1.2", "10.0.0.2", sport=8080, dport=40000, flags="SA"), dev="eth1")
    quiet = whatif(network, f"lvs ipvsadm -e {WEB} -r 10.0.1.2:8080 -m -w 0")["lvs"]
    assert went(came(quiet, tcp("10.0.0.2", "10.96.0.1", flags="A")), "eth1")
    assert not went(came(quiet, tcp("10.0.0.2", "10.96.0.1", sport=5)), "eth1")
    gone = whatif(network, f"lvs ipvsadm -d {WEB} -r 10.0.1.2:8080")["lvs"]
    assert not went(came(gone, tcp("10.0.0.2", "10.96.0.1", flags="A")), "eth1")
    assert room.ipvs.services == balancer().ipvs.services


def test_the_sysctls_of_ipvs_may_be_set() -> None:
    network = Network("one")
    network.add(balancer())
    changed = whatif(network, "lvs sysctl net.ipv4.vs.conn_reuse_mode=0")["lvs"]
    assert changed.sysctls["net.ipv4.vs.conn_reuse_mode"] == 0
    with pytest.raises(ValueError, match=r"did you mean 'net\.ipv4\.vs\.snat_reroute'"):
        whatif(network, "lvs sysctl net.ipv4.vs.snat_rerout=0")
