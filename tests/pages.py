"""What tests of the page share: pages of made-up runs, and a real browser to open them in."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cpc_lightning.datasets.dataset import ArrayImages
from cpc_lightning.report.material import Look, Material
from cpc_lightning.report.page import write_page
from cpc_lightning.report.run_folder import RunFolder
from cpc_lightning.report.verdicts import Verdicts

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
HOSTILE = "<script>window.hacked = 1</script>"


def open_browser():
    """A headless Chromium; skips the test, with the reason, where there is none."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (extra dev)")
    if not CHROMIUM or not DRIVER:
        pytest.skip("no chromium here (Debian: apt-get install chromium chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    os.environ.setdefault("SE_OFFLINE", "true")  # both programs are here: there is nothing to look for
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    driver.set_script_timeout(60)
    return driver


class Page:
    """A page in the browser, and what tests ask of it."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, index, width=1280, height=800, dark=False):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(Path(index).resolve().as_uri())
        self.settle()
        return self

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def settle(self):
        """Wait until nothing is read or drawn any more."""
        self.driver.execute_async_script("""
            const done = arguments[0];
            const wait = () => {
              for (const script of document.querySelectorAll("script[src]:not([data-seen])")) {
                const there = () => { script.dataset.there = 1; };
                script.dataset.seen = 1;
                script.addEventListener("load", there);
                script.addEventListener("error", there);
                setTimeout(there, 400); // it was there before anybody looked
              }
              if (document.querySelector("script[src]:not([data-there])")) setTimeout(wait, 20);
              else requestAnimationFrame(() => requestAnimationFrame(done));
            };
            setTimeout(wait, 30);""")

    def keys(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()
            self.settle()

    def choose(self, field, value):
        self.run("const f = document.getElementById(arguments[0]); f.value = arguments[1];"
                 "f.dispatchEvent(new Event('input', {bubbles: true}));", field, str(value))  # fmt: skip
        self.settle()

    def click(self, selector):
        self.run("document.querySelector(arguments[0]).click()", selector)
        self.settle()

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent.trim()", selector)

    @property
    def count(self):
        """How many labels are shown."""
        return int(self.text("#count").split(" of ")[0].replace(",", ""))

    @property
    def tiles(self):
        """What the tiles say, in order, those in view and a few more."""
        return self.run("return [...document.querySelectorAll('#tiles .tile')].map((t) => t.ariaLabel)")

    @property
    def errors(self):
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


class Images(ArrayImages):
    """Images in memory, some of which cannot be read any more."""

    def fetch(self, positions):
        if any(int(position) % 7 == 3 for position in positions):
            raise OSError("gone")
        return super().fetch(positions)


def verdicts_on(count, names, truth=False, paths=True, seed=0):
    """Made-up verdicts: the first quarter of the samples is suspected, the most suspicious of them first."""
    rng = np.random.default_rng(seed)
    given = rng.integers(0, len(names), count)
    suspected = np.arange(count) < count // 4
    suggested = np.where(suspected, (given + rng.integers(1, len(names), count)) % len(names), given)
    chance = np.sort(np.where(suspected, rng.uniform(0, 0.4, count), rng.uniform(0.6, 1, count)))
    apart = rng.uniform(0, 0.05, count) * np.minimum(chance, 1 - chance)
    nobody = np.full(count, -1)
    return Verdicts(
        np.arange(count), [f"cats & dogs/image {i:05d}.jpg" if paths else "" for i in range(count)], given,
        chance - apart, chance + apart, chance, suspected, suggested, rng.uniform(0.5, 1, count).round(4),
        np.where(rng.random(count) < 0.9, suggested, given) if truth else nobody, nobody, np.zeros(count, bool),
    )  # fmt: skip


def a_run(**changes):
    """What a run has left that has left little."""
    given = {"path": Path("/runs/a b"), "settings": {}, "overrides": [], "class_names": ("cat", "dog", "bird")}
    return RunFolder(**given | {"metrics": {}, "summary": None, "versions": {}, "checkpoint": None} | changes)


def pixels(count, side=8, channels=1, seed=0):
    """Images that differ."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def make_page(folder, count=40, names=("cat", "dog", "bird"), images=None, pictures=60_000, **changes):
    """The index.html of a made-up run, and its verdicts."""
    settings = {"run_dir": str(folder), "seed": 1, "training": {"epochs": 3}}
    epochs = np.arange(3.0)
    metrics = {"epoch": epochs, "test/accuracy": 80 + epochs, "cpc/auc": 0.9 + epochs / 100}
    run = RunFolder(Path(folder), settings, ["seed=1"], tuple(names), metrics, {"seconds": 65.0}, {}, None)
    known = {"truth", "paths", "seed"}
    verdicts = verdicts_on(count, names, **{name: changes.pop(name) for name in known & set(changes)})
    if images is None:
        images = ArrayImages(pixels(count))
    test = verdicts_on(12, names, seed=5)
    material = Material(run, verdicts, {"test": test}, images or None, ArrayImages(pixels(12, seed=9)), **changes)
    return write_page(material, Path(folder, "report"), pictures), verdicts


def look_at(count, size=16, copies=()):
    """What networks might say: features that differ, but for `copies` (of which position, at which)."""
    rng = np.random.default_rng(2)
    features = rng.standard_normal((count, size)).astype(np.float16)
    for original, copy in copies:
        features[copy] = features[original]
    losses = rng.gamma(2, 1, (2, count)).astype(np.float32)
    return Look(features, rng.standard_normal((12, size)).astype(np.float16), losses, rng.random(count, np.float32))
