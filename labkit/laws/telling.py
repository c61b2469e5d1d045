"""What a sweep says about the question, arm by arm: strides, verdicts, specialists beside elastic models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from labkit.intervals import Interval, mean_of_seeds
from labkit.laws.reach import depths_of, reach_table
from labkit.laws.verdict import (
    Verdict,
    corner_values,
    difference_of_differences,
    judge,
    snowball,
    whole_seeds,
)

__all__ = ["above_the_null", "as_row", "elasticity", "log_odds", "specialists", "strides", "verdicts"]

ENDS = (1, 4)
"""The N of the specialists: corner-n1 and corner-n4 without thought, for all arms, and corner-<trace>-n<N> with it."""


def strides(rows: pd.DataFrame) -> dict[int, Interval]:
    """s(N), the stride that sleep has learned: the reach without thought, by N."""
    table = reach_table(rows[rows["thought"] == 0])
    return {int(n): mean_of_seeds(part["reach"].tolist()) for n, part in table.groupby("passes")}


def specialists(rows: pd.DataFrame, trace: str) -> pd.DataFrame | None:
    """The rows of the specialists at the four corners of an arm, of the seeds that have all four; None without two."""
    wanted = [f"corner-{kind}n{n}" for kind in ("", f"{trace}-") for n in ENDS]
    part = rows[rows["checkpoint"].isin(wanted)]
    counts = part.groupby("seed")["checkpoint"].nunique()
    part = part[part["seed"].isin(counts.index[counts == len(wanted)])]
    return part if part["seed"].nunique() > 1 else None


def above_the_null(rows: pd.DataFrame) -> Interval | None:
    """How much more is right than the snowball says, over all N of 1 or more, R above 0, and depths.

    Only cells whose null, mean of seeds, is above .1: elsewhere both are nearly nothing. None for arms that write
    nothing.
    """
    trace = rows["trace"].iloc[0]
    if trace not in ("even", "single"):
        return None
    found = snowball(rows[rows["passes"] >= 1], trace)
    cells = found.groupby(["passes", "thought", "depth"])["null"].transform("mean")
    found = found[cells > 0.1]
    return mean_of_seeds((found["share"] - found["null"]).groupby(found["seed"]).mean().tolist())


def elasticity(rows: pd.DataFrame, own: pd.DataFrame) -> dict[tuple[int, int], Interval]:
    """What specialists reach beyond elastic models at each corner, seed against seed: the price of being elastic."""
    special, elastic = (corner_values(reach_table(part)) for part in (own, rows[rows["passes"] >= 1]))
    seeds = special.index.intersection(elastic.index)
    return {
        (int(n), int(r)): mean_of_seeds((special.loc[seeds, (n, r)] - elastic.loc[seeds, (n, r)]).tolist())
        for n, r in special.columns
    }


def log_odds(rows: pd.DataFrame) -> Interval:
    """The difference of differences in log-odds of a right answer over all depths. It decides nothing."""
    table = rows[rows["passes"] >= 1]
    depths = depths_of(table)
    asked = table["n"] * len(depths)
    right = table[[f"right_{d}" for d in depths]].sum(axis=1)
    odds = np.log((right + 0.5) / (asked - right + 0.5))
    return difference_of_differences(corner_values(table.assign(reach=odds)))


def verdicts(
    rows: pd.DataFrame,
    corners: pd.DataFrame | None = None,
    rivals: pd.DataFrame | None = None,
    most: int = 4,
    pieces: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """A row for each elastic model: what its axes do, and whether the specialists of its arm say the same.

    Args:
        rows: of a sweep of elastic models; N above `most`, which no lesson had, is left out.
        corners: of the sweep of specialists, if there is one.
        rivals: of models that know one axis only, for the contest at equal operations.
        pieces: tokens of a written step, by model, where it is not one. Of longer ones the null is not known, since
            rows tell how often single tokens are right.
    """
    told = []
    for name, part in whole_seeds(rows[rows["passes"] <= most]).groupby("checkpoint", sort=False):
        if part["seed"].nunique() < 2:
            continue
        trace, found = part["trace"].iloc[0], judge(part, rivals=rivals)
        own = specialists(corners, trace) if corners is not None else None
        row = {"model": name, **as_row(part, found), **_beside(found, own, rivals)}
        if (pieces or {}).get(str(name), 1) == 1:
            row |= _columns("above_null", above_the_null(part))
        for (n, r), price in (elasticity(part, own) if own is not None else {}).items():
            row |= _columns(f"price_{n}_{r}", price)
        told.append(row)
    return pd.DataFrame(told)


def as_row(rows: pd.DataFrame, found: Verdict) -> dict[str, Any]:
    """A verdict as columns of a table."""
    row: dict[str, Any] = {"trace": rows["trace"].iloc[0], "params": int(rows["params"].iloc[0])}
    row |= {"seeds": rows["seed"].nunique(), "n": int(rows["n"].iloc[0]), "censored": found.censored}
    for n, stride in strides(rows[rows["passes"] > 0]).items():
        row |= _columns(f"stride_{n}", stride)
    for (n, r), corner in found.corners.items():
        row |= _columns(f"reach_{n}_{r}", corner)
    for axis, moved in found.alive.items():
        row |= _columns(axis, moved)
    row |= _columns("interaction", found.interaction) | _columns("log_odds", log_odds(rows))
    for questions, lead in (found.mix or {}).items():
        row |= _columns(f"mix_{questions}", lead)
    row |= {"contest_seeds": found.contest_seeds, "rivals_censored": found.rivals_censored}
    return {**row, "verdict": found.word, "sentence": found.sentence}


def _beside(found: Verdict, own: pd.DataFrame | None, rivals: pd.DataFrame | None) -> dict[str, Any]:
    """What specialists say, and the verdict that both carry."""
    if own is None:
        return {"specialists": "", "specialists_seeds": 0, "both": "undecided"}
    theirs = judge(own, rivals=rivals)
    both = found.word if found.word == theirs.word else "undecided"
    row: dict[str, Any] = {"specialists": theirs.word, "specialists_seeds": own["seed"].nunique(), "both": both}
    return row | _columns("specialists_interaction", theirs.interaction) | {"specialists_sentence": theirs.sentence}


def _columns(name: str, interval: Interval | None) -> dict[str, float | None]:
    value, low, high = interval or (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}
