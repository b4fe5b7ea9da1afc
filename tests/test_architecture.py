"""Who may import whom: the table of design.md, checked against every import in every file of packetwalk.

The table is exhaustive. A new module fails until it has a place in LAYERS or PACKAGES, so its place is a decision.
Imports under `if TYPE_CHECKING:` do not count: they name a type and bring no code. All others do, in functions too.
"""

import ast
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).resolve()
PACKAGE = HERE.parent.parent / "packetwalk"

# --- the table -------------------------------------------------------------------------------------------------------
# From top to bottom. A module may import from the rows below its own; those of one row never import one another.
# `__init__` is the front door; `netns` is netns/__init__.py. A name in PACKAGES stands for all its modules, which may
# import one another.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli", "teach"),
    ("__init__",),
    ("prove", "prove_url", "promises", "planned", "pytest_plugin", "testing"),
    ("predict", "judge", "source"),
    ("document",),
    ("engine", "view", "kube", "cni", "snapshot", "kernel"),
    ("show", "edit", "explain", "alike"),
    ("commands", "iptables", "ipvsadm"),
    ("network",),
    ("netns",),
    ("netns.namespace",),
    ("netns.process",),
    ("netns.stack",),
    ("netns.bridge", "netns.arp", "netns.ip_input", "netns.ip_forward", "netns.ip_output", "netns.icmp", "netns.local",
     "netns.encap"),
    ("netns.br_netfilter",),
    ("netns.hooks",),
    ("netns.ipvs_core",),
    ("netns.reject", "netns.nat_target"),
    ("netns.fragment",),
    ("netns.route", "netns.tunnel"),
    ("netns.visit", "netns.verbs"),
    ("netns.links",),
    ("netns.tables",),
    ("netns.chooser", "netns.nat", "netns.nft"),
    ("netns.netfilter", "netns.shared", "netns.learned", "netns.ipvs"),
    ("netns.chain",),
    ("netns.rule", "netns.nft_rule"),
    ("netns.nft_action",),
    ("netns.match_packet", "netns.match_state", "netns.match_memory", "netns.target"),
    ("netns.nft_words",),
    ("netns.nft_set",),
    ("netns.match", "netns.ipset", "netns.nft_term"),
    ("netns.seen",),
    ("netns.option",),
    ("netns.conntrack", "netns.ipvs_conn", "netns.fib", "netns.neighbour", "netns.fdb", "netns.socket"),
    ("netns.fib_table",),
    ("netns.policy_rule", "netns.reno"),
    ("netns.device", "netns.sctp_track", "netns.tcp", "netns.tcp_track"),
    ("frames",),
    ("exchanges",),
    ("codec", "trace"),
    ("data", "way"),
    ("text",),
    ("totals", "words"),
    ("sctp",),
    ("packet",),
    ("apps",),
    ("addr", "checksums", "collector", "hint"),
)  # fmt: skip

# The modules of each package that is one unit above; "" is its __init__.py. Empty: planned, nothing there yet.
PACKAGES: dict[str, tuple[str, ...]] = {
    "cli": ("", "answer", "compare", "conformance", "explain", "fetch", "options", "plan", "plot", "prove",
            "scenarios", "simulate", "tables", "walk"),
    "engine": ("", "sim", "branches", "costs", "faults", "fetch", "load", "sender", "simulate", "sources", "stats",
               "walk"),
    "view": ("", "compare", "floorplan", "html", "html.packets", "html.picture", "load", "pcap", "plot", "plot.headers",
             "plot.latency", "plot.overhead", "plot.picture", "plot.topology", "plot.waterfall", "stages", "table"),
    "document": ("", "endpoints", "kinds", "model", "objects", "problems", "slips", "tree"),
    "kube": ("", "balancer", "build", "chance", "cidr", "cluster", "controlplane", "coredns", "dns", "fabric",
             "ingress", "ingress_nginx", "kubeproxy", "kubeproxy_ipvs", "kubeproxy_nft", "layout", "plan", "rules",
             "service", "workload", "zone"),
    "apps": ("", "client", "dns", "http", "nameserver", "program", "resolver"),
    "cni": ("", "attach", "base", "bridge", "calico", "felix", "flannel", "geneve", "ipam"),
    "snapshot": ("", "iproute", "links", "iptables_save", "ipset_save", "ipvsadm_save", "nft_list", "reader"),
    "kernel": ("", "doors", "leftovers", "realise", "capture", "probe", "programs", "bench", "record", "responder"),
    "teach": ("", "bridge", "choice", "ipip", "mtu", "nat", "packet", "routes", "verdict", "vxlan"),
}

# Siblings that may be imported all the same.
SIBLINGS = {"kube": {"snapshot"}, "kernel": {"engine", "snapshot"}}

# Units that may import less than lies below them.
ONLY = {"view": {"network", "frames", "codec", "trace", "text", "totals", "words", "packet", "addr"}}

# Imports that go up, each allowed in one function and nowhere else: (module, function) -> unit.
LAZY = {
    **{("trace", f"Trace.{name}"): "view" for name in ("_repr_html_", "to_html", "to_pcapng")},
    ("exchanges", "Fetch.to_html"): "view", ("engine.load", "Load.__str__"): "view",
}  # fmt: skip

# Rule 1: who may import these, as modules or whole packages; and those that may only be imported inside functions.
THIRD_PARTY = {"simpy": ("engine.sim",), "networkx": ("network", "kube.fabric", "view"), "matplotlib": ("view.plot",)}
INSIDE_FUNCTIONS = {"matplotlib"}

# Rule 2: what a room must not know.
NOT_IN_NETNS = {"time", "random", "logging", "os", "socket"}

# Rule 3: what those who fill rooms must not know, or they could forward.
FILLERS, NOT_IN_FILLERS = {"cni", "kube"}, {"packet", "trace", "codec"}

# Rules 9 and 10.
BAD_NAMES = {"util", "utils", "manager", "managers", "handler", "handlers"}
FILE_LINES, FUNCTION_LINES = 420, 60

ROW = {unit: number for number, row in enumerate(LAYERS) for unit in row}
DECLARED = set(ROW) - set(PACKAGES)
DECLARED |= {f"{unit}.{name}".rstrip(".") for unit, names in PACKAGES.items() for name in names}


# --- the checker -----------------------------------------------------------------------------------------------------
class Import(NamedTuple):
    """One imported module: `target` is absolute, `scope` the dotted classes and functions around it."""

    line: int
    target: str
    scope: str
    in_function: bool


def module_of(file: str) -> str:
    """`netns/fib.py` is netns.fib, `netns/__init__.py` is netns, `__init__.py` is __init__."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def unit_of(module: str) -> str | None:
    """The name in LAYERS that `module` belongs to, or None."""
    if module in ROW:
        return module
    head = module.partition(".")[0]
    return head if head in PACKAGES else None


def is_type_checking(test: ast.expr) -> bool:
    """Whether an `if` asks for TYPE_CHECKING, bare or as typing.TYPE_CHECKING."""
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))


class Imports(ast.NodeVisitor):
    """Collects the imports of one file, and the complaints about those that cannot be read."""

    def __init__(self, file: str, known: set[str]) -> None:
        self.file, self.known = file, known
        self.found: list[Import] = []
        self.complaints: list[str] = []
        self.scope: list[str] = []
        self.functions = 0

    def add(self, node: ast.stmt | ast.expr, target: str) -> None:
        self.found.append(Import(node.lineno, target, ".".join(self.scope), self.functions > 0))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.add(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            here = ["packetwalk", *self.file.split("/")[:-1]]
            base = ".".join([*here[: len(here) - node.level + 1], *([node.module] if node.module else [])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            self.add(node, inner if inner.removeprefix("packetwalk.") in self.known else base)

    def visit_Call(self, node: ast.Call) -> None:
        name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
        if name in ("import_module", "__import__"):
            target = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            if isinstance(target, str) and not target.startswith("."):
                self.add(node, target)
            elif self.file != "__init__.py":
                self.complaints.append(f"{self.file}:{node.lineno}: {name}() of a computed name hides what is imported")
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        for child in node.orelse if is_type_checking(node.test) else [node.test, *node.body, *node.orelse]:
            self.visit(child)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.scope.append(node.name)
        self.generic_visit(node)
        self.scope.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.functions += 1
        self.scope.append(node.name)
        self.generic_visit(node)
        self.scope.pop()
        self.functions -= 1

    visit_AsyncFunctionDef = visit_FunctionDef


def layer_breach(module: str, target: str, scope: str) -> str | None:
    """Why `module` may not import `target` by the table of layers; both without the leading `packetwalk.`."""
    unit, other = unit_of(module), unit_of(target)
    if unit is None:
        return None  # name_breaches has said so, once
    if other is None:
        return f"{target} has no place in LAYERS or PACKAGES"
    if unit == other or LAZY.get((module, scope)) == other or other in SIBLINGS.get(unit, ()):
        return None
    if ROW[other] < ROW[unit]:
        return f"{unit} lies below {other}, and imports only go down"
    if ROW[other] == ROW[unit]:
        return f"{unit} and {other} are siblings, which never import one another"
    if unit in ONLY and other not in ONLY[unit]:
        return f"of packetwalk, {unit} may import only {', '.join(sorted(ONLY[unit]))}"
    return None


def inside_breach(module: str, target: str, scope: str) -> Iterator[str]:
    """The rules that `module` breaks by importing packetwalk's own `target`."""
    if reason := layer_breach(module, target, scope):
        yield f"layers: {reason}"
    if unit_of(module) in FILLERS and target in NOT_IN_FILLERS:
        yield "rule 3: cni and kube write through the netns verbs and import no packet, trace or codec"


def outside_breach(module: str, found: Import) -> Iterator[str]:
    """The rules that `module` breaks by an import from outside packetwalk."""
    top = found.target.partition(".")[0]
    if top in THIRD_PARTY and not any(f"{module}.".startswith(f"{place}.") for place in THIRD_PARTY[top]):
        yield f"rule 1: {top} is imported only in {', '.join(THIRD_PARTY[top])}"
    if top in INSIDE_FUNCTIONS and not found.in_function:
        yield f"rule 1: {top} is imported only inside functions (it is slow to import)"
    if module.partition(".")[0] == "netns" and top in NOT_IN_NETNS:
        yield f"rule 2: netns imports no {', '.join(sorted(NOT_IN_NETNS))}"


def size_breaches(file: str, source: str, tree: ast.AST) -> Iterator[str]:
    """Rule 10: the lengths of the file and of its functions, docstrings and comments included."""
    lines = len(source.splitlines())
    if lines > FILE_LINES:
        yield f"{file}: {lines} lines; rule 10: files stay near 350 lines, {FILE_LINES} at most: split it"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield (
                    f"{file}:{node.lineno}: {node.name}() has {length} lines; "
                    f"rule 10: functions stay near 40 lines, {FUNCTION_LINES} at most"
                )


def name_breaches(file: str) -> Iterator[str]:
    """Rule 9: names that say nothing. And a module must have a place in the table."""
    bad = {word for part in Path(file).with_suffix("").parts for word in part.split("_")} & BAD_NAMES
    if bad:
        yield f"{file}: rule 9: no module is named {', '.join(sorted(bad))}; name it after the thing it holds"
    if module_of(file) not in DECLARED:
        yield f"{file}: {module_of(file)} is not declared: give it a place in LAYERS or PACKAGES of tests/{HERE.name}"


def breaches(file: str, source: str, known: set[str] = DECLARED | set(ROW)) -> list[str]:
    """Every broken rule of one file, given as its path inside packetwalk and its text; [] when all is well."""
    module, tree = module_of(file), ast.parse(source, file)
    imports = Imports(file, known)
    imports.visit(tree)
    complaints = [*name_breaches(file), *size_breaches(file, source, tree), *imports.complaints]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            complaints.append(f"{file}:{node.lineno}: imports * from {node.module or '.'}; rule 9: no star import")
    for found in imports.found:
        head, _, rest = found.target.partition(".")
        own = inside_breach(module, rest or "__init__", found.scope) if head == "packetwalk" else ()
        for reason in chain(own, outside_breach(module, found)):
            complaints.append(f"{file}:{found.line}: imports {found.target}; {reason}")
    return list(dict.fromkeys(complaints))


# --- the project -----------------------------------------------------------------------------------------------------
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES)
def test_file_keeps_the_rules(file: str) -> None:
    known = DECLARED | set(ROW) | {module_of(other) for other in FILES}
    found = breaches(file, (PACKAGE / file).read_text(encoding="utf-8"), known)
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_the_package_is_found() -> None:
    assert "addr.py" in FILES


def test_the_table_names_each_unit_once() -> None:
    assert len(ROW) == sum(map(len, LAYERS))
    assert set(PACKAGES) <= set(ROW)
    assert set(chain(SIBLINGS, ONLY, *SIBLINGS.values(), *ONLY.values(), LAZY.values())) <= set(ROW)


# --- the checker itself: it must be able to fail ---------------------------------------------------------------------
LONG_FUNCTION = "def f():\n" + "    x = 1\n" * FUNCTION_LINES
BROKEN = [
    # layers: up, sideways, from inside a function, by every way to write an import
    (
        "addr.py",
        "from packetwalk.packet import Packet",
        "addr.py:1: imports packetwalk.packet; layers: addr lies below packet",
    ),
    ("addr.py", "import packetwalk.packet as p", "addr lies below packet"),
    ("addr.py", "from packetwalk import packet", "addr lies below packet"),
    ("addr.py", "from . import packet", "addr lies below packet"),
    ("addr.py", "from .packet import Packet", "addr lies below packet"),
    ("addr.py", "import os, packetwalk.packet", "addr lies below packet"),
    ("addr.py", "def f():\n    from packetwalk.packet import Packet", "addr.py:2: imports packetwalk.packet"),
    (
        "addr.py",
        "class A:\n    async def f(self):\n        import packetwalk.packet",
        "addr.py:3: imports packetwalk.packet",
    ),
    ("addr.py", "try:\n    import packetwalk.packet\nexcept ImportError:\n    pass", "addr lies below packet"),
    ("addr.py", "import importlib\nimportlib.import_module('packetwalk.packet')", "addr lies below packet"),
    ("addr.py", "x = __import__('packet' + 'walk')", "hides what is imported"),
    ("addr.py", "import packetwalk", "addr lies below __init__"),
    ("addr.py", "from packetwalk import walk", "addr lies below __init__"),
    ("addr.py", "from packetwalk.plugins import dns", "plugins has no place in LAYERS"),
    (
        "addr.py",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import packetwalk.packet",
        "addr.py:4: imports packetwalk.packet",
    ),
    ("addr.py", "if not TYPE_CHECKING:\n    import packetwalk.packet", "addr lies below packet"),
    ("text.py", "from packetwalk.trace import Trace", "text lies below trace"),
    ("codec.py", "from packetwalk.trace import Step", "codec and trace are siblings"),
    ("predict.py", "from packetwalk.cli import main", "predict lies below cli"),
    ("network.py", "from packetwalk.engine.sim import Sim", "network lies below engine"),
    ("engine/sim.py", "from packetwalk.view.html import page", "engine and view are siblings"),
    ("engine/walk.py", "from ..snapshot import iproute", "engine and snapshot are siblings"),
    ("snapshot/iproute.py", "from packetwalk.kube.cluster import Node", "snapshot and kube are siblings"),
    ("cni/flannel.py", "from packetwalk.kube.cluster import Node", "cni and kube are siblings"),
    ("kernel/compare.py", "from packetwalk.view.compare import f", "kernel and view are siblings"),
    ("engine/sim.py", "from packetwalk.kernel.capture import f", "engine and kernel are siblings"),
    ("view/html.py", "from packetwalk.commands import lines", "view may import only addr, codec"),
    ("view/html.py", "from packetwalk.netns.fib import Route", "view may import only addr, codec"),
    ("view/html.py", "from packetwalk.engine import walk", "view and engine are siblings"),
    ("netns/stack.py", "from packetwalk.netns import Netns", "netns.stack lies below netns"),
    ("netns/arp.py", "from packetwalk.netns.stack import STAGES", "netns.arp lies below netns.stack"),
    ("netns/arp.py", "from . import icmp", "netns.arp and netns.icmp are siblings"),
    ("netns/fragment.py", "from .ip_output import f", "netns.fragment lies below netns.ip_output"),
    ("netns/fib.py", "from packetwalk.netns import neighbour", "netns.fib and netns.neighbour are siblings"),
    ("netns/fib.py", "from packetwalk.netns import tables", "netns.fib lies below netns.tables"),
    # the one exception holds in one function, for one package
    ("trace.py", "from packetwalk.view.html import page", "trace lies below view"),
    ("trace.py", "class Trace:\n    def f(self):\n        import packetwalk.view.html", "trace lies below view"),
    (
        "trace.py",
        "class Trace:\n    def _repr_html_(self):\n        import packetwalk.engine",
        "trace lies below engine",
    ),
    # rule 1
    ("engine/walk.py", "import simpy", "engine/walk.py:1: imports simpy; rule 1: simpy is imported only in engine.sim"),
    ("engine/walk.py", "from simpy.core import Environment", "rule 1: simpy"),
    ("netns/namespace.py", "import networkx as nx", "rule 1: networkx is imported only in network, kube.fabric, view"),
    ("kube/cluster.py", "import networkx", "rule 1: networkx"),
    ("view/html.py", "def f():\n    import matplotlib.pyplot", "rule 1: matplotlib is imported only in view.plot"),
    ("view/plot.py", "import matplotlib.pyplot as plt", "only inside functions"),
    # rule 2
    *[("netns/fib.py", f"import {name}", "rule 2: netns imports no") for name in sorted(NOT_IN_NETNS)],
    ("netns/stack.py", "def f():\n    from os.path import join", "netns/stack.py:2: imports os.path; rule 2"),
    # rule 3
    *[("cni/flannel.py", f"import packetwalk.{name}", "rule 3: cni and kube") for name in sorted(NOT_IN_FILLERS)],
    ("kube/kubeproxy.py", "from packetwalk import trace", "rule 3: cni and kube"),
    # rules 9 and 10, and the exhaustive table
    ("addr.py", "from typing import *", "rule 9: no star import"),
    ("netns/utils.py", "", "rule 9: no module is named utils"),
    ("packet_handler.py", "", "rule 9: no module is named handler"),
    ("kube/manager/__init__.py", "", "rule 9: no module is named manager"),
    ("netns/plumbing.py", "", "netns.plumbing is not declared"),
    ("engine/replay.py", "", "engine.replay is not declared"),
    ("addr.py", "x = 1\n" * (FILE_LINES + 1), f"addr.py: {FILE_LINES + 1} lines; rule 10"),
    ("addr.py", LONG_FUNCTION, f"addr.py:1: f() has {FUNCTION_LINES + 1} lines; rule 10"),
]
KEPT = [
    (
        "__init__.py",
        "from packetwalk.engine.walk import walk\nfrom packetwalk.predict import predict\nfrom .addr import IPv4",
    ),
    ("cli.py", "import typer, os, time\nfrom packetwalk.view import html\nfrom packetwalk import engine, text"),
    ("predict.py", "from packetwalk.snapshot.iproute import load\nfrom packetwalk.engine.walk import walk"),
    (
        "engine/sim.py",
        "import simpy, random\nfrom simpy.core import Environment\nfrom .costs import COSTS\nfrom . import walk",
    ),
    (
        "network.py",
        "import networkx\nfrom packetwalk.netns.namespace import Netns\nfrom packetwalk.netns import Netns as N",
    ),
    ("view/html.py", "import networkx\nfrom packetwalk import view"),
    ("view/html.py", "from packetwalk import addr, codec, network, packet, text, trace"),
    ("trace.py", "from packetwalk.text import summary\nfrom packetwalk.packet import Packet"),
    ("trace.py", "class Trace:\n    def _repr_html_(self):\n        from packetwalk.view.html import page"),
    (
        "trace.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import simpy\n    from packetwalk.cli import main",
    ),
    ("trace.py", "import typing\nif typing.TYPE_CHECKING:\n    from packetwalk.network import Network"),
    ("netns/stack.py", "from packetwalk.netns import arp, bridge, tables\nfrom packetwalk.netns.fragment import split"),
    ("netns/ip_output.py", "from . import fragment, socket, visit\nfrom packetwalk.netns.fib import Fib\nimport heapq"),
    ("netns/fragment.py", "from packetwalk.netns.visit import Visit"),
    ("addr.py", "x = 1\n" * FILE_LINES),
    ("addr.py", LONG_FUNCTION.removesuffix("    x = 1\n")),
]


@pytest.mark.parametrize(("file", "source", "message"), BROKEN)
def test_checker_finds(file: str, source: str, message: str) -> None:
    assert message in "\n".join(breaches(file, source))


@pytest.mark.parametrize(("file", "source"), KEPT)
def test_checker_accepts(file: str, source: str) -> None:
    assert breaches(file, source) == []


def test_checker_lets_the_kernel_use_engine_and_snapshot() -> None:
    source = "from packetwalk import codec, commands, engine\nfrom packetwalk.snapshot.iproute import load"
    assert [line for line in breaches("kernel/compare.py", source) if "is not declared" not in line] == []


def test_checker_lets_matplotlib_into_a_function_of_plot() -> None:
    found = breaches("view/plot.py", "def f():\n    import matplotlib.pyplot as plt")
    assert [line for line in found if "is not declared" not in line] == []
