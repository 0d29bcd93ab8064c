"""Check that torch.compile can compile on a device, before models are loaded and images read."""

import os
import shutil
import subprocess
from importlib.util import find_spec

from agit_hub.errors import BackendError

# What PyTorch tries for the CPU, and Triton for a GPU.
_CPU, _GPU = ("g++", "clang++", "cl"), ("gcc", "clang", "cc", "cl")


def check_compiler(device_type: str) -> None:
    """Check that the compiler of torch.compile works.

    Args:
        device_type: `cpu`, whose kernels are C++; GPUs need Triton, which needs a C compiler.

    Raises:
        BackendError: If there is none.
    """
    variable, names = ("CXX", _CPU) if device_type == "cpu" else ("CC", _GPU)
    chosen = os.environ.get(variable)
    compiler = next(filter(_works, [chosen] if chosen else names), None)
    if compiler is None:
        where = f"{variable} is {chosen!r}, which does not run" if chosen else "none is installed"
        raise BackendError(
            f"torch.compile needs a C{'++' if device_type == 'cpu' else ''} compiler on {device_type}, "
            f"and {where}: install {names[0]} (apt-get install build-essential), or do without "
            "torch.compile (--backend torch, train.torch_compile false)."
        )
    if device_type == "cuda" and find_spec("triton") is None:
        raise BackendError(
            "torch.compile needs triton on a GPU: pip install triton (triton-windows on Windows), or do "
            "without torch.compile (--backend torch, train.torch_compile false)."
        )


def _works(compiler: str) -> bool:
    if shutil.which(compiler) is None:
        return False
    # Microsoft's has no such option, and prints its version without one.
    arguments = [compiler] if compiler.endswith("cl") else [compiler, "--version"]
    return subprocess.run(arguments, capture_output=True, check=False).returncode == 0
