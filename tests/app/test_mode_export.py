"""mode=export, and docs/use.md: what it says is run, and exported files are run where this library is not."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from tests.trained import rows_of, run_on_digits, run_on_features, run_on_photos, run_on_vectors, write_photos

from cpc_lightning.app import export as exporting
from cpc_lightning.inference import export as writing
from cpc_lightning.inference.deployed import Resized
from cpc_lightning.inference.model import read_model

PAGE = (Path(__file__).parents[2] / "docs" / "use.md").read_text()
EXAMPLES = re.findall(r"^```python$(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
WITHOUT = "import sys; sys.modules['cpc_lightning'] = None\n"
"""From here on `import cpc_lightning` is an ImportError."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    root = write_photos(folder / "photos", {"dark": 15, "gray": 15, "light": 15})
    return run_on_photos(folder / "run", root, "training.epochs=3"), root


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return run_on_digits(tmp_path_factory.mktemp("export_digits") / "run")


def alone(code):
    """What Python code prints in a process where this library cannot be imported."""
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT + code], capture_output=True, text=True, timeout=120, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


@pytest.mark.long
def test_what_the_page_says_can_be_typed_and_its_examples_run_without_this_library(
    command, photos, tmp_path, monkeypatch
):
    """In order: predict, evaluate, export; both examples then say what mode=predict said of the image."""
    run, root = photos
    monkeypatch.chdir(tmp_path)
    image = next((root / "light").glob("*.png"))
    (tmp_path / "LIST.csv").write_text(f"path\n{image}\n")
    (block,) = re.findall(r"^```sh$(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    lines = [line for line in block.splitlines() if line.startswith("python -m cpc_lightning ")]
    assert len(lines) == 7
    for line in lines:
        words = shlex.split(line.removeprefix("python -m cpc_lightning "))
        typed = [re.sub("=FOLDER$", f"={root}", re.sub("=RUN$", f"={run}", word)) for word in words]
        code, _, error = command(*typed)
        assert code == 0, (line, error)
    (row,) = rows_of_parquet(tmp_path / "predictions.parquet")
    for example in EXAMPLES:
        said = alone(example.replace("RUN/", f"{run}/").replace("IMAGE", str(image)))
        name, chance = said.split()
        assert name == row["class"]
        assert float(chance) == pytest.approx(row["probability"], abs=writing.SCALED)
    assert len(EXAMPLES) == 2
    assert (tmp_path / "evaluated" / "evaluation.json").is_file()
    assert json.loads((tmp_path / "evaluated" / "evaluation.json").read_text())["images"] == 45


def rows_of_parquet(path):
    import pandas as pd

    return pd.read_parquet(path).to_dict("records")


@pytest.mark.long
def test_an_onnx_file_is_one_file_that_older_runtimes_read(command, digits, tmp_path):
    code, out, error = command("mode=export", f"run={digits}", "format=onnx", f"output={tmp_path}/only/m.onnx")
    assert code == 0, error
    assert out.startswith(f"{tmp_path}/only/m.onnx: 2 of 2 networks, ")
    assert [path.name for path in (tmp_path / "only").iterdir()] == ["m.onnx"]
    proto = onnx.load(tmp_path / "only" / "m.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert proto.ir_version <= 10
    assert {(one.domain, one.version) for one in proto.opset_import} == {("", 18)}
    about = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(about["class_names"]) == list("0123456789")
    assert json.loads(about["preprocessing"])["size"] == 8
    assert str(Path(__file__).parents[2]) not in str(proto)  # no paths of ours in it
    # The run's own probabilities of its test images, in batches of any size.
    model = read_model(str(digits))
    session = onnxruntime.InferenceSession(tmp_path / "only" / "m.onnx")
    images = np.random.RandomState(0).randint(0, 256, (70, 8, 8, 1)).astype(np.uint8)
    expected = model.probabilities(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    for count in (1, 3, 70):
        (found,) = session.run(None, {"images": images[:count]})
        np.testing.assert_allclose(found, expected[:count], atol=1e-5)


@pytest.mark.parametrize("size", [(40, 30), (30, 41), (256, 20), (20, 256), (500, 20), (20, 20), (21, 33), (9, 7)])
def test_scaling_is_pillows(size):
    """Levels of the middle 16 x 16 pixels, the shorter side scaled to 20, differ from Pillow's by at most one."""
    random = np.random.RandomState(sum(size))
    image = Image.fromarray(random.randint(0, 256, (size[1], size[0], 3)).astype(np.uint8))
    from cpc_lightning.datasets.reading.image_files import Crop

    crop = Crop(20, 16)
    expected = np.asarray(crop.centre(crop.scaled(image))).astype(int)
    found = Resized(20, 16)(torch.from_numpy(np.array(image))[None])[0].permute(1, 2, 0).numpy()
    assert found.shape == expected.shape
    difference = np.abs(found - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.05  # Pillow rounds between both directions
    if size == (20, 20):
        assert difference.max() == 0


@pytest.fixture(scope="module")
def on_features(tmp_path_factory):
    """The last checkpoint of a run on features of a network."""
    folder = tmp_path_factory.mktemp("export_features")
    root = write_photos(folder / "photos", {"dark": 12, "gray": 12, "light": 12})
    return run_on_features(folder / "run", root) / "checkpoints" / "last.ckpt"


@pytest.mark.long
@pytest.mark.parametrize("views", [1, 2, 7])
def test_a_run_on_features_of_a_network(command, on_features, tmp_path, views):
    """The image, its mirror image and crops of it, and both small networks, in one file."""
    checkpoint = torch.load(on_features, weights_only=True)
    checkpoint["run"]["config"]["features"]["views"] = views
    checkpoint["run"]["data"]["images"]["features"] = ""
    torch.save(checkpoint, tmp_path / "views.ckpt")
    for form in ("onnx", "torch"):
        code, out, error = command("mode=export", f"run={tmp_path}/views.ckpt", f"format={form}", "trust=true")
        assert code == 0, error
        assert re.search(r"differ from the run's by up to \de-0[5-9]|by up to 0,", out), out
    assert {path.name for path in tmp_path.glob("model.*")} == {"model.onnx", "model.pt2"}


@pytest.mark.long
def test_vectors(command, tmp_path):
    random = np.random.RandomState(0)
    labels = random.randint(0, 3, 90)
    np.savez(tmp_path / "train.npz", features=random.randn(90, 5) + 4 * labels[:, None], labels=labels)
    run = run_on_vectors(tmp_path / "run", tmp_path / "train.npz")
    for form in ("onnx", "torch"):
        code, _, error = command("mode=export", f"run={run}", f"format={form}")
        assert code == 0, error
    given = random.randn(4, 5).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(run / "model.onnx").run(None, {"vectors": given})
    expected = read_model(str(run)).probabilities(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(
        torch.export.load(run / "model.pt2").module()(torch.from_numpy(given)).detach(), expected, atol=1e-5
    )


@pytest.mark.long
def test_less_precise_files_have_their_accuracy_beside(command, digits, tmp_path):
    """The numbers are those of a pass of the file over the run's test images, by a loop of this test's own."""
    exact = float(rows_of(digits / "metrics.csv")[-1]["test/accuracy"])
    settings = exporting.opened_data(read_model(str(digits)), [], False).evaluation["test"]
    images = settings.images.fetch(torch.arange(359)).permute(0, 2, 3, 1).numpy()
    for precision in ("int8", "fp16"):
        output = tmp_path / f"{precision}.onnx"
        code, out, error = command(
            "mode=export", f"run={digits}", "format=onnx", f"precision={precision}", f"output={output}"
        )
        assert code == 0, error
        session = onnxruntime.InferenceSession(output)
        (found,) = session.run(None, {"images": images})
        right = (found.argmax(axis=1) == settings.labels.numpy()).mean()
        about = session.get_modelmeta().custom_metadata_map
        assert float(about["test_accuracy"]) == pytest.approx(right, abs=3 / 359)
        assert f"{100 * float(about['test_accuracy']):.2f} % in" in out
        assert 100 * float(about["test_accuracy_float32"]) == pytest.approx(exact, abs=1)
    assert output.stat().st_size < 0.75 * 4 * sum(v.numel() for v in read_model(str(digits)).networks.parameters())


def test_the_better_network_alone(command, digits, tmp_path):
    last = rows_of(digits / "metrics.csv")[-1]
    best = 1 + (float(last["test/accuracy_2"]) > float(last["test/accuracy_1"]))
    code, out, _ = command(
        "mode=export", f"run={digits}", "format=torch", "networks=best", f"output={tmp_path}/one.pt2"
    )
    assert code == 0
    alone_has, both_have = float(last[f"test/accuracy_{best}"]), float(last["test/accuracy"])
    assert f"network {best} alone has {alone_has:.2f} % on the set test, both have {both_have:.2f} %" in out
    model = read_model(str(digits))
    image = torch.randint(0, 256, (3, 8, 8, 1), dtype=torch.uint8)
    found = torch.export.load(tmp_path / "one.pt2").module()(image)
    expected = model.logits(image.permute(0, 3, 1, 2))[best - 1].softmax(dim=1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.long
def test_a_file_that_answers_otherwise_is_not_written(command, digits, tmp_path, monkeypatch):
    """Here the exported scaling shifts the image by a pixel."""
    true_forward = Resized.forward
    monkeypatch.setattr(Resized, "forward", lambda self, images: true_forward(self, images).roll(1, dims=-1))
    code, _, error = command("mode=export", f"run={digits}", "format=torch", f"output={tmp_path}/m.pt2")
    assert code == 2
    assert re.search(r"probabilities differ from ours by up to [\d.]+, more than 0.0001", error)
    assert not (tmp_path / "m.pt2").exists()


@pytest.mark.long
def test_mistakes_are_one_line(command, digits, tmp_path, monkeypatch):
    (tmp_path / "there.onnx").write_text("mine")
    for more, says in (
        ([], "format=(not set): must be one of onnx, torch"),
        (["format=tensorrt"], "must be one of onnx, torch"),
        (["format=torch", "precision=int8"], "is for format=onnx"),
        (["format=onnx", "precision=int4"], "must be one of fp32, fp16, int8"),
        (["format=onnx", "networks=1"], "must be one of both, best"),
        (["format=onnx", f"output={tmp_path}/m.pt2"], "must end in .onnx"),
        (["format=onnx", f"output={tmp_path}/there.onnx"], "is there already; overwrite=true replaces it"),
        (["format=torch", f"output={tmp_path}/there.onnx/m.pt2"], "cannot be"),
    ):
        code, out, error = command("mode=export", f"run={digits}", *more)
        assert (code, out) == (2, ""), more
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert says in error
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, _, error = command("mode=export", f"run={digits}", "format=onnx")
    assert code == 2
    assert error == "error: format=onnx: needs onnxscript: pip install 'cpc-lightning[onnx]'\n"
    shutil.copy(digits / "checkpoints" / "last.ckpt", tmp_path / "sent.ckpt")
    assert command("mode=export", f"run={tmp_path}/sent.ckpt", "format=torch")[0] == 0
    assert (tmp_path / "model.pt2").is_file()
