"""The pytest plugin in a repository of somebody's own, made by pytester."""

import pkgutil
import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest

import packetwalk as pw

pytest_plugins = ["pytester"]
DOCS = Path(__file__).parent.parent / "docs" / "pytest.md"
GOLDEN = """
import packetwalk as pw

def test_paths(packetwalk_network, packetwalk_golden):
    packetwalk_golden.check(pw.walk(packetwalk_network, "a", dst) for dst in ("b", "b:80"))
"""


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """pytester takes back what a run imported; of packetwalk there has to be nothing to take back, or half of it would
    be there twice."""
    for found in pkgutil.walk_packages(pw.__path__, "packetwalk."):
        if found.name != "packetwalk.__main__":
            import_module(found.name)


@pytest.fixture(autouse=True)
def repository(pytester: pytest.Pytester, pytestconfig: pytest.Config) -> None:
    if not pytestconfig.pluginmanager.has_plugin("packetwalk"):
        pytest.skip("packetwalk is not installed with its entry points")
    network(pytester, "flannel-vxlan")


def network(pytester: pytest.Pytester, named: str) -> None:
    pytester.makeini(f"[pytest]\npacketwalk_network = {named}\n")


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", *args)


def test_what_the_page_shows_holds(pytester: pytest.Pytester) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    pytester.makepyfile(test_page="\n".join(blocks))
    run(pytester, "--packetwalk-update").assert_outcomes(passed=5)
    run(pytester).assert_outcomes(passed=5)


def test_a_failure_shows_the_line_of_the_test_and_both_paths(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from packetwalk.testing import assert_path

        def test_it(packetwalk_network):
            assert_path(packetwalk_network, "a", "b", "a > node-1 [+ipip] > node-2 [-ipip] > b")
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">*assert_path(packetwalk_network*",
            "E*another path was taken",
            "E*expected*a > node-1 [[]+ipip[]] > node-2 [[]-ipip[]] > b",
            "E*found*a > node-1 [[]+vxlan[]] > fabric > node-2 [[]-vxlan[]] > b*",
            "E*node-1 [[]+ipip[]] was expected, node-1 [[]+vxlan[]] found",
        ]
    )
    assert "_fail(" not in result.stdout.str(), "the plugin's own lines are hidden"


def test_golden_files_are_written_compared_and_updated(pytester: pytest.Pytester) -> None:
    test = pytester.makepyfile(test_net=GOLDEN)
    file = test.parent / "packetwalk" / "test_net.test_paths.txt"
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_net.test_paths.txt is not there; pytest --packetwalk-update writes it:*"])
    assert not file.exists()
    run(pytester, "--packetwalk-update").assert_outcomes(passed=1)
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# icmp a 10.244.1.2 > b 10.244.2.2 echo request, 56 bytes of payload" and len(lines) == 5
    assert lines[1].startswith("a > node-1 [+vxlan] > fabric > node-2 [-vxlan] > b > ")
    before = file.read_bytes()
    run(pytester).assert_outcomes(passed=1)
    network(pytester, "flannel-host-gw")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*keeps what is new):", "--- golden", " a", "-> node-1 [[]+vxlan[]]", "+> node-1", " > fabric"]
    )
    assert file.read_bytes() == before
    run(pytester, "--packetwalk-update").assert_outcomes(passed=1)
    assert "vxlan" not in file.read_text(encoding="utf-8")


def test_parametrized_tests_have_files_of_their_own(pytester: pytest.Pytester) -> None:
    test = pytester.makepyfile(
        test_net="""
        import packetwalk as pw, pytest

        @pytest.mark.parametrize("dst", ["b", "web:80"])
        def test_paths(packetwalk_network, packetwalk_golden, dst):
            packetwalk_golden.check(pw.walk(packetwalk_network, "a", dst))
        """
    )
    run(pytester, "--packetwalk-update").assert_outcomes(passed=2)
    names = sorted(file.name for file in (test.parent / "packetwalk").iterdir())
    assert names == ["test_net.test_paths-b.txt", "test_net.test_paths-web-80.txt"]


def test_the_network_may_be_a_snapshot_or_a_file(pytester: pytest.Pytester) -> None:
    shutil.copytree(pw.SAMPLE, pytester.path / "nodes")
    shutil.copy(pw.SAMPLE.parent / "cluster.yaml", pytester.path / "cluster.yaml")
    pytester.makepyfile("def test_it(packetwalk_network): print('rooms', *packetwalk_network.rooms)")
    for named in ("nodes", "cluster.yaml"):
        network(pytester, named)
        result = run(pytester, "-s")
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["*rooms *node-1*"])


@pytest.mark.parametrize(
    ("named", "complaint"),
    [
        ("", "*packetwalk_network is not set: name a cluster.yaml, a snapshot's folder or a CNI mode there*"),
        ("flanel-vxlan", "*packetwalk_network = flanel-vxlan: *did you mean 'flannel-vxlan'*"),
        ("no.yaml", "*packetwalk_network = no.yaml: *No such file*"),
    ],
)
def test_a_network_that_is_none_is_said_in_a_line(pytester: pytest.Pytester, named: str, complaint: str) -> None:
    network(pytester, named)
    pytester.makepyfile("def test_it(packetwalk_network): pass")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([complaint])
