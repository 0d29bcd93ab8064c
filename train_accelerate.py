# /// script
# requires-python = ">=3.11"
# dependencies = ["agit-hub[train]"]
#
# [tool.uv.sources]
# agit-hub = { path = ".", editable = true }
# ///
"""Train attention-guided image-to-image translation; the same as `agit train`.

accelerate launch train_accelerate.py --config shapes --output_dir runs/shapes
python train_accelerate.py --config horse2zebra \
    --data.source.path horses/ --data.target.path zebras/ --output_dir runs/horse2zebra

`uv run train_accelerate.py ...` installs what it needs from this checkout first.
"""

import sys

from agit_hub.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
