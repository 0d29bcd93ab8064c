"""What a person sees of a run: a bar on a terminal, lines in a log file."""

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tqdm import tqdm


class Progress:
    """A progress bar where there is a terminal, a line at every log step where there is none.

    Args:
        total: Optimiser steps of the whole run.
        done: Steps that an earlier part of the run has made.
        shown: False on all ranks but the first: nothing is printed.
    """

    def __init__(self, total: int, done: int, shown: bool) -> None:
        self._shown = shown
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=done,
            unit="step",
            dynamic_ncols=True,
            disable=not (shown and self._terminal),
        )
        self._total = total

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def advance(self) -> None:
        """Count one step."""
        self._bar.update()

    def report(self, step: int, figures: Mapping[str, float], seconds_left: float) -> None:
        """Show the figures of a log step."""
        g = (figures["loss/adversarial_st"] + figures["loss/adversarial_ts"]) / 2
        d = (figures["loss/discriminator_s"] + figures["loss/discriminator_t"]) / 2
        cycle = sum(figures.get(f"loss/cycle_{domain}", 0.0) for domain in "st") / 2
        attention = f"{figures['attention/source/mean']:.3f}/{figures['attention/target/mean']:.3f}"
        speed = f"{figures['images_per_second']:.1f}"
        if self._terminal:
            self._bar.set_postfix_str(
                f"G {g:.2f} D {d:.2f} cycle {cycle:.3f} attention {attention} {speed} images/s"
            )
        else:
            left = tqdm.format_interval(seconds_left)
            self.say(
                f"step {step}/{self._total}  G {g:.3f}  D {d:.3f}  cycle {cycle:.4f}  "
                f"attention {attention}  {speed} images/s  {left} left"
            )

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        if self._shown:
            tqdm.write(message, file=sys.stderr)
            sys.stderr.flush()
