"""Folders with links, with what a NAS adds, with folders that may not be read, with images of every ending."""

import errno
import os
import shutil
import sys
import types

import numpy as np
import pytest
from PIL import Image
from tests.datasets.image_trees import picture, save_jpeg, save_text, write_folders, write_webvision

from cpc_lightning.datasets import file_dataset
from cpc_lightning.datasets.cifar import cifar10
from cpc_lightning.datasets.clothing1m import clothing1m
from cpc_lightning.datasets.fashion_mnist import fashion_mnist
from cpc_lightning.datasets.image_folder import image_folder
from cpc_lightning.datasets.reading import copies, formats
from cpc_lightning.datasets.reading.copies import Looked, file_digests, remarks_on_copies
from cpc_lightning.datasets.reading.image_files import Crop, decode
from cpc_lightning.datasets.reading.levels import top_level
from cpc_lightning.datasets.webvision import webvision
from cpc_lightning.errors import InputError

CROP = Crop(8, 8)


def opened(root, **more):
    return image_folder(str(root), CROP, **{"test_share": 0.3, **more})


def names(data):
    return sorted(path for split in (data.train, data.evaluation["test"]) for path in split.images.paths)


# What is an image ----------------------------------------------------------------------------------------------------


def test_every_ending_that_pillow_has_for_our_formats_is_read():
    Image.init()
    of_pillow = {ending for ending, of in Image.registered_extensions().items() if of in formats.FORMATS}
    assert of_pillow - {".pfm"} <= set(formats.ENDINGS)


def test_images_by_what_the_decoder_opens(tmp_path):
    """As in `suffixes`: other endings, in any case; a file without one is an image where it begins like one."""
    kinds = {"a.jfif": "JPEG", "b.JPE": "JPEG", "c.jp2": "JPEG2000", "d.WebP": "WEBP", "e.avif": "AVIF", "f": "PNG"}
    for number, (name, kind) in enumerate(kinds.items()):
        for place, folder in enumerate(("x", "y")):
            (tmp_path / folder).mkdir(exist_ok=True)
            picture(10 * number + place).save(tmp_path / folder / name, format=kind)
    save_text(tmp_path / "x" / "README", "no image")
    os.mkfifo(tmp_path / "x" / "pipe")  # opening it would wait for ever
    data = opened(tmp_path)
    assert names(data) == sorted(f"{folder}/{name}" for folder in "xy" for name in kinds)
    (line,) = data.remarks
    assert line.startswith("not looked at among the images, 2 in all: 2 without an ending")


def test_a_class_without_images_says_what_it_holds(tmp_path):
    write_folders(tmp_path, {"a": 3})
    for name in ("b/1.psd", "b/2.psd", "b/3.txt"):
        save_text(tmp_path / name, "")
    with pytest.raises(InputError, match=r"class b holds no images \(but 2 .psd, 1 .txt, which are not looked at\)"):
        opened(tmp_path)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50)


@pytest.fixture
def without_heif(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # import raises ImportError
    formats.formats.cache_clear()
    yield
    formats.formats.cache_clear()


@pytest.mark.parametrize("looked_at", [5000, 2])
def test_heic_without_its_package_names_the_command(tmp_path, without_heif, monkeypatch, looked_at):
    """By its name, in sets that are not decoded in advance too."""
    monkeypatch.setattr(file_dataset, "LOOKED_AT_FIRST", looked_at)
    write_folders(tmp_path, {"a": 8, "b": 8})
    (tmp_path / "a" / "IMG_1.HEIC").write_bytes(HEIC)
    with pytest.raises(InputError, match=r"1 file cannot be read .*IMG_1.HEIC \(is HEIC.*: pip install pillow-heif\)"):
        opened(tmp_path)
    data = opened(tmp_path, on_bad_image="skip")
    assert [bad.path for bad in data.left_out] == ["a/IMG_1.HEIC"]


def test_heic_with_another_ending_names_the_command(tmp_path, without_heif):
    write_folders(tmp_path, {"a": 8, "b": 8})
    (tmp_path / "a" / "IMG_1.jpg").write_bytes(HEIC)
    with pytest.raises(InputError, match="pip install pillow-heif"):
        opened(tmp_path)


def test_heic_is_read_where_its_package_is_installed(tmp_path, monkeypatch):
    """A stand-in for pillow-heif: its opener takes what begins like HEIC, and hands out green images."""

    class Opened(Image.Image):
        def __init__(self, file, name):
            super().__init__()
            self._size, self._mode, self.format = (30, 20), "RGB", "HEIF"
            self.im = Image.new("RGB", (30, 20), (0, 255, 0)).im

    stand_in = types.ModuleType("pillow_heif")
    stand_in.register_heif_opener = lambda: Image.register_open("HEIF", Opened, lambda start: b"ftyp" in start)
    monkeypatch.setitem(sys.modules, "pillow_heif", stand_in)
    before = Image.OPEN.pop("HEIF", None)
    formats.formats.cache_clear()
    try:
        write_folders(tmp_path, {"a": 8, "b": 8})
        (tmp_path / "a" / "IMG_1.heic").write_bytes(HEIC)
        assert "a/IMG_1.heic" in names(opened(tmp_path))
        assert decode(str(tmp_path / "a" / "IMG_1.heic"), 8).getpixel((0, 0)) == (0, 255, 0)
    finally:
        Image.OPEN.pop("HEIF", None)
        if before is not None:
            Image.OPEN["HEIF"] = before
        formats.formats.cache_clear()


# Links ---------------------------------------------------------------------------------------------------------------


def test_linked_folders_within_a_class_are_read_and_none_leads_in_a_circle(tmp_path):
    write_folders(tmp_path / "pool", {"first": 3, "second": 2}, first=50)
    write_folders(tmp_path / "data", {"a": 2, "b": 3})
    a = tmp_path / "data" / "a"
    (a / "batch").symlink_to(tmp_path / "pool" / "first")
    (a / "deep").mkdir()
    (a / "deep" / "more").symlink_to(tmp_path / "pool" / "second")
    (a / "deep" / "again").symlink_to(tmp_path / "pool" / "first")  # read already
    (a / "up").symlink_to(tmp_path / "data")  # would make all of b images of a
    (tmp_path / "pool" / "first" / "self").symlink_to(tmp_path / "pool" / "first")
    (a / "loop").symlink_to(a / "loop")
    data = opened(tmp_path / "data")
    expected = ["a/0.jpg", "a/1.jpg", *(f"a/batch/{n}.jpg" for n in (50, 51, 52)), "a/deep/more/53.jpg"]
    assert names(data) == [*expected, "a/deep/more/54.jpg", *(f"b/{n}.jpg" for n in (2, 3, 4))]
    (line,) = data.remarks
    assert "2 links to folders that are read already" in line
    assert "1 link in a circle" in line


def test_links_as_classes_and_parts_and_one_to_the_root(tmp_path):
    write_folders(tmp_path / "pool", {"a": 3, "b": 3})
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "pool" / name)
    (tmp_path / "data" / "here").symlink_to(tmp_path / "data")
    data = opened(tmp_path / "data")
    assert data.class_names == ("a", "b")
    assert len(names(data)) == 6
    assert data.remarks[0].startswith("not looked at among the images, 1 in all: 1 link in a circle")


# What a NAS and file managers add ------------------------------------------------------------------------------------


def test_what_a_nas_or_a_file_manager_adds_is_no_image_and_no_class(tmp_path):
    write_folders(tmp_path, {"a": 5, "b": 5})
    for folder in ("a/@eaDir/0.jpg", "a/#recycle", "@eaDir/a", "@Recycle", "$RECYCLE.BIN", "System Volume Information",
                   "lost+found", "__MACOSX/a", "b/.@__thumb", "b/@Recently-Snapshot"):  # fmt: skip
        save_jpeg(tmp_path / folder / "SYNOPHOTO_THUMB_M.jpg", 3)
        save_jpeg(tmp_path / folder / "7.jpg", 3)
    for name in ("a/SYNOPHOTO_THUMB_XL.jpg", "b/AlbumArtSmall.jpg", "a/._0.jpg"):
        save_jpeg(tmp_path / name, 3)
    for name in ("a/Thumbs.db", "desktop.ini", "a/Icon\r"):
        save_text(tmp_path / name, "")
    data = opened(tmp_path)
    assert data.class_names == ("a", "b")
    assert names(data) == [*(f"a/{n}.jpg" for n in range(5)), *(f"b/{n}.jpg" for n in range(5, 10))]
    (line,) = data.remarks
    assert "9 folders added by a NAS or file manager" in line


def test_a_class_may_be_called_nearly_so(tmp_path):
    write_folders(tmp_path, {"@home": 2, "#1": 2, "recycle": 2})
    assert opened(tmp_path).class_names == ("#1", "@home", "recycle")


# What may not be read ------------------------------------------------------------------------------------------------


@pytest.fixture
def forbidden(monkeypatch):
    """Folders that may not be listed: tests may run as root, who may read everything."""
    closed = set()
    scandir = os.scandir

    def guarded(path="."):
        if os.path.realpath(path) in closed:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    return closed


@pytest.mark.parametrize("place", ["b/more", "b", "."])
def test_a_folder_that_may_not_be_read_is_an_error_that_names_it(tmp_path, forbidden, place):
    write_folders(tmp_path / "d", {"a": 4, "b": 4, "b/more": 4})
    forbidden.add(os.path.realpath(tmp_path / "d" / place))
    with pytest.raises(InputError) as error:
        opened(tmp_path / "d")
    assert error.value.setting == "root"
    assert str(error.value) == f"root={os.path.normpath(tmp_path / 'd' / place)}: cannot be read: Permission denied"


def test_a_test_folder_that_may_not_be_read(tmp_path, forbidden):
    write_folders(tmp_path / "d", {"a": 4, "b": 4})
    write_folders(tmp_path / "t", {"a": 4, "b": 4, "b/more": 4})
    forbidden.add(os.path.realpath(tmp_path / "t/b/more"))
    with pytest.raises(InputError, match=r"test_root=.*t/b/more: cannot be read: Permission denied"):
        opened(tmp_path / "d", test_root=str(tmp_path / "t"))


def test_ilsvrc_folders_that_may_not_be_read(tmp_path, forbidden):
    ilsvrc = write_webvision(tmp_path)
    forbidden.add(os.path.realpath(ilsvrc / "n01443537"))
    with pytest.raises(InputError, match=r"ilsvrc_root=.*n01443537: cannot be read: Permission denied"):
        webvision(str(tmp_path), CROP, num_classes=4, ilsvrc_root=str(ilsvrc))


def as_nobody(check):
    """Call `check` in a process without a root's rights; its answer as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            os.write(writer, str(check()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answer:
        return answer.read()


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_real_permissions(tmp_path, mode):
    """A folder that cannot be listed, and one that can be listed but not entered."""
    for parent in (tmp_path, *tmp_path.parents[:3]):  # one more where tests run in several processes
        parent.chmod(0o755)
    write_folders(tmp_path / "d", {"a": 4, "b": 4, "b/more": 4})
    (tmp_path / "d/b/more").chmod(mode)

    def check():
        try:
            return len(names(opened(tmp_path / "d")))
        except InputError as error:
            return error

    said = as_nobody(check)
    (tmp_path / "d/b/more").chmod(0o755)
    assert said == f"root={tmp_path}/d/b/more: cannot be read: Permission denied"


# Names of classes ----------------------------------------------------------------------------------------------------


def test_folders_that_are_numbers_are_in_the_order_of_numbers(tmp_path):
    write_folders(tmp_path, {str(k): 2 for k in range(11)})
    data = opened(tmp_path)
    assert data.class_names == tuple(map(str, range(11)))
    assert all(
        int(path.split("/")[0]) == label for path, label in zip(data.train.paths, data.train.labels, strict=True)
    )


def test_classes_that_are_alike_are_named(tmp_path):
    write_folders(tmp_path, {"Cat": 2, "cat": 2, "Müll": 2, "Mu\u0308ll": 2, "t shirt": 2, "tshirt": 2, "dog": 2})
    (line,) = opened(tmp_path).remarks
    assert "'Cat' and 'cat'" in line
    assert "'t shirt' and 'tshirt'" in line
    assert "'Mu\u0308ll' and 'Müll'" in line
    assert "dog" not in line


# Copies --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("looked_at", [5000, 2])
def test_copies_within_training_and_in_the_test(tmp_path, monkeypatch, looked_at):
    """Of 12 images to train on three are copies, one with another label; of 4 to test with one is trained on."""
    monkeypatch.setattr(file_dataset, "LOOKED_AT_FIRST", looked_at)
    write_folders(tmp_path / "train", {"a": 5, "b": 4})
    write_folders(tmp_path / "test", {"a": 2, "b": 1}, first=100)
    for copy in ("train/a/0 (1).jpg", "train/a/0 - Copy.jpg", "train/b/0.jpg", "test/a/0.jpg"):
        shutil.copy(tmp_path / "train/a/0.jpg", tmp_path / copy)
    assert opened(tmp_path).remarks == (
        "3 of 12 images to train on (25.0 %) are copies of others: a/0 (1).jpg = a/0 - Copy.jpg, "
        "a/0 (1).jpg = a/0.jpg, a/0 (1).jpg = b/0.jpg; 1 of them with another label",
        "1 of 4 images of test (25.0 %) are trained on too: a/0.jpg = a/0 (1).jpg",
    )


def test_a_copy_in_another_format_is_one(tmp_path):
    write_folders(tmp_path / "train", {"a": 2, "b": 2})
    write_folders(tmp_path / "test", {"a": 2, "b": 2}, first=100)
    for place in ("train/a/copy.png", "test/b/copy.bmp"):
        picture(77).save(tmp_path / place)
    assert opened(tmp_path).remarks == (
        "1 of 5 images of test (20.0 %) are trained on too: b/copy.bmp = a/copy.png",
    )  # fmt: skip


def test_of_many_files_some_sizes_are_compared(tmp_path, monkeypatch):
    """Two of four pairs of copies; how many were looked at is said."""
    monkeypatch.setattr(copies, "MOST_READ", 4)
    files = [tmp_path / str(k) for k in range(9)]
    for k, file in enumerate(files):
        file.write_bytes(bytes([7]) * (100 + k // 2))
    ((digests, among),) = file_digests({"train": (9, lambda k: str(files[k]))}).values()
    found = [k for k, digest in enumerate(digests) if digest]
    assert 0 < len(found) < 8
    assert all(digests[k] == digests[k ^ 1] for k in found)
    assert len(found) <= among < 9
    (line,) = remarks_on_copies(Looked(digests, among, list(map(str, files)), [0] * 9), {})
    assert f"{len(found) // 2} of {among} looked at images to train on" in line
    monkeypatch.setattr(copies, "MOST", 8)
    assert file_digests({"train": (9, lambda k: str(files[k]))}) == {}


def test_no_copies_no_remark(tmp_path):
    write_folders(tmp_path, {"a": 8, "b": 8})
    assert opened(tmp_path).remarks == ()


# Levels --------------------------------------------------------------------------------------------------------------


def test_12_bits_in_files_of_16_keep_their_range(tmp_path):
    """Levels 0..4000 of a camera with 12 bits: 4095 becomes 255, in all sets alike, and it is said once."""
    for number in range(8):
        levels = np.full((20, 20), 500 * (number % 4), dtype=np.uint16)
        levels[0] = 4000 - number
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(levels + (folder == "b")).save(tmp_path / folder / f"{number}.png")
    data = opened(tmp_path)
    (line,) = data.remarks
    assert line == "grayscale images of up to 12 bits (16 seen): 0..4095 is scaled to 0..255"
    for split in (data.train, data.evaluation["test"]):
        for position, path in enumerate(split.paths):
            number = int(path[2:-4])
            image = decode(split.images.file(position), 8, split.images.top)
            expected = (500 * (number % 4) + (path[0] == "b")) * 255 / 4095
            assert abs(image.getpixel((10, 10))[0] - expected) <= 0.5


def test_16_bits_keep_theirs(tmp_path):
    levels = np.array([[0, 65535], [4095, 257]], dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "x.png")
    image = decode(str(tmp_path / "x.png"), 8, 4095)  # beyond 12 bits: from 16, rather than cut off
    assert [image.getpixel(at)[0] for at in ((0, 0), (1, 0), (0, 1), (1, 1))] == [0, 255, 16, 1]


def test_the_range_of_levels():
    assert [top_level(n) for n in (1, 255, 256, 1023, 1024, 4095, 4096, 16384, 65535)] == [
        255, 255, 1023, 1023, 4095, 4095, 16383, 65535, 65535
    ]  # fmt: skip


@pytest.mark.parametrize("make", [cifar10, fashion_mnist, clothing1m])
def test_a_root_whose_files_may_not_be_looked_at(tmp_path, monkeypatch, make):
    stat = os.stat
    (tmp_path / "closed").mkdir()

    def guarded(path, *arguments, **more):
        if isinstance(path, (str, os.PathLike)) and f"{tmp_path}/closed/" in os.fspath(path):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return stat(path, *arguments, **more)

    monkeypatch.setattr(os, "stat", guarded)
    with pytest.raises(InputError, match=r"^root=.*closed/.*: cannot be read: Permission denied"):
        make(root=str(tmp_path / "closed"), **({"crop": CROP} if make is clothing1m else {}))


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a\tb", r"a\tb"), ("c\nd", r"c\nd"), ("\x1b[31mred", r"\x1b[31mred"), ("M\udcfcll", r"M\udcfcll")],
)
def test_class_folders_whose_names_tables_cannot_have(tmp_path, name, shown):
    write_folders(tmp_path, {name: 5, "plain": 5})
    data = opened(tmp_path)
    assert set(data.class_names) == {name, "plain"}
    assert data.remarks == (
        "control characters, or bytes that are no UTF-8, in the names of 5 images: labels.csv has them escaped, "
        f"as {shown}/1.jpg",  # 0.jpg is tested on
    )


def test_names_with_spaces_of_other_languages_need_no_remark(tmp_path):
    write_folders(tmp_path, {"\u5199\u771f\u3000\u732b": 5, "3.15\u202fPM": 5})
    assert opened(tmp_path).remarks == ()
