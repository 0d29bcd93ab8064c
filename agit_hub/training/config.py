"""Every option of a training run, typed, validated and documented in one place."""

from dataclasses import dataclass, field
from typing import Literal

from agit_hub.config import AGITConfig, check_range, check_types
from agit_hub.data.config import DataConfig, DomainConfig
from agit_hub.errors import ConfigError
from agit_hub.runs import FORMAT_VERSION


@dataclass(frozen=True)
class SwitchConfig:
    """The switch: the step from which the discriminators see the attended region only."""

    epoch: float | None = 30
    """Time of the switch in epochs; null for never (unless `step` is set)."""
    step: int | None = None
    """Time of the switch in optimiser steps; takes precedence over `epoch`."""
    mask: bool = True
    """Discriminators see only pixels whose attention is at least `train.attention_threshold`."""
    freeze_attention: bool = True
    """Stop training the attention networks."""
    bypass_norm: bool = True
    """Bypass the discriminators' instance norms, whose statistics the masked zeros would distort."""
    on_collapse: Literal["postpone", "warn"] = "postpone"
    """If a map has collapsed when the switch is due: postpone the switch until it recovers, or switch
    and log a warning."""

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, "epoch", "step", low=0)


@dataclass(frozen=True)
class TrainSettings:
    """The optimisation. Defaults are the paper's unless a docstring states otherwise."""

    num_epochs: float = 100
    """Length of the run in epochs; an epoch is as many samples as the larger domain has images."""
    max_steps: int | None = None
    """Length of the run in optimiser steps; takes precedence over `num_epochs`."""
    steps_per_epoch: int | None = None
    """Optimiser steps per epoch; null computes it from the larger domain's images. Required for
    webdataset shards, whose images are not counted in advance."""
    batch_size: int = 1
    """Images of each domain per process and forward pass."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimiser step; equivalent to a batch that many times as large."""
    learning_rate: float = 1e-4
    """Learning rate of Adam, constant until `decay_from`, then linear to 0."""
    decay_from: float = 0.5
    """Fraction of the run after which the learning rate decays."""
    adam_beta1: float = 0.5
    """First momentum of Adam."""
    lambda_cyc: float = 10.0
    """Weight of the two cycle consistency losses."""
    lambda_cyc_warmup_steps: int = 0
    """Steps over which `lambda_cyc` rises linearly from 0. Small networks need it (not in the paper)."""
    attention_threshold: float = 0.1
    """tau: pixels with attention below it are background."""
    attention_floor: float = 0.0
    """Mean attention below which a penalty is added to the loss, in [0, 1), so that maps do not collapse
    to 0. It is computed per micro-batch: with it, accumulated gradients differ slightly from those of a
    larger batch. 0 disables it (the paper)."""
    switch: SwitchConfig = field(default_factory=SwitchConfig)
    """When and how the discriminators switch to the attended region."""
    pool_size: int = 50
    """Translated images, with their maps, in each discriminator's image pool."""
    update_order: Literal["joint", "official"] = "joint"
    """`joint` updates both generators in one step; `official` one after the other, as the authors' code
    does."""
    directions: Literal["both", "source_to_target", "target_to_source"] = "both"
    """Directions to train. One alone takes half of the time; the networks of the other one stay as they
    are, for example those of `init_from`. It requires `lambda_cyc` 0, since a cycle needs both."""
    attention_warmup_steps: int = 0
    """Steps of attention training on pseudo-labels before the first step of the run: attention on
    features learns where objects are from the domain labels alone (not in the paper). 0 disables it."""
    discriminator_mask: Literal["hard", "soft"] = "hard"
    """Mask of the discriminators' input after the switch: `hard` at `attention_threshold` (the paper), or
    `soft`, which rises from 0 to 1 over up to five times the threshold (not in the paper)."""
    lambda_mask: float | None = None
    """Weight of the loss between attention and the masks of `data.source.masks` and `data.target.masks`
    (not in the paper): binary cross-entropy plus Dice, averaged over all images, of which those without
    a mask count 0 and train attention by the method alone. null is 1 if a domain names masks."""
    lambda_structure: float = 0.0
    """Weight of the structure loss: the change of the feature self-similarity between input and
    translation (not in the paper). A direction whose generator starts from a blurred image has none."""
    adversarial: Literal["least_squares", "hinge"] = "least_squares"
    """Adversarial loss: `least_squares` (the paper), or `hinge`."""
    augment: bool = False
    """Augment the discriminators' inputs: shift, cutout and brightness (not in the paper)."""
    discriminator: Literal["patch", "projected", "mixed"] = "patch"
    """`patch` is trained from scratch (the paper). `projected` uses the features of a frozen ImageNet
    classifier: for short runs on photographs. `mixed` mixes the features' channels and depths at random
    and uses heads with spectral norm."""
    discriminator_channels: int = 64
    """Width of the discriminators' first layer, or of the heads on features."""
    discriminator_layers: int = 3
    """Stride-2 layers of patch discriminators: 3 have a receptive field of 70 pixels (the paper), 2 of
    34."""
    discriminator_pixels: bool = False
    """Add a head on the pixels to `mixed` discriminators, trained from scratch."""
    discriminator_updates: int = 1
    """Discriminator updates per step; all but the first use other real images, and fakes from the image
    pools. A weak discriminator accepts changes that are nearly invisible, and attention stays as low (not
    in the paper)."""
    attention_learning_rate: float | None = None
    """Learning rate of the attention networks; null uses `learning_rate`. A higher one finds objects
    earlier (not in the paper)."""
    discriminator_learning_rate: float | None = None
    """Learning rate of the discriminators; null uses `learning_rate`."""
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    """Precision of the forward passes; null uses the launcher's, or `no` (fp32) without one."""
    torch_compile: bool = False
    """Compile the six networks with torch.compile: minutes before the first step and at the switch, then
    faster steps. Results differ by rounding; on a CPU it needs a C++ compiler."""
    torch_compile_mode: Literal["default", "reduce-overhead", "max-autotune"] = "default"
    """Mode of torch.compile: `reduce-overhead` records CUDA graphs, which helps small batches on a GPU
    (not measured)."""
    tf32: bool = True
    """On a GPU, allow TF32 in fp32 convolutions and matrix products."""
    cudnn_benchmark: bool = True
    """On a GPU, let cuDNN time its algorithms at the first step and use the fastest."""
    fused_adam: bool = True
    """On a GPU, use the fused implementation of Adam."""
    channels_last: bool = False
    """Use the channels-last memory format. Slower on a CPU; not measured on a GPU."""
    deterministic: bool = False
    """On a GPU, use deterministic algorithms only, so that a resumed run equals an uninterrupted one bit
    for bit; slower. A CPU is always deterministic."""
    max_grad_norm: float | None = None
    """Maximum norm for gradient clipping; null does not clip."""
    ema_decay: float = 0.0
    """Decay per step of the exponential moving average of the published networks, such as 0.999; 0
    publishes the last weights (the paper)."""
    seed: int = 0
    """Seed of weights, sample order, data augmentation and image pools."""
    checkpointing_steps: int = 1000
    """Steps between checkpoints; one is always saved at the end."""
    checkpoints_total_limit: int = 2
    """Number of checkpoints to keep; older ones are deleted."""
    init_from: str | None = None
    """Initialise the networks from a run folder, model folder or Hub repo of the same architecture."""
    collapse_patience: int | None = None
    """Steps for which a map must be near 0 or near 1 everywhere to count as collapsed; null is a tenth of
    the run, at least 200 steps: every healthy run is near 0 at first."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.discriminator_updates > 1 and self.pool_size == 0:
            raise ConfigError(
                f"pool_size is 0 and discriminator_updates {self.discriminator_updates}: further updates "
                "take their fakes from the image pools. Set pool_size to at least 1."
            )
        if self.directions != "both" and self.lambda_cyc > 0:
            raise ConfigError(
                f"directions is {self.directions} and lambda_cyc {self.lambda_cyc:g}: a cycle needs both "
                "directions. Set lambda_cyc to 0, with lambda_structure, or train both."
            )
        lengths = ("max_steps", "steps_per_epoch", "collapse_patience", "checkpointing_steps")
        check_range(self, *lengths, "checkpoints_total_limit", low=1)
        check_range(self, "batch_size", "gradient_accumulation_steps", low=1)
        check_range(self, "discriminator_channels", "discriminator_updates", low=1)
        check_range(self, "discriminator_layers", low=1, high=5)
        rates = ("learning_rate", "attention_learning_rate", "discriminator_learning_rate")
        check_range(self, "num_epochs", *rates, "max_grad_norm", low=0, open_low=True)
        weights = ("lambda_cyc", "lambda_cyc_warmup_steps", "lambda_mask", "lambda_structure")
        check_range(self, *weights, low=0)
        check_range(self, "pool_size", "attention_warmup_steps", low=0)
        check_range(self, "seed", low=0, high=2**32 - 1)
        check_range(self, "decay_from", "attention_threshold", low=0, high=1)
        shares = ("adam_beta1", "ema_decay", "attention_floor")
        check_range(self, *shares, low=0, high=1, open_high=True)

    @property
    def mask_weight(self) -> float:
        """Weight of the mask loss, where there are masks: `lambda_mask`, or its default."""
        return 1.0 if self.lambda_mask is None else self.lambda_mask


@dataclass(frozen=True)
class EvalConfig:
    """Validation during the run, on images that are not trained on."""

    steps: int | None = None
    """Steps between validations of the published networks, with one more at the end; null disables
    validation. The weights with the lowest KID so far are kept in `best`."""
    holdout: int | None = None
    """Hold out every n-th image of both domains for validation."""
    source: DomainConfig = field(default_factory=DomainConfig)
    """Source images of a validation split, instead of held-out ones; `shapes` draws validation images."""
    target: DomainConfig = field(default_factory=DomainConfig)
    """Target images of a validation split."""
    max_images: int = 100
    """Maximum number of images of each domain, which bounds the time."""
    protocol: str = "lite0"
    """KID protocol: `lite0` needs no network access; see `agit evaluate --help`."""
    patience: int | None = None
    """Early stopping: consecutive validations without a lower KID (sum of both directions) after which
    the run ends; the best weights stay in `best`. null trains to the last step. The learning rate
    follows the schedule of the full length, so it may not have decayed yet."""

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, "steps", "patience", low=1)
        check_range(self, "holdout", low=2)
        check_range(self, "max_images", low=4)
        paths = bool(self.source.path), bool(self.target.path)
        if paths[0] != paths[1]:
            raise ConfigError("source.path and target.path belong together: set both, or neither.")
        if self.holdout is not None and any(paths):
            raise ConfigError(
                f"holdout is {self.holdout} and source.path is set: unset one of them."
            )
        if self.steps is not None and self.holdout is None and not any(paths):
            raise ConfigError(
                f"steps is {self.steps}, but there are no validation images: set --eval.holdout 10 to "
                "hold out every tenth image, or --eval.source.path and --eval.target.path."
            )
        if self.patience is not None and self.steps is None:
            raise ConfigError(
                f"patience is {self.patience} and steps is unset, so nothing is validated: set "
                "--eval.steps 500, or unset patience."
            )


@dataclass(frozen=True)
class LogConfig:
    """Logging."""

    steps: int = 50
    """Steps between lines of `metrics.jsonl`."""
    sample_steps: int = 500
    """Steps between sample grids; one is always saved at the end."""
    num_samples: int = 4
    """Images of each domain in a sample grid."""
    report_to: str | list[str] | None = None
    """Experiment trackers of Accelerate: `tensorboard`, `trackio`, `wandb`, or a list of them."""

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, "steps", "sample_steps", "num_samples", low=1)

    @property
    def trackers(self) -> list[str]:
        """`report_to` as a list."""
        return [self.report_to] if isinstance(self.report_to, str) else list(self.report_to or [])


@dataclass(frozen=True)
class HubConfig:
    """Publishing on the Hub."""

    push_to_hub: bool = False
    """Publish the model at the end of the run (and during it, see `push_steps`)."""
    hub_model_id: str | None = None
    """Repository: `user/agit-horse2zebra`, or a name in your own namespace."""
    license: str | None = None
    """Licence of the model as the Hub spells it: `mit`, `cc-by-4.0`, ... It depends on the licence of the
    training images."""
    private: bool = False
    """Make a new repository private."""
    samples: bool = True
    """Show the sample grid on the model card, which publishes images of the training set."""
    push_steps: int | None = None
    """Steps between pushes during the run, in the background; null pushes at the end only."""
    branch: str | None = None
    """Branch for pushes during the run; null for the main branch."""

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, "push_steps", low=1)
        if self.push_to_hub and not self.hub_model_id:
            raise ConfigError("hub_model_id is missing: the repository to push to, user/name.")
        if self.push_to_hub and not self.license:
            raise ConfigError(
                "license is missing: the licence under which the training images allow the model to be "
                "published (mit, cc-by-4.0, other, ...)."
            )


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run."""

    model: AGITConfig = field(default_factory=AGITConfig)
    """The architecture."""
    data: DataConfig = field(default_factory=DataConfig)
    """The images."""
    train: TrainSettings = field(default_factory=TrainSettings)
    """The optimisation."""
    eval: EvalConfig = field(default_factory=EvalConfig)
    """Validation during the run."""
    log: LogConfig = field(default_factory=LogConfig)
    """Logging."""
    hub: HubConfig = field(default_factory=HubConfig)
    """Publishing on the Hub."""
    output_dir: str = ""
    """The run folder; it must be new, or hold this run when resuming."""
    format_version: int = FORMAT_VERSION
    """Version of the run folder's format."""

    def __post_init__(self) -> None:
        if self.format_version != FORMAT_VERSION:
            raise ConfigError(
                f"format_version is {self.format_version}; this version of agit-hub supports "
                f"{FORMAT_VERSION} only."
            )
        if not self.output_dir:
            raise ConfigError("output_dir is missing: --output_dir runs/my-run")
        updates = self.train.discriminator_updates
        if self.data.pairing == "fixed" and updates > 1:
            raise ConfigError(
                f"data.pairing is fixed and train.discriminator_updates {updates}: the generators would "
                f"only ever see one of {updates} pairs. Set --data.pairing random."
            )
        for name in ("attention_warmup_steps", "lambda_structure"):
            if getattr(self.train, name) and self.model.attention != "features":
                raise ConfigError(
                    f"train.{name} is {getattr(self.train, name)} and model.attention "
                    f"{self.model.attention}: it requires --model.attention features."
                )
        for side in ("source", "target"):
            if not getattr(self.data, side).path:
                raise ConfigError(f"data.{side}.path is missing: --data.{side}.path FOLDER")
        self._check_masks()

    def _check_masks(self) -> None:
        """Refuse masks that nothing is trained with, and a loss without masks."""
        for side in ("source", "target"):
            if getattr(self.eval, side).masks:
                raise ConfigError(
                    f"eval.{side}.masks is set, and validation uses no masks: see agit evaluate --masks."
                )
        named = [f"data.{side}" for side in ("source", "target") if getattr(self.data, side).masks]
        given = self.train.lambda_mask
        if given and not named:
            raise ConfigError(
                f"train.lambda_mask is {given} and no domain names masks: set data.source.masks or "
                "data.target.masks, or unset it."
            )
        if named and given == 0:
            raise ConfigError(
                f"{named[0]}.masks is set and train.lambda_mask 0, so masks train nothing: unset one "
                "of them."
            )
        if named and not self._trains_attention:
            raise ConfigError(
                f"{named[0]}.masks is set, and attention is not trained: use model.attention network or "
                "features, and without train.attention_warmup_steps a later train.switch."
            )

    @property
    def _trains_attention(self) -> bool:
        switch, train = self.train.switch, self.train
        is_frozen = switch.freeze_attention and (
            switch.step == 0 or (switch.step, switch.epoch) == (None, 0)
        )
        return self.model.attention != "ones" and (
            train.attention_warmup_steps > 0 or not is_frozen
        )

    @property
    def crop_size(self) -> int:
        """Side in pixels of the training crops."""
        return self.data.crop_size or self.model.image_size
