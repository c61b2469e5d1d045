"""Notebook 01's panels on small models of the same shape: live answers, stored rows, and what is said without
them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_grid import SIZES, save, small_grid

from labkit import contrasts, results
from labkit.evaluate import EXAM_SEEDS
from labkit.explore import capacity
from labkit.explore import results as shown
from labkit.explore.grid import Grid, share_by_depth, share_by_place


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with untrained models of the grid, two seeds each, evaluated."""
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    small_grid(tmp_path)
    return tmp_path


def test_the_grid_finds_its_models(data: Path) -> None:
    assert Grid().sizes == {"mqar": [4, 8], "depo": [4, 8, 16]} and Grid().missing() == ""
    assert "grid-mqar-K and grid-depo-K" in Grid(seed=7).missing()
    with pytest.raises(FileNotFoundError, match="grid-mqar-16"):
        Grid().model("mqar", 16)


@pytest.mark.parametrize("task", ["mqar", "depo"])
def test_fresh_answers_are_those_of_the_model_asked_one_by_one(data: Path, task: str) -> None:
    grid = Grid(instances=3)
    fresh = grid.fresh(task, 8, 2)
    model, asked = grid.model(task, 8)
    drawn = asked.exam(3, torch.Generator().manual_seed(2 * EXAM_SEEDS)).context
    exam = asked.questions(drawn)
    for i in range(3):
        state = model.sleep(exam.context[i : i + 1], model.init_state(1), 2)
        for j in range(exam.answers.shape[1]):
            logits, _ = model.wake(exam.questions[i, j][None], state)
            assert bool(logits[0, -1].argmax() == exam.answers[i, j]) == bool(fresh.correct[i, j])
    assert np.isclose(fresh.share, fresh.correct.mean())
    depths, by_depth = share_by_depth(fresh)
    assert depths == list(range(1, asked.max_depth + 1))
    assert np.isclose(by_depth[-1], fresh.correct[:, (exam.depth[0] == depths[-1]).numpy()].mean())
    places, by_place = share_by_place(fresh)
    assert places[-1] == exam.answers.shape[1]
    assert np.isclose(by_place[1], fresh.correct[:, 1].mean())


def test_answers_of_a_memory_that_overflowed_are_wrong(data: Path) -> None:
    grid = Grid(instances=4)
    model, _ = grid.model("depo", 8)
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    assert grid.fresh("depo", 8, 2).share == 0


def test_every_move_draws_new_instances(data: Path) -> None:
    grid = Grid(instances=8)
    first, second = (grid.fresh("depo", 16, 1).correct for _ in range(2))
    assert first.shape == second.shape and not np.array_equal(first, second)


def test_both_knobs_move_the_figures(data: Path) -> None:
    panel = capacity.two_knobs(Grid(instances=4))
    state, passes = panel.controls["state size K"], panel.controls["passes N"]
    again = Grid(instances=4)  # draws what the panel drew, move by move
    kept = {task: again.fresh(task, state.value, 1) for task in ("mqar", "depo")}
    for move in (lambda: setattr(passes, "value", 3), lambda: setattr(state, "value", 8)):
        before, move_it = kept, move
        move_it()
        kept = {task: again.fresh(task, state.value, passes.value) for task in ("mqar", "depo")}
        for task, by in (("mqar", share_by_place), ("depo", share_by_depth)):
            pale, floor, now = panel.figures[task].data
            assert np.allclose(now.y, by(kept[task])[1]) and np.allclose(pale.y, by(before[task])[1])
            assert np.allclose(floor.y, kept[task].task.floor(1))
            assert f"{kept[task].share:.2f} right" in panel.figures[task].layout.title.text
    assert "K = 8" in panel.sentence and "N = 3" in panel.sentence


def test_other_weights_give_another_figure(data: Path) -> None:
    drawn = []
    for _ in range(2):
        panel = capacity.two_knobs(Grid(instances=16))
        drawn.append([panel.figures[task].data[2].y.tolist() for task in ("mqar", "depo")])
        torch.manual_seed(12345)
        for task in SIZES:
            for size in SIZES[task]:
                save(data, task, size, 0)
    assert drawn[0] != drawn[1]


def test_a_size_that_only_one_task_has_leaves_the_other_empty(data: Path) -> None:
    panel = capacity.two_knobs(Grid(instances=2))
    panel.controls["state size K"].value = 16
    assert "no model of this size" in panel.figures["mqar"].layout.title.text
    assert not len(panel.figures["mqar"].data[2].y) and len(panel.figures["depo"].data[2].y)
    assert "MQAR:" not in panel.sentence and "Depo:" in panel.sentence


def test_what_is_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    assert "labkit train grid-mqar-8" in capacity.two_knobs().sentence
    found = capacity.measured()
    assert found == {} and "labkit contrast" in capsys.readouterr().out
    assert capacity.table(found).empty and capacity.agreement(found).empty
    assert capacity.NOTHING in capsys.readouterr().out
    for panel in (capacity.effects(found), capacity.passes_at_each_size(found)):
        assert panel.sentence == capacity.NOTHING and "not there yet" in panel.source


def test_the_guess_comes_back_beside_what_was_measured(data: Path) -> None:
    found = capacity.measured()
    mine = capacity.guess()
    for control, points in zip(mine.controls.values(), (80, 10, 5, 60), strict=True):
        control.value = points
    assert np.allclose(mine.figures["guess"].data[0].x, [0.8, 0.1, 0.05, 0.6])
    assert mine.sentence.startswith("Your guess says: K wins 75 points more on MQAR than on Depo, and N 50 points more")
    panel = capacity.effects(found, mine)
    guessed, truth = panel.figures["effects"].data
    assert np.allclose(guessed.x, [0.8, 0.1, 0.05, 0.6])
    wanted = [found["effects"][task][knob] for task, knob in capacity.EFFECTS]
    assert np.allclose(truth.x, [e["value"] for e in wanted], atol=1e-6)
    assert np.allclose(truth.x + np.array(truth.error_x.array), [e["high"] for e in wanted], atol=1e-6)
    assert list(truth.y) == list(guessed.y) == list(capacity.EFFECTS.values())
    assert panel.sentence == contrasts.verdict(found) and contrasts.FILE in panel.source


def test_table_and_gains_are_those_of_the_stored_rows(data: Path) -> None:
    found = capacity.measured()
    table = capacity.table(found)
    rows = results.read(data / "results" / "grid-mqar-8.csv")
    row = rows[(rows["seed"] == "all") & (rows["passes"] == 4)].iloc[0]
    assert table.loc[("MQAR", 8), "N = 4"] == f"{row.accuracy:.2f} [{row.low:.2f}, {row.high:.2f}]"
    panel = capacity.passes_at_each_size(found)
    mqar, depo = panel.figures["passes-at-each-size"].data
    assert list(mqar.x) == ["4", "8"] and mqar.name == "MQAR" and depo.name == "Depo"
    gains = results.read(data / "results" / "grid-mqar-4.csv")
    gain = gains[(gains["seed"] == "all") & (gains["passes"] == 4)].iloc[0]["vs_one"]
    assert np.isclose(mqar.y[0], gain, atol=1e-5)


def test_live_and_stored_answers_agree_and_would_not_if_they_were_of_other_weights(data: Path) -> None:
    found = capacity.measured()
    rows = capacity.agreement(found, Grid(instances=60))
    assert len(rows) == 5 * 3 and (rows["live"] - rows["stored"]).abs().max() < 0.15
    stored = results.read(data / "results" / "grid-mqar-8.csv")
    stored = stored[(stored["seed"] == "0") & (stored["passes"] == 2)].iloc[0]
    row = rows[(rows["task"] == "MQAR") & (rows["K"] == 8) & (rows["N"] == 2)].iloc[0]
    assert np.isclose(row["stored"], stored["accuracy"], atol=1e-5)
    constant = Grid(instances=60)
    for task, sizes in SIZES.items():
        for size in sizes:
            model, _ = constant.model(task, size)
            model.head.weight.zero_()  # now always answers token 0
    assert (capacity.agreement(found, constant)["live"] != rows["live"]).any()


def test_the_table_by_seed_shows_the_rows(data: Path) -> None:
    table = capacity.by_seed((1, 4))
    for task, title in capacity.TITLES.items():
        rows = results.read(data / "results" / f"grid-{task}-8.csv")
        for row in rows[(rows["seed"] != results.POOLED) & rows["passes"].isin((1, 4))].itertuples():
            assert table.loc[(title, 8, row.seed), (row.passes, row.depth)] == f"{row.accuracy:.2f}"
    assert not len(capacity.by_seed((1,), data / "nowhere"))


def test_figures_of_stored_rows_show_the_rows(data: Path) -> None:
    panel = shown.by_passes("grid-depo-8", "Title")
    rows = results.read(data / "results" / "grid-depo-8.csv")
    for passes in (1, 2, 4):
        drawn = [t.y for t in panel.figures["grid-depo-8-by-passes"].data if t.name == f"N = {passes}"]
        for seed, y in zip(("0", "1", "all"), drawn, strict=True):  # each seed's thin line, then their mean
            wanted = rows[(rows["seed"] == seed) & (rows["passes"] == passes)].sort_values("depth")
            assert np.allclose(y, wanted["accuracy"], atol=1e-6)
    assert "data/results/grid-depo-8.csv" in panel.source and "2 seeds" in panel.source
    passes, n = sorted(set(rows["passes"])), rows.loc[rows["seed"] == "0", "n"].iloc[0]
    asked = f"labkit evaluate grid-depo-8 --passes {' '.join(map(str, passes))} --n {n} --all-seeds"
    assert f"`{asked}`" in panel.source
    both = shown.side_by_side(["grid-depo-8", "grid-depo-nowhere", "grid-depo-4"], "Title")
    assert "grid-depo-8, grid-depo-4" in both.sentence
    with pytest.raises(FileNotFoundError, match="labkit evaluate grid-depo-2"):
        shown.by_passes("grid-depo-2", "Title")
