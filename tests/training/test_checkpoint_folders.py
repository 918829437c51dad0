"""Folders of checkpoints: those that may not be read are no empty ones; paths in them follow."""

import os

import pytest

from cpc_lightning.errors import InputError
from cpc_lightning.training.checkpoints import check_unused, find_checkpoint
from cpc_lightning.training.records import moved


def test_paths_in_a_checkpoint_follow_its_folder_whichever_system_wrote_them():
    state = {
        "dirpath": "C:\\runs\\1\\checkpoints",
        "best_model_path": "C:\\runs\\1\\checkpoints\\best.ckpt",
        "best_k_models": {"C:\\runs\\1\\checkpoints\\best.ckpt": 0.5},
        "last_model_path": "C:\\runs\\1\\checkpoints2\\best.ckpt",
        "monitor": "test/accuracy",
    }
    assert moved(state, state["dirpath"], "/here/checkpoints") == {
        "dirpath": "/here/checkpoints",
        "best_model_path": "/here/checkpoints/best.ckpt",
        "best_k_models": {"/here/checkpoints/best.ckpt": 0.5},
        "last_model_path": "C:\\runs\\1\\checkpoints2\\best.ckpt",  # lies elsewhere
        "monitor": "test/accuracy",
    }
    assert moved({"best_model_path": "/a/b/best.ckpt"}, "/a/b", "/c") == {"best_model_path": "/c/best.ckpt"}


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
