"""Folders of checkpoints that may not be read are no empty ones."""

import os

import pytest

from cpc_lightning.errors import InputError
from cpc_lightning.training.checkpoints import check_unused, find_checkpoint


def test_a_folder_of_checkpoints_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "overrides.json").write_text("[]")

    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    assert find_checkpoint(str(tmp_path)) is None
    check_unused(tmp_path, None)
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(InputError, match=r"resume=.*: cannot be read .Permission denied"):
        find_checkpoint(str(tmp_path))
    with pytest.raises(InputError, match=r"hydra.run.dir=.*checkpoints: cannot be read .Permission denied"):
        check_unused(tmp_path, None)
