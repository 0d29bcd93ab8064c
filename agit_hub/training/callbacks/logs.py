"""Log lines and sample grids."""

import io
import time

import torch
from PIL import Image
from torch import Tensor

from agit_hub.atomic import write_bytes
from agit_hub.data.loader import UnpairedLoader
from agit_hub.inference.image_processor import to_map, to_pil
from agit_hub.models.agit import AGITModel
from agit_hub.runs import RunFolder
from agit_hub.training.callbacks.base import Callback, TrainerState
from agit_hub.training.config import TrainConfig
from agit_hub.training.metrics import MetricLogger
from agit_hub.visualization import heat_map, labelled_grid


class LogCallback(Callback):
    """Log the metrics every `log.steps` steps, and at the end; and how long the first step took."""

    def __init__(self, metric_logger: MetricLogger, steps: int) -> None:
        self._metric_logger = metric_logger
        self._steps = steps
        self._began: float | None = None

    def on_train_begin(self, state: TrainerState) -> None:
        """Take the time."""
        self._began = time.monotonic()

    def on_step_end(self, state: TrainerState) -> None:
        """Log the metrics if due."""
        due = state.is_last or state.step % self._steps == 0
        if due:
            self._metric_logger.log(state.step)
        elif self._began is not None:  # otherwise minutes may pass without a word
            seconds, step = time.monotonic() - self._began, state.step
            following = min(step + self._steps - step % self._steps, state.total_steps)
            self._metric_logger.info(
                f"Step {step} is done, after {seconds:.1f} s; metrics follow at step {following}."
            )
        self._began = None


class SampleGridCallback(Callback):
    """Save a sample grid every `log.sample_steps` steps, and at the end, in the main process."""

    def __init__(self, config: TrainConfig, folder: RunFolder, loader: UnpairedLoader) -> None:
        self._config = config.log
        self._folder = folder
        self._loader = loader

    def on_step_end(self, state: TrainerState) -> None:
        """Save a grid if due."""
        if state.is_last or state.step % self._config.sample_steps == 0:
            self.save_grid(state)

    def save_grid(self, state: TrainerState) -> None:
        """Save a grid of the first images of both domains."""
        batch = self._loader.first_images(self._config.num_samples)
        buffer = io.BytesIO()
        sample_grid(state.model, batch.source, batch.target).save(buffer, format="PNG")
        write_bytes(self._folder.sample_grid(state.step), buffer.getbuffer())


@torch.inference_mode()
def sample_grid(model: AGITModel, source: Tensor, target: Tensor) -> Image.Image:
    """Translate images and draw a grid of input, attention, translation and reconstruction.

    Args:
        model: The networks.
        source: (N, 3, H, W) in [-1, 1], on the model's device.
        target: Likewise.

    Returns:
        A row for each pair: four columns for the source image and four for the target image.
    """
    model.eval()
    source_label, target_label = model.config.labels
    st, ts = model.source_to_target, model.target_to_source
    s_prime, t_prime = st(source), ts(target)
    s_cycle, t_cycle = ts(s_prime.image), st(t_prime.image)
    rows = [
        [
            *(to_pil(source[n]), heat_map(to_map(s_prime.attention[n]))),
            *(to_pil(s_prime.image[n]), to_pil(s_cycle.image[n])),
            *(to_pil(target[n]), heat_map(to_map(t_prime.attention[n]))),
            *(to_pil(t_prime.image[n]), to_pil(t_cycle.image[n])),
        ]
        for n in range(len(source))
    ]
    columns = [
        *(source_label, "attention", f"to {target_label}", "and back"),
        "",
        *(target_label, "attention", f"to {source_label}", "and back"),
    ]
    size = source.shape[-1]
    return labelled_grid(columns, rows, tile=size * max(1, round(128 / size)))
