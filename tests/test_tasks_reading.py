"""The question in front of the graph, and windows that are opened again."""

from __future__ import annotations

import pytest
import torch

from labkit.tasks import IGNORE, DepoArchive, DepoForetold


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_lessons_foretell_one_question_or_none_by_turns() -> None:
    task = DepoForetold(nodes=8, hops=3, queries=4, thoughts=1)
    foretold = 0
    for seed in range(200):
        batch = task.lesson(2, seeded(seed), 3, thought=1)
        room, rest = batch.tokens[:, :3], batch.tokens[:, batch.context :]
        if (room == task.filler).all():
            assert (batch.labels != IGNORE).sum() == 2 * 2 * 3  # three questions fit with a thought each
            continue
        foretold += 1
        assert torch.equal(room, rest[:, :3]) and (rest[:, 5:] == task.filler).all()
        assert (batch.labels != IGNORE).sum() == 2 * 2
    assert 70 < foretold < 130


def test_foretold_contexts_differ_in_their_room_alone() -> None:
    task = DepoForetold(nodes=8, hops=3)
    exam = task.exam(4, seeded(0))
    one = task.foretold(task.announced(exam, 2), 1)
    assert torch.equal(one.context[:, 3:], exam.context[:, 3:])
    assert torch.equal(one.context[:, :3], one.questions[:, 0]) and (one.context[:, 0] == task.first + 2).all()
    assert torch.equal(one.answers[:, 0], exam.answers[:, 1])
    assert torch.equal(task.questions(one.context).answers, task.questions(exam.context).answers)


def test_opened_windows_are_windows_of_the_same_context_none_twice() -> None:
    task = DepoArchive(nodes=8, hops=3, queries=4, window=6, lookups=3)
    counts = set()
    for seed in range(40):
        batch = task.lesson(3, seeded(seed), 3, thought=1)
        count = (batch.tokens.shape[1] - batch.context - 4 * 4) // task.window
        counts.add(count)
        windows = batch.tokens[:, : batch.context].unflatten(1, (-1, task.window)).tolist()
        opened = batch.tokens[:, batch.context :][:, : count * task.window].unflatten(1, (-1, task.window)).tolist()
        for row, again in zip(windows, opened, strict=True):
            places = [row.index(window) for window in again]
            assert len(set(places)) == count
        assert (batch.labels[:, batch.context :][:, : count * task.window] == IGNORE).all()
        assert (batch.labels != IGNORE).any()
    assert counts == {0, 1, 2, 3}


def test_the_way_of_a_question_and_the_windows_of_its_edges() -> None:
    task = DepoArchive(nodes=8, hops=3, window=6, thoughts=1)
    exam = task.exam(5, seeded(1))
    path = task.path(exam)
    at = task.window_of(exam.context, path.flatten(1)).unflatten(1, path.shape[1:])
    for row, context in enumerate(exam.context):
        edges = context.unflatten(0, (-1, 3))[:, :2].tolist()
        leads = dict(edges)
        for q, depth in enumerate(exam.depth[row].tolist()):
            node = int(exam.questions[row, q, -1])
            for hop in range(3):
                assert int(path[row, q, hop]) == node
                assert int(at[row, q, hop]) == edges.index([node, leads[node]]) // 2
                node = leads[node]
                if hop + 1 == depth:
                    assert node == int(exam.answers[row, q])


def test_more_lookups_than_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="lookups is 5; it should be a whole number from 0 to 4"):
        DepoArchive(nodes=8, hops=3, window=6, lookups=5)


@pytest.mark.parametrize("room", [[-5, 2, 2], [0, 1, 2], [99, 8, 2]])
def test_a_room_holds_fillers_or_a_question(room: list[int]) -> None:
    task = DepoForetold(nodes=8, hops=3)
    context = task.exam(1, seeded(0)).context[0]
    task.questions(context)
    with pytest.raises(ValueError, match="all of them fillers or together a question"):
        task.questions(torch.cat([torch.tensor(room), context[3:]]))
