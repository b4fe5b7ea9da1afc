"""The player of a walk in a real browser: clicked through, by keys, several on one page, and without a script."""

from pathlib import Path
from typing import Any

import pytest

import packetwalk as pw
from packetwalk.source import from_mode

pytest.importorskip("selenium", reason="selenium is not installed (extra `browser`)")
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def walks() -> list[pw.Trace]:
    net = from_mode("calico-ipip", nodes=2, racks=1, seed=0)
    return [pw.walk(net, pw.between(net, "a", dst)) for dst in ("b", "web:80")]


def opened(browser: Any, tmp_path: Path, html: str) -> None:
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    browser.get((tmp_path / "page.html").as_uri())


def shown(root: Any, css: str) -> list[str]:
    return [found.text for found in root.find_elements(By.CSS_SELECTOR, css)]


def headers(root: Any) -> list[list[str]]:
    """The headers of each packet that is shown, from the outermost, with their marks; at the end the payload."""
    packets = root.find_elements(By.CSS_SELECTOR, ".pw-packets > div")
    boxes = [packet.find_elements(By.CSS_SELECTOR, ".pw-box") for packet in packets]
    return [[" ".join(shown(box, ":scope > b, :scope > .pw-mark")) or box.text for box in stack] for stack in boxes]


def test_clicking_through_a_walk_finds_every_header(browser: Any, tmp_path: Path, walks: list[pw.Trace]) -> None:
    opened(browser, tmp_path, walks[0].to_html())
    root = browser.find_element(By.CSS_SELECTOR, ".packetwalk.pw-live")
    forward = root.find_element(By.CSS_SELECTOR, ".pw-forward")
    steps = int(shown(root, ".pw-count")[0].split(" of ")[1])
    seen, lit = [], []
    for n in range(steps):
        assert shown(root, ".pw-count") == [f"{n + 1} of {steps}"]
        seen.append((shown(root, ".pw-head")[0].split("\n")[0], headers(root)))
        lit += shown(root, "svg g.pw-now text:first-of-type")
        forward.click()
    assert shown(root, ".pw-count") == [f"{steps} of {steps}"], "the last step is the last"
    assert list(dict.fromkeys(lit)) == ["a", "node-1", "fabric", "node-2", "b"]
    encap = next(packets for head, packets in seen if "node-1 encap tunl0" in head)
    assert encap == [["ip", "icmp", "56 bytes of payload"], ["ip + new", "ip", "icmp", "56 bytes of payload"]]
    decap = next(packets for head, packets in seen if "node-2 decap tunl0" in head)
    assert decap == [
        ["ip \N{MINUS SIGN} taken off", "ip", "icmp", "56 bytes of payload"],
        ["ip", "icmp", "56 bytes of payload"],
    ]
    assert browser.get_log("browser") == []


def test_the_keys_and_what_changed(browser: Any, tmp_path: Path, walks: list[pw.Trace]) -> None:
    opened(browser, tmp_path, walks[0].to_html())
    body = browser.find_element(By.TAG_NAME, "body")
    at = lambda: shown(browser, ".pw-count")[0].split(" of ")  # noqa: E731
    for key, place in ((Keys.ARROW_RIGHT, 2), ("j", 3), ("k", 2), (Keys.ARROW_LEFT, 1), (Keys.ARROW_LEFT, 1)):
        body.send_keys(key)
        assert at()[0] == str(place)
    body.send_keys(Keys.END)
    assert at()[0] == at()[1]
    body.send_keys(Keys.HOME)
    assert at()[0] == "1"
    row = next(
        r for r in browser.find_elements(By.CSS_SELECTOR, "tr") if r.text.startswith("forward tunl0 ttl 64 > 63")
    )
    row.click()
    assert shown(browser, ".pw-changed") == ["ttl 64", "ttl 63"]
    assert shown(browser, ".pw-decided") == ["ttl 64 > 63"] and "took 0.1 us" in shown(browser, ".pw-head")[0]
    browser.find_elements(By.CSS_SELECTOR, "svg g")[-1].click()
    assert shown(browser, "svg g.pw-now text:first-of-type")[0] in shown(browser, ".pw-head")[0]


def test_several_on_one_page_do_not_disturb_one_another(browser: Any, tmp_path: Path, walks: list[pw.Trace]) -> None:
    cells = "".join(f"<section>{trace._repr_html_()}</section>" for trace in (*walks, walks[0]))
    opened(browser, tmp_path, f"<!DOCTYPE html><meta charset='utf-8'><body>{cells}</body>")
    first, second, third = browser.find_elements(By.CSS_SELECTOR, ".packetwalk.pw-live")
    second.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    third.find_element(By.CSS_SELECTOR, ".pw-forward").click()
    assert [shown(root, ".pw-count")[0].split()[0] for root in (first, second, third)] == ["1", "3", "2"]


HOSTS = {
    "JupyterLab": "for (const old of host.querySelectorAll('script')) old.replaceWith(copy(old));",
    "VS Code": "for (const old of host.querySelectorAll('script')) host.appendChild(copy(old)).remove();",
}
"""How notebooks run the scripts of an output, whose text they set as innerHTML."""


@pytest.mark.parametrize("notebook", HOSTS)
def test_an_output_comes_to_life_in(notebook: str, browser: Any, tmp_path: Path, walks: list[pw.Trace]) -> None:
    opened(browser, tmp_path, "<!DOCTYPE html><meta charset='utf-8'><div id='one'></div><div id='two'></div>")
    script = f"""
        const copy = (old) => {{
            const made = document.createElement('script');
            if (old.type) made.type = old.type;
            made.text = old.textContent;
            return made;
        }};
        const host = document.getElementById(arguments[0]);
        host.innerHTML = arguments[1];
        {HOSTS[notebook]}
    """
    for name, trace in zip(("one", "two"), walks, strict=True):
        browser.execute_script(script, name, trace._repr_html_())
    first, second = browser.find_elements(By.CSS_SELECTOR, ".packetwalk.pw-live")
    second.find_element(By.CSS_SELECTOR, ".pw-last").click()
    first.send_keys("j", "j")
    assert (
        shown(first, ".pw-count")[0].startswith("3 of ") and len(first.find_elements(By.CSS_SELECTOR, ".pw-bar")) == 1
    )
    last, of = shown(second, ".pw-count")[0].split(" of ")
    assert last == of and browser.get_log("browser") == []


def test_what_a_cluster_calls_its_rooms_is_never_run(browser: Any, tmp_path: Path) -> None:
    from packetwalk.netns.device import Veth
    from packetwalk.netns.namespace import Netns

    evil = "<script>document.title='run'</script>"
    net = pw.Network(evil)
    for n, name in enumerate((evil, "<img src=x onerror=\"document.title='run'\">"), 1):
        room = net.add(Netns(name), evil)
        room.link_add("'\"><b>", Veth(mac=pw.Mac(0x0200_0000_0000 + n)))
        room.addr_add("'\"><b>", f"10.0.0.{n}/24")
    a, b = net.rooms
    net.connect((a, "'\"><b>"), (b, "'\"><b>"))
    opened(browser, tmp_path, pw.walk(net, pw.between(net, a, b)).to_html())
    assert evil in browser.title and browser.title != "run"
    assert evil in shown(browser, ".pw-head")[0] and not browser.find_elements(By.TAG_NAME, "img")
    browser.find_element(By.CSS_SELECTOR, ".pw-last").click()
    assert browser.title != "run"


def test_without_a_script_everything_can_be_read(browser: Any, tmp_path: Path, walks: list[pw.Trace]) -> None:
    from html import escape

    frame = f'<iframe sandbox width="1200" height="900" srcdoc="{escape(walks[0]._repr_html_())}"></iframe>'
    opened(browser, tmp_path, f"<!DOCTYPE html><meta charset='utf-8'>{frame}")
    browser.switch_to.frame(0)
    assert not browser.find_elements(By.CSS_SELECTOR, ".pw-live, .pw-bar")
    assert "10.244.150.0/26 via 192.168.56.12 dev tunl0" in browser.find_element(By.TAG_NAME, "body").text
    section = browser.find_element(By.TAG_NAME, "details")
    section.find_element(By.TAG_NAME, "summary").click()
    assert section.get_attribute("open") is None
