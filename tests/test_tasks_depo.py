"""Depo: labels against a solver that chains edges and counts along them; sizes, windows, typed graphs."""

from __future__ import annotations

import pytest
import torch

from labkit.tasks import IGNORE, Depo


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def walk(context: list[int]) -> list[int]:
    """The nodes of a context in the order of the cycle, found by chaining edges like dominoes."""
    edges = [(context[i], context[i + 1]) for i in range(0, len(context), 2)]
    chain = list(edges.pop())
    while edges:
        found = [edge for edge in edges if edge[0] == chain[-1]]
        assert len(found) == 1, "every node has one outgoing edge"
        edges.remove(found[0])
        chain.append(found[0][1])
    assert chain[0] == chain[-1], "the chain closes"
    assert len(set(chain)) == len(chain) - 1, "and passes every node once"
    return chain[:-1]


def answer(context: list[int], hops: int, start: int) -> int:
    cycle = walk(context)
    return cycle[(cycle.index(start) + hops) % len(cycle)]


@pytest.mark.parametrize(
    "task",
    [
        Depo(queries=20),
        Depo(nodes=32, hops=16),
        Depo(nodes=2, hops=1, queries=3),
        Depo(nodes=12, hops=6, window=6),
        Depo(nodes=11, hops=3),
    ],
    ids=repr,
)
def test_labels_are_what_the_solver_finds(task: Depo) -> None:
    generator = seeded(0)
    batches = [task.batch(20, generator)]
    batches += [task.lesson(20, generator, depth) for depth in range(1, task.hops + 1)]
    checked = 0
    for batch in batches:
        for tokens, labels, depth in zip(
            batch.tokens.tolist(), batch.labels.tolist(), batch.depth.tolist(), strict=True
        ):
            context = tokens[: batch.context]
            expected, depths = [IGNORE] * len(tokens), [0] * len(tokens)
            for at in range(batch.context, len(tokens), 3):
                hops, start = tokens[at] - task.nodes + 1, tokens[at + 1]
                assert 1 <= hops <= task.hops
                expected[at + 1], depths[at + 1] = answer(context, hops, start), hops
                checked += 1
            assert labels == expected
            assert depth == depths
    assert checked == 20 * task.queries * (1 + task.hops)


def test_exam_asks_every_hop_count_once_from_starts_of_its_own() -> None:
    task = Depo()
    exam = task.exam(200, seeded(1))
    assert exam.questions.shape == (200, 8, 2)
    for context, questions, answers in zip(
        exam.context.tolist(), exam.questions.tolist(), exam.answers.tolist(), strict=True
    ):
        assert sorted(context) == sorted(2 * list(range(16)))
        assert [hops - 15 for hops, _ in questions] == list(range(1, 9))
        assert answers == [answer(context, hops - 15, start) for hops, start in questions]
    starts = exam.questions[:, :, 1]
    assert (starts != starts[:, :1]).any(dim=1).float().mean() > 0.9
    counts = torch.bincount(starts.flatten(), minlength=16)
    assert counts.min() > 60 and counts.max() < 140  # 100 expected, standard deviation below 10


def test_every_cycle_and_every_order_of_edges_is_as_likely() -> None:
    task = Depo(nodes=4, hops=2)
    contexts = task.batch(14_400, seeded(2)).tokens[:, :8]
    seen: dict[tuple[int, ...], int] = {}
    for context in contexts.tolist():
        seen[tuple(context)] = seen.get(tuple(context), 0) + 1
    assert len(seen) == 6 * 24  # (4 - 1)! cycles, 4! orders of their edges
    assert min(seen.values()) > 50 and max(seen.values()) < 150  # 100 expected, standard deviation 10


def test_several_windows_hold_whole_edges() -> None:
    task, generator = Depo(nodes=12, hops=3, window=8), seeded(5)
    assert (task.window, task.context) == (8, 24)
    batch = task.batch(50, generator)
    assert batch.window == 8 and batch.context == 24
    # What is asked can rarely be told from one window: the answer's edges lie in several.
    joined = 0
    for row in batch.tokens.tolist():
        window_of = {row[at]: at // 8 for at in range(0, 24, 2)}
        hops, start = row[24] - 11, row[25]
        cycle = walk(row[:24])
        first = cycle.index(start)
        joined += len({window_of[cycle[(first + i) % 12]] for i in range(hops)}) > 1
    assert joined > 10


def test_chance_and_floor() -> None:
    task = Depo()
    assert task.chance(3) == 1 / 16 and task.floor(3) == 1 / 15
    exam = task.exam(100, seeded(6))
    assert (exam.answers != exam.questions[:, :, 1]).all(), "no answer is its own start"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("0>1\n1>2\n2>0", [0, 1, 1, 2, 2, 0]),
        ("  a > b \n\nb->c\r\nC>A\n", [0, 1, 1, 2, 2, 0]),
        ("15>3, 3>15", [15, 3, 3, 15]),
        ("o>p;p>o", [14, 15, 15, 14]),
    ],
)
def test_typed_graphs_are_read(text: str, tokens: list[int]) -> None:
    context = Depo().encode(text)
    assert context.dtype == torch.int64
    assert context.tolist() == tokens


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Nothing is typed; type one a line, for example 0>1."),
        (" \n , ", "Nothing is typed"),
        ("0 1", "'0 1' is not an edge; type one edge a line, for example 0>1."),
        ("0>1>2", "'0>1>2' is not an edge"),
        ("-1>0", "'-1>0' is not an edge"),
        ("0>1.5", "'0>1.5' is not an edge"),
        ("aa>b", "'aa>b' is not an edge"),
        ("٣>1", "is not an edge"),
        ("0>1\n1>16\n16>0", "There is no node 16; nodes go from 0 to 15."),
        ("a>q\nq>a", "There is no node q; nodes go from a to p."),
        ("0>b\nb>0", "Nodes are either all numbers or all letters; here are both 0 and b."),
        ("0>1\n1>1", "Node 1 points to itself"),
        ("0>1\n1>0\n0>1", "The edge 0>1 stands there twice"),
        ("0>1\n1>3\n3>0\n3>4", "Node 3 has two outgoing edges, to 0 and to 4"),
        ("0>1\n1>0\n2>1", "Node 1 has two incoming edges"),
        ("a>b\nb>c", "Node c has no outgoing edge"),
        ("0>1\n1>0\n2>3\n3>4\n4>2", "that of node 0 has 2 of the 5 edges"),
    ],
)
def test_what_is_no_graph_gets_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        Depo().encode(text)
    assert sentence in str(refused.value)
    assert str(refused.value).endswith(".")


def test_text_that_is_none_and_questions_that_are_none() -> None:
    task = Depo()
    with pytest.raises(TypeError, match="should be text"):
        task.encode(b"0>1")  # type: ignore[arg-type]
    assert task.encode_question(1, 5).tolist() == [16, 5]
    assert task.encode_question(8, "p").tolist() == task.encode_question(8, "15").tolist() == [23, 15]
    for hops, start, error in (
        (0, 1, ValueError),
        (9, 1, ValueError),
        (1, 16, ValueError),
        (True, 1, TypeError),
    ):
        with pytest.raises(error):
            task.encode_question(hops, start)
    for name in ("q", "16", "", "-1", "a b"):
        with pytest.raises(ValueError, match="node"):
            task.encode_question(1, name)


def test_truth_of_a_typed_graph() -> None:
    task = Depo()
    context = task.encode("5>2\n9>5\n2>9")
    truth = task.truth(context)
    assert truth.nodes.tolist() == [2, 5, 9]
    assert truth.successor.tolist() == [9, 2, 5]
    assert truth.answers.shape == (3, 8)
    for node, row in zip(truth.nodes.tolist(), truth.answers.tolist(), strict=True):
        assert row == [answer(context.tolist(), hops, node) for hops in range(1, 9)]
    with pytest.raises(ValueError, match="truth\\(\\) takes one context"):
        task.truth(torch.stack([context, context]))
    with pytest.raises(ValueError, match="Node 5 has no outgoing edge"):
        task.truth(torch.tensor([2, 5]))


def test_questions_of_many_graphs_are_all_of_them() -> None:
    task = Depo(nodes=6, hops=3)
    contexts = task.exam(10, seeded(7)).context
    everything = task.questions(contexts)
    assert everything.questions.shape == (10, 18, 2)
    for context, questions, answers in zip(
        contexts.tolist(), everything.questions.tolist(), everything.answers.tolist(), strict=True
    ):
        assert len({tuple(question) for question in questions}) == 18
        assert answers == [answer(context, hops - 5, start) for hops, start in questions]


def cycles(contexts: torch.Tensor) -> set[tuple[tuple[int, int], ...]]:
    """The graphs of contexts [n, 2m], whatever the order of their edges."""
    return {tuple(sorted(zip(row[0::2], row[1::2], strict=True))) for row in contexts.tolist()}


@pytest.mark.parametrize("window", [None, 8])
def test_exams_of_few_nodes_ask_about_cycles_that_training_never_shows(window: int | None) -> None:
    task = Depo(nodes=8, hops=4, window=window)
    generator = seeded(6)
    trained = cycles(torch.cat([task.lesson(64, generator, 3).tokens[:, :16] for _ in range(1000)]))
    trained |= cycles(task.batch(500, generator).tokens[:, :16])
    examined = cycles(task.exam(20_000, generator).context)
    assert not trained & examined
    assert len(trained | examined) == 5040, "together they are all (8 - 1)! cycles"
    assert 0.09 < len(examined) / 5040 < 0.16


def test_what_is_held_out_is_the_cycle_and_not_the_order_of_its_edges() -> None:
    task = Depo(nodes=9, hops=4)
    contexts = task.exam(50, seeded(7)).context
    assert task.held_out(contexts).all()
    turned = contexts.view(50, 9, 2)[:, torch.randperm(9, generator=seeded(8))].flatten(1)
    assert task.held_out(turned).all()
    assert not task.held_out(task.batch(50, seeded(9)).tokens[:, :18]).any()
