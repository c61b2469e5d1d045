"""A stream of documents, one fact in each: what is still recalled of them, by age, and what looking it up would cost.

A memory takes every document in once and keeps nothing else; an archive keeps them all, finds one by its words (BM25)
and reads it again for every question.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import bm25s
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from labkit.budget import question_flops, sleep_flops
from labkit.checkpoints import load
from labkit.evaluate import EXAM_SEEDS, asked
from labkit.haystack import needle_task
from labkit.intervals import over_seeds, share_right
from labkit.machine import device_called
from labkit.models import SleepLM
from labkit.tasks import Exam
from labkit.tasks.needle import documents

__all__ = ["AGES", "ASKED_AFTER", "Answers", "by_age", "look_up", "read_through", "stream"]

LENGTH = 64  # tokens of a document
ASKED_AFTER = (50, 100, 150, 200)  # documents; the last is how many there are
#: the ends of the bins of age: 1, 2 to 3, 4 to 7 ... documents back
AGES = (1, 2, 4, 8, 16, 32, 64, 128, 200)


@dataclass(frozen=True, eq=False)
class Answers:
    """What one reader answered in the streams of one exam.

    Attributes:
        correct: ``[n, checkpoints, documents]`` uint8; documents not yet read are 0.
        after: documents read at each checkpoint.
        flops_document, flops_question: for reading one document once, and for one question.
        seconds_document, seconds_question: the same as measured, in batches; of an archive, finding included.
    """

    correct: NDArray[np.uint8]
    after: tuple[int, ...]
    flops_document: int
    flops_question: int
    seconds_document: float
    seconds_question: float

    def aged(self, low: int, high: int) -> NDArray[np.uint8]:
        """Answers ``[n, q]`` about documents that lay from `low` to `high` - 1 back, over all checkpoints."""
        parts = [
            self.correct[:, i, max(0, after - high + 1) : max(0, after - low + 1)] for i, after in enumerate(self.after)
        ]
        return np.concatenate(parts, axis=1)


def exam_of(n: int, seed: int, count: int, length: int) -> Exam:
    """`n` streams of `count` documents each, in held-out text, with the question about each document."""
    return documents(n, count, length, torch.Generator().manual_seed(EXAM_SEEDS + seed))


def read_through(
    model: SleepLM, exam: Exam, after: Sequence[int], passes: int = 1, *, progress: bool = False
) -> Answers:
    """Sleep on one document after another; at each checkpoint ask about all that were read, each question alone."""
    correct = np.zeros((len(exam.context), len(after), exam.questions.shape[1]), dtype=np.uint8)
    state, windows = model.init_state(len(exam.context)), exam.context.split(exam.window, dim=1)
    reading = asking = 0.0
    steps = tqdm(windows, unit="document", delay=2.0, disable=not progress)
    with torch.inference_mode():
        for number, window in enumerate(steps, start=1):
            clock = time.perf_counter()
            state = model.sleep(window, state, passes)
            reading += time.perf_counter() - clock
            if number in after:
                clock = time.perf_counter()
                known = _first(exam, number)
                correct[:, list(after).index(number), :number] = asked(model, known, state)
                asking += time.perf_counter() - clock
        one = state.select(torch.zeros(1, dtype=torch.int64, device=exam.context.device))
        flops = question_flops(model, exam.questions[:1, 0], one)
    return Answers(
        correct,
        tuple(after),
        sleep_flops(model, exam.context[0, : exam.window], passes),
        flops,
        reading / len(exam.context) / len(windows),
        asking / len(exam.context) / sum(after),
    )


def look_up(model: SleepLM, exam: Exam, after: Sequence[int], *, progress: bool = False) -> Answers:
    """Keep every document; for a question find the likeliest one with BM25 and read it, then the question.

    BM25 is that of the library bm25s, with its usual constants (Lucene's form, k1 = 1.5, b = .75); terms are tokens.
    """
    n, count = exam.questions.shape[:2]
    correct = np.zeros((n, len(after), count), dtype=np.uint8)
    indexing = asking = 0.0
    pages = exam.context.view(n, count, exam.window)
    for row in tqdm(range(n), unit="stream", delay=2.0, disable=not progress):
        terms = [list(map(str, page)) for page in pages[row].tolist()]
        asks = [list(map(str, question)) for question in exam.questions[row].tolist()]
        for i, number in enumerate(after):
            clock = time.perf_counter()
            archive = bm25s.BM25()
            archive.index(terms[:number], show_progress=False)
            indexing += (time.perf_counter() - clock) / number
            clock = time.perf_counter()
            # named, so that ties do not depend on what else is installed
            found, _ = archive.retrieve(asks[:number], k=1, backend_selection="numpy", show_progress=False)
            correct[row, i, :number] = _reread(model, exam, row, torch.from_numpy(np.asarray(found)[:, 0].astype(int)))
            asking += time.perf_counter() - clock
    page, question = exam.context[0, : exam.window], exam.questions[:1, 0]
    with torch.inference_mode():
        state = model.sleep(page[None], model.init_state(1), 1)
        flops = sleep_flops(model, page, 1) + question_flops(model, question, state)
    return Answers(correct, tuple(after), 0, flops, indexing / n / len(after), asking / n / sum(after))


def by_age(answers: Answers) -> dict[str, NDArray[np.uint8]]:
    """Answers ``[n, q]`` for each bin of age, and about document 5 after document 150, as far as these were asked."""
    cells = {
        str(low) if high == low + 1 else f"{low} to {high - 1}": answers.aged(low, high) for low, high in pairwise(AGES)
    }
    if 150 in answers.after:
        cells["document 5 after 150"] = answers.correct[:, answers.after.index(150), 4:5]
    return {age: cell for age, cell in cells.items() if cell.size}


def stream(
    name: str,
    seeds: Sequence[int],
    *,
    n: int = 20,
    after: Sequence[int] | None = None,
    passes: int = 1,
    archive: bool = False,
    device: str = "cpu",
    folder: str | Path | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Recall by age of the models of one recipe.

    Args:
        name, seeds: checkpoints trained on needles in windows of 64 tokens, the length of a document.
        after: documents after which is asked, ascending, by default `ASKED_AFTER`; the last is how many there are.
        n: streams for each seed; exam s goes to the model of seed s, whatever its name.
        passes: N for every document.
        archive: keep the documents and look them up, instead of reading each once; then it is the reader's weights
            alone that the checkpoint gives.
        device: where the models run.

    Returns:
        One row for each bin of age and seed, and with several seeds one for all of them (seed "all").

    Raises ValueError, in a sentence, for a model of another task.
    """
    after, place = ASKED_AFTER if after is None else after, device_called(device)
    reader = {"checkpoint": name, "archive": archive, "passes": passes, "device": place.type}
    rows: list[dict[str, object]] = []
    means: list[NDArray[np.float64]] = []
    for seed in seeds:
        model, card = load(name, seed, folder)
        if (window := needle_task(card).window) != LENGTH:
            raise ValueError(f"{name} reads windows of {window}; documents need needles in windows of {LENGTH} tokens.")
        exam = exam_of(n, seed, after[-1], LENGTH).to(place)
        read = look_up if archive else partial(read_through, passes=passes)
        answers = read(model.to(place), exam, after, progress=progress)
        costs = {key: value for key, value in vars(answers).items() if key.startswith(("flops", "seconds"))}
        cells = by_age(answers)
        for age, cell in cells.items():
            right = share_right(cell)._asdict()
            told = {"age": age, "n": n, "asked": cell.size, "accuracy": right.pop("value"), **right}
            rows.append({**reader, "seed": str(seed), "weights": card["sha256"][:12], **told, **costs})
        means.append(np.stack([cell.mean(axis=1) for cell in cells.values()], axis=1))
    if len(seeds) > 1:
        ends = np.clip(np.stack(over_seeds(means)), 0, 1)
        for age, (value, low, high) in zip(cells, ends.T, strict=True):
            told = {"age": age, "n": n * len(seeds), "accuracy": value, "low": low, "high": high}
            rows.append({**reader, "seed": "all", **told})
    return pd.DataFrame(rows)


def _first(exam: Exam, count: int) -> Exam:
    """The questions about the first `count` documents."""
    cut = {key: getattr(exam, key)[:, :count] for key in ("questions", "answers", "depth")}
    return replace(exam, **cut)


def _reread(model: SleepLM, exam: Exam, row: int, found: Tensor) -> NDArray[np.uint8]:
    """Whether each of one stream's first questions is answered right from the document that was found for it."""
    pages = exam.context[row].view(-1, exam.window)[found]
    part = replace(
        exam,
        context=pages,
        questions=exam.questions[row, : len(found), None],
        answers=exam.answers[row, : len(found), None],
        depth=exam.depth[row, : len(found), None],
    )
    with torch.inference_mode():
        return asked(model, part, model.sleep(pages, model.init_state(len(pages)), 1))[:, 0]
