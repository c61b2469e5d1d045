"""Real text: what is predicted, what is kept for exams, what is typed."""

from __future__ import annotations

from pydoc_data import topics

import pytest
import torch

from labkit.tasks import IGNORE, Text
from labkit.tasks.text import all_bytes


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_byte_after_the_context_is_predicted() -> None:
    task = Text(length=40, queries=9, window=20)
    batch = task.lesson(5, seeded(1), 1)
    assert batch.tokens.shape == (5, 50) and (batch.context, batch.window) == (40, 20)
    assert (batch.labels[:, :40] == IGNORE).all() and (batch.labels[:, -1] == IGNORE).all()
    assert torch.equal(batch.labels[:, 40:-1], batch.tokens[:, 41:])
    everything = "\n\n".join(topics.topics.values())
    assert all(part in everything for part in bytes(batch.tokens[0].tolist()).decode().split("\n\n"))


def test_an_exam_asks_for_the_byte_after_the_question_in_text_that_no_lesson_shows() -> None:
    task = Text(length=300, queries=20)
    exam = task.exam(6, seeded(2))
    assert exam.context.shape == (6, 300) and exam.questions.shape == (6, 1, 20) and exam.answers.shape == (6, 1)
    lessons = "".join(task.decode(row) for row in task._contexts(3000, seeded(3), held_out=False))
    for row in torch.cat([exam.context, exam.questions[:, 0], exam.answers], dim=1):
        inner = task.decode(row).split("\n\n")[1:-1]  # whole paragraphs
        assert not any(len(paragraph) > 40 and paragraph in lessons for paragraph in inner)


def test_six_of_a_hundred_held_out_bytes_stand_in_long_strings_that_lessons_have() -> None:
    lessons, exams = (bytes(all_bytes(held_out=held_out).tolist()) for held_out in (False, True))
    met = {lessons[i : i + 64] for i in range(len(lessons) - 63)}
    shared = torch.zeros(len(exams), dtype=torch.bool)
    for i in range(len(exams) - 63):
        if exams[i : i + 64] in met:
            shared[i : i + 64] = True
    assert 0.04 < shared.float().mean() < 0.08


def test_typed_text_is_its_bytes() -> None:
    task = Text(length=10, queries=3)
    text = "Grüße \udcff"
    context = task.encode(text)
    assert context[2:4].tolist() == list("ü".encode()) and task.decode(context) == text
    exam = task.questions(task.encode("abcdefgh"))
    assert task.decode(torch.cat([exam.context[0], exam.questions[0, 0], exam.answers[0]])) == "abcdefgh"
    assert exam.answers.item() == ord("h") and exam.context.shape == (1, 4)
    assert [task.token_name(byte) for byte in b"a .|\n"] == ["a", "\\x20", "\\x2e", "\\x7c", "\\x0a"]


def test_what_is_no_text_is_refused() -> None:
    task = Text(length=10, queries=3)
    with pytest.raises(TypeError, match="should be text; this is int"):
        task.encode(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has 4 bytes; it should have at least 5"):
        task.encode("abcd")
    with pytest.raises(ValueError, match="Token 300 is unknown"):
        task.questions(torch.tensor([1, 2, 300, 4, 5]))
    for wrong in ({"length": 0}, {"queries": 0}, {"window": 500}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
            Text(**wrong)
    with pytest.raises(ValueError, match="longer than the text"):
        Text(length=10_000_000).batch(1, seeded(0))
    assert Text().chance() == 1 / 256 < Text().floor() < 0.5
