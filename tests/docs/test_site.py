"""The documentation's site builds without a warning, needs no network, and has every public name."""

import html
import json
import re
import subprocess
import sys

import pytest
from tests.docs.blocks import ROOT
from tests.pages import open_browser

pytestmark = pytest.mark.long

LIST = json.loads((ROOT / "tests/public_names.json").read_text())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", folder]  # -q would not count warnings
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_is_fetched_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        text = page.read_text()
        assert re.findall(r'<(?:script|img|iframe|source)[^>]*\ssrc="?(?:https?:)?//[^"> ]*', text) == [], page
        assert re.findall(r'<link[^>]*\shref="?(?:https?:)?//[^"> ]*', text) == [], page


def test_links_stay_within_the_site(site):
    """Beyond what strict mode checks: addresses of images, scripts and made pages, and their anchors."""
    anchors = {page: set(re.findall(r'\bid="([^"]*)"', page.read_text())) for page in site.rglob("*.html")}
    lost = []
    for page in anchors:
        if page.name == "404.html":  # shown at any address
            continue
        for address in re.findall(r'(?:href|src)="([^"]*)"', page.read_text()):
            if re.match(r"(?:https?:|mailto:|data:|javascript:)", address):
                continue
            path, _, anchor = html.unescape(address).partition("#")
            target = (page.parent / path).resolve() if path not in ("", ".") else page
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (anchor and target in anchors and anchor not in anchors[target] | {"__top"}):
                lost.append((page.relative_to(site).as_posix(), address))
    assert lost == []


def test_the_api_has_every_public_name(site):
    pages = {page.stem: page.read_text() for page in (site / "api").glob("*.html")}
    missing = []
    for name in LIST["python"]:
        if name in LIST["renamed"]:
            continue
        page = pages[name.split(".")[1]]
        last = name.rpartition(".")[2]
        described = f'title="{name}">{last}</span>' in page  # an attribute, in its class's list
        if f'id="{name}"' not in page and not described:
            missing.append(name)
    assert missing == []


def test_every_room_has_a_page(site):
    rooms = {
        path.stem for path in (ROOT / "src/cpc_lightning").iterdir() if not path.name.startswith(("_", "py.typed"))
    }
    assert len(rooms) > 10
    assert {page.stem for page in (site / "api").glob("*.html")} == {*rooms, "index"}


def test_equations_are_shown_by_the_browser_itself(site):
    text = (site / "how.html").read_text()
    assert text.count("<math") > 20
    assert "\\frac" not in re.sub(r"<annotation.*?</annotation>", "", text)


@pytest.fixture(scope="module")
def browser():
    driver = open_browser()
    yield driver
    driver.quit()


def test_search_works_from_disk(site, browser):
    browser.get((site / "start.html").as_uri())
    found = browser.execute_async_script("""
        const done = arguments[0], start = Date.now();
        const box = document.querySelector('[data-md-component=search-query]');
        document.querySelector('[data-md-toggle=search]').click();
        const look = () => {
            box.value = 'co-divide';
            box.dispatchEvent(new Event('focus'));
            box.dispatchEvent(new Event('keyup'));
            const links = [...document.querySelectorAll('.md-search-result__link')].map((a) => a.href);
            if (links.length || Date.now() - start > 20000) done(links); else setTimeout(look, 300);
        };
        look();
    """)
    assert any("glossary.html" in link for link in found), found


@pytest.mark.parametrize("page", ["index", "how", "reproduce", "extend", "report", "api/cleaning"])
def test_a_phone_scrolls_one_way(site, browser, page):
    browser.set_window_rect(width=500, height=900)  # Chromium's narrowest window; the device is narrower
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    browser.get((site / f"{page}.html").as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
