"""Selection of a pipeline's backend: the requested one, or the fastest whose files exist."""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub.constants import HF_ASSETS_CACHE

from agit_hub import __version__
from agit_hub.backends.base import Backend, ExportedBackend, TorchBackend
from agit_hub.backends.compiler import check_compiler
from agit_hub.backends.export import export
from agit_hub.backends.exportable import file_stem
from agit_hub.backends.runtimes import SUFFIX, Format
from agit_hub.config import suggest
from agit_hub.environment import require
from agit_hub.errors import BackendError
from agit_hub.models.agit import AGITModel

BackendName = Literal["auto", "torch", "compile", "onnx", "openvino"]

# The fastest first, as measured on CPUs by benchmarks.inference.
_PACKAGES: dict[Format, str] = {"openvino": "openvino", "onnx": "onnxruntime"}
_NAMES = ("auto", "torch", "compile", *_PACKAGES)


def choose_backend(
    model: AGITModel, name: str = "auto", dtype: torch.dtype = torch.float32
) -> Backend:
    """Return the backend that runs a model.

    Args:
        model: In evaluation mode, on its device.
        name: `torch`; `compile`; `onnx` or `openvino`, whose files are exported now unless they exist,
            which takes half a minute; `auto` is the fastest of those two whose files and package exist,
            and otherwise, or on any device but the CPU, `torch`.
        dtype: `torch.float16` runs most of the generators in 16 bits, as does `torch.bfloat16`, which
            `onnx` and `openvino` do not support.

    Raises:
        BackendError: If the backend is unknown, does not support the dtype, or lacks a package or a
            compiler.
        InputPathError: If files are exported and the cache cannot be written to.
        ExportError: If the exported files do not match the model.
    """
    if name not in _NAMES:
        raise BackendError(
            f"Unknown backend {name!r}: use {', '.join(_NAMES)}.{suggest(name, list(_NAMES))}"
        )
    supported = [torch.float32, torch.float16]
    if name not in _PACKAGES:
        supported.append(torch.bfloat16)
    if dtype not in supported:
        names = ", ".join(map(str, supported))
        raise BackendError(f"The backend {name} does not support {dtype}: use {names}.")
    if name == "auto":
        return _fastest(model, dtype)
    if name == "compile":
        check_compiler(next(model.parameters()).device.type)
    if name in ("torch", "compile"):
        return TorchBackend(model, name == "compile", dtype)
    format: Format = "onnx" if name == "onnx" else "openvino"
    require(_PACKAGES[format])
    folder = exported_folder(model, format, dtype)
    if not _is_exported(model, folder, format):
        list(export(model, folder, format, dtype))
    return ExportedBackend(model.config, folder, format, dtype)


def exported_folder(model: AGITModel, format: Format, dtype: torch.dtype = torch.float32) -> Path:
    """Return the folder, in the Hub's assets cache, of files exported from these very weights."""
    kind = format if dtype == torch.float32 else f"{format}-float16"
    version = f"exported-by-{__version__}"
    return Path(HF_ASSETS_CACHE) / "agit-hub" / version / f"{_digest(model)}-{kind}"


def _fastest(model: AGITModel, dtype: torch.dtype) -> Backend:
    if next(model.parameters()).device.type == "cpu" and dtype != torch.bfloat16:
        for format, package in _PACKAGES.items():
            if find_spec(package) is not None:
                folder = exported_folder(model, format, dtype)
                if _is_exported(model, folder, format):
                    return ExportedBackend(model.config, folder, format, dtype)
    return TorchBackend(model, dtype=dtype)


def _is_exported(model: AGITModel, folder: Path, format: Format) -> bool:
    names = [file_stem(model.config, label) + SUFFIX[format] for label in model.config.labels]
    return all((folder / name).is_file() for name in names)


def _digest(model: AGITModel) -> str:
    digest = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        # As bytes: NumPy has no bfloat16.
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]
