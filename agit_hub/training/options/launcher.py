"""What `accelerate launch` was asked for and this training does not do, refused instead of ignored."""

import os
from collections.abc import Mapping

from agit_hub.errors import ConfigError

# The launcher passes its options on as variables.
_UNSUPPORTED = {
    "ACCELERATE_USE_FSDP": "--use_fsdp",
    "ACCELERATE_USE_DEEPSPEED": "--use_deepspeed",
    "ACCELERATE_USE_MEGATRON_LM": "--use_megatron_lm",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "--use_parallelism_config",
}


def check_launcher(environment: Mapping[str, str] = os.environ) -> None:
    """Check the variables of `accelerate launch`.

    Raises:
        ConfigError: If it was asked for a strategy or a compiler that this training does not use.
    """
    for variable, option in _UNSUPPORTED.items():
        if environment.get(variable, "false").lower() in ("true", "1", "yes"):
            raise ConfigError(
                f"accelerate launch was given {option} (or its configuration file was): these networks "
                "are small and are not split; leave it out and use --multi_gpu, a copy on each GPU."
            )
    backend = environment.get("ACCELERATE_DYNAMO_BACKEND", "no")
    if backend.lower() != "no":
        raise ConfigError(
            f"accelerate launch was given --dynamo_backend {backend.lower()} (or its configuration file "
            "was): leave it out, and set --train.torch_compile true to compile the networks."
        )
