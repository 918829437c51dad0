"""What a network sees of an image, and what becomes of its answer."""

import time

import pytest
import torch
from tests.features.networks import Patches
from torch import nn

from cpc_lightning.datasets.dataset import ArrayImages
from cpc_lightning.datasets.reading.image_files import Crop, ImageFiles
from cpc_lightning.datasets.reading.paths import PathList
from cpc_lightning.errors import InputError
from cpc_lightning.features.extractor import Extractor, centre_of, view
from cpc_lightning.features.workers import OnCores


class Pixels(nn.Module):
    def forward(self, images):
        return images.flatten(1)


def extractor(network=None, views=1, size=None, mean=(0.0,), std=(1.0,), method="forward"):
    return Extractor((network or Pixels()).eval(), views, size, mean, std, method)


def test_levels_are_standardised_channel_by_channel():
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    vectors = extractor(mean=(0.5, 0.2, 0.0), std=(0.5, 0.1, 2.0))(image)
    torch.testing.assert_close(vectors, torch.tensor([[[-1.0, 0.0, 0.5]]]))


def test_a_grayscale_image_is_repeated():
    vectors = extractor(mean=(0.0, 0.2, 0.4), std=(1.0,))(torch.full((2, 1, 1, 1), 255, dtype=torch.uint8))
    torch.testing.assert_close(vectors, torch.tensor([[[1.0, 0.8, 0.6]]]).expand(2, 1, 3))


def test_views_are_the_image_its_mirror_image_and_crops():
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    image = (16 * rows + columns)[None, None]
    assert torch.equal(view(image, 0), image)
    assert torch.equal(view(image, 1), image.flip(3))
    means = [view(image, number).mean().item() for number in range(12)]
    # Crops of 14 x 14 of a plane: the mean is the level in their middle, as the scaled crop is symmetric around it.
    middles = [(6.5, 6.5), (6.5, 8.5), (8.5, 6.5), (8.5, 8.5), (7.5, 7.5)]
    expected = [16 * row + column for row, column in middles]
    assert means[2::2] == pytest.approx(expected, abs=0.05)
    for number in range(0, 12, 2):
        assert torch.equal(view(image, number + 1), view(image, number).flip(3))
        assert view(image, number).shape == image.shape


def test_all_views_of_all_images():
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    vectors = extractor(Patches(2.0), views=2)(images)
    assert vectors.shape == (3, 2, 48)
    patches = 2 * (images / 255.0).view(3, 3, 4, 2, 4, 2).mean(dim=(3, 5))
    torch.testing.assert_close(vectors[:, 0], patches.flatten(1))
    torch.testing.assert_close(vectors[:, 1], patches.flip(3).flatten(1))


@pytest.mark.parametrize("method", ["maps", "words"])
def test_maps_and_tokens_are_averaged(method):
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    vectors = extractor(Patches(), method=method)(images)
    torch.testing.assert_close(vectors[:, 0], (images / 255.0).mean(dim=(2, 3)))


def test_the_middle_of_a_scaled_image():
    image = torch.arange(8.0).expand(1, 1, 4, 8)
    torch.testing.assert_close(centre_of(image, 4), torch.arange(2.0, 6.0).expand(1, 1, 4, 4))
    torch.testing.assert_close(centre_of(image, 12)[..., 5:7].mean(), torch.tensor(3.5))  # twelve of 24 columns
    assert centre_of(image, 12).shape == (1, 1, 12, 12)


def test_image_files_are_decoded_at_the_size_that_is_needed():
    files = ImageFiles("root", PathList(["a.jpg"]), Crop(256, 224), top=1023)
    sized = extractor(size=112).sized(files)
    assert (sized.crop, sized.top) == (Crop(128, 112), 1023)
    assert extractor(size=None).sized(files) is files


def test_what_a_network_cannot_do_is_told_in_one_line():
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    for network, method, says in (
        (nn.Linear(7, 2), "forward", "network=Linear: fails on images of 3 x 4 x 4"),
        (Patches(), "nothing", "network=Patches: must answer a vector for each image, and answers NoneType"),
        (nn.Flatten(0), "forward", r"answers \(96,\)"),
        (Patches(), "infinite", "answers infinite numbers or NaN"),
    ):
        with pytest.raises(InputError, match=says) as caught:
            extractor(network, method=method)(images)
        assert "\n" not in str(caught.value)


def test_the_digest_tells_weights_and_what_is_done_before():
    same = extractor(Patches(1.5)).digest
    assert extractor(Patches(1.5)).digest == same
    others = (
        extractor(Patches(1.25)), extractor(nn.Sequential(Patches(1.5))), extractor(Patches(1.5), views=2),
        extractor(Patches(1.5), size=8), extractor(Patches(1.5), mean=(0.1,)), extractor(Patches(1.5), std=(2.0,)),
        extractor(Patches(1.5), method="maps"),
    )  # fmt: skip
    assert len({same, *(other.digest for other in others)}) == 8


class Noting(nn.Module):
    """Notes what it sees, as a network with a cache does, and answers what it noted."""

    def __init__(self, copies: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.seen = None
        if not copies:
            self.generator = (number for number in range(3))  # cannot be copied

    def forward(self, images):
        self.seen = images.mean(dim=(2, 3))
        time.sleep(0.005)  # another thread comes
        return self.weight * self.seen


def test_threads_share_weights_and_nothing_that_a_network_notes():
    made = extractor(Noting())
    first, second = made.copies(2)
    assert first.network.weight is second.network.weight is made.network.weight
    assert first.network is not second.network
    assert (first.digest, first.views) == (made.digest, made.views)
    assert extractor(Noting(copies=False)).copies(2)[0].network.weight == 2


@pytest.mark.parametrize("copies", [True, False])
def test_all_cores_make_the_vectors_of_one(monkeypatch, copies):
    pixels = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(-1, 3, 2, 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with OnCores(extractor(Noting(copies)), ArrayImages(pixels), batch_size=3) as worker:
            vectors = worker.vectors(torch.arange(39, -1, -1))
        assert torch.get_num_threads() == 4  # as before
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(vectors[:, 0, 0], 2 * torch.arange(39.0, -1, -1) / 255)


class Counting(nn.Module):
    """Notes how many images it has seen, and answers their mean levels."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __deepcopy__(self, memo):
        return self

    def forward(self, images):
        self.seen.append(len(images))
        return images.mean(dim=(2, 3))


def test_work_goes_on_while_the_vectors_of_a_block_are_kept():
    pixels = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(-1, 3, 2, 2)
    network = Counting()
    first, second = torch.arange(6), torch.arange(6, 12)
    with OnCores(extractor(network), ArrayImages(pixels), batch_size=4) as worker:
        made = worker.vectors(first, ahead=second)
        for _ in range(1000):
            if len(network.seen) == 4:
                break
            time.sleep(0.005)
        assert sorted(network.seen) == [2, 2, 4, 4]  # those ahead, too
        made = torch.cat([made, worker.vectors(second)])
    assert len(network.seen) == 4
    torch.testing.assert_close(made[:, 0, 0], torch.arange(12.0) / 255)


@pytest.mark.parametrize("views", [1, 2, 12])
def test_batch_norms_are_folded_where_vectors_are_made(views):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    network[1].running_mean.copy_(torch.arange(4.0))
    pixels = torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8)
    made = extractor(network, views=views)
    with OnCores(made, ArrayImages(pixels), batch_size=2) as worker:
        torch.testing.assert_close(worker.vectors(torch.arange(5)), made(pixels))
        assert all(isinstance(own.network[1], nn.Identity) for own in made_by(worker))
    assert isinstance(network[1], nn.BatchNorm2d)


def made_by(worker):
    return [worker._free.get_nowait() for _ in range(worker._free.qsize())]


class Layout(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.convolution = nn.Conv2d(3, channels, 3)
        self.strided = nn.Conv2d(channels, 4, 1, stride=2)

    def forward(self, images):
        last = images.is_contiguous(memory_format=torch.channels_last)
        return torch.full((len(images), 1), float(last)) + 0 * self.strided(self.convolution(images)).mean()


def test_channels_are_neighbours_in_memory_where_that_is_safe():
    images = torch.zeros(2, 3, 9, 9, dtype=torch.uint8)
    assert extractor(Layout(16))(images).flatten().tolist() == [1, 1]
    assert extractor(Layout(8))(images).flatten().tolist() == [0, 0]  # see `may_be_channels_last`
    assert extractor(Layout(16)).network.convolution.weight.is_contiguous(memory_format=torch.channels_last)
