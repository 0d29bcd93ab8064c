"""The sample grid of a run, read tile by tile."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from agit_hub.inference.image_processor import to_tensor
from agit_hub.models.agit import AGITModel
from tests.training.conftest import SIZE, Train

Pixels = npt.NDArray[Any]


def test_sample_grid_shows_input_attention_translation_and_reconstruction(
    tmp_path: Path, source: Path, target: Path, train: Train
) -> None:
    settings = {"log.num_samples": 2, "data.crop_margin": 1.0, "train.ema_decay": 0.9}
    train(tmp_path, settings | {"train.learning_rate": 0.05})
    grid = np.asarray(Image.open(tmp_path / "samples" / "step-00000004.png"))
    # Images of 16 pixels are enlarged eight times; a row holds eight.
    side = 8 * SIZE
    tiles = _tiles(grid, side)
    assert [len(row) for row in tiles] == [8, 8]

    model = AGITModel.from_pretrained(tmp_path / "model")
    st, ts = model.source_to_target, model.target_to_source
    for first, folder, forward, backward in ((0, source, st, ts), (4, target, ts, st)):
        for row in (0, 1):
            original = to_tensor(Image.open(folder / f"{row}.png"))
            with torch.no_grad():
                translation = forward(original)
                cycle = backward(translation.image).image
            shown = [tile[4::8, 4::8].astype(float) for tile in tiles[row][first : first + 4]]
            for image, tile in zip(
                (original, translation.image, cycle), (shown[0], shown[2], shown[3]), strict=True
            ):
                expected = ((image[0] + 1) * 127.5).permute(1, 2, 0).numpy()
                assert np.abs(tile - expected).max() <= 1
            # Brightness of the heat map increases with attention.
            attention = translation.attention[0, 0].flatten().numpy()
            order = np.argsort(attention)
            brightness = shown[1].sum(axis=-1).flatten()[order]
            assert (np.diff(brightness) >= -2).all() and np.ptp(brightness) > 0


def _tiles(grid: Pixels, side: int) -> list[list[Pixels]]:
    """Return the images of a grid by row, separated from its background colour."""
    inked = (grid != grid[-1, 0]).any(axis=-1)
    tops = _starts(inked.mean(axis=1) > 0.5, side)
    lefts = _starts(inked[tops[0] : tops[0] + side].mean(axis=0) > 0.5, side)
    return [[grid[y : y + side, x : x + side] for x in lefts] for y in tops]


def _starts(inked: Pixels, side: int) -> list[int]:
    before = np.concatenate([[False], inked[:-1]])
    return [
        int(edge) for edge in np.flatnonzero(inked & ~before) if inked[edge : edge + side].all()
    ]
