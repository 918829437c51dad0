"""Features are computed once, whoever wants them, and again where anything about them is otherwise."""

import json
import multiprocessing
import os
import shutil

import numpy as np
import pytest
import torch
from tests.datasets.image_trees import write_folders
from tests.features.networks import Patches, Random, seen, seen_by
from tests.runs import processes

from cpc_lightning.datasets.dataset import ArrayImages, ImageDataset, Split, Vectors, pictures_of
from cpc_lightning.datasets.image_folder import image_folder
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.datasets.vectors import ArrayVectors
from cpc_lightning.errors import InputError
from cpc_lightning.features import pretrained, store
from cpc_lightning.features.features import NoFeatures
from cpc_lightning.features.pretrained import PretrainedFeatures
from cpc_lightning.features.sources import module_features, timm_features, torchvision_features
from cpc_lightning.features.store import Claims, Store


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """The file in which the networks of this test count."""
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    return tmp_path / "seen"


def images_of(train=700, test=30, seed=0):
    """Gray images of 8 x 8."""
    stream = np.random.RandomState(seed)
    pixels = torch.from_numpy(stream.randint(0, 256, (train + test, 1, 8, 8)).astype(np.uint8))
    labels = torch.arange(train + test) % 2
    parts = [Split(ArrayImages(pixels[part]), labels[part]) for part in (slice(train), slice(train, None))]
    return ImageDataset("set", ("a", "b"), parts[0], {"test": parts[1]})


def patches(where, make=Patches, **settings):
    usual = {"size": None, "mean": [0.0], "std": [1.0], "folder": str(where)}
    return PretrainedFeatures(make, "patches", **{**usual, **settings})


def expected_of(images):
    """The patches of gray images, and those of their mirror images."""
    maps = (images.pixels / 255.0).view(-1, 1, 4, 2, 4, 2).mean(dim=(3, 5)).expand(-1, 3, -1, -1)
    return torch.stack([maps.flatten(1), maps.flip(3).flatten(1)], dim=1)


def test_vectors_take_the_place_of_images(tmp_path):
    dataset = images_of()
    made = patches(tmp_path).extract(dataset)
    for ours, theirs in ((made.train, dataset.train), (made.evaluation["test"], dataset.evaluation["test"])):
        assert isinstance(ours.images, Vectors)
        assert pictures_of(ours.images) is theirs.images
        assert torch.equal(ours.labels, theirs.labels)
        expected = expected_of(theirs.images)
        torch.testing.assert_close(ours.images.views, expected)
        torch.testing.assert_close(ours.images.vectors, expected.mean(dim=1))
        torch.testing.assert_close(ours.images.fetch(torch.tensor([5, 0])), expected.mean(dim=1)[[5, 0]])
    assert (made.class_names, made.name) == (dataset.class_names, dataset.name)


def test_they_are_computed_once(tmp_path, counted):
    first = patches(tmp_path / "kept").extract(images_of())
    assert seen(counted) == 2 * 730
    again = patches(tmp_path / "kept").extract(images_of())
    assert seen(counted) == 2 * 730
    assert torch.equal(first.train.images.views, again.train.images.views)
    folders = [path for path in (tmp_path / "kept").iterdir() if path.is_dir()]
    assert len(folders) == 2
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {"about.json", "lock", "vectors.npy", "views.npy"}
    abouts = [json.loads((folder / "about.json").read_text()) for folder in folders]
    assert sorted(about["samples"] for about in abouts) == [30, 700]
    assert {(about["views"], about["numbers"], about["features"]) for about in abouts} == {(2, 48, "patches")}


CHANGES = {
    "weights": {"make": lambda: Patches(2.0)},
    "views": {"views": 4},
    "size": {"size": 4},
    "mean": {"mean": [0.25]},
    "method": {"method": "maps"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_they_are_computed_again_where_the_network_or_its_input_is_another(tmp_path, change):
    before = patches(tmp_path).extract(images_of(20, 5)).train.images.views
    after = patches(tmp_path, **CHANGES[change]).extract(images_of(20, 5)).train.images.views
    assert before.shape != after.shape or not torch.allclose(before, after)
    assert torch.equal(before, patches(tmp_path).extract(images_of(20, 5)).train.images.views)


def test_they_are_computed_again_for_other_images(tmp_path, counted):
    patches(tmp_path / "kept").extract(images_of(20, 5))
    made = patches(tmp_path / "kept").extract(images_of(20, 5, seed=1))
    assert seen(counted) == 4 * 25
    torch.testing.assert_close(made.train.images.views, expected_of(images_of(20, 5, seed=1).train.images))


def test_image_files_are_known_by_name_size_and_time(tmp_path, counted):
    write_folders(tmp_path / "photos", {"a": 6, "b": 6})
    dataset = image_folder(str(tmp_path / "photos"), Crop(32, 28))
    features = {"size": 16, "std": [0.5]}
    first = patches(tmp_path / "kept", **features).extract(dataset)
    assert first.train.images.pictures.fetch(torch.tensor([0])).shape == (1, 3, 28, 28)
    shutil.move(tmp_path / "photos", tmp_path / "moved")
    moved = image_folder(str(tmp_path / "moved"), Crop(32, 28))
    again = patches(tmp_path / "kept", **features).extract(moved)
    assert seen(counted) == 2 * 12
    assert torch.equal(first.train.images.views, again.train.images.views)
    os.utime(tmp_path / "moved" / moved.train.paths[0], (1, 1))
    patches(tmp_path / "kept", **features).extract(moved)
    assert seen(counted) == 2 * 12 + 2 * len(moved.train)


def test_what_was_computed_before_a_stop_is_kept(tmp_path, counted, monkeypatch):
    """700 images are three blocks; the process ends in the second one that it comes to."""
    before = Patches.forward

    def fail(network, images):
        if seen(counted) >= 256:
            raise KeyboardInterrupt
        return before(network, images)

    monkeypatch.setattr(Patches, "forward", fail)
    dataset = images_of(700, 30)
    dataset = ImageDataset(dataset.name, dataset.class_names, dataset.train, {"test": dataset.train})
    with pytest.raises(KeyboardInterrupt):
        patches(tmp_path / "kept", views=1).extract(dataset)
    monkeypatch.setattr(Patches, "forward", before)
    done = seen(counted)
    made = patches(tmp_path / "kept", views=1).extract(dataset)
    blocks = [256, 256, 188]
    assert seen(counted) - done in {700 - block for block in blocks}
    torch.testing.assert_close(made.train.images.views, expected_of(dataset.train.images)[:, :1])


def compute(folder, ready, environment):
    os.environ |= environment
    torch.set_num_threads(1)
    ready.wait()
    patches(folder).extract(images_of(2600, 30))


@pytest.mark.long
def test_processes_share_the_work(tmp_path, counted, monkeypatch):
    monkeypatch.setenv("PASS_TAKES", "0.02")  # or one has done it all before the other looks
    ready, environment = processes.Barrier(2), {name: os.environ[name] for name in ("SEEN", "PASS_TAKES")}
    both = [processes.Process(target=compute, args=(tmp_path / "kept", ready, environment)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert seen(counted) == 2 * 2630  # no image twice
    assert len(seen_by(counted)) == 2
    made = patches(tmp_path / "kept").extract(images_of(2600, 30))
    monkeypatch.delenv("PASS_TAKES")
    alone = patches(tmp_path / "alone").extract(images_of(2600, 30))
    assert torch.equal(made.train.images.views, alone.train.images.views)
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.name == "blocks"]


@pytest.mark.long
def test_a_claim_is_one_process_s_and_ends_with_it(tmp_path):
    kept = Store(tmp_path / "one", 700)
    asked, answers = processes.Pipe()
    process = processes.Process(target=hold, args=(tmp_path / "one", answers))
    process.start()
    assert asked.poll(60)
    assert asked.recv() == "holds 1"
    with Claims(kept) as claims:
        assert [claims.take(block) for block in range(3)] == [True, False, True]
        process.kill()
        process.join()
        assert claims.take(1)


def hold(folder, answers):
    with Claims(Store(folder, 700)) as claims:
        assert claims.take(1)
        answers.send("holds 1")
        multiprocessing.Event().wait(60)


def test_damaged_files_and_folders_that_cannot_be_written(tmp_path):
    patches(tmp_path).extract(images_of(20, 5))
    for file in tmp_path.glob("*/views.npy"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"folder=.*files are damaged.*delete it"):
        patches(tmp_path).extract(images_of(20, 5))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"cannot be written .*: name a folder for features"):
        patches(tmp_path / "file").extract(images_of(20, 5))


def test_a_folder_that_is_read_only_serves_what_is_there(tmp_path, monkeypatch):
    kept = patches(tmp_path).extract(images_of(20, 5)).train.images.views

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store, "atomic_write", refuse)
    monkeypatch.setattr(store.Path, "mkdir", refuse)
    assert torch.equal(patches(tmp_path).extract(images_of(20, 5)).train.images.views, kept)
    with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"):
        patches(tmp_path, views=1).extract(images_of(20, 5))


def test_where_they_are_kept_if_nobody_says_where(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(patches("unused", folder=None).folder) == "/somewhere/cpc_lightning/features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert str(patches("unused", folder=None).folder) == "/home/me/.cache/cpc_lightning/features"


def test_random_weights_are_the_same_in_every_run(tmp_path):
    torch.manual_seed(1)
    first = patches(tmp_path / "one", Random).extract(images_of(20, 5)).train.images.views
    state = torch.get_rng_state()
    second = patches(tmp_path / "two", Random).extract(images_of(20, 5)).train.images.views
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())


def test_a_look_ahead_computes_nothing_but_a_few(tmp_path, counted):
    dataset = images_of(700, 30)
    seen_ahead, found, seconds = patches(tmp_path / "kept").preview(dataset)
    assert seconds > 0
    assert seen(counted) <= 2 * 9
    assert seen_ahead.train.images.fetch(torch.tensor([3])).shape == (1, 48)
    assert len(seen_ahead.train.images) == 700
    assert "patches is to see 730 images in 2 views each first, about" in found
    made = patches(tmp_path / "kept").extract(dataset)
    seen_ahead, found, seconds = patches(tmp_path / "kept").preview(dataset)
    assert seconds == 0
    assert torch.equal(seen_ahead.train.images.views, made.train.images.views)
    assert found == f"those of patches are there, in {tmp_path}/kept"


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(tmp_path, capsys, monkeypatch):
    from cpc_lightning.features import progress

    monkeypatch.setattr(progress, "EVERY", 0.0)
    patches(tmp_path, views=1).extract(images_of(700, 30))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "features of test: 0 of 30 images"
    assert "features of train: 0 of 700 images" in lines
    assert any(line.startswith("features of train: 700 of 700 images, 0 s left") for line in lines)
    patches(tmp_path, views=2).extract(images_of(700, 30), quiet=True)
    assert capsys.readouterr().err == ""


@pytest.mark.long
def test_networks_of_libraries(tmp_path):
    """Random weights: what is looked at is that features are those before the classifier."""
    dataset = images_of(3, 2)
    folder = str(tmp_path)
    made = torchvision_features("resnet18", None, size=32, views=1, folder=folder).extract(dataset)
    assert made.train.images.views.shape == (3, 1, 512)
    made = timm_features("resnet18", None, size=32, views=1, folder=folder).extract(dataset)
    assert made.train.images.views.shape == (3, 1, 512)


def test_weights_of_a_file(tmp_path):
    torch.save({"scale": torch.tensor(3.0)}, tmp_path / "weights.pt")
    plain, scaled = (
        module_features(
            Patches, weights, size=None, mean=[0.0], std=[1.0], views=1, folder=str(tmp_path / "kept")
        ).extract(images_of(5, 5)).train.images.views
        for weights in (None, str(tmp_path / "weights.pt"))
    )  # fmt: skip
    torch.testing.assert_close(scaled, 3 * plain)


def test_mistakes_are_told_in_one_line(tmp_path):
    dataset = images_of(5, 5)
    for settings, says in (
        ({"views": 0}, "views=0"), ({"views": 13}, "at most 12"), ({"size": 0}, "size=0"),
        ({"batch_size": 0}, "batch_size=0"), ({"mean": [0.1, 0.2]}, "mean=.*1 or 3 numbers"), ({"std": [0.0]}, "std=0"),
        ({"folder": ""}, "folder="),
    ):  # fmt: skip
        with pytest.raises(InputError, match=says):
            patches(tmp_path, **settings)
    for made, says in (
        (module_features(lambda: 3, folder=str(tmp_path)), "network=int: must make a network"),
        (module_features(Patches, method="absent", folder=str(tmp_path)), "must make a network .* that has absent"),
        (module_features(lambda: 1 / 0, folder=str(tmp_path)), "cannot be made: division by zero"),
        (torchvision_features("resnet19", folder=str(tmp_path)), "name=resnet19: is no torchvision classifier"),
        (torchvision_features("resnet18", "absent.pth", folder=str(tmp_path)), "weights=absent.pth: is neither a file"),
    ):
        with pytest.raises(InputError, match=says):
            made.prepare()
    with pytest.raises(InputError, match=r"network\._partial_"):
        module_features(Patches())
    vectors = Split(ArrayVectors(torch.zeros(2, 1, 3), torch.zeros(2, 3)), torch.tensor([0, 1]))
    of_vectors = ImageDataset("set", ("a", "b"), vectors, {"test": vectors})
    with pytest.raises(InputError, match="this data set consists of vectors: features=none"):
        patches(tmp_path).extract(of_vectors)
    assert NoFeatures().extract(of_vectors) is of_vectors
    other = ImageDataset("set", ("a", "b"), Split(Strange(), torch.tensor([0, 1])), {"test": dataset.train})
    with pytest.raises(InputError, match=r"images=Strange: are of a kind whose features cannot be found again"):
        patches(tmp_path).extract(other)


class Strange:
    def __len__(self):
        return 2


def test_a_million_rows_are_put_together_block_by_block(tmp_path, monkeypatch):
    """The last block is shorter than the others, and the means are those of the views."""
    monkeypatch.setattr(store, "BLOCK", 4)
    kept = Store(tmp_path / "one", 10)
    views = torch.arange(10 * 2 * 3, dtype=torch.float32).view(10, 2, 3)
    for block in (2, 0, 1):
        assert block in kept.missing()
        kept.write(block, views[kept.positions(block)])
    assert kept.missing() == []
    kept.put_together({})
    assert kept.complete
    read, vectors = kept.read()
    assert torch.equal(read, views)
    assert torch.equal(vectors, views.mean(dim=1))
    assert pretrained.FORMAT == 1
