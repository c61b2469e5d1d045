"""When is sleep free? Windows and questions arrive, one processor serves both, and sleep takes what idle time there is.

A queue simulated with SimPy from measured costs. Questions go first; passes of sleep wait until nothing is asked, first
passes before second ones and so on, one at a time, so a question waits for the rest of a running pass and for questions
before it. It is answered from what its window's sleep has come to by then; a first pass, which reads the window, is
made while it waits if there was none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import simpy
import torch
from numpy.typing import NDArray

from labkit.evaluate import fall_asleep
from labkit.laws.reach import accuracy
from labkit.models import SleepLM
from labkit.tasks import Exam

__all__ = ["Costs", "Day", "costs_of", "days", "shares_by_passes", "simulate"]

WARM_UP = 0.2  # of the day, before anything is counted
ASKED = 0  # priority of a question, before that of every pass: 1, 2, ...


@dataclass(frozen=True)
class Costs:
    """Seconds of one pass over a window, and of one answer, one at a time as a reader waits for them."""

    sleep_pass: float
    answer: float


@dataclass(frozen=True, eq=False)
class Day:
    """What happened, question by question, from a fifth of the day on until the last window came.

    Before that hardly any window has its questions yet, and after it no sleep is begun any more.

    Attributes:
        waited: seconds from a question to its answer.
        passes: passes that the window had had when the question was answered.
        idle: share of that time in which the processor had nothing to do.
        asleep: share of that time that went into sleep.
        seconds: how long that time was.
    """

    waited: NDArray[np.float64]
    passes: NDArray[np.int64]
    idle: float
    asleep: float
    seconds: float

    def right(self, by_passes: Sequence[float]) -> float:
        """Share of right answers, where ``by_passes[n]`` is the share after n passes; beyond its end the last holds."""
        shares = np.asarray(by_passes)
        return float(shares[np.minimum(self.passes, len(shares) - 1)].mean())


def shares_by_passes(rows: pd.DataFrame, checkpoint: str, thought: int, where: str = "these rows") -> list[float]:
    """Share of right answers over all depths after 0, 1, 2, ... passes, from the rows of a sweep, mean over seeds.

    Raises ValueError where the checkpoint has no rows at R = `thought`, or lacks a number of passes from 0 to the
    largest up to 4; its sentence calls the rows as `where` says.
    """
    own = rows[rows["checkpoint"] == checkpoint]
    if own.empty:
        swept = ", ".join(sorted(set(rows["checkpoint"])))
        raise ValueError(f"{checkpoint} was not swept in {where}; take one that was: {swept}.")
    part = own[own["thought"] == thought]
    if part.empty:
        known = ", ".join(map(str, sorted(set(own["thought"]))))
        raise ValueError(f"{checkpoint} was not swept at R = {thought} in {where}, but at R = {known}.")
    found = accuracy(part).groupby(part["passes"]).mean()
    levels = [n for n in found.index if n <= 4]
    if not levels or levels != list(range(len(levels))):
        raise ValueError(
            f"The rows of {checkpoint} at R = {thought} lack a number of passes; they have {levels}, and every number "
            "from 0 to the largest up to 4 is needed."
        )
    return found[levels].tolist()


def costs_of(model: SleepLM, exam: Exam, thought: int = 0, repeats: int = 30) -> Costs:
    """Measure a model: seconds of a pass, and of an answer with written steps of thought, one at a time; medians."""
    context, question = exam.context[:1], exam.questions[:1, 0]
    seconds: dict[str, list[float]] = {"pass": [], "answer": []}
    with torch.inference_mode():
        for _ in range(repeats):
            clock = time.perf_counter()
            state = fall_asleep(model, context, 1)
            seconds["pass"].append(time.perf_counter() - clock)
            clock = time.perf_counter()
            _, state = model.wake(question, state)
            for _ in range(thought):
                _, state = model.wake(question[:, -1:], state)
            seconds["answer"].append(time.perf_counter() - clock)
    return Costs(float(np.median(seconds["pass"])), float(np.median(seconds["answer"])))


def simulate(
    costs: Costs, *, load: float, questions: float, passes: int, windows: int = 400, seed: int = 0, pause: float = 10.0
) -> Day:
    """One day of so many windows.

    Args:
        costs: of a pass and of an answer.
        load: what reading each window once and answering would keep the processor busy with, as a share of the time,
            above 0 and below 1: sleep beyond the first pass has to be content with the rest.
        questions: how many are asked about a window, on average (Poisson).
        passes: N that sleep aims at, 1 or more.
        windows: how many arrive (Poisson), seed: of arrivals.
        pause: how long after its window a question comes, on average (exponential), in windows' mean distances.

    Raises ValueError for numbers out of range.
    """
    if not 0 < load < 1 or questions < 0 or passes < 1 or windows < 1 or pause <= 0:
        raise ValueError(
            f"load must lie between 0 and 1, questions be 0 or more, passes and windows 1 or more, pause above 0; they "
            f"are {load}, {questions}, {passes}, {windows} and {pause}."
        )
    generator = np.random.default_rng(seed)
    distance = (costs.sleep_pass + questions * costs.answer) / load
    world = simpy.Environment()
    processor = simpy.PriorityResource(world, capacity=1)
    done, busy = np.zeros(windows, dtype=np.int64), {"asleep": 0.0, "answering": 0.0}
    begin = WARM_UP * windows * distance
    waited: list[float] = []
    found: list[int] = []

    def spend(on: str, seconds: float) -> None:
        busy[on] += min(seconds, max(0.0, world.now - begin))

    def read(window: int, priority: int, wanted: int):  # type: ignore[no-untyped-def]
        """One pass, unless another came first."""
        with processor.request(priority=priority) as turn:
            yield turn
            if done[window] < wanted:
                yield world.timeout(costs.sleep_pass)
                done[window] += 1
                spend("asleep", costs.sleep_pass)

    def sleeping(window: int):  # type: ignore[no-untyped-def]
        for wanted in range(1, passes + 1):
            yield from read(window, wanted, wanted)

    def asking(window: int, after: float):  # type: ignore[no-untyped-def]
        yield world.timeout(after)
        came = world.now
        if done[window] == 0:
            yield from read(window, ASKED, 1)
        with processor.request(priority=ASKED) as turn:
            yield turn
            yield world.timeout(costs.answer)
        spend("answering", costs.answer)
        if came >= begin:
            waited.append(world.now - came)
            found.append(int(done[window]))

    def arriving():  # type: ignore[no-untyped-def]
        for window in range(windows):
            yield world.timeout(generator.exponential(distance))
            world.process(sleeping(window))
            for after in generator.exponential(pause * distance, generator.poisson(questions)):
                world.process(asking(window, after))

    world.run(until=world.process(arriving()))
    seconds = max(world.now - begin, costs.sleep_pass)
    asleep, answering = busy["asleep"] / seconds, busy["answering"] / seconds
    return Day(np.array(waited), np.array(found, dtype=np.int64), 1 - asleep - answering, asleep, seconds)


def days(
    costs: Costs,
    by_passes: Sequence[float],
    *,
    loads: Sequence[float] = (0.1, 0.2, 0.4, 0.6, 0.8, 0.9),
    questions: Sequence[float] = (1, 4, 16),
    passes: Sequence[int] = (1, 2, 3, 4),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    windows: int = 400,
) -> pd.DataFrame:
    """A row for every load, number of questions, N and seed.

    Columns: load, questions, passes, seed; right (share), median and late (seconds to an answer, 50th and 95th
    percentile), slept (passes that an answer found, mean), idle and asleep (shares of the time).
    """
    rows = []
    for load, asked, n, seed in product(loads, questions, passes, seeds):
        day = simulate(costs, load=load, questions=asked, passes=n, windows=windows, seed=seed)
        median, late = np.percentile(day.waited, [50, 95])
        rows.append(
            {"load": load, "questions": asked, "passes": n, "seed": seed, "right": day.right(by_passes),
             "median": median, "late": late, "slept": float(day.passes.mean()), "idle": day.idle,
             "asleep": day.asleep}
        )  # fmt: skip
    return pd.DataFrame(rows)
