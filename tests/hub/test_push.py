"""Pushes of a model are atomic, and load again unchanged."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from PIL import Image, ImageCms
from safetensors.torch import load

from agit_hub import AGITModel, AGITPipeline
from agit_hub.errors import ModelLoadError, PushError, PushRefusedError
from agit_hub.hub.push import Target, push_run, staged
from testing.hub_server import Hub
from tests.conftest import MakeModel
from tests.hub.conftest import MakeRun

REPO = "user/agit-horse2zebra"
TARGET = Target(REPO, "mit", hub_timeout=20)
FILES = ["README.md", "attention.png", "config.json", "model.safetensors", "samples.png"]


def test_push_is_one_commit_of_all_files(make_run: MakeRun, hub: Hub) -> None:
    run = make_run()
    page = push_run(run, TARGET)
    assert page == f"{hub.url}/{REPO}"
    files = hub.files(REPO)
    assert sorted(files) == FILES
    for name in ("config.json", "model.safetensors"):
        assert files[name] == (run / "model" / name).read_bytes()
    assert files["samples.png"] == (run / "samples" / "step-00000040.png").read_bytes()
    commits = [r for r in hub.requests if "/commit/" in r.path]
    assert len(commits) == 1


def test_push_without_samples_publishes_none(make_run: MakeRun, hub: Hub) -> None:
    push_run(make_run(), Target(REPO, "mit", samples=False))
    assert sorted(hub.files(REPO)) == [name for name in FILES if name != "samples.png"]


def test_push_again_without_samples_removes_what_was_shown(make_run: MakeRun, hub: Hub) -> None:
    run = make_run()
    push_run(run, TARGET)
    hub.commit(
        REPO, {"source-to-target.jpg": b"x", "LICENSE": b"mine", "own.png": b"y"}, kind="model"
    )
    push_run(run, Target(REPO, "mit", samples=False))
    left = hub.files(REPO)
    # What the author has added stays.
    assert sorted(left) == sorted({*FILES, "LICENSE", "own.png"} - {"samples.png"})
    assert b"samples.png" not in left["README.md"]
    push_run(run, TARGET)
    assert "samples.png" in hub.files(REPO)


def test_push_repo_without_user_names_it_in_the_card(
    make_run: MakeRun, hub: Hub, tmp_path: Path
) -> None:
    (tmp_path / "photos" / "source").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "photos" / "source" / "one.png")
    page = push_run(make_run(), Target("agit-horse2zebra", "mit", gallery=tmp_path / "photos"))
    card = hub.files(REPO)["README.md"].decode()
    assert page.endswith(REPO) and card.count(f'AGITPipeline.from_pretrained("{REPO}")') == 2
    assert f"thumbnail: https://huggingface.co/{REPO}/resolve/main/gallery/" in card


def test_push_overtaken_by_another_removes_what_that_has_left(
    make_run: MakeRun, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    push_run(run, TARGET)
    create_commit, others = HfApi.create_commit, ["source-to-target.jpg"]

    def overtaken(api: HfApi, *arguments: Any, **options: Any) -> Any:
        if others:  # between reading the repository and changing it
            hub.commit(REPO, {others.pop(): b"another"}, kind="model")
        return create_commit(api, *arguments, **options)

    monkeypatch.setattr(HfApi, "create_commit", overtaken)
    push_run(run, Target(REPO, "cc0-1.0", hub_timeout=20))
    assert sorted(hub.files(REPO)) == FILES and not others


def test_push_gallery_shows_translations_instead_of_samples(
    make_run: MakeRun, hub: Hub, tmp_path: Path
) -> None:
    for side, size in (("source", (64, 32)), ("target", (32, 64))):
        (tmp_path / "photos" / side).mkdir(parents=True)
        Image.new("RGB", size, "red").save(tmp_path / "photos" / side / "one.png")
    shutil.copy(tmp_path / "photos" / "source" / "one.png", tmp_path / "photos/source/two.png")
    notes = tmp_path / "notes.md"
    notes.write_text("Photographs: Jo.\n")
    push_run(make_run(), Target(REPO, "mit", gallery=tmp_path / "photos", notes=notes))
    files = hub.files(REPO)
    singles = {
        f"gallery/{name}-{end}.jpg"
        for name in ("source-to-target-1", "source-to-target-2", "target-to-source-1")
        for end in ("input", "output")
    }
    panels = {"source-to-target.jpg", "target-to-source.jpg"}
    assert files.keys() == ({*FILES} | panels | singles) - {"samples.png"}
    sizes = []
    for name in ("source-to-target.jpg", "target-to-source.jpg"):
        with Image.open(io.BytesIO(files[name])) as image:
            sizes.append(image.size)
    # Three images of 64 x 32 and two gaps of 4, of 200 x 32; two rows, 8 apart. Then one of 104 x 64.
    assert sizes == [(1200, 2 * 192 + 8), (1200, 738)]
    assert "Photographs: Jo." in files["README.md"].decode()


def test_push_gallery_keeps_single_images_few_small_and_without_metadata(
    make_run: MakeRun, hub: Hub, tmp_path: Path
) -> None:
    (tmp_path / "photos" / "source").mkdir(parents=True)
    photo = Image.new("RGB", (600, 150), "red")
    exif = Image.Exif()
    exif[0x010E] = "at home"
    for number in range(5):
        path = tmp_path / f"photos/source/{number}.jpg"
        photo.save(path, exif=exif, comment=b"at home", icc_profile=ImageCms.ImageCmsProfile(
            ImageCms.createProfile("sRGB")).tobytes())  # fmt: skip
    run = make_run()
    push_run(run, Target(REPO, "mit", gallery=tmp_path / "photos"))
    files = hub.files(REPO)
    names = sorted(name for name in files if name.startswith("gallery/"))
    assert len(names) == 6 and names[-1] == "gallery/source-to-target-3-output.jpg"
    for name in names:
        with Image.open(io.BytesIO(files[name])) as image:
            assert image.size == (512, 128) and image.format == "JPEG"
            assert not {"exif", "comment", "icc_profile"} & image.info.keys()
    hub.commit(REPO, {"gallery/mine.jpg": b"x"}, kind="model")
    push_run(run, Target(REPO, "mit", samples=False))
    assert [name for name in hub.files(REPO) if "/" in name] == ["gallery/mine.jpg"]


def test_push_half_precision_halves_the_file(make_run: MakeRun, hub: Hub) -> None:
    run = make_run()
    push_run(run, Target(REPO, "mit", dtype=torch.float16))
    files = hub.files(REPO)
    weights, before = (
        load(data)
        for data in (files["model.safetensors"], (run / "model/model.safetensors").read_bytes())
    )
    assert all(torch.equal(weights[name], before[name].half()) for name in before)
    assert b"## Citation" in files["README.md"]


def test_push_to_a_branch_of_a_private_repo(make_run: MakeRun, hub: Hub) -> None:
    run = make_run()
    push_run(run, Target(REPO, "mit", private=True, branch="preview"))
    assert "model.safetensors" in hub.files(REPO, revision="preview")
    assert "model.safetensors" not in hub.files(REPO)
    loaded = AGITModel.from_pretrained(REPO, revision="preview")
    assert loaded.config.source_label == "horse"


@pytest.mark.parametrize("attention", ["network", "ones"])
@pytest.mark.parametrize("decoder", ["paper", "official"])
def test_pushed_weights_load_bit_identically(
    attention: str, decoder: str, make_run: MakeRun, make_model: MakeModel, hub: Hub
) -> None:
    run = make_run()
    model = make_model(attention=attention, attention_decoder=decoder)
    model.save_pretrained(run / "model")
    push_run(run, TARGET)
    again = AGITModel.from_pretrained(REPO)
    assert again.config == model.config
    expected, found = model.state_dict(), again.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    for label in model.config.labels:
        assert torch.equal(model.eval()(images, label).image, again(images, label).image)


def test_pushed_model_loads_offline_from_the_cache(
    make_run: MakeRun, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_run(make_run(), TARGET)
    AGITPipeline.from_pretrained(REPO)
    before = len(hub.requests)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert AGITPipeline.from_pretrained(REPO).model.config.labels == ("horse", "zebra")
    assert len(hub.requests) == before
    with pytest.raises(ModelLoadError, match="user/other"):
        AGITModel.from_pretrained("user/other")


# Faults after which a retry succeeds.
FAULTS = {
    "a lost connection": {"kind": "refuse"},
    "a lost answer": {"kind": "drop"},
    "an error": {"kind": "status", "status": 500},
    "too many": {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}},
    "a concurrent commit": {"kind": "status", "status": 412},
}
PLACES = {
    "making": "/api/repos/create",
    "asking": "/preupload/",
    "uploading": "/_lfs/",
    "committing": "/commit/",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("place", PLACES)
def test_push_retries_a_fault_of_any_request(
    fault: str, place: str, make_run: MakeRun, hub: Hub
) -> None:
    run = make_run()
    hub.fail(path=f".*{PLACES[place]}.*", times=1, **FAULTS[fault])  # type: ignore[arg-type]
    push_run(run, TARGET)
    files = hub.files(REPO)
    assert sorted(files) == FILES
    assert files["model.safetensors"] == (run / "model" / "model.safetensors").read_bytes()


def _consistent(hub: Hub) -> bool:
    """Return whether published weights and config match."""
    files = hub.files(REPO)
    weights, config = load(files["model.safetensors"]), json.loads(files["config.json"])
    return weights["generator_st.layers.1.weight"].shape[0] == config["channels"]


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("place", ["asking", "uploading", "committing"])
def test_refused_push_leaves_the_repo_unchanged(
    place: str, status: int, make_run: MakeRun, make_model: MakeModel, hub: Hub
) -> None:
    run = make_run()
    push_run(run, TARGET)
    before = hub.files(REPO)
    make_model(channels=8).save_pretrained(run / "model")
    hub.fail("status", path=f".*{PLACES[place]}.*", times=None, status=status)
    with pytest.raises(PushError, match="user/agit-horse2zebra: uploading"):
        push_run(run, TARGET)
    assert hub.files(REPO) == before and _consistent(hub)
    hub.heal()
    push_run(run, TARGET)
    assert hub.files(REPO) != before and _consistent(hub)


def test_push_gives_up_after_hub_timeout(make_run: MakeRun, hub: Hub) -> None:
    run = make_run()
    hub.fail("refuse", times=None)
    with pytest.raises(PushError, match="making it failed") as raised:
        push_run(run, Target(REPO, "mit", hub_timeout=0.2))
    assert not isinstance(raised.value, PushRefusedError)
    assert (run / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize("repo", ["somebody/agit", "user/no good name"])
def test_push_to_a_foreign_or_invalid_repo_is_refused(
    repo: str, make_run: MakeRun, hub: Hub
) -> None:
    with pytest.raises(PushRefusedError, match=repo):
        push_run(make_run(), Target(repo, "mit"))


def test_push_errors_hide_the_token(
    make_run: MakeRun, hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    with pytest.raises(PushError) as raised:
        push_run(make_run(), TARGET)
    error: BaseException | None = raised.value
    seen = caplog.text
    while error is not None:
        seen += f"{error!r} {error}"
        error = error.__cause__
    assert "secretsecret" not in seen and "hf auth login" in seen


def test_staged_folder_is_removed_afterwards(make_run: MakeRun) -> None:
    with staged(make_run(), TARGET) as folder:
        kept = Path(folder)
        assert sorted(file.name for file in kept.iterdir()) == FILES
    assert not kept.exists()


@pytest.mark.parametrize("part", ["model", "model/model.safetensors"])
def test_push_part_of_a_run_publishes_the_run(make_run: MakeRun, hub: Hub, part: str) -> None:
    push_run(make_run() / part, TARGET)
    assert sorted(hub.files(REPO)) == FILES


def test_push_model_folder_or_repo_publishes_it_with_its_card(
    make_model: MakeModel, hub: Hub, tmp_path: Path
) -> None:
    folder = tmp_path / "plain"
    make_model().save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\ntags: [mine]\n---\n# My horses\n")
    (folder / "gallery").mkdir()
    shown = ["attention.png", "gallery/source-to-target-1-input.jpg"]
    for name in (*shown, "private.png"):
        (folder / name).write_bytes(b"image")
    push_run(folder, Target("user/first", "cc0-1.0"))
    push_run(Path("user/first"), Target("user/second", "cc-by-4.0", dtype=torch.float16))
    assert sorted(hub.files("user/first")) == [
        "README.md", shown[0], "config.json", shown[1], "model.safetensors"
    ]  # fmt: skip
    card = hub.files("user/first")["README.md"].decode()
    assert "license: cc0-1.0" in card and "# My horses" in card and "- mine" in card
    assert "license: cc-by-4.0" in hub.files("user/second")["README.md"].decode()
    weights = load(hub.files("user/second")["model.safetensors"])
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
