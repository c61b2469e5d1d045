"""Answering after N passes of sleep and R steps of thought: every question alone, the model's own steps written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labkit.budget import flops_of, sleep_flops
from labkit.evaluate import EXAM_SEEDS, fall_asleep, now, room_for
from labkit.models import SleepLM, SleepState
from labkit.tasks import DepoForetold, Exam, Thinking

__all__ = ["ASKED", "Reasoned", "chain_flops", "reason", "write_chains"]

ASKED = ("after", "before")
"""When a question may be known: after sleep only, or before it as well."""


@dataclass(frozen=True, eq=False)
class Reasoned:
    """What one model answered with one number of passes and of steps of thought.

    Attributes:
        depth: [Q] depth of each question; every instance was asked questions of the same depths.
        right: [n, Q, R + 1] uint8, 1 where a written step, and at last the answer, was right; where nothing is
            written (fillers, loops) [n, Q, 1], the answer alone.
        taught: the same where the true steps before stood there instead of the model's own.
        flops_sleep: for each sleep, flops_wake for each question; seconds likewise, measured in batches.
    """

    depth: NDArray[np.int64]
    right: NDArray[np.uint8]
    taught: NDArray[np.uint8]
    flops_sleep: int
    flops_wake: int
    seconds_sleep: float
    seconds_wake: float

    def by_depth(self, steps: NDArray[np.uint8] | None = None) -> dict[int, int]:
        """Right answers for each depth; of other ``steps [n, Q]`` than the answers where they are given."""
        last = self.right[:, :, -1] if steps is None else steps
        return {d: int(last[:, self.depth == d].sum()) for d in sorted(set(self.depth.tolist()))}


@torch.inference_mode()
def reason(
    model: SleepLM,
    task: Thinking,
    passes: int,
    thought: int,
    n: int = 1000,
    exam: int = 0,
    *,
    asked: str = "after",
    batch: int = 250,
) -> Reasoned:
    """Put an exam to a model: sleep N times on each context, then think R steps about every question, alone.

    Written steps are the model's own, each the likeliest token. Every question starts from the state that sleep left.

    Args:
        passes: N, 0 or more.
        thought: R, from 0 to ``task.thoughts``.
        n: held-out instances.
        exam: which instances; equal numbers are equal instances, for every N, R and model.
        asked: "after" sleep, or also "before" it, in front of the context, of models that were trained for both; then
            every question has a sleep of its own.
        batch: instances slept on at a time.

    Raises TypeError or ValueError, in a sentence, for numbers out of range, or a task whose questions only come after.
    """
    if asked not in ASKED or (asked == "before" and not isinstance(task, DepoForetold)):
        raise ValueError(f"Questions of {task.name} cannot be asked {asked!r} sleep; depo-foretold knows both ways.")
    questions = task.announced(task.exam(n, torch.Generator().manual_seed(EXAM_SEEDS + exam)), thought)
    right, taught = [], []
    sleeping = waking = 0.0
    was_training = model.training
    model.eval()
    try:
        for first in range(0, n, batch):
            part = questions.rows(first, first + batch)
            pieces = _own_sleeps(task, part) if asked == "before" else [part]
            sides: tuple[list[NDArray[np.uint8]], ...] = ([], [])
            for piece in pieces:
                clock = now(piece.context.device)
                state = fall_asleep(model, piece.context, passes)
                sleeping += now(piece.context.device) - clock
                clock = now(piece.context.device)
                wanted = _wanted(task, piece, thought)
                found = write_chains(model, task, piece, state, thought)
                waking += now(piece.context.device) - clock
                given = _taught(model, task, piece, state, thought) if task.writes else found
                for side, tokens in zip(sides, (found, given), strict=True):
                    side.append(_steps_right(task, tokens, wanted, thought))
            right.append(np.concatenate(sides[0], axis=1))
            taught.append(np.concatenate(sides[1], axis=1))
        one = questions.rows(0, 1)
        state = fall_asleep(model, one.context, passes)
        flops_wake = chain_flops(model, task, one, state, thought)
        flops_sleep = sleep_flops(model, one.context[0], passes)
    finally:
        model.train(was_training)
    answers = n * questions.depth.shape[1]
    return Reasoned(
        questions.depth[0].numpy(), np.concatenate(right), np.concatenate(taught), flops_sleep, flops_wake,
        sleeping / (answers if asked == "before" else n), waking / answers,
    )  # fmt: skip


def _own_sleeps(task: Thinking, exam: Exam) -> list[Exam]:
    """The exam question by question, each of them in front of the contexts."""
    assert isinstance(task, DepoForetold)
    return [task.foretold(exam, which) for which in range(exam.questions.shape[1])]


def write_chains(model: SleepLM, task: Thinking, exam: Exam, state: SleepState, thought: int) -> Tensor:
    """``[n, Q, W]`` the tokens that the model writes after each question: its thoughts, and the answer last.

    Fillers are read and not written, so of them, and of loops, the answer alone is there. `state` is one of n.
    """
    written = []
    for rows, questions in _in_parts(model, task, exam, state, thought):
        written.append(_chain(model, task, questions, state.select(rows), thought))
    return torch.cat(written).unflatten(0, exam.answers.shape)


def chain_flops(model: SleepLM, task: Thinking, exam: Exam, state: SleepState, thought: int) -> int:
    """FLOPs of thinking over and answering one question, the first of the first instance; `state` is one of one."""
    return flops_of(lambda: _chain(model, task, exam.questions[:1, 0], state, thought))


def _chain(model: SleepLM, task: Thinking, questions: Tensor, state: SleepState, thought: int) -> Tensor:
    """``[m, W]`` what is written after questions ``[m, Tq]``, each from its own row of the state."""
    if task.trace == "filler":
        questions = torch.nn.functional.pad(questions, (0, thought), value=task.filler)
    loops = thought if task.trace == "loops" else 0
    logits, state = model.wake(questions, state, loops)
    tokens = [likeliest(logits[:, -1], task.filler)]
    for _ in range(thought * task.piece if task.writes else 0):
        logits, state = model.wake(tokens[-1][:, None], state)
        tokens.append(likeliest(logits[:, -1], task.filler))
    return torch.stack(tokens, dim=1)


def likeliest(logits: Tensor, otherwise: int) -> Tensor:
    """The likeliest token, ``[...]`` of ``[..., vocab]``; another where a state overflowed."""
    return torch.where(logits.isfinite().all(dim=-1), logits.argmax(dim=-1), otherwise)


def _wanted(task: Thinking, exam: Exam, thought: int) -> Tensor:
    """``[n, Q, W]`` what should be written."""
    answer = exam.answers[..., None]
    return torch.cat([task.written(exam, thought).flatten(2), answer], dim=-1) if task.writes else answer


def _taught(model: SleepLM, task: Thinking, exam: Exam, state: SleepState, thought: int) -> Tensor:
    """``[n, Q, W]`` the likeliest token at every place, where all before it are the true ones."""
    whole = torch.cat([exam.questions, task.written(exam, thought).flatten(2)], dim=-1)
    found, asks = [], exam.questions.shape[-1]
    for rows, questions in _in_parts(model, task, exam, state, thought, whole):
        logits, _ = model.wake(questions, state.select(rows))
        found.append(likeliest(logits[:, asks - 1 :], task.filler))
    return torch.cat(found).unflatten(0, exam.answers.shape)


def _steps_right(task: Thinking, found: Tensor, wanted: Tensor, thought: int) -> NDArray[np.uint8]:
    """``[n, Q, R + 1]``: a step is right when all of its tokens are."""
    right = found == wanted
    steps = right[..., :-1].unflatten(-1, (thought, task.piece)).all(dim=-1) if task.writes and thought else None
    last = right[..., -1:]
    return (last if steps is None else torch.cat([steps, last], dim=-1)).to("cpu", torch.uint8).numpy()


def _in_parts(
    model: SleepLM, task: Thinking, exam: Exam, state: SleepState, thought: int, questions: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of the state and the questions asked of them, as many at a time as fit."""
    questions = exam.questions if questions is None else questions
    n, count, length = questions.shape
    rows = torch.arange(n, device=questions.device).repeat_interleave(count)
    flat = questions.flatten(0, 1)
    step = room_for(model, state, length + thought * task.piece)
    for first in range(0, len(rows), step):
        yield rows[first : first + step], flat[first : first + step]
