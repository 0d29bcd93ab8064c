"""The Space's app, for `agit space` and for `app.py` of a Space on the Hub."""

from typing import Any

try:
    import spaces  # before torch: on ZeroGPU it patches CUDA
except ImportError:
    spaces = None

from agit_hub.space.page import build_page, launch
from agit_hub.space.service import SpaceService, named_models
from agit_hub.space.zerogpu import ZeroGpu, gpu_duration


def run(models: str | None = None, **options: Any) -> None:
    """Serve the Space until it is interrupted.

    Args:
        models: Hub repos or folders, separated by commas; the demo model by default.
        **options: Of `gradio.Blocks.launch`.

    Raises:
        AgitError: If the first model cannot be loaded.
    """
    # On other hardware the networks are on the machine's own accelerator from the start.
    on_zero_gpu = spaces is not None and spaces.config.Config.zero_gpu
    gpu = ZeroGpu(spaces.GPU(duration=gpu_duration)) if on_zero_gpu else None
    launch(build_page(SpaceService(named_models(models), gpu)), **options)
