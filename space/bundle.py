"""Write a folder that is ready to be pushed as a Space: the app, the package's wheel, the model, pins."""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LEFT_OUT = shutil.ignore_patterns("bundle.py", "web", "*.pyi", "__pycache__", ".*")


def bundle(out: Path) -> Path:
    """Write the folder anew.

    Args:
        out: Where; what was there before is replaced.

    Returns:
        The wheel in it.
    """
    if out.exists():
        if any(out.iterdir()) and not (out / "app.py").exists():
            raise SystemExit(f"error: {out} holds something else; name an empty folder.")
        shutil.rmtree(out)
    shutil.copytree(HERE, out, ignore=LEFT_OUT)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*command, str(out), str(HERE.parent)], check=True)
    (wheel,) = out.glob("*.whl")
    return wheel


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=Path("dist/space"))
    folder = parser.parse_args().out
    print(f"{folder} holds a Space with {bundle(folder).name}. Try it: python {folder}/app.py")
    print(f"Push it: hf upload USER/SPACE {folder} --repo-type space")
