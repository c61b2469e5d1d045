"""Rule 110: bits against a solver that looks neighbourhoods up as text; the split by rotation; typed rows."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
import torch

from labkit.tasks import IGNORE, Rule110

# Wolfram's table of rule 110: the new cell for each neighbourhood of left, cell, right.
TABLE = {"111": "0", "110": "1", "101": "1", "100": "0", "011": "1", "010": "1", "001": "1", "000": "0"}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def after(row: str, steps: int) -> str:
    for _ in range(steps):
        ring = row[-1] + row + row[0]
        row = "".join(TABLE[ring[i : i + 3]] for i in range(len(row)))
    return row


def rotation_class(row: str) -> str:
    return min(row[i:] + row[:i] for i in range(len(row)))


def texts(rows: torch.Tensor) -> list[str]:
    return ["".join(map(str, row)) for row in rows.tolist()]


@pytest.mark.parametrize(
    "task",
    [
        Rule110(),
        Rule110(width=5, steps=3, strings=4, queries=30),
        Rule110(width=24, steps=32, queries=4),
        Rule110(width=4, steps=1, queries=9),
    ],
    ids=repr,
)
def test_labels_are_what_the_solver_finds(task: Rule110) -> None:
    generator = seeded(0)
    batches = [
        task.batch(15, generator),
        task.lesson(15, generator, 1),
        task.lesson(15, generator, task.steps),
    ]
    width, strings = task.width, task.strings
    checked = 0
    for batch in batches:
        assert batch.context == strings * (width + 1) and batch.window == width + 1
        for tokens, labels, depth in zip(
            batch.tokens.tolist(), batch.labels.tolist(), batch.depth.tolist(), strict=True
        ):
            rows = []
            for r in range(strings):
                window = tokens[r * (width + 1) : (r + 1) * (width + 1)]
                assert window[0] == 2 + r
                rows.append("".join(map(str, window[1:])))
            expected, depths = [IGNORE] * len(tokens), [0] * len(tokens)
            for at in range(batch.context, len(tokens), 4):
                r, t, c = (
                    tokens[at] - 2,
                    tokens[at + 1] - 1 - strings,
                    tokens[at + 2] - 2 - strings - task.steps,
                )
                assert 0 <= r < strings and 1 <= t <= task.steps and 0 <= c < width
                expected[at + 2], depths[at + 2] = int(after(rows[r], t)[c]), t
                checked += 1
            assert labels == expected
            assert depth == depths
    assert checked == 3 * 15 * task.queries


def test_exam_asks_the_whole_picture() -> None:
    task = Rule110(width=6, steps=3, strings=2)
    exam = task.exam(30, seeded(1))
    assert exam.questions.shape == (30, 2 * 3 * 6, 3)
    for context, questions, answers, depth in zip(
        exam.context.tolist(),
        exam.questions.tolist(),
        exam.answers.tolist(),
        exam.depth.tolist(),
        strict=True,
    ):
        rows = ["".join(map(str, context[r * 7 + 1 : r * 7 + 7])) for r in range(2)]
        places = list(product(range(2), range(1, 4), range(6)))
        assert questions == [[2 + r, 4 + t - 1, 4 + 3 + c] for r, t, c in places]
        assert depth == [t for _, t, _ in places]
        assert answers == [int(after(rows[r], t)[c]) for r, t, c in places]


@pytest.mark.parametrize("task", [Rule110(width=9), Rule110(width=7, strings=3), Rule110(width=30)], ids=repr)
def test_no_row_of_an_exam_is_a_rotation_of_a_training_row(task: Rule110) -> None:
    def rows_of(tokens: torch.Tensor) -> list[str]:
        windows = tokens[:, : task.context].reshape(-1, task.width + 1)
        return texts(windows[:, 1:])

    trained = rows_of(task.batch(1000, seeded(2)).tokens) + rows_of(task.lesson(1000, seeded(3), 1).tokens)
    tested = rows_of(task.exam(500, seeded(4)).context)
    assert {rotation_class(row) for row in trained}.isdisjoint({rotation_class(row) for row in tested})
    assert all(task.held_out(row) for row in tested[:50])
    assert not any(task.held_out(row) for row in trained[:50])


@pytest.mark.parametrize("width", range(4, 11))
def test_all_rotations_of_a_row_lie_on_one_side_and_both_sides_are_drawn_from_evenly(width: int) -> None:
    task = Rule110(width=width, steps=1)
    rows = ["".join(bits) for bits in product("01", repeat=width)]
    out = {row for row in rows if task.held_out(row)}
    assert 0 < len(out) < len(rows)
    classes = {rotation_class(row) for row in out}
    assert out == {row for row in rows if rotation_class(row) in classes}
    # Every row of its side turns up, none far more often than the others.
    exam = Counter(texts(task.exam(100 * len(out), seeded(5)).context[:, 1:]))
    assert exam.keys() == out
    assert min(exam.values()) > 50 and max(exam.values()) < 150
    if width <= 7:
        trained = Counter(texts(task.batch(100 * (len(rows) - len(out)), seeded(6)).tokens[:, 1 : 1 + width]))
        assert trained.keys() == set(rows) - out
        assert min(trained.values()) > 50 and max(trained.values()) < 150


def test_the_share_held_out_at_16_cells_is_what_the_docstring_says() -> None:
    task = Rule110()
    names: set[str] = set()
    size: Counter[str] = Counter()
    for number in range(2**16):
        name = rotation_class(f"{number:016b}")
        names.add(name)
        size[name] += 1
    assert len(names) == 4116
    out = [name for name in names if task.held_out(name)]
    assert len(out) == 540 and sum(size[name] for name in out) == 8584
    text = " ".join((Rule110.__doc__ or "").split())
    assert "of 16 cells 540 of the 4,116 classes, or 8,584 of the 65,536 rows" in text


def test_floor_is_the_share_of_the_more_common_bit_in_held_out_rows() -> None:
    task = Rule110(width=8, steps=4)
    out = [row for row in ("".join(bits) for bits in product("01", repeat=8)) if task.held_out(row)]
    for step in range(1, 5):
        ones = sum(after(row, step).count("1") for row in out) / (8 * len(out))
        assert task.floor(step) == pytest.approx(max(ones, 1 - ones), abs=1e-12)
        assert task.chance(step) == 0.5


def test_floor_of_wide_rows_agrees_with_a_sample_of_its_own() -> None:
    task = Rule110(width=20, steps=2)
    exam = task.exam(3000, seeded(7))
    for step in (1, 2):
        ones = exam.answers[exam.depth == step].double().mean().item()
        assert abs(task.floor(step) - max(ones, 1 - ones)) < 0.02


def test_pictures() -> None:
    task = Rule110(width=8, steps=5)
    row = "00010011"
    picture = task.picture(row)
    assert texts(picture) == [after(row, t) for t in range(6)]
    assert torch.equal(task.picture(torch.tensor([int(bit) for bit in row])), picture)
    assert torch.equal(task.picture(torch.tensor([bit == "1" for bit in row])), picture)
    for wrong, error, sentence in (
        ("0001001", ValueError, "has 7 cells; it should have 8"),
        ("0001001x", ValueError, "'x' is no cell"),
        (torch.zeros(7, dtype=torch.int64), ValueError, "has the shape"),
        (torch.full((8,), 2), ValueError, "other than 0 and 1"),
        (torch.zeros(8), TypeError, "whole numbers"),
        ([0] * 8, TypeError, "whole numbers"),
    ):
        with pytest.raises(error, match=sentence):
            task.picture(wrong)  # type: ignore[arg-type]


def test_typed_rows_are_read() -> None:
    assert Rule110(width=5).encode(" 01101\n").tolist() == [2, 0, 1, 1, 0, 1]
    two = Rule110(width=4, strings=2).encode("0001\n\n1110")
    assert two.dtype == torch.int64 and two.tolist() == [2, 0, 0, 0, 1, 3, 1, 1, 1, 0]
    task = Rule110(width=4, steps=3, strings=2)
    assert task.encode_question(1, 0).tolist() == [2, 4, 7]
    assert task.encode_question(3, 3, string=1).tolist() == [3, 6, 10] and task.vocab == 11


@pytest.mark.parametrize(
    ("strings", "text", "sentence"),
    [
        (1, "", "Type one row of 5 characters 0 and 1, each on a line of its own; here are 0."),
        (1, "01010\n01010", "here are 2."),
        (2, "01010", "Type 2 rows of 5 characters"),
        (1, "0101", "The row 0101 has 4 cells; it should have 5."),
        (1, "010101", "The row 010101 has 6 cells; it should have 5."),
        (1, "01012", "'2' is no cell; a row consists of 0 and 1 only."),
        (1, "0 101", "' ' is no cell"),
        (1, "0101١", "is no cell"),
    ],
)
def test_what_is_no_row_gets_a_sentence(strings: int, text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        Rule110(width=5, strings=strings).encode(text)
    assert sentence in str(refused.value)


def test_text_that_is_none_and_questions_that_are_none() -> None:
    task = Rule110(width=5, steps=2)
    with pytest.raises(TypeError, match="typed as text"):
        task.encode(1010)  # type: ignore[arg-type]
    for question in ((0, 0, 0), (3, 0, 0), (1, 5, 0), (1, -1, 0), (1, 0, 1)):
        with pytest.raises(ValueError, match="it should be a whole number"):
            task.encode_question(*question)
    swapped = Rule110(width=4, strings=2).encode("0001\n1110").view(2, 5).flip(0).flatten()
    with pytest.raises(ValueError, match="starts with the token of its string"):
        Rule110(width=4, strings=2).questions(swapped)
