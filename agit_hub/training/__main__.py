"""`python -m agit_hub.training`: the same as train_accelerate.py."""

import sys

from agit_hub.training.main import main

if __name__ == "__main__":
    sys.exit(main())
