"""The trainer: data, networks, step and schedule put together, saved and resumed."""

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from agit_hub.errors import ConfigError, DatasetError, RunError
from agit_hub.models.agit import AGITModel
from agit_hub.models.ema import MovingAverage
from agit_hub.training import checkpoint
from agit_hub.training.config import TrainConfig
from agit_hub.training.device import configure_device, memory_format
from agit_hub.training.distributed import (
    StopVote,
    describe_machine,
    gather_to_first,
    make_accelerator,
    on_first_rank,
)
from agit_hub.training.domain_labels import learn_domain_labels
from agit_hub.training.failures import EXPLAINED, to_user_error
from agit_hub.training.greeting import run_summary
from agit_hub.training.initial import build_networks
from agit_hub.training.loading import TrainingImages
from agit_hub.training.metrics import MetricLogger
from agit_hub.training.publisher import Publisher
from agit_hub.training.run_folder import RunFolder
from agit_hub.training.sample_grid import sample_grid
from agit_hub.training.schedule import Schedule
from agit_hub.training.setup import prepare, read_checkpoint
from agit_hub.training.signals import Interrupt
from agit_hub.training.step import Step
from agit_hub.training.validation import Validation

# Steps between two looks at the maps that postpone the switch, or a hundredth of a short run.
_LOOK_AGAIN = 25


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    step: int
    finished: bool
    """False if it was interrupted, and saved, before its last step."""


class Trainer:
    """Trains a pair of translators.

    Args:
        config: The whole run.
        resume: Go on from the newest checkpoint in the run folder, if there is one.

    Raises:
        ConfigError: If the settings or the run folder cannot be used.
        DataError: If a domain cannot be used.
        FetchError: If the network stays bad.
        ModelLoadError: If `train.init_from` is not a usable model.
    """

    def __init__(self, config: TrainConfig, resume: bool = False) -> None:
        self._accelerator = make_accelerator(config)
        precision: Any = self._accelerator.mixed_precision
        config = replace(config, train=replace(config.train, mixed_precision=precision))
        start = on_first_rank(self._accelerator, lambda: prepare(config, resume))
        self.config = config = start.config
        self.folder = RunFolder(config.output_dir)
        self._start = start
        device = self._accelerator.device
        domains = start.source.domain, start.target.domain
        self._images = TrainingImages(config, domains, self._accelerator)
        self._counts = self._images.counts
        steps_per_epoch = self._steps_per_epoch()
        self._schedule = Schedule(config.train, steps_per_epoch)
        self._journal = MetricLogger(
            config, self.folder, self._schedule, steps_per_epoch, self._accelerator
        )
        configure_device(config.train, device)
        networks = build_networks(config, warm=start.checkpoint is None)
        self._networks = networks.to(device).to(memory_format=memory_format(config.train))
        seed = config.train.seed + self._accelerator.process_index
        self._train_step = Step(self._networks, config.train, self._accelerator, pool_seed=seed)
        self._ema = (
            MovingAverage(self._networks.model, config.train.ema) if config.train.ema else None
        )
        self._publisher = (
            Publisher(config.hub, self.folder.path, self._journal.say)
            if config.hub.push_to_hub
            else None
        )
        if config.train.torch_compile:
            self._networks.compile_each(config.train.torch_compile_mode)
        self._validation = self._make_validation()
        self._postponed = False
        self._vote = StopVote(self._accelerator)
        self.step = 0
        if start.checkpoint is not None:
            self._load(start.checkpoint)

    @property
    def published(self) -> AGITModel:
        """The networks as they would be pushed: averaged where EMA is on."""
        return self._ema.model if self._ema is not None else self._networks.model

    def fit(self) -> Outcome:
        """Train to the last step, or until Ctrl-C or SIGTERM, which save first.

        Raises:
            RunError: If a loss is not finite, memory runs out, something cannot be written, pictures
                cannot be had any more, or another process has died.
        """
        on_first_rank(self._accelerator, self.folder.lock)
        try:
            with Interrupt() as interrupt, self._journal.open(self.step):
                self._greet()
                return self._loop(interrupt)
        except EXPLAINED as error:
            if isinstance(error, DatasetError):
                self._save_what_there_is()
            rank, safe = self._accelerator.process_index, self.last_checkpoint_message()
            explained = to_user_error(error, self.config, self.step, rank, safe)
            if explained is error:
                raise
            raise explained from error
        finally:
            self._journal.close()
            self.folder.unlock()

    def last_checkpoint_message(self) -> str:
        """A sentence naming the newest checkpoint, for the end of an error."""
        return self._journal.last_checkpoint_message()

    def _loop(self, interrupt: Interrupt) -> Outcome:
        train, total = self.config.train, self._schedule.total_steps
        batches = self._images.crops(
            self.step * train.gradient_accumulation_steps * train.discriminator_updates,
            self._journal.note_unreadable,
        )
        if self.step == 0 and train.attention_warmup_steps:
            self._warm_attention()
        # Resumed, it may have stopped before its last step already.
        ended = self.step < total and self._has_stopped_improving()
        while self.step < total and not ended:
            self._switch_if_due()
            first, *more = [
                [next(batches) for _ in range(train.gradient_accumulation_steps)]
                for _ in range(train.discriminator_updates)
            ]
            figures = self._train_step(first, self._schedule.phase(self.step), more)
            if self._ema is not None:
                self._ema.update()
            self.step += 1
            self._journal.note(self.step, figures)
            self._journal.advance()
            last = self.step == total
            # Kernels are made for training's squares: for other sizes one would wait anew.
            with torch.compiler.set_stance("force_eager"):
                last = ended = self._look(last)
            stop = not last and self._vote(interrupt.requested)
            publisher = self._publisher
            push = publisher is not None and publisher.is_due(self.step)
            if self.step % train.checkpoint_every == 0 or last or stop or push:
                self._save()
            if publisher is not None and push and not last and self._accelerator.is_main_process:
                publisher.push(self.step)
            if stop:
                self._journal.say(
                    f"Stopped at step {self.step} of {total} and saved it in {self.folder.path}. "
                    "Go on with the same command and --resume."
                )
                return Outcome(self.step, finished=False)
        if self._publisher is not None and self._accelerator.is_main_process:
            self._publisher.finish(self.step)
        return Outcome(self.step, finished=True)

    def _warm_attention(self) -> None:
        """Attention learns from the domains' labels, on samples far beyond the run's own."""
        steps = self.config.train.attention_warmup_steps
        self._journal.say(f"Attention learns from the domains' labels for {steps} steps.")
        loss = learn_domain_labels(
            self._networks, self._images.whole(self._journal.note_unreadable), steps
        )
        self._journal.say(f"It has learnt them: loss {loss:.3f}.")
        if self._accelerator.num_processes > 1:  # each has learnt from samples of its own
            model = self._networks.model
            for weight in (*model.attention_s.parameters(), *model.attention_t.parameters()):
                torch.distributed.broadcast(weight.data, src=0)

    def _look(self, last: bool) -> bool:
        """Measure, log and draw what is due after this step; return whether the run ends with it."""
        log = self.config.log
        if self._validation is not None and self._validation.is_due(self.step, last):
            self._journal.note_finding(self._validation.measure(self.published, self.step))
        last = last or self._has_stopped_improving()
        if self.step % log.every == 0 or last:
            self._journal.log(self.step)
        if self.step % log.samples_every == 0 or last:
            self._draw_samples()
        return last

    def _has_stopped_improving(self) -> bool:
        """Whether `eval.patience` has run out, which the first process decides for all of them."""
        every = self.config.eval.every
        # Between measurements nothing changes, and nothing need be sent.
        if self.config.eval.patience is None or every is None or self.step % every:
            return False
        validation = self._validation  # of the first process alone
        why = on_first_rank(
            self._accelerator, lambda: None if validation is None else validation.why_to_stop
        )
        if why is None:
            return False
        self._journal.say(f"Stopped at step {self.step} of {self._schedule.total_steps}: {why}")
        return True

    def _save_what_there_is(self) -> None:
        """Nothing of a run is lost when pictures cannot be had any more."""
        # The others of several processes have begun the next step: only a single one can save.
        if self._accelerator.num_processes == 1 and self.step > 0:
            # On a full disk too it is the pictures' trouble, and the checkpoint before, that are told.
            with suppress(OSError):
                self._save()

    def _steps_per_epoch(self) -> int:
        train = self.config.train
        if train.steps_per_epoch is not None:
            return train.steps_per_epoch
        if self._images.epoch is None:
            raise ConfigError(
                "train.steps_per_epoch is missing: webdataset shards are counted as they arrive, so "
                "say how many steps are an epoch."
            )
        pictures = train.batch_size * train.gradient_accumulation_steps
        processes: int = self._accelerator.num_processes
        return math.ceil(self._images.epoch / (pictures * processes))

    def _greet(self) -> None:
        if self._accelerator.is_main_process:
            pictures = dict(zip(("source", "target"), self._counts, strict=True))
            self.folder.write_facts(describe_machine(self._accelerator) | {"pictures": pictures})
        steps = self.step, self._schedule.total_steps
        model = self._networks.model
        # What it times are passes of its own, which no kernels are to be written for.
        with torch.compiler.set_stance("force_eager"):
            for line in run_summary(self._start, self.folder.path, steps, model, self._accelerator):
                self._journal.say(line)
        if self._images.summary is not None:
            self._journal.say(self._images.summary)

    def _switch_if_due(self) -> None:
        if not self._schedule.is_switch_due(self.step):
            return
        # Each look waits for the device.
        if self._postponed and self.step % min(_LOOK_AGAIN, 1 + self._schedule.total_steps // 100):
            return
        self._journal.look(self.step)
        looks = self._journal.watch.collapses(self.step, patience=0)
        sides = " and ".join(f"{c.side} attention is {c.kind}" for c in looks)
        if looks and self.config.train.switch.on_collapse == "postpone":
            if not self._postponed:
                self._journal.say(
                    f"Step {self.step}: the switch is postponed while {sides}; frozen now, it "
                    "would stay so. (train.switch.on_collapse warn switches all the same.)"
                )
            self._postponed = True
            return
        self._schedule.switch(self.step)
        warning = f", although {sides}: frozen now, it stays so" if looks else ""
        self._journal.say(
            f"Step {self.step}: the switch. Discriminators see the attended region{warning}."
        )

    def _make_validation(self) -> Validation | None:
        """On the first process alone, which holds what is published as all do."""
        made: list[Validation] = []
        if self.config.eval.every is not None:
            on_first_rank(
                self._accelerator, lambda: made.append(Validation(self.config, self.folder))
            )
        return made[0] if made else None

    def _draw_samples(self) -> None:
        if not self._accelerator.is_main_process:
            return
        batch = self._images.first(self.config.log.samples)
        grid = sample_grid(self.published, batch.source, batch.target)
        checkpoint.save_picture(grid, self.folder.samples / f"step-{self.step:08d}.png")

    def _save(self) -> None:
        self._journal.look(self.step)
        self._check_weights()
        ranks = gather_to_first(self._accelerator, checkpoint.pack(self._rank_state()))

        def write() -> None:
            shared = checkpoint.pack(self._shared_state())
            checkpoint.write_checkpoint(self.folder.checkpoints, self.step, shared, ranks)
            checkpoint.save_model(self.published, self.folder.model)
            checkpoint.rotate(self.folder.checkpoints, self.config.train.keep_checkpoints)

        on_first_rank(self._accelerator, write)
        self._journal.saved = checkpoint.checkpoint_path(self.folder.checkpoints, self.step)
        # A process that ends while another still listens to it takes that one down.
        self._accelerator.wait_for_everyone()

    def _check_weights(self) -> None:
        # A step's losses are those of the weights before it.
        finite = [parameter.isfinite().all() for parameter in self._networks.parameters()]
        if not torch.stack(finite).all():
            raise RunError(
                f"Weights are not finite after step {self.step}: lower train.learning_rate, or set "
                f"train.clip_norm.{self._journal.last_checkpoint_message()}"
            )

    def _shared_state(self) -> dict[str, Any]:
        scaler = self._accelerator.scaler
        return {
            "step": self.step,
            "processes": self._accelerator.num_processes,
            "pictures": self._counts,
            "training": self._train_step.state_dict(),
            "ema": self._ema.state_dict() if self._ema is not None else None,
            "schedule": self._schedule.state_dict(),
            "postponed": self._postponed,
            "scaler": scaler.state_dict() if scaler is not None else None,
            "journal": self._journal.shared_state(),
            "validation": self._validation.state_dict() if self._validation is not None else None,
        }

    def _rank_state(self) -> dict[str, Any]:
        return {
            "pools": {d: pool.state_dict() for d, pool in self._train_step.pools.items()},
            "journal": self._journal.rank_state(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all(),
        }

    def _load(self, path: Path) -> None:
        processes = self._accelerator.num_processes
        packed, ranks = on_first_rank(self._accelerator, lambda: read_checkpoint(path, processes))
        shared = checkpoint.unpack(packed)
        own = checkpoint.unpack(ranks[self._accelerator.process_index])
        self._journal.saved = path
        self._check_pictures(shared["pictures"])
        self.step = shared["step"]
        self._train_step.load_state_dict(shared["training"])
        if self._ema is not None:
            self._ema.load_state_dict(shared["ema"])
        self._schedule.load_state_dict(shared["schedule"])
        self._postponed = shared["postponed"]
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(shared["scaler"])
        for direction, pool in self._train_step.pools.items():
            pool.load_state_dict(own["pools"][direction], self._accelerator.device)
        self._journal.load_state(shared["journal"], own["journal"])
        if self._validation is not None and shared["validation"] is not None:
            self._validation.load_state_dict(shared["validation"])
        torch.set_rng_state(own["random"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(own["random_cuda"])

    def _check_pictures(self, before: list[int | None]) -> None:
        for side, then, count in zip(("source", "target"), before, self._counts, strict=True):
            if None not in (then, count) and then != count:
                raise ConfigError(
                    f"data.{side} had {then} pictures when this run was saved and has {count}: put "
                    "them back as they were, or begin anew in another --output_dir."
                )
