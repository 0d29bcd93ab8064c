"""Cost of streaming from the Hub, against images in memory and against plain `datasets` with Pillow.

    python -m benchmarks.streaming [--out docs/results/streaming.json] [--photos FOLDER]

Variants are interleaved, and ratios are what counts: absolute times drift. The Hub is a local server in
a process of its own; the images are JPEGs of 256 pixels, photographs if a folder with `trainA` and
`trainB` is given, and the built-in shapes otherwise.
"""

import argparse
import io
import json
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

from benchmarks.harness import ROOT, interval, machine, main, ratios, resident, run_probe

REPO = "someone/images"
LENGTHS = {"source": 1067, "target": 1334}  # those of horse2zebra
SHARD = 500
SIZE = 64  # of configs/horse2zebra_small.yaml
MARGIN = 286 / 256


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one after the other: two cores hold one measurement at a time."""
    with tempfile.TemporaryDirectory() as place:
        small, large = Path(place) / "small", Path(place) / "large"
        write_dataset(small, arguments.photos, times=1)
        write_dataset(large, arguments.photos, times=10)
        size = sum(file.stat().st_size for file in small.rglob("*.parquet"))
        fetched = probe_hub(arguments, small, "epochs")
        memory = [
            median(probe_hub(arguments, folder, "memory")["megabytes"] for _ in range(3))
            for folder in (small, large)
        ]
        return {
            "machine": machine(),
            "images": "photographs" if arguments.photos else "shapes",
            "dataset_megabytes": round(size / 1e6, 1),
            "bytes_over_3_epochs": round(fetched["bytes"] / size, 4),
            "peak_memory_megabytes": {"1x": memory[0], "10x": memory[1]},
            "peak_memory_10x_over_1x": round(memory[1] / memory[0], 3),
            "loader": probe_hub(arguments, small, "loader"),
            "training": probe_hub(arguments, small, "training"),
        }


def write_dataset(folder: Path, photos: Path | None, times: int) -> None:
    """Write two configs of parquet shards with `datasets`; the same images several times."""
    import datasets

    features = datasets.Features({"image": datasets.Image()})
    card = "---\nconfigs:\n"
    for side, length in LENGTHS.items():
        card += f"- config_name: {side}\n  data_files: {side}/train-*\n"
        images = list(jpegs(side, length, photos)) * times
        (folder / side).mkdir(parents=True)
        for shard, first in enumerate(range(0, len(images), SHARD)):
            rows = [{"bytes": data, "path": None} for data in images[first : first + SHARD]]
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
        image, _ = shapes.draw(dict(zip(LENGTHS, shapes.LABELS, strict=True))[side], index, 256)
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=92)
        yield buffer.getvalue()


def probe_hub(arguments: argparse.Namespace, folder: Path, name: str) -> dict[str, Any]:
    """Run a probe with an empty cache, against a Hub that serves the folder."""
    with serve_hub(folder) as url, tempfile.TemporaryDirectory() as cache:
        environment = {
            "HF_ENDPOINT": url,
            "HF_HOME": cache,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        }
        found: dict[str, Any] = run_probe([*arguments.command, name], environment)
        with urllib.request.urlopen(f"{url}/_statistics") as answer:
            return {"bytes": json.load(answer)["bytes_sent"]} | found


@contextmanager
def serve_hub(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "testing.hub_server", "--port", "0", "--folder", str(folder)]
    command += ["--repo", REPO, "--kind", "dataset"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def open_dataset(seed: int = 0) -> Any:
    from agit_hub.data.config import DomainConfig
    from agit_hub.data.dataset import UnpairedDataset
    from agit_hub.data.load import load_domains

    source, target = load_domains(DomainConfig(REPO), DomainConfig(REPO), SIZE, 60)
    return UnpairedDataset(source.domain, target.domain, SIZE, crop_margin=MARGIN, seed=seed)


def probe_epochs(_: argparse.Namespace) -> dict[str, Any]:
    """Read three epochs; the server counts the bytes."""
    dataset = open_dataset()
    for position in range(3 * dataset.epoch):
        dataset[position]
    return {}


def probe_memory(_: argparse.Namespace) -> dict[str, Any]:
    """Read one epoch, and report the peak memory."""
    dataset = open_dataset()
    for position in range(dataset.epoch):
        dataset[position]
    return {"megabytes": round(resident(peak=True) / 2**20, 1)}


def probe_loader(arguments: argparse.Namespace) -> dict[str, Any]:
    """Images a second of one process: ours, and `datasets` with Pillow, shuffled and not."""
    count = 1000
    variants: dict[str, Callable[[int], Iterator[object]]] = {
        "ours": our_images,
        "datasets": lambda seed: images_of_datasets(seed, shuffled=False),
        "datasets_shuffled": lambda seed: images_of_datasets(seed, shuffled=True),
    }
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for seed in range(arguments.rounds):
        for name, variant in variants.items():
            stream = variant(seed)
            list(islice(stream, 64))  # fills buffers, not counted
            start = time.perf_counter()
            list(islice(stream, count))
            rates[name].append(count / (time.perf_counter() - start))
    return {f"{name}_per_second": round(median(rate), 1) for name, rate in rates.items()} | {
        f"ours_over_{name}": interval(ratios(rates["ours"], rates[name]), 3)
        for name in list(variants)[1:]
    }


def our_images(seed: int) -> Iterator[object]:
    dataset = open_dataset(seed)
    for position in range(10**9):
        sample = dataset[position]
        yield sample.source
        yield sample.target


def images_of_datasets(seed: int, shuffled: bool) -> Iterator[object]:
    import datasets
    import numpy as np
    import torch
    from PIL import Image

    chance = random.Random(seed)
    resized = round(SIZE * MARGIN)

    def prepare(image: Image.Image) -> torch.Tensor:
        image = image.convert("RGB")
        scale = resized / min(image.size)
        width, height = (max(resized, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left = chance.randint(0, image.width - SIZE)
        top = chance.randint(0, image.height - SIZE)
        image = image.crop((left, top, left + SIZE, top + SIZE))
        if chance.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    streams = [datasets.load_dataset(REPO, side, split="train", streaming=True) for side in LENGTHS]
    if shuffled:
        streams = [stream.shuffle(seed=seed, buffer_size=1000) for stream in streams]
    for source, target in zip(*streams, strict=False):
        yield prepare(source["image"])
        yield prepare(target["image"])


def probe_training(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same steps with streamed images and with images in memory, interleaved."""
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
    networks = build_networks(config, warm=False)
    step = Step(networks, config.train, make_accelerator(config), pool_seed=0)
    phase = Schedule(config.train, 100).phase(0)
    dataset = open_dataset()
    count: int = arguments.steps
    in_memory = [collate([dataset[n * 4 + k] for k in range(4)]) for n in range(count)]

    def seconds(batches: Iterator[UnpairedBatch]) -> float:
        start = time.perf_counter()
        for batch in batches:
            step([Batch(from_uint8(batch.source), from_uint8(batch.target))], phase)
        return time.perf_counter() - start

    # Without workers, as in the configuration, and with one, which competes for two cores.
    variants = {"in_memory": None, "streamed": config.data.num_workers, "streamed_with_a_worker": 1}
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(arguments.rounds + 1):
        for name, workers in variants.items():
            positions = InfiniteBatchSampler(4, 0, 1, start=(turn + 1) * count)
            batches = iter(in_memory)
            if workers is not None:
                batches = islice(iter(make_loader(dataset, positions, workers)), count)
            spent = seconds(batches)
            if turn:  # the first is a warm-up
                times[name].append(spent)
    return {
        "step_milliseconds": {k: round(1000 * median(t) / count, 1) for k, t in times.items()},
        **{
            f"{name}_over_in_memory": interval(ratios(times[name], times["in_memory"]), 3)
            for name in ("streamed", "streamed_with_a_worker")
        },
    }


PROBES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "epochs": probe_epochs,
    "memory": probe_memory,
    "loader": probe_loader,
    "training": probe_training,
}


def probe(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    return PROBES[name](arguments)


if __name__ == "__main__":
    OPTIONS = {
        "photos": {"type": Path, "help": "a folder with trainA and trainB"},
        "steps": {"type": int, "default": 40, "help": "training steps in each measured block"},
        "rounds": {"type": int, "default": 5, "help": "measurements of each variant"},
    }
    main("benchmarks.streaming", __doc__, measure, options=OPTIONS, probe=probe)
