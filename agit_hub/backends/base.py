"""The networks behind a pipeline, whatever runs them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from agit_hub.backends.exportable import OUTPUTS, stem
from agit_hub.backends.runtimes import SUFFIX, Format, Session, open_session
from agit_hub.config import AGITConfig
from agit_hub.errors import BackendError
from agit_hub.models.agit import AGITModel
from agit_hub.models.generator import ResnetGenerator


class Backend(Protocol):
    """Runs both directions of a model."""

    name: str

    def __call__(self, pictures: Tensor, to: str | None) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) in [-1, 1], on the CPU -> attention and the generator's pictures, likewise."""


class TorchBackend:
    """PyTorch, on whatever device the model is.

    Args:
        model: In evaluation mode.
        compiled: Whether `torch.compile` makes kernels for it: that takes a C++ compiler and up to a
            minute for the first pictures of each size.
        half: Whether a GPU may run generators in 16 bits, but for their first three convolutions
            (see `exact`). Attention stays in 32, and a CPU, which gains nothing, throughout.
    """

    def __init__(self, model: AGITModel, compiled: bool = False, half: bool = False) -> None:
        self.name = "compile" if compiled else "torch"
        self._model = model
        self._half = half
        self._run: Callable[..., tuple[Tensor, Tensor]] = self._networks
        if compiled:
            self._run = torch.compile(self._networks, dynamic=True)

    @torch.inference_mode()
    def __call__(self, pictures: Tensor, to: str | None) -> tuple[Tensor, Tensor]:
        """As any backend."""
        device = next(self._model.parameters()).device
        with _tf32(self._half):
            attention, generated = self._run(pictures.to(device), to)
        return attention.float().cpu(), generated.float().cpu()

    def _networks(self, pictures: Tensor, to: str | None) -> tuple[Tensor, Tensor]:
        attention, generator = self._model.direction(to)
        device = pictures.device.type
        maps: Tensor = attention(pictures)
        if not self._half or device == "cpu":
            return maps, generator(pictures)
        return maps, in_half(generator, pictures)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Within the block a GPU's convolutions may round 32 bits to TF32, as by default, or may not."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def in_half(generator: nn.Module, pictures: Tensor) -> Tensor:
    """What a generator draws, with its encoder in 32 bits and all that follows in float16."""
    assert isinstance(generator, ResnetGenerator)
    encoded = generator.encode(pictures)
    with torch.autocast(pictures.device.type, torch.float16):
        return generator.decode(encoded, pictures)


class ExportedBackend:
    """Exported files of both directions, each opened when it is first wanted.

    Args:
        config: Of the model whose files they are.
        folder: Where they lie.
        format: Which they are.
        half: Whether they may reckon in 16 bits.
    """

    def __init__(self, config: AGITConfig, folder: Path, format: Format, half: bool) -> None:
        self.name: str = format
        self._config, self._folder, self._format, self._half = config, folder, format, half
        self._sessions: dict[str, Session] = {}

    def __call__(self, pictures: Tensor, to: str | None) -> tuple[Tensor, Tensor]:
        """As any backend."""
        goal = self._config.goal(to)
        if goal not in self._sessions:
            self._sessions[goal] = self._open(goal)
        attention, generated = self._sessions[goal](pictures.numpy(), OUTPUTS[1:])
        return torch.from_numpy(attention), torch.from_numpy(generated)

    def _open(self, goal: str) -> Session:
        path = self._folder / f"{stem(self._config, goal)}{SUFFIX[self._format]}"
        try:
            return open_session(path, self._half)
        except Exception as error:  # of several kinds, none of which the runtimes promise
            raise BackendError(
                f"{path} cannot be run ({str(error).strip()}): delete its folder, to have it written "
                "anew, or use the backend torch."
            ) from error
