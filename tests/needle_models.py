"""Untrained models of needles, one of each way to remember, as checkpoints in a folder."""

from __future__ import annotations

from pathlib import Path

import torch

from labkit import SleepConfig, SleepLM, checkpoints
from labkit.models.config import TITANS
from labkit.tasks import Needle

KINDS = {**{kind: (kind,) for kind in TITANS}, "hybrid": ("attention", "delta"), "window": ("attention",)}


def config(name: str, window: int = 64) -> SleepConfig:
    """A small model of one of `KINDS`."""
    return SleepConfig(
        vocab=Needle().vocab, window=window, dim=16, pattern=KINDS[name], repeat=1, segment=16, eviction="sliding"
    )


def save(folder: Path, name: str, seeds: tuple[int, ...] = (0, 1), window: int = 64) -> Path:
    """Checkpoints `name`, called after one of `KINDS`; returns the folder they lie in."""
    task = Needle(2 * window, 2, "passkey+number", window=window, shorter=True)
    for seed in seeds:
        torch.manual_seed(seed)
        card = {"task": {"kind": "needle", **task.params}, "recipe": {}}
        checkpoints.save_checkpoint(SleepLM(config(name, window)), card, name, seed, folder)
    return folder
