"""A training of twelve steps for tests, and an eye on the lessons that it draws."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import labkit
from labkit.recipes import Recipe
from labkit.tasks import Batch, Depo, Task
from labkit.train import train

# Twelve steps in which passes and the curriculum change, saved after 4, 8 and 12.
TINY: dict[str, dict[str, Any]] = {
    "task": {"kind": "depo", "nodes": 8, "hops": 4, "queries": 3},
    "model": {"dim": 16, "repeat": 1},
    "training": {
        "steps": 12,
        "batch_size": 4,
        "passes": [1, 3],
        "warmup": 3,
        "compile": False,
        "checkpoint_every": 4,
        "log_every": 1,
    },
    "curriculum": {"threshold": 0.05, "memory": 0.5},
}


def recipe(**changes: dict[str, Any]) -> Recipe:
    """The tiny recipe with some keys of its tables changed; a whole other task replaces the task."""
    tables = {table: {**values, **changes.get(table, {})} for table, values in TINY.items()}
    if "kind" in changes.get("task", {}):
        tables["task"] = changes["task"]
    return Recipe.from_dict({"name": "tiny", "description": "for tests", "seeds": [0], **tables})


def run(made: Recipe, folder: Path, seed: int = 0, **options: Any) -> Path:
    return train(made, seed, folder, progress=False, **options)


def card(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".json").read_text())


def half_done(folder: Path, seed: int = 0) -> Path:
    return folder / f".tiny-s{seed}.training"


class Stopped(Exception):
    """What stands for a kill inside the test's own process."""


class Lessons:
    """Watches the lessons that a training draws, and can stop it when it asks for one more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.depths: list[int] = []
        self.stop_before: int | None = None
        for kind in (Depo, labkit.tasks.MQAR):
            monkeypatch.setattr(kind, "lesson", self._watched(kind.lesson))

    def _watched(self, lesson: Callable[..., Batch]) -> Callable[..., Batch]:
        def watched(task: Task, batch_size: int, generator: torch.Generator, depth: int) -> Batch:
            if len(self.depths) + 1 == self.stop_before:
                raise Stopped
            self.depths.append(depth)
            return lesson(task, batch_size, generator, depth)

        return watched

    def stopped(self, made: Recipe, folder: Path, before: int) -> None:
        """Train until the lesson `before` (counted from this call) is asked for."""
        self.depths, self.stop_before = [], before
        with pytest.raises(Stopped):
            run(made, folder)
        self.depths, self.stop_before = [], None
