"""Start a Space's app.py as ZeroGPU does, on a machine that may have no GPU.

All of the `spaces` package is the real one: its patches of torch, its forked worker, its queues. Where
there is no driver, two calls at its very bottom are replaced, in the worker alone: the one that opens
the CUDA device, and the real `torch.cuda.synchronize`. Whatever else asks for CUDA fails, as it should.
"""

import os
import runpy
import sys
from pathlib import Path

import spaces  # before torch, as in app.py
from spaces.zero import torch as zero
from spaces.zero.torch import patching

if not Path("/proc/driver/nvidia").exists():
    zero.init = lambda nvidia_uuid: None
    patching._cuda_synchronize = lambda *arguments: None

assert spaces.config.Config.zero_gpu
app = Path(os.environ["AGIT_APP"])
sys.path.insert(0, str(app.parent))
runpy.run_path(str(app), run_name="__main__")
