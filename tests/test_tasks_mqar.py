"""MQAR: labels against a dictionary, the published conditions, typed pairs."""

from __future__ import annotations

import pytest
import torch

from labkit.tasks import IGNORE, MQAR


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs_of(context: list[int]) -> dict[int, int]:
    tokens = iter(context)
    return dict(zip(tokens, tokens, strict=True))


@pytest.mark.parametrize(
    "task",
    [
        MQAR(),
        MQAR(pairs=1, keys=1, values=1, queries=1),
        MQAR(pairs=6, keys=6, values=9, queries=3, window=4),
    ],
    ids=repr,
)
def test_labels_are_what_a_dictionary_says(task: MQAR) -> None:
    for batch in (task.batch(40, seeded(0)), task.lesson(40, seeded(1), 1)):
        for tokens, labels, depth in zip(
            batch.tokens.tolist(), batch.labels.tolist(), batch.depth.tolist(), strict=True
        ):
            known = pairs_of(tokens[: batch.context])
            assert len(known) == len(set(known.values())) == task.pairs, "keys differ and values differ"
            assert all(key < task.keys <= value < task.vocab for key, value in known.items())
            asked = tokens[batch.context :: 2]
            assert len(set(asked)) == len(asked) == task.queries, "no pair is asked twice"
            expected = [IGNORE] * len(tokens)
            expected[batch.context :: 2] = [known[key] for key in asked]
            assert labels == expected
            assert depth == [int(label != IGNORE) for label in labels]


def test_exam_asks_every_pair() -> None:
    task = MQAR(pairs=5, keys=7, values=20, queries=2)
    exam = task.exam(50, seeded(2))
    assert exam.questions.shape == (50, 5, 1) and (exam.depth == 1).all()
    for context, questions, answers in zip(
        exam.context.tolist(), exam.questions.tolist(), exam.answers.tolist(), strict=True
    ):
        assert {key: value for (key,), value in zip(questions, answers, strict=True)} == pairs_of(context)
    assert task.chance() == task.floor() == 1 / 20


def test_lessons_of_fewer_pairs_hold_all_or_a_quarter_down_to_one() -> None:
    task = MQAR(pairs=16, keys=20, values=24, queries=8, window=8, fewer=True)
    generator, seen = seeded(0), set()
    for _ in range(20):
        lesson = task.lesson(4, generator, 1)
        pairs = lesson.context // 2
        assert lesson.window == min(8, 2 * pairs), "the windows of the task, or one that is shorter"
        assert lesson.tokens.shape[1] - lesson.context == 2 * max(1, pairs // 2), "as much fewer questions"
        for tokens, labels in zip(lesson.tokens.tolist(), lesson.labels.tolist(), strict=True):
            known = pairs_of(tokens[: lesson.context])
            assert len(known) == pairs and labels[lesson.context] == known[tokens[lesson.context]]
        seen.add(pairs)
    assert seen == {16, 4, 1} and task.exam(2, generator).questions.shape[1] == 16
    with pytest.raises(ValueError, match="would hold 5, whose 10 tokens are no whole windows of 8"):
        MQAR(pairs=20, keys=20, values=20, window=8, fewer=True)
    with pytest.raises(TypeError, match="fewer is 1; it should be True or False"):
        MQAR(fewer=1)  # type: ignore[arg-type]


def test_keys_values_and_the_order_of_questions_are_drawn_evenly() -> None:
    task = MQAR(pairs=3, keys=6, values=5, queries=3)
    batch = task.batch(6000, seeded(3))
    keys, values = batch.tokens[:, 0:6:2], batch.tokens[:, 1:6:2] - 6
    for drawn, kinds in ((keys, 6), (values, 5)):
        for column in drawn.T:
            counts = torch.bincount(column, minlength=kinds)
            assert (counts - 6000 / kinds).abs().max() < 5 * (6000 / kinds) ** 0.5
    # At which place in the context the first question's key stood.
    place = (keys == batch.tokens[:, 6:7]).int().argmax(dim=1)
    assert (torch.bincount(place, minlength=3) - 2000).abs().max() < 5 * 2000**0.5


def test_typed_pairs_are_read() -> None:
    task = MQAR(pairs=3, keys=4, values=8, queries=1)
    assert task.encode("3>5\nk0 -> v5").tolist() == [3, 9, 0, 9]
    assert task.encode("K1>V0, 2>7; 0>1").tolist() == [1, 4, 2, 11, 0, 5]
    assert task.questions(task.encode("3>5")).answers.tolist() == [[9]]
    assert task.encode_question(3).tolist() == [3]
    assert [task.token_name(token) for token in (0, 3, 4, 11)] == ["k0", "k3", "v0", "v7"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Nothing is typed; type one a line, for example 3>5."),
        ("3", "'3' is not a pair; type one key>value a line"),
        ("v3>k5", "'v3>k5' is not a pair"),
        ("3>5>6", "is not a pair"),
        ("4>0", "There is no key 4; keys go from 0 to 3."),
        ("0>8", "There is no value 8; values go from 0 to 7."),
        ("0>1\n0>2", "Key 0 stands there twice; a key has one value."),
        ("0>1\n1>2\n2>3\n3>4", "There are 4 pairs; at most 3 fit."),
    ],
)
def test_what_is_no_pair_gets_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        MQAR(pairs=3, keys=4, values=8, queries=1).encode(text)
    assert sentence in str(refused.value)


def test_text_that_is_none_and_questions_that_are_none() -> None:
    task = MQAR()
    with pytest.raises(TypeError, match="should be text"):
        task.encode(None)  # type: ignore[arg-type]
    for key in (-1, 32):
        with pytest.raises(ValueError, match="key is"):
            task.encode_question(key)
    with pytest.raises(ValueError, match="no pair of a key and a value"):
        task.questions(torch.tensor([40, 3]))
