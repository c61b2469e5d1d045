"""Tasks with steps of thought: what stands between a question and its answer, and how long sequences are."""

from __future__ import annotations

import pytest
import torch

from labkit.tasks import IGNORE, DepoThinking, Rule110Thinking
from labkit.tasks.rule110 import advance
from labkit.tasks.thinking import TRACES, written_depths


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_even_waypoints_cut_the_way_into_equal_leaps() -> None:
    depth = torch.arange(1, 9)
    for thought in range(4):
        steps = written_depths("even", depth, thought)
        for k, at in zip(depth.tolist(), steps.tolist(), strict=True):
            assert at == [-(-k * i // (thought + 1)) for i in range(1, thought + 1)]
            leaps = torch.tensor([0, *at, k]).diff()
            assert leaps.max() - leaps.min() <= 1 and leaps.sum() == k


def test_single_steps_go_hop_by_hop_and_stay_at_the_answer() -> None:
    steps = written_depths("single", torch.tensor([1, 2, 5]), 3)
    assert steps.tolist() == [[1, 1, 1], [1, 2, 2], [1, 2, 3]]


@pytest.mark.parametrize("thought", [0, 1, 3])
@pytest.mark.parametrize("trace", TRACES)
def test_what_is_written_in_a_lesson_is_true_of_its_graph(trace: str, thought: int) -> None:
    task = DepoThinking(nodes=8, hops=4, queries=6, trace=trace)
    batch = task.lesson(20, seeded(0), 4, thought)
    per = 4 + (0 if trace == "loops" else thought)
    assert batch.loops == (thought if trace == "loops" else 0)
    for tokens, labels, depths in zip(batch.tokens.tolist(), batch.labels.tolist(), batch.depth.tolist(), strict=True):
        context, rest = tokens[: batch.context], tokens[batch.context :]
        successor = dict(zip(context[::3], context[1::3], strict=True))
        count = min(6, len(rest) // per)
        for at in range(0, count * per, per):
            announced, hops, start, *written = rest[at : at + per]
            depth = hops - task.nodes + 1
            assert announced == task.first + thought
            walk = [start]
            for _ in range(depth):
                walk.append(successor[walk[-1]])
            steps = written_depths(trace, torch.tensor(depth), thought).tolist()
            middle = [walk[s] for s in steps] if task.writes else [task.filler] * (thought if trace == "filler" else 0)
            assert written == [*middle, walk[-1]]
            here = slice(batch.context + at, batch.context + at + per)
            asked = [*middle, walk[-1]] if task.writes else [IGNORE] * len(middle) + [walk[-1]]
            assert labels[here] == [IGNORE, IGNORE, *asked, IGNORE]
            assert depths[here] == [depth if label != IGNORE else 0 for label in labels[here]]
        assert set(rest[count * per :]) <= {task.filler}
        assert set(labels[batch.context + count * per :]) <= {IGNORE}


TWO = [DepoThinking(nodes=8, hops=4), Rule110Thinking(width=6, steps=3, queries=7)]


@pytest.mark.parametrize("task", TWO, ids=repr)
def test_sequences_are_equally_long_whatever_the_thought(task: DepoThinking | Rule110Thinking) -> None:
    shapes = {tuple(task.lesson(2, seeded(1), task.max_depth, r).tokens.shape) for r in range(task.thoughts + 1)}
    assert len(shapes) == 1


def test_written_rows_are_those_of_the_automaton() -> None:
    task = Rule110Thinking(width=7, steps=4, strings=2, thoughts=3)
    exam = task.exam(5, seeded(2))
    rows = task.written(exam, 3)
    assert rows.shape == (5, exam.depth.shape[1], 3, 7)
    for n in range(5):
        for q in range(0, exam.depth.shape[1], 11):
            string, depth = int(exam.questions[n, q, 1]) - 2, int(exam.depth[n, q])
            row = exam.context[n].view(2, -1)[string, 1:]
            for i, at in enumerate(written_depths("even", torch.tensor(depth), 3).tolist()):
                expected = row
                for _ in range(at):
                    expected = advance(expected)
                assert torch.equal(rows[n, q, i], expected)


def test_only_the_announcement_tells_exams_of_different_thought_apart() -> None:
    task = DepoThinking(nodes=8, hops=4)
    exam = task.exam(6, seeded(3))
    assert (exam.questions[..., 0] == task.first).all()
    other = task.announced(exam, 2)
    assert (other.questions[..., 0] == task.first + 2).all()
    assert torch.equal(other.questions[..., 1:], exam.questions[..., 1:])
    assert torch.equal(other.answers, exam.answers)


def test_a_typed_graph_is_ended_edge_by_edge() -> None:
    task = DepoThinking(nodes=4, hops=2)
    context = task.encode("0>1\n1>2\n2>0")
    end = task.filler
    assert context.tolist() == [0, 1, end, 1, 2, end, 2, 0, end]
    assert task.decode(context) == "0>1\n1>2\n2>0"
    assert task.truth(context).answers.tolist() == [[1, 2], [2, 0], [0, 1]]
    with pytest.raises(ValueError, match="the last a filler"):
        task.questions(torch.tensor([0, 1, 1, 2, 2, 0]))


@pytest.mark.parametrize(
    ("params", "error", "sentence"),
    [
        ({"trace": "evenly"}, ValueError, "it should be one of even, single, filler, loops"),
        ({"thoughts": -1}, ValueError, "thoughts is -1"),
        ({"ended": 1}, TypeError, "ended is 1; it should be True or False"),
        ({"nodes": 8, "hops": 4, "window": 8}, ValueError, "a multiple of 3, so that no edge is cut"),
    ],
)
def test_bad_parameters_are_refused(params: dict[str, object], error: type, sentence: str) -> None:
    with pytest.raises(error) as refused:
        DepoThinking(**params)  # type: ignore[arg-type]
    assert sentence in str(refused.value)


def test_more_thought_than_there_is_is_refused() -> None:
    task = DepoThinking(nodes=8, hops=4, thoughts=2)
    with pytest.raises(ValueError, match="thought is 3; it should be a whole number from 0 to 2"):
        task.lesson(2, seeded(0), 4, 3)


def test_an_exam_of_the_automaton_asks_each_step_once() -> None:
    task = Rule110Thinking(width=7, steps=4, strings=2, thoughts=1)
    exam = task.exam(300, torch.Generator().manual_seed(0))
    assert exam.depth.tolist() == [[1, 2, 3, 4]] * 300
    string, step, cell = (exam.questions[..., i] for i in (1, 2, 3))
    assert (step == 2 + 2 + torch.arange(4)).all()
    assert set((string - 2).unique().tolist()) == {0, 1} and set((cell - 8).unique().tolist()) == set(range(7))
    rows = exam.context.view(300, 2, 8)[:, :, 1:]
    for depth in range(1, 5):
        rows = advance(rows)
        wanted = rows[torch.arange(300), string[:, depth - 1] - 2, cell[:, depth - 1] - 8]
        assert (exam.answers[:, depth - 1] == wanted).all()
