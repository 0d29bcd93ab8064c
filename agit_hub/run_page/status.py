"""How far a run is, and how it does: `status.json` in its folder."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from agit_hub.atomic import write_bytes
from agit_hub.runs import RunFolder

State = Literal["running", "finished", "stopped", "failed", "unknown"]


@dataclass(frozen=True)
class RunStatus:
    """Progress of a run at its last log step, or how it ended."""

    state: State
    step: int
    total_steps: int | None = None
    message: str = ""
    """How it ended: a sentence."""
    warnings: Sequence[str] = ()
    """What is wrong with the attention maps or the translations."""
    judged_after: int | None = None
    """Steps that a map must stay empty or full to count as collapsed."""
    images_per_second: float | None = None
    seconds_left: float | None = None
    interval: float | None = None
    """Seconds between the last two updates."""
    updated: float = field(default_factory=time.time)
    """Seconds since 1970."""


def write_status(run: RunFolder, status: RunStatus) -> None:
    """Write the status of a run."""
    write_bytes(run.status_file, (json.dumps(asdict(status), indent=2) + "\n").encode())


def read_status(run: RunFolder) -> RunStatus:
    """Read the status of a run; of one without, such as an older one, what its metrics tell."""
    try:
        content: Mapping[str, Any] = json.loads(run.status_file.read_text(encoding="utf-8"))
        return RunStatus(**content)
    except (OSError, ValueError, TypeError):
        metrics = run.read_metrics()
        step = int(metrics[-1]["step"]) if metrics else 0
        return RunStatus("unknown", step, updated=_last_change(run))


def _last_change(run: RunFolder) -> float:
    files = (run.metrics_file, run.config_file)
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)
