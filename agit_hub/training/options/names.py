"""Names of options that do not exist: earlier versions', neighbouring projects', and mistyped ones."""

import re
from collections.abc import Collection

from agit_hub.config import suggest
from agit_hub.errors import ConfigError

RENAMED_KEYS: dict[str, str | None] = {
    "preset": "--config paper, official or cyclegan",
    "train.epochs": "train.num_epochs",
    "train.ema": "train.ema_decay",
    "train.clip_norm": "train.max_grad_norm",
    "train.checkpoint_every": "train.checkpointing_steps",
    "train.keep_checkpoints": "train.checkpoints_total_limit",
    "train.attention_bias": None,
    "train.lambda_labels": None,
    "train.lambda_floor": None,
    "train.discriminator_margin": None,
    "data.workers": "data.num_workers",
    "data.network_patience": "data.hub_timeout",
    "log.every": "log.steps",
    "log.samples_every": "log.sample_steps",
    "log.samples": "log.num_samples",
    "log.trackers": "log.report_to",
    "eval.every": "eval.steps",
    "eval.pictures": "eval.max_images",
    "hub.every": "hub.push_steps",
    **{
        f"{section}.{side}.{key}": f"{section}.{side}.storage (stream, download or remote)"
        for section in ("data", "eval")
        for side in ("source", "target")
        for key in ("streaming", "cache")
    },
}
"""Keys of earlier versions, with the option that replaces each; None for a removed one."""

_IMAGES = "data.source.path and data.target.path"
_PROCESSES = "num_processes (and CUDA_VISIBLE_DEVICES for which GPUs)"
_MEANINGS = {
    "train.learning_rate": "lr base_lr lr_g lr_generator",
    "train.discriminator_learning_rate": "lr_d lr_discriminator",
    "train.batch_size": "train_batch_size per_device_train_batch_size bs b batch",
    "train.num_epochs": "num_train_epochs epochs n_epochs niter epoch max_epochs",
    "train.decay_from": "niter_decay n_epochs_decay lr_scheduler lr_policy lr_decay_iters decay_epoch",
    "train.max_steps": "max_train_steps steps num_steps iterations max_iter num_iterations niters iters",
    "train.adam_beta1": "beta1 beta_1 b1",
    "train.lambda_cyc": "lambda_a lambda_b lambda_cycle cycle_weight cyc_weight",
    "train.adversarial": "gan_mode gan_loss loss_type no_lsgan",
    "train.max_grad_norm": "clip_grad grad_clip gradient_clip_val clip_grad_norm gradient_clipping",
    "train.gradient_accumulation_steps": "accumulate_grad_batches grad_accum accumulation_steps",
    "train.mixed_precision": "fp16 bf16 half amp precision use_amp weight_dtype",
    "train.ema_decay": "use_ema ema",
    "train.tf32": "allow_tf32",
    "train.torch_compile": "compile use_compile",
    "train.checkpointing_steps": "save_steps save_epoch_freq save_every save_latest_freq checkpoint_freq",
    "train.checkpoints_total_limit": "save_total_limit keep_last",
    "train.init_from": "pretrained_model_name_or_path pretrained init checkpoint ckpt weights "
    "load_from load_model",
    "train.discriminator_channels": "ndf",
    "train.discriminator_layers": "n_layers_d",
    "train.discriminator": "net_d",
    "train.seed": "random_seed manual_seed",
    "train.augment": "diffaug ada aug",
    "model.channels": "ngf",
    "model.blocks": "net_g n_blocks num_blocks n_res_blocks res_blocks",
    "model.image_size": "resolution img_size input_size size",
    "data.crop_size": "fine_size",
    "data.crop_margin": "load_size resize_size",
    "data.flip": "random_flip no_flip horizontal_flip",
    "data.num_workers": "dataloader_num_workers n_threads num_threads workers n_cpu",
    "data.source.column and data.target.column": "image_column",
    "data.source.name and data.target.name": "dataset_config_name config_name",
    _IMAGES: "dataset_name dataset dataroot data_root train_data_dir data_path root data_dir source "
    "target",
    "model.source_label and model.target_label": "source_domain target_domain classes",
    "log.report_to": "wandb use_wandb tensorboard tracker logger",
    "log.steps": "logging_steps print_freq log_freq log_interval log_every",
    "log.sample_steps": "display_freq sample_interval sample_freq",
    "eval.steps": "eval_steps validation_steps eval_freq val_freq validation_epochs",
    "eval.max_images": "max_eval_samples num_validation_images",
    "hub.hub_model_id": "repo_id repo hub_repo",
    "HF_TOKEN, or hf auth login": "hub_token token use_auth_token",
    "HF_HOME for the cache": "cache_dir",
    "output_dir": "out output outdir out_dir save_dir logdir log_dir logging_dir checkpoints_dir "
    "results_dir name exp_name run_name experiment work_dir run_dir",
    "--resume with --output_dir RUN": "resume_from_checkpoint resume_from continue_train "
    "resume_path auto_resume load_epoch",
    _PROCESSES: "gpu_ids gpus gpu n_gpus num_gpus ngpus devices device local_rank",
}
# The option for each name of a neighbouring project's, in lower case with underscores.
_NEIGHBOURS = {name: key for key, names in _MEANINGS.items() for name in names.split()}


def refuse_renamed(key: str, where: str = "") -> None:
    """Raise a `ConfigError` if a key is one of an earlier version."""
    if key not in RENAMED_KEYS:
        return
    new = RENAMED_KEYS[key]
    remedy = "this option was removed" if new is None else f"use {new}"
    raise ConfigError(f"Unknown key {key!r}{where}: {remedy}.")


def unknown_key(key: str, known: Collection[str], where: str = "") -> ConfigError:
    """Return the error for a key that does not exist, with the option that is probably meant."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).replace("-", "_").lower()
    name = words.rpartition(".")[2]
    same = [each for each in known if each.rpartition(".")[2] == name]
    meant = _NEIGHBOURS.get(words) or (None if same else _NEIGHBOURS.get(name))
    if meant is not None:
        return ConfigError(f"Unknown key {key!r}{where}: use {meant}.")
    if len(same) == 1 or (same and "." not in key):
        names = " or ".join(map(repr, same))
        return ConfigError(f"Unknown key {key!r}{where}. Did you mean {names}?")
    return ConfigError(f"Unknown key {key!r}{where}.{suggest(words, [*known])}")
