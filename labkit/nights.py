"""Compounding over nights: sleep on what each day tells, and on what was thought about it; then ask how far back.

A day's facts lead to nodes of the day before (`labkit.tasks.Nights`), so the first day lies as many hops back as
nights have passed. After a night the model may *think*: it is asked where each new node leads at last, and its answers
are written down as notes, which it then sleeps on as well. The next day's question needs one fact and one note.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from labkit.checkpoints import load, task_of
from labkit.costs import read_cost, thought_cost
from labkit.evaluate import EXAM_SEEDS
from labkit.machine import versions
from labkit.models import SleepLM, SleepState
from labkit.reasoning import write_chains
from labkit.sweep import EXAM
from labkit.tasks import Exam, NightsThinking

__all__ = ["CELL", "NOTES", "WAYS", "Told", "night_rows", "through"]

CELL = ("checkpoint", "seed", "weights", "passes", "written", "thought", "notes", "wrong", "night")
"""The columns that make a row the row of one way through the nights, after one of them."""

NOTES = ("none", "again", "own", "true")
"""What is slept on after a day's facts, in a second window: nothing; the facts again; notes of the model's own answers;
notes of the true ones. Of the notes a share may be made wrong."""

WAYS = {
    ("none", 0.0): "facts alone",
    ("again", 0.0): "facts twice",
    ("own", 0.0): "own thoughts",
    ("true", 0.0): "true thoughts",
    ("true", 0.3): "3 in 10 wrong",
    ("true", 1.0): "all wrong",
}
"""The ways that are measured: what is slept on and the share of wrong notes, and what pictures call it."""


@dataclass(frozen=True, eq=False)
class Told:
    """How things stand after a night's sleep on facts, before anything is thought.

    Attributes:
        night: which, from 1 on.
        state: what is known.
        sleep, think: operations so far, for one text: those of sleeping, and those of answering one's own questions.
        notes_right: share of the notes so far that were true; 1 before the first.
        notes: ``[n, width]`` to which nodes the latest notes said those of the night before lead; None without notes.
    """

    night: int
    state: SleepState
    sleep: int
    think: int
    notes_right: float
    notes: Tensor | None


@torch.inference_mode()
def through(
    model: SleepLM,
    task: NightsThinking,
    exam: Exam,
    passes: int,
    thought: int = 0,
    notes: str = "none",
    wrong: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[Told]:
    """Go through the nights: sleep on a day's facts, tell, think, sleep on the notes, and on to the next day.

    Args:
        exam: everything that can be asked of texts without notes (``task.questions``).
        passes: N of every sleep.
        thought: R of the steps in which own notes are thought out.
        notes: one of `NOTES`.
        wrong: share of the notes whose answer is replaced by another node.
        generator: draws which notes are wrong, and how; needed where `wrong` is above 0.

    Raises ValueError for other notes, or wrong ones where there are none.
    """
    if notes not in NOTES:
        raise ValueError(f"notes is {notes!r}; it should be one of {', '.join(NOTES)}.")
    if not 0 <= wrong <= 1 or (wrong and (generator is None or notes not in ("own", "true"))):
        raise ValueError(f"wrong is {wrong}; it should be a share, above 0 only with notes and a generator.")
    facts, state = task.facts(exam.context), model.init_state(len(exam.context))

    def reading(state: SleepState) -> int:
        return passes * read_cost(model.config, task.window, state.position).flops

    sleep = think = right = written = 0
    said: Tensor | None = None
    for night, day in enumerate(exam.context.split(task.window, dim=1), 1):
        state, sleep = model.sleep(day, state, passes), sleep + reading(state)
        yield Told(night, state, sleep, think, right / written if written else 1.0, said)
        if notes == "none":
            continue
        window = day
        if notes != "again":
            asked = task.asked(exam, night, night)
            said = asked.answers
            if notes == "own":
                said = _answers(model, task, asked, state, thought)
                think += task.width * _cost(model, task, exam, state, thought)
            if wrong:
                assert generator is not None
                said = _spoilt(said, wrong, task.nodes, generator)
            right, written = right + int((said == asked.answers).sum()), written + said.numel()
            window = task.notes(facts, night, said)
        state, sleep = model.sleep(window, state, passes), sleep + reading(state)


def night_rows(
    checkpoint: str,
    seed: int,
    passes: Sequence[int],
    n: int = 300,
    folder: str | Path | None = None,
) -> pd.DataFrame:
    """Right answers after every night, for each N and R and each of `WAYS`.

    Args:
        checkpoint, seed, folder: a model trained on `NightsThinking`.
        passes: the N to try. Every R of the task is tried, and own notes are thought out with every R as well.
        n: unseen texts, of as many nights as the task has.

    Returns a row for each way, N, R and night: the columns of `CELL`, where ``thought`` is the R of the answers and
    ``written`` that of own notes, the same where no own notes are written; ``n``; ``asked``, questions of each depth
    (of every new node); ``right_1`` ... by depth; ``old``, right answers to the first day's facts; ``notes_right``;
    ``misnoted``, questions about the first day whose note is wrong, ``misled``, how many of them were answered as it
    says, and ``unmoved``, how many are right all the same; ``flops_sleep`` and ``flops_think`` up to that night for
    one text, ``flops_wake`` for one question; versions.

    Raises ValueError for a model of another task.
    """
    model, card = load(checkpoint, seed, folder)
    task = task_of(card)
    if not isinstance(task, NightsThinking):
        raise ValueError(f"{checkpoint} was not trained on nights; take a model that was, such as nights-32.")
    context = task.exam(n, torch.Generator().manual_seed(EXAM_SEEDS + EXAM + seed)).context
    exam, found, every = task.questions(context), [], range(task.thoughts + 1)
    for (notes, wrong), count, writing in itertools.product(WAYS, passes, every):
        if notes != "own" and writing:
            continue  # nothing is thought out before the questions, so once is enough
        spoiling = torch.Generator().manual_seed(seed)
        for told in through(model, task, exam, count, writing, notes, wrong, spoiling):
            misnoted, noted, true = _misnoted(task, exam, told)
            for steps in every:

                def answered(night: int, hops: int, told: Told = told, steps: int = steps) -> Tensor:
                    return _answers(model, task, task.asked(exam, night, hops), told.state, steps)

                said = {hops: answered(told.night, hops) for hops in range(1, told.night + 1)}
                last = said[told.night]
                row: dict[str, Any] = {
                    "checkpoint": checkpoint, "seed": seed, "weights": card["sha256"][:12], "passes": count,
                    "written": writing if notes == "own" else steps, "thought": steps, "notes": notes, "wrong": wrong,
                    "night": told.night, "n": n, "asked": n * task.width,
                    "old": _right(task, exam, 1, 1, answered(1, 1)),
                    **{f"right_{hops}": _right(task, exam, told.night, hops, own) for hops, own in said.items()},
                    "notes_right": told.notes_right, "misnoted": int(misnoted.sum()),
                    "misled": int((misnoted & (last == noted)).sum()),
                    "unmoved": int((misnoted & (last == true)).sum()),
                    "flops_sleep": told.sleep, "flops_think": told.think,
                    "flops_wake": _cost(model, task, exam, told.state, steps),
                }  # fmt: skip
                found.append({**row, **versions()})
    return pd.DataFrame(found)


def _cost(model: SleepLM, task: NightsThinking, exam: Exam, state: SleepState, thought: int) -> int:
    """Operations of answering one question."""
    return thought_cost(model.config, task.trace, exam.questions.shape[-1], thought, past=state.position).flops


def _right(task: NightsThinking, exam: Exam, night: int, hops: int, said: Tensor) -> int:
    return int((said == task.asked(exam, night, hops).answers).sum())


def _misnoted(task: NightsThinking, exam: Exam, told: Told) -> tuple[Tensor, Tensor, Tensor]:
    """Of a night's nodes ``[n, width]``: whether the note that leads to the first day is wrong, its word, the truth."""
    true = task.asked(exam, told.night, told.night).answers
    if told.notes is None or told.night == 1:
        return torch.zeros_like(true, dtype=torch.bool), true, true
    parents = task.asked(exam, told.night, 1).answers
    before = task.facts(exam.context)[:, told.night - 2, :, 0]  # in the order of their notes
    noted = told.notes.gather(1, (parents[..., None] == before[:, None]).int().argmax(-1))
    return noted != true, noted, true


@torch.inference_mode()
def _answers(model: SleepLM, task: NightsThinking, asked: Exam, state: SleepState, thought: int) -> Tensor:
    return write_chains(model, task, task.announced(asked, thought), state, thought)[..., -1]


def _spoilt(said: Tensor, wrong: float, nodes: int, generator: torch.Generator) -> Tensor:
    """Answers, a share of them replaced by another node each."""
    others = (said + torch.randint(1, nodes, said.shape, generator=generator)) % nodes
    return torch.where(torch.rand(said.shape, generator=generator) < wrong, others, said)
