"""The commands about axes and laws as they are typed: sweep, verdict, search, idle, recover."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from labkit.checkpoints import save_checkpoint
from labkit.cli import app
from labkit.models import SleepConfig, SleepLM
from labkit.tasks import DepoArchive, DepoThinking, NightsThinking, Rule110, Task

from swept import furnish, rows_of


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return furnish(tmp_path, monkeypatch)


def run(line: str) -> Any:
    return CliRunner().invoke(app, line.split())


def test_a_grid_is_swept_then_searched_and_queued(data: Path) -> None:
    told = run("sweep try --workers 1 --quiet")
    assert told.exit_code == 0 and "Training took" in told.stdout and "sweep-try.csv" in told.stdout
    told = run("search tiny --passes 1 --branches 1 4 --n 6 --seed 0")
    assert told.exit_code == 0, told.stderr
    rows = pd.read_csv(data / "results" / "tiny-search.csv")
    assert set(rows["kind"]) == {"one", "samples", "tree", "guess", "majority"} and set(rows["branches"]) == {1, 4}
    told = run("idle tiny --grid try --thought 2")
    assert told.exit_code == 2 and "lack a number of passes; they have [1, 2]" in told.stderr
    told = run("idle tiny --grid try --thought 3")
    assert told.exit_code == 2 and "tiny was not swept at R = 3 in the grid try, but at R = 0, 2." in told.stderr
    told = run("idle tiny --grid tri")
    assert told.exit_code == 2 and "no grid 'tri'" in told.stderr and "nearest known one is 'try'" in told.stderr
    swept = data / "results" / "sweep-try.csv"
    pd.concat([pd.read_csv(swept).assign(checkpoint=name) for name in ("two", "one")]).to_csv(swept, index=False)
    told = run("idle tiny --grid try")
    assert told.exit_code == 2
    assert "tiny was not swept in the grid try; take one that was: one, two." in told.stderr


def test_a_checkpoint_is_mistyped_for_one_that_the_command_measures(data: Path) -> None:
    """Of all there are the nearest may be of no use: the one to tell was trained on what the command asks."""
    tasks: dict[str, Task] = {
        "a": DepoArchive(nodes=6, hops=2, queries=2), "b": NightsThinking(width=2, nights=2, queries=2),
        "c": Rule110(width=8, steps=2), "d": DepoThinking(nodes=6, hops=2, trace="loops"),
    }  # fmt: skip
    for name, task in tasks.items():
        model = SleepLM(SleepConfig(vocab=task.vocab, window=task.window, dim=16, repeat=1))
        save_checkpoint(model, {"task": {"kind": task.name, **task.params}}, name, 0)
    for command, known in (("lookups", "a"), ("nights", "b"), ("fine", "c"), ("search", "a, b")):
        told = run(f"{command} nosuch")
        assert told.exit_code == 2
        assert f"no checkpoint 'nosuch' that this command measures. Known: {known}.\n" in told.stderr, told.stderr
    (data / "checkpoints" / "a-s0.json").write_text("{")
    assert "Known: b.\n" in run("search nosuch").stderr


def test_the_verdict_is_told_and_stored(data: Path) -> None:
    rows = rows_of(lambda n, r: (1.2 + 0.5 * n) * (1 + r), name="think-even-32").assign(weights="w", exam=5000)
    rows.to_csv(data / "results" / "sweep-arms.csv", index=False)
    told = run("verdict")
    assert told.exit_code == 0 and "think-even-32: Compounds:" in told.stdout
    assert "Specialists: not measured. Both: undecided." in told.stdout
    assert pd.read_csv(data / "results" / "verdicts.csv")["verdict"].tolist() == ["compounds"]


def test_the_specialists_of_one_grid_are_not_those_of_another(data: Path) -> None:
    rows = rows_of(lambda n, r: (1.2 + 0.5 * n) * (1 + r)).assign(weights="w", exam=5000)
    corners = [
        rows[(rows["passes"] == n) & (rows["thought"] == r)].assign(checkpoint=f"corner-{'even-' if r else ''}n{n}")
        for n in (1, 4) for r in (0, 2)
    ]  # fmt: skip
    for grid, table in {"arms": rows, "other": rows, "corners": pd.concat(corners)}.items():
        table.to_csv(data / "results" / f"sweep-{grid}.csv", index=False)
    told = run("verdict other")
    assert told.exit_code == 0 and "verdicts-other.csv" in told.stdout and "Specialists: not measured." in told.stdout
    assert "Specialists: not measured." not in run("verdict").stdout
    mistyped = run("verdict --corners corneers")
    assert mistyped.exit_code == 2
    assert "There is no grid 'corneers'" in mistyped.stderr and "nearest known one is 'corners'" in mistyped.stderr


def test_what_is_not_there_is_named(data: Path) -> None:
    for line, sentence in (
        ("sweep tri", "The nearest known one is 'try'"),
        ("sweep nope", "Known: try."),
        ("sweep nope.toml", "There is no grid file nope.toml"),
        ("verdict", "There is no grid 'arms'"),
        ("verdict tri", "The nearest known one is 'try'"),
        ("verdict nope", "Known: try."),
        ("verdict try", "`labkit sweep try` makes them"),
        ("laws nope", "Known: try."),
        ("recover power", "There is no law 'power'; there are additive"),
        ("laws tri", "The nearest known one is 'try'"),
        ("laws try", "`labkit sweep try` makes them"),
        ("search tiny", "There is no checkpoint 'tiny'"),
    ):
        told = run(line)
        assert told.exit_code == 2 and sentence in told.stderr, told.stderr


def test_recovery_of_one_law(data: Path) -> None:
    told = run("recover thought --repeats 3 --quiet")
    assert told.exit_code == 0 and "covered" in told.stdout and not list((data / "results").iterdir())
