"""The model card, written from the contents of the run folder alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from agit_hub.evaluation.results import MetricResult, results_tables
from agit_hub.hub.escape import code, fence, markdown, python
from agit_hub.hub.gallery import Gallery
from agit_hub.hub.training_facts import datasets_used, procedure, public_path, uses_masks
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


def build_card(
    run: RunRecord,
    repo: str,
    license_name: str,
    samples: bool,
    gallery: Gallery | None = None,
    notes: str = "",
) -> ModelCard:
    """Build the card of a run's model.

    Args:
        run: The run.
        repo: The repo it is published in.
        license_name: As the Hub spells it.
        samples: Whether to show, and so publish, images of the training set.
        gallery: Images to show instead.
        notes: Markdown to add.
    """
    template = resources.files("agit_hub.hub").joinpath("card.md.jinja").read_text(encoding="utf-8")
    source, target = run.labels
    measured = {result.metric for result in run.measurements}
    shown = [_escaped(result) for result in run.measurements]
    settings = yaml.safe_dump(shareable(run.config), sort_keys=False, allow_unicode=True)
    card: ModelCard = ModelCard.from_template(
        _metadata(run, repo, license_name, gallery),
        template_str=template,
        run=run,
        repo=repo,
        source=source,
        target=target,
        attends=run.config["model"]["attention"] != "ones",
        masks=uses_masks(run),
        samples=samples and run.grid is not None,
        gallery=gallery,
        notes=notes,
        grid=GRID,
        plot=PLOT if run.curve else None,
        datasets_used=datasets_used(run),
        procedure=procedure(run),
        attention=_attention_state(run),
        results=results_tables(shown),
        measurements=_protocols(shown),
        missing=", ".join(title for name, title in _EXPECTED.items() if name not in measured),
        settings=settings,
        md=markdown,
        py=python,
        code=code,
        fence=fence,
    )
    return card


def file_url(repo: str, file: str = "") -> str:
    """Return the public address of a file of a repo's main branch, or of their folder."""
    return f"https://huggingface.co/{quote(repo)}/resolve/main/{quote(file)}"


def _metadata(
    run: RunRecord, repo: str, license_name: str, gallery: Gallery | None
) -> ModelCardData:
    """Return the front matter, which the Hub reads."""
    sides = (run.config["data"][side] for side in ("source", "target"))
    datasets = list(dict.fromkeys(side["path"] for side in sides if side.get("revision")))
    more: dict[str, Any] = {}
    if gallery is not None:
        labels = run.labels
        more["widget"] = [
            {
                "text": f"{labels[0] if example.to == labels[1] else labels[1]} to {example.to}",
                "src": example.input,
                "output": {"url": example.output},
            }
            for example in gallery.examples
        ]
        # The Hub takes an address here, and paths above.
        more["thumbnail"] = file_url(repo, gallery.examples[0].output)
    base = run.machine.get("base_model")
    if base:
        more["base_model_relation"] = "finetune"
    return ModelCardData(
        library_name="agit-hub",
        pipeline_tag="image-to-image",
        license=license_name,
        base_model=base,
        tags=["image-to-image", "unpaired", "attention", "gan", "agit-hub"],
        datasets=datasets or None,
        model_name=repo.rpartition("/")[2],
        eval_results=[_eval_result(result) for result in run.measurements] or None,
        **more,
    )


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
    public = {**domain, "path": public_path(domain)}
    if domain.get("masks"):
        public["masks"] = Path(domain["masks"]).name
    return public


def _attention_state(run: RunRecord) -> str:
    """Return a sentence on whether the attention maps collapsed."""
    if run.config["model"]["attention"] == "ones":
        return "This model has no attention networks: its map is 1 everywhere."
    if not run.curve:
        return "Not known: the run has no log."
    last = run.curve[-1]
    means = {
        label: last[f"attention/{side}/mean"]
        for side, label in zip(("source", "target"), map(markdown, run.labels), strict=True)
    }
    values = ", ".join(f"{mean:.3f} on {label} images" for label, mean in means.items())
    collapsed = [label for label, mean in means.items() if not _COLLAPSED < mean < 1 - _COLLAPSED]
    verdict = f" **Attention on {' and '.join(collapsed)} images has collapsed.**"
    return f"Mean of the maps at the end of the training: {values}.{verdict if collapsed else ''}"


def _protocols(results: Sequence[MetricResult]) -> list[dict[str, Any]]:
    """Return the protocols by the images they were used on; what all of them begin with is said once."""
    sets: dict[str, list[MetricResult]] = {}
    for result in results:
        images = f"{result.direction}, on {result.dataset}, split {result.split}"
        sets.setdefault(images, []).append(result)
    described = []
    for images, used in sets.items():
        parts = [result.protocol.split("; ") for result in used]
        beginnings = zip(*(own[:-1] for own in parts), strict=False)  # an end is never shared
        shared = [same[0] for same in takewhile(lambda each: len(set(each)) == 1, beginnings)]
        protocols = [
            (result.title, "; ".join(own[len(shared) :]))
            for result, own in zip(used, parts, strict=True)
        ]
        about = f"{images}: {'; '.join(shared)}." if shared else f"{images}:"
        described.append({"images": about, "protocols": protocols})
    return described


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
        metric_name=result.title,
        metric_value=round(result.value, 6),
        metric_args={"protocol": result.protocol},
        dataset_config=result.direction,
    )
