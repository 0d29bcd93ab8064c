"""Exported files at work: ONNX Runtime and OpenVINO."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from agit_hub.backends.exportable import INPUT, OUTPUTS

Format = Literal["onnx", "openvino"]
Pixels = npt.NDArray[np.float32]
_SOON = {"PERFORMANCE_HINT": "LATENCY"}
_EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
SUFFIX: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml"}


class Session(Protocol):
    """An exported direction, ready to run."""

    def __call__(self, picture: Pixels, wanted: Sequence[str] = OUTPUTS) -> list[Pixels]:
        """(N, 3, H, W) in [-1, 1] -> translation, attention and the generator's picture, or some."""


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

    def __call__(self, picture: Pixels, wanted: Sequence[str] = OUTPUTS) -> list[Pixels]:
        """As any session."""
        found: list[Pixels] = self._session.run(list(wanted), {INPUT: picture})
        return found


class OpenVinoSession:
    """A file `.xml`, with its `.bin` beside it, in OpenVINO on the CPU.

    Args:
        path: The file.
        half: Whether OpenVINO may reckon in 16 bits where the processor does so faster: only what the
            generator draws, for it loses what a file says of its layers where it enlarges a map.
    """

    def __init__(self, path: Path, half: bool = False) -> None:
        import openvino

        network = openvino_core().read_model(path)
        self._drawing = None
        if half:
            drawing, network = (
                openvino.Model([network.output(name)], network.get_parameters())
                for name in ("generated", "attention")
            )
            self._drawing = openvino_core().compile_model(drawing, "CPU", _SOON)
        self._model = openvino_core().compile_model(network, "CPU", _SOON | _EXACT)

    def __call__(self, picture: Pixels, wanted: Sequence[str] = OUTPUTS) -> list[Pixels]:
        """As any session."""
        found = self._run(self._model, picture)
        if self._drawing is not None:
            found |= self._run(self._drawing, picture)
            if "image" in wanted:
                attention, generated = found["attention"], found["generated"]
                found["image"] = attention * generated + (1 - attention) * picture
        return [found[name] for name in wanted]

    def _run(self, model: Any, picture: Pixels) -> dict[str, Pixels]:
        found = model(picture)
        return {output.get_any_name(): found[output] for output in model.outputs}


@cache
def openvino_core() -> Any:
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
