"""What loading a published model costs: time beyond importing torch, and memory.

    python -m benchmarks.loading [--out loading.json]

The networks are the paper's for 256 pixels, out of a warm cache of a Hub on this machine. Each round
is a process of its own.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

PROBE = """
import json, pathlib, time, torch
from benchmarks.memory import resident
start = time.perf_counter()
import agit_hub.models.agit
imported = time.perf_counter()
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
base = resident("now")
model = agit_hub.models.agit.AGITModel.from_pretrained("user/paper")
end = time.perf_counter()
print(json.dumps({
    "seconds": end - start,
    "of_which_imports": imported - start,
    "megabytes": (resident("at most") - base) / 2**20,
}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="Where to write the figures as JSON.")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    text = json.dumps(measure(options.rounds), indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    return 0


def measure(rounds: int) -> dict[str, object]:
    from agit_hub import AGITConfig, AGITModel
    from testing.hub_server import Hub

    with tempfile.TemporaryDirectory() as place, Hub() as hub:
        AGITModel(AGITConfig()).save_pretrained(place)
        files = {file.name: file for file in Path(place).iterdir()}
        size = files["model.safetensors"].stat().st_size / 2**20
        hub.commit("user/paper", files, kind="model")
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": f"{place}/home",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
        }
        runs = [
            json.loads(
                subprocess.run(
                    [sys.executable, "-c", PROBE],
                    env=environment,
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                ).stdout
            )
            for _ in range(rounds + 1)
        ][1:]  # the first fetches
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "file_megabytes": round(size, 1),
        **{f"{key}_median": round(median(run[key] for run in runs), 3) for key in runs[0]},
        "memory_over_file": round(max(run["megabytes"] for run in runs) / size, 2),
    }


if __name__ == "__main__":
    sys.exit(main())
