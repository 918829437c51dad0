"""Writing files: the old one or the new one, never half of one."""

import os
import stat

import pytest

from cpc_lightning.files import atomic_write, files_in


def test_replaces_the_file_only_at_the_end(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes(b"old")
    with open(path, "rb") as reader:
        with atomic_write(path) as file:
            file.write(b"new")
            file.flush()
            assert path.read_bytes() == b"old"
        assert reader.read() == b"old"  # a new file took the name; the old one was not written into
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["labels.txt"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, failure):
    path = tmp_path / "labels.txt"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_write(path) as file:
            file.write(b"half of the n")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["labels.txt"]


def test_a_rename_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), atomic_write(tmp_path / "folder") as file:
        file.write(b"new")
    assert os.listdir(tmp_path) == ["folder"]


def test_an_absent_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "absent" / "labels.txt"):
        pytest.fail("the block must not run")


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "labels.txt"
    target.write_bytes(b"old")
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_permissions_are_those_of_an_ordinary_new_file(tmp_path):
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    with atomic_write(tmp_path / "atomic") as file:
        file.write(b"new")
    assert stat.S_IMODE((tmp_path / "atomic").stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_the_longest_name_that_the_file_system_takes(tmp_path):
    path = tmp_path / ("n" * 255)
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_files_in_a_folder(tmp_path, monkeypatch):
    for name in ("b.ckpt", "a.ckpt", "c.txt"):
        (tmp_path / name).touch()
    assert files_in(tmp_path, ".ckpt") == [tmp_path / "a.ckpt", tmp_path / "b.ckpt"]
    assert files_in(tmp_path / "absent", ".ckpt") == files_in(tmp_path / "c.txt", "") == []

    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(PermissionError):
        files_in(tmp_path, ".ckpt")
