"""95% intervals for shares of right answers: of one setting, of the difference of two, and over seeds.

The unit of all of them is the instance (a graph, a row of the automaton), not the question: questions about
one instance stand or fall together, so that counting them as independent would make intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

__all__ = [
    "Interval",
    "effective_size",
    "mean_of_seeds",
    "over_seeds",
    "paired_difference",
    "seeds_differ",
    "share_right",
    "wilson",
]

LEVEL = 0.95
Z = float(ndtri(0.5 + LEVEL / 2))
Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate and the ends of its 95% interval."""

    value: float
    low: float
    high: float

    def told(self, sign: str = "+") -> str:
        """In words, "value [low, high]"; `sign` is "+" for differences and "" for shares."""
        return f"{self.value:{sign}.2f} [{self.low:{sign}.2f}, {self.high:{sign}.2f}]"


def effective_size(answers: NDArray[np.generic]) -> float:
    """How many independent questions the answers [n, q] of n instances are worth, between n and n * q.

    It is p (1 - p) over the variance of the mean that the instances themselves show (Kish's design effect).
    With one question an instance, or where all answers are right or all wrong, it is n.
    """
    n, q = answers.shape
    means = answers.mean(axis=1, dtype=np.float64)
    p = means.mean()
    if q == 1 or n < 2 or p in (0.0, 1.0):
        return float(n)
    variance = means.var(ddof=1) / n
    return float(np.clip(p * (1 - p) / variance, n, n * q)) if variance > 0 else float(n * q)


def wilson(share: float, size: float) -> Interval:
    """Wilson's score interval (1927) of a share among `size` independent answers.

    At 0 and 1 it keeps a width. Raises ValueError for a share beyond them, or of no answers.
    """
    if not 0 <= share <= 1 or not size > 0:
        raise ValueError(f"A share from 0 to 1 of more than 0 answers is needed, not {share} of {size}.")
    shrink = 1 + Z**2 / size
    centre = (share + Z**2 / (2 * size)) / shrink
    half = Z / shrink * np.sqrt(share * (1 - share) / size + Z**2 / (4 * size**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Interval(float(share), float(min(share, low)), float(max(share, high)))  # roundings must not leave it out


def share_right(answers: NDArray[np.generic]) -> Interval:
    """The share of right answers [n, q] (1 or 0) with its Wilson interval at their `effective_size`."""
    return wilson(float(answers.mean(dtype=np.float64)), effective_size(answers))


def paired_difference(before: NDArray[np.generic], after: NDArray[np.generic]) -> Interval:
    """How much larger the share right in `after` is, both [n, q] answers to the same questions.

    Newcombe's square-and-add interval for paired shares (Statistics in Medicine 17, 1998, method 8): the
    Wilson intervals of both shares, combined with the correlation over instances. Unlike a bootstrap it keeps
    a width where both shares are 0 or 1.
    """
    if before.shape != after.shape:
        raise ValueError(f"Paired answers have one shape, not {list(before.shape)} and {list(after.shape)}.")
    first, second = share_right(before), share_right(after)
    a, b = before.mean(axis=1, dtype=np.float64), after.mean(axis=1, dtype=np.float64)
    together = float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0

    def reach(x: float, y: float) -> float:
        return float(np.sqrt(max(0.0, x * x - 2 * together * x * y + y * y)))

    value = second.value - first.value
    low = value - reach(second.value - second.low, first.high - first.value)
    high = value + reach(second.high - second.value, first.value - first.low)
    return Interval(value, max(-1.0, low), min(1.0, high))


def over_seeds(values: Sequence[Floats]) -> tuple[Floats, Floats, Floats]:
    """Mean over training seeds with its 95% interval, Student's t on the means of the seeds.

    Seeds are few, and models of one recipe differ, so the spread of the seeds' means decides, with as many degrees
    of freedom as there are seeds less one. The interval is never narrower than the instances alone would make it
    (one seed: only they are there), nor than 3 over their number, the rule of three for where all agree.

    Args:
        values: for each seed an array [n, cells]: a number for every instance and every quantity of interest. Paired
            quantities are paired by handing in their difference.

    Returns mean, low and high, each [cells]; shares may leave [0, 1] and want clipping.
    """
    if not values or any(v.ndim != 2 or v.shape[1] != values[0].shape[1] or not len(v) for v in values):
        raise ValueError("One array [instances, cells] for each seed is needed, with the same cells in all.")
    means = np.stack([v.mean(axis=0) for v in values])
    return _student(means, np.stack([v.var(axis=0) / len(v) for v in values]), sum(map(len, values)))


def mean_of_seeds(values: Sequence[float]) -> Interval:
    """Mean of a quantity that each seed has one of, such as a reach, with its 95% interval: Student's t.

    What instances add to a seed's number is in the spread of the seeds. Raises ValueError for fewer than two.
    """
    if len(values) < 2:
        raise ValueError(f"An interval over seeds needs two seeds or more, not {len(values)}.")
    mean = float(np.mean(values))
    half = float(stdtrit(len(values) - 1, 0.5 + LEVEL / 2) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def share_of_seeds(shares: Sequence[float], n: int) -> Interval:
    """Mean of a share that each seed has one of, with its 95% interval, which ends at 0 and 1.

    Student's t over seeds, and never narrower than the instances alone would make it; see `over_seeds`.

    Args:
        shares: of two seeds or more; ValueError for fewer.
        n: instances behind each share, at least.
    """
    if len(shares) < 2:
        raise ValueError(f"An interval over seeds needs two seeds or more, not {len(shares)}.")
    means = np.array(shares, dtype=np.float64)[:, None]
    (mean,), (low,), (high,) = _student(means, means * (1 - means) / n, n * len(means))
    return Interval(float(mean), float(max(0.0, low)), float(min(1.0, high)))


def seeds_differ(before: Floats, after: Floats, n: int) -> tuple[Floats, Floats, Floats]:
    """How much larger the shares `after` are than those `before`, where only shares were kept.

    Args:
        before, after: ``[seeds, cells]``, of two recipes, seed by seed.
        n: instances behind each share. Those of the two are taken as unrelated, which is never too narrow where
            both met the same.

    Returns mean, low and high of the difference as `over_seeds` gives them, each [cells].
    """
    if before.shape != after.shape or before.ndim != 2 or not len(before) or n < 1:
        raise ValueError(f"Shares [seeds, cells] of n instances are needed, not {before.shape} and {after.shape}, {n}.")
    variances = (before * (1 - before) + after * (1 - after)) / n
    return _student(after - before, variances, n * len(before))


def _student(means: Floats, variances: Floats, instances: int) -> tuple[Floats, Floats, Floats]:
    """Mean, low and high over seeds, of the means of seeds and these means' variances, both ``[seeds, cells]``."""
    seeds = len(means)
    half = np.maximum(Z * np.sqrt(variances.sum(axis=0)) / seeds, 3 / instances)
    if seeds > 1:
        t = float(stdtrit(seeds - 1, 0.5 + LEVEL / 2))
        half = np.maximum(half, t * means.std(axis=0, ddof=1) / np.sqrt(seeds))
    mean = means.mean(axis=0)
    return mean, mean - half, mean + half
