"""Writes a trained model as one file that runs without this library: ONNX, or a program of torch.export.

Shapes: N images, H x W pixels, C channels, D numbers of a vector, K classes.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cpc_lightning.errors import InputError, first_line, require, written
from cpc_lightning.files import atomic_write
from cpc_lightning.inference.deployed import Deployed
from cpc_lightning.inference.model import TrainedModel
from cpc_lightning.inference.pixels import GRAY

OPSET, IR_VERSION = 18, 10
"""Of ONNX 1.14 and 1.16: onnxruntime reads them since 1.18 (May 2024)."""
TOLERANCE = 1e-4
"""Largest difference of a probability from ours, on images that need no scaling, in float32."""
SCALED = 2e-2
"""The same on images that are scaled: Pillow's arithmetic has whole numbers, and a level may be another one."""
HALF = 2e-2
"""The same in half precision."""
CALIBRATION = 256
"""Training images on which ranges of 8-bit numbers are found."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
METADATA = "cpc_lightning.json"
"""What a program of torch.export has as an extra file: what the ONNX file has as metadata."""

Session = Callable[[NDArray[Any]], NDArray[np.float32]]


def require_onnx(setting: str, value: str) -> None:
    """Raise `InputError` where a package is missing that ONNX needs."""
    missing = []
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    require(not missing, setting, value, f"needs {', '.join(missing)}: pip install 'cpc-lightning[onnx]'")


def example(model: TrainedModel, count: int = 2, scale: float = 1.0, seed: int = 0) -> NDArray[Any]:
    """Made-up inputs: vectors (N, D) float32, or images (N, H, W, C) uint8 whose shorter side is `scale` times S."""
    random = np.random.default_rng(seed)
    if model.crop is None:
        vectors: NDArray[Any] = random.standard_normal((count, model.channels)).astype(np.float32)
        return vectors
    side = round(model.crop.resize * scale)
    height, width = side, side if scale == 1 else round(1.3 * side)
    coarse = random.integers(0, 256, (count, 5, 5, model.channels), dtype=np.uint8)
    mode = "L" if model.channels == GRAY else "RGB"
    images = [Image.fromarray(one.squeeze(), mode).resize((width, height), Image.Resampling.BICUBIC) for one in coarse]
    return np.stack([np.asarray(image).reshape(height, width, model.channels) for image in images])


def ours(model: TrainedModel, inputs: NDArray[Any], chosen: tuple[int, ...]) -> NDArray[np.float32]:
    """What the model itself answers, (N, K), from the same pixels."""
    if model.crop is None:
        batch = torch.from_numpy(inputs)
    else:
        crop = model.crop
        views = [np.asarray(crop.centre(crop.scaled(Image.fromarray(one.squeeze())))) for one in inputs]
        batch = torch.from_numpy(np.stack(views)).view(len(inputs), crop.size, crop.size, -1).permute(0, 3, 1, 2)
    chances = torch.stack(model.logits(batch)).softmax(dim=2)
    return chances[list(chosen)].mean(dim=0).cpu().numpy()


def largest_difference(
    model: TrainedModel, run: Session, chosen: tuple[int, ...], half: bool = False, exact: bool = True
) -> tuple[float, float]:
    """How far an exported file's probabilities are from ours: on images that need no scaling, and on others.

    Batches of 1, 2 and 5 are tried. Raises `InputError` named "format" where a difference is beyond what is stated
    above, unless not `exact`, as 8-bit numbers are not.
    """
    found = [0.0, 0.0]
    for kind, scale in enumerate((1.0, 1.7) if model.crop is not None else (1.0,)):
        for count in (1, 2, 5):
            inputs = example(model, count, scale, seed=count)
            answer, expected = run(inputs), ours(model, inputs, chosen)
            require(answer.shape == expected.shape, "format", str(answer.shape), f"the file answers {answer.shape}")
            found[kind] = max(found[kind], float(np.abs(answer - expected).max()))
    for difference, limit in zip(found, (HALF if half else TOLERANCE, SCALED), strict=True):
        far = f"the file's probabilities differ from ours by up to {difference:.2g}, more than {limit:g}"
        require(difference <= limit or not exact, "format", f"{difference:.2g}", far)
    return found[0], found[1]


# torch.export ---------------------------------------------------------------------------------------------------------


def to_program(model: TrainedModel, deployed: Deployed) -> torch.export.ExportedProgram:
    """The program, for any number of images of any size; raises `InputError` where torch cannot follow the network."""
    inputs = torch.from_numpy(example(model))
    batch = torch.export.Dim("images", min=1)
    sizes = {1: torch.export.Dim("height", min=2), 2: torch.export.Dim("width", min=2)} if model.crop else {}
    if model.crop is not None:  # of two different sides, so that neither is taken for the other
        inputs = torch.from_numpy(example(model, scale=1.7))
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(deployed, (inputs,), dynamic_shapes={"images": {0: batch, **sizes}})
    except Exception as error:  # any network of any library
        what = f"torch.export cannot follow this network ({first_line(error)})"
        raise InputError("format", "torch", what) from error


def program_bytes(program: torch.export.ExportedProgram, about: Mapping[str, Any]) -> bytes:
    """The .pt2 file."""
    file = io.BytesIO()
    with quiet():
        torch.export.save(program, file, extra_files={METADATA: json.dumps(about, indent=1)})
    return file.getvalue()


def program_session(content: bytes) -> Session:
    """What a .pt2 file answers."""
    with quiet():
        loaded = torch.export.load(io.BytesIO(content)).module()

    def run(inputs: NDArray[Any]) -> NDArray[np.float32]:
        with torch.no_grad():
            answer: Tensor = loaded(torch.from_numpy(inputs))
        return answer.numpy()

    return run


# ONNX -----------------------------------------------------------------------------------------------------------------


def onnx_bytes(program: torch.export.ExportedProgram, about: Mapping[str, Any], vectors: bool) -> bytes:
    """The .onnx file, weights inside; raises `InputError` where the network has what ONNX has not."""
    name = "vectors" if vectors else "images"
    try:
        with quiet():
            made: Any = torch.onnx.export(
                program, input_names=[name], output_names=["probabilities"], opset_version=OPSET, dynamo=True,
                external_data=False, verbose=False,
            )  # fmt: skip
        proto = made.model_proto
    except Exception as error:  # any network of any library
        what = f"ONNX cannot express this network ({first_line(error)})"
        raise InputError("format", "onnx", what) from error
    return with_metadata(proto, about)


def with_metadata(proto: Any, about: Mapping[str, Any]) -> bytes:
    """The model with what is known about it, readable by onnxruntime of the last two years."""
    onnx: Any = importlib.import_module("onnx")
    proto.ir_version = min(proto.ir_version, IR_VERSION)
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items()}
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, texts)
    proto.producer_name, proto.doc_string = "cpc-lightning", "See the metadata for classes and preprocessing."
    for node in proto.graph.node:  # where in somebody's files a layer was written
        del node.metadata_props[:]
        node.doc_string = ""
    size = proto.ByteSize()
    require(size < 2**31, "format", "onnx", f"the networks have {size:,} bytes, and one file of ONNX holds 2 GB")
    return bytes(proto.SerializeToString())


def described_anew(content: bytes, about: Mapping[str, Any]) -> bytes:
    """The .onnx file with other metadata."""
    return with_metadata(importlib.import_module("onnx").load_from_string(content), about)


def onnx_session(content: bytes | str) -> Session:
    """What an .onnx file answers, on the CPU."""
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # 3: errors alone
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(inputs: NDArray[Any]) -> NDArray[np.float32]:
        answer: NDArray[np.float32] = session.run(None, {name: inputs})[0]
        return answer

    return run


def quantised(content: bytes, batches: Iterator[NDArray[Any]], about: Mapping[str, Any], vectors: bool) -> bytes:
    """The .onnx file with convolutions and linear layers in 8-bit numbers, whose ranges `batches` tell."""
    onnx: Any = importlib.import_module("onnx")
    tools: Any = importlib.import_module("onnxruntime.quantization")
    name = "vectors" if vectors else "images"

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc]
        """Hands out the batches."""

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            """The next one; None after the last."""
            batch = next(batches, None)
            return None if batch is None else {name: batch}

    with tempfile.TemporaryDirectory(prefix="cpc_lightning_") as folder, quiet():
        before, after = os.path.join(folder, "float.onnx"), os.path.join(folder, "int8.onnx")
        Path(before).write_bytes(content)
        tools.quantize_static(
            before, after, Reader(), quant_format=tools.QuantFormat.QDQ, per_channel=True,
            activation_type=tools.QuantType.QUInt8, weight_type=tools.QuantType.QInt8,
            op_types_to_quantize=["Conv", "Gemm"],
        )  # fmt: skip
        return with_metadata(onnx.load(after), about)


# Files ----------------------------------------------------------------------------------------------------------------


def write(output: Path, content: bytes) -> None:
    """Write the file, whole or not at all; raises `InputError` named "output" where it cannot be written."""
    with written("output", output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(output) as file:
            file.write(content)


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block, exporters keep to themselves what they say about their own workings."""
    names = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "root", "torch._export")
    loggers = [logging.getLogger() if name == "root" else logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
