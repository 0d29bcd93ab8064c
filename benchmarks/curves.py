"""Draws docs/training.png: when attention to horses emerges, in trials and in the recipe's seeds.

python -m benchmarks.curves
"""

import json
from pathlib import Path

from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
TRIALS = RESULTS / "horse2zebra_small_trials"
# Trials: file, label, colour.
_TRIALS = (
    ("floor-0.03-seed0", "floor 0.03, attention as slow as generators, lambda 1, seed 0", "#b22222"),
    ("floor-0.1-seed0", "floor 0.1, as slow, seed 0", "#e08214"),
    ("floor-0.1-seed1", "floor 0.1, as slow, seed 1", "#e08214"),
    ("floor-0.1-seed2", "floor 0.1, as slow, seed 2 (stopped)", "#e08214"),
    ("sizes-in-training-seed1", "the same, averaged over sizes in training, seed 1 (stopped)", "#8073ac"),
    ("floor-of-squares-seed1", "floor 0.1 of the mean square, seed 1 (stopped)", "#777777"),
)  # fmt: skip


_METRICS = {"mean": "mean of horses' maps", "binary": "share of their pixels near 0 or 1"}


def main() -> None:
    figure = Figure(figsize=(9, 5), layout="constrained")
    recipe = sorted((RESULTS / "horse2zebra_small").glob("agit-seed?.jsonl"))
    for axes, (metric, metric_label) in zip(figure.subplots(1, 2), _METRICS.items(), strict=True):
        for name, label, colour in _TRIALS:
            curve = _curve(TRIALS / f"{name}.jsonl", metric)
            axes.plot(*curve, color=colour, linewidth=1.2, label=label)
        for file in recipe:
            first = f"the recipe: faster attention, {len(recipe)} seeds"
            curve = _curve(file, metric)
            axes.plot(
                *curve, color="#1b7837", linewidth=1.8, label=first if file is recipe[0] else None
            )
        axes.set(xlabel="optimiser step", ylabel=metric_label)
        axes.set_ylim(bottom=-0.01)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, frameon=False, fontsize="small", loc="outside lower center", ncols=2
    )
    figure.savefig(RESULTS.parent / "training.png", dpi=110)


def _curve(file: Path, metric: str) -> tuple[list[int], list[float]]:
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [line["step"] for line in lines], [line[f"attention/source/{metric}"] for line in lines]


if __name__ == "__main__":
    main()
