"""Nights that build on one another, with notes or without."""

from __future__ import annotations

import pytest
import torch

from labkit.tasks import IGNORE, Nights, NightsThinking


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def walked(pairs: list[list[list[int]]], start: int, hops: int) -> int:
    leads = {x: y for night in pairs for x, y in night}
    for _ in range(hops):
        start = leads[start]
    return start


@pytest.mark.parametrize("noted", [False, True])
def test_every_question_is_answered_by_walking_back(noted: bool) -> None:
    task = Nights(width=3, nights=4)
    context = task.exam(5, seeded(0)).context
    if noted:
        context = task.with_notes(context)
    exam, facts = task.questions(context), task.facts(context).tolist()
    assert exam.questions.shape == (5, 3 * (4 + 3 + 2 + 1), 2)
    for row in range(5):
        for (hops, start), answer in zip(exam.questions[row].tolist(), exam.answers[row].tolist(), strict=True):
            assert answer == walked(facts[row], start, hops - task.nodes + 1)


def test_notes_say_where_the_nodes_of_a_night_lead_at_last_and_stand_behind_its_facts() -> None:
    task = Nights(width=3, nights=4)
    plain = task.exam(2, seeded(1)).context
    windows = task.with_notes(plain).unflatten(1, (-1, task.window))
    assert windows.shape[1] == 7  # no notes after the last night
    assert torch.equal(windows[:, ::2].flatten(1), plain)
    facts = task.facts(plain).tolist()
    for row in range(2):
        for night in (1, 2, 3):
            for hops, start, end in windows[row, 2 * night - 1].unflatten(0, (-1, 3)).tolist():
                assert hops - task.nodes + 1 == night and end == walked(facts[row], start, night)
                assert start in [x for x, _ in facts[row][night - 1]]


def test_asked_picks_the_nodes_of_one_night() -> None:
    task = NightsThinking(width=3, nights=4)
    exam = task.questions(task.exam(2, seeded(2)).context)
    asked = task.asked(exam, 3, 2)
    assert torch.equal(asked.questions[..., -1], task.facts(exam.context)[:, 2, :, 0])
    assert (asked.depth == 2).all() and asked.answers.shape == (2, 3)


def test_lessons_grow_with_the_curriculum_and_half_of_them_have_notes() -> None:
    task = Nights(width=3, nights=4, queries=4)
    sizes = [task.lesson(1, seeded(s), 3).context // task.window for s in range(400)]
    # 1, 2 or 3 nights, without notes or with notes after all but the last
    assert set(sizes) == {1, 2, 3, 5}
    assert 100 < sizes.count(5) < 170  # two thirds have three nights, half of them notes
    assert task.lesson(1, seeded(0), 1).context == task.window


def test_thoughts_are_the_nodes_on_the_way() -> None:
    task = NightsThinking(width=3, nights=3, queries=4, thoughts=2)
    batch = task.lesson(8, seeded(0), 3, thought=2)
    for tokens, labels in zip(batch.tokens, batch.labels, strict=True):
        facts = task.facts(tokens[None, : batch.context])[0].tolist()
        rest = tokens[batch.context :].tolist()
        for at in range(0, 4 * 4 // 6 * 6, 6):
            _, hops, start, first, second, answer = rest[at : at + 6]
            depth = hops - task.nodes + 1
            assert [first, second, answer] == [walked(facts, start, min(k, depth)) for k in (1, 2, depth)]
        assert (labels[: batch.context] == IGNORE).all()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1>0 3-2", "'3-2' is not a fact"),
        ("1>0", "Every night has 2 facts"),
        ("2>0 3>1\n4>2 5>0", "leads to node 0, not one of the night before"),
        ("2>0 3>1\n3>2 5>2", "needs 2 different nodes"),
        ("2>0 3>1\n2>3 5>2", "Node 2 is told of twice"),
        ("2>0 3>9", "Tokens go from 0 to 8"),
        ("", "no such text"),
    ],
)
def test_what_is_no_text_of_nights_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        Nights(width=2, nights=2).encode(text)
    assert sentence in str(refused.value)


F = 8  # the filler of two nights of two nodes; +1 is 6


@pytest.mark.parametrize(
    "tokens",
    [
        [2, 0, 5, 3, 1, F],  # a fact without its end
        [6, 2, 0, 6, 3, 1],  # notes before any facts
        [2, 0, F, 3, 1, F, 6, 2, 0, 0, 3, 1],  # half a window of notes
        [2, 0, F, 3, 1, F, 7, 2, 0, 7, 3, 1],  # notes of a night that has not been
        [2, 0, F, 3, 1, F, 6, 2, 0, 6, 3, 1, 6, 2, 0, 6, 3, 1],  # notes twice
    ],
)
def test_windows_that_are_neither_facts_nor_notes_are_refused(tokens: list[int]) -> None:
    with pytest.raises(ValueError, match="A context has a window of facts for each night"):
        Nights(width=2, nights=2).questions(torch.tensor(tokens))
