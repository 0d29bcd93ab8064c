"""Export of a model to ONNX or OpenVINO files, checked against PyTorch."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.constants import HF_ASSETS_CACHE
from torch import Tensor

from agit_hub.backends import mixed_precision
from agit_hub.backends.exportable import INPUT, OUTPUTS, ExportableDirection, file_stem
from agit_hub.backends.runtimes import SUFFIX, Format, open_session
from agit_hub.data import shapes
from agit_hub.environment import check_writable, require_extra
from agit_hub.errors import ExportError
from agit_hub.inference.image_processor import to_tensor
from agit_hub.models.agit import AGITModel

# Largest accepted difference of an image's values, on a scale of 0 to 255.
TOLERANCE = {torch.float32: 1.0, torch.float16: 6.0}


@dataclass(frozen=True)
class Exported:
    """A file, and how much its translations and maps differ from the model's, on a scale of 0 to 255."""

    path: Path
    to: str
    maximum: float
    mean: float


def export(
    model: AGITModel, folder: Path, format: Format = "onnx", dtype: torch.dtype = torch.float32
) -> Iterator[Exported]:
    """Export both directions to a file each; a file gets its name once it is checked.

    Args:
        model: On the CPU.
        folder: Created if missing.
        format: `onnx`, or `openvino` for its two files.
        dtype: `torch.float16` stores most weights in 16 bits (see `mixed_precision`).

    Yields:
        `source_to_target`, then `target_to_source`.

    Raises:
        InputPathError: If the folder cannot be written to.
        PackageError: If a package is missing.
        ExportError: If a file's translations differ from the model's by more than `TOLERANCE`.
    """
    require_extra(format)
    in_cache = folder.is_relative_to(HF_ASSETS_CACHE)
    check_writable(folder, "HF_HOME, the cache," if in_cache else "The folder for exported files")
    folder.mkdir(parents=True, exist_ok=True)
    for to in reversed(model.config.labels):
        direction = ExportableDirection(model, to)
        name = file_stem(model.config, to)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as scratch:
            file = Path(scratch) / f"{name}{SUFFIX[format]}"
            if format == "onnx":
                _write_onnx(direction, file, dtype)
            else:
                _write_openvino(direction, file, dtype)
            maximum, mean = _differences(direction, file, dtype)
            if not maximum < TOLERANCE[dtype]:
                raise ExportError(
                    f"{file.name} differs from the model by up to {maximum:.2g} of 255, more than the "
                    f"allowed {TOLERANCE[dtype]:g}; it was not kept."
                )
            # The .bin before the .xml that needs it.
            for part in sorted(Path(scratch).iterdir()):
                part.replace(folder / part.name)
        yield Exported(folder / file.name, to, maximum, mean)


def _write_onnx(direction: ExportableDirection, path: Path, dtype: torch.dtype) -> None:
    import onnx

    program: Any = torch.onnx.export(
        direction.export_program(),
        input_names=[INPUT],
        output_names=list(OUTPUTS),
        dynamo=True,
        verbose=False,
    )
    network = program.model_proto
    _name_dimensions(network)
    if dtype == torch.float16:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        kept = list(mixed_precision.float32_nodes(network, direction))
        network = convert_float_to_float16(network, keep_io_types=True, node_block_list=kept)
        mixed_precision.remove_round_trip_casts(network)
    onnx.helper.set_model_props(network, direction.metadata())
    onnx.save(network, path)


def _write_openvino(direction: ExportableDirection, path: Path, dtype: torch.dtype) -> None:
    import openvino

    with tempfile.TemporaryDirectory() as scratch:
        onnx_path = Path(scratch) / "direction.onnx"
        _write_onnx(direction, onnx_path, torch.float32)
        network = openvino.convert_model(onnx_path)
        if dtype == torch.float16:
            network = mixed_precision.mark_float32_layers(network, direction, Path(scratch))
    for key, value in direction.metadata().items():
        network.set_rt_info(value, ["agit_hub", key])
    openvino.save_model(network, path, compress_to_fp16=dtype == torch.float16)


def _name_dimensions(network: Any) -> None:
    """Name batch, height and width, for which the tracer has expressions."""
    for value in (*network.graph.input, *network.graph.output):
        sizes = value.type.tensor_type.shape.dim
        for index, name in ((0, "batch"), (2, "height"), (3, "width")):
            sizes[index].dim_param = name
    # Inner shapes use the old names, and can be inferred.
    del network.graph.value_info[:]


def _differences(
    direction: ExportableDirection, path: Path, dtype: torch.dtype
) -> tuple[float, float]:
    """Return the largest and the mean difference of translations and maps, on a scale of 0 to 255."""
    session = open_session(path, dtype)
    errors = []
    for images in _test_images(direction.model.config.image_size):
        with torch.inference_mode():
            image, attention, _ = direction(images)
        # The generated image is not compared: it is invisible where attention is 0.
        found = session(images.numpy())
        for expected, other, scale in ((image, found[0], 127.5), (attention, found[1], 255)):
            errors.append(np.abs(expected.numpy() - other).ravel() * scale)
    every = np.concatenate(errors)
    return float(every.max()), float(every.mean())


def _test_images(size: int) -> Iterator[Tensor]:
    """Yield drawings at the training size, and with another batch size, height and width."""
    images = torch.cat([to_tensor(shapes.draw(label, 0, size=size)[0]) for label in shapes.LABELS])
    yield images
    yield images[:1, :, : max(16, size // 8 * 4)]
