"""The panels about widths, laws, questions, lessons, nights, look-ups and budgets draw what their rows say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from labkit.checkpoints import save_checkpoint
from labkit.cli import app
from labkit.explore import axes, law_panels, lookup_panels, night_panels, planning
from labkit.explore.panel import Panel
from labkit.laws.verdict import contest
from labkit.models import SleepConfig, SleepLM
from labkit.nights import WAYS

from swept import empty_rooms, rows_of

NAMES = {"think-even-32": 1000, "think-even-48": 2000, "think-even-64": 4000}


def reached(n: int, r: int, params: int = 1000) -> float:
    return min(11.4, (1.0 + 0.3 * n + params / 4000) * (1 + r))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty_rooms(tmp_path, monkeypatch)


@pytest.fixture
def swept(data: Path) -> pd.DataFrame:
    """Three widths, swept and fitted; thought alone that goes further; and a majority of chains."""
    extra = {"weights": "w", "exam": 5000}
    sizes = pd.concat(
        [rows_of(lambda n, r, p=p: reached(n, r, p), seeds=3, name=name).assign(params=p) for name, p in NAMES.items()]
    ).assign(**extra)
    sizes = sizes.assign(flops_sleep=sizes["flops_sleep"] * sizes["params"], flops_wake=sizes["flops_wake"] * 1000)
    sizes.to_csv(data / "results" / "sweep-sizes.csv", index=False)
    sizes[sizes["params"] == 1000].to_csv(data / "results" / "sweep-arms.csv", index=False)
    far = sizes[(sizes["passes"] == 1) & (sizes["thought"] == 2) & (sizes["params"] == 1000)]
    far = far.assign(checkpoint="think-long-32", thought=5, flops_wake=60_000)
    far.to_csv(data / "results" / "sweep-long.csv", index=False)
    many = far.assign(checkpoint="think-even-32", kind="majority", branches=4, judge_error=0.0, thought=1)
    many.to_csv(data / "results" / "think-even-32-search.csv", index=False)
    assert CliRunner().invoke(app, ["laws"]).exit_code == 0
    return axes.swept("sizes")


def traces(panel: Panel, name: str) -> dict[str, object]:
    return {trace.name: trace for trace in panel.figures[name].data if trace.fill is None}


def test_each_knob_is_drawn_from_its_own_edge_of_the_grid(swept: pd.DataFrame) -> None:
    panel = lookup_panels.shapes(swept)
    lines = traces(panel, "axes-shapes")
    mean = swept[(swept["params"] == 1000) & (swept["thought"] == 0) & (swept["passes"] <= 4)]
    np.testing.assert_allclose(lines["passes N"].y, mean.groupby("passes")["error"].mean(), rtol=1e-5)
    assert list(lines["weights"].x) == [1, 2, 4] and list(lines["strides 1 + R"].x) == [1, 2, 3]
    before = np.array(lines["weights"].y)
    panel.controls["the other two knobs are"].value = "high"
    assert (np.array(lines["weights"].y) < before).all()


def test_laws_are_drawn_as_they_are_stored(swept: pd.DataFrame, data: Path) -> None:
    panel = law_panels.fitted(swept)
    panel.controls["law"].value = "multiplicative"
    panel.controls["weights of the model"].value = 2000
    curves = pd.read_csv(data / "results" / "laws-sizes-curves.csv")
    own = curves[(curves["law"] == "multiplicative") & (curves["params"] == 2000) & (curves["thought"] == 1)]
    drawn = traces(panel, "compound-laws")
    np.testing.assert_allclose(drawn["law, R = 1"].y, own["predicted"], rtol=1e-5)
    seen = swept[(swept["params"] == 2000) & (swept["thought"] == 1)].groupby("passes")["error"].mean()
    np.testing.assert_allclose(drawn["measured, R = 1"].y, seen, rtol=1e-5)
    assert (own["low"] <= own["predicted"]).all() and (own["predicted"] <= own["high"]).all()
    assert panel.sentence.startswith("multiplicative: fitted to the cheap six tenths of all cells it is off by 0.")


def test_the_contest_is_drawn_by_questions(swept: pd.DataFrame) -> None:
    rows = axes.swept()
    panel = law_panels.contests(rows)
    drawn = traces(panel, "compound-contest")["lead of the best mix"]
    wanted = [contest(rows[rows["passes"] <= 4], q, axes.thinkers()).value for q in law_panels.QUESTIONS]
    np.testing.assert_allclose(drawn.y, wanted, rtol=1e-5)
    assert "ahead from " in panel.sentence


def test_the_planner_tells_my_split_and_the_best_one(swept: pd.DataFrame) -> None:
    panel = planning.planner(swept)
    table = planning.cells(swept)
    assert len(table) == 3 * 3 * 3 + 2 and table["predicted"].notna().sum() == 27  # not of what only thinks
    panel.controls["size (weights)"].value = 2000
    panel.controls["sleep passes N"].value, panel.controls["steps of thought R"].value = 2, 1
    mine = table[(table["params"] == 2000) & (table["passes"] == 2) & (table["thought"] == 1)].iloc[0]
    law = planning.best_law()[0]
    assert f"{mine['interval'].told('')} right; the {law} law says {mine['predicted']:.2f}" in panel.sentence
    panel.controls["budget (million operations)"].value = 0.3
    assert "My split costs 0.41 million, over the budget" in panel.sentence
    cost = (table["flops_sleep"] + table["flops_wake"]) / 1e6
    best = table.loc[table[cost <= 0.3]["share"].idxmax()]
    assert panel.sentence.endswith(f"{best['interval'].told('')} right.")
    assert len(traces(panel, "compound-planner")["too dear"].x) == (cost > 0.3).sum()
    panel.controls["search, majority of B"].value = 16
    assert "My split was not measured" in panel.sentence


def test_tokens_of_lessons_are_read_off_cards(data: Path) -> None:
    torch.manual_seed(0)
    model = SleepLM(SleepConfig(vocab=5, window=4, dim=8, repeat=1, heads=1))
    for name, curve in (("corner-n4", [[10, 0.95], [50, 0.95, 0.95]]), ("corner-even-n4", [[5, 0.95, 0.95]])):
        metrics = {"lesson_accuracy": [0.0, 0.0], "curve": curve}
        card = {"task": {}, "recipe": {}, "steps": 100, "train_tokens": 10**8, "metrics": metrics}
        for seed in (0, 1):
            save_checkpoint(model, card, name, seed)
    panel = law_panels.lessons()
    drawn = traces(panel, "compound-lessons")
    assert list(drawn["without thought"].y) == [10, 50, 10, 50] and list(drawn["two waypoints"].y) == [5, 5, 5, 5]
    assert panel.sentence.startswith("Hop 2 is known to 2 seeds with waypoints and to 2 of these without")
    assert "it takes 10.0 times more tokens without" in panel.sentence


def test_lessons_tell_the_hop_at_which_steps_save_most(data: Path) -> None:
    """Beyond it the end of training cuts the factor off."""
    torch.manual_seed(0)
    model = SleepLM(SleepConfig(vocab=5, window=4, dim=8, repeat=1, heads=1))
    written = [[5, 0.95], [10, 0.95, 0.95], [40, 0.95, 0.95, 0.95]]
    for name, curve in (("corner-n4", [[10, 0.95]]), ("corner-even-n4", written)):
        metrics = {"lesson_accuracy": [0.0] * 3, "curve": [[step, *shares, *[0.0] * (3 - len(shares))]
                                                           for step, *shares in curve]}  # fmt: skip
        card = {"task": {}, "recipe": {}, "steps": 100, "train_tokens": 10**8, "metrics": metrics}
        for seed in (0, 1):
            save_checkpoint(model, card, name, seed)
    told = law_panels.lessons().sentence
    assert told.startswith("Hop 2 is known to 2 seeds with waypoints and to 0 of these without")
    assert "at least 10.0 times more" in told


def told_by_night(data: Path) -> pd.DataFrame:
    found = []
    for notes, wrong in WAYS:
        for seed in range(3):
            for night in (1, 2, 3):
                right = 100 - 20 * night * (notes == "none") - seed
                found.append({"checkpoint": "nights-32", "seed": seed, "weights": "w", "passes": 1, "written": 1,
                              "thought": 1, "misnoted": 50 * (wrong > 0), "misled": 10 + seed,
                              "unmoved": 5, "notes": notes, "wrong": wrong, "night": night, "n": 20, "asked": 100,
                              **{f"right_{hops}": right for hops in range(1, night + 1)}})  # fmt: skip
    rows = pd.DataFrame(found)
    answered = rows[(rows["notes"] == "own")].assign(thought=0, right_3=40)  # with no step, after notes with one
    pd.concat([rows, answered]).to_csv(data / "results" / "nights-32-by-night.csv", index=False)
    return rows


def test_nights_are_drawn_way_by_way(data: Path) -> None:
    told_by_night(data)
    rows = night_panels.nightly()
    panel = night_panels.nights(rows)
    drawn = traces(panel, "compound-nights")
    np.testing.assert_allclose(drawn["facts alone"].y, [0.21, 0.41, 0.61], atol=1e-6)
    np.testing.assert_allclose(drawn["own thoughts"].y, [0.01] * 3, atol=1e-6)
    assert panel.sentence.startswith("Wrong after the last night: facts alone 0.61 [0.49, 0.73], facts twice 0.01")
    assert night_panels.last_night(rows, 1).loc["facts alone", "N = 1"].startswith("0.61 [")
    apart = night_panels.thinking_and_answering(night_panels.nightly(apart=True))
    assert list(apart.columns) == ["answers, R = 0", "answers, R = 1"] and list(apart.index) == ["notes, R = 1"]
    assert apart.iloc[0, 0] == "0.60 [0.48, 0.72]" and apart.iloc[0, 1].startswith("0.01 [")
    followed = night_panels.misled(rows, thought=1).loc[:, "N = 1"]
    assert followed["answered as the wrong note says"].startswith("0.22 [") and followed.iloc[1] == "0.10 [0.02, 0.18]"
    panel.controls["passes a night N"].value = 8
    assert "`labkit nights nights-32` makes them" in panel.sentence


def test_look_ups_are_drawn_by_passes(data: Path) -> None:
    found = [
        {"checkpoint": "archive-32", "seed": seed, "weights": "w", "passes": n, "thought": r, "lookups": b,
         "chooser_error": e, "n": 100, "right_2": 10 * n + 20 * b * (1 - e), "flops_sleep": 1e6 * n,
         "flops_wake": 1e5 * (1 + b)}
        for seed in (0, 1) for n in (1, 2) for r in (0, 2)
        for b in (0, 1, 2) for e in ((0.0, 0.3, 1.0) if b else (0.0,))
    ]  # fmt: skip
    pd.DataFrame(found).to_csv(data / "results" / "archive-32-lookups.csv", index=False)
    panel = lookup_panels.lookups(lookup_panels.looked_up())
    line = traces(panel, "axes-lookups")["N = 2, B = 0 to 4"]
    np.testing.assert_allclose(line.x, [2.1, 2.2, 2.3], rtol=1e-5)
    np.testing.assert_allclose(line.y, [0.2, 0.4, 0.6], rtol=1e-5)
    panel.controls["the chooser errs"].value = 1.0
    np.testing.assert_allclose(line.y, [0.2, 0.2, 0.2], rtol=1e-5)
    panel.controls["questions that share a sleep"].value = 4
    np.testing.assert_allclose(line.x, [0.6, 0.7, 0.8], rtol=1e-5)


def test_without_rows_panels_say_what_makes_them(data: Path) -> None:
    sizes, arms = axes.swept("sizes"), axes.swept()
    for panel, command in (
        (lookup_panels.shapes(sizes), "sweep sizes"),
        (lookup_panels.lookups(lookup_panels.looked_up()), "lookups archive-32"),
        (law_panels.fitted(sizes), "laws sizes"),
        (law_panels.contests(arms), "sweep arms"),
        (law_panels.lessons(), "sweep corners"),
        (night_panels.nights(night_panels.nightly()), "nights nights-32"),
        (planning.planner(sizes), "sweep sizes"),
    ):
        assert f"`labkit {command}` makes them" in panel.sentence
    assert night_panels.last_night(night_panels.nightly(), 0).empty and law_panels.said("gain").empty


