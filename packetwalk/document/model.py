"""The packetwalk document: what may stand in a cluster.yaml, field by field. `packetwalk schema` prints it.

The fields are those of `packetwalk.kube.cluster`, with rates and delays in the words of tc.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

from packetwalk.addr import IPv4, Mac, Prefix
from packetwalk.edit import RATES, TIMES, quantity

VERSION = 1
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
DEVICE_MAX = 15  # IFNAMSIZ without its zero
MTU_MIN, MTU_MAX = 68, 65535


def _name(text: str) -> str:
    if not LABEL.fullmatch(text) or len(text) > 63:
        raise ValueError(f"a name of lower-case letters, digits, - and . was expected (RFC 1123), not {text!r}")
    return text


def _device(text: str) -> str:
    if not text or len(text) > DEVICE_MAX or re.search(r"[\s/:]", text):
        raise ValueError(f"a device name of at most {DEVICE_MAX} characters was expected, not {text!r}")
    return text


def _ip(text: str) -> str:
    return str(IPv4(text))


def _mac(text: str) -> str:
    return str(Mac(text))


def _cidr(text: str) -> str:
    if "/" not in text:
        raise ValueError(f"a range such as 10.0.0.0/16 was expected, not {text!r}")
    return str(Prefix.parse(text))


def _measured(units: Mapping[str, int]) -> Callable[[Any], int]:
    return lambda value: quantity(units)(value if isinstance(value, str) else "")


def _text(form: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "format": form, "examples": [example]})


def _shape(value: Any) -> str:
    """Which kind of a field that may be a list or a mapping it is."""
    return "list" if isinstance(value, list) else "mapping" if isinstance(value, dict) else "word"


Name = Annotated[str, AfterValidator(_name)]
DeviceName = Annotated[str, AfterValidator(_device)]
Address = Annotated[str, AfterValidator(_ip), _text("ipv4", "192.168.56.11")]
Ethernet = Annotated[str, AfterValidator(_mac), _text("mac", "02:00:00:00:00:01")]
Cidr = Annotated[str, AfterValidator(_cidr), _text("cidr", "10.244.0.0/16")]
Rate = Annotated[int, BeforeValidator(_measured(RATES)), _text("rate", "10gbit")]
Delay = Annotated[int, BeforeValidator(_measured(TIMES)), _text("delay", "5us")]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1, le=100_000)]


class Part(BaseModel):
    """What all parts of a document have in common: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LinkPart(Part):
    """A cable."""

    rate: Rate = Field(default=0, description="Bits per second, as tc writes them; no limit if left out.")
    delay: Delay = Field(default=0, description="One way; none if left out.")
    mtu: int = Field(default=1500, ge=MTU_MIN, le=MTU_MAX, description="Bytes of the largest IP packet.")
    queue: int = Field(default=1000, ge=1, description="Packets that wait for their turn.")


class RackPart(Part):
    """Nodes of one subnet, on one switch or several."""

    name: Name
    subnet: Cidr = Field(default="", description="Taken from node_cidr if left out.")
    gateway: Address = Field(default="", description="The subnet's first address if left out.")
    switches: list[Name] = Field(default=[], description="One if left out.")
    cables: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = Field(
        default=[], description="Pairs of switches; they may not form a loop."
    )


class NodePart(Part):
    """A machine that runs pods."""

    name: Name
    ip: Address = Field(default="", description="The next free one of its rack if left out.")
    rack: str = Field(default="", description="The next rack in turn if left out.")
    switch: str = Field(default="", description="Which of its rack's switches it is plugged into.")
    pod_cidr: Cidr = Field(default="", description="Its range, or its first block.")
    tunnel_ip: Address = Field(default="", description="The address of its tunnel device.")
    mac: Ethernet = Field(default="", description="Of its network card; drawn from the seed if left out.")
    control_plane: bool = False


class PodPart(Part):
    """Containers that share one network namespace."""

    name: Name
    node: str = Field(description="Its node, by name or by number from 1.")
    namespace: Name = "default"
    listen: list[PortNumber] = Field(default=[], description="Ports with a UDP and a TCP echo server.")
    ip: Address = Field(default="", description="The next free one of its node if left out.")
    mac: Ethernet = Field(default="", description="Drawn from the seed if left out.")
    hostif: DeviceName = Field(default="", description="The host's end of the veth pair.")
    containers: list[Name] = ["app"]


class Document(Part):
    """A cluster: nodes, pods, address ranges, the fabric below, and the CNI that fills the nodes."""

    packetwalk: int = Field(default=VERSION, ge=VERSION, le=VERSION, description="Version of this form.")
    cni: Annotated[Annotated[str, Tag("word")] | Annotated[dict[str, Any], Tag("mapping")], Discriminator(_shape)] = (
        Field(description="A mode (`packetwalk modes`), or a mapping of `mode` and its options.")
    )
    nodes: Annotated[Annotated[Count, Tag("word")] | Annotated[list[NodePart], Tag("list")], Discriminator(_shape)] = (
        Field(description="How many (node-1, node-2 and so on), or which.")
    )
    pods: list[PodPart] = []
    racks: Annotated[Annotated[Count, Tag("word")] | Annotated[list[RackPart], Tag("list")], Discriminator(_shape)] = (
        Field(default=1, description="How many, or which; each is a subnet.")
    )
    spines: int = Field(default=0, ge=0, le=64, description="0: one router joins the racks; more: leaf and spine.")
    pod_cidr: Cidr = Field(default="", description="10.244.0.0/16 if left out and large enough.")
    service_cidr: Cidr = "10.96.0.0/12"
    node_cidr: Cidr = Field(default="", description="192.168.56.0/21 if left out and large enough.")
    outside: Cidr = Field(default="203.0.113.0/24", description="The network of the host `out` behind the router.")
    link: LinkPart = Field(default=LinkPart(), description="Joins nodes to switches.")
    uplink: LinkPart = Field(default=LinkPart(), description="Joins switches and routers.")
    nic: DeviceName = Field(default="eth0", description="What a node's network card is called.")
    seed: int = Field(default=0, ge=0, description="Decides what a real cluster draws at random.")
    set: list[str] = Field(default=[], description="Lines of --set: what is changed once the cluster stands.")


PARTS: dict[Any, type[Part]] = {
    (): Document, ("nodes",): NodePart, ("racks",): RackPart, ("pods",): PodPart,
    ("link",): LinkPart, ("uplink",): LinkPart,
}  # fmt: skip
"""Which part stands where, by the names on the way to it."""


def schema() -> dict[str, Any]:
    """The JSON schema of a document, for editors."""
    return Document.model_json_schema()
