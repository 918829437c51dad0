"""PNG decoded in strips against Pillow, which decodes the whole."""

import zlib

import numpy as np
import pytest
from PIL import Image

from cpc_lightning.datasets.reading import image_files, large_png
from cpc_lightning.datasets.reading.image_files import Crop, ImageFiles, UnreadableImageError, decode
from cpc_lightning.datasets.reading.levels import to_rgb
from cpc_lightning.datasets.reading.paths import PathList


def drawing(mode):
    """101 x 73 pixels of waves and noise, which an encoder codes in all ways that there are."""
    rows, columns = np.mgrid[:73, :101]
    channels = [127 + 100 * np.sin((rows * a + columns * b) / 9) for a, b in ((1, 2), (3, 1), (1, 1), (2, 0))]
    noise = np.random.RandomState(0).randint(0, 20, (73, 101, 4)) * (columns > 50)[..., None]
    return Image.fromarray((np.stack(channels, 2) + noise).astype(np.uint8), "RGBA").convert(mode)


def save(path, mode, **settings):
    image = drawing("RGB").quantize(60) if mode == "P" else drawing(mode)
    image.save(path, **settings)
    return str(path)


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("L", {}), ("L", {"transparency": 90}), ("LA", {}), ("RGB", {}), ("RGB", {"transparency": (1, 2, 3)}),
        ("RGBA", {}), ("P", {"transparency": 7}), ("P", {}),
    ],
)  # fmt: skip
def test_strips_are_the_whole(tmp_path, monkeypatch, mode, settings):
    monkeypatch.setattr(large_png, "STRIP", 3000)
    monkeypatch.setattr(large_png, "PIECE", 500)
    file = save(tmp_path / "a.png", mode, **settings)
    whole = to_rgb(Image.open(file))
    found = large_png.large_png(file)
    assert (found.width, found.height) == (101, 73)
    assert found.shrunk(file, 1, to_rgb).tobytes() == whole.tobytes()
    assert found.shrunk(file, 4, to_rgb).tobytes() == whole.reduce(4).tobytes()


def test_what_cannot_be_decoded_in_strips(tmp_path):
    Image.new("I;16", (8, 8)).save(tmp_path / "deep.png")
    Image.new("1", (8, 8)).save(tmp_path / "bits.png")
    drawing("RGB").save(tmp_path / "a.jpg")
    (tmp_path / "short.png").write_bytes(large_png.SIGNATURE)
    content = bytearray((tmp_path / save(tmp_path / "a.png", "RGB")).read_bytes())
    content[28] = 1  # interlaced
    (tmp_path / "passes.png").write_bytes(content)
    for name in ("deep.png", "bits.png", "a.jpg", "short.png", "passes.png"):
        assert large_png.large_png(str(tmp_path / name)) is None


def test_large_ones_are_shrunk_to_no_less_than_twice_what_is_needed(tmp_path, monkeypatch):
    file = save(tmp_path / "a.png", "RGBA")
    monkeypatch.setattr(image_files, "SHRUNK_BEYOND", 101 * 73)
    assert decode(file, 12).size == (101, 73)
    monkeypatch.setattr(image_files, "SHRUNK_BEYOND", 101 * 73 - 1)
    assert decode(file, 12).size == (34, 25)  # a third: 73 // 24
    assert decode(file, 40).size == (101, 73)
    monkeypatch.setattr(image_files, "MAX_PIXELS", 1000)
    assert decode(file, 12).size == (34, 25)
    assert ImageFiles(str(tmp_path), PathList(["a.png"]), Crop(12, 12)).look(0, whole=False).reason is None
    with pytest.raises(UnreadableImageError, match="has 101 x 73 pixels, more than 1,000"):
        decode(file, 40)  # there is nothing to shrink
    monkeypatch.setattr(image_files, "MAX_SHRUNK", 5000)
    with pytest.raises(UnreadableImageError, match="more than 1,000"):
        decode(file, 12)


def test_they_are_turned_upright(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    drawing("RGB").save(tmp_path / "a.png", exif=exif)
    plain = decode(str(tmp_path / "a.png"), 73)
    monkeypatch.setattr(image_files, "SHRUNK_BEYOND", 1)
    assert plain.size == (73, 101)
    assert decode(str(tmp_path / "a.png"), 73).tobytes() == plain.tobytes()


def test_damage_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "SHRUNK_BEYOND", 1)
    content = (tmp_path / save(tmp_path / "a.png", "RGB")).read_bytes()
    at = content.index(b"IDAT") + 4

    def says(changed):
        (tmp_path / "b.png").write_bytes(changed)
        with pytest.raises(UnreadableImageError) as caught:
            decode(str(tmp_path / "b.png"), 12)
        return str(caught.value)

    assert "truncated" in says(content[:-300])
    assert "cannot be decoded" in says(content[: at + 50] + b"\0\0\0" + content[at + 53 :])
    assert "no pixels" in says(content[: at - 8] + large_png._chunk(b"IEND", b""))
    short = zlib.compress(bytes(304 * 5))
    header = content[: large_png.HEADER]
    broken = bytearray(large_png._chunk(b"IDAT", short))
    broken[-1] ^= 1
    assert "checksum" in says(header + broken + large_png._chunk(b"IEND", b""))
    ended = header + large_png._chunk(b"IDAT", short) + large_png._chunk(b"IEND", b"")
    assert "truncated" in says(ended)
    wrong = header + large_png._chunk(b"IDAT", zlib.compress(b"\x09" * 304 * 73)) + large_png._chunk(b"IEND", b"")
    assert "cannot be decoded" in says(wrong)  # there is no ninth way to code a row


def test_a_jpeg_beyond_the_limit_is_shrunk_unless_it_is_progressive(tmp_path, monkeypatch):
    drawing("RGB").resize((404, 292)).save(tmp_path / "a.jpg")
    drawing("RGB").resize((404, 292)).save(tmp_path / "b.jpg", progressive=True)
    monkeypatch.setattr(image_files, "MAX_PIXELS", 100_000)
    assert decode(str(tmp_path / "a.jpg"), 36).size == (101, 73)
    for name, side in (("b.jpg", 36), ("a.jpg", 100)):
        with pytest.raises(UnreadableImageError, match="has 404 x 292 pixels, more than 100,000"):
            decode(str(tmp_path / name), side)
