"""Requests of `accelerate launch` that training does not fulfil."""

import re

import pytest

from agit_hub.errors import ConfigError
from agit_hub.training.options.launcher import check_launcher


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "ACCELERATE_DYNAMO_BACKEND",
            "INDUCTOR",
            "--dynamo_backend inductor .*--train.torch_compile",
        ),
        ("ACCELERATE_USE_FSDP", "true", "--use_fsdp .*--multi_gpu"),
        ("ACCELERATE_USE_DEEPSPEED", "True", "--use_deepspeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "1", "--use_megatron_lm"),
    ],
)
def test_check_launcher_unsupported_option_is_refused(
    variable: str, value: str, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        check_launcher({variable: value})
    assert re.search(message, str(error.value))


def test_check_launcher_defaults_are_accepted() -> None:
    check_launcher({})
    check_launcher({"ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_USE_FSDP": "false"})
