"""Open-set noise: which images are replaced, by which, and what is then known of their labels."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from tests.datasets.labeled import labeled

from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.errors import InputError
from cpc_lightning.noise.open_set import MixedImages, OpenSetNoise, alike

LABELS = torch.arange(20) % 10


def other_set(count: int, shape=(1, 2, 2), paths=None) -> ImageDataset:
    """Images whose levels are 100 + their position."""
    pixels = (100 + torch.arange(count, dtype=torch.uint8)).view(-1, 1, 1, 1).expand(-1, *shape).contiguous()
    split = Split(ArrayImages(pixels), torch.zeros(count, dtype=torch.int64), paths=paths)
    return ImageDataset("other", ("a", "b"), split, {"test": split})


def test_golden_draw():
    """RandomState(0).permutation(20) begins with 18, 1, 19, 8, 10; permutation(7), drawn after it, with 5 2 3 4 1."""
    split = OpenSetNoise(0.25, lambda: other_set(7)).corrupt(labeled(LABELS, 10), 0)
    levels = split.images.fetch(torch.arange(20))[:, 0, 0, 0]
    assert levels.nonzero().flatten().tolist() == [1, 8, 10, 18, 19]
    assert levels[[18, 1, 19, 8, 10]].tolist() == [105, 102, 103, 104, 101]


def test_labels_stay_and_the_truth_is_none_of_the_classes():
    dataset = labeled(LABELS, 10)
    split = OpenSetNoise(0.25, lambda: other_set(7)).corrupt(dataset, 0)
    assert torch.equal(split.labels, LABELS)
    replaced = split.images.fetch(torch.arange(20))[:, 0, 0, 0] > 0
    assert split.true_labels.tolist() == torch.where(replaced, -2, LABELS).tolist()
    assert int(dataset.train.images.pixels.sum()) == 0
    assert split.paths is None


@pytest.mark.parametrize(("rate", "replaced"), [(0.0, 0), (0.29, 5), (1.0, 20)])
def test_exactly_the_whole_part_and_each_foreign_image_equally_often(rate, replaced):
    split = OpenSetNoise(rate, lambda: other_set(3)).corrupt(labeled(LABELS, 10), 1)
    levels = split.images.fetch(torch.arange(20))[:, 0, 0, 0]
    counts = levels[levels > 0].bincount(minlength=103)[100:].tolist()
    assert sum(counts) == replaced
    assert max(counts) - min(counts) <= 1


def test_paths_name_the_foreign_file():
    dataset = labeled(LABELS, 10)
    dataset = replace(dataset, train=replace(dataset.train, paths=[f"{k}.png" for k in range(20)]))
    paths = OpenSetNoise(0.25, lambda: other_set(7, paths=list("tuvwxyz"))).corrupt(dataset, 0).paths
    assert [path for path in paths if not path.endswith(".png")] == [
        "other/v",
        "other/x",
        "other/u",
        "other/y",
        "other/w",
    ]
    assert OpenSetNoise(0.25, lambda: other_set(7)).corrupt(dataset, 0).paths[18] == "other/5"


def test_the_set_itself_and_a_set_that_cannot_be_read():
    dataset = labeled(LABELS, 10)
    with pytest.raises(InputError, match="source=set: must be another data set"):
        OpenSetNoise(0.25, lambda: dataset).corrupt(dataset, 0)

    def missing():
        raise InputError("root", "nowhere", "is not a folder")

    with pytest.raises(InputError, match=r"source\.root=nowhere: is not a folder"):
        OpenSetNoise(0.25, missing).corrupt(dataset, 0)


class Files:
    """Images as from files: a crop for every view, and no batch of zero."""

    def __init__(self, level: int, shape: tuple[int, int, int]) -> None:
        self.level, self.shape = level, shape

    def __len__(self) -> int:
        return 9

    def fetch(self, positions):
        assert len(positions) > 0
        return torch.full((len(positions), *self.shape), self.level, dtype=torch.uint8)

    def fetch_views(self, positions, views, seed):
        return torch.stack([self.fetch(positions) + view for view in range(views)])


ORIGIN = torch.tensor([-1, 3, -1, -1, 5])
ARRAY = ArrayImages(torch.full((9, 3, 4, 4), 50, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("own", "other", "levels"),
    [
        (ARRAY, Files(90, (3, 4, 4)), [[50, 90, 50, 50, 90]]),
        (Files(90, (3, 4, 4)), ARRAY, [[90, 50, 90, 90, 50], [91, 50, 91, 91, 50]]),
        (Files(10, (3, 4, 4)), Files(90, (1, 8, 8)), [[10, 90, 10, 10, 90], [11, 91, 11, 11, 91]]),
    ],
)
def test_images_from_files_and_from_memory_mix(own, other, levels):
    mixed = MixedImages(own, other, ORIGIN)
    views = mixed.fetch_views(torch.arange(5), 2, 0)
    assert views.shape[2:] == (3, 4, 4)
    assert views[:, :, 0, 0, 0].tolist() == levels
    assert bool((views == views[:, :, :1, :1, :1]).all())
    assert mixed.fetch(torch.tensor([1, 4]))[:, 0, 0, 0].tolist() == [levels[0][1]] * 2
    assert mixed.fetch(torch.tensor([0, 2]))[:, 0, 0, 0].tolist() == [levels[0][0]] * 2
    assert len(mixed) == 5


def test_colour_becomes_the_luminance_that_pil_gives():
    pixels = torch.randint(256, (1, 1, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    gray = alike(pixels, torch.zeros(1, 4, 1, 6, 6, dtype=torch.uint8))
    expected = Image.fromarray(pixels[0, 0].permute(1, 2, 0).numpy()).convert("L")
    assert (gray[0, 0, 0].int() - torch.tensor(list(expected.tobytes())).view(6, 6)).abs().max() <= 1
