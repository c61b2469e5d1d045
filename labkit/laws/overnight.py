"""The contest of the nights: thoughts slept on against more sleep, and against more thought, at one whole bill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from labkit.intervals import Interval, mean_of_seeds
from labkit.laws.verdict import seeds_with_all

__all__ = ["TRAINED", "Contest", "bills", "contest", "wrong_at_first"]

TRAINED = (1, 4)
"""Passes that were taught: only these compete."""
COLUMNS = ["checkpoint", "passes", "thought"]


class Contest(NamedTuple):
    """What came out of one contest.

    Attributes:
        questions: asked after the last night.
        loop, rival: the cells that were chosen most often, in words; the rival's "" where none is as cheap.
        lead: by how much less the loop is wrong, over seeds; None where no rival is as cheap.
        verdict: "compounds", "beaten", or "undecided"; "without a rival" where none is as cheap; "too few seeds" where
            fewer than two have all cells.
    """

    questions: int
    loop: str
    rival: str
    lead: Interval | None
    verdict: str


def wrong_at_first(rows: pd.DataFrame) -> pd.Series:
    """Of rows of `labkit nights`, the share wrong about the first day: as many hops back as nights passed."""
    right = [row[f"right_{row['night']}"] for row in rows.to_dict("records")]
    return 1 - pd.Series(right, index=rows.index, dtype=float) / rows["asked"]


def bills(rows: pd.DataFrame, questions: int) -> pd.DataFrame:
    """Rows of the last night, facts alone and own thoughts, with ``bill``: operations of one text, all included.

    All nights' sleep and thinking, and so many questions afterwards. Also ``wrong_at_first``. Only passes that were
    taught stay.
    """
    part = rows[(rows["night"] == rows["night"].max()) & rows["notes"].isin(["none", "own"]) & (rows["wrong"] == 0)]
    part = part[part["passes"].between(*TRAINED) & (part["written"] == part["thought"])]
    bill = part["flops_sleep"] + part["flops_think"] + questions * part["flops_wake"]
    return part.assign(bill=bill, wrong_at_first=wrong_at_first(part))


def contest(rows: pd.DataFrame, questions: int, thinkers: pd.DataFrame | None = None) -> Contest:
    """Does thinking and sleeping on one's thoughts beat what costs no more (data/LOG.md)?

    The loop's best cell, and the best rival without notes whose bill is no larger, are chosen on all seeds but one and
    compared on that one, in turn; of equally good ones the cheapest. Rows of `thinkers`, which know one axis only, are
    rivals and no loops; seeds are paired by their numbers.
    """
    table = bills(rows, questions)
    if thinkers is not None:
        alone = bills(thinkers, questions)
        table = pd.concat([table, alone[alone["notes"] == "none"]], ignore_index=True)
    seeds = seeds_with_all(table, COLUMNS)
    table = table[table["seed"].isin(seeds)]
    if len(seeds) < 2:
        return Contest(questions, "", "", None, "too few seeds")
    leads, loops, rivals = [], [], []
    for left_out in seeds:
        others, own = table[table["seed"] != left_out], table[table["seed"] == left_out]
        loop = _best(others[others["notes"] == "own"])
        cheaper = others[(others["notes"] == "none") & (others["bill"] <= loop["bill"])]
        loops.append(_words(loop, "own"))
        if cheaper.empty:
            return Contest(questions, loops[0], "", None, "without a rival")
        rival = _best(cheaper)
        rivals.append(_words(rival, "none"))
        leads.append(_wrong(own, rival, "none") - _wrong(own, loop, "own"))
    lead = mean_of_seeds(leads)
    verdict = "compounds" if lead.low > 0 else "beaten" if lead.high < 0 else "undecided"
    return Contest(questions, _usual(loops), _usual(rivals), lead, verdict)


def _best(rows: pd.DataFrame) -> pd.Series:
    """The cell that is least wrong over the seeds."""
    means = rows.groupby(COLUMNS)[["wrong_at_first", "bill"]].mean().reset_index()
    return means.sort_values(["wrong_at_first", "bill"]).iloc[0]


def _wrong(own: pd.DataFrame, cell: pd.Series, notes: str) -> float:
    same = (own[COLUMNS] == cell[COLUMNS]).all(axis=1) & (own["notes"] == notes)
    return float(own.loc[same, "wrong_at_first"].mean())


def _words(cell: pd.Series, notes: str) -> str:
    what = "own thoughts" if notes == "own" else "facts alone"
    return f"{cell['checkpoint']}, {what}, N = {cell['passes']}, R = {cell['thought']}"


def _usual(words: Sequence[str]) -> str:
    return max(words, key=words.count)
