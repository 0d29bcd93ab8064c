"""Known recipes: what `preset` fills in."""

from collections.abc import Mapping
from typing import Any

# A preset states every figure that makes it what it is, equal to a default or not, so that a change
# of defaults never changes what "paper" means.
_PAPER: dict[str, Any] = {
    "model": {
        "image_size": 256,
        "channels": 32,
        "blocks": 9,
        "upsampling": "transposed",
        "residual": False,
        "attention": "network",
        "attention_channels": 32,
        "attention_decoder": "paper",
        "attention_smoothing": 1,
        "attention_levels": 1,
    },
    "data": {
        "pairing": "random",
        "crop_size": None,
        "crop_margin": 286 / 256,
        "zoom": 1.0,
        "flip": True,
    },
    "train": {
        "epochs": 100,
        "batch_size": 1,
        "learning_rate": 1e-4,
        "attention_learning_rate": None,
        "decay_from": 0.5,
        "adam_beta1": 0.5,
        "lambda_cyc": 10.0,
        "lambda_cyc_warmup_steps": 0,
        "attention_floor": 0.0,
        "attention_threshold": 0.1,
        "attention_bias": 0.0,
        "attention_warmup_steps": 0,
        "lambda_labels": 0.0,
        "lambda_structure": 0.0,
        "adversarial": "least_squares",
        "augment": False,
        "switch": {
            "epoch": 30,
            "mask": True,
            "freeze_attention": True,
            "bypass_norm": True,
            "on_collapse": "warn",
        },
        "pool_size": 50,
        "update_order": "joint",
        "discriminator": "patch",
        "discriminator_mask": "hard",
        "discriminator_margin": 0,
        "discriminator_pixels": False,
        "discriminator_channels": 64,
        "discriminator_layers": 3,
        "discriminator_updates": 1,
        "ema": 0.0,
    },
}


def _changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _changed(merged[key], value) if nested else value
    return merged


PRESETS: dict[str, dict[str, Any]] = {
    # The method as the paper describes it: the decoder as intended, one step for both generators.
    "paper": _PAPER,
    # The authors' code as it runs.
    "official": _changed(
        _PAPER,
        {
            "model": {"attention_decoder": "official"},
            "data": {"pairing": "fixed"},
            "train": {"update_order": "official"},
        },
    ),
    # The baseline the paper starts from: attention is 1 everywhere and nothing is ever masked.
    "cyclegan": _changed(
        _PAPER, {"model": {"attention": "ones"}, "train": {"switch": {"epoch": None}}}
    ),
}
