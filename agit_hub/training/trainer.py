"""The trainer: data, networks, step and schedule put together, logged, saved and resumed."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import set_seed
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from agit_hub.data.domains import Domain, open_domain
from agit_hub.data.samples import RunPositions, Samples, UnpairedSamples, collate, load
from agit_hub.image_processor import from_bytes
from agit_hub.modeling import AGITModel
from agit_hub.training import checkpoint
from agit_hub.training.attention_health import SIDES, CollapseWatch, Side
from agit_hub.training.config import TrainConfig
from agit_hub.training.figures import Figures
from agit_hub.training.interrupt import Interrupt, leave_to_parent
from agit_hub.training.launch import make_accelerator
from agit_hub.training.progress import Progress
from agit_hub.training.run_folder import RunFolder, tracker_values
from agit_hub.training.sample_grid import sample_grid
from agit_hub.training.schedule import Schedule
from agit_hub.training.steps import Batch, Networks, Step
from agit_hub.training.warm_start import warm_start


class RunError(RuntimeError):
    """A run that cannot go on; its message says why and what is safe."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    step: int
    finished: bool
    """False if it was interrupted and saved before its last step."""


class Trainer:
    """Trains a pair of translators.

    Args:
        config: The whole run.
        resume: Go on from the newest checkpoint in the run folder, if there is one.

    Raises:
        ConfigError: If the settings or the run folder cannot be used.
        DataError: If a domain cannot be used.
    """

    def __init__(self, config: TrainConfig, resume: bool = False) -> None:
        self._accelerator = make_accelerator(config)
        precision: Any = self._accelerator.mixed_precision
        config = replace(config, train=replace(config.train, mixed_precision=precision))
        self.config = config
        self.folder = RunFolder(config.output_dir)
        self.folder.check(config, resume)
        newest = self.folder.newest_checkpoint() if resume else None

        size = config.model.image_size
        self._domains = self._open_domains()
        self._samples = UnpairedSamples(
            *self._domains,
            size,
            crop_margin=config.data.crop_margin,
            flip=config.data.flip,
            shuffle=config.data.pairing == "random",
            seed=config.train.seed,
        )
        self._schedule = Schedule(config.train, self._steps_per_epoch())
        patience = config.train.collapse_patience or max(200, self._schedule.total_steps // 10)
        self._watch = CollapseWatch(patience)

        set_seed(config.train.seed)
        networks = Networks(AGITModel(config.model), config.train.discriminator_channels)
        for attention in (networks.model.attention_s, networks.model.attention_t):
            if config.model.attention == "network":
                torch.nn.init.constant_(attention.head.bias, config.train.attention_bias)  # type: ignore[union-attr,arg-type]
        if config.train.init_from and newest is None:
            warm_start(networks, config.train.init_from)
        self._networks = networks.to(self._accelerator.device)
        rank = self._accelerator.process_index
        self._train_step = Step(
            self._networks, config.train, self._accelerator, pool_seed=config.train.seed + rank
        )
        self._ema: AveragedModel | None = None
        if config.train.ema:
            average = get_ema_multi_avg_fn(config.train.ema)
            self._ema = AveragedModel(self._networks.model, multi_avg_fn=average)  # type: ignore[no-untyped-call]
        self._since_log = Figures()
        self._bad_step = torch.tensor(-1, device=self._accelerator.device)
        self._unreadable: set[str] = set()
        self._postponed = False
        self.step = 0
        if newest is not None:
            self._load(newest)

    @property
    def published(self) -> AGITModel:
        """The networks as they would be pushed: averaged where EMA is on."""
        model = self._ema.module if self._ema is not None else self._networks.model
        assert isinstance(model, AGITModel)
        return model

    def fit(self) -> Outcome:
        """Train to the last step, or until Ctrl-C or SIGTERM, which save first.

        Raises:
            RunError: If a loss is not finite or memory runs out.
            SaveError: If something cannot be written.
        """
        total = self._schedule.total_steps
        main = self._accelerator.is_main_process
        if main:
            self.folder.write_config(self.config)
            self.folder.forget_metrics_after(self.step)
        names = self.config.log.tracker_names
        if names:
            self._accelerator.init_trackers("agit-hub", config=tracker_values(self.config))
        try:
            with Interrupt() as interrupt, Progress(total, self.step, shown=main) as self._progress:
                self._greet()
                return self._loop(total, interrupt)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            train, size = self.config.train, self.config.model.image_size
            raise RunError(
                f"Out of memory at step {self.step} with train.batch_size {train.batch_size} and "
                f"model.image_size {size}: lower either, or halve the batch and double "
                f"train.gradient_accumulation_steps.{self._what_is_safe()}"
            ) from error
        finally:
            if names:
                self._accelerator.end_training()

    def _loop(self, total: int, interrupt: Interrupt) -> Outcome:
        train, log = self.config.train, self.config.log
        batches = self._batches()
        self._clock = (time.perf_counter(), self.step)
        while self.step < total:
            self._switch_if_due()
            micro_batches = [next(batches) for _ in range(train.gradient_accumulation_steps)]
            self._note(self._train_step(micro_batches, self._schedule.phase(self.step)))
            if self._ema is not None:
                self._ema.update_parameters(self._networks.model)
            self.step += 1
            self._progress.advance()
            last = self.step == total
            if self.step % log.every == 0 or last:
                self._log()
            if self.step % log.samples_every == 0 or last:
                self._draw_samples()
            stop = not last and self._any_rank(interrupt.requested)
            if self.step % train.checkpoint_every == 0 or last or stop:
                self._save()
            if stop:
                self._progress.say(
                    f"Stopped at step {self.step} of {total} and saved {self.folder.path}. "
                    "Go on with the same command and --resume."
                )
                return Outcome(self.step, finished=False)
        return Outcome(self.step, finished=True)

    # Data

    def _open_domains(self) -> tuple[Domain, Domain]:
        data = self.config.data
        resized = round(self.config.model.image_size * data.crop_margin)
        source, target = (
            open_domain(d.path, d.name, resized) for d in (data.source, data.target)
        )
        return source, target

    def _steps_per_epoch(self) -> int:
        train = self.config.train
        pictures = train.batch_size * train.gradient_accumulation_steps
        return math.ceil(len(self._samples) / (pictures * self._accelerator.num_processes))

    def _batches(self) -> Iterator[Batch]:
        accelerator, train = self._accelerator, self.config.train
        positions = RunPositions(
            train.batch_size,
            rank=accelerator.process_index,
            processes=accelerator.num_processes,
            start=self.step * train.gradient_accumulation_steps,
        )
        for samples in load(self._samples, positions, self.config.data.workers, leave_to_parent):
            self._report_unreadable(samples)
            yield self._to_device(samples)

    def _to_device(self, samples: Samples) -> Batch:
        device = self._accelerator.device
        source, target = (
            from_bytes(pixels.to(device, non_blocking=True))
            for pixels in (samples.source, samples.target)
        )
        return Batch(source, target)

    def _report_unreadable(self, samples: Samples) -> None:
        for name in samples.unreadable:
            if name not in self._unreadable:
                self._unreadable.add(name)
                self._progress.say(
                    f"Skipped a picture that cannot be read ({len(self._unreadable)} so far): {name}"
                )

    # What happens beside the step

    def _greet(self) -> None:
        source, target = (len(domain) for domain in self._domains)
        verb = f"Resuming at step {self.step} of" if self.step else "Training for"
        self._progress.say(
            f"{verb} {self._schedule.total_steps} steps on {source} {self.config.model.source_label} and "
            f"{target} {self.config.model.target_label} pictures; {self._accelerator.num_processes} "
            f"process(es) on {self._accelerator.device.type}, precision "
            f"{self.config.train.mixed_precision}. Run folder: {self.folder.path}"
        )

    def _note(self, figures: dict[str, Tensor]) -> None:
        self._since_log.add_all(figures)
        losses = torch.stack([v for name, v in figures.items() if name.startswith("loss/")])
        is_first_bad = ~losses.isfinite().all() & (self._bad_step < 0)
        # On the device, so that no step waits for the answer; it is read where something is logged.
        self._bad_step = torch.where(is_first_bad, self.step, self._bad_step)

    def _stop_if_not_finite(self) -> None:
        worst = self._accelerator.reduce(self._bad_step.float(), reduction="sum")
        # -1 from every rank where all is well
        assert isinstance(worst, Tensor)
        if worst.item() > -self._accelerator.num_processes:
            raise RunError(
                f"A loss was not finite at step {int(self._bad_step.item())}: lower "
                "train.learning_rate, set train.clip_norm, or train in fp32 "
                f"(train.mixed_precision no).{self._what_is_safe()}"
            )

    def _switch_if_due(self) -> None:
        if not self._schedule.is_switch_due(self.step):
            return
        looks = self._watch.collapses(self.step, patience=0)
        sides = " and ".join(f"{c.side} attention is {c.kind}" for c in looks)
        if looks and self.config.train.switch.on_collapse == "postpone":
            if not self._postponed:
                self._progress.say(
                    f"Step {self.step}: the switch is postponed while {sides}; frozen now, it would "
                    "stay so. (train.switch.on_collapse warn switches all the same.)"
                )
            self._postponed = True
            return
        self._schedule.switch(self.step)
        warning = f", although {sides}: frozen now, it stays so" if looks else ""
        self._progress.say(
            f"Step {self.step}: the switch. Discriminators see the attended region from now on{warning}."
        )

    def _log(self) -> None:
        self._stop_if_not_finite()
        means = self._since_log.means()
        self._since_log = Figures()
        packed = self._accelerator.reduce(torch.stack(list(means.values())), reduction="mean")
        assert isinstance(packed, Tensor)
        figures = dict(zip(means, packed.tolist(), strict=True))
        phase = self._schedule.phase(self.step - 1)
        then, step_then = self._clock
        self._clock = (time.perf_counter(), self.step)
        per_second = (self.step - step_then) / max(self._clock[0] - then, 1e-9)
        pictures = 2 * self._pictures_per_step()
        figures |= {
            "learning_rate": phase.learning_rate,
            "lambda_cyc": phase.lambda_cyc,
            "switched": float(self._schedule.switched_at is not None),
            "epoch": self.step / self._steps_per_epoch(),
            "images_per_second": pictures * per_second,
        }
        attended: dict[Side, float] = {side: figures[f"attention/{side}/mean"] for side in SIDES}
        if self.config.model.attention == "network":
            for collapse in self._watch.observe(self.step, attended):
                self._progress.say(f"Step {self.step}: {collapse}")
        left = (self._schedule.total_steps - self.step) / per_second
        self._progress.report(self.step, figures, left)
        self._accelerator.log(figures, step=self.step)
        if self._accelerator.is_main_process:
            self.folder.append_metrics({"step": self.step, **figures})

    def _pictures_per_step(self) -> int:
        train = self.config.train
        return (
            train.batch_size * train.gradient_accumulation_steps * self._accelerator.num_processes
        )

    def _draw_samples(self) -> None:
        if not self._accelerator.is_main_process:
            return
        shown = UnpairedSamples(
            *self._domains, self.config.model.image_size, flip=False, shuffle=False
        )
        count = min(self.config.log.samples, *(len(domain) for domain in self._domains))
        batch = self._to_device(collate([shown[n] for n in range(count)]))
        grid = sample_grid(self.published, batch.source, batch.target)
        checkpoint.save_picture(grid, self.folder.samples / f"step-{self.step:08d}.png")

    def _any_rank(self, wish: bool) -> bool:
        if self._accelerator.num_processes == 1:
            return wish
        votes = torch.tensor(float(wish), device=self._accelerator.device)
        total = self._accelerator.reduce(votes, reduction="sum")
        assert isinstance(total, Tensor)
        return total.item() > 0

    # Saving and resuming

    def _save(self) -> None:
        self._stop_if_not_finite()
        path = checkpoint.checkpoint_path(self.folder.checkpoints, self.step)
        draft = checkpoint.unfinished(path)
        main = self._accelerator.is_main_process
        try:
            rank_file = draft / f"rank-{self._accelerator.process_index}.pt"
            checkpoint.write_state(rank_file, self._rank_state())
            if main:
                checkpoint.write_state(draft / "state.pt", self._shared_state())
            self._accelerator.wait_for_everyone()
            if main:
                checkpoint.publish(path)
                checkpoint.save_model(self.published, self.folder.model)
                checkpoint.rotate(self.folder.checkpoints, self.config.train.keep_checkpoints)
        except checkpoint.SaveError as error:
            checkpoint.discard(draft)
            raise RunError(f"{error}.{self._what_is_safe()}") from error
        self._accelerator.wait_for_everyone()

    def _shared_state(self) -> dict[str, Any]:
        scaler = self._accelerator.scaler
        return {
            "step": self.step,
            "processes": self._accelerator.num_processes,
            "training": self._train_step.state_dict(),
            "ema": self._ema.state_dict() if self._ema is not None else None,
            "schedule": self._schedule.state_dict(),
            "watch": self._watch.state_dict(),
            "postponed": self._postponed,
            "scaler": scaler.state_dict() if scaler is not None else None,
        }

    def _rank_state(self) -> dict[str, Any]:
        return {
            "pools": {d: pool.state_dict() for d, pool in self._train_step.pools.items()},
            "since_log": self._since_log.state_dict(),
            "unreadable": sorted(self._unreadable),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all(),
        }

    def _load(self, path: Path) -> None:
        shared = checkpoint.read_state(path / "state.pt")
        processes = self._accelerator.num_processes
        if shared["processes"] != processes:
            raise RunError(
                f"{path} was saved by {shared['processes']} process(es) and this run has {processes}: "
                f"resume with --num_processes {shared['processes']}."
            )
        own = checkpoint.read_state(path / f"rank-{self._accelerator.process_index}.pt")
        device = self._accelerator.device
        self.step = shared["step"]
        self._train_step.load_state_dict(shared["training"])
        if self._ema is not None:
            self._ema.load_state_dict(shared["ema"])
        self._schedule.load_state_dict(shared["schedule"])
        self._watch.load_state_dict(shared["watch"])
        self._postponed = shared["postponed"]
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(shared["scaler"])
        for direction, pool in self._train_step.pools.items():
            pool.load_state_dict(own["pools"][direction], device)
        self._since_log.load_state_dict(own["since_log"], device)
        self._unreadable = set(own["unreadable"])
        torch.set_rng_state(own["random"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(own["random_cuda"])

    def _what_is_safe(self) -> str:
        newest = self.folder.newest_checkpoint()
        return f" The checkpoint {newest} is safe." if newest else " No checkpoint had been saved yet."


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # On a CPU, torch raises a plain RuntimeError.
    return isinstance(error, RuntimeError) and "not enough memory" in str(error)
