"""Runtimes of exported files: ONNX Runtime and OpenVINO."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from agit_hub.backends.exportable import INPUT, OUTPUTS

Format = Literal["onnx", "openvino"]
Array = npt.NDArray[np.float32]
SUFFIX: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml"}

_CORE_LOCK = Lock()
_LATENCY = {"PERFORMANCE_HINT": "LATENCY"}
_FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}


class Session(Protocol):
    """An exported direction, ready to run, for any number of threads at once."""

    def __call__(self, images: Array, outputs: Sequence[str] = OUTPUTS) -> list[Array]:
        """Return the requested outputs for (N, 3, H, W) in [-1, 1]."""


class OnnxSession:
    """An `.onnx` file in ONNX Runtime, on the best device that the installed package supports."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        providers = onnxruntime.get_available_providers()
        self._session = onnxruntime.InferenceSession(path, providers=providers)

    def __call__(self, images: Array, outputs: Sequence[str] = OUTPUTS) -> list[Array]:
        """Run, as any session."""
        found: list[Array] = self._session.run(list(outputs), {INPUT: images})
        return found


class OpenVinoSession:
    """An `.xml` file, with its `.bin` beside it, in OpenVINO on the CPU.

    Args:
        path: The file.
        dtype: Other than float32, OpenVINO may compute the generator's output in 16 bits where that is
            faster. Attention is compiled separately: where OpenVINO resizes a map it ignores the file's
            marks.
    """

    def __init__(self, path: Path, dtype: torch.dtype = torch.float32) -> None:
        import openvino

        network = openvino_core().read_model(path)
        self._generator = None
        if dtype != torch.float32:
            generator, network = (
                openvino.Model([network.output(name)], network.get_parameters())
                for name in ("generated", "attention")
            )
            self._generator = openvino_core().compile_model(generator, "CPU", _LATENCY)
        self._model = openvino_core().compile_model(network, "CPU", _LATENCY | _FLOAT32)

    def __call__(self, images: Array, outputs: Sequence[str] = OUTPUTS) -> list[Array]:
        """Run, as any session."""
        found = self._run(self._model, images)
        if self._generator is not None:
            found |= self._run(self._generator, images)
            if "image" in outputs:
                attention, generated = found["attention"], found["generated"]
                found["image"] = attention * generated + (1 - attention) * images
        return [found[name] for name in outputs]

    def _run(self, model: Any, images: Array) -> dict[str, Array]:
        # A request of its own: a model's shared one serves a single thread at a time.
        found = model.create_infer_request().infer(images)
        return {output.get_any_name(): found[output] for output in model.outputs}


def openvino_core() -> Any:
    """Return the process's one OpenVINO core.

    Where a processor has AMX, each instance replaces the signal stack of the last one and frees it in the
    end: unless instances end in reverse order a freed stack stays in place, and the next Ctrl-C, or the
    end of a data loader's worker, is a segmentation fault.
    """
    with _CORE_LOCK:  # a cache alone lets two threads make one each
        return _make_core()


@cache
def _make_core() -> Any:
    import openvino

    return openvino.Core()


def open_session(path: Path, dtype: torch.dtype = torch.float32) -> Session:
    """Open a file in the runtime of its suffix; `dtype` is the one that it was exported with."""
    if path.suffix == SUFFIX["onnx"]:
        return OnnxSession(path)
    return OpenVinoSession(path, dtype)
