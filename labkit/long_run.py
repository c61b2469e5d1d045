"""One session that reads millions of tokens: do its size and its pace stay the same, does it still know page one?"""

from __future__ import annotations

import functools
import re
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from torch import Tensor
from tqdm import tqdm

from labkit.checkpoints import load
from labkit.evaluate import EXAM_SEEDS
from labkit.haystack import needle_task
from labkit.intervals import wilson
from labkit.results import add_rows, read_rows
from labkit.session import Session
from labkit.tasks import Exam
from labkit.tasks.needle import PIECE_OF_TEXT, word_id

__all__ = ["TOKENS", "library", "long_run", "read", "store"]

TOKENS = 2_097_152
MARKS = (0.001, 0.01, 0.1, 0.5, 1.0)  # shares of the run after which it is asked and measured


def long_run(
    name: str,
    seed: int = 0,
    *,
    tokens: int = TOKENS,
    marks: Sequence[float] | None = None,
    variant: str = "number",
    needles: int = 16,
    passes: int = 1,
    folder: str | Path | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Read `tokens` tokens in one session; after each share in `marks` ask for facts of the start and of just now.

    Shares are those of `MARKS` where none are given.
    The first 64 tokens for each needle hold `needles` facts; everything after them is haystack, the `library`: another
    kind of text than that of the lessons, and no page of it comes twice as long as it lasts. What is asked at a mark
    leaves no trace in the session: the facts of the start, and as a control, in a fork that reads them first, as many
    new ones. Both come from a held-out exam.

    Returns:
        One row for each mark: tokens read; of the facts of the start and of the fresh ones asked, right, low, high
        (Wilson); bytes of the state; resident memory of the process in bytes; tokens per second since the last mark;
        ``hay_tokens``, after how many the haystack begins again.

    Raises ValueError, in a sentence, for a model of another task or a run too short for its needles.
    """
    marks = MARKS if marks is None else marks
    model, card = load(name, seed, folder)
    page = 64 * needles
    if tokens * min(marks) < page:
        raise ValueError(f"{needles} facts take {page} tokens, so the first mark must not come before them.")
    source = needle_task(card).at_length(page, needles, variant)
    exam = source.exam(1 + len(marks), torch.Generator().manual_seed(EXAM_SEEDS + seed))
    hay = library()
    session, process = Session(model, passes), psutil.Process()
    session.observe(exam.context[0])
    rows: list[dict[str, Any]] = []
    clock, since = time.perf_counter(), session.read
    with tqdm(total=tokens, initial=session.read, unit="token", unit_scale=True, disable=not progress) as bar:
        for number, mark in enumerate(sorted(marks), start=1):
            while session.read < round(tokens * mark):
                count = min(8192, round(tokens * mark) - session.read)
                session.observe(hay[(session.read + torch.arange(count)) % len(hay)])
                bar.update(count)
            seconds = time.perf_counter() - clock
            fork = session.fork()
            fork.observe(exam.context[number])
            row = {"checkpoint": name, "weights": card["sha256"][:12], "seed": seed, "variant": variant}
            row |= {"passes": passes, "share": mark, "tokens": session.read}
            for told, who, row_of_exam in (("start", session, 0), ("fresh", fork, number)):
                right = _right(who, exam, row_of_exam)
                row |= {f"{told}_{key}": value for key, value in wilson(right, needles)._asdict().items()}
            row |= {"asked": needles, "hay_tokens": len(hay)}
            row |= {"state_bytes": session.state.nbytes, "resident_bytes": process.memory_info().rss}
            row["tokens_per_second"] = (session.read - since) / seconds if session.read > since else float("nan")
            rows.append(row)
            clock, since = time.perf_counter(), session.read
    return pd.DataFrame(rows)


def store(rows: pd.DataFrame, path: Path) -> None:
    """Write the table as CSV; the rows of other seeds or passes that lie there stay."""
    add_rows(path, rows, ["passes", "seed"], read)


def read(path: str | Path) -> pd.DataFrame:
    """A stored table; errors are those of `labkit.results.read_rows`."""
    return read_rows(path, "long-run", {"seed", "passes", "tokens", "start_value", "hay_tokens"})


@functools.cache
def library() -> Tensor:
    """The sources of Python's standard library as haystack words, file after file, without its tests.

    Of Python 3.11 2.4 million; it differs from one version to the next. The text of lessons is left out.
    """
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "pydoc_data", "test", "tests", "idle_test"}
    files = (path for path in sorted(root.rglob("*.py")) if not left_out & set(path.relative_to(root).parts))
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in files)
    words = (word_id(word) for text in texts for word in re.findall(PIECE_OF_TEXT, text))
    return torch.from_numpy(np.fromiter(words, dtype=np.int64))


def _right(session: Session, exam: Exam, row: int) -> float:
    answers = [int(session.ask(question)[-1].argmax()) for question in exam.questions[row]]
    return float((torch.tensor(answers) == exam.answers[row]).double().mean())
