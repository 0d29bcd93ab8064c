"""What streaming from the Hub costs: beside pictures in memory, and beside plain `datasets` and Pillow.

    python -m benchmarks.streaming --out streaming.json [--photos FOLDER]

Everything is measured in one run and interleaved, and ratios are what counts: seconds drift. The Hub is
the tests' own server on this machine, in a process of its own; the pictures are JPEGs of 256 pixels,
photographs if a folder with `trainA` and `trainB` is given, and the built-in shapes otherwise.
"""

import argparse
import io
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.memory import resident

REPO = "someone/pictures"
LENGTHS = {"source": 1067, "target": 1334}  # those of horse2zebra
SHARD = 500
SIZE = 64  # of configs/horse2zebra_small.yaml
MARGIN = 286 / 256


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="A folder with trainA and trainB.")
    parser.add_argument("--out", type=Path, help="Where to write the figures as JSON.")
    parser.add_argument(
        "--steps", type=int, default=40, help="Training steps in each measured block."
    )
    parser.add_argument("--rounds", type=int, default=5, help="How often each pair is measured.")
    parser.add_argument("--probe", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        name, *arguments = options.probe
        print(json.dumps(PROBES[name](*arguments)))
        return 0
    figures = measure(options)
    text = json.dumps(figures, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, one after the other: two cores hold one measurement at a time."""
    with tempfile.TemporaryDirectory() as place:
        small, large = Path(place) / "small", Path(place) / "large"
        write_dataset(small, options.photos, times=1)
        write_dataset(large, options.photos, times=10)
        size = sum(file.stat().st_size for file in small.rglob("*.parquet"))
        fetched = probe_hub(small, "epochs", 3)
        memory = [
            median(probe_hub(folder, "memory")["megabytes"] for _ in range(3))
            for folder in (small, large)
        ]
        return {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "pictures": "photographs" if options.photos else "shapes",
            "dataset_megabytes": round(size / 1e6, 1),
            "bytes_over_3_epochs": round(fetched["bytes"] / size, 4),
            "peak_memory_megabytes": {"1x": memory[0], "10x": memory[1]},
            "peak_memory_10x_over_1x": round(memory[1] / memory[0], 3),
            "loader": probe_hub(small, "loader", options.rounds),
            "training": probe_hub(small, "training", options.rounds, options.steps),
        }


def write_dataset(folder: Path, photos: Path | None, times: int) -> None:
    """Two configs of parquet shards, as `datasets` writes them; the same pictures several times."""
    import datasets

    features = datasets.Features({"image": datasets.Image()})
    card = "---\nconfigs:\n"
    for side, length in LENGTHS.items():
        card += f"- config_name: {side}\n  data_files: {side}/train-*\n"
        pictures = list(jpegs(side, length, photos)) * times
        (folder / side).mkdir(parents=True)
        for shard, first in enumerate(range(0, len(pictures), SHARD)):
            rows = [{"bytes": data, "path": None} for data in pictures[first : first + SHARD]]
            table = datasets.Dataset.from_dict({"image": rows}, features=features)
            table.to_parquet(str(folder / side / f"train-{shard:05d}.parquet"), batch_size=100)
    (folder / "README.md").write_text(card + "---\n")


def jpegs(side: str, length: int, photos: Path | None) -> Iterator[bytes]:
    from agit_hub.data import shapes

    if photos is not None:
        files = sorted((photos / {"source": "trainA", "target": "trainB"}[side]).iterdir())
        yield from (file.read_bytes() for file in files[:length])
        return
    for index in range(length):
        picture, _ = shapes.draw(dict(zip(LENGTHS, shapes.LABELS, strict=True))[side], index, 256)
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=92)
        yield buffer.getvalue()


def probe_hub(folder: Path, name: str, *arguments: object) -> dict[str, Any]:
    """Measure in a process of its own, with an empty cache, beside a Hub that serves the folder."""
    with serve(folder) as url, tempfile.TemporaryDirectory() as cache:
        environment = {
            "HF_ENDPOINT": url,
            "HF_HOME": cache,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        }
        command = [sys.executable, "-m", "benchmarks.streaming", "--probe", name]
        ran = subprocess.run(
            [*command, *map(str, arguments)],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        with urllib.request.urlopen(f"{url}/_statistics") as answer:
            statistics = json.load(answer)
    return {"bytes": statistics["bytes_sent"]} | json.loads(ran.stdout.splitlines()[-1])


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "testing.hub_server", "--port", "0", "--folder", str(folder)]
    with subprocess.Popen(
        [*command, "--repo", REPO, "--kind", "dataset"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def open_samples(seed: int = 0) -> Any:
    from agit_hub.data.config import DomainConfig
    from agit_hub.data.dataset import UnpairedDataset
    from agit_hub.data.load import load_domains

    source, target = load_domains(DomainConfig(REPO), DomainConfig(REPO), SIZE, hub_timeout=60)
    return UnpairedDataset(source.domain, target.domain, SIZE, crop_margin=MARGIN, seed=seed)


def probe_epochs(epochs: str) -> dict[str, Any]:
    samples = open_samples()
    for position in range(int(epochs) * samples.epoch):
        samples[position]
    return {}


def probe_memory() -> dict[str, Any]:
    samples = open_samples()
    for position in range(samples.epoch):
        samples[position]
    return {"megabytes": round(resident("at most") / 2**20, 1)}


def probe_loader(rounds: str) -> dict[str, Any]:
    """Pictures a second of one process: ours, and `datasets` with Pillow, shuffled and not."""
    count = 1000
    ways: dict[str, Callable[[int], Iterator[object]]] = {
        "ours": lambda seed: pictures_of_ours(seed),
        "datasets": lambda seed: pictures_of_datasets(seed, shuffled=False),
        "datasets_shuffled": lambda seed: pictures_of_datasets(seed, shuffled=True),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(int(rounds)):
        for name, way in ways.items():
            stream = way(seed)
            list(islice(stream, 64))  # what fills buffers is not counted
            start = time.perf_counter()
            list(islice(stream, count))
            rates[name].append(count / (time.perf_counter() - start))
    return {f"{name}_per_second": round(median(rate), 1) for name, rate in rates.items()} | {
        f"ours_over_{name}": spread(rates["ours"], rates[name]) for name in list(ways)[1:]
    }


def pictures_of_ours(seed: int) -> Iterator[object]:
    samples = open_samples(seed)
    for position in range(10**9):
        sample = samples[position]
        yield sample.source
        yield sample.target


def pictures_of_datasets(seed: int, shuffled: bool) -> Iterator[object]:
    import datasets
    import numpy as np
    import torch
    from PIL import Image

    chance = random.Random(seed)
    resized = round(SIZE * MARGIN)

    def prepare(picture: Image.Image) -> torch.Tensor:
        picture = picture.convert("RGB")
        scale = resized / min(picture.size)
        wanted = (max(resized, round(side * scale)) for side in picture.size)
        picture = picture.resize(tuple(wanted), Image.Resampling.BICUBIC)
        left = chance.randint(0, picture.width - SIZE)
        top = chance.randint(0, picture.height - SIZE)
        picture = picture.crop((left, top, left + SIZE, top + SIZE))
        if chance.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)

    streams = [datasets.load_dataset(REPO, side, split="train", streaming=True) for side in LENGTHS]
    if shuffled:
        streams = [stream.shuffle(seed=seed, buffer_size=1000) for stream in streams]
    for source, target in zip(*streams, strict=False):
        yield prepare(source["image"])
        yield prepare(target["image"])


def probe_training(rounds: str, steps: str) -> dict[str, Any]:
    """The same steps with streamed pictures and with pictures in memory, in turn."""

    from agit_hub.data.dataset import InfiniteBatchSampler, UnpairedBatch, collate, make_loader
    from agit_hub.data.loader import Batch
    from agit_hub.inference.image_processor import from_uint8
    from agit_hub.training.config_loader import parse
    from agit_hub.training.distributed import make_accelerator
    from agit_hub.training.schedule import Schedule
    from agit_hub.training.setup import build_networks
    from agit_hub.training.step import Step

    settings = ["--data.source.path", REPO, "--data.target.path", REPO, "--output_dir", "unused"]
    config = parse(["--config", "horse2zebra_small", *settings]).config
    accelerator = make_accelerator(config)
    networks = build_networks(config, warm=False)
    step = Step(networks, config.train, accelerator, pool_seed=0)
    phase = Schedule(config.train, 100).phase(0)
    samples = open_samples()
    count = int(steps)
    held = [collate([samples[n * 4 + k] for k in range(4)]) for n in range(count)]

    def seconds(batches: Iterator[UnpairedBatch]) -> float:
        start = time.perf_counter()
        for batch in batches:
            step([Batch(from_uint8(batch.source), from_uint8(batch.target))], phase)
        return time.perf_counter() - start

    # None of their own, as the configuration has it, and one that takes its time from two cores.
    ways = {"in_memory": None, "streamed": config.data.num_workers, "streamed_with_a_worker": 1}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(int(rounds) + 1):
        for name, workers in ways.items():
            positions = InfiniteBatchSampler(4, 0, 1, start=(turn + 1) * count)
            batches = iter(held)
            if workers is not None:
                batches = islice(iter(make_loader(samples, positions, workers)), count)
            spent = seconds(batches)
            if turn:  # the first warms up
                times[name].append(spent)
    return {
        "step_milliseconds": {k: round(1000 * median(t) / count, 1) for k, t in times.items()},
        "streamed_over_in_memory": spread(times["streamed"], times["in_memory"]),
        "streamed_with_a_worker_over_in_memory": spread(
            times["streamed_with_a_worker"], times["in_memory"]
        ),
    }


def spread(numerators: list[float], denominators: list[float]) -> dict[str, float]:
    """Median, least and greatest of the ratios of pairs."""
    ratios = [n / d for n, d in zip(numerators, denominators, strict=True)]
    return {
        "median": round(median(ratios), 3),
        "least": round(min(ratios), 3),
        "greatest": round(max(ratios), 3),
    }


PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    "epochs": probe_epochs,
    "memory": probe_memory,
    "loader": probe_loader,
    "training": probe_training,
}

if __name__ == "__main__":
    sys.exit(main())
