"""Write a model as files that need no PyTorch, and check them against it."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agit_hub import __version__
from agit_hub.backends import mixed_precision
from agit_hub.backends.exportable import INPUT, OUTPUTS, Direction, facts, stem
from agit_hub.backends.runtimes import SUFFIX, Format, open_session
from agit_hub.data import shapes
from agit_hub.errors import ExportError
from agit_hub.inference.image_processor import to_tensor
from agit_hub.models.agit import AGITModel

# What a picture's values, of 0 to 255, may differ by at the most.
TOLERANCE = {False: 1.0, True: 6.0}


@dataclass(frozen=True)
class Exported:
    """A file, and how far its translations and maps are from the model's."""

    path: Path
    to: str
    maximum: float
    """Of all values of all pictures tried, of 0 to 255."""
    mean: float


def export(
    model: AGITModel, folder: Path, format: Format = "onnx", half: bool = False
) -> Iterator[Exported]:
    """Write both directions, one file each, and check each before it gets its name.

    Args:
        model: On the CPU.
        folder: Made if need be.
        format: `onnx`, or `openvino` for its own two files.
        half: Keep weights in 16 bits, but for `exact`'s.

    Yields:
        `source_to_target`, then `target_to_source`.

    Raises:
        ExportError: If a file's translations differ from the model's by 1 of 255 or more; by 6 with
            `half`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for to in reversed(model.config.labels):
        direction = Direction(model, to)
        name = stem(model.config, to)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as scratch:
            written = Path(scratch) / f"{name}{SUFFIX[format]}"
            write(direction, written, half)
            maximum, mean = _differences(direction, written, half)
            if not maximum < TOLERANCE[half]:
                raise ExportError(
                    f"{written.name} would differ from the model by up to {maximum:.2g} of 255, where "
                    f"{TOLERANCE[half]:g} is allowed; nothing was kept of it."
                )
            # The .bin before the .xml that needs it.
            for part in sorted(Path(scratch).iterdir()):
                part.replace(folder / part.name)
        yield Exported(folder / written.name, to, maximum, mean)


def write(direction: Direction, path: Path, half: bool) -> None:
    """Write one direction to a file whose ending says which format it is in, unchecked."""
    if path.suffix == SUFFIX["onnx"]:
        _write_onnx(direction, path, half)
        return
    import openvino

    with tempfile.TemporaryDirectory() as scratch:
        between = Path(scratch) / "direction.onnx"
        _write_onnx(direction, between, half=False)
        network = openvino.convert_model(between)
        if half:
            network = mixed_precision.in_openvino(network, direction, Path(scratch))
    for key, value in _facts(direction).items():
        network.set_rt_info(value, ["agit_hub", key])
    openvino.save_model(network, path, compress_to_fp16=half)


def _write_onnx(direction: Direction, path: Path, half: bool) -> None:
    import onnx

    program: Any = torch.onnx.export(
        direction.exported(),
        input_names=[INPUT],
        output_names=list(OUTPUTS),
        dynamo=True,
        verbose=False,
    )
    network = program.model_proto
    _name_dimensions(network)
    if half:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        kept = list(mixed_precision.in_onnx(network, direction))
        network = convert_float_to_float16(network, keep_io_types=True, node_block_list=kept)
        mixed_precision.without_detours(network)
    onnx.helper.set_model_props(network, _facts(direction))
    onnx.save(network, path)


def _name_dimensions(network: Any) -> None:
    """Say batch, height and width where the tracer has expressions of its own."""
    for value in (*network.graph.input, *network.graph.output):
        sizes = value.type.tensor_type.shape.dim
        for place, name in ((0, "batch"), (2, "height"), (3, "width")):
            sizes[place].dim_param = name
    # What lies between is in the old terms, and anyone can infer it.
    del network.graph.value_info[:]


def _facts(direction: Direction) -> dict[str, str]:
    return facts(direction.model.config, direction.to_label) | {"agit_hub": __version__}


def _differences(direction: Direction, path: Path, half: bool) -> tuple[float, float]:
    """The largest and the mean difference of translations and maps, of 0 to 255."""
    session = open_session(path, half)
    errors = []
    for pictures in _trials(direction.model.config.image_size):
        with torch.inference_mode():
            expected = direction(pictures)
        # Not of what the generator draws where no attention is paid: nobody sees it.
        (image, attention, _), found = expected, session(pictures.numpy())
        for one, other, span in ((image, found[0], 127.5), (attention, found[1], 255)):
            errors.append(np.abs(one.numpy() - other).ravel() * span)
    every = np.concatenate(errors)
    return float(every.max()), float(every.mean())


def _trials(size: int) -> Iterator[Tensor]:
    """Drawings, at the size of training, and at another number, height and width."""
    drawn = [shapes.draw(label, 0, size=size)[0] for label in shapes.LABELS]
    pictures = torch.cat([to_tensor(picture) for picture in drawn])
    yield pictures
    yield pictures[:1, :, : max(16, size // 8 * 4)]
