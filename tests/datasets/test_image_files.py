"""Images in files: every kind of image, the views, and that they depend on the seed alone."""

import os
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from tests.datasets.image_trees import SIZES, picture, save_jpeg
from torchvision import transforms
from torchvision.transforms import functional as reference

from cpc_lightning.datasets.dataset import ArrayImages
from cpc_lightning.datasets.reading import image_files
from cpc_lightning.datasets.reading.image_files import Crop, ImageFiles, UnreadableImageError, decode, for_people
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.errors import InputError

CROP = Crop(32, 28)


@pytest.fixture
def files(tmp_path):
    names = [f"{n % 2}/{n}.jpg" for n in range(6)]
    for number, name in enumerate(names):
        save_jpeg(tmp_path / name, number, shade=90 * (number % 2))
    return ImageFiles(str(tmp_path), PathList(names), CROP)


# Names ---------------------------------------------------------------------------------------------------------------


def test_a_path_list_is_a_sequence_of_strings():
    names = ["a/b.jpg", "", "Größe.png", "c\nd.jpg", b"caf\xe9.jpg"]
    paths = PathList(iter(names))
    assert list(paths) == ["a/b.jpg", "", "Größe.png", "c\nd.jpg", "caf\udce9.jpg"]
    assert (len(paths), paths[2], paths[-1], paths.encoded(4)) == (5, "Größe.png", "caf\udce9.jpg", b"caf\xe9.jpg")
    assert list(paths[1:3]) == ["", "Größe.png"]
    assert list(paths.take([3, 0])) == ["c\nd.jpg", "a/b.jpg"]
    assert len(PathList()) == 0
    for place in (5, -6):
        with pytest.raises(IndexError):
            paths[place]


def test_a_path_list_of_more_than_one_block():
    paths = PathList(str(n) for n in range(70_000))
    assert [paths[n] for n in (0, 65534, 65535, 65536, 69_999)] == ["0", "65534", "65535", "65536", "69999"]
    assert paths.first_repeat() is None


def test_a_name_that_is_there_twice_is_found():
    assert PathList(["a", "b", "c", "b", "a"]).first_repeat() == (1, 3)
    assert PathList(["ab", "c", "a", "bc"]).first_repeat() is None


@pytest.mark.long
def test_a_path_list_is_small():
    tracemalloc.start()
    paths = PathList(f"images/{n % 10}/{n:020d}.jpg" for n in range(100_000))
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(paths[7]) == 33
    assert kept / 100_000 < 45  # 33 bytes of name, 8 of offset
    assert peak / 100_000 < 150


# Views ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crop", [CROP, Crop(40, 40), Crop(64, 33)])
def test_evaluation_sees_what_torchvision_gives(files, crop):
    images = ImageFiles(files.root, files.paths, crop)
    plain = transforms.Compose([transforms.Resize(crop.resize), transforms.CenterCrop(crop.size)])
    got = images.fetch(torch.arange(6))
    assert got.shape == (6, 3, crop.size, crop.size)
    assert got.dtype == torch.uint8
    for row, position in enumerate(range(6)):
        with Image.open(images.file(position)) as image:
            assert torch.equal(got[row], reference.pil_to_tensor(plain(image.convert("RGB"))))


@pytest.mark.parametrize("random_resized", [False, True])
def test_views_depend_on_the_seed_alone(files, random_resized):
    images = ImageFiles(files.root, files.paths, Crop(32, 24, random_resized))
    positions = torch.tensor([3, 0, 3])
    torch.manual_seed(1)
    once = images.fetch_views(positions, 4, seed=5)
    state = torch.get_rng_state()
    assert torch.equal(once, images.fetch_views(positions, 4, seed=5))
    assert torch.equal(state, torch.get_rng_state())
    assert once.shape == (4, 3, 3, 24, 24)
    assert once.dtype == torch.uint8
    assert not torch.equal(once, images.fetch_views(positions, 4, seed=6))
    views = [once[v, b] for v in range(4) for b in (0, 2)]  # of one image, that the batch holds twice
    assert len({view.numpy().tobytes() for view in views}) == 8
    assert images.fetch_views(positions[:0], 2, seed=0).shape == (2, 0, 3, 24, 24)
    assert images.fetch(positions[:0]).shape == (0, 3, 24, 24)


def test_images_to_look_at_are_decoded_smaller_but_never_enlarged(tmp_path, monkeypatch):
    smooth = np.linspace(0, 255, 375 * 500).reshape(375, 500).astype(np.uint8)
    Image.fromarray(smooth).convert("RGB").save(tmp_path / "a.jpg", quality=95)
    decoded = []
    monkeypatch.setattr(image_files, "decode", lambda *given: decoded.append(decode(*given)) or decoded[-1])
    for resize, sizes in ((183, [(500, 375), (250, 188)]), (189, [(500, 375), (500, 375)])):  # 188 would be enlarged
        decoded.clear()
        images = ImageFiles(str(tmp_path), PathList(["a.jpg"]), Crop(resize, 160))
        fine, coarse = (shown.fetch(torch.tensor([0])) for shown in (images, for_people(images)))
        assert [image.size for image in decoded] == sizes
        assert fine.shape == coarse.shape
        assert (fine.int() - coarse.int()).abs().max() <= 2
    decoded.clear()
    view = for_people(ImageFiles(str(tmp_path), PathList(["a.jpg"]), Crop(256, 224)), 160).fetch(torch.tensor([0]))
    assert (decoded[0].size, view.shape) == ((250, 188), (1, 3, 160, 160))  # 256 * 160 / 224 is 183
    in_memory = ArrayImages(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
    assert for_people(in_memory) is in_memory


def test_an_image_is_decoded_once_for_all_its_views(files, monkeypatch):
    decoded = []
    monkeypatch.setattr(image_files, "decode", lambda file, *more: decoded.append(file) or decode(file, *more))
    files.fetch_views(torch.tensor([4, 1]), 4, seed=0)
    assert decoded == [files.file(4), files.file(1)]


def test_a_random_crop_is_a_part_of_the_scaled_image_and_reaches_every_place(tmp_path):
    """An image of 40 x 32 that says of each pixel where it is."""
    columns, rows = np.meshgrid(np.arange(40), np.arange(32))
    Image.fromarray(np.stack([columns, rows, 0 * rows], axis=2).astype(np.uint8)).save(tmp_path / "where.png")
    images = ImageFiles(str(tmp_path), PathList(["where.png"]), CROP)
    views = images.fetch_views(torch.zeros(200, dtype=torch.int64), 2, seed=0).flatten(0, 1).long()
    left, top = views[:, 0, 0, 0], views[:, 1, 0, 0]
    assert torch.equal(views[:, 0], (left[:, None] + torch.arange(28))[:, None].expand(-1, 28, -1))
    assert torch.equal(views[:, 1], (top[:, None] + torch.arange(28))[:, :, None].expand(-1, -1, 28))
    assert set(left.tolist()) == set(range(13))  # 40 - 28 = 12
    assert set(top.tolist()) == set(range(5))  # 32 - 28 = 4


def test_random_resized_shapes_follow_area_and_ratio():
    """The first attempt in numbers: area share 0.54, the middle of 0.08..1; ratio 1: sqrt(5400) = 73.5."""
    crop = Crop(100, 50, random_resized=True)
    middle = np.full(crop.draws, 0.5)
    assert crop._random_shape((100, 100), middle) == (73, 73)
    # Area share 1 and ratio 4/3 do not fit; the second attempt, the smallest upright one, does:
    # sqrt(0.08 * 1e4 * 3/4) = 24.5 wide, sqrt(0.08 * 1e4 * 4/3) = 32.7 high.
    draws = np.full(crop.draws, 0.5)
    draws[:4] = [0.999999, 0.999999, 0, 0]
    assert crop._random_shape((100, 100), draws) == (24, 33)
    # Nothing fits into a strip: the middle ratio, cut to 4/3.
    draws[:-2] = 0.999999
    assert crop._random_shape((800, 100), draws) == (133, 100)
    assert crop._random_shape((100, 800), draws) == (100, 133)


def test_a_random_resized_view_is_the_crop_scaled():
    crop, image = Crop(64, 20, random_resized=True), picture(5).resize((64, 200))
    draws = np.random.RandomState(0).random_sample(crop.draws)
    width, height = crop._random_shape(image.size, draws)
    left, top = int(draws[-2] * (64 - width + 1)), int(draws[-1] * (200 - height + 1))
    expected = reference.resized_crop(image, top, left, height, width, [20, 20])
    assert np.array_equal(np.asarray(crop.random(image, draws)), np.asarray(expected))


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (1, 1)])
def test_extreme_shapes_take_little_memory(tmp_path, size):
    picture(0, 50, size).save(tmp_path / "strip.png")
    scaled = CROP.scaled(decode(str(tmp_path / "strip.png"), 32))
    assert max(scaled.size) <= 8 * 32
    assert min(scaled.size) == 32


@pytest.mark.parametrize("arguments", [(20, 28), (0, 0), (32, 0), (32, 28, "yes")])
def test_wrong_crops_are_named(arguments):
    with pytest.raises(InputError, match=r"^crop\.") as error:
        Crop(*arguments)
    assert error.value.setting.startswith("crop.")


# Kinds of images ---------------------------------------------------------------------------------------------------


def saved(folder, name, image, **more):
    image.save(folder / name, **more)
    return decode(str(folder / name), 32)


def test_gray_and_black_and_white(tmp_path):
    gray = Image.new("L", (5, 4), 77)
    assert saved(tmp_path, "gray.png", gray).getpixel((0, 0)) == (77, 77, 77)
    assert saved(tmp_path, "bits.png", Image.new("1", (5, 4), 1)).getpixel((0, 0)) == (255, 255, 255)
    image = saved(tmp_path, "gray.jpg", gray)
    assert (image.mode, image.getpixel((2, 2))) == ("RGB", (77, 77, 77))


def test_16_bit_levels_are_scaled(tmp_path):
    """65535 / 257 = 255; 25700 / 257 = 100; Pillow's own conversion would cut both off at 255."""
    levels = np.array([[0, 25700], [65535, 257]], dtype=np.uint16)
    for name in ("deep.png", "deep.tif"):
        image = saved(tmp_path, name, Image.fromarray(levels))
        assert [image.getpixel(at)[0] for at in ((0, 0), (1, 0), (0, 1), (1, 1))] == [0, 100, 255, 1]
        assert image.mode == "RGB"


def test_levels_without_a_range_are_refused(tmp_path):
    for image in (Image.fromarray(np.array([[1e6]], dtype=np.float32)), Image.fromarray(np.array([[70000]], np.int32))):
        with pytest.raises(UnreadableImageError, match="whose range is not known"):
            saved(tmp_path, "wide.tif", image)


def test_alpha_is_composited_on_white(tmp_path):
    """Half transparent black on white is middle gray; 255 * (1 - 128/255) = 127."""
    image = Image.new("RGBA", (3, 3), (0, 0, 0, 128))
    image.putpixel((1, 1), (10, 20, 30, 0))
    image.putpixel((2, 2), (10, 20, 30, 255))
    got = saved(tmp_path, "alpha.png", image)
    assert [got.getpixel((n, n)) for n in range(3)] == [(127, 127, 127), (255, 255, 255), (10, 20, 30)]
    got = saved(tmp_path, "gray_alpha.png", Image.new("LA", (2, 2), (40, 0)))
    assert got.getpixel((0, 0)) == (255, 255, 255)


def test_palettes_also_with_a_transparent_colour(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([200, 10, 10, 10, 10, 200])
    image.putpixel((1, 0), 1)
    got = saved(tmp_path, "palette.png", image)
    assert [got.getpixel((n, 0)) for n in (0, 1)] == [(200, 10, 10), (10, 10, 200)]
    for name in ("palette.png", "palette.gif"):
        got = saved(tmp_path, name, image, transparency=1)
        assert [got.getpixel((n, 0)) for n in (0, 1)] == [(200, 10, 10), (255, 255, 255)]


def test_cmyk(tmp_path):
    got = saved(tmp_path, "print.jpg", Image.new("CMYK", (8, 8), (255, 0, 0, 0)), quality=100)
    assert np.allclose(got.getpixel((4, 4)), (0, 255, 255), atol=3)
    got = saved(tmp_path, "print.tif", Image.new("CMYK", (8, 8), (0, 0, 0, 255)))
    assert got.getpixel((4, 4)) == (0, 0, 0)


@pytest.mark.parametrize(("orientation", "red_at"), [(1, (0, 0)), (3, (1, 2)), (6, (2, 0)), (8, (0, 1))])
def test_exif_orientation_is_followed(tmp_path, orientation, red_at):
    """2 x 3 pixels, the upper left one red: turned by 180, by 90 clockwise (6) or anticlockwise (8)."""
    image = Image.new("RGB", (2, 3))
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    got = saved(tmp_path, "turned.png", image, exif=exif)
    assert got.size == ((2, 3) if orientation in (1, 3) else (3, 2))
    assert got.getpixel(red_at) == (255, 0, 0)


def test_a_damaged_exif_part_does_not_cost_the_image(tmp_path):
    got = saved(tmp_path, "exif.jpg", picture(0), exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff\xff\xff")
    assert got.size == SIZES[0]


def test_animations_show_their_first_image(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    got = saved(tmp_path, "film.gif", frames[0], save_all=True, append_images=frames[1:])
    assert got.getpixel((0, 0)) == (255, 0, 0)


def test_large_jpegs_are_decoded_small_but_not_below_twice_the_side(tmp_path):
    smooth = Image.linear_gradient("L").resize((800, 480)).convert("RGB")
    got = saved(tmp_path, "photo.jpg", smooth, quality=95)
    assert got.size == (200, 120)  # a quarter; an eighth would be 60 high, below 64 = 2 * 32
    plain = np.asarray(Crop(32, 32).scaled(smooth), dtype=int)
    assert np.abs(np.asarray(Crop(32, 32).scaled(got), dtype=int) - plain).max() <= 3


# What cannot be read -----------------------------------------------------------------------------------------------


def bomb(path):
    """A PNG of a few hundred bytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\nshowpage\n%%EOF\n"


def unreadable(folder):
    """Files that cannot be read, and what is said of each."""
    save_jpeg(folder / "whole.jpg", 0)
    content = (folder / "whole.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(content[:-200])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("<html>404</html>")
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")  # opening it would wait for ever
    bomb(folder / "bomb.png")
    (folder / "script.jpg").write_bytes(EPS)  # Pillow would have Ghostscript run it
    picture(0).save(folder / "whole.png")
    damaged = bytearray((folder / "whole.png").read_bytes())
    damaged[60:90] = bytes(30)
    (folder / "damaged.png").write_bytes(damaged)
    return {
        "cut.jpg": "truncated",
        "empty.jpg": "is empty",
        "text.jpg": "is no image",
        "folder.jpg": "is no file",
        "pipe.jpg": "is no file",
        "script.jpg": "is no image",
        "bomb.png": "more than 89,478,485",
        "damaged.png": "cannot be decoded",
        "absent.jpg": "is not there",
        "nul\0.jpg": "null",
    }


def test_what_cannot_be_read_says_why(tmp_path):
    expected = unreadable(tmp_path)
    images = ImageFiles(str(tmp_path), PathList([*expected, "whole.jpg"]), CROP)
    for position, says in enumerate(expected.values()):
        assert says in images.look(position, whole=True).reason
        with pytest.raises(InputError, match="on_bad_image=skip") as error:
            images.fetch(torch.tensor([10, position]))
        assert error.value.setting == "image"
        assert says in str(error.value)
    assert images.look(10, whole=True).reason is None
    by_header = {name for n, name in enumerate(images.paths) if images.look(n, whole=False).reason}
    assert by_header == set(expected) - {"cut.jpg", "damaged.png"}


def test_an_image_between_pillows_warning_and_its_error_is_refused(tmp_path):
    """10,000 x 10,000 pixels: Pillow only warns."""
    Image.new("1", (10_000, 10_000)).save(tmp_path / "large.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(UnreadableImageError, match="has 10000 x 10000 pixels"):
            decode(str(tmp_path / "large.png"), 32)
