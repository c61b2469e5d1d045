"""How much a model answers after how much sleep: every question alone, the same instances for every N."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from labkit.budget import question_flops, sleep_flops
from labkit.models import SleepLM, SleepState
from labkit.tasks import Exam, Task

__all__ = ["EXAM_SEEDS", "PASSES", "Evaluation", "asked", "evaluate", "fall_asleep", "now", "room_for"]

PASSES = (0, 1, 2, 4, 8, 16)

EXAM_SEEDS = 1_100_000_000
"""Exam s is drawn from generator seed EXAM_SEEDS + s. Training keeps below, so that exams are unseen.

While the recipes were chosen exams were drawn from 1,000,000,000 on, and what is reported was asked since; but MAC's
needles were reported, found wanting and trained anew, and its new weights met the same exams (data/RESULTS.md).
"""

# bytes for the tensors alive at once; larger chunks were no faster on a CPU, and a GPU is for large ones
ROOM = {"cpu": 64 * 2**20, "cuda": 4 * 2**30}
ALIVE = 32  # about how many tensors [rows, tokens, dim] a pass holds at its fullest


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one model answered, one by one.

    Attributes:
        checkpoint, seed, weights: which model: its name, its seed, the hash of its file ("" without one).
        exam: number of the exam; equal numbers, asked of equally many instances, are equal instances.
        passes: [P] ascending.
        depth: [Q] depth of each question; every instance was asked questions of the same depths.
        group: [Q] questions that differ in their last token only (the cells of one row) share a number.
        correct: [P, n, Q] uint8, 1 where the answer was right.
        floors: for each depth what one gets right who knows the task but not the context.
        flops_sleep: [P] for each instance; flops_wake for each question.
        seconds_sleep: [P] for each instance, seconds_wake [P] for each question, in batches: throughput, not
            the time that one person waits.
    """

    checkpoint: str
    seed: int
    weights: str
    exam: int
    passes: tuple[int, ...]
    depth: NDArray[np.int64]
    group: NDArray[np.int64]
    correct: NDArray[np.uint8]
    floors: dict[int, float]
    flops_sleep: tuple[int, ...]
    flops_wake: tuple[int, ...]
    seconds_sleep: tuple[float, ...]
    seconds_wake: tuple[float, ...]

    @property
    def depths(self) -> list[int]:
        """The depths asked for, ascending."""
        return sorted(set(self.depth.tolist()))

    def answers(self, passes: int, depth: int) -> NDArray[np.uint8]:
        """Right or not, [n, q], of the questions of one depth after `passes` passes."""
        return self.correct[self.passes.index(passes)][:, self.depth == depth]

    def wholes(self, passes: int, depth: int) -> NDArray[np.uint8]:
        """Right or not, [n, groups], counting a group of questions as right when all of it is."""
        answers, group = self.answers(passes, depth), self.group[self.depth == depth]
        return np.stack([answers[:, group == g].min(axis=1) for g in np.unique(group)], axis=1)

    @property
    def has_wholes(self) -> bool:
        """Whether any group has more than one question."""
        return len(np.unique(self.group)) < len(self.group)


def evaluate(
    model: SleepLM,
    task: Task,
    passes: Sequence[int] = PASSES,
    n: int = 2000,
    seed: int = 0,
    batch: int = 250,
    *,
    name: str = "model",
    model_seed: int = 0,
    weights: str = "",
    progress: bool = False,
) -> Evaluation:
    """Put an exam to a model: sleep `passes` times on each context, then ask every question alone.

    Every question starts from the state that sleep left, so no answer helps the next, and all N meet the same
    instances. When the context is one window, one run of the largest N passes through all of them; several
    windows take one run for each N, since every window is slept on N times before the next one comes.

    Args:
        passes: the N to try, 0 included if wanted; sorted, and each taken once.
        n: held-out instances.
        seed: number of the exam.
        batch: instances slept on at a time, fewer where they would not fit into some 64 MiB (on a GPU, 4 GiB).
        name, model_seed, weights: what the result shall call the model.
        progress: show a bar when it takes more than two seconds.

    Raises TypeError or ValueError, in a sentence, for numbers out of range and for a model of another task.
    """
    wanted = _checked(passes, n, seed, batch)
    fits = task.window == model.config.window or task.context <= min(task.window, model.config.window)
    if task.vocab != model.config.vocab or not fits:
        raise ValueError(
            f"The model knows {model.config.vocab} tokens and sleeps on windows of {model.config.window}, "
            f"but {task!r} needs {task.vocab} tokens and windows of {task.window}; give it its own task."
        )
    device = next(model.parameters()).device
    exam = task.exam(n, torch.Generator().manual_seed(EXAM_SEEDS + seed))
    if not (exam.depth == exam.depth[:1]).all():
        raise ValueError(f"{task!r} asks its instances questions of different depths; they cannot be paired.")
    _, group = np.unique(exam.questions[0, :, :-1].numpy(), axis=0, return_inverse=True)
    correct = np.zeros((len(wanted), n, exam.depth.shape[1]), dtype=np.uint8)
    sleeping, waking = np.zeros(len(wanted)), np.zeros(len(wanted))
    flops_wake = [0] * len(wanted)
    was_training = model.training
    model.eval()
    at_once = exam.context.shape[1] if model.config.eviction == "keep" else min(task.window, exam.context.shape[1])
    step = max(1, min(batch, _room(device) // _bytes_of(model, at_once)))
    title = f"{name} s{model_seed}"
    bar = tqdm(total=n * len(wanted), unit="sleep", delay=2.0, disable=not progress, desc=title)
    try:
        with torch.inference_mode(), bar:
            for start in range(0, n, step):
                part = exam.rows(start, start + step).to(device)
                for i, state, seconds in _slept(model, part.context, wanted):
                    clock = now(device)
                    correct[i, start : start + step] = asked(model, part, state)
                    waking[i] += now(device) - clock
                    sleeping[i] += seconds
                    bar.update(len(part.context))
                    if start == 0:
                        one = state.select(torch.zeros(1, dtype=torch.int64, device=device))
                        flops_wake[i] = question_flops(model, part.questions[:1, 0], one)
        flops = tuple(sleep_flops(model, exam.context[0].to(device), p) for p in wanted)
    finally:
        model.train(was_training)
    return Evaluation(
        checkpoint=name,
        seed=model_seed,
        weights=weights,
        exam=seed,
        passes=wanted,
        depth=exam.depth[0].numpy(),
        group=group.reshape(-1).astype(np.int64),
        correct=correct,
        floors={depth: task.floor(depth) for depth in sorted(set(exam.depth[0].tolist()))},
        flops_sleep=flops,
        flops_wake=tuple(flops_wake),
        seconds_sleep=tuple((sleeping / n).tolist()),
        seconds_wake=tuple((waking / correct[0].size).tolist()),
    )


def _checked(passes: Sequence[int], n: int, seed: int, batch: int) -> tuple[int, ...]:
    """The passes in order, each once; everything that is a number is looked at."""
    whole = [("passes", p, 0) for p in passes]
    for name, value, low in [*whole, ("n", n, 1), ("seed", seed, 0), ("batch", batch, 1)]:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be a whole number of at least {low}, but it is {value!r}.")
        if value < low:
            raise ValueError(f"{name} must be a whole number of at least {low}, but it is {value}.")
    if not passes:
        raise ValueError("At least one number of passes is needed, such as passes=(1, 4).")
    return tuple(sorted(set(passes)))


@torch.no_grad()
def fall_asleep(model: SleepLM, context: Tensor, passes: int) -> SleepState:
    """Sleep on contexts ``[B, C]`` (or one, ``[C]``), window after window, `passes` times each, from nothing."""
    rows = context[None] if context.ndim == 1 else context
    state = model.init_state(len(rows))
    for window in rows.split(model.config.window, dim=1):
        state = model.sleep(window, state, passes)
    return state


def _slept(
    model: SleepLM, context: Tensor, wanted: tuple[int, ...]
) -> Iterator[tuple[int, SleepState, float]]:
    """For each N in turn: its place in `wanted`, the state that sleep leaves, the seconds that sleep took."""
    device, several = context.device, context.shape[1] > model.config.window
    for i, passes in enumerate(wanted):
        if several or passes == 0:
            clock = now(device)
            state = fall_asleep(model, context, passes)
            yield i, state, now(device) - clock
    if several:
        return
    seconds, clock = 0.0, now(device)
    empty = model.init_state(len(context))
    for passes, state in enumerate(model.sleep_steps(context, empty, wanted[-1]), start=1):
        seconds += now(device) - clock
        if passes in wanted:
            yield wanted.index(passes), state, seconds
        clock = now(device)


def asked(model: SleepLM, exam: Exam, state: SleepState) -> NDArray[np.uint8]:
    """Which answers are right, [n, Q]: every question meets its own copy of its instance's state, one of n."""
    n, count, length = exam.questions.shape
    rows = torch.arange(n, device=exam.questions.device).repeat_interleave(count)
    questions, answers = exam.questions.flatten(0, 1), exam.answers.flatten()
    step = room_for(model, state, length)
    right = []
    for start in range(0, len(rows), step):
        cut = slice(start, start + step)
        logits = model.wake(questions[cut], state.select(rows[cut]))[0][:, -1]
        # a state that overflowed in some far pass answers nothing, which is wrong
        right.append((logits.argmax(dim=-1) == answers[cut]) & logits.isfinite().all(dim=-1))
    return torch.cat(right).view(n, count).to("cpu", torch.uint8).numpy()


def _room(device: torch.device) -> int:
    """Bytes that an evaluation may fill at once."""
    return ROOM.get(device.type, ROOM["cpu"])


def _bytes_of(model: SleepLM, length: int) -> int:
    """About the bytes that reading `length` tokens of one sequence holds at once."""
    return ALIVE * 4 * max(1, length) * model.config.dim


def room_for(model: SleepLM, state: SleepState, length: int) -> int:
    """How many questions of `length` tokens may be answered at once, each from its own copy of a row of the state."""
    # four copies of the state: the one it starts from, the one it leaves, and what is between
    one = 4 * (state.nbytes // state.batch_size) + _bytes_of(model, length)
    return max(1, _room(model.embed.weight.device) // one)


def now(device: torch.device) -> float:
    """Seconds on a clock, once everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
