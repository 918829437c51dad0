"""Pictures of the page: what is in them, pixel by pixel, and how much room they take."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from cpc_lightning.datasets.dataset import ArrayImages
from cpc_lightning.errors import InputError
from cpc_lightning.report.gallery import (
    Tile,
    read_images,
    sheet,
    thumbnail,
    tile_of,
    time_to_draw,
    within_page,
    write_sheets,
)


def gray(*levels):
    """Images of 2 x 2 pixels, each of one level."""
    return ArrayImages(torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous())


class Broken(ArrayImages):
    """Images of which the second cannot be read any more."""

    def fetch(self, positions):
        if 1 in positions:
            raise InputError("image", "b.jpg", "is not there")
        return super().fetch(positions)


def test_small_images_are_crisp_and_others_thumbnails():
    assert tile_of(Image.new("L", (8, 8))) == Tile(8, crisp=True)
    assert tile_of(Image.new("RGB", (64, 32))) == Tile(64, crisp=True)
    assert tile_of(Image.new("RGB", (96, 65))) == Tile(96, crisp=False)
    assert tile_of(Image.new("RGB", (224, 224))) == Tile(160, crisp=False)


def test_images_that_cannot_be_read_leave_the_others():
    read = read_images(Broken(gray(10, 20, 30).pixels), [2, 1, 0])
    assert read[1] is None
    assert [image.getpixel((0, 0)) for image in (read[0], read[2])] == [30, 10]


def test_colours_stay_and_further_channels_go():
    pixels = torch.arange(4, dtype=torch.uint8).view(1, 4, 1, 1)
    assert read_images(ArrayImages(pixels), [0])[0].getpixel((0, 0)) == (0, 1, 2)


def test_thumbnail_keeps_the_shape_of_an_image():
    wide = thumbnail(Image.new("RGB", (400, 100), (255, 0, 0)), 40, crisp=False)
    assert wide.size == (40, 40)
    assert wide.getpixel((20, 20)) == (255, 0, 0)
    assert wide.getpixel((20, 14)) == (128, 128, 128)  # 10 of 40 rows are red, from 15 on
    assert wide.getpixel((0, 15)) == (255, 0, 0)


def test_sheet_has_each_image_in_its_cell_with_its_edge_around_it():
    images = read_images(gray(*range(1, 26)), range(25))
    pixels = np.asarray(sheet(images, Tile(2, crisp=True)))
    assert pixels.shape == (2 * 4, 23 * 4)  # 23 columns of 2 + 2 pixels, two rows
    assert (pixels[0:4, 0:4] == 1).all()
    assert (pixels[0:4, 88:92] == 23).all()
    assert (pixels[4:8, 4:8] == 25).all()
    assert (pixels[4:8, 8:] == 128).all()  # nobody


def test_written_sheets_hold_what_was_read(tmp_path):
    images = Broken(gray(*range(200)).pixels.repeat(4, 1, 1, 1))
    told = []
    read = list(write_sheets(images, [5, 1, *range(2, 600)], Tile(2, crisp=True), tmp_path, told.append))
    assert [len(part) for part in read] == [500, 100]
    assert [place for place, fine in enumerate(read[0]) if not fine] == [1]
    assert sorted(told) == [0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000.png", "001.png"]
    first = np.asarray(Image.open(tmp_path / "000.png"))
    assert [first[1, 1], first[1, 5], first[1, 9]] == [5, 128, 2]
    second = np.asarray(Image.open(tmp_path / "001.png"))
    assert second[1, 1] == 500 % 200


def test_pictures_within_the_page_are_the_images():
    (address,) = within_page(read_images(gray(77), [0]), Tile(2, crisp=True))
    head, _, body = address.partition(",")
    assert head == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(body)))
    assert (image.size, image.getpixel((1, 1))) == ((2, 2), 77)


@pytest.mark.long
@pytest.mark.parametrize("budget", [400_000, 60_000, 5_000])
def test_pictures_within_the_page_keep_to_their_budget(budget):
    noise = np.random.default_rng(0).integers(0, 256, (20, 256, 256, 3), dtype=np.uint8)  # the worst to compress
    addresses = within_page([*map(Image.fromarray, noise), None], Tile(160, crisp=False), budget)
    assert len(addresses) == 21
    assert addresses[-1] is None
    assert addresses[0] is not None
    taken = sum(len(base64.b64decode(address.partition(",")[2])) for address in addresses if address)
    assert budget / 20 < taken <= budget


def test_with_more_room_pictures_are_larger():
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))

    def side(budget):
        address = within_page([photo], Tile(160, crisp=False), budget)[0]
        return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).width

    assert (side(10**6), side(4000)) == (256, 80)


def test_pictures_are_not_padded_to_more_than_they_have():
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (72, 72, 3), dtype=np.uint8))
    address = within_page([photo], tile_of(photo))[0]
    assert Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).size == (72, 72)


def test_what_pictures_cost_is_read_off_a_few():
    """4 images in 2 s within the page, in 1 s beside it."""
    times = iter([10.0, 12.0, 13.0])
    images = ArrayImages(torch.zeros(9, 3, 8, 8, dtype=torch.uint8))
    assert time_to_draw(images, [0, 2, 4, 8], lambda: next(times)) == (0.5, 0.25)


def test_pictures_that_cannot_be_read_cost_nothing():
    assert time_to_draw(Broken(gray(10, 20).pixels), [1], lambda: 0.0) == (0.0, 0.0)
