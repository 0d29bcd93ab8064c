"""The trainer: loads data and networks, runs the training loop, saves and resumes checkpoints."""

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from agit_hub.backends.compiler import check_compiler
from agit_hub.data.loader import UnpairedLoader
from agit_hub.errors import ConfigError, DatasetError, RunError
from agit_hub.models.agit import AGITModel
from agit_hub.models.ema import MovingAverage
from agit_hub.run_page.status import State
from agit_hub.runs import RunFolder, checkpoint_path
from agit_hub.training import checkpoint
from agit_hub.training.callbacks.base import Callback, TrainerState
from agit_hub.training.callbacks.logs import LogCallback, SampleGridCallback
from agit_hub.training.callbacks.push import PushCallback
from agit_hub.training.callbacks.run_page import RunPageCallback
from agit_hub.training.callbacks.validation import ValidationCallback
from agit_hub.training.config import TrainConfig
from agit_hub.training.distributed import (
    HANDLED_ERRORS,
    StopVote,
    broadcast_weights,
    check_same_weights,
    configure_device,
    describe_machine,
    gather_to_first,
    make_accelerator,
    memory_format,
    on_first_rank,
    to_user_error,
)
from agit_hub.training.domain_labels import learn_domain_labels
from agit_hub.training.metrics import MetricLogger
from agit_hub.training.resume import Progress, TrainingState
from agit_hub.training.schedule import Schedule
from agit_hub.training.setup import base_model, build_networks, run_summary, setup_run
from agit_hub.training.signals import StopOnSignal, ignore_first_stop_signal, stop_signals_held
from agit_hub.training.step import Step

# Steps between checks of whether a postponed switch can happen; a hundredth of the run if shorter.
_POSTPONED_CHECK_STEPS = 25


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    step: int
    finished: bool
    """False if the run was interrupted, and saved, before its last step."""


class Trainer:
    """Train the generators and attention networks of both directions.

    ```python
    from agit_hub import Trainer
    from agit_hub.training.config_loader import parse

    config = parse(["--config", "shapes", "--output_dir", "runs/shapes"]).config
    outcome = Trainer(config).fit()
    ```

    Args:
        config: The run.
        resume: Continue from the newest checkpoint in the run folder, if there is one.

    Raises:
        ConfigError: If the settings or the run folder cannot be used.
        DataError: If a domain cannot be used.
        FetchError: If the network keeps failing.
        ModelLoadError: If `train.init_from` is not a usable model.
    """

    def __init__(self, config: TrainConfig, resume: bool = False) -> None:
        self._accelerator = make_accelerator(config)
        if config.train.torch_compile:
            check_compiler(self._accelerator.device.type)
        precision: Any = self._accelerator.mixed_precision
        config = replace(config, train=replace(config.train, mixed_precision=precision))
        self.run_folder = RunFolder(config.output_dir)
        try:
            self._set_up(config, resume)
        except BaseException:
            self.run_folder.unlock()
            raise

    def _set_up(self, config: TrainConfig, resume: bool) -> None:
        self._setup = on_first_rank(
            self._accelerator, lambda: setup_run(config, self.run_folder, resume)
        )
        self.config = config = self._setup.config
        self._loader = self._make_loader()
        # Webdataset shards are counted later, in whichever process reads them.
        self._counts = self._loader.counts
        steps_per_epoch = self._steps_per_epoch()
        self._schedule = Schedule(config.train, steps_per_epoch)
        self._metric_logger = MetricLogger(
            config, self.run_folder, self._schedule, steps_per_epoch, self._accelerator
        )
        device = self._accelerator.device
        configure_device(config.train, device)
        # Only the first process needs the model to start from, or reads the seed.
        warm = self._setup.checkpoint is None and self._accelerator.is_main_process
        networks = build_networks(config, warm)
        self._networks = networks.to(device).to(memory_format=memory_format(config.train))
        broadcast_weights(self._accelerator, self._networks)
        seed = config.train.seed + self._accelerator.process_index
        self._train_step = Step(self._networks, config.train, self._accelerator, pool_seed=seed)
        decay = config.train.ema_decay
        self._ema = MovingAverage(self._networks.model, decay) if decay else None
        if config.train.torch_compile:
            self._networks.compile_each(config.train.torch_compile_mode)
        self._validation: ValidationCallback | None = None
        self._callbacks = self._make_callbacks()
        self._switch_postponed = False
        self._vote = StopVote(self._accelerator)
        self._state = TrainerState(0, self._schedule.total_steps, self.published)
        self._resumable = TrainingState(
            self._accelerator,
            {
                "training": self._train_step,
                "ema": self._ema,
                "schedule": self._schedule,
                "scaler": self._accelerator.scaler,
                "validation": self._validation,
            },
            self._train_step.pools,
            self._metric_logger,
            self._counts,
            [each.masks and each.masks.found for each in (self._setup.source, self._setup.target)],
        )
        self._resumed: Progress | None = None
        if self._setup.checkpoint is not None:
            self._resumed = self._resumable.load(self._setup.checkpoint)
            self._state.step = self._resumed.step
            self._switch_postponed = self._resumed.switch_postponed

    @property
    def published(self) -> AGITModel:
        """The networks to publish: their moving average, if `train.ema_decay` is set."""
        return self._ema.model if self._ema is not None else self._networks.model

    def fit(self) -> Outcome:
        """Train to the last step, or until Ctrl-C or SIGTERM, which save a checkpoint first.

        Raises:
            RunError: If a loss is not finite, memory runs out, a file cannot be written, images become
                unavailable, or another process dies.
        """
        try:
            with StopOnSignal() as signals, self._metric_logger.open(self._state.step):
                self._log_summary()
                return self._train(signals)
        except HANDLED_ERRORS as error:
            if isinstance(error, DatasetError):
                self._save_after_error()
            rank, message = self._accelerator.process_index, self.last_checkpoint_message()
            user_error = to_user_error(error, self.config, self._state.step, rank, message)
            self._end("failed", str(user_error))
            if user_error is error:
                raise
            raise user_error from error
        finally:
            self.run_folder.unlock()

    def last_checkpoint_message(self) -> str:
        """Return a sentence that names the newest checkpoint, to append to an error message."""
        return self._metric_logger.last_checkpoint_message()

    def _train(self, signals: StopOnSignal) -> Outcome:
        train, state = self.config.train, self._state
        batches = self._loader.crops(
            state.step * train.gradient_accumulation_steps * train.discriminator_updates,
            self._metric_logger.record_unreadable,
        )
        if state.step == 0 and train.attention_warmup_steps:
            self._warm_up_attention()
        for callback in self._callbacks:
            callback.on_train_begin(state)
        while state.step < state.total_steps and not state.is_last:
            self._switch_if_due()
            batches_of_step, *further_batches = [
                [next(batches) for _ in range(train.gradient_accumulation_steps)]
                for _ in range(train.discriminator_updates)
            ]
            metrics = self._train_step(
                batches_of_step, self._schedule.phase(state.step), further_batches
            )
            if self._ema is not None:
                self._ema.update()
            state.step += 1
            self._metric_logger.update(state.step, metrics)
            state.is_last = state.step == state.total_steps
            state.should_save = state.step % train.checkpointing_steps == 0
            # The networks are compiled for training crops: other sizes would compile them again.
            with torch.compiler.set_stance("force_eager"):
                for callback in self._callbacks:
                    callback.on_step_end(state)
            stop = not state.is_last and self._vote(signals.requested)
            if state.should_save or state.is_last or stop:
                self._save()
                for callback in self._callbacks:
                    callback.on_save(state)
            if stop:
                message = (
                    f"Stopped at step {state.step} of {state.total_steps} and saved it in "
                    f"{self.run_folder.path}. Continue with the same command and --resume."
                )
                self._metric_logger.info(message)
                self._end("stopped", message)
                return Outcome(state.step, finished=False)
        for callback in self._callbacks:
            callback.on_train_end(state)
        self._end("finished", f"Finished after {state.step} steps.")
        return Outcome(state.step, finished=True)

    def _end(self, outcome: State, message: str) -> None:
        for callback in self._callbacks:
            callback.on_end(self._state, outcome, message)

    def _make_loader(self) -> UnpairedLoader:
        config, accelerator = self.config, self._accelerator
        return UnpairedLoader(
            (self._setup.source.domain, self._setup.target.domain),
            config.data,
            batch_size=config.train.batch_size,
            crop_size=config.crop_size,
            image_size=config.model.image_size,
            seed=config.train.seed,
            device=accelerator.device,
            rank=accelerator.process_index,
            processes=accelerator.num_processes,
            memory_format=memory_format(config.train),
            worker_init=ignore_first_stop_signal,
            starting=stop_signals_held,
        )

    def _make_callbacks(self) -> list[Callback]:
        config, folder, is_main = self.config, self.run_folder, self._accelerator.is_main_process
        callbacks: list[Callback] = []
        if config.eval.steps is not None:
            self._validation = ValidationCallback(
                config, folder, self._metric_logger, self._accelerator
            )
            callbacks.append(self._validation)
        callbacks.append(LogCallback(self._metric_logger, config.log.steps))
        if is_main:
            callbacks.append(SampleGridCallback(config, folder, self._loader))
            callbacks.append(RunPageCallback(folder, self._metric_logger, config.log.steps))
        if config.hub.push_to_hub:
            callbacks.append(PushCallback(config.hub, folder, self._metric_logger, is_main))
        return callbacks

    def _steps_per_epoch(self) -> int:
        train = self.config.train
        if self._loader.epoch is None and self.config.data.pairing == "fixed":
            raise ConfigError(
                "data.pairing is fixed, and the images in webdataset shards are not counted in advance, "
                "so the pairs are not known: set --data.pairing random."
            )
        if train.steps_per_epoch is not None:
            return train.steps_per_epoch
        if self._loader.epoch is None:
            raise ConfigError(
                "train.steps_per_epoch is missing: the images in webdataset shards are not counted in "
                "advance, so set the number of steps in an epoch."
            )
        images = train.batch_size * train.gradient_accumulation_steps
        processes: int = self._accelerator.num_processes
        return math.ceil(self._loader.epoch / (images * processes))

    def _log_summary(self) -> None:
        if self._accelerator.is_main_process:
            counts = dict(zip(("source", "target"), self._counts, strict=True))
            facts = describe_machine(self._accelerator) | {"images": counts}
            self.run_folder.write_info(facts | base_model(self._setup, self.run_folder))
        for line in self.summary():
            self._metric_logger.info(line)

    def summary(self) -> Iterator[str]:
        """Yield what is said before training: length, images, what is left out, hardware."""
        state = self._state
        yield from run_summary(self._setup, state.step, state.total_steps, self._accelerator)
        yield from self._changed_length()
        if self._loader.summary is not None:
            yield self._loader.summary

    def _changed_length(self) -> Iterator[str]:
        """Say what another length does to the learning rate, which depends on it."""
        before, step, total = self._resumed, self._state.step, self._state.total_steps
        if before is not None and before.total_steps != total and step < total:
            yield (
                f"The run was {before.total_steps} steps long and is {total} now: the learning rate "
                f"continues at {self._schedule.phase(step).learning_rate:.3g}, as step {step} of {total} "
                "has it."
            )

    def _warm_up_attention(self) -> None:
        """Train attention on the domain labels, with samples that the run itself does not reach."""
        steps = self.config.train.attention_warmup_steps
        self._metric_logger.info(f"Training attention on the domain labels for {steps} steps.")
        images = self._loader.whole_images(self._metric_logger.record_unreadable)
        loss = learn_domain_labels(self._networks, images, steps, self._masked_batches())
        self._metric_logger.info(f"Attention is trained on the domain labels: loss {loss:.3f}.")
        for network in (self._networks.model.attention_s, self._networks.model.attention_t):
            broadcast_weights(self._accelerator, network)  # each has trained on its own samples

    def _masked_batches(self) -> int:
        """Return how many batches hold every image once, if some of them have masks."""
        if self._setup.source.masks is None and self._setup.target.masks is None:
            return 0
        return math.ceil((self._loader.epoch or 0) / self.config.train.batch_size)

    def _switch_if_due(self) -> None:
        step, total = self._state.step, self._state.total_steps
        if not self._schedule.is_switch_due(step):
            return
        # Each check waits for the device.
        if self._switch_postponed and step % min(_POSTPONED_CHECK_STEPS, 1 + total // 100):
            return
        self._metric_logger.check(step)
        collapses = self._metric_logger.collapse.collapses(step, patience=0)
        collapsed = " and ".join(f"{c.side} attention is {c.kind}" for c in collapses)
        if collapses and self.config.train.switch.on_collapse == "postpone":
            if not self._switch_postponed:
                self._metric_logger.info(
                    f"Step {step}: the switch is postponed while {collapsed}; frozen now, it would "
                    "remain so. (train.switch.on_collapse warn switches nevertheless.)"
                )
            self._switch_postponed = True
            return
        self._schedule.switch(step)
        warning = f", although {collapsed} and will remain so" if collapses else ""
        self._metric_logger.info(
            f"Step {step}: the switch. Discriminators see the attended region{warning}."
        )

    def _save(self) -> None:
        step, folder = self._state.step, self.run_folder
        self._metric_logger.check(step)
        self._check_weights()
        check_same_weights(self._accelerator, self._networks)
        ranks = gather_to_first(self._accelerator, checkpoint.pack(self._resumable.of_process()))
        progress = Progress(step, self._state.total_steps, self._switch_postponed)

        def write() -> None:
            shared = checkpoint.pack(self._resumable.of_all(progress))
            checkpoint.write_checkpoint(folder.checkpoints, step, shared, ranks)
            checkpoint.save_model(self.published, folder.model)
            checkpoint.rotate(folder.checkpoints, self.config.train.checkpoints_total_limit)

        on_first_rank(self._accelerator, write)
        self._metric_logger.checkpoint = checkpoint_path(folder.checkpoints, step)
        # A process that exits while another one waits for it would abort that one.
        self._accelerator.wait_for_everyone()

    def _save_after_error(self) -> None:
        """Save a run whose images have become unavailable."""
        # With several processes the others have begun the next step.
        if self._accelerator.num_processes == 1 and self._state.step > 0:
            # If the disk is full too, the error about the images is the one to report.
            with suppress(OSError):
                self._save()

    def _check_weights(self) -> None:
        # The losses of a step are those of the weights before it.
        finite = [parameter.isfinite().all() for parameter in self._networks.parameters()]
        if not torch.stack(finite).all():
            raise RunError(
                f"Weights are not finite after step {self._state.step}: decrease "
                f"train.learning_rate, or set train.max_grad_norm.{self.last_checkpoint_message()}"
            )
