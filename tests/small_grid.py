"""A data folder with the grid of notebook 01, small and untrained: same names, same files, made in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from labkit import checkpoints, contrasts, results
from labkit.evaluate import evaluate
from labkit.models import SleepConfig, SleepLM
from labkit.tasks import Task, make

TASKS: dict[str, dict[str, Any]] = {
    "mqar": {"kind": "mqar", "pairs": 4, "keys": 6, "values": 6, "queries": 4},
    "depo": {"kind": "depo", "nodes": 6, "hops": 3, "queries": 4},
}
SIZES = {"mqar": (4, 8), "depo": (4, 8, 16)}
SEEDS = (0, 1)


def small_grid(folder: Path) -> None:
    """Save the models of the grid in `folder`/checkpoints, evaluate them, and write the contrast of the rows."""
    for task, sizes in SIZES.items():
        for size in sizes:
            found = []
            for seed in SEEDS:
                torch.manual_seed(100 * size + seed)
                save(folder, task, size, seed)
                name = f"grid-{task}-{size}"
                model, card = checkpoints.load(name, seed, folder / "checkpoints")
                asked = checkpoints.task_of(card)
                about = {"name": name, "model_seed": seed, "weights": card["sha256"]}
                found.append(evaluate(model, asked, (1, 2, 4), 60, seed, **about))
            results.store(found, folder / "results" / f"grid-{task}-{size}.csv")
    contrasts.write(folder / "results")


def save(folder: Path, task: str, size: int, seed: int) -> None:
    """Save one untrained model of the grid, with weights drawn from torch's generator as it stands."""
    made = task_of(task)
    config = SleepConfig(made.vocab, made.window, dim=16, heads=2, repeat=1, key_dim=size, value_dim=size)
    card = {"task": TASKS[task]}
    checkpoints.save_checkpoint(SleepLM(config), card, f"grid-{task}-{size}", seed, folder / "checkpoints")


def task_of(task: str) -> Task:
    """The task of these models."""
    params = dict(TASKS[task])
    return make(params.pop("kind"), **params)
