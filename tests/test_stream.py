"""The stream of documents: ages, the archive, and that reading it in batches is what a session does."""

from __future__ import annotations

from pathlib import Path

import needle_models
import numpy as np
import pytest
import torch

from labkit import Session, stream
from labkit.checkpoints import load


def test_reading_in_batches_is_what_a_session_does(tmp_path: Path) -> None:
    model, _ = load("mac", 0, needle_models.save(tmp_path, "mac", (0,)))
    exam = stream.exam_of(2, 3, 6, 64)
    answers = stream.read_through(model.eval(), exam, after=(2, 6))
    for row in range(2):
        session = Session(model, passes=1)
        for number, page in enumerate(exam.context[row].split(64), start=1):
            session.observe(page)
            for i, after in enumerate((2, 6)):
                if number == after:
                    right = [
                        int(session.ask(q)[-1].argmax() == a)
                        for q, a in zip(exam.questions[row, :after], exam.answers[row, :after], strict=True)
                    ]
                    assert answers.correct[row, i].tolist() == [*right, *[0] * (6 - after)]
    assert answers.flops_document > answers.flops_question > 0 and answers.seconds_document > 0


def test_ages_count_back_from_each_checkpoint() -> None:
    after, count = (50, 150), 200
    age = np.array([[at - i if i < at else 0 for i in range(count)] for at in after])  # 1 is the newest
    for low, high in ((1, 2), (4, 8), (64, 128), (128, 200)):
        correct = ((age >= low) & (age < high)).astype(np.uint8)[None]
        answers = stream.Answers(correct, after, 0, 0, 0.0, 0.0)
        own = answers.aged(low, high)
        assert own.all() and own.size == correct.sum(), "every answer of that age, and no other"
    fifth = np.zeros((1, 2, count), dtype=np.uint8)
    fifth[0, 1, 4] = 1
    cells = stream.by_age(stream.Answers(fifth, after, 0, 0, 0.0, 0.0))
    assert cells["document 5 after 150"].tolist() == [[1]] and cells["128 to 199"].sum() == 1


def test_an_archive_finds_the_document_and_reads_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = load("window", 0, needle_models.save(tmp_path, "window", (0,)))
    exam = stream.exam_of(1, 0, 30, 64)
    read: list[torch.Tensor] = []
    real = stream._reread
    monkeypatch.setattr(stream, "_reread", lambda *a: (read.append(a[3]), real(*a))[1])
    answers = stream.look_up(model.eval(), exam, after=(10, 30))
    assert [r.tolist() for r in read] == [list(range(10)), list(range(30))], "every key stands in one document alone"
    one = model.wake(exam.questions[0, 7:8], model.sleep(exam.context[:, 7 * 64 : 8 * 64], model.init_state(1), 1))[0]
    assert answers.correct[0, 1, 7] == int(one[0, -1].argmax() == exam.answers[0, 7])


def test_rows_are_of_seeds_and_of_all(tmp_path: Path) -> None:
    folder = needle_models.save(tmp_path, "window")
    for archive in (False, True):
        rows = stream.stream("window", (0, 1), n=2, after=(4, 12), archive=archive, folder=folder)
        assert set(rows["seed"]) == {"0", "1", "all"} and set(rows["age"]) == {"1", "2 to 3", "4 to 7", "8 to 15"}
        newest = rows[rows["age"] == "1"].set_index("seed")["accuracy"]
        assert newest["all"] == pytest.approx((newest["0"] + newest["1"]) / 2)
    with pytest.raises(ValueError, match="documents need needles in windows of 64 tokens"):
        stream.stream("window", (0,), n=1, folder=needle_models.save(tmp_path / "short", "window", (0,), window=32))
