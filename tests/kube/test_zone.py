"""packetwalk.kube.zone: what CoreDNS' plugin kubernetes answers for a cluster's names."""

import pytest

from packetwalk.apps.dns import NOERROR, NXDOMAIN
from packetwalk.kube.service import Endpoint, Service, ServicePort
from packetwalk.kube.zone import ClusterZone, PublicZone, namespaces

DOMAIN = "cluster.local"
PORTS = (ServicePort(80, "http", target_port=8080), ServicePort(53, "dns", "UDP"))
SERVICES = (
    Service("web", PORTS, (Endpoint("10.244.1.2", pod="prod/w-0"), Endpoint("10.244.2.2", pod="prod/w-1"),
                           Endpoint("10.244.2.3", ready=False)), "prod", cluster_ip="10.96.1.1"),
    Service("db", (ServicePort(5432, "sql"),), (Endpoint("10.244.1.9", pod="prod/db-0"), Endpoint("10.244.2.9"),
                                                Endpoint("10.244.2.8", ready=False)), "prod", cluster_ip="None"),
    Service("empty", PORTS[:1], (), "prod", cluster_ip="None"),
    Service("mail", (), (), "prod", type="ExternalName", external_name="mail.example.com"),
)  # fmt: skip
ZONE = ClusterZone(DOMAIN, SERVICES, namespaces(SERVICES, ["shop"]), {("prod/db-0", "prod/db"): "db-0"})


def ask(name: str, type: str = "A") -> tuple[str, list[str]]:
    """The rcode, and the data of what is answered."""
    answer = ZONE.find(name, type)
    assert answer is not None
    assert bool(answer.authority) == (not answer.answers), "the SOA comes where there is no answer (RFC 2308)"
    assert {r.name for r in answer.answers} <= {name}
    return answer.rcode, [r.data for r in answer.answers]


@pytest.mark.parametrize(("name", "addresses"), [
    ("web.prod.svc", ["10.96.1.1"]),
    ("_http._tcp.web.prod.svc", ["10.96.1.1"]),
    ("10-244-1-2.web.prod.svc", ["10.244.1.2"]),
    ("db.prod.svc", ["10.244.1.9", "10.244.2.9"]),
    ("db-0.db.prod.svc", ["10.244.1.9"]),
    ("10-244-2-9.db.prod.svc", ["10.244.2.9"]),
    ("10-244-9-9.shop.pod", ["10.244.9.9"]),
])  # fmt: skip
def test_addresses(name: str, addresses: list[str]) -> None:
    assert ask(f"{name}.{DOMAIN}") == (NOERROR, addresses)
    assert ask(f"{name}.{DOMAIN}", "AAAA") == (NOERROR, []), "the name is there, without IPv6: no data"


@pytest.mark.parametrize("name", [
    "nope.prod.svc", "web.nope.svc", "web.prod", "prod", "x.y.z.web.prod.svc", "10-244-2-3.web.prod.svc",
    "10-244-1-9.db.prod.svc", "_sql._tcp.web.prod.svc", "_http._udp.web.prod.svc", "empty.prod.svc", "x.mail.prod.svc",
    "10-244-1.prod.pod", "10-244-1-300.prod.pod", "x.10-244-1-2.prod.pod", "10-244-1-2.nope.pod",
])  # fmt: skip
def test_names_that_are_not_there(name: str) -> None:
    for kind in ("A", "AAAA", "SRV"):
        assert ask(f"{name}.{DOMAIN}", kind) == (NXDOMAIN, [])


@pytest.mark.parametrize("name", ["svc", "pod", "prod.svc", "kube-system.svc", "shop.pod"])
def test_names_that_only_have_others_below(name: str) -> None:
    assert ask(f"{name}.{DOMAIN}") == (NOERROR, [])


def test_the_zone_itself() -> None:
    assert ask(DOMAIN) == (NOERROR, [])
    assert ask(DOMAIN, "SOA")[1] == [f"ns.dns.{DOMAIN}. hostmaster.{DOMAIN}. 1 7200 1800 86400 30"]


def test_srv() -> None:
    assert ask(f"_http._tcp.web.prod.svc.{DOMAIN}", "SRV")[1] == [f"0 100 80 web.prod.svc.{DOMAIN}."]
    both = [f"0 50 {port} web.prod.svc.{DOMAIN}." for port in (80, 53)]
    assert ask(f"web.prod.svc.{DOMAIN}", "SRV")[1] == both
    answer = ZONE.find(f"_sql._tcp.db.prod.svc.{DOMAIN}", "SRV")
    assert answer is not None
    targets = {f"db-0.db.prod.svc.{DOMAIN}": "10.244.1.9", f"10-244-2-9.db.prod.svc.{DOMAIN}": "10.244.2.9"}
    assert [r.data for r in answer.answers] == [f"0 50 5432 {target}." for target in targets]
    assert {r.name: r.data for r in answer.additional} == targets


def test_an_external_name_is_an_alias() -> None:
    for kind in ("A", "AAAA", "CNAME"):
        answer = ZONE.find(f"mail.prod.svc.{DOMAIN}", kind)
        assert answer is not None and [(r.type, r.data) for r in answer.answers] == [("CNAME", "mail.example.com.")]


def test_reverse_names() -> None:
    assert ask("1.1.96.10.in-addr.arpa", "PTR")[1] == [f"web.prod.svc.{DOMAIN}."]
    assert ask("9.1.244.10.in-addr.arpa", "PTR")[1] == [f"db-0.db.prod.svc.{DOMAIN}."]
    assert ask("2.1.244.10.in-addr.arpa", "PTR")[1] == [f"10-244-1-2.web.prod.svc.{DOMAIN}."]
    assert ZONE.find("8.2.244.10.in-addr.arpa", "PTR") is None, "it is not ready: others are asked (fallthrough)"


def test_other_names_are_for_others() -> None:
    assert ZONE.find("example.com", "A") is None and ZONE.find("notcluster.local", "A") is None


def test_the_outside() -> None:
    zone = PublicZone({"example.com": "203.0.113.9", "www.example.com": "example.com"})
    assert [(r.type, r.data) for r in zone.find("example.com", "A").answers] == [("A", "203.0.113.9")]
    assert [(r.type, r.data) for r in zone.find("www.example.com", "AAAA").answers] == [("CNAME", "example.com.")]
    assert (zone.find("example.com", "AAAA").rcode, zone.find("example.com", "AAAA").answers) == (NOERROR, ())
    assert zone.find("example.org", "A").rcode == NXDOMAIN
