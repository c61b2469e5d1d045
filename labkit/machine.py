"""What numbers and timings depend on: versions, and the machine."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from labkit import __version__

__all__ = ["device_called", "installed", "machine", "processor", "versions"]


def versions() -> dict[str, str]:
    """Versions of what numbers depend on: Python, torch, numpy, labkit."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "labkit": __version__,
    }


def installed(*packages: str) -> dict[str, str]:
    """Versions of those of these packages that are here; of what is imported, what it says of itself."""
    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
        imported = getattr(sys.modules.get(package), "__version__", None)
        found |= {package: imported} if imported else {}
    return found


def processor(device: torch.device) -> str:
    """What the maker calls the processor of this device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()


def machine() -> dict[str, str | int | float]:
    """What timings depend on: the processor, its cores, the threads torch may use, and the load, where it is told."""
    load = {"load": os.getloadavg()[0]} if hasattr(os, "getloadavg") else {}
    return {"processor": _processor(), "cores": os.cpu_count() or 1, "threads": torch.get_num_threads(), **load}


def device_called(name: str) -> torch.device:
    """The device that torch calls `name` ("cpu", "cuda"); ValueError, in a sentence, where this machine has none."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as why:
        raise ValueError(f"There is no device {name!r} here; cpu is everywhere. ({str(why).splitlines()[0]})") from None


def _processor() -> str:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
