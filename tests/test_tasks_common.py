"""What holds for every task: seeds, shapes, questions, the curriculum's law, refusals, the drawn examples."""

from __future__ import annotations

import doctest
import importlib
import inspect
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from labkit.tasks import (
    IGNORE,
    KINDS,
    MQAR,
    Batch,
    Depo,
    DepoArchive,
    DepoForetold,
    DepoThinking,
    Exam,
    Needle,
    Nights,
    NightsThinking,
    Rule110,
    Rule110Thinking,
    Task,
    Text,
    make,
)
from labkit.tasks.base import DEEPEST_EXTRA

TASKS = [
    Depo(),
    Depo(nodes=8, hops=3, queries=5, window=4),
    Depo(nodes=9, hops=4, queries=50),
    DepoThinking(nodes=8, hops=4, trace="loops"),
    DepoThinking(nodes=8, hops=3, queries=5, window=4, ended=False),
    DepoForetold(nodes=8, hops=3, queries=5, thoughts=1),
    DepoArchive(nodes=8, hops=3, queries=5, window=6, thoughts=1, lookups=2),
    Nights(width=3, nights=3, queries=5),
    NightsThinking(width=3, nights=3, queries=5, thoughts=2),
    Rule110(width=7, steps=3),
    Rule110(width=6, steps=2, strings=3, queries=10),
    Rule110Thinking(width=6, steps=3, strings=2, queries=10, thoughts=1),
    MQAR(),
    MQAR(pairs=6, keys=9, values=7, queries=4, window=4),
    Needle(length=40, needles=3, variant="word", window=20),
    Needle(),
]
each_task = pytest.mark.parametrize("task", TASKS, ids=repr)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


DRAWS: dict[str, Callable[[Task, int], Batch | Exam]] = {
    "batch": lambda task, seed: task.batch(5, seeded(seed)),
    "lesson": lambda task, seed: task.lesson(5, seeded(seed), task.max_depth),
    "exam": lambda task, seed: task.exam(5, seeded(seed)),
}


def tensors(drawn: Batch | Exam) -> dict[str, torch.Tensor]:
    return {name: value for name, value in vars(drawn).items() if isinstance(value, torch.Tensor)}


@each_task
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_equal_seeds_give_equal_bits_and_other_seeds_do_not(task: Task, draw: Any) -> None:
    first, again, other = (tensors(draw(task, seed)) for seed in (7, 7, 8))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(
        first[name].shape != other[name].shape or not torch.equal(first[name], other[name]) for name in first
    )


@each_task
def test_global_random_state_is_neither_moved_nor_read(task: Task) -> None:
    results = []
    for globally in (1, 2):
        random.seed(globally)
        np.random.seed(globally)
        torch.manual_seed(globally)
        before = (random.getstate(), str(np.random.get_state(legacy=False)), torch.get_rng_state())
        results.append([tensors(draw(task, 3)) for draw in DRAWS.values()] + [task.floor(task.max_depth)])
        assert random.getstate() == before[0]
        assert str(np.random.get_state(legacy=False)) == before[1]
        assert torch.equal(torch.get_rng_state(), before[2])
    for one, two in zip(*results, strict=True):
        if isinstance(one, float):
            assert one == two
        else:
            assert all(torch.equal(one[name], two[name]) for name in one)


@each_task
def test_a_batch_is_as_the_contract_says(task: Task) -> None:
    batch = task.batch(9, seeded(0))
    assert batch.tokens.shape == batch.labels.shape == batch.depth.shape
    assert all(t.dtype == torch.int64 for t in (batch.tokens, batch.labels, batch.depth))
    assert (batch.context, batch.window) == (task.context, task.window)
    assert 0 <= batch.tokens.min() and batch.tokens.max() < task.vocab
    asked = batch.labels != IGNORE
    assert not asked[:, : batch.context].any()
    assert (asked.sum(dim=1) == task.queries).all()
    # Not shifted: at an asked position the label is the token that follows.
    assert torch.equal(batch.labels[:, :-1][asked[:, :-1]], batch.tokens[:, 1:][asked[:, :-1]])
    assert not asked[:, -1].any()
    assert torch.equal(batch.depth > 0, asked)
    assert batch.depth.max() <= task.max_depth


@pytest.mark.parametrize("task", [t for t in TASKS if not isinstance(t, DepoForetold | DepoArchive | Nights)], ids=repr)
def test_no_question_comes_twice_while_others_are_left(task: Task) -> None:
    for depth in range(1, task.max_depth + 1):
        batch = task.lesson(6, seeded(depth), depth)
        assert batch.depth.max() <= depth
        exam = task.questions(batch.tokens[:, : batch.context])
        possible = int((exam.depth[0] <= depth).sum())
        length = exam.questions.shape[-1] + 1
        for row in batch.tokens[:, batch.context :].tolist():
            asked = [tuple(row[at : at + length]) for at in range(0, len(row), length)]
            assert len(asked) == task.queries
            most, rest = divmod(task.queries, possible)
            counts = [asked.count(question) for question in set(asked)]
            assert max(counts) <= most + (rest > 0)
            assert len(counts) == min(possible, task.queries)


@pytest.mark.parametrize(
    "task", [Depo(nodes=10, hops=5, queries=1), Rule110(width=9, steps=5, queries=1)], ids=repr
)
def test_lessons_draw_the_deepest_depth_extra_often_and_batches_do_not(task: Task) -> None:
    n = 20_000
    for drawn, extra in ((task.lesson(n, seeded(1), 4), DEEPEST_EXTRA), (task.batch(n, seeded(1)), 0.0)):
        deepest = 4 if extra else 5
        depths = drawn.depth[drawn.depth > 0]
        assert len(depths) == n
        for depth in range(1, deepest + 1):
            share = (1 - extra) / deepest + (extra if depth == deepest else 0)
            found = (depths == depth).double().mean().item()
            assert abs(found - share) < 5 * (share * (1 - share) / n) ** 0.5
        assert depths.max() == deepest


@each_task
def test_an_exam_has_one_row_of_depths_for_all_and_its_questions_are_known(task: Task) -> None:
    exam = task.exam(11, seeded(2))
    n, asked, length = exam.questions.shape
    assert exam.context.shape == (11, task.context) and n == 11
    assert exam.answers.shape == exam.depth.shape == (11, asked)
    assert (exam.depth == exam.depth[:1]).all()
    assert set(exam.depth[0].tolist()) == set(range(1, task.max_depth + 1))
    everything = task.questions(exam.context)
    for row in range(n):
        known = {
            tuple(question): answer
            for question, answer in zip(
                everything.questions[row].tolist(), everything.answers[row].tolist(), strict=True
            )
        }
        for question, answer in zip(exam.questions[row].tolist(), exam.answers[row].tolist(), strict=True):
            assert len(question) == length
            assert known[tuple(question)] == answer


@each_task
def test_an_exam_of_some_depths_is_part_of_the_whole_exam(task: Task) -> None:
    whole = task.exam(6, seeded(4))
    depths = [1] if task.max_depth == 1 else [task.max_depth, 1]
    part = task.exam(6, seeded(4), depths=depths)
    keep = [i for i, depth in enumerate(whole.depth[0].tolist()) if depth in depths]
    assert torch.equal(part.context, whole.context)
    assert torch.equal(part.questions, whole.questions[:, keep])
    assert torch.equal(part.answers, whole.answers[:, keep])
    assert torch.equal(part.depth, whole.depth[:, keep])


@each_task
def test_what_decode_writes_encode_reads(task: Task) -> None:
    for context in task.exam(4, seeded(5)).context:
        assert torch.equal(task.encode(task.decode(context)), context)


@each_task
def test_floors_are_at_least_chance(task: Task) -> None:
    for depth in range(1, task.max_depth + 1):
        assert 0 < task.chance(depth) <= task.floor(depth) < 1
    for ask in (task.chance, task.floor):
        for wrong in (0, task.max_depth + 1):
            with pytest.raises(ValueError, match="depth is"):
                ask(wrong)


@each_task
def test_a_long_sequence_is_folded_and_nothing_is_lost(task: Task) -> None:
    batch = task.batch(2, seeded(6))
    folded = task.describe(batch, row=1, width=40).split("\n")
    assert max(map(len, folded)) <= 40
    assert len(folded) > 3
    for first, name in enumerate(("tokens", "labels", "depth")):
        words = " ".join(folded[first::4]).replace("|", " ").split()
        assert words[0] == name
        for word, value, label in zip(
            words[1:], getattr(batch, name)[1].tolist(), batch.labels[1].tolist(), strict=True
        ):
            if name == "tokens":
                assert word == task.token_name(value)
            elif label == IGNORE:
                assert word == "."
            else:
                assert word == (str(value) if name == "depth" else task.token_name(value))
    parts = " ".join(folded[0::4]).split("|")
    sizes = [len(part.split()) for part in parts]
    assert sizes[0] == 1 + task.window, "the name of the line and a window"
    assert sizes[1:-1] == [task.window] * (task.context // task.window - 1)


EXAMPLES = [
    pytest.param(
        kind,
        id=name,
        marks=pytest.mark.skipif(kind is Text and sys.version_info[:2] != (3, 11), reason="another Python's text"),
    )
    for name, kind in KINDS.items()
]


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_example_in_the_docstring_is_what_the_task_makes(kind: type[Task]) -> None:
    found = doctest.DocTestFinder().find(
        kind, kind.__name__, globs=vars(importlib.import_module(kind.__module__)) | {"torch": torch}
    )
    examples = [test for test in found if test.name == kind.__name__ and test.examples]
    assert len(examples) == 1
    drawn = examples[0].examples[-1].want.split("\n")
    assert [line.split()[0] for line in drawn if line] == ["tokens", "labels", "depth"]
    result = doctest.DocTestRunner().run(examples[0])
    assert result.attempted == 2 and result.failed == 0


@pytest.mark.parametrize("kind", KINDS)
def test_make_makes_what_the_parameters_say(kind: str) -> None:
    task = make(kind)
    assert type(task) is KINDS[kind] and task.name == kind
    assert list(task.params) == list(inspect.signature(KINDS[kind]).parameters)
    again = make(kind, **task.params)
    assert again.params == task.params and again.vocab == task.vocab
    changed = make(kind, queries=3)
    assert changed.params["queries"] == 3 and changed.batch(2, seeded(0)).labels.ne(IGNORE).sum() == 6


@pytest.mark.parametrize(
    ("kind", "params", "sentence"),
    [
        ("dep", {}, "There is no task 'dep'; did you mean 'depo'?"),
        ("rule_110", {}, "did you mean 'rule110'?"),
        ("xyz", {}, "known are depo, depo-thinking, depo-foretold, depo-archive, rule110, rule110-thinking, mqar"),
        ("depo", {"node": 4}, "The task depo has no parameter 'node'; did you mean 'nodes'?"),
        ("mqar", {"zzz": 4}, "known are pairs, keys, values, queries, window"),
    ],
)
def test_make_names_the_nearest_known(kind: str, params: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        make(kind, **params)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "params", "error", "sentence"),
    [
        ("depo", {"nodes": 15, "hops": 8}, ValueError, "at least 16 nodes or at most 7 hops"),
        ("depo", {"nodes": 16.0}, TypeError, "nodes is 16.0; it should be a whole number"),
        ("depo", {"hops": 0}, ValueError, "hops is 0; it should be a whole number of at least 1"),
        ("depo", {"queries": True}, TypeError, "queries is True"),
        ("depo", {"nodes": 6, "hops": 2, "window": 3}, ValueError, "should be even, so that no edge is cut"),
        ("depo", {"nodes": 6, "hops": 2, "window": 8}, ValueError, "divide the 12 tokens"),
        ("depo", {"nodes": 6, "hops": 2, "window": 24}, ValueError, "from 2 to 12"),
        ("rule110", {"width": 3}, ValueError, "from 4 to 62"),
        ("rule110", {"steps": 0}, ValueError, "steps is 0"),
        ("rule110", {"strings": 1.5}, TypeError, "strings is 1.5"),
        ("mqar", {"pairs": 40}, ValueError, "40 pairs need 40 different keys, and there are 32; raise keys"),
        ("mqar", {"pairs": 8, "values": 7}, ValueError, "raise values"),
        ("mqar", {"pairs": 8, "queries": 9}, ValueError, "Each pair is asked at most once"),
        ("mqar", {"pairs": 8, "window": 6}, ValueError, "divide the 16 tokens"),
    ],
)
def test_bad_parameters_are_refused(kind: str, params: dict[str, Any], error: type, sentence: str) -> None:
    with pytest.raises(error) as refused:
        make(kind, **params)
    assert sentence in str(refused.value)


@each_task
def test_bad_draws_are_refused(task: Task) -> None:
    good = seeded(0)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="batch_size is"):
            task.batch(wrong, good)
    with pytest.raises(TypeError, match="n is 2"):
        task.exam(2.0, good)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="should be a torch"):
        task.batch(2, 0)  # type: ignore[arg-type]
    for wrong in (0, task.max_depth + 1):
        with pytest.raises(ValueError, match="depth is"):
            task.lesson(2, good, wrong)
        with pytest.raises(ValueError, match="A depth is"):
            task.exam(2, good, depths=[wrong])
    with pytest.raises(ValueError, match="depths is empty"):
        task.exam(2, good, depths=[])
    with pytest.raises(ValueError, match="row is 2"):
        task.describe(task.batch(2, good), row=2)
    assert torch.equal(good.get_state(), _state_after_one_batch(task)), (
        "a refused draw must not move the generator"
    )


def _state_after_one_batch(task: Task) -> torch.Tensor:
    generator = seeded(0)
    task.batch(2, generator)
    return generator.get_state()


@each_task
def test_what_is_no_context_is_refused(task: Task) -> None:
    context = task.exam(1, seeded(0)).context[0]
    assert task.questions(context).context.shape == (1, task.context)
    wrongs: list[tuple[Any, type[Exception]]] = [
        (context.tolist(), TypeError),
        (context.to(torch.int32), TypeError),
        (context.view(1, 1, -1), ValueError),
        (context[None][:0], ValueError),
        *([] if isinstance(task, Needle) else [(context[:-1], ValueError)]),  # a text may end anywhere
        (context[:0], ValueError),
        (torch.full_like(context, task.vocab), ValueError),
        (torch.full_like(context, -1), ValueError),
    ]
    for wrong, error in wrongs:
        with pytest.raises(error):
            task.questions(wrong)


@each_task
def test_batches_and_exams_move_between_devices(task: Task) -> None:
    for drawn in (task.batch(2, seeded(0)), task.exam(2, seeded(0))):
        moved = drawn.to("meta")
        assert type(moved) is type(drawn) and moved.window == drawn.window
        assert tensors(moved).keys() == tensors(drawn).keys()
        assert all(t.device.type == "meta" for t in tensors(moved).values())
