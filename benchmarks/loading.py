"""Cost of loading a published model: time beyond importing torch, and memory.

    python -m benchmarks.loading [--out docs/results/loading.json]

The networks are the paper's for 256 pixels, from a warm cache of a local Hub. Each round runs in a
process of its own.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import machine, main, resident, run_probe


def probe(_: argparse.Namespace, repo: str) -> dict[str, float]:
    """Load a model, measured from after the import of torch."""
    import torch  # noqa: F401

    start = time.perf_counter()
    from agit_hub.models.agit import AGITModel

    imported = time.perf_counter()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    base = resident()
    model = AGITModel.from_pretrained(repo)
    end = time.perf_counter()
    assert model is not None
    return {
        "seconds": end - start,
        "of_which_imports": imported - start,
        "megabytes": (resident(peak=True) - base) / 2**20,
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    from agit_hub import AGITConfig, AGITModel
    from testing.hub_server import Hub

    with tempfile.TemporaryDirectory() as place, Hub() as hub:
        AGITModel(AGITConfig()).save_pretrained(place)
        files = {file.name: file for file in Path(place).iterdir()}
        size = files["model.safetensors"].stat().st_size / 2**20
        hub.commit("user/paper", files, kind="model")
        environment = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": f"{place}/home",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
        }
        command = [*arguments.command, "user/paper"]
        rounds = [run_probe(command, environment) for _ in range(arguments.rounds + 1)]
    rounds = rounds[1:]  # the first downloads
    return {
        "machine": machine(),
        "file_megabytes": round(size, 1),
        **{f"{key}_median": round(median(r[key] for r in rounds), 3) for key in rounds[0]},
        "memory_over_file": round(max(r["megabytes"] for r in rounds) / size, 2),
    }


if __name__ == "__main__":
    OPTIONS = {"rounds": {"type": int, "default": 5}}
    main("benchmarks.loading", __doc__, measure, options=OPTIONS, probe=probe)
