"""Everything that laws of error say of one swept grid, in one table."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labkit.laws.comparing import CELL, explained, held_out, oversleeping, size_and_sleep, substitution
from labkit.laws.fitting import fit, jackknife
from labkit.laws.forms import ALL, LAWS

__all__ = ["COLUMNS", "WITH_ALL", "curves", "summary"]

COLUMNS = ("what", "law", "name", "value", "low", "high")

WITH_ALL = tuple(name for name, law in LAWS.items() if law.axes == ALL)
"""The laws that have all three axes."""


def summary(
    rows: pd.DataFrame, passes: Iterable[int] = (2, 4, 8), questions: Iterable[int] = (1, 64), most: int = 4
) -> pd.DataFrame:
    """What laws make of a grid of widths, passes and thought.

    Args:
        rows: of a sweep, with ``reach`` and ``error`` (`reach_table`) and at least two seeds of every model.
        passes: N for which the parameters that equal them at N = 1 are asked.
        questions: how many a sleep serves, for what total operations explain.
        most: N above it, which no lesson had, is left out of all fits.

    Returns a table of `COLUMNS`; where there is no interval, its ends are missing. By `what`: "number" of a law that
    is fitted to the whole grid; "held out", how far off (root mean square) it is on the dear cells when fitted to the
    cheap ones, and "gain" against not extrapolating; "substitution", how many times the parameters of the smallest
    model at N = 1 equal N passes, without thought; "explained", shares of the variance over cells; "size and sleep",
    what both reach beyond each (`size_and_sleep`); "oversleeping", the change of accuracy from one N to the next where
    its whole interval lies below 0.
    """
    known = rows[rows["passes"].between(1, most)]
    found: list[tuple[str, str, str, float, float, float]] = []
    for name in LAWS:
        fitted = fit(known, name)
        for number, value in fitted.params.items():
            found.append(("number", name, number, *fitted.intervals.get(number, (value, np.nan, np.nan))))
    for row in held_out(known, list(LAWS)).to_dict("records"):
        found.append(("held out", row["law"], "rms", row["rms"], row["low"], row["high"]))
        found.append(("gain", row["law"], "rms", row["gain"], row["gain_low"], row["gain_high"]))
    for name in WITH_ALL:
        for row in substitution(known, name, list(passes)).to_dict("records"):
            asked = f"N = {row['passes']}" + ", beyond the fits" * (row["passes"] > most)
            found.append(("substitution", name, asked, row["times"], row["low"], row["high"]))
    for served in questions:
        for part, interval in explained(known, served).items():
            found.append(("explained", f"{served} question{'s' * (served != 1)} a sleep", part, *interval))
    for thought in sorted(known["thought"].unique()):
        found.append(("size and sleep", "reach", f"R = {thought}", *size_and_sleep(known, thought)))
    slept = oversleeping(rows)
    for row in slept[slept["inverse"]].to_dict("records"):
        step = f"R = {row['thought']}, N = {row['before']} to {row['after']}"
        found.append(("oversleeping", row["checkpoint"], step, row["change"], row["low"], row["high"]))
    return pd.DataFrame(found, columns=list(COLUMNS))


def curves(rows: pd.DataFrame, laws: Iterable[str] = WITH_ALL, most: int = 4) -> pd.DataFrame:
    """What each law, fitted to the whole grid, says of every cell with N of 1 or more.

    Columns: law, params, passes, thought, and predicted with low and high, the ends of a jackknife over seeds. N above
    `most` is left out of the fits, and extrapolated to.
    """
    rows = rows[rows["passes"] >= 1]
    known, cells = rows[rows["passes"] <= most], rows[CELL].drop_duplicates().sort_values(CELL)
    found = []
    for law in laws:

        def predicted(part: pd.DataFrame, law: str = law) -> NDArray[np.float64]:
            return fit(part, law).predict(cells)

        centre = predicted(known)
        low, high = jackknife(known, predicted, centre)
        ends = {"predicted": centre, "low": low.clip(0, 1), "high": high.clip(0, 1)}
        found.append(cells.assign(law=law, **ends))
    return pd.concat(found, ignore_index=True)
