"""What a run is told: every setting of training, typed, checked and documented in one place."""

from dataclasses import dataclass, field
from typing import Literal

from agit_hub.config import AGITConfig, check_range, check_size, check_types
from agit_hub.data.config import DomainConfig
from agit_hub.errors import ConfigError


@dataclass(frozen=True)
class DataConfig:
    """The two domains, and how a picture becomes a training sample."""

    source: DomainConfig = field(default_factory=DomainConfig)
    """The pictures to translate from, such as horses."""
    target: DomainConfig = field(default_factory=DomainConfig)
    """The pictures to translate to, such as zebras."""
    pairing: Literal["random", "fixed"] = "random"
    """`random` shuffles each domain on its own; `fixed` keeps both in order, as the authors' CSV does."""
    crop_size: int | None = None
    """Side in pixels of the squares to train on; null for `model.image_size`, at which the networks
    translate. Smaller squares train faster (not in the paper)."""
    crop_margin: float = 286 / 256
    """Pictures are resized to `crop_size` times this (shorter side), then randomly cropped."""
    zoom: float = 1.0
    """Largest factor by which pictures are enlarged at random beyond that, each by its own: objects are
    seen at many sizes (not in the paper)."""
    flip: bool = True
    """Mirror half of the samples left to right."""
    workers: int | None = None
    """Processes that decode pictures beside the training; 0 decodes in the training process. null is 0 on
    a CPU, and on a GPU one less than the cores for each process of the run, 1 to 8."""
    in_memory: bool | None = None
    """Decode every picture once and keep it. null does so on a GPU for folders whose pictures take a
    quarter of the free memory at most."""
    network_patience: float = 300
    """Seconds for which a bad network is put up with before a run gives up."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.crop_size is not None:
            check_size("crop_size", self.crop_size)
        check_range(self, "network_patience", 0)
        check_range(self, "crop_margin", 1)
        check_range(self, "zoom", 1)
        check_range(self, "workers", 0)


@dataclass(frozen=True)
class SwitchConfig:
    """The moment from which the discriminators see the attended region alone."""

    epoch: float | None = 30
    """When, in epochs; null for never (unless `step` says when)."""
    step: int | None = None
    """When, in optimiser steps; wins over `epoch`."""
    mask: bool = True
    """Discriminators see only pixels whose attention reaches `train.attention_threshold`."""
    freeze_attention: bool = True
    """Attention networks are no longer trained."""
    bypass_norm: bool = True
    """Discriminators' instance norms are bypassed: masked zeros would spoil their statistics."""
    on_collapse: Literal["postpone", "warn"] = "postpone"
    """With a collapsed map when the moment comes: wait until it recovers, or only say so."""

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, "epoch", 0)
        check_range(self, "step", 0)


@dataclass(frozen=True)
class TrainSettings:
    """The optimisation. Defaults are the paper's unless a docstring says otherwise."""

    epochs: float = 100
    """Length of the run; an epoch is as many samples as the longer domain has pictures."""
    max_steps: int | None = None
    """Length of the run in optimiser steps; wins over `epochs`."""
    steps_per_epoch: int | None = None
    """Optimiser steps that count as an epoch; null goes by the longer domain's pictures. Webdataset
    shards are counted as they arrive, and need it."""
    batch_size: int = 1
    """Pictures of each domain per process and forward pass."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimiser step; equals a batch that many times as large."""
    learning_rate: float = 1e-4
    """Adam's, constant until `decay_from`, then linear to 0."""
    decay_from: float = 0.5
    """The share of the run after which the learning rate falls."""
    adam_beta1: float = 0.5
    """Adam's first momentum."""
    lambda_cyc: float = 10.0
    """Weight of the two cycle consistency losses."""
    lambda_cyc_warmup_steps: int = 0
    """Steps over which `lambda_cyc` rises linearly from 0. Small networks need it (not in the paper)."""
    attention_threshold: float = 0.1
    """tau: pixels whose attention is below it are background."""
    attention_floor: float = 0.0
    """The least mean that maps are to have, in [0, 1): they pay for what they fall short of it, and so
    never empty. It is that of a micro-batch: with it, accumulated gradients do not quite equal those of a
    larger batch. 0 is none (the paper)."""
    lambda_floor: float = 0.5
    """Weight of what maps fall short of `attention_floor`, as a share of it."""
    attention_bias: float = 0.0
    """Bias with which the attention heads start; 2 starts them open (not in the paper)."""
    switch: SwitchConfig = field(default_factory=SwitchConfig)
    """When and how the discriminators turn to the attended region."""
    pool_size: int = 50
    """Translated pictures, with their maps, that each discriminator's image pool remembers."""
    update_order: Literal["joint", "official"] = "joint"
    """`joint` updates both generators in one step; `official` in turn, as the authors' code does."""
    attention_warmup_steps: int = 0
    """Steps on pseudo-labels before the run's own first step: attention on features learns where objects
    are from which image is of which domain (not in the paper); 0 leaves that out."""
    lambda_labels: float = 0.0
    """Weight of what these labels say of maps during the run, where attention is trained on (not in the
    paper)."""
    discriminator_mask: Literal["hard", "soft"] = "hard"
    """How the background is hidden from discriminators after the switch: everything below
    `attention_threshold` (the paper), or gradually up to five times that (not in the paper)."""
    discriminator_margin: int = 0
    """Pixels around what a soft mask leaves of a picture that discriminators see as well: a part of an
    object that attention has missed is then missed by them too, and attention grows."""
    lambda_structure: float = 0.0
    """Weight of what a translation changes in how alike a picture's places are (not in the paper)."""
    adversarial: Literal["least_squares", "hinge"] = "least_squares"
    """The game's loss: `least_squares` (the paper), or `hinge`."""
    augment: bool = False
    """Show discriminators pictures shifted, with a hole, brighter or darker (not in the paper)."""
    discriminator_pixels: bool = False
    """Give `mixed` discriminators a judge of the pixels' own texture, which begins from nothing."""
    discriminator: Literal["patch", "projected", "mixed"] = "patch"
    """`patch` learns from nothing (the paper); `projected` judges by the features of a frozen classifier
    of photographs, which was trained with labels (ImageNet): for small runs on photographs. `mixed` mixes
    the features' channels and depths at random, and has judges with spectral norm."""
    discriminator_channels: int = 64
    """Width of the discriminators' first layer, or of the projected ones' heads."""
    discriminator_layers: int = 3
    """The patch discriminators' stride-2 layers: 3 judge patches of 70 pixels a side (the paper), 2 of
    34."""
    discriminator_updates: int = 1
    """Updates of the discriminators in each step; all but the first are by other real pictures and
    fakes out of the image pools. A discriminator that lags is fooled by changes too faint to see, and
    attention stays as faint (not in the paper)."""
    attention_learning_rate: float | None = None
    """Of the attention networks, if another than the generators': faster ones find objects earlier (not
    in the paper)."""
    discriminator_learning_rate: float | None = None
    """The discriminators' own learning rate; null for the generators'."""
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    """Arithmetic of the forward passes; null takes the launcher's, and `no` (fp32) without one."""
    torch_compile: bool = False
    """Let torch.compile write kernels for the six networks: minutes before the first step, and again at
    the switch, for faster ones from then on. Results differ by rounding; on a CPU it needs a C++
    compiler."""
    torch_compile_mode: Literal["default", "reduce-overhead", "max-autotune"] = "default"
    """Of torch.compile: `reduce-overhead` records CUDA graphs on a GPU, which small batches gain from
    (not measured)."""
    tf32: bool = True
    """On a GPU, let fp32 convolutions and matrix products round their inputs to 10 bits (TF32)."""
    cudnn_benchmark: bool = True
    """On a GPU, time cuDNN's algorithms at the first step and keep the fastest."""
    fused_adam: bool = True
    """On a GPU, update all weights in one kernel."""
    channels_last: bool = False
    """Keep channels innermost in memory, as tensor cores take them. Slower on a CPU; not measured on a
    GPU."""
    deterministic: bool = False
    """On a GPU, use deterministic algorithms alone, so that a resumed run equals an uninterrupted one bit
    for bit; slower. On a CPU it always does."""
    clip_norm: float | None = None
    """Largest norm of a step's gradients; null does not clip."""
    ema: float = 0.0
    """Decay per step of the published networks' moving average, such as 0.999; 0 publishes the last
    weights (the paper has none)."""
    seed: int = 0
    """Of weights, order of samples, augmentation and pool."""
    checkpoint_every: int = 1000
    """Steps between checkpoints; there is always one at the end."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay on disk."""
    init_from: str | None = None
    """Start from the networks of a run folder, a model folder or a Hub repo of the same architecture."""
    collapse_patience: int | None = None
    """Steps for which a map must look empty or full before it counts as collapsed; null takes a tenth
    of the run, but no fewer than 200 steps: every healthy run dips near 0 first."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("batch_size", "gradient_accumulation_steps"):
            check_range(self, name, 1)
        check_range(self, "discriminator_channels", 1)
        check_range(self, "discriminator_updates", 1)
        if self.discriminator_updates > 1 and self.pool_size == 0:
            raise ConfigError(
                "pool_size is 0 and discriminator_updates more than 1: later updates take their fakes "
                "out of the image pools."
            )
        check_range(self, "discriminator_layers", 1, 5)
        for name in ("max_steps", "steps_per_epoch", "collapse_patience"):
            check_range(self, name, 1)
        for name in ("checkpoint_every", "keep_checkpoints"):
            check_range(self, name, 1)
        positive = ("epochs", "learning_rate", "attention_learning_rate", "clip_norm")
        for name in (*positive, "discriminator_learning_rate"):
            check_range(self, name, 0, open_low=True)
        for name in (
            "lambda_cyc",
            "lambda_cyc_warmup_steps",
            "lambda_floor",
            "pool_size",
            "attention_warmup_steps",
            "discriminator_margin",
            "lambda_structure",
            "lambda_labels",
        ):
            check_range(self, name, 0)
        check_range(self, "seed", 0, 2**32 - 1)
        for name in ("decay_from", "attention_threshold"):
            check_range(self, name, 0, 1)
        for name in ("adam_beta1", "ema", "attention_floor"):
            check_range(self, name, 0, 1, open_high=True)


@dataclass(frozen=True)
class EvalConfig:
    """How a run measures itself on its way, on pictures that it is not trained on."""

    every: int | None = None
    """Steps between measurements, of the networks as they would be published, and one at the end; null
    for none. The weights of the lowest KID so far are kept in `picked`."""
    holdout: int | None = None
    """One in so many pictures of both domains is kept from training and measured on."""
    source: DomainConfig = field(default_factory=DomainConfig)
    """Pictures of a validation split, in place of held-out ones; `shapes` draws some for it."""
    target: DomainConfig = field(default_factory=DomainConfig)
    """Likewise."""
    pictures: int = 100
    """The most pictures of each domain: what bounds the time."""
    protocol: str = "lite0"
    """Of KID: `lite0` needs no network; see `agit evaluate --help`."""
    patience: int | None = None
    """Measurements in a row without a lower KID (the sum of both directions) after which the run ends as
    if it had reached its last step; the best weights stay in `picked`. null trains to the last step. The
    learning rate keeps the schedule of the full length, so that it may not have decayed yet."""

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, "every", 1)
        check_range(self, "holdout", 2)
        check_range(self, "pictures", 4)
        check_range(self, "patience", 1)
        paths = bool(self.source.path), bool(self.target.path)
        if paths[0] != paths[1]:
            raise ConfigError("source.path and target.path belong together: give both, or neither.")
        if self.holdout is not None and any(paths):
            raise ConfigError("holdout and source.path are both set: measure on one or the other.")
        if self.every is not None and self.holdout is None and not any(paths):
            raise ConfigError(
                "every is set, and there is nothing to measure on: --eval.holdout 10 keeps every tenth "
                "picture from training, --eval.source.path and --eval.target.path name others."
            )
        if self.patience is not None and self.every is None:
            raise ConfigError(
                "patience is set and every is not: nothing is measured that could stop improving. Give "
                "--eval.every 500, or leave patience out."
            )


@dataclass(frozen=True)
class LogConfig:
    """What a run says and shows."""

    every: int = 50
    """Steps between lines of `metrics.jsonl`."""
    samples_every: int = 500
    """Steps between sample grids; there is always one at the end."""
    samples: int = 4
    """Pictures of each domain in a sample grid."""
    trackers: str | list[str] | None = None
    """Experiment trackers that Accelerate knows: `tensorboard`, `trackio`, `wandb`, or a list of them."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("every", "samples_every", "samples"):
            check_range(self, name, 1)

    @property
    def tracker_names(self) -> list[str]:
        """The trackers as a list."""
        return [self.trackers] if isinstance(self.trackers, str) else list(self.trackers or [])


@dataclass(frozen=True)
class HubConfig:
    """Where the model is published, if it is."""

    push_to_hub: bool = False
    """Publish at the end of the run (and on the way, see `every`)."""
    hub_model_id: str | None = None
    """The repository: `user/agit-horse2zebra`, or a name for your own."""
    license: str | None = None
    """Of the model, as the Hub spells it: `mit`, `cc-by-4.0`, ... That of the pictures decides."""
    private: bool = False
    """Make the repository private, if it is new."""
    samples: bool = True
    """Show the sample grid on the card: pictures of the training set are published with it."""
    every: int | None = None
    """Optimiser steps between pushes on the way, in the background; null pushes at the end alone."""
    branch: str | None = None
    """Where pushes on the way go; null for the main branch."""

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, "every", 1)
        if self.push_to_hub and not self.hub_model_id:
            raise ConfigError("hub_model_id is missing: the repository to push to, user/name.")
        if self.push_to_hub and not self.license:
            raise ConfigError(
                "license is missing: the licence of the training pictures decides under which the "
                "model may be published (mit, cc-by-4.0, other, ...)."
            )


# What of `train` goes by the features that attention has.
_OF_FEATURES = ("attention_warmup_steps", "lambda_labels", "lambda_structure")


@dataclass(frozen=True)
class TrainConfig:
    """A whole run."""

    preset: Literal["paper", "official", "cyclegan"] | None = None
    """Fills `model`, `data` and `train` with a known recipe; keys given explicitly win."""
    model: AGITConfig = field(default_factory=AGITConfig)
    """The architecture."""
    data: DataConfig = field(default_factory=DataConfig)
    """The pictures."""
    train: TrainSettings = field(default_factory=TrainSettings)
    """The optimisation."""
    eval: EvalConfig = field(default_factory=EvalConfig)
    """What the run measures on its way."""
    log: LogConfig = field(default_factory=LogConfig)
    """What the run says."""
    hub: HubConfig = field(default_factory=HubConfig)
    """Where the model is published."""
    output_dir: str = ""
    """The run folder; it must be new, or hold this very run when resuming."""

    def __post_init__(self) -> None:
        if not self.output_dir:
            raise ConfigError("output_dir is missing: --output_dir runs/my-run")
        for name in _OF_FEATURES:
            if getattr(self.train, name) and self.model.attention != "features":
                raise ConfigError(
                    f"train.{name} is {getattr(self.train, name)} and model.attention "
                    f"{self.model.attention}: it goes by features, --model.attention features."
                )
        for side in ("source", "target"):
            if not getattr(self.data, side).path:
                raise ConfigError(f"data.{side}.path is missing: --data.{side}.path FOLDER")

    @property
    def crop_size(self) -> int:
        """Side in pixels of the squares to train on."""
        return self.data.crop_size or self.model.image_size
