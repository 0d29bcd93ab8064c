"""Write a folder to push as a Space: the app, the wheel, the shipped models and pinned requirements."""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from agit_hub.shipped import shipped_models

HERE = Path(__file__).resolve().parent
# The wheel has the examples; the models are copied from where they are.
EXCLUDED = shutil.ignore_patterns("bundle.py", "web", "models", "examples", "__pycache__", ".*")
MODEL_FILES = ("config.json", "model.safetensors", "README.md")


def bundle(out: Path) -> Path:
    """Write the folder, replacing an earlier bundle, and return the path of its wheel."""
    if out.exists():
        if any(out.iterdir()) and not (out / "app.py").exists():
            raise SystemExit(f"error: {out} is not empty and not a bundle; name an empty folder.")
        shutil.rmtree(out)
    shutil.copytree(HERE, out, ignore=EXCLUDED)
    for name, folder in shipped_models().items():
        (out / "models" / name).mkdir(parents=True)
        for file in MODEL_FILES:
            shutil.copy2(folder / file, out / "models" / name / file)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*command, str(out), str(HERE.parent)], check=True)
    (wheel,) = out.glob("*.whl")
    return wheel


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=Path("dist/space"))
    folder = parser.parse_args().out
    print(f"Wrote {folder} with {bundle(folder).name}. Try it: python {folder}/app.py")
    print(f"Push it: hf upload USER/SPACE {folder} --repo-type space")
