"""Whole rows of the automaton: sampled until enough came right, they are the share that a fixed exam finds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from labkit import results
from labkit.cli import app
from labkit.evaluate import EXAM_SEEDS
from labkit.explore import fine_panel
from labkit.fine import FINE, commonest, fine_rows
from labkit.sweep import EXAM
from labkit.tasks import Rule110
from labkit.tasks.rule110 import advance, held_out

STORED = Path(__file__).resolve().parent.parent / "data" / "results"


def test_shares_are_those_of_a_fixed_exam() -> None:
    found = fine_rows("rule110-elastic", 0, (0, 1), most=500).set_index(["passes", "depth"])
    exam = results.read(STORED / "rule110-elastic.csv").query("seed == '0' and passes == 1").set_index("depth")
    for step in (5, 7, 8):
        own = found.loc[1, step]
        assert own["passed"] and own["right"] == 25 and own["low"] < exam.loc[step, "whole"] < own["high"]
    unread = found.loc[0]
    assert not unread["passed"].any() and (unread["drawn"] == 500).all()
    assert (unread["right"] == 0).all()


def test_a_guess_is_the_commonest_row() -> None:
    task = Rule110(width=6, steps=3)
    rows = torch.cartesian_prod(*[torch.arange(2)] * 6)
    rows = rows[held_out(rows)]
    for share in commonest(task):
        rows = advance(rows)
        often = rows.unique(dim=0, return_counts=True)[1].max() / len(rows)
        assert share == pytest.approx(float(often), abs=0.02)


def test_instances_are_none_that_were_asked_elsewhere() -> None:
    assert FINE > EXAM + 1_000_000 and EXAM_SEEDS + FINE + 1000 * 999_999 < 2**63


def test_it_is_measured_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "fine.csv"
    told = CliRunner().invoke(app, f"fine rule110-elastic --passes 6 --most 50 --out {out}".split())
    assert told.exit_code == 0 and set(pd.read_csv(out)["drawn"]) <= set(range(25, 51))
    refused = CliRunner().invoke(app, ["fine", "depo-n1", "--seed", "0", "--out", str(out)])
    assert refused.exit_code == 2 and "depo-n1 does not read one row of Rule 110" in refused.stderr


@pytest.fixture
def rows() -> pd.DataFrame:
    shares = [(n, d, 10.0 ** (n - 5) / d) for n in (1, 2, 3, 4) for d in (1, 2, 8)]
    table = pd.DataFrame(shares, columns=["passes", "depth", "share"])
    return table.assign(checkpoint="m", seed="0", weights="w", guess=1e-5)


def test_one_growth_on_two_scales(rows: pd.DataFrame) -> None:
    panel = fine_panel.growth(rows)
    lines = {trace.name: trace for trace in panel.figures["axes-growth"].data}
    assert list(lines) == ["one row for all", "step 2", "step 8", "a seed"]
    assert list(lines["step 2"].x) == [1, 2, 3, 4] and len(lines["a seed"].x) == (rows["depth"] == 8).sum()
    assert "step 8: 1.3e-05, 0.00013" in panel.sentence and "always the same row: 1e-05" in panel.sentence
    assert "Steps none are" in panel.sentence
    axis = panel.figures["axes-growth"].layout.yaxis
    for scale, kind, mode in (("log", "log", "array"), ("linear", "linear", "auto")):
        panel.controls["scale of shares"].value = scale
        assert axis.type == kind and axis.tickmode == mode
        assert scale == "linear" or lines["step 2"].y[0] == pytest.approx(fine_panel.LEAST)
    assert lines["step 2"].y[0] == pytest.approx(0.5e-4)  # as it is; on a logarithmic axis nothing has no place
    assert "`labkit fine" in fine_panel.growth(rows.iloc[:0]).sentence
