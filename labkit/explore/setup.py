"""The one call at the top of every notebook."""

from __future__ import annotations

import random

import numpy as np
import torch

from labkit.machine import installed, versions

__all__ = ["setup"]

#: A move of a slider is many small operations, and one thread adds numbers in the same order everywhere.
THREADS = 1


def setup(seed: int = 0) -> None:
    """Seed Python, numpy and torch, settle the threads, and print what this notebook runs on.

    Args:
        seed: a whole number of at least 0. Whatever is drawn at random later is the same for the same seed,
            as long as the cells run in order.

    Raises TypeError or ValueError for any other seed.
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be a whole number, but it is {seed!r}.")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, but it is {seed}.")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    # a package that is not beside this kernel: JupyterLab may well run in another environment
    shown = dict.fromkeys(("jupyterlab", "ipywidgets", "plotly"), "elsewhere")
    found = versions() | shown | installed(*shown)
    print(f"device  cpu, {THREADS} thread")
    print(f"dtype   {str(torch.get_default_dtype()).removeprefix('torch.')}")
    print(f"seed    {seed}")
    print(f"with    {', '.join(f'{name} {version}' for name, version in found.items())}")
