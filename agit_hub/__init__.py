"""AGIT Hub: unsupervised attention-guided image-to-image translation (Mejjati et al., 2018)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agit_hub.config import AGITConfig
    from agit_hub.evaluation.evaluator import Evaluator
    from agit_hub.inference.edits import AttentionEdits
    from agit_hub.inference.pipeline import AGITPipeline, TranslationOutput
    from agit_hub.models.agit import AGITModel
    from agit_hub.training.config import TrainConfig
    from agit_hub.training.trainer import Trainer

__version__ = "0.2.0"
__all__ = [
    "AGITConfig",
    "AGITModel",
    "AGITPipeline",
    "AttentionEdits",
    "Evaluator",
    "TrainConfig",
    "Trainer",
    "TranslationOutput",
    "__version__",
]

# Imported on first access: `agit_hub.data.shapes` needs neither torch nor the Hub's client.
_MODULES = {
    "AGITConfig": "agit_hub.config",
    "AGITModel": "agit_hub.models.agit",
    "AGITPipeline": "agit_hub.inference.pipeline",
    "AttentionEdits": "agit_hub.inference.edits",
    "Evaluator": "agit_hub.evaluation.evaluator",
    "TrainConfig": "agit_hub.training.config",
    "Trainer": "agit_hub.training.trainer",
    "TranslationOutput": "agit_hub.inference.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'agit_hub' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
