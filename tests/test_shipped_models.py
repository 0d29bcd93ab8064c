"""The models in `models/` are complete repositories, and translate photographs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from agit_hub import AGITPipeline
from agit_hub.data.images import open_image
from agit_hub.shipped import example_images

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path for path in (ROOT / "models").iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_shipped_model_is_a_complete_repository(folder: Path) -> None:
    assert {"README.md", "config.json", "model.safetensors"} <= {f.name for f in folder.iterdir()}
    assert (folder / "model.safetensors").stat().st_size < 25e6
    text = (folder / "README.md").read_text(encoding="utf-8")
    data = ModelCard(text).data.to_dict()
    assert data["library_name"] == "agit-hub" and data["license"]
    metrics = {m["type"] for result in data["model-index"][0]["results"] for m in result["metrics"]}
    assert {"kid", "fid", "attention_iou", "target_accuracy"} <= metrics
    assert "ImageNet" in text
    for part in text.split("](")[1:]:
        link = part.partition(")")[0]
        assert link.startswith("https://") or (folder / link).is_file()


def test_loading_shipped_model_does_not_import_the_compiler() -> None:
    """Importing TorchDynamo takes ten times as long as loading."""
    program = (
        "import sys; from agit_hub import AGITPipeline; "
        f"AGITPipeline.from_pretrained({str(ROOT / 'models' / 'agit-horse2zebra')!r}, device='cpu'); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.parametrize(("label", "to"), [("horse", "zebra"), ("zebra", "horse")])
def test_shipped_horse2zebra_changes_animals_alone(label: str, to: str) -> None:
    """In each photograph something is attended to, and much is left as it is, byte for byte."""
    pipe = AGITPipeline.from_pretrained(ROOT / "models" / "agit-horse2zebra", device="cpu")
    for path in example_images(label):
        image: Image.Image = open_image(path)
        translation = pipe.predict(image, to).render()
        assert translation.attention.max() > 0.9
        change = np.abs(np.asarray(translation.image, int) - np.asarray(image, int)).mean(axis=-1)
        assert change[translation.attention > 0.9].mean() > 15
        assert (change[translation.attention == 0] == 0).all()
        assert (translation.attention == 0).mean() > 0.3
