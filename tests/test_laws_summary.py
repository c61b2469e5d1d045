"""What laws say of a grid in one table, and how much training a hop takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from labkit import SleepConfig, SleepLM, checkpoints
from labkit.laws.forms import LAWS, axes_of
from labkit.laws.recovery import TRUTHS, synthetic
from labkit.laws.summary import COLUMNS, WITH_ALL, summary
from labkit.laws.teaching import curves, times_less, tokens_until

from swept import told


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Of a grid on which the multiplicative law is true, but for N = 8, which is made worse."""
    rows = synthetic("multiplicative", np.random.default_rng(0), seeds=3)
    rows = rows[rows["passes"].isin([1, 2, 3, 4, 8])]
    error = LAWS["multiplicative"].predict(TRUTHS["multiplicative"], axes_of(LAWS["multiplicative"], rows))
    rows = rows.assign(error=error + np.where(rows["passes"] == 8, 0.1, 0.0))
    sleep, wake = 60.0 * rows["params"] * rows["passes"], rows["params"] * (3.0 + rows["thought"])
    right = (rows["n"] * (1 - rows["error"])).round().astype(int)
    names = "m" + rows["params"].astype(int).astype(str)
    rows = rows.assign(reach=np.log(rows["params"] / 1000) * rows["passes"])
    return summary(rows.assign(flops_sleep=sleep, flops_wake=wake, right_1=right, checkpoint=names))


def test_the_true_law_is_off_least_and_says_what_replaces_what(table: pd.DataFrame) -> None:
    assert tuple(table.columns) == COLUMNS
    off = {law: i.value for (law, _), i in told(table, "held out").items()}
    assert min(off, key=off.__getitem__) == "multiplicative" and off["multiplicative"] < 0.01
    assert told(table, "gain")["multiplicative", "rms"].low > 0
    v = TRUTHS["multiplicative"]
    assert told(table, "number")["multiplicative", "b"].value == pytest.approx(v["b"], rel=0.02)
    assert set(law for law, _ in told(table, "substitution")) == set(WITH_ALL)
    equal = told(table, "substitution")["multiplicative", "N = 4"]
    assert equal.value == pytest.approx(4 ** (v["b"] / v["a"]), rel=0.05)


def test_passes_that_answer_worse_are_named_and_fits_leave_them_out(table: pd.DataFrame) -> None:
    slept = told(table, "oversleeping")
    assert len(slept) == 4 * 4 and {step.split(", ")[1] for _, step in slept} == {"N = 4 to 8"}
    assert all(i.high < 0 for i in slept.values())


def test_size_and_sleep_reach_more_together_than_each_alone(table: pd.DataFrame) -> None:
    found = told(table, "size and sleep")
    wanted = (4 - 1) * np.log(2.4e5 / 3e4)
    assert [i.value for i in found.values()] == pytest.approx([wanted] * 4)


def test_shares_of_the_variance_add_up(table: pd.DataFrame) -> None:
    for questions in (1, 64):
        parts = {n: i.value for (law, n), i in told(table, "explained").items() if law.startswith(f"{questions} ")}
        assert parts["operations"] + parts["split"] == pytest.approx(1)


def card(folder: Path, name: str, seed: int, curve: list[list[float]]) -> None:
    torch.manual_seed(0)
    model = SleepLM(SleepConfig(vocab=5, window=4, dim=8, repeat=1, heads=1))
    made = {"task": {}, "recipe": {"training": {"passes": 2}}, "steps": 100, "train_tokens": 1000, "train_flops": 500,
            "metrics": {"lesson_accuracy": [0.0] * 3, "curve": curve}}  # fmt: skip
    checkpoints.save_checkpoint(model, made, name, seed, folder)


def test_tokens_until_a_hop_is_known_are_read_off_the_curve(tmp_path: Path) -> None:
    card(tmp_path, "plain", 0, [[10, 0.5], [20, 0.95], [40, 0.8, 0.95], [50, 0.95, 0.92]])
    card(tmp_path, "plain", 1, [[10, 0.95], [20, 0.95, 0.3]])
    card(tmp_path, "told", 0, [[10, 0.95], [25, 0.99, 0.99]])
    card(tmp_path, "told", 1, [[10, 0.95, 0.95]])
    until = tokens_until("plain", tmp_path)
    assert until[1].tolist() == [200, 100] and until[2].iloc[0] == 500  # at 40 the first hop was forgotten
    assert np.isnan(until.loc[1, 2]) and until[3].isna().all()
    found = times_less("plain", "told", tmp_path).set_index("hop")
    assert found.loc[1, "times"] == pytest.approx(2**0.5) and found.loc[1, "low"] < 1 < found.loc[1, "high"]
    # the seed that never knew the second hop counts as 1,000 tokens, so the factor is a least value
    assert found.loc[2, "times"] == pytest.approx((2 * 10) ** 0.5) and found.loc[2, "known"] == 1
    assert np.isnan(found.loc[2, "low"]) and 3 not in found.index
    assert tokens_until("none", tmp_path).empty


def test_the_curves_of_trainings_are_a_table(tmp_path: Path) -> None:
    card(tmp_path, "plain", 0, [[10, 0.5], [40, 0.8, 0.95]])
    card(tmp_path, "other", 0, [[10, 0.5]])
    found = curves("plain", tmp_path)
    assert found[["step", "tokens", "flops", "depth", "accuracy"]].values.tolist() == [
        [10, 100, 50, 1, 0.5], [40, 400, 200, 1, 0.8], [40, 400, 200, 2, 0.95],
    ]  # fmt: skip
    assert set(found["passes"]) == {2} and set(found["checkpoint"]) == {"plain"}
    assert curves("none", tmp_path).empty
