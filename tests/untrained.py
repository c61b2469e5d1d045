"""Models that nobody trained, in a data folder of their own, so that nothing they say was known beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from labkit import SleepConfig, SleepLM, checkpoints
from labkit.tasks import make

GRAPHS = {"kind": "depo", "nodes": 6, "hops": 3}
ROWS = {"kind": "rule110", "width": 6, "steps": 3}
RECIPE = """description = "for a test"
seeds = [0]
[task]
kind = "depo"
nodes = 6
hops = 3
[training]
steps = 1
passes = {passes}
"""


def save(folder: Path, name: str, params: dict[str, Any], seed: int = 0, passes: object = (1, 3)) -> None:
    """Checkpoint `name` with weights drawn from `seed`; its card says that it was trained with so many passes."""
    torch.manual_seed(100 + seed)
    task = make(**params)
    model = SleepLM(SleepConfig(vocab=task.vocab, window=task.window, dim=16))
    card = {"task": params, "recipe": {"training": {"passes": passes}}}
    checkpoints.save_checkpoint(model, card, name, 0, folder / "checkpoints")


def furnish(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make `folder` the lab's data folder, with depo-elastic and rule110-elastic in it; returns it."""
    for room in ("checkpoints", "results", "recipes"):
        (folder / room).mkdir()
    monkeypatch.setenv("LABKIT_DATA", str(folder))
    save(folder, "depo-elastic", GRAPHS)
    save(folder, "rule110-elastic", ROWS)
    return folder
