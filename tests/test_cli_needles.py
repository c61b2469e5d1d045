"""The commands about needles as they are typed: haystack, stream, long-run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import needle_models
import pandas as pd
import pytest
from typer.testing import CliRunner

from labkit import stream
from labkit.cli import app


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of our own with the untrained checkpoints `lmm` s0 and s1 and `window` s0."""
    for room in ("recipes", "results"):
        (tmp_path / room).mkdir()
    needle_models.save(tmp_path / "checkpoints", "lmm")
    needle_models.save(tmp_path / "checkpoints", "window", (0,))
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    monkeypatch.setattr(stream, "ASKED_AFTER", (2, 6))
    return tmp_path


def run(line: str) -> Any:
    return CliRunner().invoke(app, line.split())


def test_haystack_asks_every_seed_and_adds_to_its_table(data: Path) -> None:
    first = run("haystack lmm --length 128 256 --variant passkey --n 3 --quiet")
    assert first.exit_code == 0 and "seed 0, 1: 3 haystacks for each seed" in first.stdout
    assert run("haystack lmm --length 128 --variant word --seed 1 --n 3 --quiet").exit_code == 0
    rows = pd.read_csv(data / "results" / "lmm-haystack.csv")
    assert len(rows) == 2 * 3 + 1 and set(rows["variant"]) == {"passkey", "word"}


def test_stream_reads_or_looks_up(data: Path) -> None:
    for option, kind in (("", "stream"), ("--archive", "archive")):
        told = run(f"stream window --n 1 --quiet {option}")
        assert told.exit_code == 0 and "accuracy" in told.stdout
        rows = pd.read_csv(data / "results" / f"window-{kind}.csv")
        assert set(rows["archive"]) == {kind == "archive"} and set(rows["age"]) == {"1", "2 to 3", "4 to 7"}


def test_a_long_run_of_some_tokens(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = run("long-run lmm --tokens 2000 --quiet")
    assert told.exit_code == 2 and "16 facts take 1024 tokens, so the first mark must not come" in told.stderr
    from labkit import long_run

    monkeypatch.setattr(long_run, "MARKS", (0.6, 1.0))
    told = run("long-run lmm --tokens 2000 --seed 1 --quiet")
    assert told.exit_code == 0 and "tokens_per_second" in told.stdout
    assert pd.read_csv(data / "results" / "lmm-long-run.csv")["tokens"].tolist() == [1200, 2000]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("haystack lmm --out rows.txt", "--out must end in .csv"),
        ("haystack lmm --variant passkeys", "it should be one of passkey, number, word"),
        ("stream nobody", "no checkpoint 'nobody' that this command measures. Known: lmm, window."),
        ("haystack lmn", "no checkpoint 'lmn' that this command measures. The nearest known one is 'lmm'."),
        ("long-run windw", "no checkpoint 'windw' that this command measures. The nearest known one is 'window'."),
        ("bits lmn", "no checkpoint 'lmn' in "),  # none of these was trained on text
        ("haystack lmm --folder elsewhere", "name a table with --out"),
    ],
)
def test_mistakes_end_with_a_sentence(data: Path, line: str, sentence: str) -> None:
    told = run(line)
    assert told.exit_code == 2 and sentence in told.stderr and "Traceback" not in told.stderr
