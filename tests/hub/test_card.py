"""The card states what the run folder shows, names what was not measured, and hides private paths."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from huggingface_hub import ModelCard

from agit_hub.errors import RunFolderError
from agit_hub.evaluation.results import MetricResult, write_results
from agit_hub.hub.card import build_card, shareable
from agit_hub.hub.gallery import Example, Gallery
from agit_hub.runs import read_run
from agit_hub.training.config import TrainSettings
from testing.hub_server import Hub
from tests.hub.conftest import MakeRun, line

IOU = MetricResult(
    "attention_iou", "Attention IoU", 0.8125, "horses", "test", "map > 0.5, 64 images",
    "horse to zebra", baseline=0.25,
)  # fmt: skip


def _card(run: Path, samples: bool = True, license_name: str = "cc-by-4.0") -> ModelCard:
    return build_card(read_run(run), "user/agit-horse2zebra", license_name, samples)


def test_card_metadata_is_what_the_hub_reads(make_run: MakeRun) -> None:
    data = _card(make_run()).data.to_dict()
    assert data["library_name"] == "agit-hub" and data["pipeline_tag"] == "image-to-image"
    assert data["license"] == "cc-by-4.0" and "agit-hub" in data["tags"]
    assert "datasets" not in data and "model-index" not in data  # neither from the Hub nor measured


def test_card_links_hub_datasets_at_their_commit(make_run: MakeRun) -> None:
    commit = "0123456789" * 4
    path = {"data.source.path": "user/horses", "data.source.revision": commit}
    card = _card(make_run(**path, **{"data.source.column": "image"}))
    assert card.data.to_dict()["datasets"] == ["user/horses"]
    assert "[user/horses](https://huggingface.co/datasets/user/horses) at `01234567`" in card.text
    assert "column `image`" in card.text


def test_card_shows_metrics_with_baseline_and_protocol(make_run: MakeRun) -> None:
    run = make_run()
    write_results(run, [IOU])
    card = _card(run)
    (result,) = card.data.to_dict()["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 0.8125
    assert result["metrics"][0]["name"] == "Attention IoU"
    assert result["metrics"][0]["args"] == {"protocol": "map > 0.5, 64 images"}
    assert result["dataset"]["split"] == "test" and result["dataset"]["name"] == "horses"
    assert "| Attention IoU | horse to zebra | 0.8125 |  | 0.25 |" in card.text
    assert (
        "horse to zebra, on horses, split test:\n\n- Attention IoU: map > 0.5, 64 images\n"
        in card.text
    )
    assert "Not measured: KID, FID, change outside the object." in card.text


def test_card_lists_metrics_that_were_not_measured(make_run: MakeRun) -> None:
    text = _card(make_run()).text
    assert "without pairs and without masks" in " ".join(text.split())
    assert "Not measured: KID, FID, attention IoU against true masks" in text
    assert "| reference |" not in text


def test_card_contains_no_path_of_the_machine(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(
        **{
            "train.init_from": str(tmp_path / "secret" / "before"),
            "data.source.masks": str(tmp_path / "secret" / "hints"),
        }
    )
    card = str(_card(run))
    assert "`horses`, with masks of objects" in card and "without masks" not in card
    assert str(tmp_path) not in card and "/home/joe" not in card and "output_dir" not in card
    assert "a folder of the author's, `horses`" in card and "init_from: before" in card
    settings = shareable(read_run(run).config)
    assert settings["data"]["source"]["path"] == "horses"
    assert settings["data"]["source"]["masks"] == "hints"
    assert settings["data"]["target"]["path"] == "shapes"


def test_card_shows_training_images_only_if_allowed(make_run: MakeRun) -> None:
    run = make_run()
    assert "](samples.png)" in _card(run).text
    hidden = _card(run, samples=False).text
    assert "samples.png" not in hidden and "No images are shown" in hidden


def test_card_states_the_training_procedure(make_run: MakeRun) -> None:
    text = _card(
        make_run(**{"train.learning_rate": 3e-4, "train.ema_decay": 0.5, "train.seed": 3})
    ).text
    for row in (
        "| steps | 40 of batch 2, seed 3 |",
        "learning rate 0.0003",
        "| discriminators see the attended region alone from | step 40 |",
        "| weights | moving average, decay 0.5 |",
        "| hardware | 1 x a fast GPU |",
        # Twice 20 steps of 4 images, 20 a second.
        "| time | 8 seconds of training steps |",
        "| horse | a folder of the author's, `horses` | 7 |",
    ):
        assert row in text
    assert 'AGITPipeline.from_pretrained("user/agit-horse2zebra")' in text
    assert "| discriminators | of patches, trained from scratch |" in text


@pytest.mark.parametrize(
    ("due", "first", "stated"), [(0, 20, "step 0"), (15, 40, "step 40"), (25, 40, "step 25")]
)
def test_card_states_the_step_of_the_switch(
    due: int, first: int, stated: str, make_run: MakeRun
) -> None:
    """Logged at 20 and 40; due at 15 and switched at 40 means that it was postponed."""
    curve = [line(step, 0.3, switched=float(step >= first)) for step in (20, 40)]
    text = _card(make_run(curve=curve, **{"train.switch.step": due})).text
    assert f"| discriminators see the attended region alone from | {stated} |" in text


def test_card_states_that_imagenet_labels_were_used(make_run: MakeRun) -> None:
    run = make_run(
        **{
            "model.attention": "features",
            "train.discriminator": "projected",
            "data.crop_size": 32,
        }
    )
    text = _card(run).text
    assert "| attention | learned on the features of EfficientNet-Lite1, which was trained" in text
    assert (
        "| discriminators | on the features of EfficientNet-Lite1, which was trained with" in text
    )
    assert "pixels, trained on squares of 32 |" in text


@pytest.mark.parametrize("name", get_args(get_type_hints(TrainSettings)["discriminator"]))
def test_card_describes_every_discriminator(name: str, make_run: MakeRun) -> None:
    text = _card(make_run(**{"train.discriminator": name})).text
    (row,) = (line for line in text.splitlines() if line.startswith("| discriminators | "))
    assert ("from scratch" in row) is (name == "patch") and ("ImageNet" in row) is (name != "patch")


def test_card_describes_losses_and_labels_of_attention(make_run: MakeRun) -> None:
    recipe = {"config": "horse2zebra_cpu", "train.lambda_structure": 0.5}
    text = _card(make_run(**recipe)).text
    assert "| cycle consistency | weight 0 |" in text and "| structure loss | weight 0.5 |" in text
    assert "| attention alone | 300 steps before the first, with the two labels" in text


def test_card_shows_a_gallery_instead_of_training_images(make_run: MakeRun) -> None:
    text = _gallery_card(make_run(), notes="Photographs: Jo.").text
    assert "samples.png" not in text
    parts = ("<Gallery />", "### horse to zebra", "a.jpg", "### zebra to horse", "b.jpg")
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "## Notes by the author\n\nPhotographs: Jo.\n\n## Citation" in text


def _gallery_card(run: Path, repo: str = "user/model", notes: str = "") -> ModelCard:
    examples = [
        Example("zebra", "a-in.jpg", "a-out.jpg"),
        Example("horse", "b-in.jpg", "b-out.jpg"),
    ]
    gallery = Gallery({"zebra": "a.jpg", "horse": "b.jpg"}, examples)
    return build_card(read_run(run), repo, "mit", True, gallery, notes)


def test_card_metadata_of_a_gallery_has_widget_and_thumbnail(make_run: MakeRun) -> None:
    """`src` and `output.url` are paths in the repository; the Hub takes an address as thumbnail."""
    data = _gallery_card(make_run()).data.to_dict()
    assert data["widget"] == [
        {"text": "horse to zebra", "src": "a-in.jpg", "output": {"url": "a-out.jpg"}},
        {"text": "zebra to horse", "src": "b-in.jpg", "output": {"url": "b-out.jpg"}},
    ]
    assert data["thumbnail"] == "https://huggingface.co/user/model/resolve/main/a-out.jpg"


def test_card_without_gallery_has_no_widget(make_run: MakeRun) -> None:
    card = _card(make_run())
    assert not {"widget", "thumbnail", "base_model"} & card.data.to_dict().keys()
    assert "<Gallery />" not in card.text


def test_card_names_the_base_model_of_the_hub(make_run: MakeRun) -> None:
    run = make_run(**{"train.init_from": "user/before"})
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"base_model": "user/before"}))
    card = _card(run)
    data = card.data.to_dict()
    assert data["base_model"] == "user/before" and data["base_model_relation"] == "finetune"
    link = "[user/before](https://huggingface.co/user/before)"
    assert f"| began with the weights of | {link} |" in card.text


def test_card_of_a_warm_start_from_a_folder_names_no_base_model(make_run: MakeRun) -> None:
    card = _card(make_run(**{"train.init_from": "runs/before"}))
    assert not {"base_model", "base_model_relation"} & card.data.to_dict().keys()
    assert "| began with the weights of | a model of the author's, `before` |" in card.text
    assert "runs/before" not in str(card)


def test_card_says_once_what_all_protocols_begin_with(make_run: MakeRun) -> None:
    run = make_run()
    protocols = {
        "kid": "64 images; whole; subsets",
        "fid": "64 images; whole; biased",
        "x": "64 images; whole",
    }
    write_results(
        run,
        [replace(IOU, metric=name, title=name, protocol=how) for name, how in protocols.items()],
    )
    stated = "- kid: whole; subsets\n- fid: whole; biased\n- x: whole\n"
    assert f"on horses, split test: 64 images.\n\n{stated}" in _card(run).text


def test_card_without_attention_claims_none(make_run: MakeRun) -> None:
    text = _card(make_run(config="cyclegan")).text
    assert "changes the whole image" in text
    assert "finds the objects" not in text and "keep their outline" not in text


@pytest.mark.parametrize(("mean", "collapsed"), [(0.001, True), (0.999, True), (0.2, False)])
def test_card_states_collapsed_attention(mean: float, collapsed: bool, make_run: MakeRun) -> None:
    text = _card(make_run(curve=[line(20, 0.4), line(40, mean)])).text
    assert ("has collapsed" in text) is collapsed
    assert f"{mean:.3f} on horse images" in text


def test_card_of_a_run_without_log_claims_nothing(make_run: MakeRun) -> None:
    text = _card(make_run(curve=[])).text
    assert "Not known: the run has no log." in text and "attention.png" not in text


@pytest.mark.parametrize("changes", [{}, {"config": "cyclegan"}, {"train.switch.epoch": "null"}])
def test_card_is_accepted_by_the_hub(changes: dict[str, Any], make_run: MakeRun, hub: Hub) -> None:
    run = make_run(**changes)
    write_results(run, [IOU, replace(IOU, metric="kid", reference=0.1, baseline=None)])
    card = _card(run)
    card.validate()
    assert [r.path for r in hub.requests if r.status == 200] == ["/api/validate-yaml"]
    again = ModelCard(str(card))
    assert again.data.to_dict() == card.data.to_dict()


def test_read_run_refuses_other_folders(tmp_path: Path, make_run: MakeRun) -> None:
    with pytest.raises(RunFolderError, match=r"no config\.yaml"):
        read_run(tmp_path)
    run = make_run()
    (run / "model" / "model.safetensors").unlink()
    with pytest.raises(RunFolderError, match="no model"):
        read_run(run)
    (run / "measurements.json").write_text('{"a": 1}')
    (run / "model" / "model.safetensors").write_bytes(b"")
    with pytest.raises(RunFolderError, match=r"measurements\.json"):
        read_run(run)
