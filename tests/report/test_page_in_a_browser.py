"""The page in a real, headless Chromium: filters, sorting, keys, decisions, reload and download do what they say."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from tests.pages import HOSTILE, Images, Page, look_at, make_page, open_browser, pixels

from cpc_lightning.datasets.dataset import ArrayImages

pytestmark = pytest.mark.long

NAMES = ("cat", "dog", "bird")


@pytest.fixture(scope="module")
def driver():
    driver = open_browser()
    yield driver
    driver.quit()


@pytest.fixture
def page(driver):
    yield (page := Page(driver))
    assert page.errors == []


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A page of 1,000 labels: 200 within it, 800 in two scripts and two sheets beside it."""
    return make_page(tmp_path_factory.mktemp("page"), 1000, look=look_at(1000, copies=[(3, 700)]))


@pytest.fixture
def opened(page, made):
    page.open(made[0])
    page.run("localStorage.clear()")
    return page.open(made[0])


IN_VIEW = """return [...document.images].filter((i) => {
    const b = i.getBoundingClientRect();
    return b.bottom > 0 && b.top < innerHeight && b.width > 20 && i.complete && i.naturalWidth && i.alt;
    }).length"""


def test_first_screen_has_pictures_and_comes_from_nowhere_else(opened, made):
    assert opened.run(IN_VIEW) >= 24
    assert opened.run("return [...document.images].every((i) => i.alt !== '')")
    loaded = opened.run("return performance.getEntriesByType('resource').map((r) => r.name)")
    folder = made[0].parent.resolve().as_uri()
    assert all(name.startswith(("data:", f"{folder}/sprites/alike")) for name in loaded)
    assert made[0].stat().st_size < 5_000_000
    assert opened.count == 250  # the suspected ones


def test_pixels_stay_crisp(opened):
    assert opened.run("return getComputedStyle(document.querySelector('.tile img')).imageRendering") == "pixelated"


@pytest.mark.parametrize(("field", "value", "fits"), [
    ("given", 1, lambda v: v.suspected & (v.noisy_label == 1)),
    ("suggested", 2, lambda v: v.suspected & (v.suggested_label == 2)),
    ("sure", 90, lambda v: v.suspected & (v.confidence >= 0.9)),
    ("show", "all", lambda v: v.index >= 0),
    ("show", "contradicted", lambda v: v.suggested_label != v.noisy_label),
    ("show", "decided", lambda v: v.index < 0),
    ("show", "twins", lambda v: np.isin(v.index, [3, 700])),
])  # fmt: skip
def test_filters(opened, made, field, value, fits):
    opened.choose(field, value)
    assert opened.count == fits(made[1]).sum()


def test_filters_together_and_reset(opened, made):
    opened.choose("given", 0)
    opened.choose("suggested", 1)
    assert opened.count == (made[1].suspected & (made[1].noisy_label == 0) & (made[1].suggested_label == 1)).sum()
    assert all("given cat, looks like dog" in tile for tile in opened.tiles)
    opened.click("#clear")
    assert opened.count == 250


def test_a_filter_that_nothing_fits_says_so(opened):
    opened.choose("search", "no such file")
    assert opened.count == 0
    assert opened.run("return !document.getElementById('empty').hidden")


def test_search_by_file_name(opened):
    opened.choose("show", "all")
    opened.choose("search", "IMAGE 0099")
    assert opened.count == 10
    assert opened.tiles[0].startswith("image 00990.jpg: given")


def test_sorting(opened, made):
    opened.choose("show", "all")
    opened.choose("sort", "sure")
    first = made[1].index[np.argsort(-made[1].confidence, kind="stable")][:5]
    assert [tile.split(":")[0] for tile in opened.tiles[:5]] == [f"image {i:05d}.jpg" for i in first]
    opened.choose("sort", "apart")
    apart = np.round(made[1].clean_probability_2, 4) - np.round(made[1].clean_probability_1, 4)
    order = np.lexsort((made[1].index, -np.abs(apart).round(6)))
    assert opened.tiles[0].startswith(f"image {order[0]:05d}.jpg")


def stored(page):
    return json.loads(page.run("return Object.values(localStorage)[0] ?? '{}'"))


def test_keyboard_decides_and_moves_on(opened, made):
    suggested = made[1].suggested_label
    opened.keys("n", "k", "r", "d")
    assert stored(opened) == {"keep": [0], "drop": [2], "relabel": {str(suggested[1]): [1]}}
    assert opened.run("return document.activeElement.closest('li').dataset.position") == "3"
    assert opened.text("#tally") == "Decided: 1 keep, 1 relabel, 1 drop"
    assert "; keep" in opened.tiles[0]
    opened.keys("u")
    assert stored(opened)["drop"] == []
    opened.keys("u", "u")
    assert opened.text("#tally") == "Nothing decided yet"
    assert opened.run("return document.getElementById('undo').disabled")


def test_arrows_move_by_one_and_by_a_row(opened):
    from selenium.webdriver.common.keys import Keys

    def current():
        return int(opened.run("return document.querySelector('[aria-current]').closest('li').dataset.position"))

    opened.keys("n", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert current() == 1
    opened.keys(Keys.ARROW_DOWN)
    columns = current() - 1
    assert columns == opened.run("""const top = (li) => li.getBoundingClientRect().top;
        const all = [...document.querySelectorAll('#tiles li')];
        return all.filter((li) => Math.abs(top(li) - top(all[0])) < 2).length""")
    opened.keys(Keys.END)
    assert current() == 249
    assert opened.run("return document.activeElement === document.querySelector('[aria-current]')")
    assert opened.run("return document.querySelectorAll('.tile[tabindex=\"0\"]').length") == 1


def test_enlarged_picture_and_another_class(opened, made):
    from selenium.webdriver.common.keys import Keys

    opened.click("#tiles .tile")
    assert opened.run("return document.getElementById('viewer').open")
    assert opened.text("#viewer-title") == "image 00000.jpg"
    said = opened.text("#details")
    assert NAMES[made[1].noisy_label[0]] in said
    assert f"{100 * round(made[1].clean_probability_1[0], 4):.1f} %" in said
    width = opened.run("return document.querySelector('#large img').getBoundingClientRect().width")
    assert width > 300
    opened.keys("c")
    assert opened.run("return document.activeElement.id") == "other"
    given = int(made[1].noisy_label[0])
    opened.run("const o = document.getElementById('other'); o.value = arguments[0];"
               "o.dispatchEvent(new Event('change'))", str((given + 1) % 3))  # fmt: skip
    opened.settle()
    assert stored(opened)["relabel"] == {str((given + 1) % 3): [0]}
    assert opened.text("#viewer-title") == "image 00001.jpg"  # the next one
    opened.keys(Keys.ESCAPE)
    assert not opened.run("return document.getElementById('viewer').open")


def test_to_relabel_as_given_is_to_keep(opened, made):
    opened.choose("show", "all")
    opened.choose("search", "image 00999")  # not suspected: suggested as given
    opened.keys("n", "r")
    assert stored(opened) == {"keep": [999], "drop": [], "relabel": {}}


def test_letters_typed_into_the_search_decide_nothing(opened):
    opened.keys("n", "d", "/", "k", "u", "n", "?")
    assert opened.run("return document.getElementById('search').value") == "kun?"
    assert stored(opened) == {"keep": [], "drop": [0], "relabel": {}}


def download(page):
    """The csv that a click on the button downloads."""
    return page.driver.execute_async_script("""
        const done = arguments[0], make = URL.createObjectURL;
        URL.createObjectURL = (blob) => { URL.createObjectURL = make; blob.text().then(done); return '#'; };
        document.getElementById('download').click();""")


def test_decisions_survive_a_reload_and_are_downloaded(opened, made):
    opened.keys("n", "k", "r", "d")
    opened.driver.refresh()
    opened.settle()
    assert opened.text("#tally") == "Decided: 1 keep, 1 relabel, 1 drop"
    name = NAMES[made[1].suggested_label[1]]
    assert download(opened) == (
        "index,path,decision,label\n"
        "0,cats & dogs/image 00000.jpg,keep,\n"
        f"1,cats & dogs/image 00001.jpg,relabel,{name}\n"
        "2,cats & dogs/image 00002.jpg,drop,\n"
    )


def test_download_names_images_that_are_not_loaded_yet(opened, made):
    opened.choose("show", "all")
    opened.choose("search", "image 00950")
    opened.keys("n", "d")
    opened.driver.refresh()
    opened.settle()
    assert opened.run("return document.querySelectorAll('script[src]').length") == 0
    assert download(opened).splitlines()[1] == "950,cats & dogs/image 00950.jpg,drop,"


def test_a_whole_pair_at_once(opened, made):
    pair = opened.run("return {...document.querySelector('.pairs button').dataset}")
    given, suggested = int(pair["given"]), int(pair["suggested"])
    opened.click(".pairs button")
    v = made[1]
    expected = v.index[v.suspected & (v.noisy_label == given) & (v.suggested_label == suggested)].tolist()
    assert opened.count == len(expected) > 20
    opened.click('[data-bulk="relabel"]')
    assert stored(opened) == {"keep": [], "drop": [], "relabel": {str(suggested): expected}}
    opened.keys("u")  # one step
    assert stored(opened) == {"keep": [], "drop": [], "relabel": {}}


def test_decisions_are_kept_under_the_runs_id(opened, made, tmp_path):
    opened.keys("n", "d")
    other, _ = make_page(tmp_path, 30)
    opened.open(other)
    assert opened.text("#tally") == "Nothing decided yet"
    opened.open(made[0])
    assert opened.text("#tally") == "Decided: 1 drop"


def test_where_nothing_is_kept_decisions_stay_in_memory(page, made):
    script = {"source": "Object.defineProperty(window, 'localStorage', {get() { throw new Error('refused'); }})"}
    added = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    try:
        page.open(made[0]).keys("n", "d")
        assert page.text("#tally") == "Decided: 1 drop"
        assert "download your decisions" in page.text("#note")
        assert download(page).splitlines()[1] == "0,cats & dogs/image 00000.jpg,drop,"
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_scrolling_loads_what_comes_into_view(opened):
    opened.choose("show", "all")
    assert opened.run("return document.querySelectorAll('script[src]').length") == 0
    opened.run("document.getElementById('scroller').scrollTop = 1e9")
    opened.settle()
    assert opened.run("return [...document.querySelectorAll('script[src]')].map((s) => s.src.slice(-11))") == [
        "data/001.js"
    ]
    assert "image 00999.jpg" in opened.tiles[-1]
    opened.driver.execute_async_script(
        "const done = arguments[0]; const i = document.querySelector('#tiles li:last-child img'); i.decode().then(done)"
    )
    assert opened.run("return document.querySelector('#tiles li:last-child img').src").endswith("sprites/001.png")
    assert len(opened.tiles) < 120


def test_a_cell_of_a_sheet_shows_its_image(page, tmp_path):
    shown = torch.zeros(800, 1, 8, 8, dtype=torch.uint8)
    shown[777] = 255  # one white image among black ones
    index, _ = make_page(tmp_path, 800, images=ArrayImages(shown))
    page.open(index)
    page.choose("show", "all")
    page.choose("search", "image 0077")
    boxes = page.run("""return [...document.querySelectorAll('#tiles .picture')].map((p) => {
        const b = p.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; })""")
    from PIL import Image

    page.driver.execute_async_script(
        "Promise.all([...document.images].map((i) => i.decode().catch(() => 0))).then(arguments[0])"
    )
    picture = Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("L")
    assert [picture.getpixel((round(x), round(y))) for x, y in boxes] == [0] * 7 + [255] + [0] * 2


def test_hostile_names_are_text(page, tmp_path):
    names = (HOSTILE, "</script><img src=x onerror=window.hacked=1>", "=cmd|' /C calc'!A0", 'a "quoted", name')
    index, verdicts = make_page(tmp_path, 30, names)
    page.open(index)
    assert page.run("return window.hacked === undefined")
    assert HOSTILE in page.text("#given")
    page.keys("n", "r", "r", "r", "r", "r", "r", "r")
    rows = list(csv.DictReader(io.StringIO(download(page))))
    assert [row["label"] for row in rows] == [names[label] for label in verdicts.suggested_label[:7]]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_width_overflows_and_text_can_be_read(page, made, width, dark):
    """Contrast of all text is at least 4.5 (3 for large text): WCAG AA."""
    page.open(made[0], width=width, dark=dark)
    page.keys("n", "k", "r", "d")
    page.run("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    page.run("document.getElementById('viewer').showModal()")
    poor = page.run(CONTRAST)
    assert poor == []


CONTRAST = r"""
const parse = (text) => {
  const n = text.match(/[\d.]+/g).map(Number), scale = text.startsWith('color(') ? 255 : 1;
  return [scale * n[0], scale * n[1], scale * n[2], n[3] ?? 1];
};
const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
const linear = (v) => (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
const behind = (e) => {
  if (!e) return [255, 255, 255, 1];
  const c = parse(getComputedStyle(e).backgroundColor);
  return c[3] === 1 ? c : over(c, behind(e.parentElement));
};
const poor = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.data.trim(), e = walker.currentNode.parentElement, style = getComputedStyle(e);
  if (!text || !e.checkVisibility() || e.closest(':disabled, script, template, svg')) continue;
  const back = behind(e), front = over(parse(style.color), back);
  const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
  const ratio = (a + .05) / (b + .05), size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  if (ratio < (large ? 3 : 4.5)) poor.push(`${ratio.toFixed(2)} ${e.tagName}.${e.className}: ${text.slice(0, 30)}`);
}
return poor;"""


def test_printed_it_has_pictures_and_no_controls(opened):
    from base64 import b64decode

    pdf = b64decode(opened.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert pdf.count(b"/Subtype /Image") >= 24
    opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not opened.run("return document.getElementById('filters').checkVisibility()")
    opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_images_that_cannot_be_read_have_none(page, tmp_path):
    index, _ = make_page(tmp_path, 300, images=Images(pixels(300)))
    page.open(index)
    page.choose("show", "all")
    assert page.run("return document.querySelectorAll('#tiles .gone').length") > 5
    assert "43 of these images cannot be read any more" in page.text("#gallery")  # 3, 10, ..., 297
    page.keys("n", "d")
    assert page.text("#tally") == "Decided: 1 drop"


def test_without_any_image_it_works(page, tmp_path):
    index, _ = make_page(tmp_path, 40, images=False)
    page.open(index)
    assert "no pictures" in page.text("#gallery")
    page.choose("given", 1)
    page.keys("n", "k")
    assert page.text("#tally") == "Decided: 1 keep"


def test_without_data_beside_the_page_it_says_so(page, tmp_path):
    index, _ = make_page(tmp_path, 300)
    (index.parent / "data" / "000.js").unlink()
    page.open(index)
    page.choose("show", "all")
    page.choose("given", 1)
    assert "cannot be read" in page.text("#note")
    assert any("ERR_FILE_NOT_FOUND" in error for error in page.errors)


def test_photos_are_thumbnails(page, tmp_path):
    index, _ = make_page(tmp_path, 320, images=ArrayImages(pixels(320, side=96, channels=3)))
    page.open(index)
    assert page.run("return getComputedStyle(document.querySelector('.tile img')).imageRendering") == "auto"
    page.choose("search", "image 003")
    page.choose("show", "all")
    assert page.run("return document.querySelector('#tiles img').src").endswith("sprites/001.webp")


def test_an_opened_viewer_decides_nothing_by_itself(opened):
    from selenium.webdriver.common.keys import Keys

    opened.keys("n", Keys.ENTER, Keys.SPACE)  # the button that has the keyboard goes on to the next
    assert stored(opened) == {}
    assert opened.text("#viewer-title") == "image 00001.jpg"


def test_the_page_keeps_to_five_megabytes(page, tmp_path):
    """The worst there is: a thousand classes with long names, and photos that are nothing but noise."""
    names = tuple(f"{number} {'a class with a long name ' * 8}" for number in range(1000))
    index, _ = make_page(tmp_path, 2000, names, images=ArrayImages(pixels(2000, side=224, channels=3)), pictures=250)
    assert index.stat().st_size < 5_000_000
    page.open(index)
    assert page.run(IN_VIEW) >= 24


@pytest.mark.slow
def test_fifty_thousand_samples(page, tmp_path):
    """First picture under 2 s; scrolling keeps the page small."""
    index, _ = make_page(tmp_path, 50_000, images=ArrayImages(pixels(50_000, side=32, channels=3)))
    assert index.stat().st_size < 5_000_000
    page.open(index)
    page.open(index)
    first = page.run("return performance.getEntriesByName('first picture')[0].startTime")
    assert first < 2000
    page.choose("show", "all")
    for place in np.linspace(0, 1, 30):
        page.run(
            "const s = document.getElementById('scroller'); s.scrollTop = arguments[0] * s.scrollHeight", float(place)
        )
        page.settle()
    assert len(page.tiles) < 150
    assert page.run("return document.querySelectorAll('script[src]').length") < 80
    page.choose("search", "image 49999")
    assert page.count == 1
