"""Train and evaluate every run of the photographs' tables in docs/research, one after the other.

python -m benchmarks.photographs --photos FOLDER --runs runs/photographs

A run whose results are in docs/results is skipped, and an interrupted one is resumed, so the command can
be repeated until nothing is left. It needs a folder with trainA, trainB, testA and testB (horses are A).
Nothing that it writes into docs/results shows a photograph.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import ROOT

OUT = ROOT / "docs" / "results" / "horse2zebra_small"

SMALL = ["--config", "horse2zebra_small"]
CYCLEGAN = ["--config", "cyclegan_horse2zebra_small"]
# Short enough for ablations, which differ from it as their names say.
SHORT = [*SMALL, "--train.max_steps=700", "--train.lambda_cyc_warmup_steps=400"]
PATCH = [
    *(*SHORT, "--train.discriminator=patch", "--train.discriminator_channels=48"),
    *("--train.discriminator_layers=2", "--train.discriminator_learning_rate=null"),
]
SWITCH = [*SHORT, "--train.switch.step=400"]
RUNS: dict[str, list[str]] = {
    **{f"agit-seed{seed}": [*SMALL, f"--train.seed={seed}"] for seed in range(5)},
    **{f"cyclegan-seed{seed}": [*CYCLEGAN, f"--train.seed={seed}"] for seed in range(2)},
    "cyclegan-lambda-0.7": [
        *CYCLEGAN,
        "--train.lambda_cyc=0.7",
        "--train.lambda_cyc_warmup_steps=1000",
    ],
    "short": SHORT,
    "short-network": [
        *(*SHORT, "--model.attention=network", "--model.attention_levels=1"),
        "--model.attention_smoothing=7",
    ],
    "short-one-level": [*SHORT, "--model.attention_levels=1"],
    "short-patch": PATCH,
    "short-one-update": [*SHORT, "--train.discriminator_updates=1"],
    "short-no-smoothing": [*SHORT, "--model.attention_smoothing=1"],
    "short-transposed": [*SHORT, "--model.upsampling=transposed"],
    "short-no-floor": [*SHORT, "--train.attention_floor=0"],
    "short-no-zoom": [*SHORT, "--data.zoom=1"],
    "short-lambda-10": [*SHORT, "--train.lambda_cyc=10", "--train.lambda_cyc_warmup_steps=0"],
    "short-switch": SWITCH,
    "short-switch-no-mask": [*SWITCH, "--train.switch.mask=false"],
    "short-switch-tau-0.3": [*SWITCH, "--train.attention_threshold=0.3"],
    "short-switch-late": [*SHORT, "--train.switch.step=550"],
    # Projected discriminators have no norms to bypass.
    "short-patch-switch": [*PATCH, "--train.switch.step=400"],
    "short-patch-switch-norm-kept": [
        *(*PATCH, "--train.switch.step=400", "--train.switch.bypass_norm=false"),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/photographs"))
    parser.add_argument(
        "--masks", type=Path, help="masks of the test images, such as those of agit masks"
    )
    parser.add_argument("--only", nargs="*", default=list(RUNS), help="names of runs")
    arguments = parser.parse_args()
    for name in arguments.only:
        result = OUT / f"{name}.json"
        if not result.exists():
            folder, photos = (arguments.runs / name).resolve(), arguments.photos.resolve()
            _train(name, photos, folder)
            _evaluate(name, photos, arguments.masks and arguments.masks.resolve(), folder, result)


def _train(name: str, photos: Path, folder: Path) -> None:
    print(f"{name}: training", flush=True)
    places = [f"--data.source.path={photos / 'trainA'}", f"--data.target.path={photos / 'trainB'}"]
    script = str(ROOT / "train_accelerate.py")
    resume = ["--resume"] * (folder / "config.yaml").exists()
    _run(script, *RUNS[name], *places, f"--output_dir={folder}", *resume)


def _evaluate(name: str, photos: Path, masks: Path | None, folder: Path, result: Path) -> None:
    places = ["--source", str(photos / "testA"), "--target", str(photos / "testB")]
    places += ["--masks", str(masks)] if masks else []
    recipe = name.rpartition("-seed")[0] or name
    OUT.mkdir(parents=True, exist_ok=True)
    # Ablations are compared by their last weights alone.
    for weights in ("last",) if name.startswith("short") else ("last", "best"):
        if not (folder / ("model" if weights == "last" else weights)).is_dir():
            continue
        print(f"{name}: evaluating {weights}", flush=True)
        # At the networks' own size: upsampled changes look blurred in a sharp photograph.
        how = ["--weights", weights, "--name", recipe, "--side", "128"]
        _run("-m", "agit_hub.cli", "evaluate", "--model", str(folder), *places, *how)
        evaluation = json.loads((folder / "evaluation" / weights / "evaluation.json").read_text())
        del evaluation["images"]  # large, and no table needs them
        target = result if weights == "last" else result.with_stem(f"{result.stem}-best")
        target.write_text(json.dumps(evaluation, indent=1) + "\n", encoding="utf-8")
    curve = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    result.with_suffix(".jsonl").write_text(curve, encoding="utf-8")


def _run(*arguments: str) -> None:
    threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    environment = os.environ | {"OMP_NUM_THREADS": threads}
    subprocess.run([sys.executable, *arguments], check=True, env=environment, cwd=ROOT)


if __name__ == "__main__":
    main()
