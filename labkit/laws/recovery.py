"""Do the intervals hold what they promise? Every law is fitted to tables that were made of it, seed noise included."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from labkit.laws.fitting import fit
from labkit.laws.forms import LAWS, axes_of

__all__ = ["SEED_NOISE", "TRUTHS", "coverage", "synthetic"]

Floats = NDArray[np.float64]

TRUTHS: dict[str, dict[str, float]] = {
    "additive": {"E": 0.05, "A": 40.0, "a": 0.5, "B": 0.2, "b": 0.9, "C": 0.15, "c": 0.8},
    "multiplicative": {"E": 0.05, "A": 60.0, "a": 0.45, "b": 0.9, "c": 0.6},
    "interaction": {"E": 0.05, "A": 40.0, "a": 0.5, "B": 0.2, "b": 0.9, "C": 0.15, "c": 0.8, "D": 0.1},
    "streams": {"E": 0.05, "A": 5000.0, "k": 0.5, "alpha": 0.6},
    "params": {"E": 0.05, "A": 60.0, "a": 0.5},
    "passes": {"E": 0.05, "A": 0.5, "a": 0.9},
    "thought": {"E": 0.05, "A": 0.5, "a": 0.9},
}
"""For each law the numbers that its synthetic tables are made of."""

SEED_NOISE = 0.1
"""How far the coefficients of a seed lie from the true ones, as the spread of their logarithms: models of one recipe
differ as a whole. Each cell differs by half as much again, by itself."""

PARAMS, PASSES, THOUGHT = (3e4, 6e4, 1.2e5, 2.4e5), (1, 2, 3, 4, 6, 8), (0, 1, 2, 3)


def synthetic(law: str, generator: np.random.Generator, seeds: int = 6, n: int = 1000) -> pd.DataFrame:
    """A table as a sweep would give it if the law were true: noise of seeds, of their cells, and of n instances."""
    form, truth = LAWS[law], TRUTHS[law]
    grid = list(itertools.product(PARAMS, PASSES, THOUGHT))
    cells = pd.DataFrame(grid, columns=["params", "passes", "thought"])
    tables = []
    for seed in range(seeds):
        own = dict(truth)
        for name in sorted(set("ABCE") & set(truth)):  # in one order, since each draws
            own[name] *= float(np.exp(SEED_NOISE * generator.standard_normal()))
        error = form.predict(own, axes_of(form, cells))
        error = np.clip(error * np.exp(SEED_NOISE / 2 * generator.standard_normal(len(cells))), 0.0, 1.0)
        tables.append(cells.assign(error=generator.binomial(n, error) / n, n=n, seed=seed))
    return pd.concat(tables, ignore_index=True)


def coverage(law: str, repeats: int = 200, seeds: int = 6, *, start: int = 0, progress: bool = True) -> pd.DataFrame:
    """How often the 95% intervals hold the true numbers, over so many tables of so many training seeds.

    Returns a row for each number: law, number, seeds, truth, repeats, covered (a share), and the middle estimate.
    """
    truth = TRUTHS[law]
    hits, found = dict.fromkeys(truth, 0), {name: [] for name in truth}  # type: dict[str, int], dict[str, list[float]]
    for repeat in tqdm(range(start, start + repeats), desc=law, delay=2.0, disable=not progress):
        fitted = fit(synthetic(law, np.random.default_rng(repeat), seeds), law)
        for name, true in truth.items():
            interval = fitted.intervals.get(name)  # a floor may have none, which holds nothing
            hits[name] += interval is not None and interval.low <= true <= interval.high
            found[name].append(fitted.params[name])
    rows = [
        {"law": law, "number": name, "seeds": seeds, "truth": true, "repeats": repeats, "covered": hits[name] / repeats,
         "median": float(np.median(found[name]))}
        for name, true in truth.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)
