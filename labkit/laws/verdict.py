"""Do sleep and thought compound? The definitions of data/LOG.md (2026-11-26), applied to the rows of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from labkit.costs import answer_cost
from labkit.intervals import Interval, mean_of_seeds
from labkit.laws.reach import depths_of, reach_table
from labkit.tasks.thinking import leaps

__all__ = [
    "ADDS", "Verdict", "contest", "corner_values", "difference_of_differences", "judge", "seeds_with_all", "snowball",
    "whole_seeds",
]  # fmt: skip

ADDS = 0.5
"""Hops on either side of zero within which the whole interval of D must lie for "adds"."""


@dataclass(frozen=True)
class Verdict:
    """What the numbers of one arm carry.

    Attributes:
        word: "compounds", "adds", "substitutes", "undecided", or "dead" where an axis alone moves nothing.
        alive: for "sleep" and "thought", what the axis alone moves r by.
        interaction: D, the difference of differences of r; None with a dead axis.
        mix: the lead of the best mix over the best pure axis at equal operations, for each number of questions a
            sleep; None with a dead axis or without budgets.
        contest_seeds: how many seeds stand behind it: those that the rivals have as well.
        censored: share of seeds whose best cell is censored; rivals_censored: of the rivals' deepest cells.
        corners: r at (1, 0), (1, R_max), (N_max, 0), (N_max, R_max).
    """

    word: str
    alive: dict[str, Interval]
    interaction: Interval | None
    mix: dict[int, Interval] | None
    contest_seeds: int
    censored: float
    rivals_censored: float
    corners: dict[tuple[int, int], Interval]

    @property
    def sentence(self) -> str:
        """The verdict with the numbers that carry it."""
        moved = ", ".join(f"{axis} alone moves reach by {i.told()}" for axis, i in self.alive.items())
        if self.interaction is None:
            dead = [axis for axis, i in self.alive.items() if not _apart(i)]
            verb = "moves" if len(dead) == 1 else "move"
            return f"No interaction is told, since {' and '.join(dead)} alone {verb} nothing surely: {moved}."
        assert self.mix is not None
        leads = [f"{lead.told()} with {_questions(number)} a sleep" for number, lead in self.mix.items()]
        contest = f"the best mix leads the best pure axis by {', '.join(leads)}" if leads else "no mix has a rival"
        return (
            f"{self.word.capitalize()}: the difference of differences is {self.interaction.told()} hops ({moved}), and "
            f"at equal operations {contest} ({self.contest_seeds} seeds)."
        )


def judge(
    rows: pd.DataFrame, questions: Sequence[int] = (1, 4, 16, 64, 256), rivals: pd.DataFrame | None = None
) -> Verdict:
    """The verdict on one arm from the rows of a sweep: one recipe, several seeds, N of 1 or more.

    Args:
        rows: with ``seed``, ``passes``, ``thought``, ``right_1`` ..., ``n``, ``flops_sleep``, ``flops_wake``.
        questions: how many questions one sleep serves; the first decides.
        rivals: rows of models that know one axis only, for the contest; their N and R may go further.

    Raises ValueError, in a sentence, where a seed lacks a cell or there are fewer than two seeds.
    """
    rows = reach_table(rows[rows["passes"] >= 1])
    far = None if rivals is None else whole_seeds(reach_table(rivals))
    beside = rows["seed"].nunique() if far is None else len(set(rows["seed"]) & set(far["seed"]))
    deepest = 0.0
    if far is not None and len(far):
        deepest = float(far.loc[far["thought"] == far["thought"].max(), "censored"].mean())
    values = corner_values(rows)
    low, high = values.columns[0], values.columns[-1]
    one_n, one_r = (low[0], high[1]), (high[0], low[1])
    corners = {key: mean_of_seeds(values[key]) for key in (low, one_n, one_r, high)}
    alive = {"sleep": mean_of_seeds(values[one_r] - values[low]), "thought": mean_of_seeds(values[one_n] - values[low])}
    best = rows[(rows["passes"] == high[0]) & (rows["thought"] == high[1])]
    censored = float(best["censored"].mean())
    if not all(map(_apart, alive.values())):
        return Verdict("dead", alive, None, None, beside, censored, deepest, corners)
    found = difference_of_differences(values)
    mix = {q: lead for q in questions if (lead := contest(rows, q, far)) is not None}
    won = bool(mix) and next(iter(mix.values())).low > 0
    if found.low > 0 and won:
        word = "compounds"
    elif -ADDS <= found.low and found.high <= ADDS:
        word = "adds"
    elif found.high < 0:
        word = "substitutes"
    else:
        word = "undecided"
    return Verdict(word, alive, found, mix, beside, censored, deepest, corners)


def whole_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of those seeds that have every cell any seed of the same model has: a sweep may still be going on."""
    knobs = [name for name in ("passes", "thought", "carry", "asked") if name in rows]
    kept = [own[own["seed"].isin(seeds_with_all(own, knobs))] for _, own in rows.groupby("checkpoint")]
    return pd.concat(kept).sort_index() if kept else rows


def seeds_with_all(rows: pd.DataFrame, knobs: list[str]) -> list[str]:
    """The seeds that have every setting of the knobs that any seed has, in order."""
    had = rows[["seed", *knobs]].drop_duplicates().groupby("seed").size()
    return sorted(had.index[had == len(rows[knobs].drop_duplicates())])


def corner_values(rows: pd.DataFrame) -> pd.DataFrame:
    """``reach`` with a row for each seed and a column for each cell (N, R); refuses a table with holes."""
    square = rows.pivot_table(index="seed", columns=["passes", "thought"], values="reach", aggfunc="mean")
    if square.isna().any(axis=None) or len(square.columns) < 4:
        raise ValueError("Every seed needs a row for every cell, and at least two N and two R; finish the sweep first.")
    return square.sort_index(axis=1)


def difference_of_differences(values: pd.DataFrame) -> Interval:
    """D of `corner_values`: what both axes give together beyond what each gives alone, in hops."""
    (n1, r1), (n2, r2) = values.columns[0], values.columns[-1]
    return mean_of_seeds(values[n2, r2] - values[n2, r1] - values[n1, r2] + values[n1, r1])


def contest(rows: pd.DataFrame, questions: int = 1, rivals: pd.DataFrame | None = None) -> Interval | None:
    """How much deeper the best mix of sleep and thought reaches than the best pure axis, at equal operations.

    For every budget that some mix costs, the best mix and the best pure cell within it are chosen by all seeds but one
    and compared on that one. None where no budget affords both, or fewer than two seeds have all cells.

    Args:
        rows: of one arm, with ``reach``.
        questions: how many one sleep serves.
        rivals: of another model that knows one axis only, and so may go further along it; seed by seed beside `rows`.
    """
    values = corner_values(rows)
    least_n, least_r = values.columns[0]
    mixed = [cell for cell in values.columns if cell[0] > least_n and cell[1] > least_r]
    pure = [cell for cell in values.columns if cell not in mixed]
    cost = _cost(rows, questions)
    if rivals is not None:
        theirs = rivals.pivot_table(index="seed", columns=["checkpoint", "passes", "thought"], values="reach")
        values = pd.concat([_plainly(values), _plainly(theirs)], axis=1, join="inner")
        if len(values) < 2:
            return None
        # what a cell costs depends on shapes alone, so it is the same for every seed of a recipe
        for name, own in rivals.groupby("checkpoint"):
            cost |= {(name, *cell): operations for cell, operations in _cost(own, questions).items()}
        pure += list(theirs.columns)
    leads = []
    for seed in values.index:
        others, own = values.drop(index=seed).mean(), values.loc[seed]
        differences = []
        for budget in sorted(cost[cell] for cell in mixed):
            within = [[cell for cell in kind if cost[cell] <= budget] for kind in (mixed, pure)]
            if all(within):
                mix, alone = (max(kind, key=lambda cell: others[cell]) for kind in within)
                differences.append(own[mix] - own[alone])
        if not differences:
            return None
        leads.append(float(np.mean(differences)))
    return mean_of_seeds(leads)


def _plainly(square: pd.DataFrame) -> pd.DataFrame:
    """The same with tuples as names of columns, so that tables of other knobs can stand beside it."""
    return square.set_axis(pd.Index(list(square.columns), tupleize_cols=False), axis=1)


def _cost(rows: pd.DataFrame, questions: int) -> dict[tuple[Any, ...], float]:
    """Operations of an answer, by N and R."""
    return answer_cost(rows, questions).groupby([rows["passes"], rows["thought"]]).mean().to_dict()


def snowball(rows: pd.DataFrame, trace: str) -> pd.DataFrame:
    """For every seed, N, R and depth the share right, and the product of the shares of a chain's leaps at R = 0.

    Args:
        rows: of a sweep, R = 0 among them.
        trace: what a step of thought is. A leap of 0 stays where it is, and is always right.

    Returns columns seed, passes, thought, depth, share, null.
    """
    depths, found = depths_of(rows), []
    for (seed, passes), part in rows.groupby(["seed", "passes"]):
        plain = part[part["thought"] == 0].iloc[0]
        single = {0: 1.0, **{d: plain[f"right_{d}"] / plain["n"] for d in depths}}
        for _, row in part[part["thought"] > 0].iterrows():
            for depth in depths:
                null = float(np.prod([single[leap] for leap in leaps(trace, depth, int(row["thought"]))]))
                share = row[f"right_{depth}"] / row["n"]
                cell = {"seed": seed, "passes": passes, "thought": row["thought"], "depth": depth}
                found.append({**cell, "share": share, "null": null})
    return pd.DataFrame(found)


def _apart(interval: Interval) -> bool:
    """Whether zero lies outside."""
    return interval.low > 0 or interval.high < 0


def _questions(number: int) -> str:
    return "one question" if number == 1 else f"{number} questions"
