"""AGITModel: both generators and both attention networks, saved and loaded as one repo."""

import copy
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agit_hub.config import AGITConfig
from agit_hub.models.attention import AttentionNetwork, FeatureAttention, FullAttention
from agit_hub.models.backbone import FrozenBackbone
from agit_hub.models.config_file import read_config
from agit_hub.models.equations import composite
from agit_hub.models.generator import ResnetGenerator
from agit_hub.models.loading_options import DeviceMap, resolve_device, resolve_dtype
from agit_hub.models.location import CONFIG_FILE, WEIGHTS_FILE, find_model
from agit_hub.models.remote import HubOptions, fetch_model
from agit_hub.models.weights_header import Header, check_header, read_header


class Translation(NamedTuple):
    """One direction of one forward pass, each (N, C, H, W)."""

    image: Tensor
    """s', three channels in [-1, 1]."""
    attention: Tensor
    """s_a, one channel in [0, 1]."""
    generated: Tensor
    """F(s), three channels in [-1, 1]: the generator's output before compositing."""


class AGITModel(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="agit-hub",
    pipeline_tag="image-to-image",
    paper_url="https://arxiv.org/abs/1806.02311",
    tags=["image-to-image", "unpaired", "attention", "gan"],
):
    """The published networks: `generator_st`, `generator_ts`, `attention_s` and `attention_t`.

    Weights are drawn as the authors draw them; those of `features`, which exist if `config.attention`
    is `features`, come from `backbone.load_imagenet_weights`.

    Args:
        config: The architecture.
    """

    def __init__(self, config: AGITConfig) -> None:
        super().__init__()
        self.config = config
        generator = config.channels, config.blocks, config.upsampling, config.residual
        self.generator_st = ResnetGenerator(*generator, config.source_blur)
        self.generator_ts = ResnetGenerator(*generator, config.target_blur)
        self.features = FrozenBackbone() if config.attention == "features" else None
        self.attention_s = _attention_network(config, self.features)
        self.attention_t = _attention_network(config, self.features)

    def source_to_target(self, source: Tensor) -> Translation:
        """Translate source images s, (N, 3, H, W) in [-1, 1], by Eq. 1."""
        return self(source, self.config.target_label)  # type: ignore[no-any-return]

    def target_to_source(self, target: Tensor) -> Translation:
        """Translate target images t, (N, 3, H, W) in [-1, 1], by Eq. 1."""
        return self(target, self.config.source_label)  # type: ignore[no-any-return]

    def direction(self, to: str | None = None) -> tuple[nn.Module, nn.Module]:
        """Return the attention network and the generator that translate to a label.

        Args:
            to: `source_label` or `target_label` of the config; the target when None.

        Raises:
            ValueError: If the label is neither; the message names both.
        """
        if self.config.goal(to) == self.config.target_label:
            return self.attention_s, self.generator_st
        return self.attention_t, self.generator_ts

    def forward(self, images: Tensor, to: str | None = None) -> Translation:
        """Translate images to a label.

        Args:
            images: (N, 3, H, W), in [-1, 1]; height and width multiples of 4.
            to: As for `direction`.
        """
        attention_network, generator = self.direction(to)
        attention = attention_network(images)
        generated = generator(images)
        return Translation(composite(images, generated, attention), attention, generated)

    def save_pretrained(
        self, save_directory: str | Path, *, dtype: torch.dtype | None = None, **kwargs: Any
    ) -> str | None:
        """Save config, weights and a model card to a folder.

        Args:
            save_directory: The folder; created if missing.
            dtype: Of the saved weights, such as `torch.float16`; the model's own when None.
            **kwargs: Of `huggingface_hub.ModelHubMixin.save_pretrained`.
        """
        model = self if dtype is None else copy.deepcopy(self).to(dtype)
        return super(AGITModel, model).save_pretrained(save_directory, **kwargs)

    def _save_pretrained(self, save_directory: Path) -> None:
        config = json.dumps(self.config.to_dict(), indent=2) + "\n"
        (save_directory / CONFIG_FILE).write_text(config, encoding="utf-8")
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, save_directory / WEIGHTS_FILE, metadata={"format": "pt"})

    @classmethod
    def from_pretrained(  # type: ignore[override]  # no **kwargs: a mistyped argument must fail
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device_map: DeviceMap = None,
    ) -> Self:
        """Load a model from a folder or a Hub repo, strictly, in evaluation mode.

        The mixin's own loading ignores unknown keys and misnamed weights; here both are errors.

        Args:
            pretrained_model_name_or_path: A model's folder, a run folder, a weights file beside its
                config, or a repo id; an existing path takes precedence.
            revision: Branch, tag or commit of the repo.
            token: Access token, for private repos; by default the one of `hf auth login`.
            cache_dir: Folder for downloads.
            force_download: Download again what is already cached.
            local_files_only: Use the cache alone.
            device: Device of the weights; the CPU by default.
            dtype: Dtype of the loaded weights, independent of the file's; float32 by default.
            torch_dtype: The same, as diffusers spells it.
            device_map: The same as `device`, as diffusers spells it; a model is never split.

        Raises:
            ModelLoadError: If the path or repo is not a usable AGIT model.
            UserError: If a device or dtype is none.
            AgitError: If the download fails.
        """
        source, wanted = str(pretrained_model_name_or_path), resolve_dtype(dtype, torch_dtype)
        place = resolve_device(device, device_map) or torch.device("cpu")
        options: HubOptions = {
            "revision": revision,
            "token": token,
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
        }

        def judge(config: AGITConfig, header: Header) -> None:
            check_header(source, header, expected_shapes(config))

        files = find_model(source) or fetch_model(source, options, judge)
        config = read_config(source, files.path(CONFIG_FILE), str(files.folder / CONFIG_FILE))
        path = files.path(files.weights)
        # The header holds names and shapes, so the weights of a mismatched file are never read.
        judge(config, read_header(path))
        # On the meta device nothing is allocated or drawn.
        with torch.device("meta"):
            model = cls(config)
        weights = {name: tensor.to(wanted) for name, tensor in load_file(path).items()}
        model.load_state_dict(weights, strict=True, assign=True)
        # Not loaded onto the device directly: before a ZeroGPU Space has a driver, its torch supports
        # `to`, and safetensors' own transfer bypasses it.
        return model.eval().to(place)


def _attention_network(config: AGITConfig, features: FrozenBackbone | None) -> nn.Module:
    channels, smoothing = config.attention_channels, config.attention_smoothing
    if config.attention == "ones":
        return FullAttention()
    if features is not None:
        return FeatureAttention(features, channels, smoothing, config.attention_levels)
    return AttentionNetwork(channels, config.attention_decoder, smoothing)


@lru_cache(maxsize=8)
def expected_shapes(config: AGITConfig) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of a model's weights by name; none is allocated."""
    with torch.device("meta"):
        model = AGITModel(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
