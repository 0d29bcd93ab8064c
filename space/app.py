"""The Space as a folder: run it with `python app.py`, or push it to the Hub.

The variable AGIT_MODELS lists Hub repos or folders, separated by commas; the models that ship with the
project are the default: a bundle has them in `models/`.
"""

import importlib.util
import os
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# A Space installs its requirements before these files arrive, so a bundle's wheel is unpacked here.
unpacked = tempfile.TemporaryDirectory(prefix="agit-hub-")
for wheel in HERE.glob("agit_hub-*.whl"):
    if importlib.util.find_spec("agit_hub") is None:
        zipfile.ZipFile(wheel).extractall(unpacked.name)
        sys.path.insert(0, unpacked.name)

from agit_hub.environment import explain, make_output_robust
from agit_hub.shipped import shipped_models
from agit_hub.space.app import run
from agit_hub.space.server import Server

if __name__ == "__main__":
    make_output_robust()
    try:
        offer_hub = os.environ.get("AGIT_OFFER_HUB", "").lower() in ("1", "true", "yes")
        shipped = [str(folder) for folder in shipped_models(HERE / "models").values()]
        models = os.environ.get("AGIT_MODELS", "").strip() or shipped
        run(models, Server(auth=os.environ.get("AGIT_AUTH")), offer_hub)
    except Exception as error:
        expected = explain(error)
        if expected is None:
            raise
        print(f"error: {expected}", file=sys.stderr)
        sys.exit(expected.exit_code)
