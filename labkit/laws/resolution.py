"""Fine resolution where accuracy is near zero: sampling until something passes, so that growth is not taken for a jump.

A share of right answers out of a fixed number of instances is 0 until it suddenly is not. Drawing instances until a
fixed number of answers is right instead gives every share, however small, the same relative precision ("Predicting
emergent abilities with infinite resolution evaluation", arXiv 2310.03262).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from labkit.intervals import LEVEL, Interval

__all__ = ["Resolved", "resolve"]


@dataclass(frozen=True)
class Resolved:
    """A share found by sampling until `right` answers were right or `drawn` instances were used up.

    Attributes:
        share: the estimate with its interval.
        right, drawn: right answers among instances drawn.
        passed: whether sampling ended since enough was right; else `share` has an upper end only to be trusted.
    """

    share: Interval
    right: int
    drawn: int
    passed: bool


def resolve(
    answer: Callable[[int, int], NDArray[np.generic]], *, passes: int = 10, batch: int = 1000, most: int = 200_000
) -> Resolved:
    """Draw instances, a batch at a time, until `passes` answers are right.

    Counted is up to the instance at which the last one came right, so the estimate ``(passes - 1) / (drawn - 1)`` is
    unbiased (Haldane 1945), and the interval is exact (Clopper-Pearson on the same counts). Where `most` instances do
    not suffice it is what is right of them.

    Args:
        answer: ``answer(start, size)`` gives 1 or 0 for the instances ``start .. start + size - 1``, any type.
        passes: right answers to wait for, at least 2.
        batch, most: instances at a time, and in all.

    Raises ValueError for numbers out of range.
    """
    if passes < 2 or batch < 1 or most < passes:
        raise ValueError(f"passes must be 2 or more, batch 1 or more and most {passes} or more.")
    right = drawn = 0
    while right < passes and drawn < most:
        found = np.asarray(answer(drawn, min(batch, most - drawn))).astype(bool)
        places = np.flatnonzero(found)
        if right + len(places) >= passes:
            drawn += int(places[passes - right - 1]) + 1
            right = passes
        else:
            right, drawn = right + len(places), drawn + len(found)
    tail = (1 - LEVEL) / 2
    passed = right >= passes
    value = (passes - 1) / (drawn - 1) if passed else right / drawn
    low = float(beta.ppf(tail, right, drawn - right + 1)) if right else 0.0
    # once the last one is known to be right, one fewer of the others is
    high = float(beta.ppf(1 - tail, right + (not passed), drawn - right)) if drawn > right else 1.0
    return Resolved(Interval(value, low, high), right, drawn, passed)
