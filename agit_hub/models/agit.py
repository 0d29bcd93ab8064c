"""AGITModel: both generators and both attention networks, saved and loaded as one repo."""

import copy
import errno
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
from agit_hub.environment import explain
from agit_hub.errors import AgitError, ConfigError, ModelLoadError
from agit_hub.models.attention import AttentionNetwork, FeatureAttention, FullAttention
from agit_hub.models.backbone import FrozenBackbone
from agit_hub.models.equations import composite
from agit_hub.models.generator import ResnetGenerator
from agit_hub.models.loading_options import DeviceMap, resolve_device, resolve_dtype
from agit_hub.models.location import CONFIG_FILE, WEIGHTS_FILE, find_model

# Dtypes of weights files, as safetensors headers name them.
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_ACCEPTED_DTYPES = ("F32", "F16", "BF16")
# Errors of a download that the user can correct; a subclass comes before its base.
_REFUSALS: dict[type[Exception], str] = {
    LocalEntryNotFoundError: (
        "is neither a local folder nor in the cache, and the Hub is unreachable"
    ),
    EntryNotFoundError: "has no {filename}: not an AGIT model",
    GatedRepoError: "is gated: accept its terms on its page, then run: hf auth login",
    RepositoryNotFoundError: (
        "does not exist as a folder or on the Hub; if it is private, run: hf auth login"
    ),
    RevisionNotFoundError: "has no revision {revision!r}",
    HFValidationError: "is neither an existing folder nor a repo id such as user/model",
}


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
        self.generator_st = ResnetGenerator(*generator)
        self.generator_ts = ResnetGenerator(*generator)
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
        local = find_model(source)

        def resolve(filename: str) -> Path:
            if local is not None:
                path = local.folder / filename
                if not path.exists():
                    raise ModelLoadError(f"{local.folder} has no {filename}: not an AGIT model.")
                return path
            return _download(
                source,
                filename,
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
            )

        config = _read_config(source, resolve(CONFIG_FILE))
        # On the meta device nothing is allocated or drawn before the weights have been checked.
        with torch.device("meta"):
            model = cls(config)
        path = resolve(WEIGHTS_FILE if local is None else local.weights)
        # The header holds names and shapes, so the weights of a mismatched file are never read.
        _check_weights(source, model, _read_header(source, path))
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


def _download(repo: str, filename: str, **options: Any) -> Path:
    try:
        return Path(hf_hub_download(repo, filename, **options))
    except (OSError, EntryNotFoundError, HFValidationError) as error:
        for kind, reason in _REFUSALS.items():
            if isinstance(error, kind):
                reason = reason.format(filename=filename, revision=options["revision"])
                raise ModelLoadError(f"{repo} {reason}.") from error
        expected = explain(error) or error
        cache = "" if options["local_files_only"] else _cache_hint(error)
        raise AgitError(f"The model {repo} could not be fetched: {expected}{cache}") from error


def _cache_hint(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.ENOSPC):
        return " The cache is where HF_HOME says, or cache_dir."
    return ""


def _read_config(source: str, path: Path) -> AGITConfig:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelLoadError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ModelLoadError(f"{path} holds a {type(values).__name__}, not an object.")
    try:
        return AGITConfig.from_dict(values)
    except ConfigError as error:
        raise ModelLoadError(f"{source}: {error}") from error


def _read_header(source: str, path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and dtype of each weight in a file."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no dict
            return {name: (tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
    except SafetensorError as error:
        raise ModelLoadError(f"{path} cannot be read as safetensors: {error}") from error


def _check_weights(
    source: str, model: nn.Module, weights: dict[str, tuple[tuple[int, ...], str]]
) -> None:
    expected = model.state_dict()
    missing = sorted(expected.keys() - weights.keys())
    unexpected = sorted(weights.keys() - expected.keys())
    if missing or unexpected:
        parts = [f"lacks {_few(missing)}"] * bool(missing)
        parts += [f"has {_few(unexpected)}, which no network uses"] * bool(unexpected)
        raise ModelLoadError(
            f"The weights of {source} do not match its config: the file {' and '.join(parts)}."
        )
    for name, (shape, dtype) in weights.items():
        wanted = tuple(expected[name].shape)
        if shape != wanted or dtype not in _ACCEPTED_DTYPES:
            raise ModelLoadError(
                f"The weight {name} of {source} is {shape} {_DTYPES.get(dtype, dtype)}; its config "
                f"requires {wanted} float32, float16 or bfloat16."
            )


def _few(names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
