"""AGIT Hub: unsupervised attention-guided image-to-image translation (Mejjati et al., 2018)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agit_hub.config import AGITConfig
    from agit_hub.modeling import AGITModel
    from agit_hub.pipeline import AGITPipeline, TranslationOutput
    from agit_hub.steering import Steering

__version__ = "0.1.0"
__all__ = [
    "AGITConfig",
    "AGITModel",
    "AGITPipeline",
    "Steering",
    "TranslationOutput",
    "__version__",
]

# Loaded when first asked for: `agit_hub.data.shapes` needs neither torch nor the Hub.
_HOMES = {
    "AGITConfig": "agit_hub.config",
    "AGITModel": "agit_hub.modeling",
    "AGITPipeline": "agit_hub.pipeline",
    "Steering": "agit_hub.steering",
    "TranslationOutput": "agit_hub.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'agit_hub' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
