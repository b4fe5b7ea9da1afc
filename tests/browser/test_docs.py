"""The built pages in a real browser, over file://: from the index to a CNI's page, through its walk, and the search."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="selenium is not installed (extra `browser`)")
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.long


def texts(root: Any, css: str) -> list[str]:
    return [found.text for found in root.find_elements(By.CSS_SELECTOR, css)]


def at_once(browser: Any, element: Any) -> None:
    """Scroll there; the theme would take its time, and what moves cannot be clicked."""
    browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", element)


def test_from_the_index_to_a_walk_and_through_it(browser: Any, pages: Path) -> None:
    browser.get((pages / "index.html").as_uri())
    browser.find_element(By.LINK_TEXT, "Calico").click()
    assert "Calico" in browser.title
    player = browser.find_element(By.CSS_SELECTOR, ".packetwalk.pw-live")
    at_once(browser, player)
    steps = int(texts(player, ".pw-count")[0].split(" of ")[1])
    rooms, stacks = [], {}
    for _ in range(steps):
        head = texts(player, ".pw-head")[0].split("\n")[0]
        rooms += texts(player, "svg g.pw-now text:first-of-type")
        stacks[head] = texts(player, ".pw-packets .pw-box > b")
        player.find_element(By.CSS_SELECTOR, ".pw-forward").click()
    assert list(dict.fromkeys(rooms)) == ["a", "node-1", "fabric", "node-2", "b"]
    encap = next(stack for head, stack in stacks.items() if "node-1 encap tunl0" in head)
    assert encap == ["ip", "icmp", "ip", "ip", "icmp"], "what went in, and what came out"


def test_the_search_finds_a_word_of_the_glossary(browser: Any, pages: Path) -> None:
    browser.get((pages / "index.html").as_uri())
    browser.find_element(By.CSS_SELECTOR, "input[name=q]").send_keys("onlink", Keys.ENTER)
    wait = WebDriverWait(browser, 20)
    wait.until(lambda found: "Glossary" in texts(found, "#search-results li a"))
    browser.find_element(By.CSS_SELECTOR, "#search-results").find_element(By.LINK_TEXT, "Glossary").click()
    assert "Glossary" in browser.title


def test_a_term_leads_to_its_meaning(browser: Any, pages: Path) -> None:
    browser.get((pages / "cni" / "flannel.html").as_uri())
    term = browser.find_element(By.LINK_TEXT, "VTEP")
    at_once(browser, term)
    term.click()
    assert browser.current_url.endswith("glossary.html#term-VTEP")
    assert "end of a VXLAN tunnel" in browser.find_element(By.CSS_SELECTOR, ".glossary").text


def test_nothing_is_asked_from_a_network(browser: Any, pages: Path) -> None:
    browser.get_log("browser")  # what was said before, and is told once
    for page in ("index", "cni/calico", "api", "notebooks/1-one-packet"):
        browser.get((pages / f"{page}.html").as_uri())
        fetched = browser.execute_script("return performance.getEntriesByType('resource').map(r => r.name)")
        assert not [url for url in fetched if not url.startswith(("file:", "data:"))], page
        assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"], page
