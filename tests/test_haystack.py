"""Recall by length of the haystack: what is asked, what is counted, what is kept."""

from __future__ import annotations

from pathlib import Path

import needle_models
import pytest
import torch

from labkit import Session
from labkit import haystack as hay
from labkit.checkpoints import load
from labkit.evaluate import EXAM_SEEDS
from labkit.tasks import Needle


def test_rows_count_the_answers_of_sessions(tmp_path: Path) -> None:
    """Each row once more by hand: one session for each haystack, and its needle asked."""
    folder = needle_models.save(tmp_path, "lmm")
    rows = hay.haystack("lmm", (0, 1), lengths=(128, 256), variants=("number",), n=6, folder=folder)
    assert list(zip(rows["length"], rows["seed"].astype(str), strict=True)) == [
        (length, seed) for length in (128, 256) for seed in ("0", "1", "all")
    ]
    for seed in (0, 1):
        model, _ = load("lmm", seed, folder)
        exam = Needle(256, 1, "number", window=64).exam(6, torch.Generator().manual_seed(EXAM_SEEDS + seed))
        right = 0
        for context, question, answer in zip(exam.context, exam.questions[:, 0], exam.answers[:, 0], strict=True):
            session = Session(model, passes=1)
            session.observe(context)
            right += int(session.ask(question)[-1].argmax() == answer)
        row = rows[(rows["length"] == 256) & (rows["seed"].astype(str) == str(seed))].iloc[0]
        assert (row["correct"], row["n"], row["trained"]) == (right, 6, 128)
        assert row["low"] <= row["accuracy"] == right / 6 <= row["high"]


def test_the_control_writes_nothing_and_has_rows_of_its_own(tmp_path: Path) -> None:
    folder, path = needle_models.save(tmp_path, "lmm", (0,)), tmp_path / "rows.csv"
    for writes in (True, False):
        rows = hay.haystack("lmm", (0,), lengths=(128,), variants=("number",), n=4, writes=writes, folder=folder)
        hay.store(rows, path)
    assert hay.read(path)["writes"].tolist() == [False, True] and "nothing written" in hay.report(rows)
    model, _ = load("lmm", 0, folder)
    hay.never_write(model)
    session = Session(model, passes=1)
    session.observe(torch.arange(64) % 5)
    weights, velocity = session.state.fast[:2], session.state.fast[2:4]
    assert all(not t.any() for t in velocity) and weights[0].any()
    with pytest.raises(ValueError, match="N = 0 is the control"):
        hay.haystack("window", (0,), writes=False, folder=needle_models.save(tmp_path / "w", "window", (0,)))


def test_a_table_keeps_what_was_not_asked_again(tmp_path: Path) -> None:
    folder, path = needle_models.save(tmp_path, "window", (0,)), tmp_path / "rows.csv"
    for lengths, n in (((128,), 4), ((256,), 4), ((128,), 5)):
        hay.store(hay.haystack("window", (0,), lengths=lengths, variants=("word",), n=n, folder=folder), path)
    rows = hay.read(path)
    assert rows[["length", "n"]].to_numpy().tolist() == [[128, 5], [256, 4]]
    assert "5 haystacks" in hay.report(rows) and "word" in hay.report(rows)


def test_what_has_no_needles_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import untrained

    untrained.furnish(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="needles can be asked only of models trained on them"):
        hay.haystack("depo-elastic", (0,))
    with pytest.raises(FileNotFoundError, match="`labkit haystack` makes them"):
        hay.read(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no table of `labkit haystack`"):
        hay.read(tmp_path / "other.csv")
