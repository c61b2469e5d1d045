"""A long run through one session: what is asked and measured at its marks, here on some thousand tokens."""

from __future__ import annotations

from pathlib import Path

import needle_models
import pytest
import torch

from labkit import Session
from labkit.checkpoints import load
from labkit.evaluate import EXAM_SEEDS
from labkit.long_run import library, long_run
from labkit.tasks import Needle


def test_marks_tell_of_the_session_and_leave_no_trace(tmp_path: Path) -> None:
    folder = needle_models.save(tmp_path, "lmm", (0,))
    rows = long_run("lmm", 0, tokens=4000, marks=(0.1, 0.5, 1.0), needles=4, folder=folder)
    assert rows["tokens"].tolist() == [400, 2000, 4000] and rows["asked"].tolist() == [4] * 3
    assert rows["state_bytes"].nunique() == 1 and (rows["tokens_per_second"] > 0).all()
    assert (rows["resident_bytes"] > 1e7).all()
    # once more in one go: what was asked on the way changed nothing
    model, _ = load("lmm", 0, folder)
    source = Needle(256, 4, "number", window=64)
    exam = source.exam(4, torch.Generator().manual_seed(EXAM_SEEDS))
    hay = library()
    session = Session(model, passes=1)
    session.observe(torch.cat([exam.context[0], hay[torch.arange(256, 4000) % len(hay)]]))
    right = [int(session.ask(q)[-1].argmax() == a) for q, a in zip(exam.questions[0], exam.answers[0], strict=True)]
    assert rows["start_value"].iloc[-1] == sum(right) / 4
    fork = session.fork()
    fork.observe(exam.context[3])
    fresh = [int(fork.ask(q)[-1].argmax() == a) for q, a in zip(exam.questions[3], exam.answers[3], strict=True)]
    assert rows["fresh_value"].iloc[-1] == sum(fresh) / 4


def test_the_library_is_long_and_none_of_it_stands_in_the_lessons() -> None:
    hay, lessons = library().tolist(), Needle(256, 4, "number", window=64).haystack(held_out=False).tolist()
    assert len(hay) > 1_000_000
    met = {tuple(lessons[i : i + 16]) for i in range(len(lessons) - 16)}
    again = sum(tuple(hay[i : i + 16]) in met for i in range(0, len(hay) - 16, 16))
    assert again < 0.01 * len(hay) / 16


def test_a_run_too_short_for_its_needles_is_refused(tmp_path: Path) -> None:
    folder = needle_models.save(tmp_path, "lmm", (0,))
    with pytest.raises(ValueError, match="16 facts take 1024 tokens"):
        long_run("lmm", 0, tokens=4000, folder=folder)
