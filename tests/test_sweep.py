"""Sweeps: a row for every cell, none measured twice, and the same rows however they were come by."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from filelock import FileLock

from labkit.checkpoints import load, task_of
from labkit.costs import sleep_cost, thought_cost
from labkit.reasoning import reason
from labkit.sweep import CELL, EXAM, load_grid, measure, report, sweep

from swept import GRID, RECIPE, furnish

#: What depends on the machine and the moment.
MEASURED = ["seconds_sleep", "seconds_wake", "train_seconds"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return furnish(tmp_path, monkeypatch)


def alike(rows: pd.DataFrame) -> pd.DataFrame:
    kept = rows.drop(columns=MEASURED).assign(seed=rows["seed"].astype(str), exam=rows["exam"].astype(int))
    return kept.sort_values(list(CELL), ignore_index=True)


def test_every_cell_has_one_row_and_is_measured_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sweep(load_grid("try"), workers=1, progress=False)
    assert len(rows) == 2 * 2 * 2 and not rows[list(CELL)].duplicated().any()
    stored = data / "results" / "sweep-try.csv"
    before = stored.read_bytes()
    monkeypatch.setattr("labkit.sweep.measure", None)  # nothing is left to be measured
    again = sweep(load_grid("try"), workers=1, progress=False)
    assert stored.read_bytes() == before
    pd.testing.assert_frame_equal(alike(again), alike(rows))
    assert "tiny: reach in 3 depths asked, mean of 2 seeds" in report(rows)


def test_what_goes_from_pass_to_pass_is_a_knob(data: Path) -> None:
    (data / "sweeps" / "try.toml").write_text(GRID + 'carry = ["both", "state", "hidden"]\n')
    rows = sweep(load_grid("try"), workers=1, progress=False)
    assert len(rows) == 8 * 3
    right = rows.pivot_table(index=["seed", "passes"], columns="carry", values="right_1", aggfunc="sum")
    one = right.xs(1, level="passes")
    assert (one["both"] == one["state"]).all() and (one["both"] == one["hidden"]).all()  # one pass carries nothing


def test_a_row_says_what_was_measured(data: Path) -> None:
    rows = sweep(load_grid("try"), workers=1, progress=False)
    row = rows[(rows["seed"] == "1") & (rows["passes"] == 2) & (rows["thought"] == 2)].iloc[0]
    model, card = load("tiny", 1)
    task: Any = task_of(card)
    found = reason(model, task, 2, 2, 40, EXAM + 1)
    assert [row[f"right_{d}"] for d in (1, 2, 3)] == list(found.by_depth().values())
    assert row["weights"] == card["sha256"][:12] and row["params"] == card["parameters"]
    assert row["flops_sleep"] == sleep_cost(model.config, task.context, 2).flops
    assert row["bytes_wake"] == thought_cost(model.config, "even", 3, 2).bytes
    assert row["train_flops"] == card["train_flops"]


def test_what_is_missing_is_measured_and_no_more(data: Path) -> None:
    whole = sweep(load_grid("try"), workers=1, progress=False)
    stored = data / "results" / "sweep-try.csv"
    table = pd.read_csv(stored, dtype={"seed": str})
    marked = table.drop(index=[1, 5]).assign(processor="an older machine")
    marked.to_csv(stored, index=False)
    rows = sweep(load_grid("try"), workers=1, progress=False)
    assert (rows["processor"] == "an older machine").sum() == 6
    pd.testing.assert_frame_equal(alike(rows).drop(columns="processor"), alike(whole).drop(columns="processor"))


def test_other_weights_are_another_cell(data: Path) -> None:
    sweep(load_grid("try"), workers=1, progress=False)
    changed = RECIPE.replace("steps = 2", "steps = 3")
    (data / "recipes" / "tiny.toml").write_text(changed)
    for path in (data / "checkpoints").iterdir():
        path.unlink()
    rows = sweep(load_grid("try"), workers=1, progress=False)
    stored = pd.read_csv(data / "results" / "sweep-try.csv")
    assert len(rows) == len(stored) == 8  # rows of weights that are gone leave the table
    assert set(stored["weights"]) == set(rows["weights"])


def workers_of(process: psutil.Process) -> Iterator[psutil.Process]:
    for child in process.children(recursive=True):
        if "resource_tracker" not in " ".join(child.cmdline()):
            yield child


def test_a_killed_worker_loses_no_row(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from labkit import sweep as module

    write, killed = module.write_table, []

    def then_kill(path: Path, rows: pd.DataFrame) -> None:
        write(path, rows)
        if not killed:
            killed.append([os.kill(child.pid, signal.SIGKILL) for child in workers_of(psutil.Process())])

    monkeypatch.setattr(module, "write_table", then_kill)
    with pytest.raises(ChildProcessError, match=r"A worker was killed\. The rows so far are in"):
        sweep(load_grid("try"), workers=1, progress=False)
    kept = pd.read_csv(data / "results" / "sweep-try.csv")
    assert 1 <= len(kept) < 8
    assert len(sweep(load_grid("try"), workers=1, progress=False)) == 8


def test_two_sweeps_do_not_write_one_table(data: Path) -> None:
    with FileLock(data / "results" / ".sweep-try.csv.lock"), pytest.raises(BlockingIOError, match="Another sweep"):
        sweep(load_grid("try"), workers=1, progress=False)


def test_cells_that_are_named_twice_are_measured_once(data: Path) -> None:
    (data / "sweeps" / "try.toml").write_text(GRID + GRID.split("\n", 1)[1].replace("[1, 2]", "[2, 2]"))
    assert len(load_grid("try").cells("tiny", 0)) == 4


def test_a_cell_that_fails_ends_the_sweep_and_what_is_queued(data: Path) -> None:
    (data / "recipes" / "late.toml").write_text(RECIPE.replace("steps = 2", "steps = 100000"))
    sweep(load_grid("try"), workers=1, progress=False)
    (data / "results" / "sweep-try.csv").unlink()
    (data / "checkpoints" / "tiny-s1.safetensors").write_bytes(b"damaged")
    (data / "sweeps" / "try.toml").write_text(GRID.replace('["tiny"]', '["tiny", "late"]'))
    began = time.monotonic()
    with pytest.raises(ValueError, match="tiny-s1"):
        sweep(load_grid("try"), workers=1, progress=False)
    assert time.monotonic() - began < 120  # the long training behind it was not begun, or not gone on with


def test_workers_end_with_their_sweep(data: Path) -> None:
    """A killed sweep leaves no training behind that nobody waits for."""
    (data / "recipes" / "tiny.toml").write_text(RECIPE.replace("steps = 2", "steps = 100000"))
    code = "from labkit.sweep import load_grid, sweep; sweep(load_grid('try'), workers=1, progress=False)"
    with subprocess.Popen([sys.executable, "-c", code]) as run:
        parent, deadline = psutil.Process(run.pid), time.monotonic() + 60
        while not any((data / "checkpoints").glob(".*.training")) and time.monotonic() < deadline:
            time.sleep(0.2)
        children = list(workers_of(parent))
        assert children
        parent.kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


@pytest.mark.slow
def test_dask_gives_the_same_rows_with_a_worker_killed_on_the_way(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distributed
    here = sweep(load_grid("try"), workers=2, progress=False)
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        from labkit import sweep as module

        write, killed = module.write_table, []
        pids = [worker.process.pid for worker in cluster.workers.values()]

        def then_kill(path: Path, rows: pd.DataFrame) -> None:
            write(path, rows)
            if len(rows) == 2 and not killed:
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])

        monkeypatch.setattr(module, "write_table", then_kill)
        out = data / "results" / "dask.csv"
        rows = sweep(load_grid("try"), out, scheduler=cluster.scheduler_address, progress=False)
        assert killed and not psutil.pid_exists(killed[0])
    pd.testing.assert_frame_equal(alike(rows), alike(here))


@pytest.mark.slow
def test_a_scheduler_without_workers_is_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed

    from labkit import sweep as module

    monkeypatch.setattr(module, "WAIT", 0.5)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster,
        pytest.raises(TimeoutError, match=r"has no workers; start some with `dask worker`"),
    ):
        sweep(load_grid("try"), scheduler=cluster.scheduler_address, progress=False)


def test_rows_come_while_models_are_still_in_training(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "recipes" / "late.toml").write_text(RECIPE.replace("steps = 2", "steps = 60"))
    sweep(load_grid("try"), workers=1, progress=False)  # trains "tiny"
    (data / "results" / "sweep-try.csv").unlink()
    (data / "sweeps" / "try.toml").write_text(GRID.replace('["tiny"]', '["late", "tiny"]'))
    from labkit import sweep as module

    write, seen = module.write_table, []

    def look(path: Path, rows: pd.DataFrame) -> None:
        write(path, rows)
        seen.append((set(rows["checkpoint"]), (data / "checkpoints" / "late-s1.json").is_file()))

    monkeypatch.setattr(module, "write_table", look)
    sweep(load_grid("try"), workers=1, progress=False)
    assert seen[0] == ({"tiny"}, False)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("n = 40", "n = 0"), "grid.0.n: Input should be greater than or equal to 1"),
        (("passes = [1, 2]", "passes = []"), "grid.0.passes: List should have at least 1 item"),
        (("n = 40", "m = 40"), "grid.0.m: Extra inputs are not permitted"),
        (('"tiny"]', '"tinny"]'), "There is no recipe 'tinny'"),
        (("thought = [0, 2]", "thought = [0, 4]"), "a question of tiny has at most 3 steps of thought"),
        (("thought = [0, 2]", 'asked = ["before"]'), "needs a task such as depo-foretold, and tiny is trained on depo"),
        (("[[grid]]", "[[grid"), "is not valid TOML"),
    ],
)
def test_a_bad_grid_is_refused_in_a_sentence(data: Path, change: tuple[str, str], sentence: str) -> None:
    (data / "sweeps" / "try.toml").write_text(GRID.replace(*change))
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        load_grid("try")
    assert sentence in str(refused.value)


def test_an_unknown_grid_and_a_model_without_thought_are_refused(data: Path) -> None:
    with pytest.raises(FileNotFoundError, match="The nearest known one is 'try'"):
        load_grid("tr")
    (data / "recipes" / "plain.toml").write_text(
        RECIPE.replace("-thinking", "").replace('trace = "even"\n', "").replace("thought = [0, 3]\n", "")
    )
    from labkit.recipes import load_recipe
    from labkit.train import train

    train(load_recipe("plain"), 0, progress=False)
    with pytest.raises(ValueError, match="trained on tasks with thought, and plain was not"):
        measure("plain", 0, data / "checkpoints", passes=1, thought=0, n=4)
