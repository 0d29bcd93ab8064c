"""Exported files at work: ONNX Runtime and OpenVINO."""

from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from agit_hub.backends.direction import INPUT, OUTPUTS

Format = Literal["onnx", "openvino"]
Pixels = npt.NDArray[np.float32]
SUFFIX: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml"}


class Session(Protocol):
    """An exported direction, ready to run."""

    def __call__(self, picture: Pixels) -> tuple[Pixels, Pixels, Pixels]:
        """(N, 3, H, W) in [-1, 1] -> translation, attention and the generator's picture."""


class OnnxSession:
    """A file `.onnx` in ONNX Runtime, on the best of the devices that it was built for.

    Args:
        path: The file.
        half: Has no effect: the file's own numbers decide.
    """

    def __init__(self, path: Path, half: bool = False) -> None:
        import onnxruntime

        providers = onnxruntime.get_available_providers()
        self._session = onnxruntime.InferenceSession(path, providers=providers)

    def __call__(self, picture: Pixels) -> tuple[Pixels, Pixels, Pixels]:
        """As any session."""
        image, attention, generated = self._session.run(list(OUTPUTS), {INPUT: picture})
        return image, attention, generated


class OpenVinoSession:
    """A file `.xml`, with its `.bin` beside it, in OpenVINO on the CPU.

    Args:
        path: The file.
        half: Whether OpenVINO may reckon in 16 bits where the processor does so faster.
    """

    def __init__(self, path: Path, half: bool = False) -> None:
        hints: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if not half:
            hints["INFERENCE_PRECISION_HINT"] = "f32"
        self._model = _openvino().compile_model(path, "CPU", hints)

    def __call__(self, picture: Pixels) -> tuple[Pixels, Pixels, Pixels]:
        """As any session."""
        found = self._model(picture)
        image, attention, generated = (found[name] for name in OUTPUTS)
        return image, attention, generated


@cache
def _openvino() -> Any:
    """OpenVINO itself, once for the process.

    Where a processor has AMX, each instance puts a stack for signals in place of the last one's and
    frees it in the end: two that do not end in reverse leave one that is freed, and the next Ctrl-C, or
    a worker of a data loader that ends, is then a segmentation fault.
    """
    import openvino

    return openvino.Core()


def open_session(path: Path, half: bool = False) -> Session:
    """The session for a file, by its ending."""
    return OnnxSession(path, half) if path.suffix == SUFFIX["onnx"] else OpenVinoSession(path, half)
