"""Options of `from_pretrained` in diffusers' spelling: `torch_dtype` and `device_map`."""

from collections.abc import Mapping
from typing import Any

import torch

from agit_hub.errors import UserError

DeviceMap = str | int | torch.device | Mapping[str, Any] | None
_WHOLE = ("auto", "balanced", "balanced_low_0", "sequential")


def resolve_dtype(dtype: torch.dtype | str | None, torch_dtype: Any = None) -> torch.dtype:
    """Return the dtype of one of its two spellings; float32 by default.

    Raises:
        UserError: If it is no floating-point dtype, or the two differ.
    """
    found, other = _as_dtype("dtype", dtype), _as_dtype("torch_dtype", torch_dtype)
    if found is not None and other is not None and found != other:
        raise UserError(f"dtype is {found} and torch_dtype {other}: give one of them.")
    return found or other or torch.float32


def resolve_device(
    device: str | torch.device | None, device_map: DeviceMap = None
) -> torch.device | None:
    """Return the device of one of its two spellings; None if neither is given.

    Raises:
        UserError: If it is no device, the two differ, or the map splits the model.
    """
    wanted: Any = device_map
    if isinstance(wanted, Mapping):
        places = {str(place): place for place in wanted.values()}
        if len(places) != 1:
            raise UserError(
                f"device_map is {dict(wanted)!r}: these models are small and stay whole; name one "
                "device, such as device='cuda'."
            )
        (wanted,) = places.values()
    if isinstance(wanted, str) and wanted in _WHOLE:
        wanted = default_device()
    found, other = _as_device("device", device), _as_device("device_map", wanted)
    if found is not None and other is not None and found != other:
        raise UserError(f"device is {found} and device_map {other}: give one of them.")
    return other if found is None else found


def default_device() -> torch.device:
    """Return the accelerator if there is one, and otherwise the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def _as_dtype(name: str, value: Any) -> torch.dtype | None:
    if value is None or value == "auto":
        return None
    found = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise UserError(
            f"{name} is {value!r}; expected torch.float32, torch.float16 or torch.bfloat16."
        )
    return found


def _as_device(name: str, value: Any) -> torch.device | None:
    if value is None:
        return None
    try:
        return torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"{name} is {value!r}; expected a device such as cpu, cuda or mps."
        ) from error
