"""Laws against each other and against no law: held-out prediction, explained variance, substitution, oversleeping."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq, isotonic_regression

from labkit.costs import answer_cost
from labkit.intervals import Interval, mean_of_seeds
from labkit.laws.fitting import Fit, fit, jackknife
from labkit.laws.reach import REACHES, accuracy, fit_reach

__all__ = [
    "CELL", "explained", "held_out", "held_out_reach", "oversleeping", "predicted_reach", "size_and_sleep",
    "split_by_cost", "substitution",
]  # fmt: skip

Floats = NDArray[np.float64]
CELL = ["params", "passes", "thought"]


def split_by_cost(rows: pd.DataFrame, share: float = 0.6, questions: float = 1.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cheap part of a grid, the given share of its cells, and the dear rest; a cell goes whole to one side."""
    costs = answer_cost(rows, questions).groupby([rows[name] for name in CELL]).mean().sort_values()
    cheap = set(costs.index[: int(np.ceil(share * len(costs)))])
    inside = np.array([cell in cheap for cell in rows[CELL].itertuples(index=False, name=None)])
    return rows[inside], rows[~inside]


def held_out(rows: pd.DataFrame, laws: Sequence[str], share: float = 0.6) -> pd.DataFrame:
    """Fit on the cheap part of a grid, predict the dear part.

    Returns for each law, and for "mean" (the cheap part's mean error, a null) and "dearest" (the mean of each width's
    dearest cheap cell, a null that extrapolates nothing), the root mean square of what the prediction is off, in
    shares, with its interval over seeds; and how much less that is than with "dearest".
    """
    cheap, dear = split_by_cost(rows, share)
    predictions: dict[str, Floats] = {"mean": np.full(len(dear), cheap["error"].mean())}
    last = cheap.assign(cost=answer_cost(cheap)).sort_values("cost").groupby("params").tail(cheap["seed"].nunique())
    by_width = last.groupby("params")["error"].mean()
    predictions["dearest"] = dear["params"].map(by_width).fillna(cheap["error"].mean()).to_numpy()
    for law in laws:
        predictions[law] = fit(cheap, law).predict(dear)
    return _scored(dear, predictions, "error", "dearest")


def held_out_reach(rows: pd.DataFrame) -> pd.DataFrame:
    """The two models of reach, asked for the cells of the largest R at N > 1; see `predicted_reach`."""
    far = predicted_reach(rows)
    return _scored(far, {kind: far[kind].to_numpy() for kind in REACHES}, "reach", "sum")


def predicted_reach(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the largest R at N > 1, with what each model of reach says of them from the same seed's other rows.

    Seeds learn different strides, so each has its own. Where a cell is censored no prediction counts as too deep.
    """
    found = []
    for _, own in rows.groupby("seed"):
        most = (own["thought"] == own["thought"].max()) & (own["passes"] > own["passes"].min())
        near, far = own[~most], own[most]
        said = {kind: fit_reach(near, kind).predict(far) for kind in REACHES}
        seen, censored = far["reach"], far["censored"]
        found.append(far.assign(**{k: np.where(censored, np.minimum(p, seen), p) for k, p in said.items()}))
    return pd.concat(found)


def _scored(rows: pd.DataFrame, predictions: dict[str, Floats], column: str, null: str) -> pd.DataFrame:
    off = {}
    for name, predicted in predictions.items():
        squares = (predicted - rows[column]) ** 2
        off[name] = np.sqrt(squares.groupby(rows["seed"]).mean())
    found = []
    for name, values in off.items():
        mean, gain = mean_of_seeds(values.tolist()), mean_of_seeds((off[null] - values).tolist())
        mean = mean._replace(low=max(0.0, mean.low))  # nothing is off by less than nothing
        told = dict(zip(("rms", "low", "high", "gain", "gain_low", "gain_high"), (*mean, *gain), strict=True))
        found.append({"law": name, **told})
    return pd.DataFrame(found)


def explained(rows: pd.DataFrame, questions: float = 1.0) -> dict[str, Interval]:
    """How much of the variance of error over cells total operations explain, and how much the way they are split adds.

    "operations": the best falling curve of error in the operations of an answer (isotonic regression). "split": the
    rest up to the cells' own means. Both are shares of the variance between cells, with a jackknife over seeds.
    """

    def shares(part: pd.DataFrame) -> Floats:
        costs = part.assign(cost=answer_cost(part, questions))
        cells = costs.groupby(CELL)[["error", "cost"]].mean().sort_values("cost")
        error = cells["error"].to_numpy()
        curve = isotonic_regression(error, increasing=False).x
        alone = 1 - float(((error - curve) ** 2).sum() / ((error - error.mean()) ** 2).sum())
        return np.array([alone, 1 - alone])

    centre = shares(rows)
    low, high = jackknife(rows, shares, centre)
    ends = zip(("operations", "split"), centre, low, high, strict=True)
    return {name: Interval(float(v), max(0.0, float(a)), min(1.0, float(b))) for name, v, a, b in ends}


def substitution(rows: pd.DataFrame, law: str, passes: Sequence[int], thought: int = 0) -> pd.DataFrame:
    """How many times the parameters one needs at N = 1 to equal N passes, by a fitted law, at the smallest width.

    Where no number of parameters is enough by the law, which may saturate above the error that is wanted, it is
    infinite. Columns: passes, times, low, high: a jackknife over seeds, on a logarithmic scale. There is no interval
    (NaN) where no number is enough, also without one of the seeds.
    """
    least = float(rows["params"].min())

    def times(part: pd.DataFrame) -> Floats:
        found = fit(part, law)
        return np.array([np.log(_equal(found, least, n, thought)) for n in passes])

    centre = times(rows)
    with np.errstate(invalid="ignore"):
        low, high = jackknife(rows, times, centre)
    known = np.isfinite(low) & np.isfinite(high)
    ends = {name: np.exp(np.where(known, end, np.nan)) for name, end in (("low", low), ("high", high))}
    return pd.DataFrame({"passes": list(passes), "times": np.exp(centre), **ends})


def _equal(found: Fit, params: float, passes: int, thought: int) -> float:
    """The factor on params at N = 1 that gives the error of `passes` passes."""

    def error(size: float, n: int) -> float:
        return float(found.predict(pd.DataFrame({"params": [size], "passes": [n], "thought": [thought]}))[0])

    wanted = error(params, passes)
    most = 1e9
    if error(params * most, 1) >= wanted:
        return float("inf")
    if error(params, 1) <= wanted:
        return 1.0
    return float(np.exp(brentq(lambda x: error(params * np.exp(x), 1) - wanted, 0.0, np.log(most))))


def size_and_sleep(rows: pd.DataFrame, thought: int = 0) -> Interval:
    """What the most weights and the most passes reach together beyond what each reaches alone, in hops, over seeds.

    The difference of differences of ``reach`` between the corners of weights and passes, at one R. Raises ValueError,
    in a sentence, where fewer than two seeds have all four corners.
    """
    part = rows[rows["thought"] == thought]
    table = part.pivot_table(index="seed", columns=["params", "passes"], values="reach")
    (small, few), (large, many) = table.columns[0], table.columns[-1]
    corners = [table.get(cell) for cell in ((large, many), (large, few), (small, many), (small, few))]
    if any(corner is None for corner in corners):
        raise ValueError("The most and the least weights need rows for the most and the fewest passes.")
    both, size, sleep, neither = corners
    return mean_of_seeds((both - size - sleep + neither).dropna().tolist())


def oversleeping(rows: pd.DataFrame) -> pd.DataFrame:
    """Where more passes answer worse: for every model, R and step from one N to the next, the change of accuracy.

    Returns checkpoint, thought, before, after, change with its 95% interval over seeds, and `inverse`, whether the
    whole interval lies below zero. Raises ValueError for one seed.
    """
    found, rows = [], rows.assign(share=accuracy(rows))
    for (name, thought), part in rows[rows["passes"] > 0].groupby(["checkpoint", "thought"]):
        square = part.pivot_table(index="seed", columns="passes", values="share")
        for before, after in zip(square.columns, square.columns[1:], strict=False):
            change = (square[after] - square[before]).dropna().tolist()
            i = mean_of_seeds(change)
            found.append(
                {"checkpoint": name, "thought": thought, "before": before, "after": after, "change": i.value,
                 "low": i.low, "high": i.high, "inverse": i.high < 0}
            )  # fmt: skip
    return pd.DataFrame(found)
