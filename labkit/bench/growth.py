"""How a cost grows with a size: the exponent of a power law, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from labkit.intervals import Interval


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> Interval:
    """``b`` of ``seconds = a * sizes ** b`` by least squares on logarithms, with Student's 95% interval.

    Raises ValueError for fewer than three points: two always lie on a line.
    """
    if len(sizes) < 3:
        raise ValueError(f"An exponent with an interval needs at least 3 sizes, but there are {len(sizes)}.")
    fit = stats.linregress(np.log(sizes), np.log(seconds))
    half = float(stats.t.ppf(0.975, len(sizes) - 2) * fit.stderr)
    slope = float(fit.slope)
    return Interval(slope, slope - half, slope + half)
