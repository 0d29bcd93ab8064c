"""AGITModel: both generators and both attention networks, saved and loaded as one repo."""

import json
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agit_hub.config import AGITConfig
from agit_hub.errors import ConfigError, ModelLoadError
from agit_hub.models.attention import AttentionNetwork, FeatureAttention, FullAttention
from agit_hub.models.backbone import FrozenBackbone
from agit_hub.models.equations import composite
from agit_hub.models.generator import ResnetGenerator

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
# As a safetensors header spells them.
_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


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
    """The published part of the method: `generator_st`, `generator_ts`, `attention_s`, `attention_t`.

    Each is a plain module to build on. Weights are drawn as the authors draw them; those of `features`,
    which exist if `config.attention` is `features`, come from `backbone.load_imagenet_weights`.

    Args:
        config: The architecture.
    """

    def __init__(self, config: AGITConfig) -> None:
        super().__init__()
        self.config = config
        generator = config.channels, config.blocks, config.upsampling, config.residual
        self.generator_st = ResnetGenerator(*generator)
        self.generator_ts = ResnetGenerator(*generator)
        self.features = FrozenBackbone() if config.attention == "features" else None
        self.attention_s = _attention(config, self.features)
        self.attention_t = _attention(config, self.features)

    def source_to_target(self, source: Tensor) -> Translation:
        """Translate source pictures s, (N, 3, H, W) in [-1, 1], by Eq. 1."""
        return _translate(source, self.generator_st, self.attention_s)

    def target_to_source(self, target: Tensor) -> Translation:
        """Translate target pictures t, (N, 3, H, W) in [-1, 1], by Eq. 1."""
        return _translate(target, self.generator_ts, self.attention_t)

    def direction(self, to: str | None = None) -> tuple[nn.Module, nn.Module]:
        """The attention network and the generator that lead to a label; the target when None.

        Raises:
            ValueError: If the label is neither of the two.
        """
        if self.config.goal(to) == self.config.target_label:
            return self.attention_s, self.generator_st
        return self.attention_t, self.generator_ts

    def forward(self, images: Tensor, to: str | None = None) -> Translation:
        """Translate pictures towards a label.

        Args:
            images: (N, 3, H, W), in [-1, 1]; height and width multiples of 4.
            to: `source_label` or `target_label` of the config; the target when None.

        Raises:
            ValueError: If the label is neither, naming the two there are.
        """
        if self.config.goal(to) == self.config.target_label:
            return self.source_to_target(images)
        return self.target_to_source(images)

    def _save_pretrained(self, save_directory: Path) -> None:
        config = json.dumps(self.config.to_dict(), indent=2) + "\n"
        (save_directory / CONFIG_FILE).write_text(config, encoding="utf-8")
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, save_directory / WEIGHTS_FILE, metadata={"format": "pt"})

    @classmethod
    def from_pretrained(  # type: ignore[override]  # no **kwargs: a typo must not pass
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Load a model from a folder or a Hub repo, strictly; it comes in evaluation mode.

        The mixin's own loading drops unknown keys and ignores misnamed weights in silence; here both
        are refused by name.

        Args:
            pretrained_model_name_or_path: A folder (an existing one wins) or a repo id.
            revision: Branch, tag or commit of the repo.
            token: Access token, for private repos; by default the one of `hf auth login`.
            cache_dir: Where downloads are kept.
            force_download: Download again what is already cached.
            local_files_only: Use the cache alone.
            device: Where the weights go.

        Raises:
            ModelLoadError: If what is there is not a usable AGIT model.
        """
        place = str(Path(pretrained_model_name_or_path).expanduser())

        def resolve(filename: str) -> Path:
            if Path(place).is_dir():
                return Path(place) / filename
            try:
                return Path(
                    hf_hub_download(
                        place,
                        filename,
                        revision=revision,
                        token=token,
                        cache_dir=cache_dir,
                        force_download=force_download,
                        local_files_only=local_files_only,
                    )
                )
            except LocalEntryNotFoundError as error:
                raise ModelLoadError(
                    f"{place} is no folder here and not in the cache, and the Hub cannot be reached."
                ) from error
            except EntryNotFoundError as error:
                raise ModelLoadError(f"{place} has no {filename}: not an AGIT model.") from error
            except GatedRepoError as error:
                raise ModelLoadError(
                    f"The model {place} has terms: accept them on its page, and then: hf auth login."
                ) from error
            except RepositoryNotFoundError as error:
                raise ModelLoadError(
                    f"There is no model {place}, neither as a folder nor on the Hub; if it is private, "
                    "log in with: hf auth login."
                ) from error
            except RevisionNotFoundError as error:
                raise ModelLoadError(f"{place} has no revision {revision!r}.") from error
            except HFValidationError as error:
                raise ModelLoadError(
                    f"There is no folder {place}, and it is no repo id such as user/model."
                ) from error

        model = cls._unfilled(_read_config(place, resolve(CONFIG_FILE)))
        path = resolve(WEIGHTS_FILE)
        # Names and shapes stand in the file's header: a file that does not fit is never read.
        _check_weights(place, model, _read_shapes(place, path))
        model.load_state_dict(load_file(path), strict=True, assign=True)
        # Not read onto the device at once: ZeroGPU's torch, which has no driver yet when a Space starts,
        # understands `to`, and safetensors' own way to a GPU goes past it.
        return model.eval().to(device)

    @classmethod
    def _unfilled(cls, config: AGITConfig) -> Self:
        # On the meta device nothing is allocated or drawn before the weights have been checked.
        with torch.device("meta"):
            return cls(config)


def _attention(config: AGITConfig, features: FrozenBackbone | None) -> nn.Module:
    if config.attention == "ones":
        return FullAttention()
    if features is not None:
        return FeatureAttention(
            features,
            config.attention_channels,
            config.attention_smoothing,
            config.attention_levels,
        )
    return AttentionNetwork(
        config.attention_channels, config.attention_decoder, config.attention_smoothing
    )


def _translate(image: Tensor, generator: nn.Module, attention: nn.Module) -> Translation:
    attention_map: Tensor = attention(image)
    generated: Tensor = generator(image)
    return Translation(composite(image, generated, attention_map), attention_map, generated)


def _read_config(place: str, path: Path) -> AGITConfig:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelLoadError(f"{place} has no {CONFIG_FILE}: not an AGIT model.") from error
    except ValueError as error:
        raise ModelLoadError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ModelLoadError(f"{path} holds a {type(values).__name__}, not an object.")
    try:
        return AGITConfig.from_dict(values)
    except ConfigError as error:
        raise ModelLoadError(f"{place}: {error}") from error


def _read_shapes(place: str, path: Path) -> dict[str, tuple[list[int], str]]:
    """Shape and type of each weight in a file."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no dict
            return {name: (s.get_shape(), s.get_dtype()) for name, s in slices.items()}
    except FileNotFoundError as error:
        raise ModelLoadError(f"{place} has no {WEIGHTS_FILE}: not an AGIT model.") from error
    except SafetensorError as error:
        raise ModelLoadError(f"{path} cannot be read as safetensors: {error}") from error


def _check_weights(place: str, model: nn.Module, weights: dict[str, tuple[list[int], str]]) -> None:
    expected = model.state_dict()
    missing = sorted(expected.keys() - weights.keys())
    extra = sorted(weights.keys() - expected.keys())
    if missing or extra:
        parts = [f"lacks {_few(missing)}"] * bool(missing) + [f"has {_few(extra)}"] * bool(extra)
        raise ModelLoadError(
            f"The weights of {place} do not fit its config: the file {' and '.join(parts)}"
            f"{', which no network here owns' if extra else ''}."
        )
    for name, (shape, dtype) in weights.items():
        wanted = tuple(expected[name].shape)
        if tuple(shape) != wanted or dtype != "F32":
            raise ModelLoadError(
                f"The weight {name} of {place} is {tuple(shape)} {_TYPES.get(dtype, dtype)}, and its "
                f"config says {wanted} float32."
            )


def _few(names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
