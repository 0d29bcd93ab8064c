"""Networks on a GPU that is borrowed for one call at a time, as Hugging Face's ZeroGPU lends it.

There the app's own process never has a GPU. The package `spaces` patches torch so that it says there is
one, and runs what it decorates in a forked worker, which has. Two ways lead there:

- `.to("cuda")` when the app starts, as ZeroGPU's documentation has it. The patch keeps such tensors on
  the CPU, writes them to disk when the app is launched, and puts them on the GPU of each new worker. That
  pays for models of many gigabytes. But it works in the main thread and before the launch alone: a model
  that a visitor names is loaded in a thread of Gradio's, where `.to("cuda")` asks for a driver and there
  is none; and what was written once is moved into every later worker, wanted or not.
- Models wait on the CPU, and the worker moves the one that it needs. Ours are tens of megabytes: that
  takes milliseconds, a worker inherits them without a copy, and whenever they are loaded they go the same
  way. So it is done here.

Arrays go to the worker and come back, not tensors: multiprocessing sends a tensor as a file descriptor
that stays open for as long as the tensor is remembered. And only what the networks see is sent, so that a
large image takes no more of the borrowed time than a small one.
"""

from collections.abc import Callable

import gradio as gr
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agit_hub import AGITPipeline
from agit_hub.backends.base import TorchBackend
from agit_hub.errors import BackendError
from agit_hub.models.agit import AGITModel
from memory import Memory

MODELS_KEPT = 3
# Who asks for less is served earlier, who stays longer is cut off. A new worker has to start CUDA first,
# and that takes most of it. `spaces` multiplies this by a factor of the card: 1 or 1.5.
LEAST_SECONDS, MOST_SECONDS = 10, 60
SECONDS_PER_MEGAPIXEL = 10

Array = npt.NDArray[np.float32]
Answer = tuple[Array, Array] | str
"""Attention and the generator's images; or what went wrong, as a sentence."""
Ask = Callable[[str, Array, str | None], Answer]
"""From a model's place, (N, 3, H, W) in [-1, 1] and a label."""


def seconds(place: str, seen: Array, to: str | None) -> int:
    """For how long to borrow a GPU: `spaces` calls this with the arguments of the call itself.

    Returns:
        Seconds, by the pixels that the networks see: between `LEAST_SECONDS` and `MOST_SECONDS`.
    """
    megapixels = seen.size / 3e6
    return min(LEAST_SECONDS + round(SECONDS_PER_MEGAPIXEL * megapixels), MOST_SECONDS)


class BorrowedGpu:
    """Runs models that wait on the CPU on a GPU that is there for the call alone.

    Args:
        borrow: The decorator that makes a call run in a process with a GPU.
    """

    def __init__(self, borrow: Callable[[Ask], Ask]) -> None:
        self._models = Memory[AGITModel](MODELS_KEPT)
        self._ask = borrow(self._answer)

    def pipeline(self, place: str, model: AGITModel) -> AGITPipeline:
        """A pipeline whose networks run on the borrowed GPU.

        Args:
            place: The folder or repo from which the model was loaded.
            model: The model itself, on the CPU.
        """
        kept = self._models.get(place, lambda: model)
        return AGITPipeline(kept, _Borrowing(self._ask, place))

    def _answer(self, place: str, seen: Array, to: str | None) -> Answer:
        """What the worker does. `spaces` shows of an exception the name of its class and no more."""

        def load() -> AGITModel:
            # Loaded here after this worker was forked. The files are there: nothing is asked of the Hub.
            return AGITModel.from_pretrained(place, local_files_only=True)

        try:
            model = on_accelerator(self._models.get(place, load))
            attention, generated = TorchBackend(model)(torch.from_numpy(seen), to)
        except ValueError as error:
            return str(error)
        except torch.OutOfMemoryError:
            height, width = seen.shape[-2:]
            return f"The GPU has not enough memory for this model at {width} x {height} pixels."
        # Other errors may have broken CUDA in this worker: raised, they make `spaces` start another.
        return attention.numpy(), generated.numpy()


class _Borrowing:
    """A pipeline's backend that asks a worker.

    Args:
        ask: What is called.
        place: Of the model.
    """

    name = "torch"

    def __init__(self, ask: Ask, place: str) -> None:
        self._ask, self._place = ask, place

    def __call__(self, pictures: Tensor, to: str | None) -> tuple[Tensor, Tensor]:
        """As any backend.

        Raises:
            BackendError: If the worker could not do it.
            gr.Error: If no GPU was lent; its message is the platform's own.
        """
        try:
            answer = self._ask(self._place, pictures.numpy(), to)
        except gr.Error as error:
            name = str(error.message)
            if not name.isidentifier():
                raise
            # The class of an exception; its traceback is in the log.
            raise BackendError(
                f"The GPU worker stopped with an error ({name}); try again."
            ) from error
        if isinstance(answer, str):
            raise BackendError(answer)
        attention, generated = map(torch.from_numpy, answer)
        return attention, generated


def on_accelerator(model: AGITModel) -> AGITModel:
    """A model on this process's accelerator, or where it was if there is none."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return model if accelerator is None else model.to(accelerator)
