"""The plot of attention over a run, for its card."""

from pathlib import Path

from matplotlib.figure import Figure

from agit_hub.runs import RunRecord

_COLOURS = {"source": "#1f77b4", "target": "#d95f02"}


def plot_attention(run: RunRecord, path: Path) -> None:
    """Plot mean and area of both maps over the steps, and mark the switch if there was one."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    steps = [line["step"] for line in run.curve]
    for (side, colour), label in zip(_COLOURS.items(), run.labels, strict=True):
        for name, style, words in (
            ("mean", "-", "mean of the map"),
            ("area", ":", "share at or above tau"),
        ):
            values = [line[f"attention/{side}/{name}"] for line in run.curve]
            axes.plot(steps, values, color=colour, linestyle=style, label=f"{label}: {words}")
    switched = [line["step"] for line in run.curve if line["switched"]]
    if switched:
        axes.axvline(switched[0], color="grey", linewidth=1, label="the switch")
    axes.set(xlabel="optimiser step", ylim=(-0.02, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize="small", loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=120)
