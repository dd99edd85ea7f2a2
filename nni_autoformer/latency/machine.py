"""What a measurement says of the machine and the programs that it was made with."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ..latency_table import Conditions

PACKAGES = {"onnxruntime": ("onnxruntime", "onnx"), "openvino": ("openvino", "onnx")}


def machine(conditions: Conditions) -> dict[str, Any]:
    """Processor, number of its cores, and the GPU if it takes part."""
    gpu = torch.cuda.get_device_name() if conditions.device == "cuda" else None
    return {"processor": _processor(), "cores": os.cpu_count() or 1, "gpu": gpu}


def versions(conditions: Conditions) -> dict[str, str]:
    """Versions of Python and of the packages that run the networks."""
    found = {"python": platform.python_version()}
    for package in ("nni-autoformer", "torch", *PACKAGES.get(conditions.runtime, ())):
        try:
            found[package] = metadata.version(package)
        except (
            metadata.PackageNotFoundError
        ):  # run from a checkout; or a runtime of another name, as for GPUs
            found[package] = "not installed as a package"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names and names[0].isprintable():
            return names[0]
    except OSError:
        pass
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        told = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        if told:
            return told
    return platform.processor() or platform.machine() or "unknown"
