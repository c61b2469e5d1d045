"""What ``labkit bench`` can time, each at one size after another."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import pandas as pd
import torch

from labkit.bench import delta, models, titans
from labkit.bench.growth import exponent
from labkit.bench.racing import Roof
from labkit.recipes import load_recipe

Rows = tuple[list[dict[str, Any]], list[str]]
MODEL = "depo-elastic"
"""The recipe and checkpoint of the notebooks: 4 layers, d = 64."""

SIZES = {
    "delta": ("length", (64, 128, 256, 512, 1024, 2048, 4096)),
    "titans": ("length", (64, 128, 256)),
    "training": ("passes", (1, 2, 4, 8)),
    "awake": ("passes", (1, 2, 4, 8, 16)),
}
"""For every subject the size that is varied, and the values it is tried at."""


@dataclass(frozen=True)
class Options:
    """How to time: see ``labkit bench --help``. `chunks` are more chunk sizes; for Titans, the ones to try.

    `only` names what is timed beside our first form, ``*`` standing for anything; nothing means everything.
    """

    device: torch.device
    threads: int
    repeats: int
    roof: Roof
    chunks: tuple[int, ...] = ()
    case: str = "typical"
    batch: int = 4
    heads: int = 4
    width: int = 64
    gradients: bool = True
    dtype: torch.dtype = torch.float32
    quiet: bool = False
    only: tuple[str, ...] = ()


#: Options that a subject takes beside those of all.
TAKES = {
    "delta": {"chunks", "case", "batch", "heads", "width", "gradients", "dtype", "only"}, "titans": {"chunks", "batch"},
    "training": set(), "awake": set(),
}  # fmt: skip


def check_subject(what: str, options: Options) -> None:
    """Raise ValueError for a subject that there is not, and for options that would do nothing to it."""
    if what not in SIZES:
        raise ValueError(f"There is no subject {what!r} to time; there are {', '.join(SIZES)}.")
    if what != "delta" and options.device.type != "cpu":
        raise ValueError(f"{what!r} is timed on the CPU; --device is for the gated delta rule.")
    usual = Options(options.device, options.threads, options.repeats, options.roof, quiet=options.quiet)
    changed = {field.name for field in fields(Options) if getattr(options, field.name) != getattr(usual, field.name)}
    if idle := changed - TAKES[what]:
        raise ValueError(f"{', '.join(sorted(idle))} would do nothing to {what!r}; leave it out.")


def measure(what: str, size: int, options: Options) -> Rows:
    """Race the candidates of a subject at one size: rows, and sentences about what was not timed.

    Raises ValueError as `check_subject`, ArithmeticError where one of the lab's own forms is wrong.
    """
    check_subject(what, options)
    how: dict[str, Any] = {"repeats": options.repeats, "threads": options.threads, "quiet": options.quiet}
    how["roof"] = options.roof
    if what == "delta":
        return delta.measure(
            size, batch=options.batch, heads=options.heads, width=options.width, gradients=options.gradients,
            chunks=options.chunks, case=options.case, device=options.device, dtype=options.dtype, only=options.only,
            **how,
        )  # fmt: skip
    if what == "titans":
        races = [titans.measure(size, chunk, batch=options.batch, **how) for chunk in options.chunks or (1, 64)]
        return [row for rows, _ in races for row in rows], [sentence for _, told in races for sentence in told]
    if what == "training":
        return models.training(load_recipe(MODEL), size, **how)
    return models.awake(MODEL, size, **how)


def growth(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """For every candidate that was timed at three sizes or more: the exponent of seconds over that size, 95% interval.

    Columns: candidate, chunk where there are several, n sizes, exponent, low, high.
    """
    axis, _ = SIZES[what]
    keys = ["candidate", "chunk"] if "chunk" in rows else ["candidate"]
    found = []
    for key, group in rows.groupby(keys, sort=False):
        if group[axis].nunique() >= 3:
            slope = exponent(group[axis], group["seconds"])
            named = dict(zip(keys, key, strict=True))
            found.append({**named, "n": len(group), "exponent": slope.value, "low": slope.low, "high": slope.high})
    return pd.DataFrame(found)
