"""The plot of attention over a run, for its card."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure

from agit_hub.fonts import Lettering, lettering
from agit_hub.runs import RunRecord

_COLOURS = {"source": "#1f77b4", "target": "#d95f02"}


def plot_attention(run: RunRecord, path: Path) -> None:
    """Plot mean and area of both maps over the steps, and mark the switch if there was one."""
    labels = [lettering(label, 12) for label in run.labels]
    with rc_context({"font.family": [*_families(labels), "sans-serif"]}):
        _plot(run, [each.text for each in labels], path)


def _families(labels: Sequence[Lettering]) -> Iterator[str]:
    """Make the fonts of labels known to matplotlib, and yield their names."""
    for label in labels:
        file = getattr(label.font, "path", None)
        if isinstance(file, str):  # not the one built into Pillow
            font_manager.fontManager.addfont(file)
            yield font_manager.FontProperties(fname=file).get_name()


def _plot(run: RunRecord, labels: Sequence[str], path: Path) -> None:
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    steps = [line["step"] for line in run.curve]
    threshold = run.config["train"]["attention_threshold"]
    for (side, colour), label in zip(_COLOURS.items(), labels, strict=True):
        for name, style, words in (
            ("mean", "-", "mean of the map"),
            ("area", ":", f"share of pixels at {threshold:g} or more"),
        ):
            values = [line[f"attention/{side}/{name}"] for line in run.curve]
            axes.plot(steps, values, color=colour, linestyle=style, label=f"{words}, {label}")
    switched = [line["step"] for line in run.curve if line["switched"]]
    if switched:
        axes.axvline(
            switched[0],
            color="grey",
            linewidth=1,
            label="discriminators see the attended region alone",
        )
    axes.set(xlabel="optimiser step", ylim=(-0.02, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    legend = figure.legend(frameon=False, fontsize="small", loc="outside lower center", ncols=2)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a dollar in a label is no formula
    figure.savefig(path, dpi=120)
