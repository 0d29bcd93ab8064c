"""Which backend a pipeline gets: what it is told, or the fastest whose files are there."""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from huggingface_hub.constants import HF_ASSETS_CACHE

from agit_hub import __version__
from agit_hub.backends.base import Backend, ExportedBackend, TorchBackend
from agit_hub.backends.export import export
from agit_hub.backends.exportable import stem
from agit_hub.backends.runtimes import SUFFIX, Format
from agit_hub.config import suggest
from agit_hub.errors import BackendError
from agit_hub.models.agit import AGITModel

BackendName = Literal["auto", "torch", "compile", "onnx", "openvino"]

# The fastest first, as measured on CPUs by benchmarks.inference.
_PACKAGES: dict[Format, str] = {"openvino": "openvino", "onnx": "onnxruntime"}
_NAMES = ("auto", "torch", "compile", *_PACKAGES)


def choose_backend(model: AGITModel, name: str = "auto", half: bool = False) -> Backend:
    """The backend that runs a model.

    Args:
        model: In evaluation mode, on the device where it is to run.
        name: `torch`; `compile`; `onnx` or `openvino`, whose files are written now unless they are
            there already, which takes half a minute; `auto` takes the fastest of those whose files are
            there and whose package is installed, and `torch` otherwise and on any device but the CPU.
        half: Whether 16 bits are precise enough: of `onnx` and `openvino`, and of all others on a GPU.

    Raises:
        BackendError: If there is none of that name, or its package is not installed.
        ExportError: If the files written do not do what the model does.
    """
    if name not in _NAMES:
        raise BackendError(
            f"There is no backend {name!r}: {', '.join(_NAMES)}.{suggest(name, list(_NAMES))}"
        )
    if name == "auto":
        return _fastest(model, half)
    if name in ("torch", "compile"):
        return TorchBackend(model, name == "compile", half)
    format: Format = "onnx" if name == "onnx" else "openvino"
    if find_spec(_PACKAGES[format]) is None:
        raise BackendError(
            f"{_PACKAGES[format]} is not installed: pip install 'agit-hub[{format}]'."
        )
    folder = exported_folder(model, format, half)
    if not _is_there(model, folder, format):
        for _ in export(model, folder, format, half):
            pass
    return ExportedBackend(model.config, folder, format, half)


def exported_folder(model: AGITModel, format: Format, half: bool) -> Path:
    """Where the files of a model lie, in the Hub's cache of assets: for these weights alone."""
    kind = f"{format}-half" if half else format
    written_by = f"exported-by-{__version__}"
    return Path(HF_ASSETS_CACHE) / "agit-hub" / written_by / f"{_digest(model)}-{kind}"


def _fastest(model: AGITModel, half: bool) -> Backend:
    if next(model.parameters()).device.type == "cpu":
        for format, package in _PACKAGES.items():
            if find_spec(package) is not None:
                folder = exported_folder(model, format, half)
                if _is_there(model, folder, format):
                    return ExportedBackend(model.config, folder, format, half)
    return TorchBackend(model, half=half)


def _is_there(model: AGITModel, folder: Path, format: Format) -> bool:
    names = [stem(model.config, label) + SUFFIX[format] for label in model.config.labels]
    return all((folder / name).is_file() for name in names)


def _digest(model: AGITModel) -> str:
    found = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True).encode())
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:32]
