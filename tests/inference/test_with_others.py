"""What is exported and predicted, in the hands of others: older and newer Pythons, torchvision, cleanlab."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cleanlab import Datalab
from tests.trained import rows_of, run_on_photos, write_photos
from torchvision.datasets import ImageFolder

from cpc_lightning.app.command_line import main
from cpc_lightning.datasets.image_folder import image_folder
from cpc_lightning.datasets.reading.image_files import Crop
from cpc_lightning.inference.model import read_model

PAGE = (Path(__file__).parents[2] / "docs" / "use.md").read_text()
LEARN = ["optimizer.schedule.milestones=[18]", "cleaner=none", "views.policy=none"]  # all of what there is
COUNTS = {"b dark": 15, "Gray": 15, "ålight": 15}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("others")
    root = write_photos(folder / "photos", COUNTS)
    return run_on_photos(folder / "run", root, "training.epochs=24", "optimizer.network.lr=0.05", *LEARN), root


def interpreter(version):
    """Where Python of that version is: by name, by $CPC_PYTHONS (a list of folders), or among pyenv's."""
    folders = [*os.environ.get("CPC_PYTHONS", "").split(os.pathsep), os.environ.get("PATH", "")]
    found = shutil.which(f"python{version}", path=os.pathsep.join(folders))
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    assert found or pyenv, f"no Python {version} here: name its folder in CPC_PYTHONS"
    return str(pyenv[-1]) if pyenv else found


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_the_onnx_file_runs_in_the_newest_onnxruntime_of_a_python(command, photos, tmp_path, version):
    """For 3.10 that is its last release, 1.23. The package comes from PyPI."""
    run, root = photos
    assert command("mode=export", f"run={run}", "format=onnx", f"output={tmp_path}/m.onnx")[0] == 0
    subprocess.run([interpreter(version), "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime", "pillow", "numpy"], check=True, timeout=300)
    image = next((root / "Gray").glob("*.png"))
    (example,) = [code for code in re.findall(r"^```python$(.*?)^```$", PAGE, re.M | re.S) if "onnxruntime" in code]
    example = example.replace("RUN/model.onnx", str(tmp_path / "m.onnx")).replace("IMAGE", str(image))
    example += "import sys, onnxruntime\nprint(sys.version_info[:2], onnxruntime.__version__)\n"
    answer = subprocess.run([python, "-c", example], capture_output=True, text=True, check=True, timeout=120)
    said, about = answer.stdout.strip().splitlines()
    assert about.startswith(str(tuple(map(int, version.split(".")))))
    main(["mode=predict", f"run={run}", f"input={image}", f"output={tmp_path}/p.csv"])
    (row,) = rows_of(tmp_path / "p.csv")
    name, chance = said.rsplit(" ", 1)
    assert name == row["class"]
    assert float(chance) == pytest.approx(float(row["probability"]), abs=0.02)


@pytest.mark.long
def test_torchvision_reads_the_same_classes_and_images_in_the_same_order(command, photos, tmp_path):
    run, root = photos
    theirs = ImageFolder(root)
    (ours,) = [image_folder(str(root), Crop(20, 16), test_share=0.2)]
    assert tuple(theirs.classes) == ours.class_names == read_model(str(run)).class_names
    code, _, error = command("mode=predict", f"run={run}", f"input={root}", f"output={tmp_path}/p.csv")
    assert code == 0, error
    rows = rows_of(tmp_path / "p.csv")
    assert [str(root / row["path"]) for row in rows] == [path for path, _ in theirs.samples]
    right = np.mean(
        [row["class"] == theirs.classes[label] for row, (_, label) in zip(rows, theirs.samples, strict=True)]
    )
    assert right > 0.8  # by chance a third


@pytest.mark.long
def test_cleanlab_finds_wrong_labels_by_our_probabilities(photos):
    """Every ninth label is moved to the next class; Datalab is given labels and probabilities alone."""
    run, root = photos
    model = read_model(str(run))
    samples = ImageFolder(root).samples
    probabilities = model.probabilities(torch.stack([model.decode(path) for path, _ in samples])).double().numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    true = np.array([label for _, label in samples])
    wrong = np.arange(len(true)) % 9 == 0
    given = np.where(wrong, (true + 1) % 3, true)
    lab = Datalab(data={"label": given.tolist()}, label_name="label", task="classification", verbosity=0)
    lab.find_issues(pred_probs=probabilities, issue_types={"label": {}})
    scores = lab.get_issues("label")["label_score"].to_numpy()
    assert scores[wrong].mean() < scores[~wrong].mean() - 0.3
    found = lab.get_issues("label")["is_label_issue"].to_numpy()
    assert found[wrong].mean() >= 0.8


def test_the_interpreter_of_these_tests_is_found():
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert interpreter(version)
