"""Networks on a GPU of Hugging Face's ZeroGPU, which is attached for one call at a time.

The app's own process never has a GPU: the package `spaces` patches torch so that CUDA seems available,
and runs decorated functions in a forked worker that has one. Its documentation recommends `.to("cuda")`
at startup, which moves tensors to every new worker's GPU. That suits models of many gigabytes, but works
only in the main thread before the launch, and users of this Space name models later. So models stay on
the CPU and the worker moves the one that it needs: tens of megabytes take milliseconds, and a forked
worker inherits them without a copy.

Arrays are sent to the worker and back instead of tensors: multiprocessing sends a tensor as a file
descriptor that stays open as long as the tensor is cached. Only the networks' inputs are sent, so that a
large image takes no more GPU time than a small one.
"""

import os
from collections.abc import Callable
from threading import Lock

import gradio as gr
import numpy as np
import numpy.typing as npt
import torch
from cachetools import LRUCache
from torch import Tensor

from agit_hub import AGITPipeline
from agit_hub.backends.base import TorchBackend
from agit_hub.errors import AgitError, BackendError
from agit_hub.models.agit import AGITModel
from agit_hub.models.loading_options import default_device

MODELS_KEPT = 3
# Short requests are scheduled earlier, long calls are cut off. Starting CUDA in a new worker takes most
# of the minimum. `spaces` multiplies durations by a factor of the card: 1 or 1.5.
MIN_SECONDS, MAX_SECONDS = 10, 60
SECONDS_PER_MEGAPIXEL = 10

Array = npt.NDArray[np.float32]
Result = tuple[Array, Array] | str
"""Attention and generated images, or an error message."""
Run = Callable[[str, Array, str | None], Result]
"""From a model's source, (N, 3, H, W) in [-1, 1] and a label."""


def gpu_duration(source: str, inputs: Array, to: str | None) -> int:
    """Return for how many seconds to request a GPU; `spaces` passes the arguments of the call."""
    megapixels = inputs.size / 3e6
    return min(MIN_SECONDS + round(SECONDS_PER_MEGAPIXEL * megapixels), MAX_SECONDS)


class ZeroGpu:
    """Runs models that are on the CPU on a GPU that is attached for one call.

    Args:
        gpu_decorator: Makes a function run in a process with a GPU.
    """

    def __init__(self, gpu_decorator: Callable[[Run], Run]) -> None:
        self._models = LRUCache[str, AGITModel](MODELS_KEPT)
        self._reset_lock()
        if hasattr(os, "register_at_fork"):  # not on Windows
            # A thread that holds the lock does not exist in a forked worker, so would never release it.
            os.register_at_fork(after_in_child=self._reset_lock)
        self._run = gpu_decorator(self._run_in_worker)

    def pipeline(self, source: str, model: AGITModel) -> AGITPipeline:
        """Return a pipeline whose networks run on the GPU.

        Args:
            source: The folder or repo that the model was loaded from.
            model: On the CPU.
        """
        with self._lock:
            self._models[source] = model
        return AGITPipeline(model, _ZeroGpuBackend(self._run, source))

    def _reset_lock(self) -> None:
        self._lock = Lock()

    def _run_in_worker(self, source: str, inputs: Array, to: str | None) -> Result:
        """Run a model; errors are returned, because `spaces` passes on only an exception's class."""
        try:
            model = self._load(source).to(default_device())
            attention, generated = TorchBackend(model)(torch.from_numpy(inputs), to)
        except (AgitError, ValueError) as error:
            return str(error)
        except torch.OutOfMemoryError:
            height, width = inputs.shape[-2:]
            return f"The GPU has not enough memory for this model at {width} x {height} pixels."
        # Other errors may have broken CUDA in this worker: when they are raised, `spaces` starts another.
        return attention.numpy(), generated.numpy()

    def _load(self, source: str) -> AGITModel:
        with self._lock:
            if (model := self._models.get(source)) is not None:
                return model
        # It was loaded after this worker was forked, so its files are in the cache.
        model = AGITModel.from_pretrained(source, local_files_only=True)
        with self._lock:
            self._models[source] = model
        return model


class _ZeroGpuBackend:
    """A pipeline's backend that calls a worker."""

    name = "zerogpu"

    def __init__(self, run: Run, source: str) -> None:
        self._run, self._source = run, source

    def __call__(self, images: Tensor, to: str | None) -> tuple[Tensor, Tensor]:
        """Run one direction, as any backend.

        Raises:
            BackendError: If the worker failed.
            gr.Error: If no GPU is available; the message is the platform's.
        """
        try:
            result = self._run(self._source, images.numpy(), to)
        except gr.Error as error:
            name = str(error.message)
            if not name.isidentifier():
                raise
            # The class of an exception; its traceback is in the log.
            raise BackendError(
                f"The GPU worker stopped with an error ({name}); try again."
            ) from error
        if isinstance(result, str):
            raise BackendError(result)
        attention, generated = map(torch.from_numpy, result)
        return attention, generated
