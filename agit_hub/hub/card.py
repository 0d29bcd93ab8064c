"""The model card: what a run can truthfully say of its model, and nothing else."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from agit_hub.evaluation.results import MetricResult
from agit_hub.runs import RunRecord

GRID = "samples.png"
PLOT = "attention.png"
# What a reader looks for, and is told of if it was not measured.
_EXPECTED = {
    "kid": "KID",
    "fid": "FID",
    "attention_iou": "attention IoU against true masks",
    "background_change": "change outside the object",
}
# How far from 0 or 1 the mean of a healthy map stays.
_COLLAPSED = 0.005


def build_card(run: RunRecord, repo: str, license_name: str, samples: bool) -> ModelCard:
    """Write the card of a run's model.

    Args:
        run: The run.
        repo: Under which name it is published.
        license_name: As the Hub spells it.
        samples: Whether pictures of the training set are shown, and so published.
    """
    template = resources.files("agit_hub.hub").joinpath("card.md.jinja").read_text(encoding="utf-8")
    source, target = run.labels
    data = ModelCardData(
        library_name="agit-hub",
        pipeline_tag="image-to-image",
        license=license_name,
        tags=["image-to-image", "unpaired", "attention", "gan", "agit-hub"],
        datasets=datasets(run) or None,
        model_name=repo.rpartition("/")[2],
        eval_results=[_result(entry) for entry in run.measurements] or None,
    )
    card: ModelCard = ModelCard.from_template(
        data,
        template_str=template,
        run=run,
        repo=repo,
        source=source,
        target=target,
        samples=samples and run.grid is not None,
        kept_back=not samples,
        grid=GRID,
        plot=PLOT if run.curve else None,
        pictures=_pictures(run),
        procedure=_procedure(run),
        health=_health(run),
        missing=_missing(run.measurements),
        settings=yaml.safe_dump(shareable(run.config), sort_keys=False, allow_unicode=True),
    )
    return card


def datasets(run: RunRecord) -> list[str]:
    """The Hub's datasets among what the run was trained on."""
    sides = (run.config["data"][side] for side in ("source", "target"))
    return list(dict.fromkeys(side["path"] for side in sides if side.get("revision")))


def shareable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without what tells of the person's own machine: folders keep their last name alone."""
    shared = {key: value for key, value in config.items() if key not in ("output_dir", "hub")}
    for section in ("data", "eval"):
        if section in shared:  # eval is younger than some runs
            sides = {side: _named(shared[section][side]) for side in ("source", "target")}
            shared[section] = {**shared[section], **sides}
    origin = shared["train"].get("init_from")
    if origin:
        shared["train"] = shared["train"] | {"init_from": Path(origin).name}
    return shared


def _named(domain: Mapping[str, Any]) -> dict[str, Any]:
    return {**domain, "path": _name_of(domain)}


def _name_of(domain: Mapping[str, Any]) -> str:
    path = str(domain["path"])
    return path if domain.get("revision") or path == "shapes" else Path(path).name


def _pictures(run: RunRecord) -> list[dict[str, str]]:
    """For each domain where its pictures come from, in words."""
    rows = []
    counts = run.machine.get("images", {})
    for side, label in zip(("source", "target"), run.labels, strict=True):
        domain = run.config["data"][side]
        kept = ("name", "split", "column", "label_column", "label_value", "data_dir")
        said = ", ".join(f"{key} `{domain[key]}`" for key in kept if domain.get(key) is not None)
        if domain.get("revision"):
            path = domain["path"]
            place = (
                f"[{path}](https://huggingface.co/datasets/{path}) at `{domain['revision'][:8]}`"
            )
        elif domain["path"] == "shapes":
            place = "the pictures built into agit-hub (`shapes`)"
        else:
            place = f"a folder of the author's, `{_name_of(domain)}`"
        count = counts.get(side)
        rows.append(
            {"label": label, "place": place, "said": said, "count": str(count or "not counted")}
        )
    return rows


_ON_FEATURES = "on the features of EfficientNet-Lite1, which was trained with ImageNet's labels"
_ATTENTION = {
    "network": "learned",
    "features": f"learned {_ON_FEATURES}",
    "ones": "fixed at 1 (CycleGAN)",
}
_DISCRIMINATORS = {"patch": "of patches, from nothing", "projected": _ON_FEATURES}


def _procedure(run: RunRecord) -> list[tuple[str, str]]:
    """What was trained, how and on what, as rows."""
    model, train = run.config["model"], run.config["train"]
    batch = train["batch_size"] * train["gradient_accumulation_steps"]
    processes = run.machine.get("processes", 1)
    warmup = train["lambda_cyc_warmup_steps"]
    rise = f", risen from 0 over {warmup} steps" if warmup else ""
    step, epoch = train["switch"]["step"], train["switch"]["epoch"]
    switch = next((f"step {line['step']:g}" for line in run.curve if line["switched"]), None)
    due = f"not reached (due at {f'step {step}' if step is not None else f'epoch {epoch}'})"
    never = "never" if step is None and epoch is None else due
    crop = run.config["data"].get("crop_size")
    squares = f", trained on squares of {crop}" if crop else ""
    rows = [
        ("size", f"{model['image_size']} x {model['image_size']} pixels{squares}"),
        ("generators", f"{model['channels']} channels, {model['blocks']} residual blocks"),
        ("attention", _ATTENTION[model["attention"]]),
        ("steps", f"{run.steps} of batch {batch * processes}, seed {train['seed']}"),
        ("Adam", f"learning rate {train['learning_rate']:g}, beta1 {train['adam_beta1']:g}"),
        ("cycle consistency", f"weight {train['lambda_cyc']:g}{rise}"),
        ("discriminators", _DISCRIMINATORS[train.get("discriminator", "patch")]),
        ("discriminators see the attended region from", f"{switch or never}"),
        (
            "weights",
            f"moving average, decay {train['ema_decay']:g}"
            if train["ema_decay"]
            else "the last step's",
        ),
        (
            "arithmetic",
            "fp32" if train["mixed_precision"] in (None, "no") else train["mixed_precision"],
        ),
    ]
    if run.machine:
        rows.append(("hardware", f"{processes} x {run.machine['device']}"))
        rows.append(("software", run.machine["software"]))
    if run.curve:
        minutes = run.seconds / 60
        spent = f"{minutes:.0f} minutes" if minutes >= 1.5 else f"{run.seconds:.0f} seconds"
        rows.append(("time", f"{spent} of training steps"))
    return rows


def _health(run: RunRecord) -> str:
    """A sentence on whether the maps survived."""
    if run.config["model"]["attention"] == "ones":
        return "This model has no attention networks: its map is 1 everywhere."
    if not run.curve:
        return "Not measured: the run has no log."
    means = [run.curve[-1][f"attention/{side}/mean"] for side in ("source", "target")]
    figures = ", ".join(
        f"{mean:.3f} on {label} pictures" for mean, label in zip(means, run.labels, strict=True)
    )
    fallen = [
        label
        for mean, label in zip(means, run.labels, strict=True)
        if not _COLLAPSED < mean < 1 - _COLLAPSED
    ]
    verdict = f" **Attention on {' and '.join(fallen)} pictures has collapsed.**" if fallen else ""
    return f"Mean of the map over the last logged steps: {figures}.{verdict}"


def _missing(measurements: list[MetricResult]) -> str:
    measured = {entry.metric for entry in measurements}
    return ", ".join(title for metric, title in _EXPECTED.items() if metric not in measured)


def _result(entry: MetricResult) -> EvalResult:
    return EvalResult(
        task_type="image-to-image",
        task_name=f"Unpaired translation, {entry.direction}",
        dataset_type=entry.dataset.split(" ")[0],
        dataset_name=entry.dataset,
        dataset_split=entry.split,
        metric_type=entry.metric,
        metric_name=f"{entry.title}; {entry.protocol}",
        metric_value=round(entry.value, 6),
        dataset_config=entry.direction,
    )
