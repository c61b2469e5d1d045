"""Reach and the verdict: the definitions of data/LOG.md on tables whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from labkit.laws.comparing import held_out_reach
from labkit.laws.reach import fit_reach, reach, reach_table
from labkit.laws.telling import above_the_null, specialists, verdicts
from labkit.laws.verdict import contest, difference_of_differences, judge, snowball, whole_seeds
from labkit.laws.verdict import corner_values as corner_values_of
from labkit.tasks.thinking import leaps

from swept import DEPTHS, rows_of


@pytest.mark.parametrize(
    ("shares", "value", "censored"),
    [
        ([1.0, 1.0, 0.5], 2.2, False),
        ([0.8, 1.0, 1.0], 0.5, False),  # what comes after a depth that was not reached does not count
        ([0.9, 0.9], 2.0, True),
        ([0.0], 0.1, False),
        ([1.0, 0.95, 0.85], 2.5, False),
    ],
)
def test_reach_is_interpolated_down_to_the_first_depth_that_fails(
    shares: list[float], value: float, censored: bool
) -> None:
    found = reach(shares)
    assert found.value == pytest.approx(value) and found.censored == censored


def test_reach_needs_shares() -> None:
    for wrong in ([], [1.2], [float("nan")]):
        with pytest.raises(ValueError, match="each from 0 to 1"):
            reach(wrong)


def test_a_product_compounds_and_a_sum_adds() -> None:
    product = judge(rows_of(lambda n, r: (1.2 + 0.5 * n) * (1 + r)))
    assert product.word == "compounds" and product.interaction is not None
    assert product.interaction.value == pytest.approx(3 * 3.2 - 3.2 - 1.7 * 3 + 1.7, abs=0.15)
    assert product.sentence.startswith("Compounds: the difference of differences is +2.9")
    added = judge(rows_of(lambda n, r: 1.5 + n + r))
    assert added.word == "adds" and added.interaction is not None and abs(added.interaction.value) < 0.2


def test_what_takes_the_place_of_the_other_substitutes() -> None:
    assert judge(rows_of(lambda n, r: max(1 + n, 1 + 2 * r))).word == "substitutes"


def test_a_dead_axis_is_told_no_interaction() -> None:
    found = judge(rows_of(lambda n, r: 1.0 + n, noise=0.2))
    assert found.word == "dead" and found.interaction is None and found.mix is None
    assert found.sentence.startswith("No interaction is told, since thought alone moves nothing surely")


def test_noise_is_undecided() -> None:
    assert judge(rows_of(lambda n, r: 2 + n + r + 0.2 * n * r, noise=1.5, seeds=3)).word in ("undecided", "dead")


def test_a_mix_that_costs_too_much_does_not_compound() -> None:
    """Sleep is so dear here that thinking alone goes deeper for the money, although both together go deepest."""

    def reaches(n: int, r: int) -> float:
        return {(1, 0): 1, (1, 1): 6, (1, 2): 7, (4, 2): 9}.get((n, r), 1.5 + 0.1 * r)

    found = judge(rows_of(reaches))
    assert found.interaction is not None and found.mix is not None and found.mix[1].low < 0
    assert found.interaction.low > 0 and found.word == "undecided"


def test_the_contest_is_chosen_on_other_seeds() -> None:
    """Every seed has a lucky mix of its own; chosen by the others, it is worth nothing."""
    rows = rows_of(lambda n, r: 3 + r, seeds=4, noise=0.0)
    table = reach_table(rows)
    mixed = [(2, 1), (2, 2), (4, 1), (4, 2)]
    for seed, cell in enumerate(mixed):
        here = (table["seed"] == seed) & (table["passes"] == cell[0]) & (table["thought"] == cell[1])
        table.loc[here, "reach"] += 3
    lead = contest(table)
    assert lead is not None and lead.value < 1


def test_a_model_with_one_axis_only_may_win_the_contest() -> None:
    rows = rows_of(lambda n, r: (1.2 + 0.5 * n) * (1 + r))
    far = rows_of(lambda n, r: 11.5, name="long")
    rivals = far[(far["passes"] == 1) & (far["thought"] == 2)].assign(thought=9, flops_wake=60)
    assert judge(rows).word == "compounds"
    found = judge(rows, rivals=rivals)
    assert found.word == "undecided" and found.mix is not None and found.mix[1].high < 0
    dear = judge(rows, rivals=rivals.assign(flops_wake=10_000))
    assert dear.word == "compounds"


def test_a_table_with_holes_is_refused() -> None:
    rows = rows_of(lambda n, r: n + r)
    with pytest.raises(ValueError, match="finish the sweep first"):
        judge(rows.drop(index=[3]))


def test_the_difference_of_differences_is_that_of_the_corners() -> None:
    values = corner_values_of(reach_table(rows_of(lambda n, r: 0.8 * n * (1 + r), noise=0.0)))
    assert difference_of_differences(values).value == pytest.approx(9.6 - 3.2 - 2.4 + 0.8, abs=0.01)


def test_both_models_of_reach_find_their_own() -> None:
    for kind, reaches in (("sum", lambda n, r: 1 + n + r), ("product", lambda n, r: (0.5 + 0.5 * n) * (1 + r))):
        table = reach_table(rows_of(reaches))
        found = fit_reach(table, kind)
        assert found.gain == pytest.approx(1.0, abs=0.1)
        scored = held_out_reach(table).set_index("law")["rms"]
        assert scored[kind] == scored.min()
    with pytest.raises(ValueError, match="No stride was fitted for N = 8"):
        found.predict(pd.DataFrame({"passes": [8], "thought": [0]}))
    with pytest.raises(ValueError, match="no model of reach 'power'"):
        fit_reach(table, "power")


def test_censored_cells_pull_only_from_above() -> None:
    table = reach_table(rows_of(lambda n, r: (2 + n) * (1 + r), noise=0.0))  # up to 18, and 12 are asked
    assert table["censored"].any()
    assert fit_reach(table, "product").gain == pytest.approx(1.0, abs=0.05)


def test_the_snowball_is_the_product_of_the_leaps() -> None:
    rows = rows_of(lambda n, r: 2.5, noise=0.0)
    found = snowball(rows, "even")
    cell = found.query("seed == 0 and passes == 1 and thought == 1 and depth == 6").iloc[0]
    alone = rows.iloc[0]["right_3"] / 1000
    assert leaps("even", 6, 1) == [3, 3] and cell["null"] == pytest.approx(alone**2)
    assert above_the_null(rows.assign(trace="loops")) is None


def test_a_chain_that_is_right_as_often_as_its_leaps_is_not_above_the_null() -> None:
    rows = rows_of(lambda n, r: 2.5, noise=0.0)
    for at, row in rows[rows["thought"] > 0].iterrows():
        plain = rows.query(f"seed == {row['seed']} and passes == {row['passes']} and thought == 0").iloc[0]
        for d in DEPTHS:
            chain = [plain[f"right_{max(1, leap)}"] / 1000 for leap in leaps("even", d, int(row["thought"]))]
            rows.loc[at, f"right_{d}"] = round(1000 * float(np.prod(chain)))
    found = above_the_null(rows)
    assert found is not None and abs(found.value) < 1e-3


def test_specialists_have_to_say_the_same() -> None:
    elastic = rows_of(lambda n, r: (1 + 0.5 * n) * (1 + r))
    alone = rows_of(lambda n, r: (1 + 0.5 * n) * (1 + r))
    parts = []
    for name, passes, thought in (("corner-n1", 1, 0), ("corner-n4", 4, 0), ("corner-even-n1", 1, 2),
                                  ("corner-even-n4", 4, 2)):  # fmt: skip
        here = alone[(alone["passes"] == passes) & (alone["thought"] == thought)]
        parts.append(here.assign(checkpoint=name))
    corners = pd.concat(parts)
    row = verdicts(elastic, corners).iloc[0]
    assert row["verdict"] == row["both"] == "compounds" and row["specialists_seeds"] == 6
    assert row["price_4_2"] == pytest.approx(0.0, abs=1e-9)  # these specialists are the elastic models themselves
    less = corners.assign(**{f"right_{d}": 0 for d in DEPTHS})
    assert verdicts(elastic, less).iloc[0]["both"] == "undecided"
    assert verdicts(elastic).iloc[0]["both"] == "undecided"
    assert specialists(corners, "loops") is None


def test_a_seed_is_whole_with_all_cells_and_not_with_as_many_others() -> None:
    cells = [("a", "0", 1), ("a", "0", 2), ("a", "1", 1), ("a", "1", 2), ("a", "2", 2), ("a", "2", 4), ("b", "9", 1)]
    rows = pd.DataFrame(cells, columns=["checkpoint", "seed", "passes"])
    assert set(whole_seeds(rows)["checkpoint"]) == {"b"}, "no seed of a has all of 1, 2 and 4"
    kept = whole_seeds(rows[rows["passes"] < 4])
    assert sorted(set(zip(kept["checkpoint"], kept["seed"], strict=True))) == [("a", "0"), ("a", "1"), ("b", "9")]
    assert whole_seeds(rows.iloc[:0]).empty
