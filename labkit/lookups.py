"""Look-ups at wake: windows that were slept on stay in an archive, and the reader opens B of them again.

What is opened is read before the question and is in the cache when it is answered, so B look-ups cost the reading of B
windows for every question, where N passes cost that of all windows once for all questions. Which windows are opened is
up to a *chooser*: one that knows the way opens those with the edges that lead from the question to its answer, in
order, then any others; with error e it puts a window behind all the rest, in a share e of cases; at e = 1 it is blind.
Where all windows are opened an error changes their order alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from labkit.checkpoints import load, task_of
from labkit.costs import position_after, read_cost, sleep_cost, thought_cost
from labkit.evaluate import EXAM_SEEDS, fall_asleep, room_for
from labkit.machine import versions
from labkit.models import SleepLM, SleepState
from labkit.reasoning import write_chains
from labkit.sweep import EXAM
from labkit.tasks import DepoArchive, Exam

__all__ = ["CELL", "look_up", "lookup_rows", "ways"]

CELL = ("checkpoint", "seed", "weights", "passes", "thought", "lookups", "chooser_error")
"""The columns that make a row the row of one cell."""


def ways(task: DepoArchive, exam: Exam, lookups: int, error: float, generator: torch.Generator) -> Tensor:
    """``[n, Q, B]`` the windows that a chooser opens for each question, none twice.

    First those with the edges on the way to the answer, in their order, then any others; with probability `error` a
    window is put behind all that are left, so that others come instead.
    """
    n, count = exam.answers.shape
    windows = task.context // task.window
    edges = task.window_of(exam.context, task.path(exam).flatten(1)).unflatten(1, (count, task.hops))
    needed = torch.arange(task.hops) < exam.depth[..., None]
    rank = torch.rand(n, count, windows, generator=generator) + task.hops  # others, in any order, behind the way
    for hop in reversed(range(task.hops)):  # the earliest edge of a window decides
        here = edges[..., hop : hop + 1]
        there = torch.where(needed[..., hop : hop + 1], float(hop), rank.gather(-1, here))
        rank = rank.scatter(-1, here, there)
    mistaken = torch.rand(n, count, windows, generator=generator) < error
    blind = torch.rand(n, count, windows, generator=generator)
    return torch.where(mistaken, 2 * task.hops + blind, rank).argsort(dim=-1, stable=True)[..., :lookups]


@torch.inference_mode()
def look_up(
    model: SleepLM, task: DepoArchive, exam: Exam, state: SleepState, thought: int, which: Tensor
) -> Tensor:
    """``[n, Q]`` the answers after opening the windows ``which [n, Q, B]``, each question from its own reading.

    Args:
        exam: its questions announced for `thought`.
        state: what sleep left of its contexts.
    """
    found = []
    for number in range(exam.answers.shape[1]):
        one = exam.pick(torch.full_like(exam.answers[:, :1], number))
        opened, answers = task.opened(exam.context, which[:, number]), []
        step = room_for(model, state, opened.shape[1] + exam.questions.shape[-1] + thought)
        for first in range(0, len(opened), step):
            rows = torch.arange(first, min(first + step, len(opened)))
            awake = state.select(rows)
            if opened.shape[1]:
                _, awake = model.wake(opened[rows], awake)
            part = one.rows(first, first + step)
            answers.append(write_chains(model, task, part, awake, thought)[:, 0, -1])
        found.append(torch.cat(answers))
    return torch.stack(found, dim=1)


def lookup_rows(
    checkpoint: str,
    seed: int,
    *,
    passes: Sequence[int],
    errors: Sequence[float],
    n: int = 300,
    folder: str | Path | None = None,
) -> pd.DataFrame:
    """Right answers by depth for each N, number of look-ups and error of the chooser, without thought and with most.

    Returns a row for each: the columns of `CELL`, ``n``, ``right_1`` ..., ``flops_sleep``, ``flops_wake`` and versions.
    Without look-ups there is one row, whose error is 0, since no one chose.

    Raises ValueError for a model that was not trained to open windows again.
    """
    model, card = load(checkpoint, seed, folder)
    task = task_of(card)
    if not isinstance(task, DepoArchive):
        raise ValueError(f"{checkpoint} was not trained with an archive; take a model that was, such as archive-32.")
    exam, found = task.exam(n, torch.Generator().manual_seed(EXAM_SEEDS + EXAM + seed)), []
    for count in passes:
        state = fall_asleep(model, exam.context, count)
        for steps, lookups in itertools.product(sorted({0, task.thoughts}), range(task.lookups + 1)):
            for error in errors if lookups else [0.0]:
                which = ways(task, exam, lookups, error, torch.Generator().manual_seed(seed))
                right = look_up(model, task, task.announced(exam, steps), state, steps, which) == exam.answers
                opening, asks = lookups * task.window, exam.questions.shape[-1]
                past = position_after(model.config, task.context, count)
                waking = thought_cost(model.config, task.trace, asks, steps, past=past + opening)
                found.append({
                    "checkpoint": checkpoint, "seed": seed, "weights": card["sha256"][:12], "passes": count,
                    "thought": steps, "lookups": lookups, "chooser_error": error, "n": n,
                    **{f"right_{int(d)}": int(right[:, exam.depth[0] == d].sum()) for d in exam.depth[0].unique()},
                    "flops_sleep": sleep_cost(model.config, task.context, count).flops,
                    "flops_wake": (read_cost(model.config, opening, past) + waking).flops, **versions(),
                })  # fmt: skip
    return pd.DataFrame(found)
