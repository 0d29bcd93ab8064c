"""What a run says before its first step."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator

from agit_hub.models.agit import AGITModel
from agit_hub.training.precision import bf16_advice, bf16_gain
from agit_hub.training.setup import Start

# Steps from which on a run is long enough to measure what would make it shorter.
_LONG = 500


def run_summary(
    start: Start, folder: Path, steps: tuple[int, int], model: AGITModel, accelerator: Accelerator
) -> Iterator[str]:
    """What lies ahead, what is read, and what would be faster here.

    Args:
        start: What the run begins with.
        folder: Where it is kept.
        steps: Those behind it, and those of the whole run.
        model: Its networks, on their device.
        accelerator: What it runs on.
    """
    config, (done, total) = start.config, steps
    labels, device = config.model, accelerator.device
    source, target = (side.domain.length or "uncounted" for side in (start.source, start.target))
    verb = f"Resuming at step {done} of" if done else "Training for"
    yield (
        f"{verb} {total} steps on {source} {labels.source_label} and {target} {labels.target_label} "
        f"pictures; {accelerator.num_processes} process(es) on {device.type}, mixed_precision "
        f"{config.train.mixed_precision}. Run folder: {folder}"
    )
    yield f"{labels.source_label}: {start.source.summary}"
    yield f"{labels.target_label}: {start.target.summary}"
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    if device.type == "cpu" and accelerator.num_processes == 1 and threads < cores:
        yield (
            f"Only {threads} of {cores} cores are in use: with accelerate launch, "
            f"--num_cpu_threads_per_process {cores} takes them all."
        )
    if config.train.mixed_precision == "no" and total >= _LONG and accelerator.is_main_process:
        size = config.crop_size
        pictures = torch.zeros(config.train.batch_size, 3, size, size, device=device)
        advice = bf16_advice(bf16_gain(model.generator_st, pictures))
        if advice is not None:
            yield advice
