"""The grid of small models behind notebook 01: which there are, and how they do on fresh instances."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from labkit.checkpoints import list_checkpoints, load, task_of
from labkit.contrasts import TASKS
from labkit.evaluate import EXAM_SEEDS, asked, fall_asleep
from labkit.models import SleepLM
from labkit.tasks import Task

__all__ = ["Fresh", "Grid", "share_by_depth", "share_by_place"]

#: Instances slept on at a move: as many as a slider can wait for.
INSTANCES = 12


@dataclass(frozen=True, eq=False)
class Fresh:
    """What one model answered on instances that were drawn for this move.

    Attributes:
        correct: ``[n, Q]`` uint8, each question asked alone from the slept state.
        depth: ``[Q]`` depth of each question.
        task: where the instances are from.
    """

    correct: NDArray[np.uint8]
    depth: NDArray[np.int64]
    task: Task

    @property
    def share(self) -> float:
        """The share of right answers over everything that was asked."""
        return float(self.correct.mean())


@dataclass
class Grid:
    """Models of several state sizes for each task: ``grid-<task>-<K>``, of one seed, loaded when first used.

    Args:
        seed: which training seed of each model.
        folder: of checkpoints; None takes data/checkpoints.
        instances: how many of them `fresh` draws.
    """

    seed: int = 0
    folder: str | Path | None = None
    instances: int = INSTANCES
    _models: dict[tuple[str, int], tuple[SleepLM, Task]] = field(default_factory=dict, repr=False)
    _draws: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @property
    def sizes(self) -> dict[str, list[int]]:
        """For each task the K for which there is a model of this seed."""
        found: dict[str, list[int]] = {task: [] for task in TASKS}
        for name, seed in list_checkpoints(self.folder):
            match = re.fullmatch(rf"grid-({'|'.join(TASKS)})-(\d+)", name)
            if match and seed == self.seed:
                found[match[1]].append(int(match[2]))
        return {task: sorted(sizes) for task, sizes in found.items()}

    def missing(self) -> str:
        """A sentence about what is not there, or nothing when both tasks have models."""
        without = [task for task, sizes in self.sizes.items() if not sizes]
        if not without:
            return ""
        names = " and ".join(f"grid-{task}-K" for task in without)
        return (
            f"There are no checkpoints {names} for seed {self.seed}, so their curves stay empty; train them "
            f"with `labkit train grid-{without[0]}-8` and so on (`labkit list` names the recipes)."
        )

    def model(self, task: str, size: int) -> tuple[SleepLM, Task]:
        """The model and its task. Raises FileNotFoundError when there is none of this size."""
        if (task, size) not in self._models:
            model, card = load(f"grid-{task}-{size}", self.seed, self.folder)
            self._models[task, size] = model, task_of(card)
        return self._models[task, size]

    def fresh(self, name: str, size: int, passes: int) -> Fresh:
        """Sleep `passes` times on instances that this grid has not drawn before, then ask all there is, each alone.

        Args:
            name: of the task, "mqar" or "depo"; size: its K.
        """
        model, task = self.model(name, size)
        # beyond the seeds of training and of all stored exams
        generator = torch.Generator().manual_seed(2 * EXAM_SEEDS + next(self._draws))
        exam = task.questions(task.exam(self.instances, generator).context)
        state = fall_asleep(model, exam.context, passes)
        with torch.no_grad():
            return Fresh(asked(model, exam, state), exam.depth[0].numpy(), task)


def share_by_depth(fresh: Fresh) -> tuple[list[int], list[float]]:
    """Depths, and the share right at each."""
    depths = sorted(set(fresh.depth.tolist()))
    return depths, [float(fresh.correct[:, fresh.depth == d].mean()) for d in depths]


def share_by_place(fresh: Fresh) -> tuple[list[int], list[float]]:
    """Places 1, 2, ... of the questions, and the share right at each; in MQAR a pair's place in its context."""
    return list(range(1, fresh.correct.shape[1] + 1)), fresh.correct.mean(axis=0).tolist()
