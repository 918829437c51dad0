"""A folder is there whole or not at all, and nothing is replaced that was not made here."""

import os

import pytest

from cpc_lightning.errors import InputError
from cpc_lightning.report.new_folder import new_folder, require_apart


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_and_its_replacement(tmp_path):
    output = tmp_path / "deep" / "out"
    for content in ("first", "second"):
        with new_folder(output, content == "second", "mark") as folder:
            assert folder != output
            (folder / "mark").write_text(content)
    assert (output / "mark").read_text() == "second"
    assert names(tmp_path / "deep") == ["out"]


def test_an_empty_folder_is_as_good_as_none(tmp_path):
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out", False, "mark") as folder:
        (folder / "mark").touch()
    assert names(tmp_path / "out") == ["mark"]


@pytest.mark.parametrize(
    "error", [RuntimeError("a defect"), OSError(28, "No space left on device"), KeyboardInterrupt()]
)
def test_what_fails_leaves_what_was_there(tmp_path, error):
    output = tmp_path / "out"
    with new_folder(output, False, "mark") as folder:
        (folder / "mark").write_text("old")
    kind = InputError if isinstance(error, OSError) else type(error)

    def write_half():
        with new_folder(output, True, "mark") as folder:
            (folder / "half").touch()
            raise error

    with pytest.raises(kind) as caught:
        write_half()
    if kind is InputError:
        assert str(caught.value) == f"output={output}: cannot be written (No space left on device)"
    assert names(tmp_path) == ["out"]
    assert names(output) == ["mark"]


def test_the_old_folder_comes_back_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    output = tmp_path / "out"
    with new_folder(output, False, "mark") as folder:
        (folder / "mark").write_text("old")
    replace, done = os.replace, []

    def second_fails(source, target):
        done.append(target)
        if len(done) == 2:
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(InputError, match="cannot be written"), new_folder(output, True, "mark"):
        pass
    assert (output / "mark").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_what_may_not_be_replaced(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").touch()
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "mark").touch()
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    for name, overwrite, says in (
        ("file", True, "is there, and is no folder"),
        ("link", True, "is there, and is no folder"),
        ("photos", True, "holds other things .no mark.: name a new folder"),
        ("ours", False, "is there already; overwrite=true replaces it"),
        ("a\0b", True, "cannot be read"),
    ):
        with pytest.raises(InputError, match=says), new_folder(tmp_path / name, overwrite, "mark"):
            pass
    assert (tmp_path / "photos" / "1.jpg").exists()


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("photos/out", "lies in the folder of the original images"),
        ("photos", "lies in the folder of the original images"),
        ("link/out.csv", "lies in the folder of the original images"),
        (".", "holds the original images"),
        ("out", None),
        ("photos_2", None),
        ("photos/runs/one/cleaned", None),
        ("photos/runs/two", "lies in the folder of the original images"),
    ],
)
def test_the_original_images_are_left_alone(tmp_path, output, says):
    (tmp_path / "photos" / "runs" / "one").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    arguments = tmp_path / output, [str(tmp_path / "photos")], tmp_path / "photos" / "runs" / "one"
    if says is None:
        require_apart(*arguments)
        return
    with pytest.raises(InputError, match=says):
        require_apart(*arguments)
