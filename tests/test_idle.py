"""The queue of notebook 06: limits that are known, nothing lost, and the same day from the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labkit.idle import Costs, costs_of, days, simulate
from labkit.models import SleepConfig, SleepLM
from labkit.tasks import DepoThinking

COSTS = Costs(sleep_pass=0.004, answer=0.001)


def test_with_idle_time_sleep_is_free() -> None:
    day = simulate(COSTS, load=0.02, questions=4, passes=4)
    assert (day.passes == 4).mean() > 0.97
    assert np.median(day.waited) == pytest.approx(COSTS.answer)
    assert day.idle > 0.85


def test_without_idle_time_nobody_sleeps_more_than_once() -> None:
    day = simulate(COSTS, load=0.97, questions=4, passes=8, windows=1500)
    assert day.passes.mean() < 1.3 and day.idle < 0.05
    assert (day.passes >= 1).all()  # what is asked about was read


def test_a_single_queue_waits_as_long_as_is_known() -> None:
    """One pass and hardly any: answers alone are an M/D/1 queue, whose mean wait is rho / (2 (1 - rho)) services."""
    costs, load = Costs(sleep_pass=1e-9, answer=0.001), 0.6
    waits = [
        simulate(costs, load=load, questions=4, passes=1, windows=4000, seed=s, pause=50.0).waited.mean()
        for s in range(3)
    ]
    expected = costs.answer * (1 + load / (2 * (1 - load)))
    assert np.mean(waits) == pytest.approx(expected, rel=0.1)


def test_time_is_spent_once() -> None:
    day = simulate(COSTS, load=0.2, questions=2, passes=3, windows=4000)
    answering = len(day.waited) * COSTS.answer / day.seconds
    assert day.idle + day.asleep + answering == pytest.approx(1.0, abs=2e-3)
    assert day.asleep * day.seconds / COSTS.sleep_pass == pytest.approx(0.8 * 4000 * 3, rel=0.03)


@pytest.mark.parametrize("questions", [1, 4, 16])
@pytest.mark.parametrize("load", [0.3, 0.7])
def test_the_load_is_what_it_says_from_end_to_end(load: float, questions: int) -> None:
    """With one pass and nothing more the processor is busy for that share of the time, however long a day is."""
    for windows in (400, 4000):
        busy = [1 - simulate(COSTS, load=load, questions=questions, passes=1, windows=windows, seed=s).idle
                for s in range(4)]  # fmt: skip
        assert np.mean(busy) == pytest.approx(load, rel=0.08)


def test_equal_seeds_are_equal_days() -> None:
    one, two, other = (simulate(COSTS, load=0.5, questions=2, passes=3, seed=s) for s in (1, 1, 2))
    assert np.array_equal(one.waited, two.waited) and np.array_equal(one.passes, two.passes)
    assert len(one.waited) != len(other.waited) or not np.array_equal(one.waited, other.waited)


def test_accuracy_is_that_of_the_passes_that_were_made() -> None:
    day = simulate(COSTS, load=0.5, questions=2, passes=3)
    by = [0.0, 0.2, 0.5, 0.9]
    assert day.right(by) == pytest.approx(np.mean([by[n] for n in day.passes]))
    assert day.right(by[:2]) == pytest.approx(0.2)  # beyond the end the last share holds


def test_more_load_leaves_less_sleep() -> None:
    table = days(COSTS, [0.1, 0.4, 0.7, 0.8, 0.9], loads=(0.1, 0.5, 0.9), questions=(4,), passes=(4,), seeds=(0, 1, 2))
    means = table.groupby("load")[["slept", "right", "late"]].mean()
    assert means["slept"].is_monotonic_decreasing and means["right"].is_monotonic_decreasing
    assert means["late"].is_monotonic_increasing


def test_costs_are_those_of_the_model() -> None:
    task = DepoThinking(nodes=6, hops=3)
    model = SleepLM(SleepConfig(vocab=task.vocab, window=task.window, dim=16, repeat=1)).eval()
    costs = costs_of(model, task.exam(1, torch.Generator().manual_seed(0)), repeats=5)
    longer = costs_of(model, task.exam(1, torch.Generator().manual_seed(0)), thought=8, repeats=5)
    assert 0 < costs.answer < longer.answer and costs.sleep_pass > 0


@pytest.mark.parametrize("wrong", [{"load": 1.0}, {"load": 0.0}, {"questions": -1}, {"passes": 0}, {"pause": 0.0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="load must lie between 0 and 1"):
        simulate(COSTS, **{"load": 0.5, "questions": 2, "passes": 2, **wrong})  # type: ignore[arg-type]
