"""The backend protocol, and backends for PyTorch and for exported files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Protocol

import torch
from torch import Tensor

from agit_hub.backends.exportable import OUTPUTS, file_stem
from agit_hub.backends.mixed_precision import generate
from agit_hub.backends.runtimes import SUFFIX, Format, Session, open_session
from agit_hub.config import AGITConfig
from agit_hub.errors import BackendError
from agit_hub.models.agit import AGITModel

# Whether TF32 is allowed is a setting of the process, so threads take turns on a GPU.
_SETTING = Lock()


class Backend(Protocol):
    """Runs both directions of a model, for any number of threads at once."""

    name: str

    def __call__(self, images: Tensor, to: str | None) -> tuple[Tensor, Tensor]:
        """Return attention and generated images for (N, 3, H, W) in [-1, 1], all on the CPU."""


class TorchBackend:
    """PyTorch, on the model's device.

    Args:
        model: In evaluation mode.
        compiled: Whether to use `torch.compile`, which takes a C++ compiler and up to a minute for the
            first images of each size.
        dtype: `torch.float16` or `torch.bfloat16` for the generators except for their encoders (see
            `mixed_precision`). Attention is computed in the model's own dtype, usually float32.
    """

    def __init__(
        self, model: AGITModel, compiled: bool = False, dtype: torch.dtype = torch.float32
    ) -> None:
        self.name = "compile" if compiled else "torch"
        self._model = model
        self._dtype = dtype
        self._run: Callable[..., tuple[Tensor, Tensor]] = self._networks
        if compiled:
            self._run = torch.compile(self._networks, dynamic=True)

    @torch.inference_mode()
    def __call__(self, images: Tensor, to: str | None) -> tuple[Tensor, Tensor]:
        """Run one direction, as any backend."""
        weight = next(self._model.parameters())
        with _allow_tf32(self._dtype != torch.float32, weight.device.type):
            # The model's own dtype, which `model.half()` may have changed.
            attention, generated = self._run(images.to(weight.device, weight.dtype), to)
        return attention.float().cpu(), generated.float().cpu()

    def _networks(self, images: Tensor, to: str | None) -> tuple[Tensor, Tensor]:
        attention_network, generator = self._model.direction(to)
        attention: Tensor = attention_network(images)
        # In a model of 16 bits, autocast would mix two kinds of them.
        if self._dtype == torch.float32 or images.dtype != torch.float32:
            return attention, generator(images)
        return attention, generate(generator, images, self._dtype)


class ExportedBackend:
    """Exported files of both directions, each opened on first use.

    Args:
        config: The model's.
        folder: The folder of the files.
        format: Their format.
        dtype: The dtype they were exported with.
    """

    def __init__(
        self, config: AGITConfig, folder: Path, format: Format, dtype: torch.dtype = torch.float32
    ) -> None:
        self.name: str = format
        self._config, self._folder, self._format, self._dtype = config, folder, format, dtype
        self._sessions: dict[str, Session] = {}
        self._lock = Lock()

    def __call__(self, images: Tensor, to: str | None) -> tuple[Tensor, Tensor]:
        """Run one direction, as any backend."""
        goal = self._config.goal(to)
        with self._lock:
            if goal not in self._sessions:
                self._sessions[goal] = self._open(goal)
        attention, generated = self._sessions[goal](images.numpy(), OUTPUTS[1:])
        return torch.from_numpy(attention), torch.from_numpy(generated)

    def _open(self, goal: str) -> Session:
        path = self._folder / f"{file_stem(self._config, goal)}{SUFFIX[self._format]}"
        try:
            return open_session(path, self._dtype)
        except Exception as error:  # the runtimes document no exception types
            raise BackendError(
                f"{path} cannot be run ({str(error).strip()}): delete its folder to export it again, "
                "or use the backend torch."
            ) from error


@contextmanager
def _allow_tf32(allowed: bool, device_type: str) -> Iterator[None]:
    """Set whether a GPU's float32 convolutions may use TF32, PyTorch's default, within the block."""
    if device_type != "cuda":
        yield
        return
    with _SETTING:
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = allowed
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = before
