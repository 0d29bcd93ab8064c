"""The model card, written from the contents of the run folder alone."""

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from agit_hub.errors import InputPathError
from agit_hub.evaluation.results import MetricResult, results_tables
from agit_hub.hub.escape import code, fence, markdown, python
from agit_hub.runs import RunRecord

GRID = "samples.png"
PLOT = "attention.png"
# Metrics that readers look for; missing ones are listed.
_EXPECTED = {
    "kid": "KID",
    "fid": "FID",
    "attention_iou": "attention IoU against true masks",
    "background_change": "change outside the object",
}
# How close to 0 or 1 the mean of a map may get.
_COLLAPSED = 0.005
_ON_FEATURES = "on the features of EfficientNet-Lite1, which was trained with ImageNet's labels"
_ATTENTION = {
    "network": "learned",
    "features": f"learned {_ON_FEATURES}",
    "ones": "fixed at 1 (CycleGAN)",
}
_DISCRIMINATORS = {
    "patch": "of patches, trained from scratch",
    "projected": _ON_FEATURES,
    "mixed": f"{_ON_FEATURES}, with channels and depths mixed at random",
}


def build_card(
    run: RunRecord,
    repo: str,
    license_name: str,
    samples: bool,
    gallery: Mapping[str, str] | None = None,
    notes: str = "",
) -> ModelCard:
    """Build the card of a run's model.

    Args:
        run: The run.
        repo: The repo it is published in.
        license_name: As the Hub spells it.
        samples: Whether to show, and so publish, images of the training set.
        gallery: Images to show instead: file names by the label translated to.
        notes: Markdown to add.
    """
    template = resources.files("agit_hub.hub").joinpath("card.md.jinja").read_text(encoding="utf-8")
    source, target = run.labels
    sides = (run.config["data"][side] for side in ("source", "target"))
    datasets = list(dict.fromkeys(side["path"] for side in sides if side.get("revision")))
    measured = {result.metric for result in run.measurements}
    shown = [_escaped(result) for result in run.measurements]
    settings = yaml.safe_dump(shareable(run.config), sort_keys=False, allow_unicode=True)
    data = ModelCardData(
        library_name="agit-hub",
        pipeline_tag="image-to-image",
        license=license_name,
        tags=["image-to-image", "unpaired", "attention", "gan", "agit-hub"],
        datasets=datasets or None,
        model_name=repo.rpartition("/")[2],
        eval_results=[_eval_result(result) for result in run.measurements] or None,
    )
    card: ModelCard = ModelCard.from_template(
        data,
        template_str=template,
        run=run,
        repo=repo,
        source=source,
        target=target,
        samples=samples and run.grid is not None,
        gallery=gallery,
        notes=notes,
        grid=GRID,
        plot=PLOT if run.curve else None,
        datasets_used=_datasets_used(run),
        procedure=_procedure(run),
        attention=_attention_state(run),
        results=results_tables(shown),
        measurements=shown,
        missing=", ".join(title for name, title in _EXPECTED.items() if name not in measured),
        settings=settings,
        md=markdown,
        py=python,
        code=code,
        fence=fence,
    )
    return card


def read_notes(path: Path) -> str:
    """Read the notes to add to a card.

    Raises:
        InputPathError: If the file cannot be read as text.
    """
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputPathError(f"The notes {path} cannot be read as text: {error}") from error


def shareable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without paths of this machine: folders keep only their last name."""
    shared = {key: value for key, value in config.items() if key not in ("output_dir", "hub")}
    for section in ("data", "eval"):
        if section in shared:
            sides = {side: _public_domain(shared[section][side]) for side in ("source", "target")}
            shared[section] = {**shared[section], **sides}
    origin = shared["train"].get("init_from")
    if origin:
        shared["train"] = shared["train"] | {"init_from": Path(origin).name}
    return shared


def _public_domain(domain: Mapping[str, Any]) -> dict[str, Any]:
    public = {**domain, "path": _public_path(domain)}
    if domain.get("masks"):
        public["masks"] = Path(domain["masks"]).name
    return public


def _public_path(domain: Mapping[str, Any]) -> str:
    path = str(domain["path"])
    return path if domain.get("revision") or path == "shapes" else Path(path).name


def _datasets_used(run: RunRecord) -> list[dict[str, str]]:
    """Return a row for each domain: label, origin, settings and number of images."""
    rows = []
    counts = run.machine.get("images", {})
    for side, label in zip(("source", "target"), run.labels, strict=True):
        domain = run.config["data"][side]
        keys = ("name", "split", "column", "label_column", "label_value", "data_dir")
        settings = ", ".join(
            f"{key} {code(domain[key])}" for key in keys if domain.get(key) is not None
        )
        path = _public_path(domain)
        if domain.get("revision"):
            commit = domain["revision"][:8]
            page = f"https://huggingface.co/datasets/{quote(path)}"
            origin = f"[{markdown(path)}]({page}) at {code(commit)}"
        elif path == "shapes":
            origin = "the images built into agit-hub (`shapes`)"
        else:
            origin = f"a folder of the author's, {code(path)}"
        if settings:
            origin += f" ({settings})"
        if domain.get("masks"):
            origin += ", with masks of objects"
        count = str(counts.get(side) or "not counted")
        rows.append({"label": label, "origin": origin, "count": count})
    return rows


def _procedure(run: RunRecord) -> list[tuple[str, str]]:
    """Return the training procedure as rows."""
    model, train = run.config["model"], run.config["train"]
    processes = run.machine.get("processes", 1)
    batch = train["batch_size"] * train["gradient_accumulation_steps"] * processes
    ramp = train["lambda_cyc_warmup_steps"]
    ramped = f", risen from 0 over {ramp} steps" if ramp else ""
    warmup = train.get("attention_warmup_steps")
    masks = any(run.config["data"][side].get("masks") for side in ("source", "target"))
    labels = "labels and masks of some images" if masks else "labels alone"
    warmed_up = f", before the first step from the domain {labels}" if warmup else ""
    crop = run.config["data"].get("crop_size")
    squares = f", trained on squares of {crop}" if crop else ""
    ema, precision = train["ema_decay"], train["mixed_precision"]
    rows = [
        ("size", f"{model['image_size']} x {model['image_size']} pixels{squares}"),
        ("generators", f"{model['channels']} channels, {model['blocks']} residual blocks"),
        ("attention", _ATTENTION[model["attention"]] + warmed_up),
        ("steps", f"{run.steps} of batch {batch}, seed {train['seed']}"),
        ("Adam", f"learning rate {train['learning_rate']:g}, beta1 {train['adam_beta1']:g}"),
        ("cycle consistency", f"weight {train['lambda_cyc']:g}{ramped}"),
        ("structure loss", f"weight {train.get('lambda_structure', 0):g}"),
        ("discriminators", _DISCRIMINATORS[train.get("discriminator", "patch")]),
        ("discriminators see the attended region from", _switch(run)),
        ("weights", f"moving average, decay {ema:g}" if ema else "the last step's"),
        ("arithmetic", "fp32" if precision in (None, "no") else precision),
    ]
    if run.machine:
        rows.append(("hardware", f"{processes} x {markdown(run.machine['device'])}"))
        rows.append(("software", markdown(run.machine["software"])))
    if run.curve:
        minutes = run.seconds / 60
        spent = f"{minutes:.0f} minutes" if minutes >= 1.5 else f"{run.seconds:.0f} seconds"
        rows.append(("time", f"{spent} of training steps"))
    return rows


def _switch(run: RunRecord) -> str:
    """Return when discriminators started to see the attended region alone."""
    step, epoch = (run.config["train"]["switch"][key] for key in ("step", "epoch"))
    before = -1.0
    for line in run.curve:
        if line["switched"]:
            # A collapse of attention may have postponed it.
            in_time = step is not None and before < step <= line["step"]
            return f"step {step if in_time else line['step']:g}"
        before = line["step"]
    if step is None and epoch is None:
        return "never"
    return f"not reached (due at {f'step {step}' if step is not None else f'epoch {epoch}'})"


def _attention_state(run: RunRecord) -> str:
    """Return a sentence on whether the attention maps collapsed."""
    if run.config["model"]["attention"] == "ones":
        return "This model has no attention networks: its map is 1 everywhere."
    if not run.curve:
        return "Not measured: the run has no log."
    last = run.curve[-1]
    means = {
        label: last[f"attention/{side}/mean"]
        for side, label in zip(("source", "target"), map(markdown, run.labels), strict=True)
    }
    values = ", ".join(f"{mean:.3f} on {label} images" for label, mean in means.items())
    collapsed = [label for label, mean in means.items() if not _COLLAPSED < mean < 1 - _COLLAPSED]
    verdict = f" **Attention on {' and '.join(collapsed)} images has collapsed.**"
    return f"Mean of the map over the last logged steps: {values}.{verdict if collapsed else ''}"


def _escaped(result: MetricResult) -> MetricResult:
    """Return a result whose text Markdown shows as it is."""
    return replace(
        result,
        title=markdown(result.title),
        direction=markdown(result.direction),
        dataset=markdown(result.dataset),
        split=markdown(result.split),
        protocol=markdown(result.protocol),
    )


def _eval_result(result: MetricResult) -> EvalResult:
    return EvalResult(
        task_type="image-to-image",
        task_name=f"Unpaired translation, {result.direction}",
        dataset_type=(result.dataset.split() or ["unknown"])[0],
        dataset_name=result.dataset,
        dataset_split=result.split,
        metric_type=result.metric,
        metric_name=f"{result.title}; {result.protocol}",
        metric_value=round(result.value, 6),
        dataset_config=result.direction,
    )
