"""Train attention-guided image-to-image translation.

accelerate launch train_accelerate.py --config configs/shapes.yaml --output_dir runs/shapes
python train_accelerate.py --config configs/horse2zebra.yaml \
    --data.source.path horses/ --data.target.path zebras/ --output_dir runs/horse2zebra
"""

import sys

from agit_hub.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
