"""The course of attention over a run, as a picture for its card."""

from pathlib import Path

from matplotlib.figure import Figure

from agit_hub.runs import RunRecord

_COLOURS = {"source": "#1f77b4", "target": "#d95f02"}


def plot_attention(run: RunRecord, path: Path) -> None:
    """Draw mean and area of both maps over the steps, with the switch where there was one."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    steps = [line["step"] for line in run.curve]
    for side, label in zip(_COLOURS, run.labels, strict=True):
        mean = [line[f"attention/{side}/mean"] for line in run.curve]
        area = [line[f"attention/{side}/area"] for line in run.curve]
        axes.plot(steps, mean, color=_COLOURS[side], label=f"{label}: mean of the map")
        axes.plot(
            steps,
            area,
            color=_COLOURS[side],
            linestyle=":",
            label=f"{label}: share at or above tau",
        )
    switched = [line["step"] for line in run.curve if line["switched"]]
    if switched:
        axes.axvline(switched[0], color="grey", linewidth=1, label="the switch")
    axes.set(xlabel="optimiser step", ylim=(-0.02, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize="small", loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=120)
