"""Recall by length: needles asked for after ever longer haystacks, most of them longer than any that was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from labkit.checkpoints import load, task_of
from labkit.evaluate import evaluate
from labkit.machine import device_called
from labkit.memory import NeuralMemory
from labkit.results import add_rows, read_rows, table
from labkit.tasks import Needle
from labkit.tasks.needle import HAYS

__all__ = ["LENGTHS", "haystack", "needle_task", "never_write", "read", "report", "store"]

LENGTHS = (1024, 2048, 4096, 8192, 16384)

#: of what `labkit.results.table` tells: what has a meaning where every context has one question of one depth
KEPT = ("checkpoint", "weights", "seed", "exam", "passes", "n", "correct", "accuracy", "low", "high", "floor")
COST = ("flops_sleep", "seconds_sleep")


def haystack(
    name: str,
    seeds: Sequence[int],
    *,
    lengths: Sequence[int] = LENGTHS,
    variants: Sequence[str] = tuple(HAYS),
    needles: int = 1,
    writes: bool = True,
    passes: int = 1,
    n: int = 100,
    device: str = "cpu",
    folder: str | Path | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """How often trained models recall a needle, for each variant and length, with intervals.

    Exam s goes to the model of seed s, and models of one seed and of different names sit the same exams.

    Args:
        name, seeds: checkpoints of a recipe whose task is "needle".
        lengths: tokens of the haystack; variants: which needles ("passkey", "number", "word").
        needles: facts in a haystack, of which each is asked alone.
        writes: False is the control in which neural memories are read and never written (steps of 0).
        passes: N for every window.
        n: haystacks for each seed, variant and length.
        device: where the models run; what they recall is the same but for rounding.

    Returns:
        One row for every variant, length and seed, and with several seeds one for all of them (seed "all", Student's t
        over seeds): the columns `KEPT` and `COST` of `labkit.results.table`, with ``variant``, ``length``, ``needles``,
        ``writes``, ``trained``, the longest context of training, and ``device``.

    Raises ValueError, in a sentence, for a checkpoint of another task or numbers out of range.
    """
    place = device_called(device)
    models = [(model.to(place), card) for model, card in (load(name, seed, folder) for seed in seeds)]
    task = needle_task(models[0][1])
    for model, _ in models if not writes else ():
        never_write(model)
    parts = []
    for variant in variants:
        for length in lengths:
            longer = task.at_length(length, needles, variant)
            evaluations = [
                evaluate(
                    model, longer, (passes,), n, card["seed"], name=name, model_seed=card["seed"],
                    weights=card["sha256"], progress=progress,
                )
                for model, card in models
            ]  # fmt: skip
            rows = table(evaluations)[[*KEPT, *COST]]
            rows.insert(4, "variant", variant)
            rows.insert(5, "length", length)
            rows.insert(6, "needles", needles)
            rows.insert(7, "writes", writes)
            rows.insert(8, "trained", task.length)
            rows["device"] = place.type
            parts.append(rows)
    return pd.concat(parts, ignore_index=True)


def never_write(model: nn.Module) -> None:
    """Fix the step of every neural memory of `model` at 0; ValueError, in a sentence, where there is none."""
    memories = [module for module in model.modules() if isinstance(module, NeuralMemory)]
    if not memories:
        raise ValueError("This model has no neural memory to leave unwritten; N = 0 is the control of one that sleeps.")
    for memory in memories:
        memory.max_step = 0.0


def needle_task(card: Mapping[str, Any]) -> Needle:
    """The task of a checkpoint's card; ValueError, in a sentence, for a model that was trained on another."""
    task = task_of(card)
    if not isinstance(task, Needle):
        raise ValueError(
            f"{card['name']} was trained on {task!r}; needles can be asked only of models trained on them."
        )
    return task


def store(rows: pd.DataFrame, path: Path) -> None:
    """Write the table as CSV; the rows of other variants, lengths, needles, controls or passes that lie there stay."""
    add_rows(path, rows, ["needles", "writes", "passes", "variant", "length", "seed"], read)


def read(path: str | Path) -> pd.DataFrame:
    """A stored table; errors are those of `labkit.results.read_rows`."""
    return read_rows(path, "haystack", {"variant", "length", "writes", *KEPT})


def report(rows: pd.DataFrame) -> str:
    """The table as text: for each variant the share right by length, over all seeds where there are several."""
    rows = rows.assign(seed=rows["seed"].astype(str))
    seeds = [seed for seed in rows["seed"].unique() if seed != "all"]
    shown = rows[rows["seed"] == ("all" if len(seeds) > 1 else seeds[0])].copy()
    shown["right"] = [f"{a:.3f} [{b:.3f}, {c:.3f}]" for a, b, c in shown[["accuracy", "low", "high"]].to_numpy(float)]
    square = shown.pivot(index="variant", columns="length", values="right")
    first = rows.iloc[0]
    control = "" if first["writes"] else ", nothing written"
    return (
        f"{first['checkpoint']}, seed {', '.join(seeds)}: {rows['n'].iloc[0]} haystacks for each seed, "
        f"N = {first['passes']}, {first['needles']} needle(s){control}; trained on up to {first['trained']} tokens.\n"
        f"{square.to_string()}"
    )
