"""The panels of notebooks 04 to 06: what they draw is what rows and models say, and what is missing is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from labkit.checkpoints import save_checkpoint
from labkit.evaluate import EXAM_SEEDS, fall_asleep
from labkit.explore import axes, compounding, idling, law_panels
from labkit.idle import Costs, days
from labkit.laws.telling import verdicts
from labkit.models import SleepConfig, SleepLM
from labkit.reasoning import write_chains
from labkit.search import search_rows
from labkit.tasks import DepoThinking

from swept import empty_rooms, rows_of

NAME = "think-even-32"


def product(n: int, r: int) -> float:
    return (1.2 + 0.25 * n) * (1 + r)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty_rooms(tmp_path, monkeypatch)


@pytest.fixture
def data(empty: Path) -> Path:
    """Rows of two arms and of a rival, the verdict on them, and a queue."""
    loops = rows_of(lambda n, r: 1.5 + 0.4 * n, noise=0.35, name="think-loops-32", trace="loops")
    rows = pd.concat([rows_of(product, name=NAME), loops])
    extra = {"weights": "w", "exam": 5000}
    rows.assign(**extra).to_csv(empty / "results" / "sweep-arms.csv", index=False)
    far = rows_of(lambda n, r: 11.5, name="think-long-32")
    far = far[(far["passes"] == 1) & (far["thought"] == 2)].assign(thought=9, flops_wake=60, **extra)
    far.to_csv(empty / "results" / "sweep-long.csv", index=False)
    verdicts(rows, None, far).to_csv(empty / "results" / "verdicts.csv", index=False)
    table = days(Costs(0.002, 0.001), [0.1, 0.4, 0.5, 0.6, 0.7], questions=(4,), seeds=(0, 1), windows=60)
    table.assign(checkpoint=NAME, thought=2, sleep_pass=0.002, answer=0.001).to_csv(
        empty / "results" / "idle.csv", index=False
    )
    return empty


@pytest.fixture
def model(empty: Path) -> SleepLM:
    task = DepoThinking(nodes=8, hops=4, thoughts=2)
    torch.manual_seed(0)
    model = SleepLM(SleepConfig(vocab=task.vocab, window=task.window, dim=16, repeat=1))
    save_checkpoint(model, {"task": {"kind": task.name, **task.params}}, NAME, 0)
    return model.eval()


def test_the_live_panel_shows_the_model_s_own_answers(model: SleepLM) -> None:
    panel = axes.live()
    panel.controls["steps of thought R"].value = 2
    task = DepoThinking(nodes=8, hops=4, thoughts=2)
    exam = task.exam(axes.INSTANCES, torch.Generator().manual_seed(2 * EXAM_SEEDS + 1))  # of the second move
    with torch.inference_mode():
        state = fall_asleep(model, exam.context, 1)
        share = {}
        for r in (0, 2):
            written = write_chains(model, task, task.announced(exam, r), state, r)[..., -1]
            share[r] = (written == exam.answers).float().mean(dim=0).numpy()
    drawn = {trace.name: trace for trace in panel.figures["axes-live"].data}
    np.testing.assert_allclose(drawn["now"].y, share[2], atol=1e-6)
    null = [share[0][0] ** 3, share[0][0] ** 3, share[0][0] ** 3, share[0][1] * share[0][0] * share[0][0]]
    np.testing.assert_allclose(drawn["snowball: the product of its leaps"].y, null, atol=1e-6)
    assert "N = 1, R = 2" in panel.sentence


def test_the_guess_is_told_beside_sum_and_product(data: Path) -> None:
    panel = axes.corner_guess(axes.swept())
    panel.controls["my guess for N = 4, R = 2 (tenths of a hop)"].value = 55
    assert panel.sentence.startswith("If what sleep adds and what thought adds were added, it would be 5.")
    assert panel.sentence.endswith("You say 5.5.")
    assert list(panel.figures["axes-guess"].data[1].y) == [5.5]


def test_reach_is_shown_arm_by_arm(data: Path) -> None:
    rows = axes.swept()
    panel = axes.reaches(rows)
    arm = panel.controls["a step of thought is"]
    assert [value for _, value in arm.options] == ["even", "loops"]
    lines = {trace.name: trace for trace in panel.figures["axes-reach"].data if trace.fill is None}
    mean = rows[(rows["checkpoint"] == NAME) & (rows["passes"] == 4)].groupby("thought")["reach"].mean()
    np.testing.assert_allclose(lines["N = 4"].y, mean, rtol=1e-5)
    arm.value = "loops"
    assert "With loops of the wake pass: 6 seeds" in panel.sentence and np.ptp(lines["N = 4"].y) < 1


def test_sharing_a_sleep_makes_it_cheaper_and_nothing_else(data: Path) -> None:
    panel = axes.equal_operations(axes.swept())
    dots = {trace.name: trace for trace in panel.figures["axes-operations"].data}
    before = {name: (np.array(t.x), np.array(t.y)) for name, t in dots.items()}
    panel.controls["questions a sleep serves"].value = 10
    for name, (x, y) in before.items():
        np.testing.assert_array_equal(dots[name].y, y)
        assert (np.array(dots[name].x) < x).all()
    np.testing.assert_allclose(dots["sleep alone"].x, [(20 + 10) / 1e6, (40 + 10) / 1e6], rtol=1e-5)
    assert len(dots["thought alone, R to 9"].x) == 1


def test_search_is_shown_beside_blind_guesses(empty: Path, model: SleepLM) -> None:
    rows = search_rows(NAME, 0, passes=[1], thought=[0, 1], branches=[1, 4], errors=[0.0, 0.1, 0.3], n=20)
    two = pd.concat([rows, rows.assign(seed=1)])  # with one seed there is no interval, and nothing is drawn
    two.assign(**{f"right_{d}": 0 for d in range(5, 11)}).to_csv(
        empty / "results" / f"{NAME}-search.csv", index=False
    )
    panel = axes.searching()
    panel.controls["hops asked for"].value = 2
    tree = rows[(rows["kind"] == "tree") & (rows["thought"] == 1) & (rows["judge_error"] == 0)].iloc[0]
    drawn = {trace.name: trace for trace in panel.figures["axes-search"].data}["tree"]
    np.testing.assert_allclose([drawn.x[0], drawn.y[0]], [tree["flops_wake"] / 1e6, tree["right_2"] / 20], rtol=1e-5)
    assert panel.sentence.startswith("Among blind guesses")


def test_corners_carry_the_verdict_of_their_grid(data: Path) -> None:
    panel = compounding.corners(axes.swept())
    assert panel.sentence.startswith("6 seeds. Undecided: the difference of differences is +")  # with the rival
    panel.controls["a step of thought is"].value = "loops"
    assert "No interaction is told, since thought alone moves nothing surely" in panel.sentence
    table = compounding.verdicts()
    assert table["elastic"].tolist() == ["undecided", "dead"]  # with the rival that only thinks


def test_the_product_predicts_what_was_held_out(data: Path) -> None:
    panel = compounding.held_out(axes.swept())
    dots = {trace.name: trace for trace in panel.figures["compound-held-out"].data}
    off = {k: np.abs(np.array(dots[k].x) - np.array(dots[k].y)).mean() for k in ("sum", "product")}
    assert off["product"] < 0.3 < off["sum"]


def test_a_day_and_many_days(data: Path) -> None:
    rows = idling.stored()
    day = idling.one_day(rows)
    assert "found all 4 passes done" in day.sentence
    bars = day.figures["idle-day"].data[0]
    assert np.sum(bars.y) == pytest.approx(1.0)
    day.controls["load (%)"].value = 95
    assert np.argmax(bars.y) == 0  # one pass, and seldom more
    many = idling.many_days(rows)
    lines = [t for t in many.figures["idle-right"].data if t.name == "N = 4"]
    mean = rows[rows["passes"] == 4].groupby("load")["right"].mean()
    np.testing.assert_allclose(lines[0].y, mean, rtol=1e-5)
    assert idling.free_until(rows, 4, 4) in set(rows["load"])


def test_without_rows_panels_say_what_makes_them(empty: Path) -> None:
    rows = axes.swept()
    for panel in (axes.corner_guess(rows), axes.reaches(rows), axes.equal_operations(rows), compounding.corners(rows),
                  compounding.held_out(rows)):  # fmt: skip
        assert "`labkit sweep arms` makes them" in panel.sentence
    assert f"`labkit search {NAME}` makes them" in axes.searching().sentence
    assert "`labkit idle` makes them" in idling.one_day(idling.stored()).sentence
    assert compounding.verdicts().empty


@pytest.mark.parametrize("kept", ["seed == '0'", "thought < 2", "passes < 4"])
def test_of_one_seed_or_half_a_grid_no_panel_tells_anything(data: Path, kept: str) -> None:
    path = data / "results" / "sweep-arms.csv"
    pd.read_csv(path, dtype={"seed": str}).query(kept).to_csv(path, index=False)
    rows = axes.swept()
    panels = [axes.corner_guess(rows), axes.reaches(rows), axes.equal_operations(rows), compounding.corners(rows)]
    for panel in [*panels, compounding.held_out(rows), law_panels.contests(rows)]:
        assert panel.sentence == axes.NOTHING.format("`labkit sweep arms`")
    assert compounding.pays_from(rows).empty


def test_weights_that_were_replaced_do_not_drive_out_the_other_seeds(data: Path) -> None:
    path = data / "results" / "sweep-arms.csv"
    rows = pd.read_csv(path, dtype={"seed": str})
    pd.concat([rows, rows[rows["seed"] == "0"].assign(weights="of later")]).to_csv(path, index=False)
    assert axes.swept().groupby("checkpoint")["seed"].nunique().tolist() == [6, 6]


def test_specialists_stand_beside_the_elastic_models(data: Path) -> None:
    parts = []
    for kind, thought in (("", 0), ("even-", 2)):
        for n in (1, 4):
            rows = rows_of(product, seeds=3, name=f"corner-{kind}n{n}")
            parts.append(rows[(rows["passes"] == n) & (rows["thought"] == thought)].assign(trace="even"))
    pd.concat(parts).assign(weights="w", exam=5000).to_csv(data / "results" / "sweep-corners.csv", index=False)
    panel = compounding.corners(axes.swept(), axes.swept("corners"))
    drawn = {trace.name: trace for trace in panel.figures["compound-corners"].data}
    assert list(drawn["specialists"].x) == ["N = 1, R = 0", "N = 4, R = 0", "N = 1, R = 2", "N = 4, R = 2"]
    assert "Specialists, 3 seeds: " in panel.sentence
    panel.controls["a step of thought is"].value = "loops"
    assert not len(drawn["specialists"].x) and "Specialists" not in panel.sentence


def test_two_rows_of_one_seed_are_no_two_seeds() -> None:
    rows = pd.DataFrame({"seed": ["0", "0", "0", "1"], "passes": [1, 1, 2, 2], "reach": [1.0, 3.0, 2.0, 4.0]})
    assert axes.by_cell(rows, ["passes"], costs=()).index.get_level_values("passes").tolist() == [2]
