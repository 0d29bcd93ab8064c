"""The Space's app, for `agit space` and for `app.py` of a Space on the Hub."""

from collections.abc import Sequence

try:
    import spaces  # before torch: on ZeroGPU it patches CUDA
except ImportError:
    spaces = None

from agit_hub.space.server import Server


def run(
    models: str | Sequence[str] | None = None,
    server: Server | None = None,
    offer_hub: bool = False,
) -> None:
    """Serve the Space until it is interrupted.

    Args:
        models: Run folders, models' folders or files, or Hub repos: in a list, or separated by commas;
            those that ship with the project by default.
        server: Where it is served.
        offer_hub: Whether to list strangers' models on the Hub too.

    Raises:
        AgitError: If the first model cannot be loaded, or the page not be served as asked.
    """
    server = server or Server()
    port = server.prepare()
    # Gradio reads its variables when it is imported.
    from agit_hub.space.models import named_models
    from agit_hub.space.page.build import build_page
    from agit_hub.space.page.launch import launch
    from agit_hub.space.service import SpaceService
    from agit_hub.space.zerogpu import ZeroGpu, gpu_duration

    # On other hardware the networks are on the machine's own accelerator from the start.
    on_zero_gpu = spaces is not None and spaces.config.Config.zero_gpu
    gpu = ZeroGpu(spaces.GPU(duration=gpu_duration)) if on_zero_gpu else None
    service = SpaceService(named_models(models), gpu, offer_hub)
    launch(build_page(service), server, port, service.visitors)
