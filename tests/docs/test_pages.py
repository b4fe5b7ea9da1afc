"""What `make docs` builds: without a warning, complete, and with nothing that a browser would fetch elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

import packetwalk as pw
from packetwalk.cni import MODES

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
CNIS = ("flat-bridge", "flannel", "calico", "geneve")


class Page(HTMLParser):
    """What a page loads, where it links to, and the anchors it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if anchor := found.get("id"):
            self.anchors.add(anchor)
        if tag == "a" and (href := found.get("href")):
            self.links.append(href)
        elif tag == "link" and (href := found.get("href")):
            self.loads.append(href)
        elif source := found.get("src") or found.get("data"):
            self.loads.append(source)


def is_elsewhere(url: str) -> bool:
    return bool(urlsplit(url).netloc)


def test_each_family_of_modes_has_a_page() -> None:
    families = {page.stem for page in (DOCS / "cni").glob("*.md")}
    assert families == set(CNIS)
    assert all(mode.startswith(CNIS) for mode in MODES)


@pytest.mark.long
def test_pages_load_nothing_from_elsewhere(pages: Path) -> None:
    for file in pages.rglob("*.html"):
        loads = Page(file.read_text(encoding="utf-8")).loads
        assert loads and not [url for url in loads if is_elsewhere(url)], file.name
    for file in pages.rglob("*.css"):
        assert not re.search(r"url\(.?(https?:)?//|@import.*//", file.read_text(encoding="utf-8")), file.name


@pytest.mark.long
def test_no_link_inside_is_dead(pages: Path) -> None:
    read = {file.resolve(): Page(file.read_text(encoding="utf-8")) for file in pages.rglob("*.html")}
    dead = []
    for file, page in read.items():
        for link in page.links:
            path, anchor = urldefrag(unquote(link))
            if is_elsewhere(link):
                continue
            target = (file.parent / path).resolve() if path else file
            if not target.exists() or (anchor and target in read and anchor not in read[target].anchors):
                dead.append(f"{file.name}: {link}")
    assert not dead


@pytest.mark.long
def test_the_front_door_is_described_name_by_name(pages: Path) -> None:
    found = Page((pages / "api.html").read_text(encoding="utf-8")).anchors
    assert not [name for name in pw.__all__ if f"packetwalk.{name}" not in found]


@pytest.mark.long
@pytest.mark.parametrize("page", [*(f"cni/{name}" for name in CNIS), "services"])
def test_a_page_shows_a_walk_that_was_walked(pages: Path, page: str) -> None:
    text = (pages / f"{page}.html").read_text(encoding="utf-8")
    assert 'class="packetwalk' in text and ("connected" if page == "services" else "reply ttl") in text
    assert "Traceback" not in text


@pytest.mark.long
def test_the_tour_is_the_readme(pages: Path) -> None:
    def bare(heading: str) -> str:
        return re.sub(r"<[^>]*>|\W", "", heading)

    tour = (pages / "tour.html").read_text(encoding="utf-8")
    shown = [bare(h) for h in re.findall(r'<h2>(.*?)<a class="headerlink"', tour)]
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert len(shown) > 5 and shown == [bare(h) for h in re.findall(r"^## (.+)$", readme, re.MULTILINE)]


@pytest.mark.long
def test_every_notebook_is_a_page_with_its_exercises_open(pages: Path) -> None:
    for book in (DOCS.parent / "notebooks").glob("*.ipynb"):
        text = (pages / "notebooks" / f"{book.stem}.html").read_text(encoding="utf-8")
        assert text.count("There is no answer yet") == 3, book.name
