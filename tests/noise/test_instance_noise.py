"""Instance-dependent noise: against a reference that goes sample by sample, and what the paper promises."""

import math

import numpy as np
import pytest
import torch
from tests.datasets.labeled import labeled

from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split
from cpc_lightning.errors import InputError
from cpc_lightning.noise.instance import InstanceNoise, flip_rates, pick_each


def random_set(size: int, num_classes: int, side: int = 4) -> ImageDataset:
    stream = np.random.RandomState(5)
    pixels = torch.from_numpy(stream.randint(256, size=(size, 3, side, side)).astype(np.uint8))
    split = Split(ArrayImages(pixels), torch.arange(size) % num_classes)
    return ImageDataset("set", tuple(map(str, range(num_classes))), split, {"test": split})


def reference(dataset: ImageDataset, rate: float, spread: float, seed: int) -> list[int]:
    """Algorithm 2 of Xia et al. 2020, one sample at a time, the normal distribution by bisection."""

    def normal(x):
        return 0.5 * (1 + math.erf(x / math.sqrt(2)))

    def quantile(share):
        low, high = -40.0, 40.0
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if normal(middle) < share else (low, middle)
        return low

    stream = np.random.RandomState(seed)
    size, classes = len(dataset.train), len(dataset.class_names)
    flip, uniform, target = (stream.random_sample(size) for _ in range(3))
    values = dataset.train.images.pixels[0].numel()
    projections = [stream.standard_normal((values, classes)) for _ in range(classes)]
    noisy = []
    for i, y in enumerate(dataset.train.labels.tolist()):
        low, high = normal(-rate / spread), normal((1 - rate) / spread)
        q = rate + spread * quantile(low + uniform[i] * (high - low))
        x = dataset.train.images.pixels[i].flatten().numpy() / 255
        scores = [x @ projections[y][:, k] for k in range(classes)]
        scores[y] = -math.inf
        weights = [math.exp(score - max(scores)) for score in scores]
        probabilities = [weight / sum(weights) for weight in weights]
        reached, label = 0.0, -1
        while target[i] >= reached:
            label += 1
            reached += probabilities[label]
        noisy.append(label if flip[i] < q else y)
    return noisy


@pytest.mark.parametrize(("rate", "spread", "seed"), [(0.4, 0.1, 0), (0.05, 0.1, 3), (0.9, 0.3, 8)])
def test_sample_by_sample(rate, spread, seed):
    dataset = random_set(300, 7)
    split = InstanceNoise(rate, spread).corrupt(dataset, seed)
    assert split.labels.tolist() == reference(dataset, rate, spread, seed)
    assert torch.equal(split.true_labels, dataset.train.labels)


def test_golden_labels():
    """The literal answer: any other machine or version must give the same."""
    noisy = InstanceNoise(0.5).corrupt(random_set(20, 10), 0).labels
    assert noisy.tolist() == [9, 1, 2, 5, 4, 5, 6, 7, 8, 8, 0, 3, 2, 3, 7, 1, 1, 7, 8, 9]


def test_the_order_of_additions_cannot_show():
    """Scores are exact: whole numbers below 2**53, whether added one by one, backwards or by a matrix product."""
    stream = np.random.RandomState(0)
    levels = stream.randint(256, size=(2, 3072)).astype(np.float64)
    projection = np.rint(stream.standard_normal((3072, 5)) * 2**16)
    exact = [[sum(int(a) * int(b) for a, b in zip(x, w, strict=True)) for w in projection.T] for x in levels]
    assert (levels @ projection).tolist() == exact
    assert (levels[:, ::-1] @ projection[::-1]).tolist() == exact


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.45, 1.0])
def test_flip_rates_are_a_normal_distribution_cut_off_at_both_ends(rate):
    drawn = (np.arange(100_000) + 0.5) / 100_000
    rates = flip_rates(rate, 0.1, drawn)
    assert 0 <= rates.min() <= rates.max() <= 1

    def density(x):
        return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    def below(x):
        return 0.5 * math.erfc(-x / math.sqrt(2))

    low, high = -rate / 0.1, (1 - rate) / 0.1
    inside = below(high) - below(low)
    mean = rate + 0.1 * (density(low) - density(high)) / inside  # of a truncated normal distribution
    assert rates.mean() == pytest.approx(mean, abs=1e-5)
    part = (low * density(low) - high * density(high)) / inside
    variance = 0.01 * (1 + part - ((density(low) - density(high)) / inside) ** 2)
    assert rates.std() == pytest.approx(math.sqrt(variance), abs=1e-4)


def test_the_share_of_wrong_labels_is_the_mean_of_the_flip_rates():
    size = 40_000
    dataset = random_set(size, 10, side=2)
    split = InstanceNoise(0.3).corrupt(dataset, 1)
    # The cut at 0 lies three standard deviations away: it moves the mean by 0.0004. Five standard deviations.
    assert abs((split.labels != dataset.train.labels).double().mean() - 0.3004) < 5 * math.sqrt(0.3 * 0.7 / size)


def test_images_that_are_alike_are_mistaken_for_the_same():
    """Of two images of one class, all copies flip to the labels that their scores favour, and these differ."""
    stream = np.random.RandomState(2)
    kinds = torch.from_numpy(stream.randint(256, size=(2, 3, 32, 32)).astype(np.uint8))
    pixels = kinds.repeat(500, 1, 1, 1)
    split = Split(ArrayImages(pixels), torch.zeros(1000, dtype=torch.int64))
    dataset = ImageDataset("set", tuple("abcdefgh"), split, {"test": split})
    noisy = InstanceNoise(0.5).corrupt(dataset, 4).labels
    favourites = [noisy[kind::2][noisy[kind::2] != 0].bincount(minlength=8) for kind in (0, 1)]
    assert int(favourites[0].argmax()) != int(favourites[1].argmax())
    for counts in favourites:
        assert int(counts.max()) > 0.9 * int(counts.sum())
        assert int(counts.sum()) == pytest.approx(250, abs=5 * math.sqrt(500 * 0.25))


def test_each_class_has_its_own_projection():
    pixels = torch.full((2000, 3, 8, 8), 200, dtype=torch.uint8)
    split = Split(ArrayImages(pixels), torch.arange(2000) % 20)
    noisy = InstanceNoise(1.0).corrupt(ImageDataset("set", tuple("abcdefghijklmnopqrst"), split, {"test": split}), 0)
    targets = {int(noisy.labels[k::20][noisy.labels[k::20] != k].mode().values) for k in range(20)}
    assert len(targets) > 5


def test_two_classes_and_seeds():
    dataset = labeled(torch.arange(200) % 2, 2)
    noise = InstanceNoise(0.5)
    first, same, other = (noise.corrupt(dataset, seed).labels for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert 60 < int((first != dataset.train.labels).sum()) < 140


def test_no_draw_picks_the_own_class_or_falls_behind_the_last():
    scores = np.array([[-np.inf, 0.0, 0.0], [0.0, 0.0, -np.inf], [0.0, -np.inf, -800.0]])
    highest = np.nextafter(1, 0)
    assert pick_each(scores, np.full(3, 0.0)).tolist() == [1, 0, 0]
    assert pick_each(scores, np.full(3, highest)).tolist() == [2, 1, 0]
    many = np.log(np.full((1, 10), 0.1))
    assert pick_each(many, np.array([highest])).tolist() == [9]


@pytest.mark.parametrize(("settings", "says"), [((1.5,), "rate=1.5"), ((-0.1,), "rate"), ((0.2, 0.0), "spread=0.0")])
def test_settings_out_of_range(settings, says):
    with pytest.raises(InputError, match=says):
        InstanceNoise(*settings)
