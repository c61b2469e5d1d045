"""Reading a sleeper's mind: every question there is about one context, each asked alone of the slept state."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labkit.budget import sleep_flops
from labkit.checkpoints import load, task_of
from labkit.evaluate import EXAM_SEEDS, fall_asleep
from labkit.models import SleepLM, SleepState
from labkit.tasks import Depo, Rule110, Task

__all__ = ["ENOUGH", "Mind", "Sleeper", "ask", "read_mind", "reach"]

ENOUGH = 0.9
"""The share of right answers from which a depth counts as reached."""


def ask(model: SleepLM, state: SleepState, questions: Tensor) -> Tensor:
    """Probabilities ``[Q, vocab]`` of the answers to questions ``[Q, Tq]``, each asked alone of the state of one.

    The state is copied for every question, so no answer helps another, and all are asked in one call.
    """
    with torch.no_grad():
        copies = state.select(torch.zeros(len(questions), dtype=torch.int64))
        logits, _ = model.wake(questions, copies)
    return logits[:, -1].softmax(dim=-1)


def reach(share: NDArray[Any] | list[float]) -> int:
    """How deep it goes: the deepest depth up to which every one has at least `ENOUGH` right, 0 for none."""
    short = np.flatnonzero(np.asarray(share) < ENOUGH)
    return int(short[0]) if len(short) else len(share)


@dataclass(frozen=True, eq=False)
class Mind:
    """What a sleeper answers when it is asked everything about one context.

    Questions come depth by depth, and within a depth in the order of `columns`: question
    ``(depth - 1) * len(columns) + i`` asks at depth ``depth`` about column i.

    Attributes:
        columns: what the questions of one depth differ in: start nodes, or cells.
        questions: ``[Q, Tq]`` tokens.
        truth: ``[Q]`` right answers.
        probability: ``[Q, vocab]`` what the model holds likely.
        seconds: that sleep took; wake_seconds: that one question alone took, awake (the quicker of two).
    """

    columns: tuple[int, ...]
    questions: Tensor
    truth: Tensor
    probability: Tensor
    seconds: float
    wake_seconds: float

    @property
    def given(self) -> Tensor:
        """``[Q]`` the likeliest token."""
        return self.probability.argmax(dim=-1)

    @property
    def confidence(self) -> Tensor:
        """``[Q]`` the probability of the answer given."""
        return self.probability.gather(1, self.given[:, None])[:, 0]

    @property
    def right(self) -> Tensor:
        """``[Q]`` bool; a memory that overflowed answers NaN, which is wrong."""
        return (self.given == self.truth) & self.probability.isfinite().all(dim=-1)

    @property
    def share(self) -> NDArray[np.float64]:
        """``[depths]`` the share of right answers at depth 1, 2, ..."""
        return self.right.view(-1, len(self.columns)).double().mean(dim=1).numpy()

    @property
    def reach(self) -> int:
        """The deepest depth answered, with all above it."""
        return reach(self.share)

    def at(self, depth: int, column: int) -> int:
        """The number of the question about this column (a value of `columns`) at this depth."""
        return (depth - 1) * len(self.columns) + self.columns.index(column)


def read_mind(model: SleepLM, task: Task, context: Tensor, passes: int) -> Mind:
    """Sleep on one context ``[C]`` now, then ask everything. Nothing is kept between calls.

    Raises TypeError or ValueError, in a sentence, when the context is none of the task's.
    """
    exam = task.questions(context)
    waking = []
    with torch.inference_mode():  # a sixth less time than no_grad on windows this small
        clock = time.perf_counter()
        state = fall_asleep(model, context, passes)
        seconds = time.perf_counter() - clock
        for _ in range(2):
            clock = time.perf_counter()
            ask(model, state, exam.questions[0, :1])
            waking.append(time.perf_counter() - clock)
        probability = ask(model, state, exam.questions[0])
    width = exam.answers.shape[1] // task.max_depth
    return Mind(
        columns=tuple((exam.questions[0, :width, -1] - _first_column(task)).tolist()),
        questions=exam.questions[0],
        truth=exam.answers[0],
        probability=probability,
        seconds=seconds,
        wake_seconds=min(waking),
    )


def _first_column(task: Task) -> int:
    """The token of column 0: questions end in the token of what they ask about."""
    if isinstance(task, Depo):
        return 0
    if isinstance(task, Rule110) and task.strings == 1:
        return 2 + task.strings + task.steps
    raise ValueError(f"Minds are read about one graph (Depo) or one row (Rule110 with strings=1), not about {task!r}.")


@dataclass(frozen=True, eq=False)
class Sleeper:
    """A trained model with its task, and the words for what it is asked.

    Attributes:
        name, seed: of the checkpoint.
    """

    name: str
    seed: int
    model: SleepLM
    task: Task
    card: dict[str, Any]

    @classmethod
    def load(cls, name: str, seed: int = 0) -> Sleeper:
        """The sleeper of ``data/checkpoints``; FileNotFoundError or ValueError, in a sentence, if it cannot be had."""
        model, card = load(name, seed)
        task = task_of(card)
        _first_column(task)
        return cls(name, seed, model, task, card)

    @property
    def trained(self) -> tuple[int, int] | None:
        """The fewest and the most passes it was trained with, or None where its card does not say."""
        passes = self.card.get("recipe", {}).get("training", {}).get("passes")
        if passes is None:
            return None
        lowest, highest = passes if isinstance(passes, list) else (passes, passes)
        return int(lowest), int(highest)

    @property
    def answers(self) -> list[int]:
        """Tokens that can be an answer: nodes, or the two bits."""
        return list(range(self.task.nodes)) if isinstance(self.task, Depo) else [0, 1]

    @property
    def deeper(self) -> str:
        """What depth counts: "hops" or "steps"."""
        return "hops" if isinstance(self.task, Depo) else "steps"

    def examples(self) -> dict[str, str]:
        """Contexts to begin with, by a label: unseen ones, and some that a person would try."""
        generator = torch.Generator().manual_seed(EXAM_SEEDS + 77)
        drawn = self.task.exam(3, generator).context
        found = {f"unseen {self.noun} {i + 1}": self.task.decode(row) for i, row in enumerate(drawn)}
        if isinstance(self.task, Depo):
            n = self.task.nodes
            ring = [(a, (a + 1) % n) for a in range(n)]
            found["a ring, told in order"] = _edges(ring)
            found["the same ring, told backwards"] = _edges(ring[::-1])
            found["the same ring, told at random"] = _edges([ring[a] for a in torch.randperm(n, generator=generator)])
        elif isinstance(self.task, Rule110):
            found["a single 1"] = "0" * (self.task.width - 1) + "1"
            found["alternating"] = ("01" * self.task.width)[: self.task.width]
        return found

    @property
    def noun(self) -> str:
        """What a context is called."""
        return "graph" if isinstance(self.task, Depo) else "row"

    def label(self, column: int, text: str = "") -> str:
        """How a node or a cell is written: as a letter where the typed text uses letters."""
        letters = isinstance(self.task, Depo) and column < 26 and re.search("[a-zA-Z]", text)
        return chr(97 + column) if letters else str(column)

    def question(self, depth: int, column: int, text: str = "") -> str:
        """One question in words."""
        if isinstance(self.task, Depo):
            return f"{depth} hop{'s' * (depth > 1)} on from {self.label(column, text)}"
        return f"cell {column} after {depth} step{'s' * (depth > 1)}"

    def pass_flops(self, context: Tensor) -> int:
        """FLOPs of one pass over a context ``[C]``, counted on the real call; N passes cost N times as many."""
        return sleep_flops(self.model, context, 1)


def _edges(edges: list[tuple[int, int]]) -> str:
    return "\n".join(f"{a}>{b}" for a, b in edges)
