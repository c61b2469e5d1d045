"""Intervals against scipy, against published numbers, and against the coverage that they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from labkit.intervals import (
    effective_size,
    over_seeds,
    paired_difference,
    seeds_differ,
    share_right,
    wilson,
)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (1, 10), (15, 50), (1990, 2000), (2000, 2000)])
def test_wilson_is_that_of_scipy(right: int, n: int) -> None:
    theirs = binomtest(right, n).proportion_ci(method="wilson")
    ours = wilson(right / n, n)
    assert ours.value == right / n
    assert np.allclose((ours.low, ours.high), (theirs.low, theirs.high), atol=1e-12)


def test_paired_difference_is_newcombes() -> None:
    # A table printed by Newcombe (1998): of 50 pairs 36 right in both, 12 only after, 2 only before
    before = np.array([1] * 36 + [0] * 12 + [1] * 2)[:, None]
    after = np.array([1] * 36 + [1] * 12 + [0] * 2)[:, None]
    found = paired_difference(before, after)
    assert np.allclose(found, (0.2, 0.0569, 0.3404), atol=5e-5)
    back = paired_difference(after, before)
    assert np.allclose(back, (-found.value, -found.high, -found.low))


def test_at_the_ceiling_an_interval_keeps_a_width() -> None:
    right = np.ones((2000, 1))
    assert share_right(right).low == pytest.approx(1 - 0.0019, abs=1e-4)
    same = paired_difference(right, right)
    assert same.value == 0 and -0.003 < same.low < -0.001 and 0.001 < same.high < 0.003


def test_pairing_pays_where_answers_go_together() -> None:
    draw = np.random.default_rng(0)
    before = (draw.random((2000, 1)) < 0.6).astype(np.uint8)
    after = before | (draw.random((2000, 1)) < 0.05)
    unpaired = after[draw.permutation(2000)]
    paired, loose = paired_difference(before, after), paired_difference(before, unpaired)
    assert paired.value == pytest.approx(loose.value)
    assert paired.high - paired.low < 0.5 * (loose.high - loose.low)


def test_questions_of_one_instance_count_by_what_they_add() -> None:
    draw = np.random.default_rng(0)
    instance = (draw.random((500, 1)) < 0.7).astype(np.uint8)
    assert effective_size(instance) == 500
    assert effective_size(np.repeat(instance, 16, axis=1)) == pytest.approx(500, rel=0.01)
    independent = (draw.random((500, 16)) < 0.7).astype(np.uint8)
    assert effective_size(independent) == pytest.approx(8000, rel=0.25)
    assert effective_size(np.ones((500, 16))) == 500


@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_cover_what_they_promise(clustered: bool) -> None:
    """300 experiments in which the truth is known: the 95% intervals hold it about that often."""
    draw = np.random.default_rng(1)
    held = []
    for _ in range(300):
        kind = draw.random((150, 1)) < 0.5  # easy and hard instances make all answers go together
        shape = (150, 8 if clustered else 1)
        before = draw.random(shape) < np.where(kind, 0.9, 0.3)
        after = draw.random(shape) < np.where(kind, 0.95, 0.45)
        share, gain = share_right(before), paired_difference(before, after)
        held.append((share.low <= 0.6 <= share.high, gain.low <= 0.1 <= gain.high))
    assert (np.mean(held, axis=0) >= 0.92).all() and (np.mean(held, axis=0) < 1).all()


@pytest.mark.parametrize("seeds", [2, 3, 6])
@pytest.mark.parametrize("spread", [0.0, 0.1], ids=["seeds alike", "seeds differ"])
def test_intervals_over_seeds_cover_what_they_promise(seeds: int, spread: float) -> None:
    """600 experiments in which the mean of all seeds there could be is known to be 0.5."""
    draw, held = np.random.default_rng(2), []
    for _ in range(600):
        chances = 0.5 + spread * draw.standard_normal(seeds)
        values = [(draw.random((200, 1)) < chance).astype(float) for chance in chances]
        _, low, high = over_seeds(values)
        held.append(low[0] <= 0.5 <= high[0])
    assert 0.92 <= np.mean(held) < 1


def test_over_seeds_is_students_t_on_their_means() -> None:
    draw = np.random.default_rng(0)
    values = [(draw.random((400, 1)) < p).astype(float) for p in (0.2, 0.5, 0.8)]
    mean, low, high = over_seeds(values)
    theirs = ttest_1samp([v.mean() for v in values], 0).confidence_interval(0.95)
    assert mean[0] == pytest.approx(np.mean([v.mean() for v in values]))
    assert (low[0], high[0]) == pytest.approx((theirs.low, theirs.high))


def test_one_seed_gives_the_interval_of_its_instances() -> None:
    values = (np.random.default_rng(0).random((500, 1)) < 0.4).astype(float)
    mean, low, high = over_seeds([values])
    plain = wilson(float(mean[0]), 500)
    assert (low[0], high[0]) == pytest.approx((plain.low, plain.high), abs=0.002)


def test_where_all_seeds_agree_an_interval_keeps_a_width() -> None:
    mean, low, high = over_seeds([np.ones((500, 1))] * 3)
    assert mean[0] == 1 and low[0] == pytest.approx(1 - 3 / 1500) and high[0] > 1


def test_cells_do_not_touch_each_other() -> None:
    draw = np.random.default_rng(0)
    values = [draw.random((300, 1)) for _ in range(2)]
    mean, low, high = over_seeds([np.hstack([v, v + 1.0]) for v in values])
    assert np.allclose((mean[1] - mean[0], low[1] - low[0], high[1] - high[0]), 1.0)


def test_seeds_that_differ_give_students_t_on_their_differences_and_no_less_than_their_instances() -> None:
    before, after = np.array([[0.2], [0.4], [0.5]]), np.array([[0.3], [0.9], [0.6]])
    mean, low, high = seeds_differ(before, after, 1000)
    theirs = ttest_1samp((after - before).ravel(), 0).confidence_interval(0.95)
    assert mean[0] == pytest.approx(0.7 / 3) and (low[0], high[0]) == pytest.approx((theirs.low, theirs.high))
    _, low, high = seeds_differ(np.full((3, 1), 0.5), np.full((3, 1), 0.5), 100)  # seeds agree: 300 instances decide
    assert high[0] == -low[0] == pytest.approx(1.96 * np.sqrt(0.5 / 300), rel=1e-3)
    with pytest.raises(ValueError, match="of n instances are needed"):
        seeds_differ(before, after[:2], 10)


def test_what_cannot_be_an_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="A share from 0 to 1"):
        wilson(1.2, 10)
    with pytest.raises(ValueError, match="A share from 0 to 1"):
        wilson(0.5, 0)
    with pytest.raises(ValueError, match="have one shape"):
        paired_difference(np.ones((3, 1)), np.ones((4, 1)))
    with pytest.raises(ValueError, match="for each seed"):
        over_seeds([])
