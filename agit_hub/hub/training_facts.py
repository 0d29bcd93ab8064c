"""What a card states about the images and the training."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agit_hub.hub.escape import code, markdown
from agit_hub.runs import RunRecord

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


def public_path(domain: Mapping[str, Any]) -> str:
    """Return where a domain's images are, of a folder on this machine only its last name."""
    path = str(domain["path"])
    return path if domain.get("revision") or path == "shapes" else Path(path).name


def uses_masks(run: RunRecord) -> bool:
    """Return whether attention was trained towards masks of some images."""
    return any(run.config["data"][side].get("masks") for side in ("source", "target"))


def datasets_used(run: RunRecord) -> list[dict[str, str]]:
    """Return a row for each domain: label, origin, settings and number of images."""
    rows = []
    counts = run.machine.get("images", {})
    for side, label in zip(("source", "target"), run.labels, strict=True):
        domain = run.config["data"][side]
        keys = ("name", "split", "column", "label_column", "label_value", "data_dir")
        settings = ", ".join(
            f"{key} {code(domain[key])}" for key in keys if domain.get(key) is not None
        )
        path = public_path(domain)
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


def procedure(run: RunRecord) -> list[tuple[str, str]]:
    """Return the training procedure as rows."""
    model, train = run.config["model"], run.config["train"]
    processes = run.machine.get("processes", 1)
    batch = train["batch_size"] * train["gradient_accumulation_steps"] * processes
    ramp = train["lambda_cyc_warmup_steps"]
    ramped = f", risen from 0 over {ramp} steps" if ramp else ""
    crop = run.config["data"].get("crop_size")
    squares = f", trained on squares of {crop}" if crop else ""
    ema, precision = train["ema_decay"], train["mixed_precision"]
    rows = [
        ("size", f"{model['image_size']} x {model['image_size']} pixels{squares}"),
        ("generators", f"{model['channels']} channels, {model['blocks']} residual blocks"),
        ("attention", _ATTENTION[model["attention"]]),
        *_attention_warmup(run),
        *_first_weights(run),
        ("steps", f"{run.steps} of batch {batch}, seed {train['seed']}"),
        (
            "optimiser",
            f"Adam, learning rate {train['learning_rate']:g}, beta1 {train['adam_beta1']:g}",
        ),
        *_directions(run),
        ("cycle consistency", f"weight {train['lambda_cyc']:g}{ramped}"),
        ("structure loss", f"weight {train.get('lambda_structure', 0):g}"),
        ("discriminators", _DISCRIMINATORS[train.get("discriminator", "patch")]),
        ("discriminators see the attended region alone from", _switch(run)),
        ("weights", f"moving average, decay {ema:g}" if ema else "the last step's"),
        ("precision", "fp32" if precision in (None, "no") else precision),
    ]
    if run.machine:
        rows.append(("hardware", f"{processes} x {markdown(run.machine['device'])}"))
        rows.append(("software", markdown(run.machine["software"])))
    if run.curve:
        minutes = run.seconds / 60
        spent = f"{minutes:.0f} minutes" if minutes >= 1.5 else f"{run.seconds:.0f} seconds"
        rows.append(("time", f"{spent} of training steps"))
    return rows


def _attention_warmup(run: RunRecord) -> Iterator[tuple[str, str]]:
    """Yield how attention was trained before the first step, if it was."""
    steps = run.config["train"].get("attention_warmup_steps")
    guide = (
        "the labels and masks of some images"
        if uses_masks(run)
        else "the two labels as its only guide"
    )
    if steps:
        yield "attention alone", f"{steps} steps before the first, with {guide}"


def _directions(run: RunRecord) -> Iterator[tuple[str, str]]:
    """Yield which direction was trained, if not both."""
    trained = run.config["train"].get("directions", "both")
    if trained != "both":
        labels = run.labels if trained == "source_to_target" else run.labels[::-1]
        yield "direction", f"{' to '.join(map(markdown, labels))} alone; the other stayed as it was"


def _first_weights(run: RunRecord) -> Iterator[tuple[str, str]]:
    """Yield which model's weights the training began with, if with any."""
    base, init_from = run.machine.get("base_model"), run.config["train"].get("init_from")
    if base:
        page = f"https://huggingface.co/{quote(base)}"
        yield "began with the weights of", f"[{markdown(base)}]({page})"
    elif init_from:
        yield "began with the weights of", f"a model of the author's, {code(Path(init_from).name)}"


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
