"""Trains and measures every row of the photographs' table in docs/results.md, one run after the other.

python -m benchmarks.photographs --photos FOLDER --runs runs/photographs

A run whose figures lie in docs/results already is passed over, and one that was cut short is resumed, so
the command can be given again until nothing is left. It needs a folder with trainA, trainB, testA and
testB (horses are A). Nothing that it writes into docs/results shows a photograph.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "results" / "horse2zebra_small"
# What no table needs, and what would make the files large.
_LEFT_OUT = ("pictures",)

SMALL = ["--config", "horse2zebra_small"]
CYCLEGAN = ["--config", "cyclegan_horse2zebra_small"]
# A run short enough for ablations, all of which differ from it in what their name says.
SHORT = [*SMALL, "--train.max_steps", "2000"]
RUNS: dict[str, list[str]] = {
    **{f"agit-seed{seed}": [*SMALL, f"--train.seed={seed}"] for seed in range(5)},
    **{f"cyclegan-seed{seed}": [*CYCLEGAN, f"--train.seed={seed}"] for seed in range(2)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/photographs"))
    parser.add_argument("--only", nargs="*", default=list(RUNS), help="names of runs")
    arguments = parser.parse_args()
    for name in arguments.only:
        result = OUT / f"{name}.json"
        if not result.exists():
            _run(name, arguments.photos, arguments.runs / name, result)


def _run(name: str, photos: Path, folder: Path, result: Path) -> None:
    print(f"{name}: training", flush=True)
    threads = str(os.cpu_count())
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
    data = [
        f"--data.source.path={photos / 'trainA'}",
        f"--data.target.path={photos / 'trainB'}",
        f"--output_dir={folder}",
        "--resume",
    ]
    script = str(ROOT / "train_accelerate.py")
    subprocess.run([sys.executable, script, *RUNS[name], *data], check=True, env=environment)
    for weights in ("last", "picked"):
        if weights == "picked" and not (folder / weights).is_dir():
            continue
        print(f"{name}: measuring {weights}", flush=True)
        command = [sys.executable, "-m", "agit_hub.cli", "evaluate", "--model", str(folder)]
        command += ["--source", str(photos / "testA"), "--target", str(photos / "testB")]
        command += ["--weights", weights, "--name", name.rpartition("-seed")[0] or name]
        subprocess.run(command, check=True, env=environment)
        measured = json.loads((folder / "evaluation" / weights / "evaluation.json").read_text())
        kept = {key: value for key, value in measured.items() if key not in _LEFT_OUT}
        target = result if weights == "last" else result.with_stem(f"{result.stem}-picked")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    curve = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    result.with_suffix(".jsonl").write_text(curve, encoding="utf-8")


if __name__ == "__main__":
    main()
