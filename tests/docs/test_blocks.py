"""Commands and code of README.md and the guides work.

Executed, in a folder with small photographs and a Hub over loopback: every Python block (that of
export.md by tests/backends/test_export.py), and the commands of `EXECUTED`. Everything else is parsed by
the program's own parser, down to the values of options: trainings, exports, masks, the Space, and what
needs an account or Docker, which a comment before the block says. In the text, commands, options and keys
of the configuration are parsed likewise.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from agit_hub import AGITPipeline
from agit_hub.cli import app
from agit_hub.training.config import TrainConfig
from agit_hub.training.config_loader import _types
from testing.hub_server import Hub
from tests.conftest import MakeModel
from tests.docs.commands import PARSERS, ROOT, check, check_mention, known_flags, split_lines
from tests.docs.documents import DOCUMENTS, Block, blocks, spans
from tests.online import connect

BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
PYTHON = [each for each in BLOCKS if each.language == "python" and "onnxruntime" not in each.text]
SHELL = [each for each in BLOCKS if not each.language and "──" not in each.text]
EXECUTED = {"compare", "evaluate", "inspect", "push", "push-data", "translate"}
# Inception takes a minute on one core.
SLOW = {"inception"}
MARKS = {"needs an account", "needs Docker"}
# Of programs that are not parsed here.
OTHER_FLAGS = {"--shm-size", "--help"}
# Small, where the documents have what takes minutes: `--config shapes` reads this file.
SHAPES = {
    "model": {"image_size": 16, "channels": 4, "blocks": 1, "attention_channels": 4},
    "train": {"max_steps": 1, "batch_size": 1, "discriminator_channels": 4},
    "data": {"source": {"path": "photos/horses"}, "target": {"path": "photos/zebras"}},
    "log": {"num_samples": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_model: MakeModel) -> Iterator[Path]:
    """The folder in which the documents' commands run, with everything that they name."""
    work = tmp_path_factory.mktemp("work")
    for name in ("docs", "models", "space", "configs"):
        (work / name).symlink_to(ROOT / name)
    rng = np.random.default_rng(0)
    names = "photos/horses photos/zebras photos/testA photos/testB photos/cats photos/dogs more"
    for place in names.split():
        for number in range(4):
            path = work / place / f"{Path(place).name}-{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(path)
            mask = work / "masks" / f"{path.stem}.png"
            mask.parent.mkdir(exist_ok=True)
            Image.new("L", (32, 24), 255).save(mask)
    shutil.copy(work / "more" / "more-0.jpg", work / "horse.jpg")
    Image.open(work / "horse.jpg").save(work / "input.png")
    _film(work / "clip.mp4")
    (work / "shapes").write_text(yaml.safe_dump(SHAPES), encoding="utf-8")
    make_model().save_pretrained(work / "tiny")
    files = {path.name: path for path in (work / "tiny").iterdir()}
    with Hub() as hub, pytest.MonkeyPatch.context() as patch:
        hub.commit("user/agit-horse2zebra", files, kind="model")
        connect(patch, hub.url, work / "home")
        patch.setenv("HF_TOKEN", "hf_test")
        patch.chdir(work)
        _prepare_runs()
        yield work


def _film(path: Path) -> None:
    import av

    with av.open(str(path), "w") as film:
        stream = film.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 32, 24
        for shade in (60, 120):
            frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), shade, np.uint8))
            film.mux(stream.encode(frame))
        film.mux(stream.encode())


def _prepare_runs() -> None:
    """Train the runs `horses` and `others` for a step, and evaluate them."""
    labels = "--model.source_label horse --model.target_label zebra"
    _execute(f"agit train --config shapes {labels} --output_dir runs/horses".split())
    data = "--source photos/testA --target photos/testB --no-fid"
    _execute(f"agit evaluate --model runs/horses {data}".split())
    shutil.copytree("runs/horses", "runs/others")


def _execute(words: list[str]) -> None:
    done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
    assert done.exit_code == 0, f"{' '.join(words)}: {done.output}"


def test_documents_have_blocks_and_only_known_marks() -> None:
    assert len(PYTHON) >= 5 and len(SHELL) > 10
    for block in BLOCKS:
        assert block.language in ("", "bibtex", "python"), block
        assert not block.mark or block.mark in MARKS, block
    for block in SHELL:
        assert all(words[0] in PARSERS for words in split_lines(block.text)), block


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_shell_block_is_executed_or_parsed(block: Block, folder: Path) -> None:
    for words in split_lines(block.text):
        check(words)
        if words[0] == "agit" and words[1] in EXECUTED and not block.mark and not SLOW & {*words}:
            _execute(words)


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_block_is_executed(block: Block, folder: Path) -> None:
    # What a guide takes from an earlier one.
    names = {"pipe": AGITPipeline.from_pretrained("tiny"), "image": Image.open("horse.jpg")}
    shutil.rmtree("runs/shapes", ignore_errors=True)
    exec(compile(block.text, str(block), "exec"), names)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_code_in_text_is_parsed(document: Path, folder: Path) -> None:
    keys, flags = set(_types(TrainConfig)), known_flags()
    sections = {key.rpartition(".")[0] for key in keys} - {""}
    for span in spans(document):
        program, *rest = span.split(" ")
        if program in PARSERS and rest:
            check_mention(split_lines(span)[0])
        elif program.startswith("--") and not rest and program[2:] in keys:
            continue
        elif re.match(r"--[a-z]+\.", span):
            check_mention(["agit", "train", *split_lines(span)[0]])
        elif program.startswith("--"):
            assert program.partition("=")[0] in flags | OTHER_FLAGS, span
        elif key := re.match(r"((?:model|data|train|eval|log|hub)\.[a-z0-9_.]+)", span):
            name = key[1].rstrip(".")
            assert name in keys | sections | {"model.safetensors"}, span


@pytest.mark.parametrize(
    "command",
    [
        "agit translate photos --model m --to zebra --results out",
        "agit evaluate --model m --source photos --target user/x,kolumn=a",
        "accelerate launch train_accelerate.py --config shapes --train.epochs 3",
        "agit train ... --train.batch_size many",
        "pip install 'agit-hub[films]'",
        "make everything",
        "hf jobs run --hardware l4x1 python:3.12 true",
        "hf jobs run python:3.12 sh -c 'true && agit train --config nothing'",
        "docker run agit spaces",
        "python -m benchmarks.nothing",
        "python space/web/build.py --models x",
    ],
)
def test_stale_command_is_noticed(command: str, folder: Path) -> None:
    # Each parser raises an error of its own kind; argparse exits.
    with pytest.raises((Exception, SystemExit)):
        check(split_lines(command)[0])
