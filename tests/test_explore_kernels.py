"""The panels of notebook 08: what they draw is what the rows and this machine say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from labkit.bench import Roof
from labkit.explore import kernel_live, kernel_speed

FORMS = list(kernel_speed.LOOKS)


def rows_of(lengths: tuple[int, ...] = (64, 256, 1024)) -> pd.DataFrame:
    """Rows as of `labkit bench delta`: the i-th form takes i + 1 times as long as the last, which is linear in T."""
    found = []
    for t in lengths:
        for i, name in enumerate(FORMS):
            ratio = len(FORMS) - i
            found.append({"candidate": name, "length": t, "seconds": ratio * t / 1e5, "ratio": ratio})
    same = {"processor": "a processor", "threads": 2, "batch": 4, "heads": 4, "width": 64, "repeats": 3}
    return pd.DataFrame(found).assign(**same)


def test_the_ratios_come_after_the_guesses_and_are_not_told_before() -> None:
    panel = kernel_speed.speed(rows_of())
    first, second, truth, length = panel.controls.values()
    *lines, _, dots, guessed, yours = panel.figures["kernel-speed"].data
    first.value = 3
    for t, guess in ((64, 3), (256, None), (1024, 2)):
        length.value = t
        told = f"; you say that token by token takes {guess} times as long" if guess else ""
        assert panel.sentence.endswith(f" ms{told}. Turn “what was measured” once your guesses are set.")
        assert [len(line.y) for line in lines] == [0, 0, 0, 0, 3] and np.isnan(dots.x).all()
    second.value = 4
    np.testing.assert_allclose(guessed.x, [6, 10])
    np.testing.assert_allclose(guessed.y, [3 * 0.64, 4 * 10.24], rtol=1e-5)
    assert list(yours.x) == [4]
    length.value, truth.value = 64, True
    assert "token by token takes 5 times as long as the fast chunks, where you guessed 3" in panel.sentence
    assert [len(line.y) for line in lines] == [3] * 5 and list(yours.x) == [3]


def test_speed_shows_the_rows_of_the_length_that_is_chosen_and_the_guess() -> None:
    panel = kernel_speed.speed(rows_of())
    _, guess, truth, length = panel.controls.values()
    truth.value, length.value, guess.value = True, 1024, 7
    assert "T = 1,024: fast chunks take 10.2 ms" in panel.sentence and "where you guessed 7" in panel.sentence
    *lines, mark, dots, _, yours = panel.figures["kernel-speed"].data
    assert [line.name for line in lines] == [told for told, _ in kernel_speed.LOOKS.values()]
    np.testing.assert_allclose(lines[-1].y, [0.64, 2.56, 10.24], rtol=1e-5)
    assert list(dots.x) == [5, 4, 3, 2, 1] and list(yours.x) == [7] and list(mark.x) == [10, 10]
    length.value = 256
    assert "guess" not in panel.sentence and np.isnan(yours.x).all()


def test_a_form_that_was_not_timed_at_a_length_is_left_out() -> None:
    rows = rows_of()
    rows = rows[(rows["candidate"] != "labkit recurrent") | (rows["length"] < 1000)]
    panel = kernel_speed.speed(rows)
    panel.controls["T (tokens)"].value, panel.controls["what was measured"].value = 1024, True
    assert "token by token was not timed at this length. " in panel.sentence
    dots = panel.figures["kernel-speed"].data[-3]
    assert np.isnan(dots.x[0]) and list(dots.x[1:]) == [4, 3, 2, 1]


def test_growth_is_told_with_its_interval() -> None:
    assert kernel_speed.growth_of(rows_of(), "labkit", 64) == "1.00 [1.00, 1.00]"


def test_chunk_sizes_names_the_fastest() -> None:
    rows = [
        {"form": form, "chunk": chunk, "length": 256, "seconds": (1 + abs(chunk - 32)) * slow / 1e6, "peak_mib": 1.0}
        for form, slow in (("labkit plain", 512), ("labkit", 256)) for chunk in (16, 32)
    ]  # fmt: skip
    panel = kernel_speed.chunk_sizes(pd.DataFrame(rows))
    assert "plain chunks are fastest with C = 32, 2 µs a token; fast chunks are fastest with C = 32" in panel.sentence
    assert list(panel.figures["kernel-chunks"].data[0].x) == [0, 1]


def test_missing_rows_name_their_command(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="`labkit bench delta` makes them"):
        kernel_speed.stored_speed()


@pytest.mark.parametrize("size", [8, 64])
def test_squaring_is_right_on_random_keys_and_worthless_on_equal_ones(size: int) -> None:
    squared, solved = kernel_live.squaring_errors(size, alike=0.0)
    assert max(squared + solved) < 1e-5
    squared, solved = kernel_live.squaring_errors(size, alike=1.0)
    assert max(solved) < 1e-4 and (squared[-1] > 1e10 if size == 64 else squared[-1] < 1)
    lower = torch.randn(16, 16, dtype=torch.float64).tril(-1) / 4
    torch.testing.assert_close(kernel_live.by_squaring(lower) @ (torch.eye(16) + lower), torch.eye(16).double())


def test_the_inverse_follows_its_sliders() -> None:
    panel = kernel_live.inverse()
    alike, size = panel.controls.values()
    assert "C = 64, keys 0 % alike" in panel.sentence
    alike.value = 100
    squared, solved = panel.figures["kernel-inverse"].data
    assert squared.y[-1] > 1e10 > 1e-4 > solved.y[-1]
    size.value = 8
    assert squared.y[-1] < 1 and "C = 8" in panel.sentence


def test_time_is_shared_out_whole_and_the_recurrence_has_few_products() -> None:
    a = torch.randn(400, 400)
    products = kernel_live._by_kind(lambda: [a @ a for _ in range(20)])
    assert products["matrix products"] > 0.8 * sum(products.values())
    panel = kernel_live.where_time_goes(length=64)
    fig = panel.figures["kernel-time"]
    total = np.sum([bar.x for bar in fig.data], axis=0)
    share = np.array(fig.data[0].x) / total
    assert share[0] < share[2] and total[0] > total[2]  # token by token, and fast chunks


def test_nobody_is_above_the_roof() -> None:
    row = {"candidate": "labkit", "flops": 2e9, "bytes": 1e8, "seconds": 0.1, "roofline": 0.2}
    panel = kernel_live.roofline(Roof(1e11, 1e10), [row, {**row, "candidate": "someone else"}])
    roof, dot = panel.figures["kernel-roofline"].data
    assert (dot.x[0], dot.y[0]) == (20, 20) and max(roof.y) == 100 and min(roof.y) == pytest.approx(1)
    assert "multiplies at 100 GFLOP/s and copies at 10 GB/s" in panel.sentence and "fast chunks 20.0%" in panel.sentence
