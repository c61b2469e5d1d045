"""Tables of evaluations, and the two files in which they are stored: rows as CSV, single answers as NPZ."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labkit.evaluate import Evaluation
from labkit.files import write_beside, write_text
from labkit.intervals import over_seeds, paired_difference, share_right

__all__ = [
    "add_rows", "load_answers", "read", "read_rows", "report", "store", "table", "without_replaced", "write_table",
]  # fmt: skip

Answers = NDArray[np.uint8]
#: names of the three columns of an estimate and its interval
GAIN = ("gain", "gain_low", "gain_high")
VS_ONE = ("vs_one", "vs_one_low", "vs_one_high")
SHARE = ("accuracy", "low", "high")
WHOLE = ("whole", "whole_low", "whole_high")
POOLED = "all"


def table(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """One row for every seed, N and depth, and with several seeds one for all of them (seed "all").

    Columns: checkpoint, weights (start of the file's hash), seed, exam, passes, depth; n instances, asked
    questions, correct ones; accuracy with the 95% interval low..high; whole: share of the groups (the rows of
    an automaton) right to the last cell; previous: the next smaller N and gain: the accuracy won over it,
    paired; vs_one: the accuracy won over N = 1, paired; floor; flops_sleep and seconds_sleep for each
    instance, flops_wake and seconds_wake for each question.

    Intervals of one seed are Wilson's and Newcombe's; those over seeds are Student's t on the seeds' means
    (`labkit.intervals.over_seeds`). Empty where there is nothing to tell.
    """
    _alike(evaluations)
    rows = [row for one in evaluations for row in _rows(one)]
    if len(evaluations) > 1:
        rows += _pooled_rows(evaluations, pd.DataFrame(rows))
    # nullable: a row without a smaller N has no previous one
    return pd.DataFrame(rows).astype({"previous": "Int64", "exam": "Int64"})


def store(evaluations: Sequence[Evaluation], path: str | Path) -> pd.DataFrame:
    """Write the table to `path` (ending in .csv) and every single answer beside it (.npz); returns the table.

    The NPZ holds `correct` [seeds, P, n, Q], and `passes`, `depth`, `group`, `seeds`, `exams`, `weights`,
    `checkpoint`: enough to make every interval again. It holds no pickle.
    """
    path = Path(path)
    if path.suffix != ".csv":
        raise ValueError(f"Results are stored in a file that ends in .csv, but {path} does not.")
    rows = table(evaluations)
    first = evaluations[0]

    def answers(beside: Path) -> None:
        with open(beside, "wb") as file:
            np.savez_compressed(
                file,
                correct=np.stack([one.correct for one in evaluations]),
                passes=np.array(first.passes),
                depth=first.depth,
                group=first.group,
                seeds=np.array([one.seed for one in evaluations]),
                exams=np.array([one.exam for one in evaluations]),
                weights=np.array([one.weights for one in evaluations]),
                checkpoint=np.array(first.checkpoint),
            )

    write_beside(path.with_suffix(".npz"), answers)
    write_table(path, rows)
    return rows


def write_table(path: Path, rows: pd.DataFrame) -> None:
    """Rows as CSV, written beside `path` first and then in its place."""
    write_text(path, rows.to_csv(index=False, lineterminator="\n"))


def add_rows(
    path: Path, rows: pd.DataFrame, cell: Sequence[str], read: Callable[[Path], pd.DataFrame]
) -> None:
    """Write a table as CSV, sorted by the columns `cell`; stored rows (`read`) with other values of these stay."""
    rows, cell = rows.assign(seed=rows["seed"].astype(str)), list(cell)
    if path.is_file():
        old = read(path)
        new = set(rows[cell].astype(str).itertuples(index=False, name=None))
        stays = [key not in new for key in old[cell].astype(str).itertuples(index=False, name=None)]
        rows = pd.concat([old[stays], rows], ignore_index=True)
    write_table(path, rows.sort_values(cell, kind="stable"))


def without_replaced(rows: pd.DataFrame, checkpoint: str, seed: object, weights: str) -> pd.DataFrame:
    """Rows without those that this seed of a checkpoint left with other weights, which are no longer there."""
    same = (rows["checkpoint"] == checkpoint) & (rows["seed"] == str(seed))
    return rows[~same | (rows["weights"] == weights)]


def read(path: str | Path) -> pd.DataFrame:
    """A table of `labkit evaluate`; errors are those of `read_rows`."""
    return read_rows(path, "evaluate", {"checkpoint", "seed", "passes", "depth", *SHARE})


def read_rows(path: str | Path, command: str, needed: set[str]) -> pd.DataFrame:
    """A table that `labkit <command>` stored, in which `seed` is text, since one of its values may be "all".

    Raises FileNotFoundError when there is none, ValueError when the file lacks one of the columns `needed`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There are no results at {path}; `labkit {command}` makes them.")
    rows = pd.read_csv(path, dtype={"seed": str, "weights": str, "previous": "Int64", "exam": "Int64"})
    if missing := needed - set(rows.columns):
        raise ValueError(f"{path} is no table of `labkit {command}`: it has no column {min(missing)!r}.")
    return rows


def load_answers(path: str | Path) -> dict[str, NDArray[Any]]:
    """The single answers beside a stored table (see `store` for the keys); `path` may end in .csv or .npz."""
    path = Path(path).with_suffix(".npz")
    if not path.is_file():
        raise FileNotFoundError(f"There are no answers at {path}; `labkit evaluate` makes them.")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (BadZipFile, ValueError, EOFError, zlib.error) as damage:
        raise ValueError(f"{path} is damaged ({damage}); make it again with `labkit evaluate`.") from None


def report(rows: pd.DataFrame) -> str:
    """The table as text to read in a terminal: a square of accuracies, every row, and what N was worth."""
    rows = rows.assign(seed=rows["seed"].astype(str))
    seeds = [s for s in rows["seed"].unique() if s != POOLED]
    shown = rows[rows["seed"] == (POOLED if len(seeds) > 1 else seeds[0])]
    square = shown.pivot(index="passes", columns="depth", values="accuracy")
    cost = shown.drop_duplicates("passes").set_index("passes")
    square["Mflop"], square["ms"] = cost["flops_sleep"] / 1e6, cost["seconds_sleep"] * 1e3
    floor = shown.drop_duplicates("depth").set_index("depth")["floor"]
    n = int(rows[rows["seed"] == seeds[0]]["n"].iloc[0])
    texts = square.map("{:.3f}".format).astype(str)
    texts.loc["floor"] = [f"{floor[d]:.3f}" if d in floor else "" for d in square.columns]
    texts.columns = [str(c) if isinstance(c, str) else f"d={c}" for c in square.columns]
    texts.index.name = None
    wake = cost[["flops_wake", "seconds_wake"]].agg(["min", "max"])
    lines = [
        f"{shown['checkpoint'].iloc[0]}, seed {', '.join(seeds)}: {n} unseen instances for each seed, "
        "every question asked alone.",
        "Share right by depth (columns) and sleep passes N (rows); sleep's cost for one instance.",
        "",
        texts.to_string(),
        "",
        f"One question awake: {_span(wake['flops_wake'] / 1e6)} Mflop, {_span(wake['seconds_wake'] * 1e3)} ms"
        " (in batches).",
        "",
        _listing(shown),
        "",
        *_claims(shown),
    ]
    return "\n".join(lines)


def _span(ends: pd.Series) -> str:
    low, high = f"{ends['min']:.3g}", f"{ends['max']:.3g}"
    return low if low == high else f"{low} to {high}"


def _listing(shown: pd.DataFrame) -> str:
    """Every row with its intervals."""
    listing = shown[["depth", "passes"]].rename(columns={"passes": "N"})
    listing["right"] = _with_interval(shown, SHARE)
    if WHOLE[0] in shown:
        listing["whole"] = _with_interval(shown, WHOLE)
    listing["gain over previous N"] = _with_interval(shown, GAIN)
    if shown[VS_ONE[0]].notna().any():
        listing["gain over N=1"] = _with_interval(shown, VS_ONE)
    listing["floor"] = shown["floor"].map("{:.3f}".format)
    return listing.sort_values(["depth", "N"]).to_string(index=False)


def _with_interval(rows: pd.DataFrame, names: tuple[str, str, str]) -> pd.Series:
    sign = "" if names[0] in (SHARE[0], WHOLE[0]) else "+"
    texts = [
        "" if np.isnan(value) else f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"
        for value, low, high in rows[list(names)].astype(float).itertuples(index=False)
    ]
    return pd.Series(texts, index=rows.index)


def _claims(shown: pd.DataFrame) -> list[str]:
    """The two sentences one looks for first."""
    deepest, most = shown["depth"].max(), shown["passes"].max()
    last = shown[(shown["depth"] == deepest) & (shown["passes"] == most)].iloc[0]
    lines = []
    if most > 1 and not pd.isna(last["vs_one"]):
        gain = _with_interval(shown.loc[[last.name]], VS_ONE).iloc[0]
        lines.append(f"At depth {deepest}, N={most} against N=1: {gain}.")
    falls = shown[shown["gain"].notna()]
    if len(falls):
        worst = falls.loc[falls["gain"].idxmin()]
        gain = _with_interval(falls.loc[[worst.name]], GAIN).iloc[0]
        lines.append(
            f"The lowest of all gains between neighbouring N: {gain}, at depth {worst['depth']} "
            f"from N={worst['previous']} to N={worst['passes']}."
        )
    return lines


def _alike(evaluations: Sequence[Evaluation]) -> None:
    """Refuse to put together what was not asked alike."""
    if not evaluations:
        raise ValueError("There is no evaluation to make a table of.")
    first = evaluations[0]
    for one in evaluations[1:]:
        same = one.passes == first.passes and one.checkpoint == first.checkpoint
        same = same and np.array_equal(one.depth, first.depth)
        if not (same and np.array_equal(one.group, first.group)):
            raise ValueError(
                f"The evaluations of {first.checkpoint} s{first.seed} and {one.checkpoint} s{one.seed} "
                "differ in name, passes or questions, so they make no common table."
            )
    if len({one.seed for one in evaluations}) != len(evaluations):
        raise ValueError("A seed comes twice among the evaluations.")


def _rows(one: Evaluation) -> list[dict[str, Any]]:
    rows = []
    for p, passes in enumerate(one.passes):
        for depth in one.depths:
            now = one.answers(passes, depth)
            row: dict[str, Any] = {
                "checkpoint": one.checkpoint,
                "weights": one.weights[:12],
                "seed": str(one.seed),
                "exam": one.exam,
                "passes": passes,
                "depth": depth,
                "n": len(now),
                "asked": now.size,
                "correct": int(now.sum()),
                **dict(zip(SHARE, share_right(now), strict=True)),
            }
            if one.has_wholes:
                row |= zip(WHOLE, share_right(one.wholes(passes, depth)), strict=True)
            row |= {"previous": one.passes[p - 1] if p else None, **dict.fromkeys(GAIN + VS_ONE)}
            if p:
                row |= zip(GAIN, paired_difference(one.answers(one.passes[p - 1], depth), now), strict=True)
            if passes != 1 and 1 in one.passes:
                row |= zip(VS_ONE, paired_difference(one.answers(1, depth), now), strict=True)
            row |= {
                "floor": one.floors[depth],
                "flops_sleep": one.flops_sleep[p],
                "flops_wake": one.flops_wake[p],
                "seconds_sleep": one.seconds_sleep[p],
                "seconds_wake": one.seconds_wake[p],
            }
            rows.append(row)
    return rows


def _pooled_rows(evaluations: Sequence[Evaluation], rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows over all seeds: counts added, costs averaged, every estimate with its interval over seeds."""
    first = evaluations[0]
    cells = [(passes, depth) for passes in first.passes for depth in first.depths]

    def estimates(pick: Callable[[Evaluation, int, int], NDArray[np.float64] | None], least: float = 0.0) -> list[Any]:
        """Three numbers for each cell, cut off at `least` and 1; None where `pick` has nothing for it."""
        columns = [[pick(one, *cell) for cell in cells] for one in evaluations]
        there = [i for i, column in enumerate(columns[0]) if column is not None]
        found: list[Any] = [(None, None, None)] * len(cells)
        if there:
            arrays = [np.stack([c for c in column if c is not None], axis=1) for column in columns]
            for i, *numbers in zip(there, *over_seeds(arrays), strict=True):
                found[i] = tuple(float(x) for x in np.clip(numbers, least, 1.0))
        return found

    def mean(one: Evaluation, passes: int, depth: int) -> NDArray[np.float64]:
        return one.answers(passes, depth).mean(axis=1)

    def over(one: Evaluation, before: int | None, passes: int, depth: int) -> NDArray[np.float64] | None:
        return None if before is None else mean(one, passes, depth) - mean(one, before, depth)

    previous = dict(zip(first.passes, (None, *first.passes), strict=False))
    found = {
        SHARE: estimates(mean),
        GAIN: estimates(lambda one, p, d: over(one, previous[p], p, d), -1.0),
        VS_ONE: estimates(lambda one, p, d: over(one, 1 if p != 1 and 1 in one.passes else None, p, d), -1.0),
    }
    if first.has_wholes:
        found[WHOLE] = estimates(lambda one, p, d: one.wholes(p, d).mean(axis=1))
    pooled = []
    for i, (passes, depth) in enumerate(cells):
        here = rows[(rows["passes"] == passes) & (rows["depth"] == depth)]
        row = here.iloc[0].to_dict() | {"seed": POOLED, "exam": None, "weights": None}
        row |= here[["n", "asked", "correct"]].sum().to_dict()
        row |= here[["seconds_sleep", "seconds_wake"]].mean().to_dict()
        for names, numbers in found.items():
            row |= zip(names, numbers[i], strict=True)
        pooled.append(row)
    return pooled
