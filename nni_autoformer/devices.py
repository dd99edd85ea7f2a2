"""Devices and number formats by the names that users give."""

from __future__ import annotations

import torch

from .errors import ConfigError

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Automatic mixed precision's type for each `--precision`; None computes in float32 throughout."""


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; 'auto' is the first GPU, else the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {name}: there is no such device here ({reason}).") from None
    return device
