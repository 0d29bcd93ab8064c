"""The Space: input, attention and translation side by side, and attention in a person's hands.

Run it with `python space/app.py`, with `agit space`, or as a Space of the Hub.
Models to offer stand in the variable AGIT_MODELS, separated by commas: repos of the Hub, or folders.
Without it, the small one that lies beside this file is.
"""

import importlib.util
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Spaces install requirements before these files arrive, so a bundle's wheel is used from where it lies.
for wheel in HERE.glob("agit_hub-*.whl"):
    if importlib.util.find_spec("agit_hub") is None:
        sys.path.insert(0, str(wheel))

try:
    import spaces  # before torch: on ZeroGPU it takes CUDA's place
except ImportError:
    spaces = None

from borrowed import BorrowedGpu, seconds
from page import build, launch
from studio import SpaceError, SpaceService, offered

try:
    # Anywhere else networks go on the machine's own accelerator, once.
    lent = spaces is not None and spaces.config.Config.zero_gpu
    gpu = BorrowedGpu(spaces.GPU(duration=seconds)) if lent else None
    demo = build(SpaceService(offered(os.environ.get("AGIT_MODELS")), gpu))
except SpaceError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    launch(demo)
