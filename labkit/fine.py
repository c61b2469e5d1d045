"""Whole rows of the automaton read back: shares so small that a fixed exam would call them nothing.

That all cells of a row are right is rare long before it is usual. Counted in an exam of fixed size such a share is zero
until it suddenly is not, and looks like a jump; `labkit.laws.resolution` draws rows until enough of them came right.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from labkit.checkpoints import load, task_of
from labkit.evaluate import EXAM_SEEDS, asked, fall_asleep
from labkit.laws.resolution import resolve
from labkit.machine import versions
from labkit.tasks import Rule110
from labkit.tasks.rule110 import advance

__all__ = ["CELL", "commonest", "fine_rows"]

CELL = ("checkpoint", "seed", "weights", "passes", "depth")
"""The columns that make a row the row of one number of passes and one step of the automaton."""

FINE = 20_000_000
"""Contexts are drawn by generators from EXAM_SEEDS + FINE on, a thousand seeds' worth for each training seed."""
AT_ONCE = 250


def commonest(task: Rule110, n: int = 2**14) -> list[float]:
    """For each step the share of one who always says the same row, the commonest: of `n` rows as exams draw them.

    Rule 110 forgets: several rows lead to one, so later rows are fewer and each is more common.
    """
    context = task.exam(n, torch.Generator().manual_seed(EXAM_SEEDS + FINE - 1)).context
    rows, shares = context[:, -task.width :], []
    for _ in range(task.steps):
        rows = advance(rows)
        shares.append(float(rows.unique(dim=0, return_counts=True)[1].max()) / n)
    return shares


def fine_rows(
    checkpoint: str,
    seed: int,
    passes: Sequence[int],
    most: int = 5000,
    right: int = 25,
    folder: str | Path | None = None,
) -> pd.DataFrame:
    """Share of unseen rows whose every cell is right, by N and step, with sampling until enough came right.

    Args:
        checkpoint, seed, folder: a model trained on Rule 110, with thought (it is asked without) or not.
        passes: the N to try.
        most: rows drawn at most for a share.
        right: how many whole rows to wait for.

    Returns a row for each N and step: the columns of `CELL`; ``share, low, high``; ``right`` out of ``drawn``; whether
    sampling ``passed``; ``guess``, as of `commonest`; versions.

    Raises ValueError for a model of another task or of several rows in a text, and for `most` above 250,000.
    """
    model, card = load(checkpoint, seed, folder)
    task = task_of(card)
    if not isinstance(task, Rule110) or task.strings > 1:
        raise ValueError(f"{checkpoint} does not read one row of Rule 110; take a model that does.")
    if most > 1000 * AT_ONCE:
        raise ValueError(f"At most {1000 * AT_ONCE:,} rows have a seed of their own, but {most:,} were asked for.")
    found, guesses = [], commonest(task)
    for count in passes:

        @functools.cache
        def wholes(start: int, size: int, count: int = count) -> NDArray[np.bool_]:
            """``[size, steps]``: of which steps all cells are right."""
            place = EXAM_SEEDS + FINE + 1000 * seed + start // AT_ONCE
            context = task.exam(size, torch.Generator().manual_seed(place)).context
            with torch.inference_mode():
                exam = task.questions(context)
                cells = asked(model, exam, fall_asleep(model, context, count))
            return np.stack([cells[:, exam.depth[0] == d].all(axis=1) for d in range(1, task.steps + 1)], axis=1)

        for depth in range(1, task.steps + 1):

            def answer(start: int, size: int, depth: int = depth) -> NDArray[np.bool_]:
                return wholes(start, size)[:, depth - 1]

            share = resolve(answer, passes=right, batch=AT_ONCE, most=most)
            row: dict[str, Any] = {
                "checkpoint": checkpoint, "seed": seed, "weights": card["sha256"][:12], "passes": count, "depth": depth,
                "share": share.share.value, "low": share.share.low, "high": share.share.high, "right": share.right,
                "drawn": share.drawn, "passed": share.passed, "guess": guesses[depth - 1],
            }  # fmt: skip
            found.append({**row, **versions()})
    return pd.DataFrame(found)
